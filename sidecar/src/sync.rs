//! The feed's client: one long-lived HTTP/2 POST to the leader, wherever it is.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use futures::StreamExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use url::Url;
use weir_feed::frames::{Down, MAX_LINE, Up};
use weir_feed::holder::link::Why;

use crate::connect::{self, Connect};
use crate::lines::Lines;
use crate::run::Event;

const PATH: &str = "feed/v1";
/// To reach an address.
const CONNECT: Duration = Duration::from_secs(2);
/// For the request's body to reach the leader when the sidecar shuts down.
const FAREWELL: Duration = Duration::from_millis(500);
/// Frames that may wait to be sent: a leader that takes none is left. One step may say something of every row that there
/// is, so this is far above any number of rows; an empty queue takes no memory.
const UNSENT: usize = 1_000_000;
/// To resolve the name of the leader that a standby names.
const RESOLVE: Duration = Duration::from_secs(2);
/// Milliseconds between two rounds over all addresses.
const FIRST_PAUSE: u64 = 200;
const LONGEST_PAUSE: u64 = 2_000;
/// Milliseconds until a leader that refused this sidecar is asked again.
const REFUSED_PAUSE: u64 = 10_000;
/// Until an address is asked again that standbys name and that could not be reached: from outside a cluster it is a pod's, and
/// all the way there is leads through the address that is configured.
const UNREACHED: Duration = Duration::from_secs(10);
/// Addresses asked in one round, hints included.
const MAX_TARGETS: usize = 64;

/// Where the feed is, and how to enter.
#[derive(Debug, Clone)]
pub struct FeedSettings {
    pub urls: Vec<Url>,
    pub ca_file: Option<PathBuf>,
    /// Read again for each connection: projected tokens are replaced.
    pub token_file: Option<PathBuf>,
}

/// The run loop's end of a connection.
#[derive(Debug)]
pub struct Link {
    frames: mpsc::Sender<Vec<u8>>,
    leave: oneshot::Sender<Why>,
}

impl Link {
    /// A link, with what is sent over it, and why it is left.
    fn new() -> (Self, mpsc::Receiver<Vec<u8>>, oneshot::Receiver<Why>) {
        let (frames, body) = mpsc::channel(UNSENT);
        let (leave, left) = oneshot::channel();
        (Self { frames, leave }, body, left)
    }

    /// Sends a frame; false when the leader takes none any more.
    pub fn send(&self, frame: &Up) -> bool {
        let Ok(mut line) = serde_json::to_vec(frame) else {
            return false;
        };
        line.push(b'\n');
        self.frames.try_send(line).is_ok()
    }

    /// Leaves the connection.
    pub fn leave(self, why: Why) {
        // The other end is gone when the connection has just ended by itself.
        let _ = self.leave.send(why);
    }
}

/// One address of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    url: Url,
    address: SocketAddr,
}

/// How a connection ended.
#[derive(Debug)]
enum Ended {
    /// We left it.
    Left(Why),
    /// It broke, or could not be made.
    Broken(anyhow::Error),
    /// The token is wrong: nothing changes by asking again at once.
    NotLetIn(NotLetIn),
}

/// The feed answered 401 or 403.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error(
    "it does not let this sidecar in ({0}): --token-file must hold the token of this very streamer (in Kubernetes: of this pod, for the operator's audience), and --namespace and --streamer must be its own"
)]
struct NotLetIn(StatusCode);

/// What came of one round over all addresses.
#[derive(Debug, Default)]
struct Round {
    /// One of them has a leader that does not want this sidecar.
    refused: bool,
    /// One of them ended in a way that may be different in a moment.
    may_change: bool,
}

impl Round {
    fn ended(&mut self, ended: &Ended) {
        match ended {
            Ended::NotLetIn(_) | Ended::Left(Why::Refused(_)) => self.refused = true,
            // It has nothing to say but who leads, and that one is asked too.
            Ended::Left(Why::NotLeader { leader: Some(_) }) => {}
            Ended::Left(_) | Ended::Broken(_) => self.may_change = true,
        }
    }

