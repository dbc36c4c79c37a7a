//! The registry's questions over HTTP, for a person or another process. Instants are microseconds since its start.
//!
//! `GET /` start and now · `/now` · `/intervals?stream=` · `/instances` · `/overlaps?since_us=` · `/dark?stream=&from_us=&to_us=` ·
//! `/dark-times?from_us=&to_us=` · `POST /violations` with
//! `{"boot_us", "cut_off": [{"streamer", "from_us", "to_us"}]}`: how long a boot is excused, and the streamers that were cut off.

use std::time::{Duration, UNIX_EPOCH};

use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CutOff, Registry};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Question {
    stream: Option<String>,
    from_us: u64,
    since_us: u64,
    to_us: Option<u64>,
}

impl Question {
    fn from(&self) -> Duration {
        Duration::from_micros(self.from_us)
    }

    fn to(&self) -> Duration {
        self.to_us.map_or(Duration::MAX, Duration::from_micros)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Excuses {
    boot_us: u64,
    cut_off: Vec<CutOffLine>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CutOffLine {
    streamer: String,
    from_us: u64,
    to_us: Option<u64>,
}

/// The routes above.
pub fn router(registry: Registry) -> Router {
    Router::new()
        .route("/", get(root))
        .route("/now", get(now))
        .route("/intervals", get(intervals))
        .route("/instances", get(instances))
        .route("/overlaps", get(overlaps))
        .route("/dark", get(dark))
        .route("/dark-times", get(dark_times))
        .route("/violations", post(violations))
        .with_state(registry)
}

async fn root(State(registry): State<Registry>) -> Json<Value> {
    let started = registry.started().duration_since(UNIX_EPOCH);
    Json(json!({
        "started_unix_ms": started.unwrap_or_default().as_millis(),
        "now_us": registry.now().as_micros(),
    }))
}

async fn now(State(registry): State<Registry>) -> Json<Value> {
    Json(json!(registry.now_reading()))
}

async fn intervals(State(registry): State<Registry>, question: Query<Question>) -> Json<Value> {
    Json(match &question.stream {
        Some(stream) => json!(registry.intervals(stream)),
        None => json!(registry.timeline()),
    })
}

async fn instances(State(registry): State<Registry>) -> Json<Value> {
    Json(json!(registry.instances()))
}

async fn overlaps(State(registry): State<Registry>, question: Query<Question>) -> Json<Value> {
    Json(json!(registry.overlaps(Duration::from_micros(question.since_us))))
}

async fn dark(State(registry): State<Registry>, question: Query<Question>) -> Json<Value> {
    let stream = question.stream.as_deref().unwrap_or_default();
    Json(json!(registry.dark(stream, question.from(), question.to())))
}

async fn dark_times(State(registry): State<Registry>, question: Query<Question>) -> Json<Value> {
    Json(json!(registry.dark_times(question.from(), question.to())))
}

async fn violations(State(registry): State<Registry>, Json(excuses): Json<Excuses>) -> Json<Value> {
    let cut_off: Vec<CutOff> = excuses
        .cut_off
        .into_iter()
        .map(|line| CutOff {
            streamer: line.streamer,
            from: Duration::from_micros(line.from_us),
            to: line.to_us.map(Duration::from_micros),
        })
        .collect();
    Json(json!(registry.violations(&cut_off, Duration::from_micros(excuses.boot_us))))
}
