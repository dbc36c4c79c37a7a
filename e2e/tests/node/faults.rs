//! What befalls streamers' pods.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::json;
use weir_e2e::node::NAME;
use weir_e2e::site::until;

use crate::containers;
use crate::site::{MEDIA, PATIENCE, Site};

/// It is back under its name before `failover.after`: nothing moves.
pub(crate) async fn a_deleted_pod_comes_back_to_its_streams(site: &'static Site) -> Result<()> {
    site.await_captured_once().await?;
    let before = site.readers();
    let streamer = site.busiest()?;
    let lost = site.read_by(&streamer);
    let (uid, deleted) = (site.uid(&streamer).await?, site.registry.now());
    site.kubectl(&["--namespace", MEDIA, "delete", "pod", &streamer, "--wait=false"]).await?;
    until("its pod is another", async || {
        ensure!(site.uid(&streamer).await? != uid, "not yet");
        Ok(())
    })
    .await?;
    site.await_captured_once().await?;
    ensure!(site.readers() == before, "something moved: {:?}, before {before:?}", site.readers());
    site.ensure_undisturbed(site.streams.difference(&lost), deleted)?;
    site.tell_dark("node: a streamer's pod is deleted and comes back", &lost, deleted);
    site.ensure_never_twice()
}

/// Scaled down it does not come back: everything moves.
pub(crate) async fn streams_leave_a_pod_that_is_scaled_away(site: &'static Site) -> Result<()> {
    site.await_captured_once().await?;
    let away = "media-3";
    let further = give(site, away).await?;
    let all = &site.streams | &further;
    site.registry.await_each_once(&all, PATIENCE).await?;
    let lost = site.read_by(away);
    ensure!(lost.is_superset(&further), "{away} captures {lost:?}");
    let scaled = site.registry.now();
    site.kubectl(&["--namespace", MEDIA, "scale", "statefulset", "media", "--replicas=2"]).await?;
    let moved = site.registry.await_until(
        |now| match now.iter().find(|(_, readers)| readers.iter().any(|reader| reader.streamer == away)) {
            Some((stream, _)) => Err(format!("{stream} is still read by {away}")),
            None => Ok(()),
        },
        PATIENCE,
    );
    moved.await?;
    site.registry.await_each_once(&all, PATIENCE).await?;
    site.ensure_undisturbed(all.difference(&lost), scaled)?;
    site.tell_dark("node: a StatefulSet is scaled down", &lost, scaled);
    site.kubectl(&["--namespace", MEDIA, "scale", "statefulset", "media", "--replicas=3"]).await?;
    let rollout = ["--namespace", MEDIA, "rollout", "status", "statefulset", "media", "--timeout=1m"];
    site.kubectl(&rollout).await?;
    site.ensure_never_twice()?;
    site.kubectl(&["--namespace", MEDIA, "delete", "wst", "--selector=further"]).await?;
    site.await_captured_once().await.map(drop)
}

/// Gives a streamer streams that are new, whatever it has: nobody else may have them at first.
async fn give(site: &Site, streamer: &str) -> Result<BTreeSet<String>> {
    let cordon = async |cordoned: bool| -> Result<()> {
        let patch = json!({ "spec": { "unschedulable": cordoned } }).to_string();
        let args = ["--namespace", MEDIA, "patch", "wsr", "--type=merge", "--patch", &patch];
        let others: Vec<&str> =
            ["media-1", "media-2", "media-3"].into_iter().filter(|name| *name != streamer).collect();
        site.kubectl(&[&args[..], &others].concat()).await.map(drop)
    };
    cordon(true).await?;
    let names: BTreeSet<String> = (1..=3).map(|number| format!("further-{number}")).collect();
    for name in &names {
        let stream = json!({
            "apiVersion": "weir.dev/v1alpha1",
            "kind": "Stream",
            "metadata": { "namespace": MEDIA, "name": name, "labels": { "further": "yes" } },
            "spec": { "inputs": [{ "url": "udp://239.0.0.1:1234" }], "failover": { "after": "10s" } },
        });
        site.apply(&stream).await?;
    }
    site.registry.await_each_once(&(&site.streams | &names), PATIENCE).await?;
    cordon(false).await?;
    Ok(names)
}

pub(crate) async fn a_killed_streamer_container_captures_again(site: &'static Site) -> Result<()> {
    site.await_captured_once().await?;
    let streamer = site.busiest()?;
    let (before, lost, killed) = (site.readers(), site.read_by(&streamer), site.registry.now());
    containers::kill(site, &streamer, "streamer", "weir-streamer-sim").await?;
    site.await_captured_once().await?;
    ensure!(site.readers() == before, "something moved: {:?}, before {before:?}", site.readers());
    site.ensure_undisturbed(site.streams.difference(&lost), killed)?;
    site.tell_dark("node: a streamer's container is killed", &lost, killed);
    site.ensure_never_twice()
}

pub(crate) async fn a_killed_sidecar_container_stops_nothing(site: &'static Site) -> Result<()> {
    let captured = site.await_captured_once().await?;
    let streamer = site.busiest()?;
    containers::kill(site, &streamer, "weir-sidecar", "weir-sidecar").await?;
    let name = format!("streamer.weir.dev/{streamer}");
    let ready = ["--namespace", MEDIA, "wait", "--for=condition=Ready", &name, "--timeout=1m"];
    site.kubectl(&ready).await?;
    site.ensure_undisturbed(&site.streams, captured)?;
    site.ensure_never_twice()
}

/// Long enough that Kubernetes gives the node up, with all that is on it: operators, webhooks, streamers.
pub(crate) async fn a_kubelet_that_is_gone_stops_nothing(site: &'static Site) -> Result<()> {
    let captured = site.await_captured_once().await?;
    let (before, node) = (uids(site).await?, site.cluster.node()?);
    node.stop_kubelet().await?;
    site.kubectl(&["wait", "--for=condition=Ready=Unknown", "node", NAME, "--timeout=2m"]).await?;
    node.start_kubelet().await?;
    site.kubectl(&["wait", "--for=condition=Ready", "node", NAME, "--timeout=1m"]).await?;
    let ready = ["--namespace", MEDIA, "wait", "--for=condition=Ready", "streamers.weir.dev", "--all", "--timeout=1m"];
    site.kubectl(&ready).await?;
    ensure!(uids(site).await? == before, "pods were made anew");
    site.ensure_undisturbed(&site.streams, captured)?;
    site.ensure_never_twice()
}

async fn uids(site: &Site) -> Result<BTreeSet<String>> {
    let text = site.kubectl(&["get", "pods", "--all-namespaces", "--output=jsonpath={.items[*].metadata.uid}"]).await?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}
