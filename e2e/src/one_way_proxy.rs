//! A TCP proxy that can keep back what goes one way, as a network does that loses the packets of one direction.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Read at one time.
const CHUNK: usize = 16 << 10;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From whoever connects to the proxy.
    ToServer,
    /// From the server behind it.
    ToClient,
}

/// A running proxy; it ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct OneWayProxy {
    address: SocketAddr,
    cut: watch::Sender<Option<Direction>>,
    _stop: DropGuard,
}

impl OneWayProxy {
    /// Listens on loopback for whoever is to reach `server`.
    pub async fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a proxy's port")?;
        let address = listener.local_addr()?;
        let cut = watch::Sender::new(None);
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, server, cut.clone())));
        Ok(Self { address, cut, _stop: stop.drop_guard() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing gets through that way: neither bytes nor the end of a connection. As with packets that are lost and sent
    /// again, it arrives after [`OneWayProxy::heal`], if both ends are still there.
    pub fn keep_back(&self, direction: Direction) {
        self.cut.send_replace(Some(direction));
    }

    /// Everything gets through again.
    pub fn heal(&self) {
        self.cut.send_replace(None);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, cut: watch::Sender<Option<Direction>>) {
    // Dropped with this future, it ends every connection.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(connect(client, server, cut.subscribe()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(client: TcpStream, server: SocketAddr, cut: watch::Receiver<Option<Direction>>) {
    // A server that is not there ends the connection, as its machine would.
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = pass(from_client, to_server, cut.clone(), Direction::ToServer);
    let down = pass(from_server, to_client, cut, Direction::ToClient);
    tokio::join!(up, down);
}

/// Passes on what comes, and the end of it, whenever that way is open.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut cut: watch::Receiver<Option<Direction>>,
    direction: Direction,
) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await.unwrap_or(0);
        if cut.wait_for(|cut| *cut != Some(direction)).await.is_err() {
            return;
        }
        let bytes = chunk.get(..read).unwrap_or_default();
        if read == 0 || to.write_all(bytes).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_way_is_kept_back_while_the_other_is_open_and_arrives_when_healed() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = OneWayProxy::start(server.local_addr().unwrap()).await.unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut behind, _) = server.accept().await.unwrap();
        for direction in [Direction::ToServer, Direction::ToClient] {
            let (cut, open) = match direction {
                Direction::ToServer => (&mut client, &mut behind),
                Direction::ToClient => (&mut behind, &mut client),
            };
            proxy.keep_back(direction);
            let mut byte = [0];
            open.write_all(b"o").await.unwrap();
            cut.read_exact(&mut byte).await.unwrap();
            assert_eq!(&byte, b"o");
            cut.write_all(b"c").await.unwrap();
            let early = tokio::time::timeout(Duration::from_millis(50), open.read_exact(&mut byte)).await;
            assert!(early.is_err(), "it got through");
            proxy.heal();
            open.read_exact(&mut byte).await.unwrap();
            assert_eq!(&byte, b"c");
        }
        drop(client);
        assert_eq!(behind.read(&mut [0]).await.unwrap(), 0);
    }
}
