//! A streamer goes down and comes back every ten seconds, for five minutes. No outage is as long as `failover.after`, so its streams wait
//! for it and go nowhere; nobody else is disturbed, and the API is not written to death. `WEIR_LONG=1` takes the five minutes; otherwise
//! all times are shrunk alike.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::StreamExt as _;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, WatchEvent, WatchParams};
use tokio::time::Instant;
use weir_e2e::site::{Kind, PERIODS, Plan, Site, stream};
use weir_feed::periods::Periods;

/// Times down and up.
const FLAPS: u32 = 30;
/// Shrunk: ten seconds are to 30 s as this is to 2 s, half of it down.
const HALF: Duration = Duration::from_millis(333);

/// Counts the writes that change an object of a kind in the namespace.
async fn count_writes(site: &Site, kind: &str, plural: &str) -> Result<Arc<AtomicUsize>> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("weir.dev", "v1alpha1", kind), plural);
    let api = Api::<DynamicObject>::namespaced_with(site.client()?, &site.namespace, &resource);
    let version = api.list(&kube::api::ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        let Ok(events) = api.watch(&WatchParams::default().timeout(290), &version).await else {
            return;
        };
        let mut events = std::pin::pin!(events);
        while let Some(Ok(event)) = events.next().await {
            if !matches!(event, WatchEvent::Bookmark(_)) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    Ok(count)
}

#[tokio::test]
async fn flapping_streamer() -> Result<()> {
    let long = std::env::var_os("WEIR_LONG").is_some();
    let (periods, half, after) =
        if long { (Periods::default(), Duration::from_secs(5), "30s") } else { (PERIODS, HALF, "2s") };
    let mut site = Site::start("flapping_streamer", Plan { periods, ..Plan::default() }).await?;
    let names: std::collections::BTreeSet<String> = (1..=30).map(|number| format!("cam-{number}")).collect();
    for name in &names {
        site.apply(stream(name).failover_after(after).object()).await?;
    }
    let captured = site.await_captured_once(&names).await?;
    let held = site.read_by("s1");
    for name in &names {
        site.await_status(name, "Captured", "True", "Running").await?;
    }
    let mut counts = BTreeMap::new();
    for (kind, plural) in [("Placement", "placements"), ("Stream", "streams"), ("Streamer", "streamers")] {
        counts.insert(kind, count_writes(&site, kind, plural).await?);
    }

    let mut longest = Duration::ZERO;
    for _ in 0..FLAPS {
        let down = Instant::now();
        site.streamer("s1")?.kill9().await?;
        tokio::time::sleep(half).await;
        site.streamer_mut("s1")?.start()?;
        longest = longest.max(down.elapsed());
        tokio::time::sleep(half).await;
    }
    site.tell(&format!("{FLAPS} times down, for {longest:.1?} at most"));
    site.await_captured_once(&names).await?;
    site.await_streamers_ready().await?;

    site.tell_dark("their streamer flapped", &held, captured);
    for name in &held {
        let reads = site.registry.intervals(name);
        let mut holders: Vec<&str> = reads.iter().map(|read| read.reader.streamer.as_str()).collect();
        holders.dedup();
        ensure!(holders == ["s1"], "{name} was captured by {holders:?}, and no outage was as long as failover.after");
    }
    site.ensure_undisturbed(names.difference(&held), captured)?;
    let written: BTreeMap<&str, usize> =
        counts.iter().map(|(kind, count)| (*kind, count.load(Ordering::Relaxed))).collect();
    site.tell(&format!("objects written meanwhile: {written:?}"));
    let flaps = FLAPS as usize;
    ensure!(written["Placement"] == 0, "nothing moved, and Placements were written {} times", written["Placement"]);
    ensure!(
        written["Streamer"] <= 4 * flaps,
        "a Streamer's status was written more than four times a flap: {written:?}"
    );
    ensure!(
        written["Stream"] <= 4 * (flaps + 1) * held.len(),
        "Streams' statuses were written more than four times a flap: {written:?}"
    );
    site.await_condition(Kind::Streamer, "s1", "Ready", "True", "Polling").await?;
    site.finish().await
}
