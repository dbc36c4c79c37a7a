//! The API server never answers writes of one Placement (a webhook of somebody's hangs, say): streams in it stay where they are, and are
//! said to; all others fail over as ever. When it can be written again, it catches up.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use weir_e2e::api_proxy::{Asked, Deed};
use weir_e2e::site::{Kind, Plan, Site, until};

#[tokio::test]
async fn one_placement_unwritable() -> Result<()> {
    let site = Site::start("one_placement_unwritable", Plan { proxied: true, ..Plan::default() }).await?;
    let names = site.apply_streams(30).await?;
    site.await_captured_once(&names).await?;
    site.await_streamers_ready().await?;
    let lost = site.read_by("s2");
    let (placement, stuck) = placement_of(&site, lost.first().context("s2 has no streams")?).await?;
    let stuck: BTreeSet<String> = lost.intersection(&stuck).cloned().collect();
    let free: BTreeSet<String> = lost.difference(&stuck).cloned().collect();
    ensure!(!free.is_empty(), "all streams of s2 are in {placement}");

    let api = site.operators[0].api()?;
    let of_it = {
        let path = format!("/placements/{placement}");
        move |asked: &Asked| asked.writes("placements") && asked.path.ends_with(&path)
    };
    api.rule(move |asked| if of_it(asked) { Deed::Hang } else { Deed::Pass });
    let killed = site.registry.now();
    site.kill_streamer("s2").await?;
    let rest: BTreeSet<String> = names.difference(&stuck).cloned().collect();
    site.await_captured_once(&rest).await?;
    site.tell_dark("streamer killed, another Placement unwritable", &free, killed);
    until("the operator says what it cannot write", async || {
        let log = site.operators[0].process.log();
        ensure!(log.contains(&format!("{placement} could not be taken again")), "its log does not");
        ensure!(site.operators[0].metric("weir_leader").await? > 0.0, "it does not lead");
        ensure!(
            site.operators[0].metric("weir_placement_writes_total{result=\"unknown\"}").await? > 0.0,
            "its metrics do not"
        );
        Ok(())
    })
    .await?;

    // What is new is placed too, as long as it is not in that one.
    let mut all = rest.clone();
    for number in 1.. {
        let name = format!("new-{number}");
        if format!("placement-{:x}", weir_feed::digest::slice_of(&name)) != placement {
            all.extend(site.apply_named([name]).await?);
            break;
        }
    }
    site.await_captured_once(&all).await?;

    api.pass();
    all.extend(stuck.clone());
    site.await_captured_once(&all).await?;
    site.tell_dark("streamer killed, its own Placement unwritable for a while", &stuck, killed);
    site.ensure_undisturbed(names.difference(&lost), killed)?;
    for name in &stuck {
        site.await_event(Kind::Stream, name, "FailedOver").await?;
    }
    site.finish().await
}

/// The Placement that a stream's record is in, and the names of all streams in it.
async fn placement_of(site: &Site, stream: &str) -> Result<(String, BTreeSet<String>)> {
    for placement in site.list(Kind::Placement).await? {
        let records = placement["spec"]["records"].as_array().into_iter().flatten();
        let names: BTreeSet<String> = records.filter_map(|record| record["name"].as_str().map(str::to_owned)).collect();
        if names.contains(stream) {
            let name = placement["metadata"]["name"].as_str().context("a Placement without a name")?;
            return Ok((name.to_owned(), names));
        }
    }
    anyhow::bail!("no Placement has a record of {stream}")
}
