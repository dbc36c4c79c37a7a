//! Every Stream of a namespace is deleted at once. As long as nobody confirms it, nothing stops: it is held, shown, and undone by making
//! the Streams again. Confirmed, nobody captures them any more, and the confirmation is used up.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use weir_e2e::site::{Kind, Plan, Site, until};

/// On a Placement: the removal that is held may go on.
const CONFIRM: &str = "weir.dev/confirm-removal";

#[tokio::test]
async fn all_streams_deleted() -> Result<()> {
    let site = Site::start("all_streams_deleted", Plan::default()).await?;
    let names = site.apply_streams(30).await?;
    let captured = site.await_captured_once(&names).await?;

    delete_all(&site, &names).await?;
    let told = await_held(&site).await?;
    ensure!(told.contains(" of 30 streams") && told.contains(CONFIRM), "it does not say what to do: {told}");
    ensure!(site.operators[0].process.log().contains("lost their Stream at once"), "the log does not shout");
    site.ensure_undisturbed(&names, captured)?;

    // Undone: the Streams are others, the streams are the same.
    site.apply_streams(30).await?;
    until("nothing is held any more", async || {
        for placement in site.list(Kind::Placement).await? {
            ensure!(placement["spec"]["removal"].is_null(), "{} still is", placement["metadata"]["name"]);
        }
        let records = site.records().await?;
        for stream in site.list(Kind::Stream).await? {
            let name = stream["metadata"]["name"].as_str().context("a Stream without a name")?;
            let uid = &records.get(name).with_context(|| format!("{name} has no record"))?["uid"];
            ensure!(*uid == stream["metadata"]["uid"], "the record of {name} is the old Stream's");
        }
        Ok(())
    })
    .await?;
    for name in &names {
        site.await_status(name, "Captured", "True", "Running").await?;
    }
    site.ensure_undisturbed(&names, captured)?;

    delete_all(&site, &names).await?;
    await_held(&site).await?;
    let placements = site.list(Kind::Placement).await?;
    let placement = placements[0]["metadata"]["name"].as_str().context("a Placement without a name")?;
    site.merge(Kind::Placement, placement, json!({"metadata": {"annotations": {CONFIRM: "true"}}})).await?;
    site.await_captured_once(&BTreeSet::new()).await?;
    until("nothing is left of them, nor of the confirmation", async || {
        let records = site.records().await?;
        ensure!(records.is_empty(), "{} records are left", records.len());
        for placement in site.list(Kind::Placement).await? {
            let metadata = &placement["metadata"];
            ensure!(metadata["annotations"].get(CONFIRM).is_none(), "{} is still confirmed", metadata["name"]);
            ensure!(placement["spec"]["removal"].is_null(), "{} still holds", metadata["name"]);
        }
        Ok(())
    })
    .await?;

    // Made once more they are captured once more, and their removal would be held again.
    let again = site.registry.now();
    site.apply_streams(30).await?;
    let captured = site.await_captured_once(&names).await?;
    site.tell(&format!("all captured again after {:.1?}", captured.saturating_sub(again)));
    site.await_streamers_ready().await?;
    delete_all(&site, &names).await?;
    await_held(&site).await?;
    site.ensure_undisturbed(&names, captured)?;
    site.finish().await
}

async fn delete_all(site: &Site, names: &BTreeSet<String>) -> Result<()> {
    let all = futures::stream::iter(names).map(|name| site.delete(Kind::Stream, name));
    all.buffer_unordered(16).try_collect::<Vec<()>>().await.map(drop)
}

/// Waits until every record's removal is held, and returns what is said about it.
async fn await_held(site: &Site) -> Result<String> {
    until("the removal is held and said", async || {
        let mut told = None;
        for placement in site.list(Kind::Placement).await? {
            let name = placement["metadata"]["name"].as_str().context("a Placement without a name")?;
            let records = placement["spec"]["records"].as_array().map_or(0, Vec::len);
            ensure!(records == 0 || placement["spec"]["removal"]["until"].is_string(), "{name} holds nothing");
            let events = site.events(Kind::Placement, name).await?;
            let event = events.iter().find(|event| event["reason"] == "RemovalHeld");
            told = told.or(event.and_then(|event| event["note"].as_str()).map(str::to_owned));
        }
        told.context("no Event RemovalHeld on any Placement")
    })
    .await
}
