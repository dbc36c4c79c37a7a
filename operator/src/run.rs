//! `weir-operator run`: listeners, the cluster, the feed's server and the loop, until a signal comes.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};

use crate::certificates::{self, CertificateMetrics, Purpose, Served};
use crate::cli::{FeedSecurity, Place, Settings};
use crate::cluster::Cluster;
use crate::cluster::kubernetes::{self, Kubernetes};
use crate::cluster::manifests::{Manifests, Options};
use crate::feed::{self, Auth, FeedMetrics, FeedServer};
use crate::http::{self, Objects, Standing};
use crate::metrics::Metrics;
use crate::reconcile::{Reconciler, Sources};

/// Frames of all sidecars that wait for the loop.
const QUEUE: usize = 16_384;

/// Why the operator ends, in a sentence.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    #[error("{0}")]
    Start(String),
    /// The process must not go on with what it knows; whoever supervises it starts it anew.
    #[error("{0}")]
    Exit(String),
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(settings: Settings) -> Result<(), RunError> {
    match settings.place.clone() {
        Place::Manifests { manifests, state, token_file } => {
            let options = Options {
                namespaces: settings.namespaces.clone(),
                token_file: token_file.clone(),
                identity: settings.identity.clone(),
                feed_advertise: settings.feed_advertise.clone(),
                poll: Duration::from_millis(settings.periods.poll),
                ..Options::new(&manifests, &state)
            };
            let cluster = Arc::new(Manifests::open(options).map_err(|error| RunError::Start(error.to_string()))?);
            let auth = if token_file.is_some() { Auth::Tokens(Arc::clone(&cluster)) } else { Auth::Insecure };
            let objects: Arc<dyn Objects> = cluster.clone();
            let nowhere = "certificates are made in Kubernetes, where there is a place to keep them: give --tls-cert";
            let encryption = Encryption::of(&settings.feed, |_, _, _| Err(RunError::Start(nowhere.into())))?;
            serve(settings, cluster, auth, Some(objects), encryption).await
        }
        Place::Kubernetes { own_namespace, kubeconfig, token_audience } => {
            let client = client(kubeconfig.as_deref()).await?;
            let own_namespace = own_namespace.unwrap_or_else(|| client.default_namespace().to_owned());
            let config = kubernetes::Config {
                namespaces: settings.namespaces.iter().cloned().collect(),
                own_namespace,
                identity: settings.identity.clone(),
                audience: token_audience,
                advertise: settings.feed_advertise.clone(),
                periods: settings.periods,
            };
            let cluster = Arc::new(Kubernetes::new(client, config));
            let auth = Auth::Tokens(Arc::clone(&cluster));
            let make = |made, served, metrics| Ok(cluster.keep_certificates(made, served, metrics));
            let encryption = Encryption::of(&settings.feed, make)?;
            serve(settings, cluster, auth, None, encryption).await
        }
    }
}

/// How the feed is encrypted.
struct Encryption {
    tls: Option<Arc<rustls::ServerConfig>>,
    metrics: CertificateMetrics,
    /// What is missing of certificates that are made here.
    standing: Option<watch::Receiver<Standing>>,
}

impl Encryption {
    /// `make` begins to make certificates.
    fn of(
        security: &FeedSecurity,
        make: impl FnOnce(certificates::Settings, Served, CertificateMetrics) -> Result<watch::Receiver<Standing>, RunError>,
    ) -> Result<Self, RunError> {
        let metrics = CertificateMetrics::default();
        let (served, standing) = match security {
            FeedSecurity::Insecure => return Ok(Self { tls: None, metrics, standing: None }),
            FeedSecurity::Files(files) => {
                let serving = files.clone().serve(Purpose::Feed, metrics.clone());
                let (served, following) =
                    serving.map_err(|error| RunError::Start(format!("the feed's TLS: {error}")))?;
                tokio::spawn(following);
                (served, None)
            }
            FeedSecurity::Made(settings) => {
                let served = Served::default();
                let standing = make(settings.clone(), served.clone(), metrics.clone())?;
                (served, Some(standing))
            }
        };
        let tls = served.server(feed::PROTOCOLS).map_err(|error| RunError::Start(error.to_string()))?;
        Ok(Self { tls: Some(tls), metrics, standing })
    }
}

