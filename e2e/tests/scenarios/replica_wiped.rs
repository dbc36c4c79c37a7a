//! A sidecar's database is wiped while its streamer captures on. It answers 503 for as long as nobody has filled it again, never "no
//! streams"; it says what its streamer runs, and so gets exactly that back.

use std::fs;

use anyhow::{Result, ensure};
use weir_e2e::site::{Kind, Plan, Site, credentials, stream, until};

#[tokio::test]
async fn replica_wiped() -> Result<()> {
    let mut site = Site::start("replica_wiped", Plan::default()).await?;
    let names = site.apply_streams(30).await?;
    let captured = site.await_captured_once(&names).await?;
    let held = site.read_by("s1");
    let before = site.records().await?;

    // Nobody can fill it before it was seen to be empty.
    let operator = site.await_leader().await?;
    site.streamer("s1")?.sidecar.kill9().await?;
    site.operators[operator].process.child()?.pause()?;
    wipe(&site, "s1")?;
    site.streamer_mut("s1")?.sidecar.start()?;
    let s1 = site.streamer("s1")?;
    let first = until("the wiped sidecar answers", async || s1.answer().await).await?;
    ensure!(first.0 == 503, "the first answer was {}", first.0);
    until("the streamer is told 503 again and again", async || {
        let told = s1.metric("weir_sidecar_answers_total{asked=\"all\",code=\"503\"}").await?;
        let (yes, synced) = (
            s1.metric("weir_sidecar_answers_total{asked=\"all\",code=\"200\"}").await?,
            s1.metric("weir_sidecar_synced").await?,
        );
        ensure!(yes == 0.0 && synced == 0.0, "it knows nothing and answers: 200 {yes} times, synced {synced}");
        ensure!(told >= 3.0, "503 {told} times");
        Ok(())
    })
    .await?;
    let ready = s1.ready().await?;
    ensure!(ready.contains("no operator has filled this replica yet"), "/readyz does not say why: {ready}");
    site.operators[operator].process.child()?.resume()?;

    s1.await_answer(&held).await?;
    site.await_condition(Kind::Streamer, "s1", "Synced", "True", "Synced").await?;
    site.await_streamers_ready().await?;
    site.ensure_undisturbed(&names, captured)?;
    let after = site.records().await?;
    for (name, record) in &before {
        ensure!(after[name]["streamer"] == record["streamer"], "{name} moved: {record}, then {}", after[name]);
    }
    site.finish().await
}

/// Its Secret is gone as well: the stream cannot be given again, and goes on until it can.
#[tokio::test]
async fn replica_wiped_while_a_password_is_missing() -> Result<()> {
    let plan = Plan { streamers: 1, ..Plan::default() };
    let mut site = Site::start("replica_wiped_while_a_password_is_missing", plan).await?;
    let mut names = site.apply_streams(5).await?;
    let password = credentials("cam", &[("password", "Sesame-wiped-4402")]);
    site.canaries.push("Sesame-wiped-4402".to_owned());
    site.apply(&password).await?;
    site.apply(stream("locked").url("rtsp://admin:${secret:cam/password}@camera/locked").object()).await?;
    names.insert("locked".to_owned());
    let captured = site.await_captured_once(&names).await?;

    site.streamer("s1")?.sidecar.kill9().await?;
    site.delete(Kind::Secret, "cam").await?;
    site.await_status("locked", "Accepted", "False", "SecretNotFound").await?;
    wipe(&site, "s1")?;
    site.streamer_mut("s1")?.sidecar.start()?;
    let sentence = site.await_condition(Kind::Streamer, "s1", "ConfigAccepted", "False", "Withheld").await?;
    ensure!(sentence.contains("locked"), "it does not say which stream: {sentence}");
    site.await_event(Kind::Streamer, "s1", "Withheld").await?;
    site.ensure_undisturbed(&names, captured)?;

    site.apply(&password).await?;
    site.await_condition(Kind::Streamer, "s1", "ConfigAccepted", "True", "Loaded").await?;
    site.await_status("locked", "Accepted", "True", "Accepted").await?;
    site.streamer("s1")?.await_answer(&names).await?;
    site.ensure_undisturbed(&names, captured)?;
    site.finish().await
}

/// Removes everything from the data directory of a sidecar that does not run.
fn wipe(site: &Site, streamer: &str) -> Result<()> {
    let replica = &site.streamer(streamer)?.replica;
    for file in fs::read_dir(replica.parent().unwrap_or(replica))? {
        fs::remove_file(file?.path())?;
    }
    Ok(())
}
