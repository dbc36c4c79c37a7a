//! The streamer's own API, under `/streamer/api/v3` and `/flussonic/api/v3`; and `/sim`, which is no part of the protocol: what a test
//! does to a streamer.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::check;
use super::configuration::Event;
use super::engine::{Streamer, now_ms};
use super::poll::Requested;
use super::stats;

/// A page of the stream list, where the caller names no `limit`.
const PAGE: usize = 100;

type Shared = State<Arc<Streamer>>;

/// The whole API of a streamer.
pub fn router(streamer: Arc<Streamer>) -> Router {
    let api = Router::new()
        .route("/monitoring/liveness", get(alive))
        .route("/monitoring/readiness", get(alive))
        .route("/config/stats", get(server_stats))
        .route("/config", get(config).put(put_config))
        .route("/streams", get(streams))
        .route("/streams/{*name}", get(stream).put(put_stream))
        .layer(from_fn_with_state(streamer.clone(), authorised));
    let sim = Router::new()
        .route("/request", post(request))
        .route("/freeze-polls", post(freeze))
        .route("/resume-polls", post(resume))
        .route("/source-down", post(source_down))
        .route("/source-up", post(source_up));
    Router::new()
        .nest("/streamer/api/v3", api.clone())
        .nest("/flussonic/api/v3", api)
        .nest("/sim", sim)
        .with_state(streamer)
}

/// The protocol's error body.
fn error(status: StatusCode, title: &str) -> Response {
    let body = json!({ "errors": [{ "status": status.as_u16().to_string(), "title": title }] });
    (status, Json(body)).into_response()
}

async fn authorised(State(streamer): Shared, request: Request, next: Next) -> Response {
    let Some(edit_auth) = &streamer.settings.edit_auth else {
        return next.run(request).await;
    };
    let encoded = STANDARD.encode(edit_auth);
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.and_then(|value| value.to_str().ok());
    let right = given.and_then(|value| value.split_once(' ')).is_some_and(|(scheme, credentials)| {
        match scheme.to_ascii_lowercase().as_str() {
            "basic" => credentials == encoded,
            "bearer" => credentials == encoded || credentials == edit_auth,
            _ => false,
        }
    });
    if right { next.run(request).await } else { error(StatusCode::UNAUTHORIZED, "edit_auth is wanted") }
}

async fn alive() -> StatusCode {
    StatusCode::OK
}

async fn server_stats(State(streamer): Shared) -> Json<Value> {
    let state = streamer.state().await;
    let shown = !streamer.settings.no_config_external_status;
    let external = shown.then_some(&state.external_status);
    Json(stats::server(&state.configuration, &streamer.id, external, now_ms()))
}