    /// Whether the next round can wait: nobody in it will be of another mind soon.
    fn can_wait(&self) -> bool {
        self.refused && !self.may_change
    }
}

/// Keeps a connection to the feed, until the sidecar shuts down or is superseded.
pub struct Feed<C> {
    settings: FeedSettings,
    connect: C,
    /// Spreads rounds, so that not all sidecars come at once.
    random: StdRng,
    events: mpsc::Sender<Event>,
    connections: u64,
    /// When addresses that standbys had named could not be reached.
    unreached: BTreeMap<SocketAddr, Instant>,
    /// The last thing logged about each address, so that it is said once for as long as it lasts.
    said: BTreeMap<String, String>,
}

impl<C: Connect> Feed<C> {
    pub fn new(settings: FeedSettings, connect: C, random: StdRng, events: mpsc::Sender<Event>) -> Self {
        Self { settings, connect, random, events, connections: 0, unreached: BTreeMap::new(), said: BTreeMap::new() }
    }

    pub async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut last: Option<Target> = None;
        loop {
            let mut targets = self.targets().await;
            // The address that was just left comes last.
            if let Some(place) = targets.iter().position(|target| Some(target) == last.as_ref()) {
                targets.rotate_left(place + 1);
            }
            let mut wait = pause;
            let mut round = Round::default();
            // Two standbys that name each other must not be asked in turns.
            let mut asked = Vec::new();
            let configured = targets.clone();
            while let Some(target) = targets.pop_front() {
                asked.push(target.clone());
                let begun = Instant::now();
                let ended = self.connect(&target).await;
                if begun.elapsed() > CONNECT * 2 && !matches!(ended, Ended::NotLetIn(_)) {
                    // It worked for a while: what failed now may be back at once, and is news.
                    self.said.clear();
                    wait = FIRST_PAUSE;
                }
                last = Some(target.clone());
                round.ended(&ended);
                if matches!(ended, Ended::Broken(_)) && begun.elapsed() <= CONNECT * 2 && !configured.contains(&target)
                {
                    self.unreached.insert(target.address, Instant::now());
                }
                match ended {
                    Ended::Left(Why::Superseded | Why::Shutdown) => return,
                    Ended::Left(Why::NotLeader { leader: Some(hint) }) => {
                        let hinted = self.hinted(&target, &hint).await;
                        // The first of them is asked first.
                        for hinted in hinted.into_iter().rev() {
                            let reached = configured.contains(&hinted) || self.may_reach(&hinted);
                            if reached && !asked.contains(&hinted) && asked.len() <= MAX_TARGETS {
                                targets.retain(|target| *target != hinted);
                                targets.push_front(hinted);
                            }
                        }
                    }
                    Ended::Left(Why::NotLeader { leader: None }) => {}
                    Ended::Left(why) => self.say(&target, &anyhow::Error::new(why)),
                    Ended::NotLetIn(why) => self.say(&target, &anyhow::Error::new(why)),
                    Ended::Broken(error) => self.say(&target, &error),
                }
                if self.events.is_closed() {
                    return;
                }
            }
            pause = (wait * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            if round.can_wait() {
                wait = REFUSED_PAUSE;
            }
            let jittered = self.random.random_range(wait / 2..=wait);
            tokio::select! {
                biased;
                () = self.events.closed() => return,
                () = tokio::time::sleep(Duration::from_millis(jittered)) => {}
            }
        }
    }

    /// False for a while after an address that standbys name could not be reached.
    fn may_reach(&mut self, named: &Target) -> bool {
        self.unreached.retain(|_, at| at.elapsed() < UNREACHED);
        !self.unreached.contains_key(&named.address)
    }

