//! Operator and sidecar are not of the same release, as during every upgrade. What a newer one adds is passed over by the older one, and
//! nothing is lost by it; a newer version of the protocol is refused by both ends with a sentence, once, and what is served goes on.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use weir_e2e::child::Child;
use weir_e2e::feed_peer::{PlayedFeed, Talk, connect};
use weir_e2e::programs::Programs;
use weir_e2e::scratch_folder::ScratchFolder;
use weir_e2e::site::{Kind, PERIODS, Plan, Site, free_address, until};
use weir_feed::digest::{SetDigest, document_hash};
use weir_feed::frames::{VERSION, digest_entry};

/// A real sidecar below a feed that the test plays.
struct Below {
    feed: PlayedFeed,
    sidecar: Child,
    answers: String,
    _folder: ScratchFolder,
}

impl Below {
    async fn start(name: &str) -> Result<Self> {
        let (folder, feed) = (ScratchFolder::new(name)?, PlayedFeed::start().await?);
        let (listen, http) = (free_address()?, free_address()?);
        let data = folder.path().join("data");
        std::fs::create_dir(&data)?;
        let args = ["--feed", &feed.url(), "--streamer", "s1", "--data", &data.to_string_lossy()].map(str::to_owned);
        let more = ["--listen", &listen.to_string(), "--http-listen", &http.to_string()].map(str::to_owned);
        let args = args.into_iter().chain(more);
        let log = folder.path().join("sidecar.log");
        let sidecar = Child::spawn("sidecar", Programs::get().await?.sidecar(), args, [("RUST_LOG", "info")], log)?;
        Ok(Self { feed, sidecar, answers: format!("http://{listen}/streams?host=s1"), _folder: folder })
    }

    /// What the streamer would be answered.
    async fn answer(&self) -> Result<(u16, Value)> {
        let answer = reqwest::get(&self.answers).await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }
}

fn welcome(version: u32) -> Value {
    json!({"type": "welcome", "version": version, "term": 10, "seal": "k:10", "periods": PERIODS})
}

/// `put` and `mark` of one stream, as an operator of this version says it.
fn one_stream() -> [Value; 2] {
    let document = r#"{"name":"bunny","inputs":[{"url":"fake://"}]}"#;
    let hash = document_hash(&[document]);
    let mut digest = SetDigest::default();
    digest_entry(&mut digest, "bunny", Some((5, &hash)), None);
    [
        json!({"type": "put", "name": "bunny", "epoch": 5, "grant": "k:5", "static": true,
               "partition": "KeepCapturing", "hash": hash, "document": document}),
        json!({"type": "mark", "revision": 7, "count": 1, "digest": digest.text()}),
    ]
}

/// What a newer program adds to every frame.
fn newer(mut frame: Value) -> Value {
    frame["addedLater"] = json!({"type": "ping", "of": [1, null]});
    if let Some(periods) = frame.get_mut("periods") {
        periods["addedLater"] = 7.into();
    }
    frame
}

#[tokio::test]
async fn newer_operator() -> Result<()> {
    let mut below = Below::start("newer_operator").await?;
    let mut talk = below.feed.next().await?;
    let hello = talk.next_of("hello").await?;
    ensure!(hello["version"] == VERSION, "{hello}");
    let unknown = json!({"type": "weather", "sun": {"type": "superseded"}, "document": "x".repeat(10_000)});
    for frame in [newer(welcome(VERSION)), unknown.clone()].into_iter().chain(one_stream().map(newer)) {
        talk.say(&frame).await;
        talk.say(&unknown).await;
    }
    talk.say(&newer(json!({"type": "ping", "term": 10, "maySpeak": 60_000}))).await;
    let applied = talk.next_of("applied").await?;
    ensure!(applied["revision"] == 7, "{applied}");
    let (status, body) = below.answer().await?;
    ensure!(status == 200 && body["streams"][0]["name"] == "bunny", "it answers {status} {body}");
    let log = below.sidecar.log();
    ensure!(!log.contains("WARN") && !log.contains("ERROR"), "it complains of what it passed over:\n{log}");
    Ok(())
}

