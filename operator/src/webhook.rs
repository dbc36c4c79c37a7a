//! `weir-operator webhook`: the mutating admission webhook that puts the sidecar into pods. It asks nobody and keeps
//! nothing, so any number of it may run, whatever becomes of the operator.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::certificates::{CertificateMetrics, Files, Purpose};
use crate::cli::WebhookArgs;
use crate::run::{RunError, listen, serve_http, signalled, tokio_listener};
use crate::{http, inject};

mod metrics;
pub mod review;
#[cfg(test)]
mod tests;

pub use metrics::{Outcome, WebhookMetrics};
use review::Verdict;

/// Where the API server posts its reviews.
pub const PATH: &str = "/mutate";
/// The API server takes requests of 3 MiB; a review has its object, and the old one.
const MAX_BODY: usize = 8 << 20;
/// How long answers may take that are under way when it is told to stop.
const FAREWELL: Duration = Duration::from_secs(5);
/// What is spoken within TLS.
const PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];

/// Runs until SIGTERM or SIGINT.
pub async fn run(args: WebhookArgs) -> Result<(), RunError> {
    let start = |error: &dyn std::fmt::Display| RunError::Start(error.to_string());
    let (metrics, certificates) = (WebhookMetrics::default(), CertificateMetrics::default());
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    certificates.register(&mut registry);
    let files = Files { cert: args.tls_cert.clone(), key: args.tls_key.clone() };
    let (certificate, following) = files.serve(Purpose::Webhook, certificates).map_err(|error| start(&error))?;
    tokio::spawn(following);
    let tls = RustlsConfig::from_config(certificate.server(PROTOCOLS).map_err(|error| start(&error))?);
    let (listener, http_listener) = (listen(args.listen)?, listen(args.http_listen)?);
    listener.set_nonblocking(true).map_err(|error| RunError::Listen(args.listen, error))?;
    let server = axum_server::from_tcp_rustls(listener, tls).map_err(|error| RunError::Listen(args.listen, error))?;

    let stop = watch::Sender::new(false);
    let sources = http::Sources { registry: Arc::new(registry), standing: vec![], objects: None };
    let http_listener = tokio_listener(http_listener, args.http_listen)?;
    let http = tokio::spawn(serve_http(http_listener, sources, stop.clone()));
    let handle = Handle::new();
    let (stopping, mut stopped) = (handle.clone(), stop.subscribe());
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = signalled() => tracing::info!("told to stop"),
            _ = stopped.wait_for(|stop| *stop) => {}
        }
        stopping.graceful_shutdown(Some(FAREWELL));
    });
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, listen = %args.listen, http = %args.http_listen, "weir-operator webhook runs");
    let app = router(args.sidecar.settings(), metrics).into_make_service();
    let ended = server.handle(handle).serve(app).await;
    stop.send_replace(true);
    let http = http.await.ok().flatten();
    ended.map_err(|error| RunError::Exit(format!("the webhook's listener: {error}")))?;
    http.map_or(Ok(()), |why| Err(RunError::Exit(why)))
}

struct Webhook {
    sidecar: inject::Settings,
    metrics: WebhookMetrics,
}

/// The webhook without its listener.
pub fn router(sidecar: inject::Settings, metrics: WebhookMetrics) -> Router {
    let webhook = Arc::new(Webhook { sidecar, metrics });
    Router::new().route(PATH, post(mutate)).layer(DefaultBodyLimit::max(MAX_BODY)).with_state(webhook)
}

async fn mutate(State(webhook): State<Arc<Webhook>>, body: Bytes) -> Response {
    let review = match review::read(&body) {
        Ok(review) => review,
        Err(sentence) => {
            webhook.metrics.count(Outcome::Malformed);
            tracing::warn!("a request was refused that is no AdmissionReview");
            return (StatusCode::BAD_REQUEST, sentence).into_response();
        }
    };
    let verdict = review.judge(&webhook.sidecar);
    let (namespace, pod) = (review.namespace(), review.pod());
    match &verdict {
        Verdict::Injected(_) => tracing::info!(namespace, pod, "the sidecar was put into a pod"),
        Verdict::Refused { why, shown: true } => tracing::warn!(namespace, pod, why, "a pod was refused"),
        Verdict::Refused { .. } => tracing::warn!(namespace, pod, "a pod was refused that cannot be read"),
        Verdict::Untouched => tracing::debug!(namespace, pod, "nothing is to be done with a pod"),
    }
    webhook.metrics.count(verdict.outcome());
    axum::Json(review.answer(&verdict)).into_response()
}