    /// All addresses of all URLs; a name that resolves to several counts as several.
    async fn targets(&mut self) -> VecDeque<Target> {
        let mut targets = VecDeque::new();
        for url in self.settings.urls.clone() {
            let host = url.host_str().unwrap_or_default().to_owned();
            let host = host.trim_matches(['[', ']']);
            let port = url.port_or_known_default().unwrap_or(443);
            match tokio::net::lookup_host((host, port)).await {
                Ok(addresses) => targets.extend(addresses.map(|address| Target { url: url.clone(), address })),
                Err(error) => {
                    self.say_once(format!("--feed {host}"), format!("has no address: {error}"));
                }
            }
        }
        targets
    }

    async fn connect(&mut self, target: &Target) -> Ended {
        self.connections += 1;
        let id = self.connections;
        let (request, link, left) = match self.prepare(target) {
            Ok(prepared) => prepared,
            Err(error) => return Ended::Broken(error),
        };
        if self.events.send(Event::Connected { id, link }).await.is_err() {
            return Ended::Left(Why::Shutdown);
        }
        let events = self.events.clone();
        let mut talk = std::pin::pin!(self.talk(target, request, id, events));
        let mut left = std::pin::pin!(left);
        let error = tokio::select! {
            biased;
            left = &mut left => {
                let Ok(why) = left else {
                    // The loop could send nothing more, and has let go of the link. Why, the connection's end tells best.
                    let ended = tokio::time::timeout(FAREWELL, &mut talk).await;
                    return ended.map_or_else(|_| Ended::Broken(anyhow::anyhow!("it takes no more frames")), broken);
                };
                if why == Why::Shutdown {
                    // The goodbye is under way.
                    let _ = tokio::time::timeout(FAREWELL, &mut talk).await;
                }
                return Ended::Left(why);
            }
            error = &mut talk => error,
        };
        if self.events.send(Event::Closed { id }).await.is_err() {
            return Ended::Left(Why::Shutdown);
        }
        // The loop may still have a frame before it that tells more than the end of the connection does.
        left.await.map_or_else(|_| broken(error), Ended::Left)
    }

