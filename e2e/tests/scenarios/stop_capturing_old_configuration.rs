//! A streamer that is killed for want of a lease has to boot with nothing. One that boots with what it had is shown, although it asks at
//! once, and is given no more streams that stop when they are cut off, until it has booted as it should.

use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use weir_e2e::site::{Kind, Plan, Site, until};

/// Whoever supervises it starts it again.
fn kill(site: &Site, name: &str) -> Result<()> {
    let pid = Pid::from_raw(site.streamer(name)?.supervised_pid()?);
    Ok(kill_process(pid.ok_or_else(|| anyhow::anyhow!("no pid"))?, Signal::KILL)?)
}

#[tokio::test]
async fn stop_capturing_old_configuration() -> Result<()> {
    let plan = Plan { streamers: 1, supervised: true, ..Plan::default() };
    let mut site = Site::prepare("stop_capturing_old_configuration", &plan).await?;
    let state = site.folder().join("s1-state.json");
    site.streamer_mut("s1")?.sim.flag("state", &state);
    site.start_processes().await?;
    let names = site.apply_of_both_policies(4).await?;
    site.await_captured_once(&names).await?;
    site.await_condition(Kind::Streamer, "s1", "Supervised", "True", "Supervised").await?;

    kill(&site, "s1")?;
    let sentence = site.await_condition(Kind::Streamer, "s1", "Supervised", "False", "BootsWithConfiguration").await?;
    ensure!(sentence.contains("captured 8 streams"), "it does not say how many: {sentence}");
    site.await_event(Kind::Streamer, "s1", "BootsWithConfiguration").await?;
    site.await_captured_once(&names).await?;
    let late = site.apply_named(["stop-late".to_owned()]).await?;
    let sentence = site.await_status("stop-late", "Placed", "False", "Unschedulable").await?;
    ensure!(sentence.contains("not supervised"), "{sentence}");

    // What the sentence says to do: it boots with an empty configuration.
    site.streamer("s1")?.sim.stop().await?;
    std::fs::remove_file(&state)?;
    site.streamer_mut("s1")?.sim.start()?;
    site.await_condition(Kind::Streamer, "s1", "Supervised", "True", "Supervised").await?;
    site.await_captured_once(&(&names | &late)).await?;
    until("nobody was killed for want of a lease", async || {
        let kills = site.streamer("s1")?.kills();
        ensure!(kills.iter().all(|why| why.contains("ended by itself")), "{kills:?}");
        Ok(())
    })
    .await?;
    site.finish().await
}
