//! A streamer and its sidecar are killed at once, as when their machine loses power: the other streamers capture its streams, once.

use anyhow::{Result, ensure};
use weir_e2e::site::{Kind, Plan, Site};

#[tokio::test]
async fn streamer_and_sidecar_killed() -> Result<()> {
    let site = Site::start("streamer_and_sidecar_killed", Plan::default()).await?;
    let names = site.apply_streams(60).await?;
    site.await_captured_once(&names).await?;
    let lost = site.read_by("s1");
    ensure!(lost.len() == 20, "s1 has {} streams", lost.len());

    let killed = site.registry.now();
    site.kill_streamer("s1").await?;
    site.await_captured_once(&names).await?;
    ensure!(site.read_by("s1").is_empty(), "s1 is dead and reads");
    let counts: Vec<usize> = site.readers().values().map(std::collections::BTreeSet::len).collect();
    ensure!(counts == [30, 30], "its streams are not spread evenly: {counts:?}");
    site.ensure_undisturbed(names.difference(&lost), killed)?;

    let dark = site.dark_since(&lost, killed);
    ensure!(dark.iter().all(|dark| !dark.is_zero()), "a stream of a dead streamer was never dark: {dark:?}");
    site.tell_dark("streamer and sidecar killed", &lost, killed);

    site.await_condition(Kind::Streamer, "s1", "Ready", "False", "Silent").await?;
    for name in &lost {
        let sentence = site.await_event(Kind::Stream, name, "FailedOver").await?;
        ensure!(sentence.contains("s1"), "the Event does not say what happened: {sentence}");
        site.await_status(name, "Captured", "True", "Running").await?;
        let stream = site.get(Kind::Stream, name).await?;
        ensure!(stream["status"]["home"] == "s1" && stream["status"]["streamer"] != "s1", "{}", stream["status"]);
    }
    site.finish().await
}
