//! The example with the sidecar written out, in an installation without the webhook.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use weir_e2e::cluster::HOME;
use weir_e2e::control_plane::create_namespace;
use weir_e2e::site::{condition_of, until};

use crate::injection::{create, has_sidecar, pod, pods};
use crate::site::{CHART, PATIENCE, Site};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/without-webhook/workload.yaml");
const STREAM: &str = "without-webhook";

pub(crate) async fn the_example_without_the_webhook_captures_where_there_is_none(site: &'static Site) -> Result<()> {
    let captured = site.await_captured_once().await?;
    site.upgrade(CHART, &["--set", "webhook.enabled=false"]).await?;
    let left = site.kubectl(&["get", "mutatingwebhookconfigurations", "--output=name"]).await?;
    ensure!(!left.contains("weir"), "there is a webhook: {left}");
    let namespace = create_namespace(&site.client()?, "without-webhook").await?;
    site.kubectl(&["label", "namespace", &namespace, "pod-security.kubernetes.io/enforce=restricted"]).await?;
    await_bundle(site, &namespace).await?;
    let registry = format!("--from-literal=STREAMER_SIM_REGISTRY={}", site.registry.addr());
    site.kubectl(&["--namespace", &namespace, "create", "configmap", "streamer-sim", &registry]).await?;
    let file = tempfile::NamedTempFile::new()?;
    let images = format!("image: {}/", site.cluster.images());
    fs::write(file.path(), fs::read_to_string(EXAMPLE)?.replace(&format!("image: {HOME}/"), &images))?;
    let file = file.path().to_str().context("no UTF-8")?;
    site.kubectl(&["--namespace", &namespace, "apply", "--filename", file]).await?;
    let rollout = ["--namespace", &namespace, "rollout", "status", "statefulset/media", "--timeout=2m"];
    site.kubectl(&rollout).await?;
    await_streamers(site, &namespace, 3).await?;
    site.apply(&stream(&namespace, STREAM)).await?;
    let all = &site.streams | &BTreeSet::from([STREAM.to_owned()]);
    site.registry.await_each_once(&all, PATIENCE).await?;
    site.ensure_undisturbed(&site.streams, captured)?;
    site.ensure_never_twice()?;
    site.kubectl(&["delete", "namespace", &namespace, "--timeout=2m"]).await?;
    site.upgrade(CHART, &[]).await?;
    // It is made anew, and knows whom to trust when somebody leads.
    let pods = pods(site, "with-webhook").await?;
    until("pods get their sidecar again", async || {
        ensure!(has_sidecar(&create(&pods, &pod("labelled", true)).await?), "it has no sidecar");
        Ok(())
    })
    .await?;
    site.await_captured_once().await.map(drop)
}

/// Waits until sidecars of a namespace know whom to trust. A kubelet sees within two minutes what was not there when the pod was made;
/// here nobody waits for that.
pub(crate) async fn await_bundle(site: &Site, namespace: &str) -> Result<()> {
    until("whom to trust is known there", async || {
        site.kubectl(&["--namespace", namespace, "get", "configmap", "weir-ca"]).await.map(drop)
    })
    .await
}

/// Waits until so many Streamers of a namespace are Ready.
pub(crate) async fn await_streamers(site: &Site, namespace: &str, count: usize) -> Result<()> {
    until("every Streamer is Ready", async || {
        let streamers = site.list_in(namespace, "streamers.weir.dev").await?;
        let conditions: Vec<_> = streamers.iter().map(|streamer| condition_of(streamer, "Ready")).collect();
        let ready = conditions.iter().flatten().filter(|condition| condition["status"] == "True").count();
        ensure!(ready == count, "{ready} of {count}: {conditions:?}");
        Ok(())
    })
    .await
}

/// A Stream of that name, for whoever is in the namespace.
pub(crate) fn stream(namespace: &str, name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "weir.dev/v1alpha1",
        "kind": "Stream",
        "metadata": { "namespace": namespace, "name": name },
        "spec": { "inputs": [{ "url": "udp://239.0.0.1:1234" }] },
    })
}
