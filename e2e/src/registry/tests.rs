use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::frames::Line;
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn start() -> Registry {
    Registry::start(([127, 0, 0, 1], 0).into()).unwrap()
}

fn open(stream: &str) -> Line {
    Line::Open { stream: stream.to_owned(), source: "udp://239.0.0.1:1234".to_owned() }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

async fn connect(registry: &Registry, streamer: &str, boot: bool) -> Client {
    Client::connect(registry.addr(), streamer, "1", boot).await.unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_stands_in_the_timeline() {
    let registry = start();
    let mut reader = connect(&registry, "s1", false).await;
    reader.queue(&open("a")).unwrap();
    reader.queue(&open("b")).unwrap();
    reader.flush().await.unwrap();
    assert_eq!(each_once(&names(&["a", "b"]), &registry.now_reading()), Ok(()));
    let close = Line::Close { stream: "a".to_owned() };
    reader.queue(&close).unwrap();
    reader.flush().await.unwrap();
    assert_eq!(each_once(&names(&["b"]), &registry.now_reading()), Ok(()));
    assert!(registry.intervals("a")[0].to.is_some());
    assert!(registry.intervals("b")[0].to.is_none());
}

#[tokio::test]
async fn the_end_of_a_connection_ends_all_its_reads() {
    let registry = start();
    let mut first = connect(&registry, "s1", false).await;
    let mut second = connect(&registry, "s2", false).await;
    first.queue(&open("a")).unwrap();
    first.flush().await.unwrap();
    second.queue(&open("a")).unwrap();
    second.flush().await.unwrap();
    assert_eq!(registry.overlaps(Duration::ZERO).len(), 1);
    assert_eq!(registry.violations(&[], PATIENCE).len(), 1);
    drop(first);
    registry.await_each_once(&names(&["a"]), PATIENCE).await.unwrap();
    assert!(registry.overlaps(Duration::ZERO)[0].to.is_some());
    assert!(registry.instances()[0].to.is_some());
}

#[tokio::test]
async fn a_boot_is_excused_until_polled() {
    let registry = start();
    let mut holder = connect(&registry, "s1", false).await;
    let mut booted = connect(&registry, "s2", true).await;
    for reader in [&mut holder, &mut booted] {
        reader.queue(&open("a")).unwrap();
        reader.flush().await.unwrap();
    }
    assert_eq!(registry.violations(&[], PATIENCE), []);
    booted.queue(&Line::Polled).unwrap();
    booted.flush().await.unwrap();
    assert_eq!(registry.violations(&[], PATIENCE).len(), 1);
}

#[tokio::test]
async fn waiting_in_vain_says_who_reads_what_instead() {
    let registry = start();
    let mut reader = connect(&registry, "s1", false).await;
    reader.queue(&open("b")).unwrap();
    reader.flush().await.unwrap();
    let error = registry.await_each_once(&names(&["a"]), Duration::from_millis(1)).await.unwrap_err().to_string();
    assert!(error.contains("nobody reads 1 (a)"), "{error}");
    assert!(error.contains("s1/1 reads 1 (b)"), "{error}");
}

#[tokio::test]
async fn a_reader_that_breaks_the_rules_is_refused_and_reads_nothing() {
    let registry = start();
    let mut reader = connect(&registry, "s1", false).await;
    reader.queue(&open("a")).unwrap();
    reader.queue(&open("a")).unwrap();
    let error = reader.flush().await.unwrap_err().to_string();
    assert!(error.contains("which it reads already"), "{error}");
    registry.await_each_once(&BTreeSet::new(), PATIENCE).await.unwrap();
}

#[test]
fn a_line_that_is_none_is_answered_with_a_reason() {
    let registry = start();
    for (sent, expected) in
        [("{\"type\":\"polled\"}\n", "must be a hello"), ("{\"type\":\"hallo\"}\n", "not a line of this protocol")]
    {
        let mut socket = TcpStream::connect(registry.addr()).unwrap();
        socket.write_all(sent.as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(socket).read_line(&mut answer).unwrap();
        assert!(answer.contains(expected), "{answer}");
    }
}

#[tokio::test]
async fn its_questions_are_answered_over_http() {
    let registry = start();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = http::router(registry.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut first = connect(&registry, "s1", false).await;
    let mut second = connect(&registry, "s2", true).await;
    for reader in [&mut first, &mut second] {
        reader.queue(&open("mylive/a")).unwrap();
        reader.flush().await.unwrap();
    }
    // Another test of this process may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str| -> Value {
        let answer = client.get(format!("{base}{path}")).send().await.unwrap();
        answer.json().await.unwrap()
    };
    let violations = async |cut_off: Value| -> Value {
        let asked = client.post(format!("{base}/violations")).json(&json!({"boot_us": 60_000_000, "cut_off": cut_off}));
        asked.send().await.unwrap().json().await.unwrap()
    };
    assert_eq!(get("/now").await["mylive/a"], json!(["s1/1", "s2/1"]));
    assert_eq!(get("/intervals?stream=mylive/a").await[1]["reader"], "s2/1");
    assert_eq!(get("/instances").await[1]["boot"], true);
    assert_eq!(get("/overlaps").await[0]["to_us"], Value::Null);
    assert_eq!(get("/dark?stream=mylive/a&from_us=0").await.as_array().unwrap().len(), 1);
    assert_eq!(get("/dark-times").await["mylive/a"]["gaps"], 1);
    assert!(get("/").await["started_unix_ms"].is_u64());
    assert_eq!(violations(json!([])).await, json!([]), "s2 has not polled");
    second.queue(&Line::Polled).unwrap();
    second.flush().await.unwrap();
    assert_eq!(violations(json!([])).await[0]["readers"], json!(["s1/1", "s2/1"]));
    let excused = violations(json!([{"streamer": "s1", "from_us": 0}])).await;
    assert_eq!(excused[0]["stream"], "mylive/a", "s1 did not read it yet");
    let lost = registry.intervals("mylive/a")[0].from.as_micros();
    let excused = violations(json!([{"streamer": "s1", "from_us": u64::try_from(lost).unwrap()+1}])).await;
    assert_eq!(excused, json!([]));
}
