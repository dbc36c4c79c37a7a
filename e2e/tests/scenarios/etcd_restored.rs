//! etcd is restored from a copy that was taken before a failover. The operators notice that what they know is of another time, end, and
//! start anew; the records that came back are corrected from what the sidecars prove. No stream stops, none is captured twice.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use weir_e2e::site::{Kind, PATIENCE, PERIODS, Place, Plan, Process, Site, until};
use weir_feed::periods::Periods;

/// What Kubernetes' documentation takes as an example: a billion revisions.
const BUMP: u64 = 1_000_000_000;

/// The Lease outlasts the API server's absence: its leader never stops leading, and hears of the restore from nobody.
#[tokio::test]
async fn etcd_restored_under_a_leader() -> Result<()> {
    let lease = 30_000;
    // What is served under a lease outlasts a change of leaders.
    let periods = Periods { lease, stream_lease: PERIODS.stream_lease - PERIODS.lease + lease, ..PERIODS };
    let mut site = site("etcd_restored_under_a_leader", Plan { periods, ..Plan::default() }).await?;
    let names = site.apply_streams(30).await?;
    restored(&mut site, &names, Operators::Notice, None).await?;
    site.finish().await
}

#[tokio::test]
async fn etcd_restored_with_a_bumped_revision() -> Result<()> {
    let mut site = site("etcd_restored_with_a_bumped_revision", Plan { operators: 2, ..Plan::default() }).await?;
    let names = site.apply_streams(30).await?;
    restored(&mut site, &names, Operators::Notice, Some(BUMP)).await?;
    site.finish().await
}

/// As README says to; for longer than a lease, so that streams that stop when they are cut off have stopped.
#[tokio::test]
async fn etcd_restored_while_the_operators_are_stopped() -> Result<()> {
    let plan = Plan { operators: 2, supervised: true, ..Plan::default() };
    let mut site = site("etcd_restored_while_the_operators_are_stopped", plan).await?;
    let names = site.apply_of_both_policies(15).await?;
    restored(&mut site, &names, Operators::AreStopped, Some(BUMP)).await?;
    for streamer in &site.streamers {
        ensure!(streamer.kills().is_empty(), "{} let go and was killed: {:?}", streamer.name, streamer.kills());
    }
    site.finish().await
}

/// From a copy of before there were any: neither Streams nor records are left, and what sidecars serve is held until somebody has applied
/// the Streams again.
#[tokio::test]
async fn etcd_restored_to_before_the_streams() -> Result<()> {
    // As with Weir's own periods, a sidecar asks again several times in one: the last to come is not too late.
    let periods = Periods { period: 6_000, ..PERIODS };
    let mut site = site("etcd_restored_to_before_the_streams", Plan { periods, ..Plan::default() }).await?;
    let copy = site.cluster()?.copy_etcd()?;
    let names = site.apply_streams(30).await?;
    let captured = site.await_captured_once(&names).await?;
    let readers = readers_of(&site);

    site.operators[0].process.stop().await?;
    site.cluster()?.restore_etcd(&copy, Some(BUMP)).await?;
    site.operators[0].process.start()?;
    site.await_leader().await?;
    for streamer in &site.streamers {
        let sentence = site.await_condition(Kind::Streamer, &streamer.name, "Synced", "False", "StraysHeld").await?;
        ensure!(sentence.contains("unless their Streams are there again"), "it does not say what to do: {sentence}");
        site.await_event(Kind::Streamer, &streamer.name, "StraysHeld").await?;
    }
    ensure!(site.list(Kind::Stream).await?.is_empty(), "the copy had Streams");
    site.ensure_undisturbed(&names, captured)?;

    site.apply_streams(30).await?;
    for streamer in &site.streamers {
        site.await_condition(Kind::Streamer, &streamer.name, "Synced", "True", "Synced").await?;
    }
    for name in &names {
        site.await_status(name, "Captured", "True", "Running").await?;
    }
    ensure!(readers_of(&site) == readers, "something moved: {:?}, before {readers:?}", readers_of(&site));
    site.ensure_undisturbed(&names, captured)?;
    site.finish().await
}

/// Who sees to it that no operator goes on with what it knew before the restore.
#[derive(Clone, Copy, PartialEq)]
enum Operators {
    Notice,
    AreStopped,
}

async fn site(name: &str, plan: Plan) -> Result<Site> {
    Site::start(name, Plan { place: Place::Own, ..plan }).await
}

async fn restored(site: &mut Site, names: &BTreeSet<String>, operators: Operators, bump: Option<u64>) -> Result<()> {
    site.await_captured_once(names).await?;
    await_rest(site).await?;
    let stopping = Site::stopping(names);
    let copy = site.cluster()?.copy_etcd()?;

    // A failover that the copy knows nothing of; the one that lost its streams is back, and could be given them again.
    let lost = site.read_by("s3");
    let killed = site.registry.now();
    site.kill_streamer("s3").await?;
    site.await_captured_once(names).await?;
    site.tell_dark_by_policy("streamer killed before the restore", &lost, killed);
    site.streamer_mut("s3")?.start()?;
    site.await_streamers_ready().await?;
    await_rest(site).await?;
    let captured = site.await_captured_once(names).await?;
    let before = site.records().await?;

    if operators == Operators::AreStopped {
        for operator in &site.operators {
            operator.process.stop().await?;
        }
        for name in &stopping {
            site.await_dark(name).await?;
        }
    }
    site.cluster()?.restore_etcd(&copy, bump).await?;
    let restored = site.registry.now();
    for operator in &mut site.operators {
        if operators == Operators::Notice {
            ends(&operator.process).await?;
        }
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
    site.await_captured_once(names).await?;
    site.ensure_undisturbed(names.difference(&stopping), captured)?;
    ensure!(!lost.is_empty() && readers_of(site) == holders(&before), "a stream is read by another than before");

    // What is decided from now on is decided as before.
    let lost = site.read_by("s1");
    let killed = site.registry.now();
    site.kill_streamer("s1").await?;
    site.await_captured_once(names).await?;
    site.ensure_undisturbed(names.difference(&(&lost | &stopping)), captured)?;
    site.ensure_undisturbed(names.difference(&lost), killed)?;
    site.tell_dark_by_policy("streamer killed after the restore", &lost, killed);
    Ok(())
}

/// An operator ends by itself and says why; whoever supervises it starts it again.
async fn ends(operator: &Process) -> Result<()> {
    let status = tokio::time::timeout(PATIENCE, operator.child()?.wait()).await;
    let status = status.with_context(|| format!("{} goes on", operator.name()))?;
    ensure!(status.code() == Some(1), "{} ended with {status}", operator.name());
    let log = operator.log();
    ensure!(log.contains("the API server's storage went back in time"), "it does not say why it ends: {log}");
    Ok(())
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
