//! The network loses what goes one way between a sidecar and the operator, for longer than any failover takes. Streams that go on are
//! captured on both sides, as their policy says; those that stop have stopped before anybody else is given them, and nobody is killed.

use anyhow::{Result, ensure};
use weir_e2e::one_way_proxy::Direction;
use weir_e2e::registry::CutOff;
use weir_e2e::site::{Plan, Site};

async fn cut_off(name: &str, direction: Direction) -> Result<()> {
    let plan = Plan { streamers: 2, supervised: true, ..Plan::default() };
    let mut site = Site::prepare(name, &plan).await?;
    let proxy = site.add_streamer_behind_proxy("s3").await?;
    site.start_processes().await?;
    let names = site.apply_of_both_policies(9).await?;
    let captured = site.await_captured_once(&names).await?;
    let held = site.read_by("s3");
    let stopping = Site::stopping(&held);
    let going_on = &held - &stopping;
    ensure!(!stopping.is_empty() && !going_on.is_empty(), "s3 has not both: {held:?}");

    let from = site.registry.now();
    proxy.keep_back(direction);
    site.await_captured_elsewhere(&held, "s3").await?;
    let read = site.read_by("s3");
    // One that hears the operator is told to let go of the others too.
    let goes_on = if direction == Direction::ToClient { read == going_on } else { read.is_subset(&going_on) };
    ensure!(goes_on, "cut off, s3 reads {read:?}");
    proxy.heal();
    let once = site.await_captured_once(&names).await?;
    site.cut_off.push(CutOff { streamer: "s3".to_owned(), from, to: Some(once) });
    site.tell_dark_by_policy(&format!("cut off, {direction:?} lost, for longer than any failover"), &held, from);
    site.await_streamers_ready().await?;

    // What excuses those that went on at s3 excuses no others.
    site.ensure_never_twice(&(&names - &going_on), from)?;
    let dark = site.dark_since(&stopping, from);
    ensure!(dark.iter().all(|dark| !dark.is_zero()), "they moved before they had stopped: {dark:?}");
    site.ensure_undisturbed(names.difference(&held), captured)?;
    ensure!(site.streamer("s3")?.kills().is_empty(), "s3 let go and was killed: {:?}", site.streamer("s3")?.kills());
    site.finish().await
}

#[tokio::test]
async fn stop_capturing_cut_off_from_what_the_operator_says() -> Result<()> {
    cut_off("stop_capturing_cut_off_to_the_sidecar", Direction::ToClient).await
}

#[tokio::test]
async fn stop_capturing_cut_off_from_what_the_sidecar_says() -> Result<()> {
    cut_off("stop_capturing_cut_off_to_the_operator", Direction::ToServer).await
}
