//! A pod ends for good. One that nobody brings back moves its streams and is forgotten when its kubelet says that it has ended, and not
//! when its sidecar says goodbye; one that a StatefulSet brings back under its name is awaited.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weir_e2e::site::kubelet::ZONE;
use weir_e2e::site::{Kind, Plan, Site, stream};

/// Longer than the scenario takes: what moves did not wait for it.
const NEVER: &str = "10m";

async fn on(site: &Site, name: &str, streamer: &str) -> Result<bool> {
    Ok(site.records().await?.get(name).is_some_and(|record| record["streamer"] == streamer))
}

#[tokio::test]
async fn pod_ends() -> Result<()> {
    let mut site = Site::prepare("pod_ends", &Plan { streamers: 1, ..Plan::default() }).await?;
    site.add_pod("web-7f9c", "ReplicaSet", json!({"weir.dev/capacity-streams": "3", "weir.dev/roles": "ingest"}))
        .await?;
    site.add_pod("set-0", "StatefulSet", json!({})).await?;
    site.start_processes().await?;
    let made = site.get(Kind::Streamer, "web-7f9c").await?;
    ensure!(made["metadata"]["labels"]["topology.kubernetes.io/zone"] == ZONE, "it is not where its node is: {made}");
    ensure!(made["spec"]["roles"] == json!(["ingest"]) && made["spec"]["capacity"]["streams"] == 3, "{made}");
    let mut names = std::collections::BTreeSet::new();
    for number in 1..=9 {
        let name = format!("cam-{number}");
        site.apply(stream(&name).failover_after(NEVER).object()).await?;
        names.insert(name);
    }
    let mut captured = site.await_captured_once(&names).await?;
    let of_web = site.read_by("web-7f9c");
    ensure!(!of_web.is_empty() && of_web.len() <= 3, "it has {of_web:?}");

    // Somebody ends a sidecar, whose goodbye is heard while its streamer captures on.
    site.streamer("web-7f9c")?.sidecar.stop().await?;
    site.await_condition(Kind::Streamer, "web-7f9c", "Ready", "False", "Silent").await?;
    site.streamer_mut("web-7f9c")?.sidecar.start()?;
    site.await_streamers_ready().await?;
    site.ensure_undisturbed(&names, captured)?;

    // Its pod is deleted. The kubelet ends the streamer, then the sidecar, and says so last.
    site.delete_pod("web-7f9c").await?;
    let said = site.await_condition(Kind::Streamer, "web-7f9c", "Ready", "False", "Terminating").await?;
    ensure!(said.contains("moves at once"), "{said}");
    site.ensure_undisturbed(&names, captured)?;
    site.streamer("web-7f9c")?.sim.stop().await?;
    site.streamer("web-7f9c")?.sidecar.stop().await?;
    for name in &of_web {
        ensure!(on(&site, name, "web-7f9c").await?, "{name} has moved on the sidecar's word");
    }
    site.pod_has_ended("web-7f9c").await?;
    site.await_captured_once(&names).await?;
    for name in &of_web {
        let why = site.await_event(Kind::Stream, name, "Moved").await?;
        ensure!(why.contains("whose pod has ended"), "{why}");
    }
    site.ensure_undisturbed(names.difference(&of_web), captured)?;
    site.await_forgotten("web-7f9c").await?;
    captured = site.registry.now();
    let of_set = site.read_by("set-0");
    ensure!(!of_set.is_empty(), "set-0 has nothing");

    // One that comes back under its name is awaited, and nothing of it moves.
    site.delete_pod("set-0").await?;
    let said = site.await_condition(Kind::Streamer, "set-0", "Ready", "False", "Terminating").await?;
    ensure!(said.contains("waits for the pod of its name"), "{said}");
    site.streamer("set-0")?.sim.stop().await?;
    site.streamer("set-0")?.sidecar.stop().await?;
    site.pod_has_ended("set-0").await?;
    site.await_condition(Kind::Streamer, "set-0", "Ready", "False", "Silent").await?;
    for name in &of_set {
        site.await_status(name, "Placed", "True", "HolderLost").await?;
        ensure!(on(&site, name, "set-0").await?, "{name} has moved");
    }
    site.bring_back("set-0", "StatefulSet").await?;
    site.await_captured_once(&names).await?;
    ensure!(site.read_by("set-0") == of_set, "it has {:?}, and had {of_set:?}", site.read_by("set-0"));
    site.ensure_undisturbed(names.difference(&of_set), captured)?;
    let streamers: Vec<Value> = site.list(Kind::Streamer).await?;
    ensure!(streamers.len() == 2, "{streamers:?}");
    site.finish().await
}
