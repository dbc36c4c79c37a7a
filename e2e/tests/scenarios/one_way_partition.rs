//! The network between a sidecar and the operator loses what goes one way. Both ends notice by what they do not hear. For a moment,
//! nothing moves; for longer than `failover.after` the streams move, and both may capture them as `KeepCapturing` says; healed, one does.

use std::time::Duration;

use anyhow::{Result, ensure};
use weir_e2e::one_way_proxy::Direction;
use weir_e2e::registry::CutOff;
use weir_e2e::site::{Kind, PERIODS, Plan, Site, until};

/// Long enough to be noticed by both ends, and over before anything may move.
const MOMENT: Duration = Duration::from_millis(PERIODS.silence + 2 * PERIODS.ping);

async fn partition(name: &str, direction: Direction) -> Result<()> {
    let mut site = Site::prepare(name, &Plan { streamers: 2, ..Plan::default() }).await?;
    let proxy = site.add_streamer_behind_proxy("s3").await?;
    site.start_processes().await?;
    let names = site.apply_streams(30).await?;
    let captured = site.await_captured_once(&names).await?;
    let held = site.read_by("s3");
    ensure!(held.len() == 10, "s3 has {} streams", held.len());

    // A moment: the length is what this is about.
    let before = site.records().await?;
    proxy.keep_back(direction);
    tokio::time::sleep(MOMENT).await;
    proxy.heal();
    until("s3 is there again", async || {
        let s3 = site.streamer("s3")?;
        ensure!(s3.metric("weir_sidecar_feed_connected").await? > 0.0, "no operator listens to it");
        Ok(())
    })
    .await?;
    site.await_streamers_ready().await?;
    site.ensure_undisturbed(&names, captured)?;
    let after = site.records().await?;
    for (name, record) in &before {
        ensure!(after[name]["streamer"] == record["streamer"], "{name} moved: {record}, then {}", after[name]);
    }

    let from = site.registry.now();
    proxy.keep_back(direction);
    let sentence = site.await_condition(Kind::Streamer, "s3", "Ready", "False", "Silent").await?;
    ensure!(sentence.contains("reaches the operator"), "it does not say where to look: {sentence}");
    for name in &held {
        let sentence = site.await_event(Kind::Stream, name, "FailedOver").await?;
        ensure!(sentence.contains("s3"), "the Event does not say what happened: {sentence}");
    }
    site.await_captured_elsewhere(&held, "s3").await?;
    let both = held.iter().filter(|name| site.read_by("s3").contains(*name)).count();
    site.tell(&format!("cut off, {both} of {} streams are captured on both sides", held.len()));

    proxy.heal();
    let healed = site.registry.now();
    let once = site.await_captured_once(&names).await?;
    // Until it has heard an operator, and its streamer has polled: an excuse up to here, and no further.
    site.cut_off.push(CutOff { streamer: "s3".to_owned(), from, to: Some(once) });
    site.ensure_never_twice(&(&names - &held), from)?;
    site.tell(&format!("captured once {:.1?} after it was healed", once.saturating_sub(healed)));
    site.tell_dark(&format!("partition {direction:?}, longer than failover.after"), &held, from);
    site.await_streamers_ready().await?;
    ensure!(site.read_by("s3").is_empty(), "back: Stay moved something: s3 reads {:?}", site.read_by("s3"));
    site.ensure_undisturbed(names.difference(&held), captured)?;
    let log = site.streamer("s3")?.sidecar.log();
    // One that hears the operator all the while has nothing to notice.
    let noticed = matches!(direction, Direction::ToServer) || log.contains("no operator listens: the replica serves");
    ensure!(noticed, "the sidecar's log does not say it:\n{log}");
    site.finish().await
}

#[tokio::test]
async fn one_way_partition_that_the_sidecar_hears_nothing_through() -> Result<()> {
    partition("one_way_partition_to_the_sidecar", Direction::ToClient).await
}

#[tokio::test]
async fn one_way_partition_that_the_operator_hears_nothing_through() -> Result<()> {
    partition("one_way_partition_to_the_operator", Direction::ToServer).await
}
