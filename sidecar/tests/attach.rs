//! `weir-sidecar attach` and `detach`, between a sidecar and a streamer's own API.

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use common::{Leader, Sidecar, put};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use weir_sidecar::attach::{attach, detach};
use weir_sidecar::cli::Program;

/// A streamer of which only its configuration matters: it asks whatever backend it has.
#[derive(Clone, Default)]
struct Streamer {
    config_external: Arc<Mutex<Option<String>>>,
    /// It has lost its way to backends.
    silent: bool,
}

impl Streamer {
    async fn start(self) -> String {
        let app = Router::new()
            .route("/streamer/api/v3/config", get(config).put(put_config))
            .route("/streamer/api/v3/config/stats", get(stats))
            .with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        tokio::spawn(self.poll());
        format!("http://{address}")
    }

    async fn poll(self) {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let backend = self.config_external.lock().unwrap().clone();
            if let Some(backend) = backend.filter(|_| !self.silent) {
                let mut url: reqwest::Url = backend.parse().unwrap();
                let key = url.username().to_owned();
                url.set_username("").unwrap();
                let _ = reqwest::Client::new().get(url.join("streams?host=s1").unwrap()).bearer_auth(key).send().await;
            }
        }
    }

    fn has(&self) -> Option<String> {
        self.config_external.lock().unwrap().clone()
    }

    fn set(&self, backend: &str) {
        *self.config_external.lock().unwrap() = Some(backend.to_owned());
    }
}

fn knows(headers: &HeaderMap) -> Result<(), StatusCode> {
    // printf %s admin:p@ss | base64
    let shown = headers.get("authorization");
    if shown.is_some_and(|shown| shown == "Basic YWRtaW46cEBzcw==") { Ok(()) } else { Err(StatusCode::UNAUTHORIZED) }
}

async fn config(State(streamer): State<Streamer>, headers: HeaderMap) -> Result<Json<Value>, StatusCode> {
    knows(&headers)?;
    Ok(Json(json!({"hostname": "s1", "config_external": streamer.has()})))
}

async fn put_config(
    State(streamer): State<Streamer>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    knows(&headers)?;
    *streamer.config_external.lock().unwrap() = body["config_external"].as_str().map(str::to_owned);
    Ok(Json(body))
}

async fn stats(headers: HeaderMap) -> Result<Json<Value>, StatusCode> {
    knows(&headers)?;
    Ok(Json(json!({"id": "b", "config_external_status": {"status": "error", "reason": "unreachable"}})))
}

/// The commands, as they are typed.
struct Shell {
    api: String,
    data: TempDir,
    listen: String,
    health: String,
}

impl Shell {
    fn new(api: String, sidecar: &Sidecar) -> Self {
        let data = TempDir::new().unwrap();
        std::fs::write(data.path().join("secret"), "admin:p@ss\n").unwrap();
        Self { api, data, listen: sidecar.streams.to_string(), health: sidecar.health.to_string() }
    }

    fn kept(&self) -> bool {
        self.data.path().join("attached.json").exists()
    }

    async fn run(&self, command: &str, more: &[&str]) -> Result<String, String> {
        let secret = self.data.path().join("secret");
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let (data, secret) = (path(self.data.path()), path(&secret));
        let always = ["--api", &self.api, "--api-secret-file", &secret, "--data", &data, "--listen", &self.listen];
        let words = [&["weir-sidecar", command][..], &always, more].concat();
        let mut out = Vec::new();
        let done = match Program::parse(words).unwrap() {
            Program::Attach(args) => attach(&args, &mut out).await,
            Program::Detach(args) => detach(&args, &mut out).await,
            Program::Run(_) => panic!("{command}"),
        };
        let out = String::from_utf8(out).unwrap();
        done.map(|()| out.clone()).map_err(|error| format!("{out}{error:#}"))
    }

    async fn attach(&self, more: &[&str]) -> Result<String, String> {
        self.run("attach", &[&["--http-listen", &self.health], more].concat()).await
    }
}

const OTHER: &str = "http://s3cret@127.0.0.1:9/central/streamers/s1";

#[tokio::test]
async fn attached_a_streamer_polls_and_detached_it_has_what_it_had() {
    let mut leader = Leader::start().await;
    let replica = TempDir::new().unwrap();
    let sidecar = Sidecar::start(replica.path(), &format!("http://{}", leader.address), &[]).await;
    let mut conn = leader.next().await;
    conn.welcome(10).await;
    conn.edit(put("a", 5)).await;
    conn.mark().await;
    let streamer = Streamer::default();
    streamer.set(OTHER);
    let shell = Shell::new(streamer.clone().start().await, &sidecar);

    let refused = shell.attach(&[]).await.unwrap_err();
    assert!(refused.contains("--replace") && !refused.contains("s3cret"), "{refused}");
    assert_eq!(streamer.has().as_deref(), Some(OTHER));

    let said = shell.attach(&["--replace"]).await.unwrap();
    assert!(said.contains("it polls, and is answered") && !said.contains("s3cret"), "{said}");
    assert_eq!(streamer.has(), Some(format!("http://{}/", sidecar.streams)));
    let again = shell.attach(&[]).await.unwrap();
    assert!(again.contains("already") && again.contains("it polls"), "{again}");

    let back = shell.run("detach", &[]).await.unwrap();
    assert!(back.contains("central/streamers/s1 again") && !back.contains("s3cret"), "{back}");
    assert_eq!(streamer.has().as_deref(), Some(OTHER), "with its key");
    assert!(!shell.kept());
    assert!(shell.run("detach", &[]).await.unwrap().contains("nothing to put back"));
    sidecar.stop().await;
}

#[tokio::test]
async fn a_sidecar_that_knows_nothing_yet_is_polled_and_says_what_is_missing() {
    let replica = TempDir::new().unwrap();
    let sidecar = Sidecar::start(replica.path(), "http://127.0.0.1:9", &[]).await;
    let streamer = Streamer::default();
    let shell = Shell::new(streamer.clone().start().await, &sidecar);
    let said = shell.attach(&[]).await.unwrap();
    assert!(said.contains("is told to wait") && said.contains("NeverSynced"), "{said}");
    shell.run("detach", &[]).await.unwrap();
    assert_eq!(streamer.has(), None);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_streamer_that_does_not_poll_is_told_in_its_own_words_and_can_be_detached() {
    let replica = TempDir::new().unwrap();
    let sidecar = Sidecar::start(replica.path(), "http://127.0.0.1:9", &[]).await;
    let streamer = Streamer { silent: true, ..Streamer::default() };
    let shell = Shell::new(streamer.clone().start().await, &sidecar);
    let failed = shell.attach(&["--wait", "0"]).await.unwrap_err();
    assert!(failed.contains("has not polled") && failed.contains("unreachable"), "{failed}");
    assert!(streamer.has().is_some() && shell.kept());
    shell.run("detach", &[]).await.unwrap();
    assert_eq!(streamer.has(), None);
    sidecar.stop().await;
}

#[tokio::test]
async fn without_a_sidecar_nothing_is_taken_from_the_streamer() {
    let replica = TempDir::new().unwrap();
    let sidecar = Sidecar::start(replica.path(), "http://127.0.0.1:9", &[]).await;
    let streamer = Streamer::default();
    streamer.set(OTHER);
    let shell = Shell::new(streamer.clone().start().await, &sidecar);
    sidecar.stop().await;
    let failed = shell.attach(&["--replace"]).await.unwrap_err();
    assert!(failed.contains("start it first"), "{failed}");
    assert_eq!(streamer.has().as_deref(), Some(OTHER));
    assert!(!shell.kept());
}
