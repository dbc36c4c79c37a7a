//! The API server is down for a while that is long against every period (as a minute is against the real ones): nothing stops but what is
//! to stop when it is cut off. A streamer that is killed meanwhile fails over when it is back, and what is applied then is captured.

use std::time::Duration;

use anyhow::{Result, ensure};
use weir_e2e::site::{PERIODS, Place, Plan, Site, until};

/// As long against the shrunk periods as a minute is against the real ones: four leases.
const OUTAGE: Duration = Duration::from_millis(PERIODS.lease * 4);

#[tokio::test]
async fn api_server_down() -> Result<()> {
    let plan = Plan { place: Place::Own, operators: 2, supervised: true, ..Plan::default() };
    let site = Site::start("api_server_down", plan).await?;
    let stopping = site.apply_stopping(15).await?;
    let going_on = site.apply_streams(15).await?;
    let names = &stopping | &going_on;
    let captured = site.await_captured_once(&names).await?;

    site.cluster()?.kill_api_server().await?;
    let down = site.registry.now();
    until("no operator leads without an API server", async || {
        for operator in &site.operators {
            ensure!(operator.metric("weir_leader").await? == 0.0, "{} leads", operator.process.name());
        }
        Ok(())
    })
    .await?;
    // The time is what this scenario is about: it is not waited for anything.
    tokio::time::sleep(OUTAGE.saturating_sub(site.registry.now().saturating_sub(down))).await;
    site.ensure_undisturbed(&going_on, captured)?;
    for name in &stopping {
        site.await_dark(name).await?;
    }

    let lost = site.read_by("s3");
    ensure!(!lost.is_empty(), "s3 has no streams");
    let killed = site.registry.now();
    site.kill_streamer("s3").await?;
    for operator in &site.operators {
        ensure!(operator.process.is_running(), "{} has ended", operator.process.name());
    }

    site.cluster()?.start_api_server().await?;
    let up = site.registry.now();
    site.tell(&format!("the API server was down for {:.1?}", up.saturating_sub(down)));
    site.await_leader().await?;
    site.await_captured_once(&names).await?;
    site.tell_dark("the API server down, with a streamer that is killed meanwhile (StopCapturing)", &stopping, down);
    site.tell_dark("the API server down, with a streamer that is killed meanwhile (KeepCapturing)", &lost, killed);

    let mut all = names.clone();
    all.extend(site.apply_named((1..=6).map(|number| format!("new-{number}"))).await?);
    site.await_captured_once(&all).await?;
    site.ensure_undisturbed(going_on.difference(&lost), captured)?;
    site.finish().await
}