/// A client of the cluster that a kubeconfig names, or whoever runs this.
pub(crate) async fn client(kubeconfig: Option<&Path>) -> Result<kube::Client, RunError> {
    let Some(path) = kubeconfig else {
        return kubernetes::client().await.map_err(|trouble| RunError::Start(trouble.to_string()));
    };
    let refused = |error: &dyn std::fmt::Display| RunError::Start(format!("--kubeconfig {}: {error}", path.display()));
    let file = kube::config::Kubeconfig::read_from(path).map_err(|error| refused(&error))?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(file, &options).await.map_err(|error| refused(&error))?;
    kubernetes::client_of(config).map_err(|trouble| refused(&trouble))
}

async fn serve<C: Cluster>(
    settings: Settings,
    cluster: Arc<C>,
    auth: Auth<C>,
    objects: Option<Arc<dyn Objects>>,
    encryption: Encryption,
) -> Result<(), RunError> {
    let mut registry = Registry::default();
    let metrics = Metrics::registered(&mut registry);
    let feed_metrics = FeedMetrics::default();
    feed_metrics.register(&mut registry);
    encryption.metrics.register(&mut registry);
    let (feed_listener, http_listener) = (listen(settings.feed_listen)?, listen(settings.http_listen)?);
    let (stop, shutdown) = watch::channel(false);
    let starting = Standing { missing: vec!["starting".to_owned()], notes: vec![] };
    let (standing, stands) = watch::channel(starting);
    let stands = std::iter::once(stands).chain(encryption.standing).collect();
    let sources = http::Sources { registry: Arc::new(registry), standing: stands, objects };
    let http_address = http_listener.local_addr().map_err(|error| RunError::Listen(settings.http_listen, error))?;
    let http_listener = tokio_listener(http_listener, settings.http_listen)?;
    let http = tokio::spawn(serve_http(http_listener, sources, stop.clone()));
    let (inputs, feed) = mpsc::channel(QUEUE);
    let feed_listener = tokio_listener(feed_listener, settings.feed_listen)?.tap_io(|stream| {
        // Pings and marks are small and must not wait for more to come; without it they are only later.
        let _ = stream.set_nodelay(true);
    });
    let server =
        FeedServer::start(feed_listener, encryption.tls, auth, inputs, feed::Settings::default(), feed_metrics)
            .map_err(|error| RunError::Start(error.to_string()))?;
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, feed = %server.address(), http = %http_address, identity = settings.identity, "weir-operator runs");
    tokio::spawn(async move {
        signalled().await;
        tracing::info!("told to stop");
        stop.send_replace(true);
    });
    let ended = Reconciler::run(cluster, settings.periods, metrics, Sources { feed, shutdown, standing }).await;
    server.stop().await;
    let failed = if http.is_finished() { http.await.ok().flatten() } else { None };
    ended.map_err(RunError::Exit)?;
    failed.map_or(Ok(()), |why| Err(RunError::Exit(why)))
}

/// Serves HTTP until `stop` is told. Of itself it must not end, since nobody could see any more whether the operator is
/// well: then it tells `stop`, and says why.
pub(crate) async fn serve_http(
    listener: tokio::net::TcpListener,
    sources: http::Sources,
    stop: watch::Sender<bool>,
) -> Option<String> {
    let mut told = stop.subscribe();
    let stopping = async move { drop(told.wait_for(|stop| *stop).await) };
    let ended = http::serve(listener, sources, stopping).await;
    let untold = !stop.send_replace(true);
    let why = ended.err().map_or_else(String::new, |error| format!(": {error}"));
    untold.then(|| format!("the HTTP listener ended by itself{why}"))
}

pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).map_err(|error| RunError::Listen(address, error))
}

pub(crate) fn tokio_listener(listener: TcpListener, address: SocketAddr) -> Result<tokio::net::TcpListener, RunError> {
    let failed = |error| RunError::Listen(address, error);
    listener.set_nonblocking(true).map_err(failed)?;
    tokio::net::TcpListener::from_std(listener).map_err(failed)
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be listened to: stop this process with SIGKILL");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
