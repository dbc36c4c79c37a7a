//! The Lease is deleted by hand, first under a running leader, then under a frozen one: nobody captures anything twice, and terms grow.

use anyhow::{Result, ensure};
use weir_e2e::site::{Kind, Plan, Site, until};

/// The Lease's name.
const LEASE: &str = "weir-operator";

#[tokio::test]
async fn lease_deleted() -> Result<()> {
    let site = Site::start("lease_deleted", Plan { operators: 2, supervised: true, ..Plan::default() }).await?;
    let names = site.apply_of_both_policies(15).await?;
    let captured = site.await_captured_once(&names).await?;
    let first = site.await_leader().await?;
    let uid = site.get(Kind::Lease, LEASE).await?["metadata"]["uid"].clone();
    let first_term = site.operators[first].metric("weir_term").await?;

    // A leader that runs makes it again before anybody else dares to: it goes on leading.
    site.delete(Kind::Lease, LEASE).await?;
    until("the Lease is there again", async || {
        let lease = site.get(Kind::Lease, LEASE).await?;
        ensure!(lease["metadata"]["uid"] != uid, "it is the old one");
        Ok(())
    })
    .await?;
    ensure!(site.await_leader().await? == first, "another leads");
    let kept = site.get(Kind::Lease, LEASE).await?;
    let said = kept["metadata"]["annotations"]["weir.dev/term"].as_str().unwrap_or_default().to_owned();
    ensure!(said.parse::<f64>()? >= first_term, "the new Lease says term {said}, the leader has {first_term}");

    // A frozen one cannot: the other waits as long as the frozen one may count on its Lease, and makes a new one.
    let second = 1 - first;
    let (frozen, standby) = (&site.operators[first], &site.operators[second]);
    let first_term = frozen.metric("weir_term").await?;
    frozen.process.child()?.pause()?;
    let gone = site.registry.now();
    site.delete(Kind::Lease, LEASE).await?;
    site.await_leads(second).await?;
    let took = site.registry.now().saturating_sub(gone);
    site.tell(&format!("led again {took:.1?} after the frozen leader's Lease was deleted"));
    let second_term = standby.metric("weir_term").await?;
    ensure!(second_term > first_term, "the term did not grow: {first_term}, then {second_term}");
    frozen.process.child()?.resume()?;
    until("the thawed leader stands by", async || {
        ensure!(frozen.metric("weir_leader").await? == 0.0, "it leads");
        ensure!(frozen.process.log().contains("stepping down"), "its log does not say so");
        Ok(())
    })
    .await?;
    ensure!(site.await_leader().await? == second, "the thawed one leads");
    site.await_streamers_ready().await?;
    site.ensure_undisturbed(&names, captured)?;

    // The new leader decides, alone.
    let lost = site.read_by("s1");
    let killed = site.registry.now();
    site.kill_streamer("s1").await?;
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(names.difference(&lost), captured)?;
    site.tell_dark_by_policy("after the Lease was deleted, streamer killed", &lost, killed);
    for placement in site.list(Kind::Placement).await? {
        let term = placement["spec"]["term"].as_f64().unwrap_or_default();
        ensure!(term >= second_term, "{} has term {term}, the leader {second_term}", placement["metadata"]["name"]);
    }
    site.finish().await
}
