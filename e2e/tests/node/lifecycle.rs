//! Weir is upgraded, stopped and taken away under streams that go on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::changed_chart::ChangedChart;
use crate::containers;
use crate::site::{CHART, MEDIA, SYSTEM, Site};

const NEXT: &str = "0.1.1-next";

/// Another tag, and back: no stream is dark for a moment.
pub(crate) async fn an_upgrade_and_its_rollback_stop_nothing(site: &'static Site) -> Result<()> {
    let captured = site.await_captured_once().await?;
    for image in ["weir-operator", "weir-sidecar"] {
        site.cluster.tag_image(image, env!("CARGO_PKG_VERSION"), NEXT).await?;
    }
    site.upgrade(CHART, &["--set", &format!("image.tag={NEXT}")]).await?;
    ensure!(images(site).await?.split_whitespace().all(|image| image.ends_with(NEXT)), "{}", images(site).await?);
    site.await_led().await?;
    site.helm(&["rollback", "weir", "--namespace", SYSTEM, "--wait", "--timeout=2m"]).await?;
    ensure!(!images(site).await?.contains(NEXT), "{}", images(site).await?);
    site.await_led().await?;
    site.ensure_undisturbed(&site.streams, captured)?;
    site.ensure_never_twice()
}

/// A field more in a CustomResourceDefinition: `helm upgrade` brings it, and nothing that is stored is lost.
pub(crate) async fn a_changed_definition_comes_with_an_upgrade(site: &'static Site) -> Result<()> {
    let captured = site.await_captured_once().await?;
    let before = specs(site).await?;
    let field = "              colour:\n                type: string\n";
    let chart = ChangedChart::with("files/crds/stream.yaml", "              disabled:\n", field)?;
    site.upgrade(&chart.path()?, &[]).await?;
    let patch = r#"{"spec":{"colour":"green"}}"#;
    site.kubectl(&["--namespace", MEDIA, "patch", "wst", "clock", "--type=merge", "--patch", patch]).await?;
    let mut after = specs(site).await?;
    let clock = after.get_mut("clock").and_then(Value::as_object_mut).context("no clock")?;
    ensure!(clock.remove("colour") == Some(json!("green")), "the new field is not stored: {clock:?}");
    ensure!(after == before, "the new definition changed Streams: {after:#?}, before {before:#?}");
    // Back to what the programs know: the field is not shown any more, and nothing else changes.
    site.upgrade(CHART, &[]).await?;
    let back = specs(site).await?;
    ensure!(back == before, "the old definition changed Streams: {back:#?}, before {before:#?}");
    site.await_led().await?;
    site.ensure_undisturbed(&site.streams, captured)?;
    site.ensure_never_twice()
}

/// What restarts meanwhile serves from its replica.
pub(crate) async fn without_an_operator_streams_go_on(site: &'static Site) -> Result<()> {
    site.await_captured_once().await?;
    let before = site.readers();
    scale(site, "operator", 0).await?;
    let alone = site.registry.now();
    let lost = site.read_by("media-1");
    containers::kill(site, "media-1", "streamer", "weir-streamer-sim").await?;
    site.await_captured_once().await?;
    containers::kill(site, "media-2", "weir-sidecar", "weir-sidecar").await?;
    containers::kill(site, "media-2", "streamer", "weir-streamer-sim").await?;
    let lost = &lost | &site.read_by("media-2");
    site.await_captured_once().await?;
    ensure!(site.readers() == before, "something moved: {:?}, before {before:?}", site.readers());
    site.tell_dark("node: containers are killed while there is no operator", &lost, alone);
    // Five minutes by a setting: nothing else happens in them.
    let long = std::env::var_os("WEIR_LONG").is_some();
    let until = alone + if long { Duration::from_mins(5) } else { Duration::from_secs(40) };
    let quiet = site.registry.now();
    tokio::time::sleep(until.saturating_sub(site.registry.now())).await;
    site.ensure_undisturbed(&site.streams, quiet)?;
    scale(site, "operator", 2).await?;
    site.await_led().await?;
    site.ensure_undisturbed(&site.streams, quiet)?;
    site.ensure_never_twice()
}

/// Streams go on, and all that users have declared stays; installed again, Weir takes over without moving anything.
pub(crate) async fn uninstalled_and_installed_again_nothing_moves(site: &'static Site) -> Result<()> {
    let captured = site.await_captured_once().await?;
    let (records, streams) = (site.records_in(MEDIA).await?, site.list("streams.weir.dev").await?.len());
    site.helm(&["uninstall", "weir", "--namespace", SYSTEM, "--wait", "--timeout=2m"]).await?;
    ensure!(site.list("streams.weir.dev").await?.len() == streams, "Streams went with the chart");
    ensure!(site.records_in(MEDIA).await? == records, "Placements went with the chart");
    let left = site.kubectl(&["--namespace", SYSTEM, "get", "deployments", "--output=name"]).await?;
    ensure!(left.trim().is_empty(), "left: {left}");
    let kinds = "customresourcedefinitions,mutatingwebhookconfigurations,clusterroles,clusterrolebindings";
    let left = site.kubectl(&["get", kinds, "--output=name"]).await?;
    let ours: Vec<&str> = left.lines().filter(|name| name.contains("weir")).collect();
    let kept = |name: &&str| name.starts_with("customresourcedefinition") && name.ends_with(".weir.dev");
    ensure!(ours.len() == 3 && ours.iter().all(kept), "left: {ours:?}");
    let streamers = site.list("streamers.weir.dev").await?.len();
    ensure!(streamers == 3, "{streamers} Streamers are left");
    site.upgrade(CHART, &[]).await?;
    let epochs = |records: &BTreeMap<String, Value>| -> Vec<_> {
        records
            .iter()
            .map(|(name, record)| (name.clone(), record["streamer"].clone(), record["epoch"].clone()))
            .collect()
    };
    ensure!(epochs(&site.records_in(MEDIA).await?) == epochs(&records), "records changed");
    site.ensure_undisturbed(&site.streams, captured)?;
    site.ensure_never_twice()
}

/// Each Stream's spec, by name.
async fn specs(site: &Site) -> Result<BTreeMap<String, Value>> {
    let streams = site.list("streams.weir.dev").await?;
    let each = streams.into_iter().map(|mut stream| {
        let name = stream["metadata"]["name"].as_str().context("no name")?.to_owned();
        Ok((name, stream["spec"].take()))
    });
    each.collect()
}

async fn images(site: &Site) -> Result<String> {
    let path = "--output=jsonpath={.items[*].spec.template.spec.containers[*].image}";
    site.kubectl(&["--namespace", SYSTEM, "get", "deployments", path]).await
}

pub(crate) async fn scale(site: &Site, component: &str, replicas: u32) -> Result<()> {
    let deployment = format!("deployment/weir-{component}");
    site.kubectl(&["--namespace", SYSTEM, "scale", &deployment, &format!("--replicas={replicas}")]).await?;
    if replicas > 0 {
        let rollout = ["--namespace", SYSTEM, "rollout", "status", &deployment, "--timeout=1m"];
        return site.kubectl(&rollout).await.map(drop);
    }
    let selector = format!("--selector=app.kubernetes.io/component={component}");
    site.kubectl(&["--namespace", SYSTEM, "wait", "--for=delete", "pods", &selector, "--timeout=1m"]).await.map(drop)
}
