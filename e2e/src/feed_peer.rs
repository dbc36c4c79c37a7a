//! Either end of the feed, as a test plays it: lines of JSON over real HTTP/2, whatever they hold. So it can be a neighbouring version.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::site::Entry;

/// How long a frame is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Lines that may wait.
const WAITING: usize = 1_000;

/// One connection, seen from the end that the test plays.
#[derive(Debug)]
pub struct Talk {
    lines: mpsc::Receiver<Value>,
    out: mpsc::Sender<Bytes>,
}

impl Talk {
    fn new(body: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static) -> (Self, mpsc::Receiver<Bytes>) {
        let (line, lines) = mpsc::channel(WAITING);
        let (out, sent) = mpsc::channel(WAITING);
        tokio::spawn(read(body, line));
        (Self { lines, out }, sent)
    }

    /// Sends a line; an end that has left shows in what comes.
    pub async fn say(&self, frame: &Value) {
        let _ = self.out.send(format!("{frame}\n").into()).await;
    }

    /// The next line; `None` at the end of the connection.
    pub async fn next(&mut self) -> Result<Option<Value>> {
        tokio::time::timeout(PATIENCE, self.lines.recv()).await.context("the other end says nothing")
    }

    /// The next line of that type; those before it are passed over. It is an error if the connection ends before.
    pub async fn next_of(&mut self, type_: &str) -> Result<Value> {
        let until = tokio::time::Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while tokio::time::Instant::now() < until {
            let Some(frame) = self.next().await? else {
                bail!("the connection ended before {type_:?} came, after {seen:?}");
            };
            if frame["type"] == type_ {
                return Ok(frame);
            }
            seen.push(frame["type"].as_str().unwrap_or_default().to_owned());
        }
        bail!("no {type_:?} came; what came was {seen:?}")
    }
}

async fn read(body: impl Stream<Item = Result<Bytes, std::io::Error>>, line: mpsc::Sender<Value>) {
    let mut body = std::pin::pin!(body);
    let mut rest = Vec::new();
    while let Some(Ok(chunk)) = body.next().await {
        rest.extend_from_slice(&chunk);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let tail = rest.split_off(end + 1);
            let whole = std::mem::replace(&mut rest, tail);
            let Ok(frame) = serde_json::from_slice(&whole) else {
                return;
            };
            if line.send(frame).await.is_err() {
                return;
            }
        }
    }
}

fn stream_of(mut sent: mpsc::Receiver<Bytes>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    futures::stream::poll_fn(move |context| sent.poll_recv(context)).map(Ok)
}

/// A feed that hands each connection to the test: the operator's end.
#[derive(Debug)]
pub struct PlayedFeed {
    address: SocketAddr,
    talks: mpsc::Receiver<Talk>,
    _stop: DropGuard,
}

impl PlayedFeed {
    /// Listens on loopback, without TLS.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (talk, talks) = mpsc::channel(WAITING);
        let stop = CancellationToken::new();
        let router = Router::new().route("/feed/v1", post(accept)).with_state(talk);
        let serve = async move { axum::serve(listener, router).await };
        tokio::spawn(stop.clone().run_until_cancelled_owned(serve));
        Ok(Self { address, talks, _stop: stop.drop_guard() })
    }

    /// What a sidecar is told as `--feed`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next connection.
    pub async fn next(&mut self) -> Result<Talk> {
        let next = tokio::time::timeout(PATIENCE, self.talks.recv()).await;
        next.context("no sidecar connects")?.context("the feed has ended")
    }
}

async fn accept(State(talks): State<mpsc::Sender<Talk>>, body: Body) -> Response {
    let (talk, sent) = Talk::new(body.into_data_stream().map_err(std::io::Error::other));
    // A test that has ended wants no more.
    let _ = talks.send(talk).await;
    Response::new(Body::from_stream(stream_of(sent)))
}

/// Connects to an operator's feed as `entry` says: the sidecar's end.
pub async fn connect(entry: &Entry) -> Result<Talk> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder().http2_prior_knowledge().no_proxy();
    if let Some(authority) = &entry.authority {
        let certificates = reqwest::Certificate::from_pem_bundle(&std::fs::read(authority)?)?;
        client = client.tls_certs_only(certificates);
    }
    let (out, sent) = mpsc::channel(WAITING);
    let feed = entry.feeds.first().context("no feed to connect to")?;
    let mut request = client.build()?.post(format!("{feed}/feed/v1")).body(reqwest::Body::wrap_stream(stream_of(sent)));
    if let Some(token) = &entry.token {
        request = request.bearer_auth(std::fs::read_to_string(token)?.trim());
    }
    let response = request.send().await?;
    ensure!(response.status().is_success(), "the feed answers {}", response.status());
    let (line, lines) = mpsc::channel(WAITING);
    tokio::spawn(read(response.bytes_stream().map_err(std::io::Error::other), line));
    Ok(Talk { lines, out })
}
