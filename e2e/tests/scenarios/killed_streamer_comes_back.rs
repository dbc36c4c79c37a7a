//! A streamer that was killed with its sidecar comes back with its old database and its old configuration. It captures what it had from
//! its boot until its first answered poll (the protocol gives nobody a way to keep it from that), and then never again: its streams stay
//! where they were moved to.

use anyhow::{Result, ensure};
use weir_e2e::site::{Plan, Site, until};

#[tokio::test]
async fn killed_streamer_comes_back() -> Result<()> {
    let mut site = Site::start("killed_streamer_comes_back", Plan::default()).await?;
    let names = site.apply_streams(30).await?;
    site.await_captured_once(&names).await?;
    let lost = site.read_by("s1");
    ensure!(lost.len() == 10, "s1 has {} streams", lost.len());

    site.kill_streamer("s1").await?;
    let moved = site.await_captured_once(&names).await?;
    let before = site.readers();
    let records = site.records().await?;
    for name in &lost {
        ensure!(records[name]["previous"] == "s1", "nobody remembers that s1 may come back: {}", records[name]);
    }

    site.streamer_mut("s1")?.start()?;
    // The source registry saw it: it booted with what it had.
    site.registry
        .await_until(
            |now| {
                let doubled =
                    lost.iter().filter(|name| now.get(*name).is_some_and(|readers| readers.len() == 2)).count();
                if doubled == lost.len() { Ok(()) } else { Err(format!("{doubled} of its streams are captured twice")) }
            },
            weir_e2e::site::PATIENCE,
        )
        .await?;
    let settled = site.await_captured_once(&names).await?;
    let booted = site.registry.instances().into_iter().rfind(|instance| instance.reader.streamer == "s1");
    let booted = booted.filter(|instance| instance.boot).expect("it was seen above");
    site.tell(&format!("let go of everything {:.1?} after its boot", settled.saturating_sub(booted.from)));

    until("the records forget s1", async || {
        let records = site.records().await?;
        let remembered: Vec<_> =
            records.iter().filter(|(_, record)| record["previous"] == "s1").map(|(name, _)| name).collect();
        ensure!(remembered.is_empty(), "{remembered:?} still name it as previous");
        Ok(())
    })
    .await?;
    site.await_streamers_ready().await?;
    ensure!(site.readers() == before, "back: Stay moved something: {:?} before, {:?} now", before, site.readers());
    site.ensure_undisturbed(names.difference(&lost), moved)?;
    for name in &lost {
        let dark = site.registry.dark(name, moved, site.registry.now());
        ensure!(dark.is_empty(), "{name} was dark when s1 came back: {dark:?}");
    }

    // It is a streamer like any other again: what is new goes to it.
    let mut all = names.clone();
    all.extend(site.apply_named((1..=10).map(|number| format!("new-{number}"))).await?);
    site.await_captured_once(&all).await?;
    let new = site.read_by("s1");
    ensure!(new.len() == 10 && new.iter().all(|name| name.starts_with("new-")), "s1 reads {new:?}");
    site.finish().await
}
