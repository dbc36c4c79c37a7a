//! A sidecar freezes beside a streamer with streams that stop when it is cut off: its supervisor, which hears nothing of a lease any more,
//! kills the streamer, and only when it must be dead do these streams move. Not for an instant does anybody capture one of them twice.

use anyhow::{Context as _, Result, ensure};
use weir_e2e::registry::CutOff;
use weir_e2e::site::{Kind, Plan, Site, until};

#[tokio::test]
async fn stop_capturing_frozen_sidecar() -> Result<()> {
    let mut site = Site::start("stop_capturing_frozen_sidecar", Plan { supervised: true, ..Plan::default() }).await?;
    site.await_condition(Kind::Streamer, "s1", "Supervised", "True", "Supervised").await?;
    let names = site.apply_of_both_policies(6).await?;
    site.await_captured_once(&names).await?;
    let lost = site.read_by("s1");
    ensure!(lost.len() == 4, "s1 has {} streams", lost.len());

    let frozen = site.registry.now();
    site.streamer("s1")?.sidecar.child()?.pause()?;
    until("the supervisor kills s1", async || {
        let kills = site.streamer("s1")?.kills();
        ensure!(!kills.is_empty(), "it was not killed");
        ensure!(site.read_by("s1").is_empty(), "it still reads {:?}", site.read_by("s1"));
        Ok(())
    })
    .await?;
    let stopping = Site::stopping(&lost);
    let first = stopping.first().context("s1 has none that stops")?;
    let message = site.await_status(first, "Placed", "True", "HolderLost").await?;
    ensure!(message.contains("the stream moves at"), "{message}");
    until("the streams of s1 move", async || {
        let moved =
            names.iter().all(|name| site.readers().iter().any(|(who, read)| who != "s1" && read.contains(name)));
        ensure!(moved, "{:?}", site.readers());
        Ok(())
    })
    .await?;
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(names.difference(&lost), frozen)?;
    let dark = site.dark_since(&stopping, frozen);
    ensure!(dark.iter().all(|dark| !dark.is_zero()), "the streams moved before they had stopped: {dark:?}");
    site.tell_dark_by_policy("sidecar frozen, its streamer killed by its supervisor", &lost, frozen);

    // Thawed, it may serve those that go on until it has heard the operator: so long is it cut off.
    site.streamer("s1")?.sidecar.child()?.resume()?;
    site.await_condition(Kind::Streamer, "s1", "Ready", "True", "Polling").await?;
    let once = site.await_captured_once(&names).await?;
    ensure!(site.read_by("s1").is_empty(), "s1 captures again what has moved");
    site.cut_off.push(CutOff { streamer: "s1".to_owned(), from: frozen, to: Some(once) });
    // What excuses those that went on excuses no others.
    let going_on = &lost - &stopping;
    site.ensure_never_twice(&(&names - &going_on), frozen)?;
    site.finish().await
}
