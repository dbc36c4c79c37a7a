//! A reader's end of its connection to the registry.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, ToSocketAddrs};

use super::frames::{Line, Reply};

/// Why the registry no longer knows what this process reads. A reader cannot go on without it.
#[derive(Debug, Error)]
pub enum ClientError {
    #[error("the source registry cannot be reached: {0}")]
    Io(#[from] io::Error),
    #[error("the source registry closed the connection")]
    Closed,
    #[error("the source registry refused: {0}")]
    Refused(String),
    #[error("the source registry answered something unknown: {0}")]
    Unknown(#[from] serde_json::Error),
}

/// The one connection of a streamer process. Dropping it ends all its reads.
#[derive(Debug)]
pub struct Client {
    socket: BufReader<TcpStream>,
    pending: Vec<u8>,
    sent: u64,
    acknowledged: u64,
}

impl Client {
    /// Connects and says who reads; returns when the registry knows.
    pub async fn connect(
        addr: impl ToSocketAddrs,
        streamer: &str,
        instance: &str,
        boot: bool,
    ) -> Result<Self, ClientError> {
        let socket = TcpStream::connect(addr).await?;
        socket.set_nodelay(true)?;
        let mut client = Self { socket: BufReader::new(socket), pending: Vec::new(), sent: 0, acknowledged: 0 };
        client.queue(&Line::Hello { streamer: streamer.to_owned(), instance: instance.to_owned(), boot })?;
        client.flush().await?;
        Ok(client)
    }

    /// Puts a line behind those that wait for [`Client::flush`].
    pub fn queue(&mut self, line: &Line) -> Result<(), ClientError> {
        serde_json::to_writer(&mut self.pending, line)?;
        self.pending.push(b'\n');
        self.sent += 1;
        Ok(())
    }

    /// Sends what waits and returns when all of it stands in the registry's timeline.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        let pending = std::mem::take(&mut self.pending);
        self.socket.write_all(&pending).await?;
        let mut line = String::new();
        while self.acknowledged < self.sent {
            line.clear();
            if self.socket.read_line(&mut line).await? == 0 {
                return Err(ClientError::Closed);
            }
            match serde_json::from_str(&line)? {
                Reply::Ack(lines) => self.acknowledged = lines,
                Reply::Refused(reason) => return Err(ClientError::Refused(reason)),
            }
        }
        Ok(())
    }
}
