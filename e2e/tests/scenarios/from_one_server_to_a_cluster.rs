//! A site over manifests becomes one of a cluster: what `weir-operator export` prints is applied there, the old operator stops, and the same
//! sidecars join the cluster's with tokens of `weir-operator token create`. Nothing moves, nothing is dark, and the cluster's operator rules.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use weir_e2e::site::{Kind, Place, Plan, Site, credentials, stream, until, url};

const PASSWORD: &str = "m0ves-with-us-5521";
/// Longer than the sidecars take to come to another operator.
const AFTER: &str = "10s";

/// Who has which stream, by the records.
fn holders(records: &BTreeMap<String, Value>) -> BTreeMap<&str, &str> {
    records.iter().filter_map(|(name, record)| Some((name.as_str(), record["streamer"].as_str()?))).collect()
}

#[tokio::test]
async fn from_one_server_to_a_cluster() -> Result<()> {
    let plan = Plan { place: Place::Manifests, ..Plan::default() };
    let mut site = Site::start("from_one_server_to_a_cluster", plan).await?;
    site.apply(&credentials("cam", &[("password", PASSWORD)])).await?;
    for number in 1..=20 {
        let name = format!("cam-{number}");
        let source = format!("rtsp://admin:${{secret:cam/password}}@camera/{name}");
        site.apply(stream(&name).url(&source).failover_after(AFTER).object()).await?;
    }
    let names = (1..=20).map(|number| format!("cam-{number}")).collect();
    let captured = site.await_captured_once(&names).await?;
    let before = site.records().await?;
    ensure!(before.len() == names.len(), "{} records of {} streams", before.len(), names.len());

    // While the old operator still runs.
    let destination = site.prepare_cluster().await?;
    let exported = site.export().await?;
    destination.apply(&exported).await?;
    let mut entries = Vec::new();
    for streamer in &site.streamers {
        entries.push(destination.entry(&site, &streamer.name).await?);
    }
    site.canaries.push(PASSWORD.to_owned());
    for entry in &entries {
        let token = std::fs::read_to_string(entry.token.as_ref().context("it has a token")?)?;
        site.canaries.push(token.trim().to_owned());
    }

    site.operators[0].process.stop().await?;
    for (streamer, entry) in site.streamers.iter_mut().zip(&entries) {
        streamer.sidecar.stop().await?;
        streamer.join(entry);
        streamer.sidecar.start()?;
    }
    site.move_to(destination);
    site.operators[0].process.start()?;
    site.await_leader().await?;
    site.await_streamers_ready().await?;
    for name in &names {
        site.await_status(name, "Captured", "True", "Running").await?;
    }

    // The Streams are other objects here, which records say as soon as they are written; who has them is as it was.
    until("records name the cluster's Streams", async || {
        let now = site.records().await?;
        ensure!(holders(&now) == holders(&before), "{:?} became {:?}", holders(&before), holders(&now));
        for stream in site.list(Kind::Stream).await? {
            let name = stream["metadata"]["name"].as_str().context("a Stream without a name")?;
            let record = now.get(name).with_context(|| format!("{name} has no record"))?;
            ensure!(record["uid"] == stream["metadata"]["uid"], "the record of {name} names another Stream");
            ensure!(record["epoch"].as_u64() > before[name]["epoch"].as_u64(), "the epoch of {name} did not grow");
        }
        Ok(())
    })
    .await?;
    site.ensure_undisturbed(&names, captured)?;
    let disputed = site.operators[0].metric("weir_streams_waiting{reason=\"Disputed\"}").await?;
    ensure!(disputed == 0.0, "the keys did not come along: {disputed} are disputed");

    // What is decided from here on is the cluster's to decide.
    let mut names = names;
    site.apply(stream("late").object()).await?;
    names.insert("late".to_owned());
    site.await_source("late", &url("late")).await?;
    let lost = site.read_by("s1");
    let killed = site.registry.now();
    site.kill_streamer("s1").await?;
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(names.difference(&lost), killed)?;
    let moved = site.records().await?;
    let still = holders(&moved).into_iter().filter(|(_, streamer)| *streamer == "s1").count();
    ensure!(still == 0, "{still} records still name s1");
    site.finish().await
}
