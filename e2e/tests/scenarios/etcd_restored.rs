//! etcd is restored from a copy that was taken before a failover. The operators notice that what they know is of another time, end, and
//! start anew; the records that came back are corrected from what the sidecars prove. No stream stops, none is captured twice.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use weir_e2e::site::{Kind, PATIENCE, PERIODS, Place, Plan, Site, until};
use weir_feed::periods::Periods;

/// What Kubernetes' documentation takes as an example: a billion revisions.
const BUMP: u64 = 1_000_000_000;

/// The Lease outlasts the API server's absence: its leader never stops leading, and hears of the restore from nobody.
#[tokio::test]
async fn etcd_restored_under_a_leader() -> Result<()> {
    let lease = 30_000;
    // What is served under a lease outlasts a change of leaders.
    let periods = Periods { lease, stream_lease: PERIODS.stream_lease - PERIODS.lease + lease, ..PERIODS };
    restored("etcd_restored_under_a_leader", Plan { periods, ..Plan::default() }, None).await
}

#[tokio::test]
async fn etcd_restored_with_a_bumped_revision() -> Result<()> {
    restored("etcd_restored_with_a_bumped_revision", Plan { operators: 2, ..Plan::default() }, Some(BUMP)).await
}

async fn restored(name: &str, plan: Plan, bump: Option<u64>) -> Result<()> {
    let mut site = Site::start(name, Plan { place: Place::Own, ..plan }).await?;
    let names = site.apply_streams(30).await?;
    site.await_captured_once(&names).await?;
    await_rest(&site).await?;
    let copy = site.cluster()?.copy_etcd()?;

    // A failover that the copy knows nothing of; the one that lost its streams is back, and could be given them again.
    let lost = site.read_by("s3");
    let killed = site.registry.now();
    site.kill_streamer("s3").await?;
    site.await_captured_once(&names).await?;
    site.tell_dark("streamer killed before the restore", &lost, killed);
    site.streamer_mut("s3")?.start()?;
    site.await_streamers_ready().await?;
    await_rest(&site).await?;
    let captured = site.await_captured_once(&names).await?;
    let before = site.records().await?;

    site.cluster()?.restore_etcd(&copy, bump).await?;
    let restored = site.registry.now();
    for operator in &mut site.operators {
        let status = tokio::time::timeout(PATIENCE, operator.process.child()?.wait()).await;
        let status = status.with_context(|| format!("{} goes on", operator.process.name()))?;
        ensure!(status.code() == Some(1), "{} ended with {status}", operator.process.name());
        let log = operator.process.log();
        ensure!(log.contains("the API server's storage went back in time"), "it does not say why it ends: {log}");
        // As whoever supervises it does.
        operator.process.start()?;
    }
    site.await_leader().await?;
    site.await_streamers_ready().await?;
    until("the records are what they were before the restore", async || {
        let records = site.records().await?;
        for (name, old) in &before {
            let new = records.get(name).with_context(|| format!("{name} has no record"))?;
            ensure!(new["streamer"] == old["streamer"], "{name} was on {}, is on {}", old["streamer"], new["streamer"]);
            let corrected = !lost.contains(name) || new["epoch"].as_u64() > old["epoch"].as_u64();
            ensure!(corrected, "the epoch of {name} was {}, is {}", old["epoch"], new["epoch"]);
        }
        Ok(())
    })
    .await?;
    let took = site.registry.now().saturating_sub(restored);
    site.tell(&format!("the records were right again {took:.1?} after the restore"));
    for name in &lost {
        let sentence = site.await_event(Kind::Stream, name, "Corrected").await?;
        ensure!(sentence.contains("restore"), "the Event does not say what happened: {sentence}");
    }
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(&names, captured)?;
    ensure!(!lost.is_empty() && readers_of(&site) == holders(&before), "a stream is read by another than before");

    // What is decided from now on is decided as before.
    let lost = site.read_by("s1");
    let killed = site.registry.now();
    site.kill_streamer("s1").await?;
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(names.difference(&lost), captured)?;
    site.tell_dark("streamer killed after the restore", &lost, killed);
    site.finish().await
}

/// Waits until no record waits for anything.
async fn await_rest(site: &Site) -> Result<()> {
    until("the records rest", async || {
        for (name, record) in site.records().await? {
            ensure!(record["previous"].is_null() && record["phase"] == "Active", "{name} is {record}");
        }
        Ok(())
    })
    .await
}

fn holders(records: &BTreeMap<String, serde_json::Value>) -> BTreeMap<String, String> {
    let of =
        |(name, record): (&String, &serde_json::Value)| Some((name.clone(), record["streamer"].as_str()?.to_owned()));
    records.iter().filter_map(of).collect()
}

fn readers_of(site: &Site) -> BTreeMap<String, String> {
    let readers = site.readers().into_iter();
    readers.flat_map(|(streamer, streams)| streams.into_iter().map(move |stream| (stream, streamer.clone()))).collect()
}
