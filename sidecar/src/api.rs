//! What the streamer asks, over HTTP: `config_external`, under any prefix.

use std::collections::BTreeSet;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use subtle::ConstantTimeEq;
use tokio::sync::{mpsc, oneshot};
use weir_feed::holder::answer::{Answer, Request};

use crate::metrics::{Asked, Metrics};
use crate::run::{Event, Reply};

/// Media names are shorter; a longer list than this comes from no streamer (they cut theirs at about 1 kB).
const MAX_NAMES: usize = 100_000;

/// What the handlers need.
#[derive(Clone)]
pub struct ApiState {
    pub events: mpsc::Sender<Event>,
    /// What `Authorization: Bearer` must show, if anything.
    pub key: Option<String>,
    pub metrics: Metrics,
}

/// Serves every path: the streamer puts prefixes of its own in front.
pub fn router(state: ApiState) -> Router {
    Router::new().fallback(handle).with_state(state)
}

async fn handle(State(state): State<ApiState>, method: Method, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let (asked, response) = respond(&state, &method, &uri, &headers).await;
    state.metrics.answered(asked, response.status().as_u16());
    response
}

async fn respond(state: &ApiState, method: &Method, uri: &Uri, headers: &HeaderMap) -> (Asked, Response<Body>) {
    if !may_ask(state.key.as_deref(), headers) {
        let title = "the key of config_external is missing or wrong: http://KEY@HOST/";
        return (Asked::Other, error(StatusCode::UNAUTHORIZED, "unauthorized", title));
    }
    let operation = uri.path().rsplit('/').find(|part| !part.is_empty());
    if operation != Some("streams") {
        let title = "this sidecar answers /streams";
        return (Asked::Other, error(StatusCode::NOT_FOUND, "not_found", title));
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let title = "only GET is answered";
        let response = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", title);
        return (Asked::Other, response);
    }
    let Some((request, host)) = parse(uri.query().unwrap_or_default()) else {
        let title = "too many names";
        return (Asked::Other, error(StatusCode::BAD_REQUEST, "bad_request", title));
    };
    let asked = match request {
        Request::All => Asked::All,
        Request::Named(_) => Asked::Named,
    };
    (asked, streams(state, request, host).await)
}

async fn streams(state: &ApiState, request: Request, host: Option<String>) -> Response<Body> {
    let (reply, answer) = oneshot::channel();
    let event = Event::Asked { request, host, reply };
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    if state.events.send(event).await.is_err() {
        return error(unavailable, "unavailable", "the sidecar shuts down");
    }
    let Ok(Reply { answer, age }) = answer.await else {
        return error(unavailable, "unavailable", "the sidecar shuts down");
    };
    let mut response = match answer {
        Answer::Streams(items) => respond_with(StatusCode::OK, Answer::body(&items)),
        Answer::NotYet(reason) => error(unavailable, "unavailable", &reason.to_string()),
    };
    if let Some(age) = age {
        let age = HeaderValue::from(age);
        response.headers_mut().insert("x-replica-age-ms", age);
    }
    response
}

/// A key in the base URL's userinfo arrives as a bearer token.
fn may_ask(key: Option<&str>, headers: &HeaderMap) -> bool {
    let Some(key) = key else {
        return true;
    };
    let shown = headers.get(header::AUTHORIZATION);
    let shown = shown.and_then(|shown| shown.to_str().ok());
    let shown = shown.and_then(|shown| shown.strip_prefix("Bearer "));
    shown.is_some_and(|shown| shown.trim().as_bytes().ct_eq(key.as_bytes()).into())
}

/// `name` is decoded first and split after; `host` was `client_host` in 2023, and some send neither.
fn parse(query: &str) -> Option<(Request, Option<String>)> {
    let mut names = BTreeSet::new();
    let mut host = None;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = || percent_encoding::percent_decode_str(value).decode_utf8_lossy();
        match key {
            "name" => {
                let decoded = decode();
                let parts = decoded.split(',').filter(|name| !name.is_empty());
                names.extend(parts.map(str::to_owned));
            }
            "host" | "client_host" => host = Some(decode().into_owned()),
            _ => {}
        }
    }
    if names.len() > MAX_NAMES {
        return None;
    }
    let host = host.filter(|host| !host.is_empty());
    if names.is_empty() {
        return Some((Request::All, host));
    }
    Some((Request::Named(names), host))
}

fn error(status: StatusCode, code: &str, title: &str) -> Response<Body> {
    let body = serde_json::json!({
        "errors": [{"status": status.as_str(), "code": code, "title": title}],
    });
    respond_with(status, body.to_string())
}

/// The streamers' client library compares the whole content type, and fails an answer without the second header.
fn respond_with(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, json);
    let anyone = HeaderValue::from_static("*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, anyone);
    response
}

#[cfg(test)]
mod tests;
