//! What happens on any day, to streams of both policies: a drain, a sidecar that starts again, a change of leaders, a machine that dies,
//! alone and together with the leader. Only then do those that stop when they are cut off wait longer: until the dead one's lease is over.

use anyhow::{Result, ensure};
use serde_json::json;
use weir_e2e::site::{Kind, PERIODS, Plan, Site, until};
use weir_feed::periods::Periods;

#[tokio::test]
async fn stop_capturing_every_day() -> Result<()> {
    // A sidecar that starts has twice `silence` to hear of a lease, on a machine that is busy with other sites.
    let periods = Periods { silence: 2_500, period: 4_000, ..PERIODS };
    let plan = Plan { operators: 2, supervised: true, periods, ..Plan::default() };
    let mut site = Site::start("stop_capturing_every_day", plan).await?;
    let names = site.apply_of_both_policies(9).await?;
    site.await_captured_once(&names).await?;

    let restarted = site.registry.now();
    site.streamer("s1")?.sidecar.kill9().await?;
    site.streamer_mut("s1")?.sidecar.start()?;
    let leased = async |name: &str| {
        until(&format!("{name} has a lease"), async || {
            ensure!(site.streamer(name)?.metric("weir_sidecar_leased").await? > 0.0, "it has none");
            Ok(())
        })
        .await
    };
    leased("s1").await?;
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(&names, restarted)?;
    site.tell_dark_by_policy("sidecar killed and started again", &names, restarted);

    let led = site.registry.now();
    let leader = site.await_leader().await?;
    site.operators[leader].process.kill9().await?;
    let next = site.await_leader().await?;
    ensure!(next != leader, "a dead operator leads");
    site.await_streamers_ready().await?;
    site.ensure_undisturbed(&names, led)?;
    site.tell_dark_by_policy("leader killed", &names, led);

    let drained = site.registry.now();
    let held = site.read_by("s1");
    site.merge(Kind::Streamer, "s1", json!({"spec": {"drain": true}})).await?;
    until("s1 has no streams", async || {
        ensure!(site.read_by("s1").is_empty(), "it reads {:?}", site.read_by("s1"));
        Ok(())
    })
    .await?;
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(names.difference(&held), drained)?;
    site.tell_dark_by_policy("drain", &held, drained);
    site.merge(Kind::Streamer, "s1", json!({"spec": {"drain": false}})).await?;

    let lost = site.read_by("s2");
    let killed = site.registry.now();
    site.kill_streamer("s2").await?;
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(names.difference(&lost), killed)?;
    let dark = site.dark_since(&Site::stopping(&lost), killed);
    ensure!(!dark.is_empty(), "s2 had none that stops");
    let least = std::time::Duration::from_millis(site.periods().lease_over());
    // It was last heard a moment before it was killed: its last request, and a ping.
    let heard = std::time::Duration::from_millis(site.periods().poll + site.periods().ping);
    ensure!(dark.iter().all(|dark| *dark + heard >= least), "moved before its lease was over: {dark:?}");
    site.tell_dark_by_policy("streamer and sidecar killed", &lost, killed);

    site.streamer_mut("s2")?.start()?;
    site.await_streamers_ready().await?;
    site.operators[leader].process.start()?;
    let led = site.await_leader().await?;
    let lost = site.read_by("s3");
    ensure!(!lost.is_empty(), "s3 has no streams");
    let killed = site.registry.now();
    tokio::try_join!(site.operators[led].process.kill9(), site.kill_streamer("s3"))?;
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(names.difference(&lost), killed)?;
    site.tell_dark_by_policy("leader, a streamer and its sidecar killed at once", &lost, killed);
    site.finish().await
}
