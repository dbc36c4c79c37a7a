//! One connection, from its hello to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::codec::{AnyDelimiterCodec, AnyDelimiterCodecError, FramedRead};
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;
use weir_feed::frames::{Down, Hello, MAX_LINE};
use weir_feed::leader::step::Conn;

use super::hello::{Refusal, admit, no_hello, read_frame, read_hello, too_long};
use super::outgoing::{Item, Queue, queue};
use super::request::identify;
use super::{Auth, FeedEvent, Identify, Shared};
use crate::clock;
use crate::cluster::{Identity, TokenError};
use crate::token;

/// Frames are put together up to about this many bytes, so that a batch of small ones costs few writes.
const CHUNK: usize = 64 << 10;
/// How many frames are taken from the queue at once.
const BATCH: usize = 256;
/// How long a peer may take to read why it is refused.
const FAREWELL: Duration = Duration::from_secs(1);

/// How often a token is looked up again that the API server need not be asked about.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(2);

/// A token and whose it is.
pub(super) struct Proof {
    pub(super) token: String,
    pub(super) identity: Identity,
}

/// Why a connection ends.
enum Ending {
    /// The peer ended it, or its line broke.
    Gone,
    /// The leader closed it.
    Closed,
    /// The server stops, or nobody listens to its events any more.
    Stopped,
    /// The sidecar does not keep up.
    Slow,
    /// The token has expired.
    Expired,
    /// The token is good no more: why.
    Token(String),
    Refused(Refusal),
}

/// What a connection is made of.
pub(super) struct Connection<I> {
    shared: Arc<Shared<I>>,
    proof: Option<Proof>,
    chunks: mpsc::Sender<Bytes>,
    /// Cancelled, the response ends without what is still in `chunks`.
    cut: CancellationToken,
}

impl<I: Identify> Connection<I> {
    pub(super) fn new(
        shared: Arc<Shared<I>>,
        proof: Option<Proof>,
        chunks: mpsc::Sender<Bytes>,
        cut: CancellationToken,
    ) -> Self {
        Self { shared, proof, chunks, cut }
    }

    /// Lives as long as the connection does; the response ends when this does.
    pub(super) async fn run(self, body: Body) {
        let mut lines = lines(body);
        let ending = tokio::select! {
            biased;
            () = self.shared.stopping.cancelled() => Ending::Stopped,
            ending = self.converse(&mut lines) => ending,
        };
        self.end(ending).await;
    }

    async fn converse(&self, lines: &mut Lines) -> Ending {
        let mut hello = match self.hello(lines).await {
            Ok(hello) => hello,
            Err(ending) => return ending,
        };
        let identity = self.proof.as_ref().map(|proof| &proof.identity);
        let (streamer, verified) = match admit(&mut hello, identity) {
            Ok(admitted) => admitted,
            Err(refusal) => return Ending::Refused(refusal),
        };
        let conn = self.shared.connections.fetch_add(1, Ordering::Relaxed);
        let (outgoing, queue) = queue(self.shared.settings.queue);
        tracing::info!(conn, %streamer, instance = hello.instance, "a sidecar connected");
        // From here on its end must be told, even if this future is dropped half way.
        let _gone = Farewell {
            conn,
            streamer: streamer.to_string(),
            inputs: self.shared.inputs.clone(),
            _connected: self.shared.metrics.connection(),
        };
        let connected = FeedEvent::Connected { conn, streamer, verified, hello, outgoing };
        if self.shared.inputs.send(connected).await.is_err() {
            return Ending::Stopped;
        }
        tokio::select! {
            biased;
            ending = self.write(queue) => ending,
            ending = self.read(conn, lines) => ending,
            ending = self.guard(conn) => ending,
        }
    }

    async fn hello(&self, lines: &mut Lines) -> Result<Box<Hello>, Ending> {
        let first = timeout(self.shared.settings.hello_within, next(lines)).await;
        let line = first.map_err(|_| Ending::Refused(no_hello()))??;
        read_hello(&line).map_err(Ending::Refused)
    }

    /// Passes the peer's frames on.
    async fn read(&self, conn: Conn, lines: &mut Lines) -> Ending {
        loop {
            let line = match next(lines).await {
                Ok(line) => line,
                Err(ending) => return ending,
            };
            let frame = match read_frame(&line) {
                Ok(frame) => frame,
                Err(refusal) => return Ending::Refused(refusal),
            };
            let event = FeedEvent::Frame { conn, frame };
            if self.shared.inputs.send(event).await.is_err() {
                return Ending::Stopped;
            }
        }
    }

    /// Sends what is queued, each frame serialised once.
    async fn write(&self, mut queue: Queue) -> Ending {
        let writing = async {
            let mut batch = Vec::new();
            while queue.items.recv_many(&mut batch, BATCH).await > 0 {
                let mut chunk = Vec::new();
                for item in batch.drain(..) {
                    match item {
                        Item::Frame(frame) => append(&mut chunk, &frame),
                        Item::Close => {
                            let _ = self.chunks.send(chunk.into()).await;
                            return Ending::Closed;
                        }
                    }
                    if chunk.len() >= CHUNK && !self.flush(&mut chunk).await {
                        return Ending::Gone;
                    }
                }
                if !self.flush(&mut chunk).await {
                    return Ending::Gone;
                }
            }
            Ending::Closed
        };
        tokio::select! {
            biased;
            () = queue.abort.cancelled() => {
                self.cut.cancel();
                Ending::Closed
            }
            () = queue.overflow.cancelled() => Ending::Slow,
            ending = writing => ending,
        }
    }

