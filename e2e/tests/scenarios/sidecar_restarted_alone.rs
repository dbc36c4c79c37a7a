//! A sidecar is killed and comes back while everything above it is down: operators, API server, etcd. It answers 503 until it may believe
//! that nobody will tell it more, then from its replica; its streamer captures all the time.

use anyhow::{Result, ensure};
use weir_e2e::site::{Place, Plan, Site, until};

#[tokio::test]
async fn sidecar_restarted_alone() -> Result<()> {
    let mut site = Site::start("sidecar_restarted_alone", Plan { place: Place::Own, ..Plan::default() }).await?;
    let names = site.apply_streams(30).await?;
    let captured = site.await_captured_once(&names).await?;
    let held = site.read_by("s1");

    site.operators[0].process.kill9().await?;
    site.cluster()?.kill_api_server().await?;
    site.cluster()?.kill_etcd().await?;
    site.streamer("s1")?.sidecar.kill9().await?;
    site.streamer_mut("s1")?.sidecar.start()?;

    let s1 = site.streamer("s1")?;
    let first = until("the sidecar answers", async || s1.answer().await).await?;
    ensure!(first.0 == 503, "the first answer was {}: it could not know yet that nobody has more to say", first.0);
    let streams = until("the sidecar answers from its replica", async || {
        let (status, streams) = s1.answer().await?;
        ensure!(status == 200, "it answers {status}");
        Ok(streams)
    })
    .await?;
    let answered: std::collections::BTreeSet<String> =
        streams.iter().filter_map(|stream| stream["name"].as_str()).map(str::to_owned).collect();
    ensure!(answered == held, "it answers {answered:?}, and held {held:?}");

    // The streamer has taken that answer, more than once, and nothing went dark, here or elsewhere.
    let answers = "weir_sidecar_answers_total{asked=\"all\",code=\"200\"}";
    let before = s1.metric(answers).await?;
    ensure!(before > 0.0, "there is no {answers} in {}", s1.metrics().await?);
    until("the streamer polls", async || {
        let now = s1.metric(answers).await?;
        ensure!(now >= before + 2.0, "{answers} was {before} and is {now}");
        Ok(())
    })
    .await?;
    site.ensure_undisturbed(&names, captured)?;
    site.finish().await
}
