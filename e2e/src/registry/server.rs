//! The registry's socket: lines in, acknowledgements out.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::frames::{Line, MAX_LINE, Reply};
use super::timeline::{Reader, Timeline};

/// The timeline and its clock.
pub(super) struct Shared {
    timeline: Mutex<Timeline>,
    changed: watch::Sender<()>,
    clock: Instant,
    started: SystemTime,
}

impl Shared {
    fn new() -> Self {
        Self {
            timeline: Mutex::default(),
            changed: watch::Sender::new(()),
            clock: Instant::now(),
            started: SystemTime::now(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    pub(super) fn started(&self) -> SystemTime {
        self.started
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&Timeline) -> T) -> T {
        // A panicking condition leaves the timeline whole: only `change` writes it.
        look(&self.timeline.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Instants are taken under the lock, so that the timeline's order is the clock's.
    fn change<T>(&self, change: impl FnOnce(&mut Timeline, &dyn Fn() -> Duration) -> T) -> T {
        let mut timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut timeline, &|| self.now());
        drop(timeline);
        self.changed.send_replace(());
        result
    }
}

/// Binds and serves on a thread of its own until `stop`. One thread takes events in the order in which the kernel delivers them.
pub(super) fn start(addr: SocketAddr, stop: CancellationToken) -> io::Result<(Arc<Shared>, SocketAddr)> {
    let listener = TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let shared = Arc::new(Shared::new());
    let serving = shared.clone();
    std::thread::Builder::new().name("source-registry".to_owned()).spawn(move || {
        let served = runtime.block_on(stop.run_until_cancelled(serve(listener, serving)));
        if let Some(Err(error)) = served {
            tracing::error!(%error, "the source registry cannot take connections any more");
        }
    })?;
    Ok((shared, addr))
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(connection(socket, shared.clone()));
    }
}

async fn connection(mut socket: TcpStream, shared: Arc<Shared>) {
    let mut session = Session::default();
    // However it ends, a reset by a killed process included, it is the end of its reads.
    let ended = session.run(&mut socket, &shared).await;
    if let Some(reader) = &session.reader {
        shared.change(|timeline, now| timeline.gone(now(), reader));
        if let Err(error) = ended {
            tracing::debug!(%reader, %error, "connection ended");
        }
    }
}

/// One connection's state.
#[derive(Default)]
struct Session {
    reader: Option<Reader>,
    lines: u64,
}

impl Session {
    async fn run(&mut self, socket: &mut TcpStream, shared: &Shared) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let mut buffer = Vec::new();
        while socket.read_buf(&mut buffer).await? > 0 {
            let Some(last) = buffer.iter().rposition(|byte| *byte == b'\n') else {
                if buffer.len() > MAX_LINE {
                    return refuse(socket, format!("a line is longer than {MAX_LINE} bytes")).await;
                }
                continue;
            };
            let rest = buffer.split_off(last + 1);
            let lines = std::mem::replace(&mut buffer, rest);
            if let Err(reason) = self.take(&lines, shared) {
                tracing::error!(reason, "a reader broke the source registry's rules");
                return refuse(socket, reason).await;
            }
            send(socket, &Reply::Ack(self.lines)).await?;
        }
        Ok(())
    }

    fn take(&mut self, lines: &[u8], shared: &Shared) -> Result<(), String> {
        shared.change(|timeline, now| {
            for line in lines.split(|byte| *byte == b'\n') {
                if line.is_empty() {
                    continue;
                }
                let line =
                    serde_json::from_slice(line).map_err(|error| format!("not a line of this protocol: {error}"))?;
                self.one(line, timeline, now())?;
                self.lines += 1;
            }
            Ok(())
        })
    }

    fn one(&mut self, line: Line, timeline: &mut Timeline, now: Duration) -> Result<(), String> {
        match (line, &self.reader) {
            (Line::Hello { streamer, instance, boot }, None) => {
                let reader = Reader { streamer, instance };
                timeline.hello(now, &reader, boot)?;
                self.reader = Some(reader);
                Ok(())
            }
            (Line::Hello { .. }, Some(reader)) => Err(format!("a second hello of {reader}")),
            (_, None) => Err("the first line must be a hello".to_owned()),
            (Line::Open { stream, source }, Some(reader)) => timeline.open(now, reader, &stream, &source),
            (Line::Close { stream }, Some(reader)) => timeline.close(now, reader, &stream),
            (Line::Polled, Some(reader)) => timeline.polled(now, reader),
        }
    }
}

async fn refuse(socket: &mut TcpStream, reason: String) -> io::Result<()> {
    send(socket, &Reply::Refused(reason)).await
}

async fn send(socket: &mut TcpStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    socket.write_all(&line).await
}
