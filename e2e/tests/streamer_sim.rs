//! The simulated streamer against a stand-in backend and the source registry: the protocol's habits, seen from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use weir_e2e::registry::Registry;

const PATIENCE: Duration = Duration::from_secs(30);
const GOOD: [(&str, &str); 2] = [("content-type", "application/json"), ("access-control-allow-origin", "*")];

/// What the backend answers.
#[derive(Debug, Clone)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: Value,
    /// It never comes.
    hangs: bool,
}

fn listing(streams: impl IntoIterator<Item = Value>) -> Answer {
    Answer {
        status: 200,
        headers: GOOD.to_vec(),
        body: json!({ "streams": streams.into_iter().collect::<Vec<_>>() }),
        hangs: false,
    }
}

fn unavailable() -> Answer {
    Answer { status: 503, ..listing([]) }
}

fn stream(name: &str) -> Value {
    json!({"name": name, "inputs": [{"url": format!("udp://{name}:1234")}]})
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

/// A stand-in backend: one answer for the plain list, and documents by name.
struct Backend {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    plain: Mutex<Answer>,
    by_name: Mutex<BTreeMap<String, Value>>,
    asked: watch::Sender<Vec<String>>,
    keys: Mutex<BTreeSet<String>>,
}

impl Backend {
    async fn start(plain: Answer) -> Self {
        let shared = Arc::new(Shared {
            plain: Mutex::new(plain),
            by_name: Mutex::default(),
            asked: watch::Sender::default(),
            keys: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { addr, shared }
    }

    fn answers(&self, plain: Answer) {
        *self.shared.plain.lock().unwrap() = plain;
    }

    fn knows(&self, streams: impl IntoIterator<Item = Value>) {
        let by_name = |s: Value| (s["name"].as_str().unwrap().to_owned(), s);
        *self.shared.by_name.lock().unwrap() = streams.into_iter().map(by_name).collect();
    }

    /// Waits until the plain answer of this moment has been asked for, carried out, and asked for again.
    async fn carried_out(&self) {
        let mut asked = self.shared.asked.subscribe();
        let plain = |asked: &Vec<String>| asked.iter().filter(|a| !a.contains("name=")).count();
        let before = plain(&asked.borrow());
        let later = asked.wait_for(|asked| plain(asked) >= before + 3);
        let later = tokio::time::timeout(PATIENCE, later).await;
        later.expect("the streamer does not poll").unwrap();
    }

    fn asked(&self) -> Vec<String> {
        self.shared.asked.borrow().clone()
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let plain = shared.plain.lock().unwrap().clone();
    let answer = match query.get("name") {
        Some(asked) if plain.status == 200 => {
            let by_name = shared.by_name.lock().unwrap();
            listing(asked.split(',').filter_map(|n| by_name.get(n).cloned()))
        }
        _ => plain,
    };
    shared.asked.send_modify(|asked| asked.push(uri.to_string()));
    let key = headers.get("authorization").map(|key| key.to_str().unwrap());
    shared.keys.lock().unwrap().insert(key.unwrap_or("none").to_owned());
    if answer.hangs {
        std::future::pending::<()>().await;
    }
    let mut response = answer.body.to_string().into_response();
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap();
    response.headers_mut().clear();
    for (name, value) in answer.headers {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
    response
}

/// A running streamer-sim and its own API.
struct Sim {
    child: Child,
    api: String,
    http: reqwest::Client,
}

impl Sim {
    async fn start(registry: &Registry, backend: &Backend, more: &[&str]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut child = Command::new(env!("CARGO_BIN_EXE_streamer-sim"))
            .args(["--hostname", "s1", "--api-listen", "127.0.0.1:0"])
            .args(["--poll-min-ms", "50", "--poll-max-ms", "50"])
            .arg(format!("--registry={}", registry.addr()))
            .arg(format!("--config-external=http://KEY@{}", backend.addr))
            .args(more)
            .env("RUST_LOG", "off")
            .env_remove("RUST_BACKTRACE")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut ready).await.unwrap();
        let ready: Value = serde_json::from_str(&ready).expect("the streamer did not start");
        Self {
            child,
            api: format!("http://{}", ready["api"].as_str().unwrap()),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    async fn get(&self, path: &str) -> Value {
        let url = format!("{}/streamer/api/v3/{path}", self.api);
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    /// Waits until it shows that an answer was refused for `reason`.
    async fn refused(&self, reason: &str) -> Value {
        let shown = async {
            loop {
                let status = self.get("config/stats").await["config_external_status"].take();
                if status["reason"] == reason {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let shown = tokio::time::timeout(PATIENCE, shown).await;
        shown.unwrap_or_else(|_| panic!("never refused for {reason}"))
    }

    async fn put(&self, path: &str, body: Value) -> u16 {
        let url = format!("{}/flussonic/api/v3/{path}", self.api);
        let put = self.http.put(url).json(&body).send().await.unwrap();
        put.status().as_u16()
    }

    async fn sim(&self, path: &str) -> Value {
        let url = format!("{}/sim/{path}", self.api);
        self.http.post(url).send().await.unwrap().json().await.unwrap()
    }
}

fn registry() -> Registry {
    Registry::start(([127, 0, 0, 1], 0).into()).unwrap()
}

async fn reads(registry: &Registry, streams: &[&str]) {
    let reached = registry.await_each_once(&names(streams), PATIENCE).await;
    reached.unwrap_or_else(|error| panic!("{error}"));
}

/// How often anything was started: unchanged while nothing is restarted.
fn starts(registry: &Registry) -> usize {
    registry.timeline().len()
}

#[tokio::test]
async fn it_asks_for_what_runs_unlisted_in_parts_and_stops_what_is_left_out() {
    let registry = registry();
    let all: Vec<String> = (0..200).map(|n| format!("mylive/stream-{n:04}")).collect();
    let backend = Backend::start(listing(all.iter().map(|n| stream(n)))).await;
    let _sim = Sim::start(&registry, &backend, &[]).await;
    let expected: BTreeSet<String> = all.iter().cloned().collect();
    registry.await_each_once(&expected, PATIENCE).await.unwrap();
    assert!(backend.asked().iter().all(|a| a == "/streamer/api/v3/streams?host=s1"));

    backend.knows(all.iter().map(|n| stream(n)));
    backend.answers(listing([]));
    backend.carried_out().await;
    assert_eq!(registry.now_reading().len(), 200);
    assert_eq!(starts(&registry), 200);
    let prefix = "/streamer/api/v3/streams?host=s1&name=";
    let asked = backend.asked();
    let parts: BTreeSet<&str> = asked.iter().filter_map(|a| a.strip_prefix(prefix)).collect();
    assert!(parts.iter().all(|part| part.len() <= 1000) && parts.len() >= 5);
    let joined: BTreeSet<String> =
        parts.iter().flat_map(|part| part.split("%2C").map(|n| n.replace("%2F", "/"))).collect();
    assert_eq!(joined, expected);

    backend.knows(all.iter().skip(1).map(|n| stream(n)));
    let but_one: BTreeSet<String> = all.iter().skip(1).cloned().collect();
    registry.await_each_once(&but_one, PATIENCE).await.unwrap();
    assert_eq!(starts(&registry), 200, "the others ran on untouched");
}

#[tokio::test]
async fn it_keeps_running_while_the_backend_has_no_answer() {
    let registry = registry();
    let backend = Backend::start(listing([stream("a"), stream("b")])).await;
    let sim = Sim::start(&registry, &backend, &["--timeout-ms", "100"]).await;
    reads(&registry, &["a", "b"]).await;
    let keys = backend.shared.keys.lock().unwrap().clone();
    assert_eq!(keys, names(&["Bearer KEY"]));

    backend.answers(unavailable());
    let status = sim.refused("unavailable").await;
    assert_eq!(status["code"], 503);
    backend.answers(Answer { hangs: true, ..listing([]) });
    sim.refused("timeout").await;
    // Bound and not listening: nobody can connect, and nobody else can take the port.
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let nobody_at = nobody.local_addr().unwrap();
    let elsewhere = json!({"config_external": format!("http://{nobody_at}")});
    assert_eq!(sim.put("config", elsewhere).await, 200);
    sim.refused("unreachable").await;

    assert_eq!((registry.now_reading().len(), starts(&registry)), (2, 2));
    assert_eq!(sim.get("config/stats").await["total_streams"], 2);
}

#[tokio::test]
async fn it_refuses_an_answer_whole() {
    let registry = registry();
    let backend = Backend::start(listing([stream("a")])).await;
    let sim = Sim::start(&registry, &backend, &[]).await;
    reads(&registry, &["a"]).await;
    let invalid = listing([stream("new"), json!({"name": "bad", "inputs": [{}]})]);
    let charset = Answer {
        headers: vec![("content-type", "application/json; charset=utf-8"), GOOD[1]],
        ..listing([stream("new")])
    };
    let no_cors = Answer { headers: vec![GOOD[0]], ..listing([stream("new")]) };
    let at = json!(["streams", 1, "inputs", 0, "url"]);
    for (answer, reason, path) in
        [(invalid, "validation_error", at), (charset, "content_type", Value::Null), (no_cors, "cors", Value::Null)]
    {
        backend.answers(answer);
        backend.carried_out().await;
        reads(&registry, &["a"]).await;
        let status = &sim.get("config/stats").await["config_external_status"];
        assert_eq!((&status["status"], &status["reason"]), (&json!("error"), &json!(reason)));
        assert_eq!(status["path"], path);
        assert_eq!(starts(&registry), 1);
    }
    backend.answers(listing([stream("a"), stream("new")]));
    reads(&registry, &["a", "new"]).await;
    backend.carried_out().await;
    let status = &sim.get("config/stats").await["config_external_status"];
    assert_eq!(status["status"], "loaded");
}

#[tokio::test]
async fn it_comes_back_with_its_old_configuration_or_without_any() {
    let registry = registry();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.json");
    let with_state = ["--state", state.to_str().unwrap()];
    let backend = Backend::start(listing([stream("a"), stream("b")])).await;
    let mut sim = Sim::start(&registry, &backend, &with_state).await;
    reads(&registry, &["a", "b"]).await;
    backend.carried_out().await;
    assert!(!registry.instances()[0].boot, "it had nothing saved");
    sim.child.kill().await.unwrap();
    reads(&registry, &[]).await;

    backend.answers(unavailable());
    let mut sim = Sim::start(&registry, &backend, &with_state).await;
    reads(&registry, &["a", "b"]).await;
    backend.carried_out().await;
    let booted = registry.instances()[1].clone();
    assert!(booted.boot && booted.polled.is_none(), "a 503 is no answered poll");
    backend.answers(listing([stream("b")]));
    reads(&registry, &["b"]).await;
    backend.carried_out().await;
    let polled = registry.instances()[1].polled.expect("it was answered");
    let stopped = registry.intervals("a")[1].to.unwrap();
    assert!(stopped <= polled, "excused until the poll is carried out");
    sim.child.kill().await.unwrap();
    reads(&registry, &[]).await;

    backend.answers(unavailable());
    let _sim = Sim::start(&registry, &backend, &[]).await;
    backend.carried_out().await;
    reads(&registry, &[]).await;
    assert!(!registry.instances()[2].boot);
    assert_eq!(registry.overlaps(Duration::ZERO), []);
}

#[tokio::test]
async fn one_that_never_asks_by_name_stops_what_is_not_listed() {
    let registry = registry();
    let backend = Backend::start(listing([stream("a"), stream("b")])).await;
    let sim = Sim::start(&registry, &backend, &["--never-asks-by-name"]).await;
    reads(&registry, &["a", "b"]).await;
    backend.knows([stream("a"), stream("b"), stream("x")]);
    backend.answers(listing([stream("b")]));
    reads(&registry, &["b"]).await;
    assert_eq!(sim.sim("request?name=x").await["outcome"], "not_asked");
    assert!(!backend.asked().iter().any(|a| a.contains("name=")));
}

#[tokio::test]
async fn a_viewer_a_frozen_poll_and_a_source_that_is_down() {
    let registry = registry();
    let backend = Backend::start(listing([stream("a")])).await;
    let sim = Sim::start(&registry, &backend, &["--frames-timeout-ms=0"]).await;
    backend.knows([stream("mylive/x")]);
    let found = sim.sim("request?name=mylive%2Fx").await;
    assert_eq!(found["outcome"], "started");
    assert_eq!(sim.sim("request?name=nowhere").await["outcome"], "not_found");
    reads(&registry, &["a", "mylive/x"]).await;

    sim.sim("freeze-polls").await;
    let asked = backend.asked().len();
    backend.knows([]);
    sim.sim("source-down?url=udp://a:1234").await;
    reads(&registry, &["mylive/x"]).await;
    let down = sim.get("streams/a").await;
    assert_eq!((&down["stats"]["alive"], &down["stats"]["status"]), (&json!(false), &json!("error")));
    assert_eq!(sim.get("streams/mylive%2Fx").await["stats"]["alive"], true);
    sim.sim("source-up?url=udp://a:1234").await;
    reads(&registry, &["a", "mylive/x"]).await;
    assert!(backend.asked().len() <= asked + 1, "at most what was on its way");

    sim.sim("resume-polls").await;
    reads(&registry, &["a"]).await;
}

#[tokio::test]
async fn its_own_api_pages_and_refuses_writes_and_strangers() {
    let registry = registry();
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own.json");
    std::fs::write(&own, json!({"streams": [stream("own")]}).to_string()).unwrap();
    let all: Vec<String> = (0..250).map(|n| format!("s-{n:03}")).collect();
    let backend = Backend::start(listing(all.iter().map(|n| stream(n)))).await;
    let own = own.to_str().unwrap();
    let sim = Sim::start(&registry, &backend, &["--own-streams", own]).await;
    let with_own: BTreeSet<String> = all.iter().cloned().chain(["own".to_owned()]).collect();
    registry.await_each_once(&with_own, PATIENCE).await.unwrap();

    let (mut listed, mut cursor) = (BTreeMap::new(), String::new());
    for expected in [100, 100, 51] {
        let page = sim.get(&format!("streams?select=named_by{cursor}")).await;
        assert_eq!(page["estimated_count"], 251);
        let streams = page["streams"].as_array().unwrap();
        assert_eq!(streams.len(), expected);
        assert!(streams.iter().all(|s| s.as_object().unwrap().len() == 2));
        let pair = |s: &Value| (s["name"].as_str().unwrap().to_owned(), s["named_by"].clone());
        listed.extend(streams.iter().map(pair));
        cursor = format!("&cursor={}", page["next"].as_str().unwrap_or_default());
    }
    assert_eq!(cursor, "&cursor=");
    assert_eq!(listed.keys().cloned().collect::<BTreeSet<_>>(), with_own);
    assert_eq!((&listed["own"], &listed["s-000"]), (&json!("config"), &json!("external")));

    assert_eq!(sim.put("streams/mine", json!({"inputs": []})).await, 400);
    assert_eq!(sim.put("config", json!({"config_external": "nonsense"})).await, 400);
    assert_eq!(sim.put("config", json!({"config_external": null})).await, 200);
    let inputs = json!({"inputs": [{"url": "udp://mine:1"}]});
    assert_eq!(sim.put("streams/my%2Fmine", inputs).await, 200);
    assert_eq!(sim.get("streams/my%2Fmine").await["stats"]["status"], "running");
    assert_eq!(registry.now_reading().len(), 252);

    let guarded = Sim::start(&registry, &backend, &["--edit-auth", "admin:s3cret"]).await;
    let url = format!("{}/streamer/api/v3/monitoring/liveness", guarded.api);
    let get = guarded.http.get(&url);
    assert_eq!(get.send().await.unwrap().status(), 401);
    let get = guarded.http.get(&url).basic_auth("admin", Some("s3cret"));
    assert_eq!(get.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn sigterm_ends_it_and_all_its_reads() {
    let registry = registry();
    let backend = Backend::start(listing([stream("a")])).await;
    let mut sim = Sim::start(&registry, &backend, &[]).await;
    reads(&registry, &["a"]).await;
    let pid = sim.child.id().unwrap();
    let kill = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status();
    assert!(kill.await.unwrap().success());
    let ended = tokio::time::timeout(PATIENCE, sim.child.wait()).await;
    assert!(ended.expect("it does not end").unwrap().success());
    reads(&registry, &[]).await;
}

#[tokio::test]
async fn it_does_not_outlive_the_source_registry() {
    let registry = registry();
    let backend = Backend::start(listing([stream("a")])).await;
    let mut sim = Sim::start(&registry, &backend, &[]).await;
    reads(&registry, &["a"]).await;
    drop(registry);
    backend.answers(listing([stream("a"), stream("b")]));
    let ended = tokio::time::timeout(PATIENCE, sim.child.wait()).await;
    assert!(!ended.expect("it goes on unseen").unwrap().success());
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.json");
    std::fs::write(&state, "{").unwrap();
    let error = boot_error(&state).await;
    assert!(error.contains("state.json"), "{error}");
}

async fn boot_error(state: &Path) -> String {
    let registry = registry();
    let output = Command::new(env!("CARGO_BIN_EXE_streamer-sim"))
        .args(["--hostname", "s1", "--state", state.to_str().unwrap()])
        .arg(format!("--registry={}", registry.addr()))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}
