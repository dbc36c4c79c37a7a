//! The leading operator is killed while another stands by: nothing goes dark, the other takes over, and a streamer that is killed after
//! that fails over as before.

use anyhow::{Result, ensure};
use weir_e2e::site::{Kind, Plan, Site};

#[tokio::test]
async fn leader_killed() -> Result<()> {
    let mut site = Site::start("leader_killed", Plan { operators: 2, ..Plan::default() }).await?;
    let names = site.apply_streams(30).await?;
    let captured = site.await_captured_once(&names).await?;
    let leader = site.await_leader().await?;
    let old_term = site.operators[leader].metric("weir_term").await?;

    let killed = site.registry.now();
    site.operators[leader].process.kill9().await?;
    let new_leader = site.await_leader().await?;
    ensure!(new_leader != leader, "a dead operator leads");
    let took = site.registry.now().saturating_sub(killed);
    site.tell(&format!("led again {took:.1?} after the leader was killed"));
    let new_term = site.operators[new_leader].metric("weir_term").await?;
    ensure!(new_term > old_term, "the term did not grow: {old_term}, then {new_term}");
    site.await_streamers_ready().await?;

    // The new leader places what is new, and moves what is lost.
    let mut all = names.clone();
    all.extend(site.apply_named(["late".to_owned()]).await?);
    site.await_captured_once(&all).await?;
    site.ensure_undisturbed(&names, captured)?;

    let lost = site.read_by("s2");
    ensure!(!lost.is_empty(), "s2 has no streams");
    let killed = site.registry.now();
    site.kill_streamer("s2").await?;
    site.await_captured_once(&all).await?;
    site.ensure_undisturbed(all.difference(&lost), killed)?;
    site.tell_dark("leader killed, then a streamer", &lost, killed);

    // The killed one comes back as a standby, and disturbs nobody.
    site.operators[leader].process.start()?;
    site.operators[leader].await_ready().await?;
    ensure!(site.await_leader().await? == new_leader, "the one that came back leads");
    site.await_condition(Kind::Streamer, "s2", "Ready", "False", "Silent").await?;
    site.finish().await
}
