//! A sidecar that reads its streamer's own API: what runs there, and when it has let go.

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use common::{Leader, Sidecar, put};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use weir_feed::frames::{ApiState, Run, Up};
use weir_feed::holder::rows::Edit;

/// What the streamer's API shows.
#[derive(Clone)]
struct Shown(Arc<Mutex<Value>>);

impl Shown {
    fn set(&self, streams: &Value, external: &Value) {
        *self.0.lock().unwrap() = json!({"streams": streams, "external": external});
    }
}

/// An older image's API, with a login and pages of one stream.
async fn streamer(shown: Shown) -> String {
    let app = Router::new()
        .route("/flussonic/api/v3/config/stats", get(stats))
        .route("/flussonic/api/v3/streams", get(streams))
        .with_state(shown);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    format!("http://admin:p%40ss@{address}/")
}

async fn stats(State(shown): State<Shown>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    // printf %s admin:p@ss | base64
    if headers.get("authorization").is_none_or(|shown| shown != "Basic YWRtaW46cEBzcw==") {
        return (StatusCode::UNAUTHORIZED, Json(Value::Null));
    }
    let external = shown.0.lock().unwrap()["external"].clone();
    let stats = json!({"id": "boot-1", "cpu_usage": 12.4, "config_external_status": external});
    (StatusCode::OK, Json(stats))
}

async fn streams(State(shown): State<Shown>, Query(query): Query<HashMap<String, String>>) -> Json<Value> {
    let all = shown.0.lock().unwrap()["streams"].as_array().unwrap().clone();
    let at: usize = query.get("cursor").map_or(0, |cursor| cursor.parse().unwrap());
    let page: Vec<&Value> = all.iter().skip(at).take(1).collect();
    let next = (at + 1 < all.len()).then(|| (at + 1).to_string());
    Json(json!({"streams": page, "next": next}))
}

#[tokio::test]
async fn what_runs_is_told_and_release_needs_it_to_stop() {
    let shown = Shown(Arc::default());
    let loaded = json!({"status": "loaded"});
    let running = json!([{"name": "a", "named_by": "external"}, {"name": "file", "named_by": "config"}]);
    shown.set(&running, &loaded);
    let api = streamer(shown.clone()).await;
    let data = TempDir::new().unwrap();
    let mut leader = Leader::start().await;
    let feed = format!("http://{}", leader.address);
    let sidecar = Sidecar::start(data.path(), &feed, &["--streamer-api", &api]).await;
    let mut conn = leader.next().await;
    let hello = conn.welcome(10).await;
    let runs = match hello.runs {
        Some(runs) => runs,
        None => {
            conn.until(|up| match up {
                Up::Runs { set, .. } => Some(set.clone()),
                _ => None,
            })
            .await
        }
    };
    let expected = [("a".to_owned(), Run::Capture), ("file".to_owned(), Run::Own)];
    assert_eq!(runs, expected.into());
    conn.until(|up| match up {
        Up::Alive { api: ApiState::Up, load, .. } => (load.cpu == Some(12)).then_some(()),
        _ => None,
    })
    .await;

    conn.edit(put("a", 5)).await;
    conn.mark().await;
    sidecar.ask("").await;
    conn.edit(Edit::Delete { name: "a".into(), epoch: 7 }).await;
    conn.mark().await;
    sidecar.ask("").await;
    shown.set(&json!([{"name": "file", "named_by": "config"}]), &loaded);
    let gone = |up: &Up| matches!(up, Up::Runs { gone, .. } if gone.contains(&"a".to_owned()));
    let released = |up: &Up| matches!(up, Up::Released { name, epoch: 7 } if name == "a");
    conn.until(|up| (gone(up) || released(up)).then_some(())).await;
    conn.until(|up| (gone(up) || released(up)).then_some(())).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_document_that_the_streamer_refuses_is_left_out_and_named() {
    let shown = Shown(Arc::default());
    shown.set(&json!([]), &json!({"status": "loaded"}));
    let api = streamer(shown.clone()).await;
    let data = TempDir::new().unwrap();
    let mut leader = Leader::start().await;
    let feed = format!("http://{}", leader.address);
    let sidecar = Sidecar::start(data.path(), &feed, &["--streamer-api", &api]).await;
    let mut conn = leader.next().await;
    conn.welcome(10).await;
    conn.edit(put("bad", 5)).await;
    conn.mark().await;
    assert!(sidecar.ask("").await.1.contains("bad"));
    let error = json!({"status": "error", "error": "validation_error", "path": ["streams", 0, "inputs"]});
    shown.set(&json!([]), &error);
    let (name, message) = conn
        .until(|up| match up {
            Up::Rejected { name, message, .. } => Some((name.clone(), message.clone())),
            _ => None,
        })
        .await;
    assert_eq!(name, "bad");
    assert!(message.unwrap().contains("validation_error"));
    assert_eq!(sidecar.ask("").await.1, r#"{"streams":[]}"#);
    sidecar.stop().await;
}
