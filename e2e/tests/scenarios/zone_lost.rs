//! A thousand streams on six streamers in two zones; one zone fails as a whole. What was there is captured in the other zone, each stream
//! once, evenly, and the API server is asked for no more than one write a slice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use weir_e2e::site::{Kind, Plan, Site, until};

const STREAMS: usize = 1_000;
/// Zone `b`: half of them.
const LOST: [&str; 3] = ["s4", "s5", "s6"];
/// The slices of a namespace.
const SLICES: f64 = 16.0;

#[tokio::test]
async fn zone_lost() -> Result<()> {
    let plan = Plan { streamers: 6, supervised: true, ..Plan::default() };
    let site = Site::start("zone_lost", plan).await?;
    for streamer in &site.streamers {
        let zone = if LOST.contains(&streamer.name.as_str()) { "b" } else { "a" };
        let labels = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}});
        site.merge(Kind::Streamer, &streamer.name, labels).await?;
    }
    let applied = site.registry.now();
    let names = site.apply_of_both_policies(STREAMS / 2).await?;
    let captured = site.await_captured_once(&names).await?;
    site.tell(&format!("all captured {:.1?} after the first was applied", captured.saturating_sub(applied)));
    let lost: BTreeSet<String> = LOST.iter().flat_map(|name| site.read_by(name)).collect();
    ensure!(lost.len().abs_diff(STREAMS / 2) <= 1, "zone b has {} streams", lost.len());
    let operator = &site.operators[0];
    let written = async || operator.metric("weir_placement_writes_total{result=\"done\"}").await;
    until("the operator has nothing left to write", async || {
        let before = written().await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let writes = written().await? - before;
        ensure!(writes == 0.0, "{writes} writes within half a second");
        Ok(())
    })
    .await?;

    let before = written().await?;
    let killed = site.registry.now();
    let processes = site.streamers.iter().filter(|streamer| LOST.contains(&streamer.name.as_str()));
    futures::future::try_join_all(processes.map(weir_e2e::site::Streamer::kill9)).await?;
    site.await_captured_once(&names).await?;
    let counts: BTreeMap<String, usize> =
        site.readers().into_iter().map(|(streamer, streams)| (streamer, streams.len())).collect();
    let even: Vec<usize> = vec![STREAMS / 3, STREAMS / 3, STREAMS / 3 + 1];
    let mut spread: Vec<usize> = counts.values().copied().collect();
    spread.sort_unstable();
    ensure!(spread == even, "not spread evenly: {counts:?}");
    // The zone's streamers are silent at about the same time, but it need not be the same plan that finds them so.
    let rounds = operator.process.log().lines().filter(|line| is_failover(line)).count();
    let writes = written().await? - before;
    // Those that stop when they are cut off move later than the others.
    ensure!(rounds > 0 && rounds <= 2 * LOST.len(), "the failover took {rounds} plans");
    ensure!(writes <= SLICES * f64::from(u32::try_from(rounds)?), "{writes} writes in {rounds} rounds");
    site.tell(&format!("{} streams moved in {writes} writes, {rounds} rounds", lost.len()));
    site.tell_dark_by_policy("a zone lost", &lost, killed);
    site.ensure_undisturbed(names.difference(&lost), killed)?;
    for name in LOST {
        let sentence = site.await_event(Kind::Streamer, name, "FailedOver").await?;
        ensure!(sentence.contains(name), "the Event does not say what happened: {sentence}");
        site.await_condition(Kind::Streamer, name, "Ready", "False", "Silent").await?;
    }
    site.finish().await
}

/// Whether a line of the operator's log tells of a plan with something urgent in it, as a failover is.
fn is_failover(line: &str) -> bool {
    let urgent = line.split("urgent=").nth(1).and_then(|rest| rest.split_whitespace().next());
    urgent.is_some_and(|count| count != "0")
}
