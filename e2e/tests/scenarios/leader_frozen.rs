//! The leading operator is frozen while sidecars are connected to it and writes of its are in flight; the standby takes over and carries
//! out the failover that the frozen one had begun. The writes in flight arrive late, the frozen one thaws: neither changes anything.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use weir_e2e::api_proxy::Deed;
use weir_e2e::site::{Kind, Plan, Site, until};

#[tokio::test]
async fn leader_frozen() -> Result<()> {
    let site =
        Site::start("leader_frozen", Plan { operators: 2, proxied: true, supervised: true, ..Plan::default() }).await?;
    let names = site.apply_of_both_policies(15).await?;
    site.await_captured_once(&names).await?;
    let old = site.await_leader().await?;
    let new = 1 - old;
    let (frozen, standby) = (&site.operators[old], &site.operators[new]);
    let old_term = frozen.metric("weir_term").await?;

    // Its failover of s3 leaves it and does not arrive; then it stands still, with every connection open.
    let lost = site.read_by("s3");
    let rest: BTreeSet<String> = names.difference(&lost).cloned().collect();
    let api = frozen.api()?;
    api.rule(|asked| if asked.writes("placements") { Deed::Hold } else { Deed::Pass });
    let killed = site.registry.now();
    site.kill_streamer("s3").await?;
    api.await_held().await?;
    frozen.process.child()?.pause()?;

    site.await_leads(new).await?;
    until("the sidecars are the new leader's", async || {
        let connected = standby.metric("weir_feed_connections").await?;
        ensure!(connected >= 2.0, "{connected} are connected to it");
        Ok(())
    })
    .await?;
    site.await_captured_once(&names).await?;
    site.tell_dark_by_policy("leader frozen, streamer killed", &lost, killed);
    let moved = site.registry.now();
    let records = site.records().await?;
    for name in &lost {
        let sentence = site.await_event(Kind::Stream, name, "FailedOver").await?;
        ensure!(sentence.contains("s3"), "the Event does not say what happened: {sentence}");
    }

    // The late writes are tested against a version and a term that are not there any more.
    api.rule(|asked| if asked.writes("placements") { Deed::Hold } else { Deed::Pass });
    let landed = api.release().await?;
    ensure!(!landed.is_empty(), "nothing was in flight");
    for late in &landed {
        ensure!(
            late.status.as_u16() == 422,
            "a write of the frozen leader was answered {}: {:?}",
            late.status,
            late.asked
        );
    }
    site.tell(&format!("{} late writes of the frozen leader, all refused", landed.len()));
    let streamers = |records: &std::collections::BTreeMap<String, serde_json::Value>| {
        let of = |(name, record): (&String, &serde_json::Value)| (name.clone(), record["streamer"].clone());
        records.iter().map(of).collect::<Vec<_>>()
    };
    ensure!(streamers(&site.records().await?) == streamers(&records), "a late write moved something");

    // Thawed, it has nothing to say: its Lease ran out, and its sidecars have left it.
    frozen.process.child()?.resume()?;
    until("the thawed leader stands by", async || {
        ensure!(frozen.metric("weir_leader").await? == 0.0, "it leads");
        ensure!(frozen.metric("weir_feed_connections").await? == 0.0, "sidecars are connected to it");
        ensure!(frozen.process.log().contains("stepping down"), "its log does not say so");
        Ok(())
    })
    .await?;
    api.pass();
    for late in api.release().await? {
        ensure!(
            late.status.is_client_error(),
            "a write of the thawed leader was answered {}: {:?}",
            late.status,
            late.asked
        );
    }
    frozen.await_ready().await?;
    ensure!(site.await_leader().await? == new, "the thawed one leads");
    let new_term = standby.metric("weir_term").await?;
    ensure!(new_term > old_term, "the term did not grow: {old_term}, then {new_term}");

    let mut all = names.clone();
    all.extend(site.apply_named(["late".to_owned()]).await?);
    site.await_captured_once(&all).await?;
    ensure!(standby.metric("weir_term").await? < new_term + 1.0, "the thawed one outbid the leader");
    site.ensure_undisturbed(&rest, killed)?;
    site.ensure_undisturbed(&lost, moved)?;
    site.finish().await
}