    fn prepare(&self, target: &Target) -> anyhow::Result<(Request<Body>, Link, oneshot::Receiver<Why>)> {
        let (link, body, left) = Link::new();
        let body = Body::from_stream(ReceiverStream::new(body).map(Ok::<_, std::convert::Infallible>));
        let mut url = target.url.clone();
        url.set_path(&format!("{}/{PATH}", url.path().trim_end_matches('/')));
        let mut request = Request::builder().method(Method::POST).uri(url.as_str());
        request = request.header(header::CONTENT_TYPE, "application/x-ndjson");
        if let Some(path) = &self.settings.token_file {
            // Small, and in memory where Kubernetes projects it.
            let token =
                std::fs::read_to_string(path).with_context(|| format!("reading --token-file {}", path.display()))?;
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
                .with_context(|| format!("--token-file {} holds no token", path.display()))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        Ok((request.body(body)?, link, left))
    }

    /// Sends the request and passes the leader's frames on; returns why that ended.
    async fn talk(
        &self,
        target: &Target,
        request: Request<Body>,
        id: u64,
        events: mpsc::Sender<Event>,
    ) -> anyhow::Error {
        match self.frames(target, request, id, events).await {
            Ok(()) => anyhow::anyhow!("it closed the connection"),
            Err(error) => error,
        }
    }

    async fn frames(
        &self,
        target: &Target,
        request: Request<Body>,
        id: u64,
        events: mpsc::Sender<Event>,
    ) -> anyhow::Result<()> {
        let tls = || connect::tls(self.settings.ca_file.as_deref(), b"h2");
        let opened = tokio::time::timeout(CONNECT, connect::open(&self.connect, &target.url, target.address, tls));
        let stream = opened.await.with_context(|| format!("no connection within {} s", CONNECT.as_secs()))??;
        let mut http = http2::Builder::new(TokioExecutor::new());
        let (mut sender, connection) = http.timer(TokioTimer::new()).handshake(TokioIo::new(stream)).await?;
        // Left, the connection ends with this future.
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let response = sender.send_request(request).await?;
        let status = response.status();
        match status.as_u16() {
            200 => {}
            401 | 403 => return Err(NotLetIn(status).into()),
            503 => {
                bail!("it cannot say now whose token this is ({status}): it asks its API server, and goes on trying")
            }
            _ => bail!("it answers {status}: is --feed the operator's --feed-listen address?"),
        }
        read_frames(Body::new(response.into_body()), id, events).await
    }

    /// The leader's addresses, by what the standby at `target` says.
    async fn hinted(&mut self, target: &Target, hint: &str) -> Vec<Target> {
        match resolve(hint).await {
            Ok(addresses) => addresses.into_iter().filter_map(|address| at(&target.url, address)).collect(),
            Err(error) => {
                self.say(
                    target,
                    &error.context(format!("it names {hint} as the leader's address (its --feed-advertise)")),
                );
                Vec::new()
            }
        }
    }

    fn say(&mut self, target: &Target, error: &anyhow::Error) {
        let host = target.url.host_str().unwrap_or_default();
        self.say_once(format!("feed {host} ({})", target.address), format!("{error:#}"));
    }

    fn say_once(&mut self, about: String, text: String) {
        if self.said.get(&about) == Some(&text) {
            return;
        }
        tracing::warn!("{about}: {text}");
        self.said.insert(about, text);
    }
}

async fn read_frames(body: Body, id: u64, events: mpsc::Sender<Event>) -> anyhow::Result<()> {
    let mut lines = Lines::default();
    let mut body = body.into_data_stream();
    while let Some(chunk) = body.next().await {
        lines.push(&chunk?);
        while let Some(line) = lines.next_line() {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            // The error's own text could quote a document.
            let frame: Down = serde_json::from_slice(&line).map_err(|error| {
                anyhow::anyhow!("it sent a frame that cannot be read ({:?} error)", error.classify())
            })?;
            if events.send(Event::Frame { id, frame }).await.is_err() {
                return Ok(());
            }
        }
        if lines.pending() > MAX_LINE {
            bail!("it sent a frame of more than {MAX_LINE} bytes");
        }
    }
    Ok(())
}

fn broken(error: anyhow::Error) -> Ended {
    match error.downcast_ref::<NotLetIn>() {
        Some(why) => Ended::NotLetIn(*why),
        None => Ended::Broken(error),
    }
}

/// The addresses that a standby names as the leader's: `HOST:PORT`, or a URL.
async fn resolve(hint: &str) -> anyhow::Result<Vec<SocketAddr>> {
    let authority = match Url::parse(hint) {
        Ok(hint) if hint.has_host() => {
            format!("{}:{}", hint.host_str().unwrap_or_default(), hint.port_or_known_default().unwrap_or(443))
        }
        _ => hint.to_owned(),
    };
    let found = tokio::time::timeout(RESOLVE, tokio::net::lookup_host(&authority)).await;
    Ok(found.with_context(|| format!("no answer within {} s", RESOLVE.as_secs()))??.collect())
}

/// One address of the leader, reached as `url` is: the certificate's name stays. Plain HTTP stays on loopback.
fn at(url: &Url, address: SocketAddr) -> Option<Target> {
    if url.scheme() == "http" && !address.ip().is_loopback() {
        return None;
    }
    let mut url = url.clone();
    let literal = url.host_str()?.trim_matches(['[', ']']).parse::<IpAddr>();
    if literal.is_ok() {
        url.set_ip_host(address.ip()).ok()?;
    }
    url.set_port(Some(address.port())).ok()?;
    Some(Target { url, address })
}

#[cfg(test)]
mod tests;
