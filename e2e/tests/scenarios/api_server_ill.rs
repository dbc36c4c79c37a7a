//! The API server is there and does not help: it answers 429 to everything, it accepts requests and never answers, it resets connections.
//! Nothing stops; the operator comes back by itself each time, and decides as before.

use std::time::Duration;

use anyhow::{Result, ensure};
use weir_e2e::api_proxy::{Asked, Deed};
use weir_e2e::site::{Kind, PERIODS, Plan, Site, until};

/// As long against the shrunk periods as a minute is against the real ones: four leases.
const ILL: Duration = Duration::from_millis(PERIODS.lease * 4);

#[tokio::test]
async fn api_server_answers_429() -> Result<()> {
    ill("api_server_answers_429", |_| Deed::too_many_requests(1)).await
}

#[tokio::test]
async fn api_server_hangs() -> Result<()> {
    ill("api_server_hangs", |_| Deed::Hang).await
}

#[tokio::test]
async fn api_server_resets_connections() -> Result<()> {
    ill("api_server_resets_connections", |_| Deed::Reset).await
}

async fn ill(name: &str, symptom: impl Fn(&Asked) -> Deed + Send + Clone + 'static) -> Result<()> {
    let mut site = Site::start(name, Plan { proxied: true, ..Plan::default() }).await?;
    let names = site.apply_streams(30).await?;
    let captured = site.await_captured_once(&names).await?;
    site.await_streamers_ready().await?;

    let (operator, api) = (&site.operators[0], site.operators[0].api()?);
    api.rule(symptom.clone());
    api.cut();
    let fell_ill = site.registry.now();
    until("the operator leads no more", async || {
        ensure!(operator.metric("weir_leader").await? == 0.0, "it leads");
        Ok(())
    })
    .await?;
    // A sidecar that starts meanwhile cannot be told whose its token is, and answers from its replica.
    let streamer = site.streamer_mut("s2")?;
    streamer.sidecar.kill9().await?;
    streamer.sidecar.start()?;
    until("the sidecar answers from its replica", async || {
        let (status, streams) = site.streamer("s2")?.answer().await?;
        ensure!(status == 200 && streams.len() == 10, "it answers {status} and {} streams", streams.len());
        Ok(())
    })
    .await?;
    let lost = site.read_by("s3");
    let killed = site.registry.now();
    site.kill_streamer("s3").await?;
    // The time is what this scenario is about: it is not waited for anything.
    tokio::time::sleep(ILL.saturating_sub(site.registry.now().saturating_sub(fell_ill))).await;
    site.ensure_undisturbed(names.difference(&lost), captured)?;
    let operator = &site.operators[0];
    ensure!(operator.process.is_running(), "the operator has ended: {}", operator.process.log());

    operator.api()?.pass();
    let well = site.registry.now();
    site.await_leads(0).await?;
    site.await_captured_once(&names).await?;
    let took = site.registry.now().saturating_sub(well);
    site.tell(&format!("everything was captured again {took:.1?} after the API server was well"));
    site.tell_dark("killed while the API server was ill", &lost, killed);
    let mut all = names.clone();
    all.extend(site.apply_named((1..=6).map(|number| format!("new-{number}"))).await?);
    site.await_captured_once(&all).await?;
    site.ensure_undisturbed(names.difference(&lost), captured)?;
    site.await_condition(Kind::Streamer, "s3", "Ready", "False", "Silent").await?;
    site.finish().await
}
