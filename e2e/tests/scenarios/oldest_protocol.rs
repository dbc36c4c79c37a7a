//! The other end is as old as may be: it speaks the oldest version of the feed that is supported, as its first release did, with nothing
//! that was added to its frames since. Sidecars change only when their pods do.
//!
//! When [`OLDEST`] is raised, these frames are to be recorded anew, from the first release that spoke that version.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use weir_e2e::child::Child;
use weir_e2e::feed_peer::{PlayedFeed, connect};
use weir_e2e::programs::Programs;
use weir_e2e::scratch_folder::ScratchFolder;
use weir_e2e::site::{Kind, Plan, Site, free_address, until};
use weir_feed::digest::{SetDigest, document_hash};
use weir_feed::frames::{OLDEST, digest_entry};
use weir_feed::periods::Periods;

/// The version that these frames are of.
const RECORDED: u32 = 1;

/// Its first release had no leases, and so no period for them.
fn periods() -> Value {
    let mut periods = json!(Periods::default());
    let fields = ["poll", "ping", "silence", "alive", "lease", "period", "release"];
    periods.as_object_mut().into_iter().for_each(|all| all.retain(|name, _| fields.contains(&name.as_str())));
    periods
}

/// `welcome`, one stream and the ping of the oldest operator.
fn of_an_operator() -> [Value; 4] {
    let document = r#"{"name":"bunny","inputs":[{"url":"fake://"}]}"#;
    let hash = document_hash(&[document]);
    let mut digest = SetDigest::default();
    digest_entry(&mut digest, "bunny", Some((5, &hash)), None);
    [
        json!({"type": "welcome", "version": RECORDED, "term": 10, "seal": "k:10", "periods": periods()}),
        json!({"type": "put", "name": "bunny", "epoch": 5, "grant": "k:5", "static": true,
               "partition": "KeepCapturing", "hash": hash, "document": document}),
        json!({"type": "mark", "revision": 7, "count": 1, "digest": digest.text()}),
        json!({"type": "ping", "term": 10, "maySpeak": 60_000}),
    ]
}

#[tokio::test]
async fn oldest_operator() -> Result<()> {
    ensure!(OLDEST == RECORDED, "version {OLDEST} is the oldest now: record its frames");
    let (folder, mut feed) = (ScratchFolder::new("oldest_operator")?, PlayedFeed::start().await?);
    let (listen, http) = (free_address()?.to_string(), free_address()?.to_string());
    let (data, url) = (folder.path().to_string_lossy().into_owned(), feed.url());
    let args = ["--feed", &url, "--streamer", "s1", "--data", &data, "--listen", &listen, "--http-listen", &http];
    let log = folder.path().join("sidecar.log");
    let sidecar = Child::spawn("sidecar", Programs::get().await?.sidecar(), args, [("RUST_LOG", "info")], log)?;

    let mut talk = feed.next().await?;
    let hello = talk.next_of("hello").await?;
    // All that the oldest operator reads of it, and refuses another version by.
    for field in ["program", "namespace", "streamer", "instance", "synced", "held", "holds", "stopped", "api"] {
        ensure!(
            !hello[field].is_null(),
            "{field} is missing, which every operator of version {RECORDED} reads: {hello}"
        );
    }
    ensure!(hello["oldest"] == RECORDED, "it does not say that it still speaks version {RECORDED}: {hello}");
    for frame in of_an_operator() {
        talk.say(&frame).await;
    }
    let applied = talk.next_of("applied").await?;
    ensure!(applied["revision"] == 7, "{applied}");
    let answer = reqwest::get(format!("http://{listen}/streams?host=s1")).await?;
    let (status, body) = (answer.status().as_u16(), answer.json::<Value>().await?);
    ensure!(status == 200 && body["streams"][0]["name"] == "bunny", "it answers {status} {body}");
    let alive = talk.next_of("alive").await?;
    ensure!(alive["api"] == "absent" && alive["config"]["state"] == "unknown" && alive["load"].is_object(), "{alive}");
    talk.say(&json!({"type": "delete", "name": "bunny", "epoch": 6})).await;
    talk.say(&json!({"type": "mark", "revision": 8, "count": 0, "digest": SetDigest::default().text()})).await;
    let applied = talk.next_of("applied").await?;
    ensure!(applied["revision"] == 8, "{applied}");
    let log = sidecar.log();
    ensure!(!log.contains("WARN") && !log.contains("ERROR"), "it complains of an old operator:\n{log}");
    Ok(())
}

#[tokio::test]
async fn oldest_sidecar() -> Result<()> {
    ensure!(OLDEST == RECORDED, "version {OLDEST} is the oldest now: record its frames");
    let site = Site::start("oldest_sidecar", Plan { streamers: 1, ..Plan::default() }).await?;
    let entry = site.entry("s2").await?;
    let mut talk = connect(&entry).await?;
    talk.say(&json!({
        "type": "hello", "version": RECORDED, "program": "0.0.1", "namespace": site.namespace, "streamer": "s2",
        "instance": "its token says", "synced": false, "held": [], "holds": {}, "stopped": [], "runs": {},
        "polled": 0, "api": "up",
    }))
    .await;
    let welcome = talk.next_of("welcome").await?;
    ensure!(welcome["version"] == RECORDED, "it is spoken to in another version than its own: {welcome}");
    let mark = talk.next_of("mark").await?;
    talk.say(&json!({"type": "applied", "revision": mark["revision"]})).await;
    let alive = json!({"type": "alive", "polled": 0, "api": "up", "config": {"state": "loaded"}, "load": {}});
    until("the oldest sidecar's Streamer is Ready, and says how old it is", async || {
        talk.say(&alive).await;
        let streamer = site.get(Kind::Streamer, "s2").await?;
        let status = &streamer["status"];
        ensure!(status["summary"] == "Ready" && status["sidecarVersion"] == "0.0.1", "it is {status}");
        Ok(())
    })
    .await?;
    // Two, of which each of the two streamers gets one; the other one's is real.
    let names = site.apply_streams(2).await?;
    let put = until("it is given a stream", async || {
        talk.say(&alive).await;
        let frame = talk.next().await?.context("the operator has ended the connection")?;
        ensure!(frame["type"] == "put", "it is told {frame}");
        Ok(frame)
    })
    .await?;
    let mine = put["name"].as_str().context("a stream without a name")?.to_owned();
    ensure!(names.contains(&mine), "{put}");
    let mark = talk.next_of("mark").await?;
    talk.say(&json!({"type": "applied", "revision": mark["revision"]})).await;
    talk.say(&json!({"type": "runs", "set": {&mine: "capture"}, "gone": []})).await;
    until("it is said to capture it", async || {
        talk.say(&alive).await;
        let stream = site.get(Kind::Stream, &mine).await?;
        ensure!(stream["status"]["streamer"] == "s2", "it is {}", stream["status"]);
        Ok(())
    })
    .await?;
    talk.say(&json!({"type": "goodbye"})).await;
    site.finish().await
}