#[tokio::test]
async fn operator_of_a_newer_protocol() -> Result<()> {
    let mut below = Below::start("operator_of_a_newer_protocol").await?;
    let mut talk = below.feed.next().await?;
    talk.next_of("hello").await?;
    talk.say(&welcome(VERSION)).await;
    for frame in one_stream() {
        talk.say(&frame).await;
    }
    talk.next_of("applied").await?;
    drop(talk);
    // The operator is upgraded first: it may say so in either way.
    let refused = format!("this operator speaks version {} of the feed and the sidecar version {VERSION}", VERSION + 1);
    let refuse = json!({"type": "refused", "message": refused});
    let mut last: Option<Talk> = None;
    for frame in [welcome(VERSION + 1), welcome(VERSION + 1), welcome(VERSION + 1), refuse] {
        let mut talk = below.feed.next().await?;
        talk.next_of("hello").await?;
        talk.say(&frame).await;
        last = Some(talk);
    }
    let mut last = last.context("no connection")?;
    while last.next().await?.is_some() {}
    until("the log says both", async || {
        let log = below.sidecar.log();
        for sentence in
            [&format!("it speaks version {} of the feed, and this sidecar version {VERSION}", VERSION + 1), &refused]
        {
            let said = log.matches(sentence.as_str()).count();
            ensure!(said == 1, "{sentence:?} was said {said} times:\n{log}");
        }
        Ok(())
    })
    .await?;
    let (status, body) = below.answer().await?;
    ensure!(status == 200 && body["streams"][0]["name"] == "bunny", "it answers {status} {body}");
    Ok(())
}

/// What a sidecar says on connecting that has nothing and whose streamer runs nothing.
fn hello(site: &Site, version: u32) -> Value {
    json!({
        "type": "hello", "version": version, "program": "9.9.9", "namespace": site.namespace, "streamer": "s2",
        "instance": "its token says", "synced": false, "held": [], "holds": {}, "stopped": [], "runs": {},
        "polled": 0, "api": "up", "about": {"hostname": "s2", "addresses": []},
    })
}

#[tokio::test]
async fn newer_sidecar() -> Result<()> {
    let site = Site::start("newer_sidecar", Plan { streamers: 1, ..Plan::default() }).await?;
    let mut names = site.apply_streams(5).await?;
    let captured = site.await_captured_once(&names).await?;
    let entry = site.entry("s2").await?;

    // Of a newer protocol: refused, and nobody is registered.
    let counted = "weir_feed_refused_total{reason=\"version\"}";
    let mut talk = connect(&entry).await?;
    talk.say(&newer(json!({"type": "hello", "version": VERSION + 1, "held": "otherwise"}))).await;
    let refused = talk.next_of("refused").await?;
    let message = refused["message"].as_str().unwrap_or_default().to_owned();
    for part in ["speaks version 1 of the feed", "the sidecar version 2", "run both from the same release"] {
        ensure!(message.contains(part), "it does not say {part:?}: {message}");
    }
    ensure!(talk.next().await?.is_none(), "the connection goes on");
    let count = site.operators[0].metric(counted).await?;
    ensure!(count > 0.0, "{counted} is {count}");
    let log = site.operators[0].process.log();
    ensure!(log.contains("run both from the same release"), "the operator's log does not say it:\n{log}");
    ensure!(site.get(Kind::Streamer, "s2").await.is_err(), "a refused sidecar was registered");

    // Of this protocol, and newer: it is a Streamer like any other.
    let mut talk = connect(&entry).await?;
    talk.say(&newer(hello(&site, VERSION))).await;
    let welcome = talk.next_of("welcome").await?;
    ensure!(welcome["version"] == VERSION, "{welcome}");
    let mark = talk.next_of("mark").await?;
    talk.say(&json!({"type": "applied", "revision": mark["revision"], "addedLater": 1})).await;
    let alive = json!({"type": "alive", "polled": 0, "api": "up", "config": {"state": "loaded", "at": 1}, "load": {"cpu": 3, "gpu": 9}});
    let unknown = json!({"type": "weather", "sun": 1});
    until("the newer sidecar's Streamer is Ready", async || {
        talk.say(&newer(alive.clone())).await;
        talk.say(&unknown).await;
        let streamer = site.get(Kind::Streamer, "s2").await?;
        ensure!(streamer["status"]["summary"] == "Ready", "it is {}", streamer["status"]);
        ensure!(
            streamer["status"]["sidecarVersion"] == "9.9.9",
            "its sidecar is of another version: {}",
            streamer["status"]
        );
        Ok(())
    })
    .await?;
    site.apply(weir_e2e::site::stream("cam-6").object()).await?;
    names.insert("cam-6".to_owned());
    let mut put = None;
    // As long as anything is waited for; it is one ping or two.
    for _ in 0..300 {
        talk.say(&newer(alive.clone())).await;
        talk.say(&unknown).await;
        let Ok(frame) = tokio::time::timeout(Duration::from_millis(PERIODS.ping), talk.next()).await else {
            continue;
        };
        let frame = frame?.context("the operator has ended the connection")?;
        if frame["type"] == "put" {
            put = Some(frame);
            break;
        }
        if frame["type"] == "mark" {
            talk.say(&json!({"type": "applied", "revision": frame["revision"]})).await;
        }
    }
    let put = put.context("nothing was given to it")?;
    ensure!(put["name"] == "cam-6", "s1 has more, and was to keep it: {put}");
    let old = names.iter().filter(|name| *name != "cam-6");
    site.ensure_undisturbed(old, captured)?;
    talk.say(&json!({"type": "goodbye"})).await;
    site.finish().await
}
