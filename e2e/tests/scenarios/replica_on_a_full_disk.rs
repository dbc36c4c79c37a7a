//! The disk that a sidecar's database is on is full. Memory serves: what is new is captured, what is edited arrives, nothing stops; a
//! condition, an Event, a metric and the log complain. With room again it is written as a whole, and a restart loses nothing.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::json;
use weir_e2e::site::{Kind, Plan, Site, until};
use weir_e2e::small_disk::SmallDisk;

#[tokio::test]
async fn replica_on_a_full_disk() -> Result<()> {
    let mut site = Site::prepare("replica_on_a_full_disk", &Plan { streamers: 2, ..Plan::default() }).await?;
    let replica = site.streamer("s1")?.replica.clone();
    let data = replica.parent().unwrap_or(&replica);
    let disk = SmallDisk::mount(data, 8 << 10, &site.folder().join("disk.log")).await?;
    site.streamer_mut("s1")?.sidecar.start_within(&disk.within());
    site.start_processes().await?;
    let mut names = site.apply_streams(20).await?;
    let captured = site.await_captured_once(&names).await?;
    ensure!(disk.path().join("replica.sqlite3").exists() && !replica.exists(), "the replica is not on the small disk");

    disk.fill()?;
    let edited = site.read_by("s1").pop_first().unwrap_or_default();
    site.merge(Kind::Stream, &edited, json!({"spec": {"inputs": [{"url": "rtsp://camera/edited"}]}})).await?;
    site.await_source(&edited, "rtsp://camera/edited").await?;
    let old = names.clone();
    names.extend(site.apply_named((1..=20).map(|number| format!("new-{number}"))).await?);
    site.await_captured_once(&names).await?;
    ensure!(site.read_by("s1").len() == 20, "s1 reads {:?}", site.read_by("s1"));
    let untouched: BTreeSet<&String> = old.iter().filter(|name| **name != edited).collect();
    site.ensure_undisturbed(untouched.iter().copied(), captured)?;

    let sentence = site.await_condition(Kind::Streamer, "s1", "Synced", "False", "ReplicaNotWritten").await?;
    for part in ["full", "answers from memory", "a restart loses"] {
        ensure!(sentence.contains(part), "the condition does not say {part:?}: {sentence}");
    }
    site.await_event(Kind::Streamer, "s1", "ReplicaNotWritten").await?;
    site.await_condition(Kind::Streamer, "s1", "Ready", "True", "Polling").await?;
    let s1 = site.streamer("s1")?;
    let (error, failed) =
        (s1.metric("weir_sidecar_replica_error").await?, s1.metric("weir_sidecar_persist_errors_total").await?);
    ensure!(error > 0.0 && failed >= 1.0, "weir_sidecar_replica_error is {error}, of {failed} failed writes");
    let ready = s1.ready().await?;
    ensure!(ready.contains("the replica cannot be written"), "/readyz does not say it: {ready}");

    disk.make_room()?;
    site.await_condition(Kind::Streamer, "s1", "Synced", "True", "Synced").await?;
    until("the sidecar says that its replica is written", async || {
        let error = s1.metric("weir_sidecar_replica_error").await?;
        ensure!(error == 0.0, "weir_sidecar_replica_error is {error}");
        let log = s1.sidecar.log();
        ensure!(log.contains("the replica is written again"), "{log}");
        let complaints = log.lines().filter(|line| line.contains("the replica cannot be written")).count();
        ensure!(complaints == 1, "{complaints} complaints in the log:\n{log}");
        Ok(())
    })
    .await?;

    // All of it is on the disk: nobody else is there to ask.
    site.operators[0].process.kill9().await?;
    site.streamer("s1")?.sidecar.kill9().await?;
    site.streamer_mut("s1")?.sidecar.start()?;
    let (s1, held) = (site.streamer("s1")?, site.read_by("s1"));
    let streams = s1.await_answer(&held).await?;
    let source = streams.iter().find(|stream| stream["name"] == *edited).map(|stream| &stream["inputs"][0]["url"]);
    ensure!(source == Some(&json!("rtsp://camera/edited")), "{edited} is read from {source:?}");
    site.ensure_undisturbed(untouched, captured)?;
    site.finish().await
}