async fn config(State(streamer): Shared) -> Json<Value> {
    let state = streamer.state().await;
    Json(json!({
        "hostname": streamer.settings.hostname,
        "config_external": state.config_external,
    }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PutConfig {
    config_external: Option<String>,
}

async fn put_config(shared: Shared, body: Bytes) -> Response {
    let put: PutConfig = match serde_json::from_slice(&body) {
        Ok(put) => put,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, &wrong.to_string()),
    };
    match shared.0.set_config_external(put.config_external).await {
        Ok(()) => config(shared).await.into_response(),
        Err(wrong) => error(StatusCode::BAD_REQUEST, &wrong),
    }
}

#[derive(Debug, Deserialize)]
struct Page {
    select: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn streams(State(streamer): Shared, Query(page): Query<Page>) -> Response {
    let after = match page.cursor.as_deref().map(uncursor) {
        Some(None) => return error(StatusCode::BAD_REQUEST, "the cursor is not one of ours"),
        after => after.flatten(),
    };
    let limit = page.limit.unwrap_or(PAGE).max(1);
    let state = streamer.state().await;
    let configuration = &state.configuration;
    let mut names = stats::names(configuration, after.as_deref());
    let shown: Vec<&str> = names.by_ref().take(limit).collect();
    let next = names.next().and(shown.last());
    let now = now_ms();
    let each = shown.iter().filter_map(|name| {
        let timeout = streamer.settings.frames_timeout_ms;
        let view = stats::stream(configuration, &state.flows, name, now, timeout)?;
        Some(selected(view, page.select.as_deref()))
    });
    let mut body = json!({
        "streams": each.collect::<Vec<_>>(),
        "estimated_count": stats::names(configuration, None).count(),
    });
    if let (Some(fields), Some(last)) = (body.as_object_mut(), next) {
        fields.insert("next".to_owned(), json!(URL_SAFE_NO_PAD.encode(last)));
    }
    Json(body).into_response()
}

fn uncursor(cursor: &str) -> Option<String> {
    let name = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    String::from_utf8(name).ok()
}

/// Only the fields named in `select`; the name always.
fn selected(view: Map<String, Value>, select: Option<&str>) -> Map<String, Value> {
    let Some(select) = select else {
        return view;
    };
    let wanted = |field: &str| field == "name" || select.split(',').any(|s| s == field);
    view.into_iter().filter(|(field, _)| wanted(field)).collect()
}

async fn stream(State(streamer): Shared, Path(name): Path<String>) -> Response {
    let state = streamer.state().await;
    let timeout = streamer.settings.frames_timeout_ms;
    let view = stats::stream(&state.configuration, &state.flows, &name, now_ms(), timeout);
    match view {
        Some(view) => Json(view).into_response(),
        None => error(StatusCode::NOT_FOUND, "there is no such stream"),
    }
}

async fn put_stream(shared: Shared, Path(name): Path<String>, body: Bytes) -> Response {
    let State(streamer) = shared;
    let mut document = match serde_json::from_slice::<Map<String, Value>>(&body) {
        Ok(document) => document,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, &wrong.to_string()),
    };
    document.insert("name".to_owned(), json!(name));
    let document = match check(Value::Object(document), 0) {
        Ok(document) => document,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, &wrong.detail),
    };
    let mut state = streamer.state().await;
    if state.config_external.is_some() {
        let title = "streams come from config_external and cannot be written here";
        return error(StatusCode::BAD_REQUEST, title);
    }
    match streamer.apply(&mut state, Event::Written(document)).await {
        Ok(_) => drop(state),
        Err(lost) => return error(StatusCode::INTERNAL_SERVER_ERROR, &lost.to_string()),
    }
    stream(State(streamer), Path(name)).await
}

#[derive(Debug, Deserialize)]
struct Name {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Source {
    url: String,
}

async fn request(State(streamer): Shared, Query(Name { name }): Query<Name>) -> Response {
    let (outcome, refusal) = match streamer.request(&name).await {
        Err(lost) => return error(StatusCode::INTERNAL_SERVER_ERROR, &lost.to_string()),
        Ok(Requested::AlreadyRunning) => ("already_running", None),
        Ok(Requested::Started) => ("started", None),
        Ok(Requested::NotFound) => ("not_found", None),
        Ok(Requested::NotAsked) => ("not_asked", None),
        Ok(Requested::Refused(refusal)) => ("refused", Some(refusal)),
    };
    Json(json!({ "name": name, "outcome": outcome, "refusal": refusal })).into_response()
}

async fn freeze(State(streamer): Shared) -> Json<Value> {
    streamer.freeze(true).await;
    Json(json!({ "polling": false }))
}

async fn resume(State(streamer): Shared) -> Json<Value> {
    streamer.freeze(false).await;
    Json(json!({ "polling": true }))
}

async fn source_down(State(streamer): Shared, Query(source): Query<Source>) -> Response {
    sources(&streamer, Event::SourceDown(source.url)).await
}

async fn source_up(State(streamer): Shared, Query(source): Query<Source>) -> Response {
    sources(&streamer, Event::SourceUp(source.url)).await
}

async fn sources(streamer: &Streamer, event: Event) -> Response {
    let mut state = streamer.state().await;
    if let Err(lost) = streamer.apply(&mut state, event).await {
        return error(StatusCode::INTERNAL_SERVER_ERROR, &lost.to_string());
    }
    let running = state.configuration.running().values();
    let reading = running.filter(|r| r.source.is_some()).count();
    Json(json!({ "reading": reading })).into_response()
}
