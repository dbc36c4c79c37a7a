//! Placements, which only the operator writes, are deleted and edited by hand: it puts them right again under new epochs and says so,
//! and no streamer notices.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use weir_e2e::site::{Kind, Plan, Site, until};

#[tokio::test]
async fn placements_edited() -> Result<()> {
    let site = Site::start("placements_edited", Plan { supervised: true, ..Plan::default() }).await?;
    let names = site.apply_of_both_policies(15).await?;
    let captured = site.await_captured_once(&names).await?;
    until("the records rest", async || {
        let settled = site.records().await?.values().all(|record| record["previous"].is_null());
        ensure!(settled, "some have a previous streamer");
        Ok(())
    })
    .await?;
    let before = site.records().await?;

    // One is deleted, then all.
    let placements = names_of(&site).await?;
    site.delete(Kind::Placement, &placements[0]).await?;
    let after = await_put_right(&site, &before, &placements[0], |_, old, new| epoch(new) >= epoch(old)).await?;
    says(&site, &format!("{} was deleted: it is made again", placements[0])).await?;
    for placement in &placements {
        site.delete(Kind::Placement, placement).await?;
    }
    let before = await_put_right(&site, &after, "all of them", |_, old, new| epoch(new) > epoch(old)).await?;

    // A record names another streamer; a record is gone; one is there that nobody decided.
    let (placement, object) = with_records(&site).await?;
    let victim = object["spec"]["records"][0]["name"].as_str().context("a record without a name")?.to_owned();
    let bumped = |name: &str, old: &Value, new: &Value| name != victim || epoch(new) > epoch(old);
    let mut records = object["spec"]["records"].clone();
    let other = if records[0]["streamer"] == "s1" { "s2" } else { "s1" };
    records[0]["streamer"] = other.into();
    site.merge(Kind::Placement, &placement, json!({"spec": {"records": records}})).await?;
    let before = await_put_right(&site, &before, "another streamer", bumped).await?;
    says(&site, &format!("{placement} was edited by somebody else (1 records): it is put right again")).await?;

    let mut records = site.get(Kind::Placement, &placement).await?["spec"]["records"].clone();
    records.as_array_mut().context("no records")?.remove(0);
    site.merge(Kind::Placement, &placement, json!({"spec": {"records": records}})).await?;
    let before = await_put_right(&site, &before, "a record removed", bumped).await?;

    site.merge(Kind::Placement, &placement, json!({"spec": {"records": []}})).await?;
    let before = await_put_right(&site, &before, "all records removed", |_, old, new| epoch(new) >= epoch(old)).await?;

    // A lower term is taken again; a higher one is somebody who leads, so that the leader steps down, and comes back above it.
    let term = site.operators[0].metric("weir_term").await?;
    site.merge(Kind::Placement, &placement, json!({"spec": {"term": 1}})).await?;
    until("the lower term is gone", async || {
        let found = &site.get(Kind::Placement, &placement).await?["spec"]["term"];
        ensure!(found.as_f64() > Some(term), "it is {found}, the leader had {term}");
        Ok(())
    })
    .await?;
    let higher = site.get(Kind::Placement, &placement).await?["spec"]["term"].as_u64().context("no term")? + 3_600_000;
    site.merge(Kind::Placement, &placement, json!({"spec": {"term": higher}})).await?;
    says(&site, &format!("{placement} has term {higher}, ours is")).await?;
    until("the leader has a term above the highest", async || {
        for placement in site.list(Kind::Placement).await? {
            let found = &placement["spec"]["term"];
            ensure!(found.as_u64() > Some(higher), "{} has {found}", placement["metadata"]["name"]);
        }
        Ok(())
    })
    .await?;
    site.await_leads(0).await?;
    await_put_right(&site, &before, "a foreign term", |_, old, new| epoch(new) >= epoch(old)).await?;
    site.ensure_undisturbed(&names, captured)?;

    // And it still decides.
    let lost = site.read_by("s1");
    let killed = site.registry.now();
    site.await_streamers_ready().await?;
    site.kill_streamer("s1").await?;
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(names.difference(&lost), captured)?;
    site.tell_dark_by_policy("Placements edited, then a streamer killed", &lost, killed);
    site.finish().await
}

fn epoch(record: &Value) -> u64 {
    record["epoch"].as_u64().unwrap_or_default()
}

async fn names_of(site: &Site) -> Result<Vec<String>> {
    let name = |placement: &Value| placement["metadata"]["name"].as_str().map(str::to_owned);
    site.list(Kind::Placement)
        .await?
        .iter()
        .map(|placement| name(placement).context("a Placement without a name"))
        .collect()
}

/// A Placement with two records at least.
async fn with_records(site: &Site) -> Result<(String, Value)> {
    for name in names_of(site).await? {
        let object = site.get(Kind::Placement, &name).await?;
        if object["spec"]["records"].as_array().is_some_and(|records| records.len() > 1) {
            return Ok((name, object));
        }
    }
    anyhow::bail!("no Placement has two records")
}

/// Waits until the records are `before` again, but for epochs that are right, and returns them.
async fn await_put_right(
    site: &Site,
    before: &BTreeMap<String, Value>,
    after: &str,
    right: impl Fn(&str, &Value, &Value) -> bool,
) -> Result<BTreeMap<String, Value>> {
    until(&format!("the records are right again after: {after}"), async || {
        let records = site.records().await?;
        for (name, old) in before {
            let new = records.get(name).with_context(|| format!("{name} has no record"))?;
            let same = ["streamer", "stream", "uid", "phase"].iter().all(|field| old[*field] == new[*field]);
            ensure!(same && right(name, old, new), "{old} is {new}");
        }
        ensure!(records.len() == before.len(), "{} records instead of {}", records.len(), before.len());
        Ok(records)
    })
    .await
}

/// Waits until the operator's log says that.
async fn says(site: &Site, sentence: &str) -> Result<()> {
    until("the operator says so", async || {
        ensure!(site.operators[0].process.log().contains(sentence), "its log has no {sentence:?}");
        Ok(())
    })
    .await
}
