//! A drain whose sidecar does not answer. While it may come back the release is called off and tried again, and the streams stay where
//! they are; when its streamer is gone they go where they were to go. Two never capture one.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use weir_e2e::site::{Kind, Plan, Site, stream, until};

/// Applies `cam-1` to `cam-30`, and returns when they are captured.
async fn captured(site: &Site, after: &str) -> Result<(std::collections::BTreeSet<String>, Duration)> {
    let names: std::collections::BTreeSet<String> = (1..=30).map(|number| format!("cam-{number}")).collect();
    for name in &names {
        site.apply(stream(name).failover_after(after).object()).await?;
    }
    let at = site.await_captured_once(&names).await?;
    Ok((names, at))
}

/// Waits until every stream of s1 is on its way.
async fn await_releasing(site: &Site) -> Result<()> {
    until("s1's streams are being released", async || {
        let records = site.records().await?;
        let left: Vec<_> = records
            .values()
            .filter(|record| record["streamer"] == "s1" && record["phase"] != "Releasing")
            .map(ToString::to_string)
            .collect();
        ensure!(left.is_empty(), "not these: {left:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn drain_while_the_sidecar_stands_still() -> Result<()> {
    let site = Site::start("drain_while_the_sidecar_stands_still", Plan::default()).await?;
    let (names, since) = captured(&site, "5m").await?;
    let held = site.read_by("s1");

    let s1 = site.streamer("s1")?;
    s1.sidecar.child()?.pause()?;
    site.merge(Kind::Streamer, "s1", json!({"spec": {"drain": true}})).await?;
    await_releasing(&site).await?;
    for name in &held {
        site.await_event(Kind::Stream, name, "Kept").await?;
    }
    let some = held.first().map(String::as_str).unwrap_or_default();
    let sentence = site.await_event(Kind::Stream, some, "Kept").await?;
    ensure!(
        sentence.contains("s1, which did not let go of it within 3 s"),
        "it does not say what happened: {sentence}"
    );
    let sentence = until("the Stream says what happens next", async || {
        let stream = site.get(Kind::Stream, some).await?;
        let placed = weir_e2e::site::condition_of(&stream, "Placed").cloned().unwrap_or_default();
        let reason = placed["reason"].as_str().unwrap_or_default();
        ensure!(["HolderLost", "ReleaseTimedOut"].contains(&reason), "it says {placed}");
        Ok(placed["message"].as_str().unwrap_or_default().to_owned())
    })
    .await?;
    ensure!(sentence.contains("s1"), "{sentence}");
    site.await_condition(Kind::Streamer, "s1", "Ready", "False", "Silent").await?;
    let records = site.records().await?;
    for name in &held {
        ensure!(records[name]["streamer"] == "s1" && records[name]["phase"] == "Active", "{}", records[name]);
    }
    site.ensure_undisturbed(&names, since)?;

    // It goes on: what the leader said before it stood still counts no more, and the drain is tried again.
    let resumed = site.registry.now();
    s1.sidecar.child()?.resume()?;
    for name in &held {
        site.await_event(Kind::Stream, name, "Moved").await?;
    }
    site.await_captured_once(&names).await?;
    ensure!(site.read_by("s1").is_empty(), "s1 is drained and reads {:?}", site.read_by("s1"));
    site.tell_dark("drained after the sidecar stood still", &held, resumed);
    site.ensure_undisturbed(names.difference(&held), since)?;
    site.finish().await
}

#[tokio::test]
async fn drain_of_a_streamer_that_dies() -> Result<()> {
    let site = Site::start("drain_of_a_streamer_that_dies", Plan::default()).await?;
    let (names, since) = captured(&site, weir_e2e::site::FAILOVER_AFTER).await?;
    let held = site.read_by("s1");

    let s1 = site.streamer("s1")?;
    s1.sidecar.child()?.pause()?;
    site.merge(Kind::Streamer, "s1", json!({"spec": {"drain": true}})).await?;
    await_releasing(&site).await?;
    let to = site.records().await?;
    let killed = site.registry.now();
    site.kill_streamer("s1").await?;
    site.await_captured_once(&names).await?;
    site.tell_dark("a streamer died while it was drained", &held, killed);
    let records = site.records().await?;
    for name in &held {
        ensure!(
            records[name]["streamer"] == to[name]["to"],
            "{name} was to go elsewhere: {}, then {}",
            to[name],
            records[name]
        );
        site.await_event(Kind::Stream, name, "FailedOver").await?;
    }
    site.await_condition(Kind::Streamer, "s1", "Ready", "False", "Silent").await?;
    site.ensure_undisturbed(names.difference(&held), since)?;
    site.finish().await
}
