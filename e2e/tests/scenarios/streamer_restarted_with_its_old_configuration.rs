//! A streamer is started again with the configuration that it had before its streams were moved away, its sidecar running on. It captures
//! them from its boot until its first answered poll, which the protocol gives nobody a way to prevent, and then never again: whether an
//! operator is there or not.

use anyhow::{Result, ensure};
use serde_json::json;
use weir_e2e::site::{Kind, PATIENCE, PERIODS, Plan, Site, until};

#[tokio::test]
async fn streamer_restarted_with_its_old_configuration() -> Result<()> {
    let mut site = Site::start("streamer_restarted_with_its_old_configuration", Plan::default()).await?;
    let names = site.apply_streams(30).await?;
    site.await_captured_once(&names).await?;
    let old = site.read_by("s1");
    ensure!(old.len() == 10, "s1 has {} streams", old.len());
    let configuration = site.folder().join("s1-state.json");
    let kept = std::fs::read(&configuration)?;

    let drained = site.registry.now();
    site.merge(Kind::Streamer, "s1", json!({"spec": {"drain": true}})).await?;
    for name in &old {
        site.await_event(Kind::Stream, name, "Moved").await?;
    }
    let moved = site.await_captured_once(&names).await?;
    site.tell_dark("drained", &old, drained);
    let settled = site.readers();

    for with_operator in [true, false] {
        if !with_operator {
            site.operators[0].process.kill9().await?;
        }
        site.streamer("s1")?.sim.kill9().await?;
        std::fs::write(&configuration, &kept)?;
        site.streamer_mut("s1")?.sim.start()?;
        let doubled = |now: &weir_e2e::registry::NowReading| {
            let doubled = old.iter().filter(|name| now.get(*name).is_some_and(|readers| readers.len() == 2)).count();
            if doubled == old.len() { Ok(()) } else { Err(format!("{doubled} of its old streams are captured twice")) }
        };
        site.registry.await_until(doubled, PATIENCE).await?;
        let once = site.await_captured_once(&names).await?;
        let booted = site.registry.instances().into_iter().rfind(|instance| instance.reader.streamer == "s1");
        let booted = booted.map(|instance| instance.from).unwrap_or_default();
        let took = once.saturating_sub(booted);
        let there = if with_operator { "with an operator" } else { "without one" };
        site.tell(&format!(
            "{there} it let go of everything {took:.1?} after its boot; a poll is {} ms at most",
            PERIODS.poll
        ));
        ensure!(site.readers() == settled, "{there} others read: {:?}, then {:?}", settled, site.readers());
    }
    until("the sidecar's log says who answers", async || {
        let log = site.streamer("s1")?.sidecar.log();
        ensure!(log.contains("no operator listens: the replica serves"), "{log}");
        Ok(())
    })
    .await?;
    let dark = site.dark_since(&names, moved);
    ensure!(dark.iter().all(std::time::Duration::is_zero), "streams were dark where they had been moved to: {dark:?}");
    site.finish().await
}
