//! A streamer that is killed for want of a lease has to boot with nothing. One that boots with what it had is shown, although it asks at
//! once, and is given no more streams that stop when they are cut off, until it has booted as it should.

use anyhow::{Result, ensure};
use weir_e2e::site::{Kind, PERIODS, Plan, Site, until};
use weir_feed::periods::Periods;

/// Ends the streamer, and returns when its sidecar has noticed.
async fn end(site: &Site) -> Result<()> {
    let s1 = site.streamer("s1")?;
    let noticed = || s1.sidecar.log().matches("the streamer's own API cannot be read").count();
    let before = noticed();
    s1.sim.stop().await?;
    until("its sidecar has noticed", async || {
        ensure!(noticed() > before, "{before} times");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn stop_capturing_old_configuration() -> Result<()> {
    // A fifth of `poll` is how long a streamer waits for its first answer: three requests to its API end in it on a busy machine too.
    let periods = Periods { poll: 2_000, alive: 6_000, release: 7_000, kill: PERIODS.kill * 2, ..PERIODS };
    let plan = Plan { streamers: 1, supervised: true, periods, ..Plan::default() };
    let mut site = Site::prepare("stop_capturing_old_configuration", &plan).await?;
    let state = site.folder().join("s1-state.json");
    site.streamer_mut("s1")?.sim.flag("state", &state);
    site.start_processes().await?;
    let names = site.apply_of_both_policies(4).await?;
    site.await_captured_once(&names).await?;
    site.await_condition(Kind::Streamer, "s1", "Supervised", "True", "Supervised").await?;

    end(&site).await?;
    site.streamer_mut("s1")?.sim.start()?;
    let sentence = site.await_condition(Kind::Streamer, "s1", "Supervised", "False", "BootsWithConfiguration").await?;
    ensure!(sentence.contains("captured 8 streams"), "it does not say how many: {sentence}");
    site.await_event(Kind::Streamer, "s1", "BootsWithConfiguration").await?;
    site.await_captured_once(&names).await?;
    let late = site.apply_named(["stop-late".to_owned()]).await?;
    let sentence = site.await_status("stop-late", "Placed", "False", "Unschedulable").await?;
    ensure!(sentence.contains("not supervised"), "{sentence}");

    // What the sentence says to do: it boots with an empty configuration.
    end(&site).await?;
    std::fs::remove_file(&state)?;
    site.streamer_mut("s1")?.sim.start()?;
    site.await_condition(Kind::Streamer, "s1", "Supervised", "True", "Supervised").await?;
    site.await_captured_once(&(&names | &late)).await?;
    let kills = site.streamer("s1")?.kills();
    ensure!(kills.is_empty(), "killed for want of a lease: {kills:?}");
    site.finish().await
}
