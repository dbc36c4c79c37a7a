//! The sidecar: a thin shell around [`weir_feed::holder`]. Every decision is made there; here is the I/O.

pub mod api;
pub mod attach;
pub mod cli;
pub mod connect;
pub mod http;
mod lines;
pub mod metrics;
mod parts;
pub mod replica;
mod request;
pub mod run;
pub mod streamer;
pub mod sync;
pub mod waiting;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use axum::serve::Listener;
use futures::future::BoxFuture;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use weir_feed::frames::About;
use weir_feed::holder::journal::Changes;
use weir_feed::holder::step::{Holder, Input, Settings};

use crate::cli::{Cli, LogFormat};
use crate::connect::{Connect, Tcp};
use crate::http::Readiness;
use crate::metrics::Metrics;
use crate::parts::Parts;
use crate::replica::{Replica, Trouble};
use crate::run::{Clock, Event, Exit, Run, Said};
use crate::streamer::StreamerApi;
use crate::sync::{Feed, FeedSettings};

/// Events that may wait for the loop.
const WAITING: usize = 1_024;
/// The file that keeps an instance id outside Kubernetes.
const INSTANCE: &str = "instance";

/// Logs to standard error; `RUST_LOG` sets what.
pub fn log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Cancelled by SIGTERM or SIGINT.
pub fn on_signal() -> CancellationToken {
    use tokio::signal::unix::{SignalKind, signal};
    let token = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let token = token.clone();
        match signal(kind) {
            Ok(mut signal) => {
                tokio::spawn(async move {
                    signal.recv().await;
                    token.cancel();
                });
            }
            Err(error) => tracing::error!(%error, "signals cannot be received"),
        }
    }
    token
}

/// Writes the replica until the loop ends.
pub type Writer = dyn FnOnce(Replica, mpsc::Receiver<Changes>, mpsc::Sender<Event>) -> BoxFuture<'static, ()> + Send;

/// What the sidecar stands on: clocks, network, chance and disk.
pub struct Machine<C> {
    pub clock: Clock,
    pub connect: C,
    /// Spreads what all sidecars do.
    pub random: StdRng,
    pub writer: Box<Writer>,
}

impl Machine<Tcp> {
    /// This machine; the replica is written by a thread of its own.
    pub fn here() -> Self {
        let writer = |replica, changes, events| -> BoxFuture<'static, ()> {
            let runtime = tokio::runtime::Handle::current();
            let writing = move || runtime.block_on(run::write_replica(replica, changes, events));
            Box::pin(async move { drop(tokio::task::spawn_blocking(writing).await) })
        };
        Self { clock: Clock::start(), connect: Tcp, random: StdRng::from_os_rng(), writer: Box::new(writer) }
    }
}

/// Binds the listeners of `cli` and runs the sidecar on them.
pub async fn serve(cli: Cli, shutdown: CancellationToken) -> anyhow::Result<Exit> {
    cli.check()?;
    let bind = |flag: &'static str, address: SocketAddr| async move {
        TcpListener::bind(address).await.with_context(|| format!("{flag} {address} cannot be listened on"))
    };
    let streams = bind("--listen", cli.listen).await?;
    let health = bind("--http-listen", cli.http_listen).await?;
    serve_on(cli, streams, health, Machine::here(), shutdown).await
}

/// Runs the sidecar on listeners that are bound already: `streams` for the streamer, `health` for everyone else.
pub async fn serve_on<L, C>(
    cli: Cli,
    streams: L,
    health: L,
    machine: Machine<C>,
    shutdown: CancellationToken,
) -> anyhow::Result<Exit>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
    C: Connect,
{
    let Machine { clock, connect, random, writer } = machine;
    let metrics = Metrics::default();
    let (readiness, ready) = watch::channel(Readiness::default());
    let (events, incoming) = mpsc::channel(WAITING);
    let key = cli.listen_key()?;
    let secret = cli.streamer_api_secret()?;
    let api = cli.streamer_api()?.map(|url| StreamerApi::new(url, secret.as_deref(), connect.clone())).transpose()?;

    let mut parts = Parts::default();
    parts.spawn(
        "the server at --http-listen",
        axum::serve(health, http::router(ready, events.clone(), metrics.clone())).into_future(),
    );
    let (replica, holder) = open(&cli, api.is_some(), &clock)?;
    let (to_writer, changes) = mpsc::channel(1);
    parts.spawn("the replica's writer", writer(replica, changes, events.clone()));
    let state = api::ApiState { events: events.clone(), key, metrics: metrics.clone() };
    parts.spawn("the server at --listen", axum::serve(streams, api::router(state)).into_future());
    let settings = FeedSettings { urls: cli.feed, ca_file: cli.ca_file, token_file: cli.token_file };
    parts.spawn("the feed's client", Feed::new(settings, connect, random, events.clone()).run());
    tracing::info!(namespace = %cli.namespace, streamer = %cli.streamer, listen = %cli.listen, "answering");

    let run = Run {
        holder,
        clock,
        events,
        writer: to_writer,
        api,
        metrics,
        readiness,
        link: None,
        replies: BTreeMap::new(),
        lease_replies: BTreeMap::new(),
        asked: 0,
        ticked: tokio::time::Instant::now(),
        said: Said::default(),
        exit: None,
    };
    let exit = tokio::select! {
        // It ends some of them itself, as the last thing that it does.
        biased;
        exit = run.run(incoming, shutdown) => exit,
        error = parts.ended() => return Err(error),
    };
    // The goodbye and the last write go out before the process does; neither takes long.
    if !parts.finish(&["the feed's client", "the replica's writer"], std::time::Duration::from_secs(2)).await {
        tracing::warn!("the goodbye to the operator, or the last write of the replica, may not have come through");
    }
    Ok(exit)
}

/// The replica, and what it kept.
fn open(cli: &Cli, api: bool, clock: &Clock) -> anyhow::Result<(Replica, Holder)> {
    let (replica, stored, trouble) = Replica::open(&cli.data, &cli.namespace, &cli.streamer)?;
    let mut holder = Holder::new(settings(cli, api), stored, clock.now());
    match trouble {
        Some(Trouble::Unread(error)) => tracing::error!(%error, "the replica cannot be opened: memory serves"),
        // It is told, shown and tried again like any other write that failed; nothing else comes of it before the loop runs.
        Some(Trouble::Unwritable(error)) => drop(holder.step(Input::Persisted(Err(error)), clock.now())),
        None => {}
    }
    Ok((replica, holder))
}

fn settings(cli: &Cli, api: bool) -> Settings {
    let instance = match cli.instance.clone().filter(|uid| !uid.is_empty()) {
        Some(uid) => uid,
        None => instance(&cli.data),
    };
    Settings {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        namespace: cli.namespace.clone(),
        streamer: cli.streamer.clone(),
        instance,
        about: About { hostname: cli.hostname(), addresses: cli.address.clone() },
        api,
    }
}

/// The id in the data directory; made at the first start.
fn instance(data: &Path) -> String {
    let path = data.join(INSTANCE);
    match std::fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return id.trim().to_owned(),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::error!(%error, path = %path.display(), "the instance id cannot be read");
        }
        _ => {}
    }
    let id = weir_feed::digest::hex(&rand::random::<[u8; 16]>());
    if let Err(error) = std::fs::write(&path, &id) {
        tracing::error!(%error, path = %path.display(),
            "the instance id cannot be kept: after a restart this sidecar waits until its old self is forgotten");
    }
    id
}