    async fn flush(&self, chunk: &mut Vec<u8>) -> bool {
        chunk.is_empty() || self.chunks.send(std::mem::take(chunk).into()).await.is_ok()
    }

    /// Ends when the token does: at its expiry, or when the cluster does not know it any more.
    async fn guard(&self, conn: Conn) -> Ending {
        let (Auth::Tokens(cluster), Some(proof)) = (&self.shared.auth, &self.proof) else {
            return std::future::pending().await;
        };
        // Spread, so that a thousand sidecars that came at once do not all ask at once; never later than told.
        let again = self.shared.settings.identify_again;
        // One of ours is looked up in memory: that costs nothing, and revoked it is to end soon.
        let again = if token::is_ours(&proof.token) { again.min(LOOK_UP_AGAIN) } else { again };
        let again = again.mul_f64(1.0 - spread(conn) / 2.0);
        loop {
            let left =
                proof.identity.expires.map(|expires| Duration::from_millis(expires.saturating_sub(clock::now().wall)));
            match left {
                Some(left) if left.is_zero() => return Ending::Expired,
                Some(left) if left < again => {
                    sleep(left).await;
                    continue;
                }
                _ => sleep(again).await,
            }
            match identify(&self.shared, cluster.as_ref(), &proof.token).await {
                Ok(now) if now.streamer != proof.identity.streamer => {
                    return Ending::Token(format!("the token is {}'s now", now.streamer));
                }
                Ok(now) if now.instance != proof.identity.instance => {
                    return Ending::Token("the token is another pod's now".into());
                }
                Ok(_) | Err(TokenError::Unavailable(_)) => {}
                Err(TokenError::Refused(why)) => return Ending::Token(why),
            }
        }
    }

    async fn end(&self, ending: Ending) {
        let streamer = self.proof.as_ref().map(|proof| proof.identity.streamer.to_string());
        let metrics = &self.shared.metrics;
        match ending {
            Ending::Gone | Ending::Closed | Ending::Stopped => {}
            Ending::Slow => {
                metrics.count_closed("slow");
                tracing::warn!(streamer, "a sidecar does not keep up; its connection was closed");
            }
            Ending::Expired => {
                metrics.count_closed("expired");
                tracing::info!(streamer, "a sidecar's token expired; its connection was closed");
            }
            Ending::Token(why) => {
                metrics.count_closed("token");
                tracing::warn!(streamer, why, "a sidecar's token is good no more; its connection was closed");
            }
            Ending::Refused(Refusal { reason, message }) => {
                metrics.count_refused(reason);
                // What cannot be read may be quoted in the sentence, and may be a document.
                let why = if reason == "malformed" { "a line of it cannot be read" } else { &message };
                tracing::warn!(streamer, reason, why, "a sidecar was refused");
                let mut line = Vec::new();
                append(&mut line, &Down::Refused { message });
                let _ = timeout(FAREWELL, self.chunks.send(line.into())).await;
            }
        }
    }
}

/// From 0 to 1, far apart for numbers that are near: steps of the golden ratio, of which only the fraction counts.
fn spread(number: u64) -> f64 {
    let [.., a, b, c, d] = number.wrapping_mul(0x9E37_79B9).to_be_bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

/// Tells the end of a connection whose beginning was told.
struct Farewell {
    conn: Conn,
    streamer: String,
    inputs: mpsc::Sender<FeedEvent>,
    _connected: super::metrics::Connected,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        tracing::info!(conn = self.conn, streamer = self.streamer, "a sidecar's connection ended");
        let event = FeedEvent::Disconnected { conn: self.conn };
        let Err(mpsc::error::TrySendError::Full(event)) = self.inputs.try_send(event) else {
            return;
        };
        let inputs = self.inputs.clone();
        // The queue of events is full: wait for room, or for its end.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = inputs.send(event).await;
            });
        }
    }
}

type Lines = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, AnyDelimiterCodecError>> + Send>>;

fn lines(body: Body) -> Lines {
    let reader = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    let codec = AnyDelimiterCodec::new_with_max_length(b"\n".to_vec(), Vec::new(), MAX_LINE);
    Box::pin(FramedRead::new(reader, codec))
}

/// The next line that is not blank.
async fn next(lines: &mut Lines) -> Result<Bytes, Ending> {
    loop {
        match lines.next().await {
            Some(Ok(line)) if line.trim_ascii().is_empty() => {}
            Some(Ok(line)) => return Ok(line),
            Some(Err(AnyDelimiterCodecError::MaxChunkLengthExceeded)) => {
                return Err(Ending::Refused(too_long()));
            }
            Some(Err(AnyDelimiterCodecError::Io(_))) | None => return Err(Ending::Gone),
        }
    }
}

fn append(chunk: &mut Vec<u8>, frame: &Down) {
    let start = chunk.len();
    if let Err(error) = serde_json::to_writer(&mut *chunk, frame) {
        // Frames are plain values with text keys; half a line must not go out whatever happens.
        tracing::error!(%error, "a frame cannot be written as JSON");
        chunk.truncate(start);
        return;
    }
    chunk.push(b'\n');
}
