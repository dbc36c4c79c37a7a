//! The feed's server: sidecars hold one long-lived `POST /feed/v1` each, newline-delimited JSON both ways.
//!
//! It authenticates, reads and writes lines, and decides nothing else: what a connection is told is the leader's matter.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use axum::serve::Listener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_feed::frames::{Hello, Up};
use weir_feed::leader::step::Conn;
use weir_feed::record::StreamerId;

mod accept;
mod connection;
mod door;
mod hello;
mod identify;
mod metrics;
mod outgoing;
mod request;

pub use identify::{Auth, Identify};
pub use metrics::FeedMetrics;
pub use outgoing::Outgoing;

/// What happens on the feed's connections, in order for each of them.
#[derive(Debug)]
pub enum FeedEvent {
    /// A sidecar was authenticated and has said hello.
    Connected {
        /// Unique for the process.
        conn: Conn,
        streamer: StreamerId,
        /// Its instance is vouched for (a pod's uid), and stands in the hello.
        verified: bool,
        hello: Box<Hello>,
        /// The connection ends when the last copy of this is dropped.
        outgoing: Outgoing,
    },
    /// A later frame of it; never a hello.
    Frame { conn: Conn, frame: Up },
    /// The connection ended; nothing more comes from it.
    Disconnected { conn: Conn },
}

/// What a connection may cost, and how often its token is checked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// From the TCP connection to an accepted token, and from there to the whole hello.
    pub hello_within: Duration,
    /// How long the cluster may take to say whose token it is.
    pub identify_within: Duration,
    /// How often a token is checked again at the least while its connection lasts.
    pub identify_again: Duration,
    /// TCP connections at one time; more are closed at once.
    pub connections: usize,
    /// Frames that wait to be sent on one connection; one more closes it, since its sidecar does not keep up.
    pub queue: usize,
    /// HTTP/2 pings of a quiet connection, and how long an answer may take.
    pub keep_alive: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hello_within: Duration::from_secs(5),
            identify_within: Duration::from_secs(10),
            identify_again: Duration::from_mins(1),
            connections: 10_000,
            queue: 65_536,
            keep_alive: Duration::from_secs(10),
        }
    }
}

/// Why the feed cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "the feed carries passwords and {0} can be reached from elsewhere: give it a certificate and a key, or let it listen on 127.0.0.1"
    )]
    PlainBeyondLoopback(SocketAddr),
    #[error(
        "the feed believes any sidecar without tokens and {0} can be reached from elsewhere: give it tokens, or let it listen on 127.0.0.1"
    )]
    InsecureBeyondLoopback(SocketAddr),
    #[error("the feed's listener: {0}")]
    Listener(#[from] std::io::Error),
}

/// What is spoken within TLS, for [`crate::certificates::Served::server`].
pub const PROTOCOLS: &[&[u8]] = &[b"h2"];

/// The running server; dropped, it stops.
#[derive(Debug)]
pub struct FeedServer {
    address: SocketAddr,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl FeedServer {
    /// Serves the feed on `listener`; must be called within a tokio runtime.
    pub fn start<I: Identify, L: Listener<Addr = SocketAddr>>(
        listener: L,
        tls: Option<Arc<rustls::ServerConfig>>,
        auth: Auth<I>,
        inputs: mpsc::Sender<FeedEvent>,
        settings: Settings,
        metrics: FeedMetrics,
    ) -> Result<Self, StartError> {
        let address = listener.local_addr()?;
        check_exposure(address, tls.is_some(), &auth)?;
        let stopping = CancellationToken::new();
        let server = Self { address, tasks: TaskTracker::new(), stopping };
        let shared = Arc::new(Shared {
            auth,
            inputs,
            settings,
            metrics,
            connections: AtomicU64::new(1),
            stopping: server.stopping.clone(),
            tasks: server.tasks.clone(),
        });
        let router = Router::new().route("/feed/v1", post(request::feed::<I>)).with_state(shared);
        let accept = accept::accept(listener, tls, router, settings, server.stopping.clone());
        let stopping = server.stopping.clone();
        server.tasks.spawn(async move {
            accept.await;
            stopping.cancel();
        });
        server.tasks.close();
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection and the listener, and waits for their end.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.tasks.wait().await;
    }

    /// Returns when the server has stopped, of itself or told so.
    pub async fn stopped(&self) {
        self.stopping.cancelled().await;
    }
}

impl Drop for FeedServer {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// What every connection needs.
struct Shared<I> {
    auth: Auth<I>,
    inputs: mpsc::Sender<FeedEvent>,
    settings: Settings,
    metrics: FeedMetrics,
    /// Numbers connections, from 1.
    connections: AtomicU64,
    /// Cancelled, every connection ends.
    stopping: CancellationToken,
    tasks: TaskTracker,
}

fn check_exposure<I>(address: SocketAddr, tls: bool, auth: &Auth<I>) -> Result<(), StartError> {
    let loopback = address.ip().to_canonical().is_loopback();
    if !loopback && matches!(auth, Auth::Insecure) {
        return Err(StartError::InsecureBeyondLoopback(address));
    }
    if !loopback && !tls {
        return Err(StartError::PlainBeyondLoopback(address));
    }
    Ok(())
}
