//! Health and metrics, on a listener of their own that the kubelet can reach.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::{mpsc, oneshot, watch};

use crate::metrics::Metrics;
use crate::run::Event;

/// Whether the streamer is answered, and what is worth saying about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// The replica was read and requests are answered. Not: that an operator is there, or the replica complete; the
    /// pod's readiness is its streamer's.
    pub ready: bool,
    pub notes: Vec<String>,
    /// Whether the streamer may end.
    pub end: End,
}

/// Whether the streamer may end without a stream going dark.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum End {
    /// Not now: it captures streams, or may.
    #[default]
    Waits,
    /// Nothing is captured here any more.
    Drained,
    /// It captures, or may, what must have stopped: the sooner the better. Why.
    Overdue(String),
}

#[derive(Clone)]
struct HttpState {
    readiness: watch::Receiver<Readiness>,
    events: mpsc::Sender<Event>,
    metrics: Metrics,
}

pub fn router(readiness: watch::Receiver<Readiness>, events: mpsc::Sender<Event>, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/lease", get(lease))
        .route("/drained", get(drained))
        .route("/metrics", get(show))
        .with_state(HttpState { readiness, events, metrics })
}

async fn readyz(State(state): State<HttpState>) -> impl IntoResponse {
    let readiness = state.readiness.borrow().clone();
    let (status, first) = if readiness.ready {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the replica is not open yet")
    };
    let lines = std::iter::once(first.to_owned()).chain(readiness.notes);
    (status, lines.map(|line| line + "\n").collect::<String>())
}

/// The streamer's liveness check: 200 while it may live, 503 when it captures, or may, what must have stopped.
async fn lease(State(state): State<HttpState>) -> (StatusCode, String) {
    let (reply, answer) = oneshot::channel();
    if state.events.send(Event::LeaseAsked { reply }).await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the sidecar shuts down\n".to_owned());
    }
    match answer.await {
        Ok(Ok(())) => (StatusCode::OK, "ok\n".to_owned()),
        Ok(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the sidecar shuts down\n".to_owned()),
    }
}

/// The streamer's `preStop` hook: answered when it may end, however long that takes. Who asks bounds it, as the kubelet does by
/// the pod's grace period.
async fn drained(State(mut state): State<HttpState>) -> (StatusCode, String) {
    let end = state.readiness.wait_for(|readiness| readiness.end != End::Waits).await;
    match end.map(|readiness| readiness.end.clone()) {
        Ok(End::Overdue(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        Ok(_) => (StatusCode::OK, "nothing is captured here any more\n".to_owned()),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the sidecar shuts down\n".to_owned()),
    }
}

async fn show(State(state): State<HttpState>) -> impl IntoResponse {
    let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match state.metrics.encode() {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, media)], text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], String::new()),
    }
}
