//! A cordon keeps new streams away and moves nothing. A drain moves every stream, each released before it is captured elsewhere.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::json;
use weir_e2e::site::{Kind, Plan, Site, until};

#[tokio::test]
async fn drain() -> Result<()> {
    let site = Site::start("drain", Plan::default()).await?;
    let mut names = site.apply_streams(30).await?;
    let captured = site.await_captured_once(&names).await?;
    let held = site.read_by("s1");
    ensure!(held.len() == 10, "s1 has {} streams", held.len());

    site.merge(Kind::Streamer, "s1", json!({"spec": {"unschedulable": true}})).await?;
    let summary = async |summary: &str| {
        until(&format!("s1 is {summary}"), async || {
            let found = site.get(Kind::Streamer, "s1").await?["status"]["summary"].clone();
            ensure!(found == summary, "it is {found}");
            Ok(())
        })
        .await
    };
    summary("Ready,SchedulingDisabled").await?;
    let old = names.clone();
    names.extend(site.apply_named((1..=10).map(|number| format!("new-{number}"))).await?);
    site.await_captured_once(&names).await?;
    ensure!(site.read_by("s1") == held, "a cordon changed what s1 has: {:?}", site.read_by("s1"));
    site.ensure_undisturbed(&old, captured)?;

    let drained = site.registry.now();
    site.merge(Kind::Streamer, "s1", json!({"spec": {"drain": true}})).await?;
    site.registry
        .await_until(
            |now| {
                let left = now.values().flatten().filter(|reader| reader.streamer == "s1").count();
                if left == 0 { Ok(()) } else { Err(format!("s1 still reads {left}")) }
            },
            weir_e2e::site::PATIENCE,
        )
        .await?;
    site.await_captured_once(&names).await?;
    let counts: Vec<usize> = site.readers().values().map(BTreeSet::len).collect();
    ensure!(counts == [20, 20], "its streams are not spread evenly: {counts:?}");
    site.ensure_undisturbed(names.difference(&held), drained)?;
    site.tell_dark("drained", &held, drained);
    for name in &held {
        site.await_event(Kind::Stream, name, "Moved").await?;
        let failed_over = site.events(Kind::Stream, name).await?;
        ensure!(failed_over.iter().all(|event| event["reason"] != "FailedOver"), "{name} failed over: {failed_over:?}");
    }
    summary("Ready,SchedulingDisabled,Draining").await?;
    until("s1 says that it has no streams", async || {
        let streams = site.get(Kind::Streamer, "s1").await?["status"]["streams"].clone();
        ensure!(streams == 0, "it says {streams}");
        Ok(())
    })
    .await?;

    // Let in again: nothing comes back by itself, what is new does.
    let settled = site.registry.now();
    site.merge(Kind::Streamer, "s1", json!({"spec": {"drain": false, "unschedulable": false}})).await?;
    let old = names.clone();
    names.extend(site.apply_named((11..=20).map(|number| format!("new-{number}"))).await?);
    site.await_captured_once(&names).await?;
    ensure!(site.read_by("s1").len() == 10, "s1 reads {:?}", site.read_by("s1"));
    site.ensure_undisturbed(&old, settled)?;
    site.finish().await
}
