//! `weir.dev/lease-probe`: the kubelet ends a streamer that would capture on without a lease.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use weir_e2e::control_plane::create_namespace;
use weir_e2e::site::until;
use weir_feed::periods::Periods;

use crate::containers::process_of;
use crate::lifecycle::scale;
use crate::registration::workload;
use crate::site::{PATIENCE, Site};
use crate::without_webhook::{await_bundle, stream};

const WORKLOAD: &str = "held";
const POD: &str = "held-0";
const STREAM: &str = "stops";

/// Frozen, it cannot let go by itself: it is killed when its lease has ended, comes back without the stream, and captures it when an operator
/// gives a lease again.
pub(crate) async fn a_streamer_frozen_past_its_lease_is_killed_by_its_kubelet(site: &'static Site) -> Result<()> {
    let captured = site.await_captured_once().await?;
    let namespace = create_namespace(&site.client()?, "lease-probe").await?;
    await_bundle(site, &namespace).await?;
    for object in workload(site, &namespace, WORKLOAD, &json!({ "weir.dev/lease-probe": "true" }), 7) {
        site.apply(&object).await?;
    }
    let mut stops = stream(&namespace, STREAM);
    stops["spec"]["failover"] = json!({ "partition": "StopCapturing" });
    site.apply(&stops).await?;
    let all = &site.streams | &BTreeSet::from([STREAM.to_owned()]);
    site.registry.await_each_once(&all, PATIENCE).await?;
    let streamer = format!("streamers.weir.dev/{POD}");
    let supervised = ["--namespace", &namespace, "wait", "--for=condition=Supervised", &streamer, "--timeout=1m"];
    site.kubectl(&supervised).await?;

    scale(site, "operator", 0).await?;
    let ended = ends_and_stays_without(site, &namespace).await;
    let back = site.registry.now();
    scale(site, "operator", 2).await?;
    ended?;
    site.registry.await_each_once(&all, PATIENCE).await?;
    let last = site.registry.intervals(STREAM).pop().context("it was never read")?;
    ensure!(
        last.from >= back,
        "it was captured without a lease, from {:?} on; operators came back at {back:?}",
        last.from
    );
    site.ensure_undisturbed(&site.streams, captured)?;
    site.ensure_never_twice()?;
    site.kubectl(&["delete", "namespace", &namespace, "--timeout=2m"]).await?;
    site.await_captured_once().await.map(drop)
}

/// Freezes it, and waits until its kubelet has killed it and the one that follows was told what it may capture, which is nothing.
async fn ends_and_stays_without(site: &Site, namespace: &str) -> Result<()> {
    ensure!(killed(site, namespace).await?.is_null(), "it was killed before");
    // Killed before its lease ends, as one that does not poll is, it would rightly capture again under what is left of it.
    let periods = Periods::default();
    tokio::time::sleep(Duration::from_millis(periods.stream_lease - periods.alive)).await;
    ensure!(site.readers().contains_key(STREAM), "it has let go before it was frozen");
    let frozen = site.registry.now();
    kill_process(process_of("weir-streamer-sim", POD)?, Signal::STOP)?;
    let let_go = |now: &weir_e2e::registry::NowReading| {
        let readers = now.get(STREAM).map_or(0, BTreeSet::len);
        if readers == 0 { Ok(()) } else { Err(format!("{STREAM} has {readers}")) }
    };
    let dark = site.registry.await_until(let_go, PATIENCE).await?;
    eprintln!("node: a frozen streamer without a lease is killed {:.1?} after", dark.saturating_sub(frozen));
    until("its kubelet says that it killed it", async || {
        let state = killed(site, namespace).await?;
        // SIGKILL: a frozen process hears of nothing else.
        ensure!(state["exitCode"] == 137, "its last state: {state}");
        Ok(())
    })
    .await?;
    until("the one that follows has polled", async || {
        let instances = site.registry.instances().into_iter().filter(|one| one.reader.streamer == POD);
        let polled = instances.filter(|one| one.from > frozen && one.polled.is_some()).count();
        ensure!(polled > 0, "it has not");
        Ok(())
    })
    .await?;
    ensure!(!site.readers().contains_key(STREAM), "it captures without a lease");
    Ok(())
}

/// How its streamer's container ended before, if it did.
async fn killed(site: &Site, namespace: &str) -> Result<Value> {
    let pod = site.kubectl(&["--namespace", namespace, "get", "pod", POD, "--output=json"]).await?;
    let pod: Value = serde_json::from_str(&pod)?;
    Ok(pod["status"]["containerStatuses"][0]["lastState"]["terminated"].clone())
}
