//! A leader that a test plays, over real HTTP/2, and a sidecar beside it.

#![allow(dead_code, unreachable_pub, reason = "shared by test files, each of which uses its own part")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use clap::Parser;
use futures::StreamExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use weir_feed::digest::document_hash;
use weir_feed::frames::{Down, Hello, Partition, Put, Up, VERSION};
use weir_feed::grant::Seal;
use weir_feed::holder::rows::{Edit, Outcome, Rows};
use weir_feed::periods::Periods;
use weir_sidecar::Machine;
use weir_sidecar::cli::Cli;
use weir_sidecar::run::Exit;

/// Whatever a test waits for comes sooner, or not at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// Periods that let a test take a second.
pub fn periods() -> Periods {
    let periods = Periods {
        poll: 300,
        ping: 100,
        silence: 800,
        alive: 900,
        lease: 900,
        period: 1_500,
        release: 2_000,
        stream_lease: 2_900,
        kill: 1_000,
    };
    periods.check().unwrap();
    periods
}

/// The leader's side of one connection.
pub struct Conn {
    pub authorization: Option<String>,
    ups: mpsc::Receiver<Up>,
    downs: mpsc::Sender<Result<String, std::convert::Infallible>>,
    mirror: Rows,
    revision: u64,
}

/// A feed that hands each connection to the test.
pub struct Leader {
    pub address: SocketAddr,
    conns: mpsc::Receiver<Conn>,
    pub server: JoinHandle<()>,
}

pub fn feed(conns: mpsc::Sender<Conn>) -> Router {
    Router::new().route("/feed/v1", post(accept)).with_state(conns)
}

async fn accept(State(conns): State<mpsc::Sender<Conn>>, headers: HeaderMap, body: Body) -> Response {
    let (up, ups) = mpsc::channel(1_000);
    let (downs, down) = mpsc::channel(1_000);
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let conn = Conn { authorization, ups, downs, mirror: Rows::default(), revision: 0 };
    tokio::spawn(async move {
        let mut chunks = body.into_data_stream();
        let mut text = Vec::new();
        while let Some(Ok(chunk)) = chunks.next().await {
            text.extend_from_slice(&chunk);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let rest = text.split_off(end + 1);
                let line = std::mem::replace(&mut text, rest);
                if up.send(serde_json::from_slice(&line).unwrap()).await.is_err() {
                    return;
                }
            }
        }
    });
    conns.send(conn).await.unwrap();
    Response::new(Body::from_stream(ReceiverStream::new(down)))
}

impl Leader {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, conns) = mpsc::channel(10);
        let server = tokio::spawn(async move { axum::serve(listener, feed(sender)).await.unwrap() });
        Self { address, conns, server }
    }

    pub async fn next(&mut self) -> Conn {
        let next = tokio::time::timeout(PATIENCE, self.conns.recv());
        next.await.expect("a connection").expect("the feed runs")
    }
}

impl Conn {
    pub async fn send(&self, frame: Down) {
        let line = serde_json::to_string(&frame).unwrap() + "\n";
        // A sidecar that has left shows in what the test waits for.
        let _ = self.downs.send(Ok(line)).await;
    }

    /// The next frame; a ping goes out while it is waited for.
    pub async fn next(&mut self) -> Option<Up> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match tokio::time::timeout(Duration::from_millis(100), self.ups.recv()).await {
                Ok(frame) => return frame,
                Err(_) => self.send(Down::Ping { term: 10, may_speak: 15_000, lease: None }).await,
            }
        }
        panic!("no frame came");
    }

    pub async fn until<T>(&mut self, wanted: impl Fn(&Up) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while Instant::now() < deadline {
            let frame = self.next().await.unwrap_or_else(|| panic!("closed after {seen:?}"));
            if let Some(found) = wanted(&frame) {
                return found;
            }
            if !matches!(frame, Up::Alive { .. }) {
                seen.push(frame);
            }
        }
        panic!("not among {seen:?}");
    }

    /// Takes the hello and welcomes it, starting from what the sidecar holds.
    pub async fn welcome(&mut self, term: u64) -> Hello {
        let Some(Up::Hello(hello)) = self.next().await else {
            panic!("a hello comes first");
        };
        let seal = Seal(format!("k:{term}"));
        self.send(Down::Welcome { version: VERSION, term, seal, periods: periods() }).await;
        *hello
    }

    pub async fn edit(&mut self, edit: Edit) {
        self.mirror.apply(edit.clone(), &mut Outcome::default());
        let frame = match edit {
            Edit::Put(put) => Down::Put(put),
            Edit::Delete { name, epoch } => Down::Delete { name, epoch },
            Edit::Hold { name, epoch } => Down::Hold { name, epoch },
        };
        self.send(frame).await;
    }

    /// Ends the batch and waits until it is in the replica.
    pub async fn mark(&mut self) {
        self.revision += 1;
        let revision = self.revision;
        let (count, digest) = (self.mirror.count(), self.mirror.digest());
        self.send(Down::Mark { revision, count, digest }).await;
        self.until(|up| (*up == Up::Applied { revision }).then_some(())).await;
    }
}

pub fn put(name: &str, epoch: u64) -> Edit {
    let document = format!(r#"{{"name":"{name}","inputs":[{{"url":"fake://{epoch}"}}]}}"#);
    Edit::Put(Put {
        name: name.into(),
        epoch,
        grant: Seal(format!("{name}:{epoch}")),
        is_static: true,
        partition: Partition::KeepCapturing,
        hash: document_hash(&[&document]),
        document,
    })
}

/// A sidecar on free ports.
pub struct Sidecar {
    pub streams: SocketAddr,
    pub health: SocketAddr,
    shutdown: CancellationToken,
    running: JoinHandle<anyhow::Result<Exit>>,
}

impl Sidecar {
    pub async fn start(data: &Path, feed: &str, more: &[&str]) -> Self {
        // Another test of this process may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let data = data.to_str().unwrap();
        let always = ["weir-sidecar", "--streamer", "s1", "--data", data, "--feed", feed];
        let cli = Cli::parse_from(always.iter().chain(more));
        cli.check().unwrap();
        let streams = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let health = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shutdown = CancellationToken::new();
        Self {
            streams: streams.local_addr().unwrap(),
            health: health.local_addr().unwrap(),
            running: tokio::spawn(weir_sidecar::serve_on(cli, streams, health, Machine::here(), shutdown.clone())),
            shutdown,
        }
    }

    /// Asks as the streamer does: status and body.
    pub async fn ask(&self, query: &str) -> (u16, String) {
        let url = format!("http://{}/streamer/api/v3/streams{query}", self.streams);
        let response = reqwest::get(url).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub async fn health(&self, path: &str) -> (u16, String) {
        let response = reqwest::get(format!("http://{}{path}", self.health)).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Asks until the answer fits.
    pub async fn ask_until(&self, query: &str, fits: impl Fn(u16, &str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.ask(query).await;
            if fits(status, &body) {
                return body;
            }
            assert!(Instant::now() < deadline, "still {status} {body}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn stop(self) -> Exit {
        self.shutdown.cancel();
        self.ended().await
    }

    pub async fn ended(self) -> Exit {
        let ended = tokio::time::timeout(PATIENCE, self.running);
        ended.await.expect("it ends").unwrap().unwrap()
    }

    /// It is gone without a word, as after `kill -9`; its replica is what it has written.
    pub async fn kill(self) {
        self.running.abort();
        let _ = self.running.await;
    }
}
