//! Pods that nobody brings back: their streams move at once, by their kubelet's word, or before they go.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use weir_e2e::control_plane::create_namespace;
use weir_e2e::registry::describe;
use weir_e2e::site::until;

use crate::site::{PATIENCE, Site};

const STREAMS: usize = 6;

/// A pod of a Deployment is deleted: its streams are captured elsewhere long before `failover.after`, and its Streamer goes with it.
pub(crate) async fn a_pod_that_nobody_brings_back_is_forgotten_at_once(site: &'static Site) -> Result<()> {
    pod_is_deleted(site, "ended", &json!({}), "whose pod has ended").await
}

/// With `weir.dev/drain-on-stop` they have moved before its streamer is ended.
pub(crate) async fn a_pod_that_drains_has_let_go_before_it_ends(site: &'static Site) -> Result<()> {
    let drains = json!({ "weir.dev/drain-on-stop": "true" });
    pod_is_deleted(site, "drains", &drains, "which has let go of it").await
}

async fn pod_is_deleted(site: &Site, purpose: &str, annotations: &serde_json::Value, why: &str) -> Result<()> {
    let captured = site.await_captured_once().await?;
    let namespace = create_namespace(&site.client()?, purpose).await?;
    let streams: BTreeSet<String> = (0..STREAMS).map(|number| format!("{purpose}/{number}")).collect();
    site.apply(&deployment(site, &namespace, annotations)).await?;
    let rollout = ["--namespace", &namespace, "rollout", "status", "deployment/media", "--timeout=1m"];
    site.kubectl(&rollout).await?;
    for name in &streams {
        site.apply(&stream(&namespace, name)).await?;
    }
    let all = &site.streams | &streams;
    site.registry.await_each_once(&all, PATIENCE).await?;
    let (_, streamer) = site.readers().into_iter().find(|(stream, _)| streams.contains(stream)).context("no reader")?;
    let lost: BTreeSet<String> = site.read_by(&streamer);
    let deleted = site.registry.now();

    site.kubectl(&["--namespace", &namespace, "delete", "pod", &streamer, "--wait=false"]).await?;
    let moved = site.registry.await_until(
        |now| {
            let read = |stream: &&String| now.get(*stream).into_iter().flatten().any(|by| by.streamer != streamer);
            if lost.iter().all(|stream| read(&stream)) { Ok(()) } else { Err(describe(now)) }
        },
        PATIENCE,
    );
    moved.await?;
    site.registry.await_each_once(&all, PATIENCE).await?;
    site.tell_dark(&format!("node: a pod of a Deployment is deleted ({purpose})"), &lost, deleted);
    until("an Event says why they moved", async || {
        let events = site.kubectl(&["--namespace", &namespace, "get", "events"]).await?;
        ensure!(events.contains(why), "no Event says {why:?}:\n{events}");
        Ok(())
    })
    .await?;
    until("its Streamer is forgotten", async || {
        let streamers = site.kubectl(&["--namespace", &namespace, "get", "wsr", "--output=name"]).await?;
        ensure!(!streamers.contains(&streamer), "{streamers}");
        Ok(())
    })
    .await?;
    site.ensure_undisturbed(&site.streams, captured)?;
    site.ensure_never_twice()?;
    // The tests after this one know the examples' streams alone.
    site.kubectl(&["delete", "namespace", &namespace, "--timeout=2m"]).await?;
    site.await_captured_once().await.map(drop)
}

fn stream(namespace: &str, name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "weir.dev/v1alpha1",
        "kind": "Stream",
        "metadata": { "namespace": namespace, "name": name.replace('/', "-") },
        "spec": { "name": name, "inputs": [{ "url": "udp://239.0.0.1:1234" }], "failover": { "after": "1h" } },
    })
}

fn deployment(site: &Site, namespace: &str, annotations: &serde_json::Value) -> serde_json::Value {
    let labels = json!({ "app": "media", "weir.dev/inject": "true" });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "namespace": namespace, "name": "media" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": "media" } },
            "template": {
                "metadata": { "labels": labels, "annotations": annotations },
                "spec": {
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": 60,
                    "containers": [{
                        "name": "streamer",
                        "image": site.image("weir-streamer-sim"),
                        "args": ["--hostname=$(POD_NAME)", format!("--registry={}", site.registry.addr())],
                        "env": [{ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }],
                    }],
                },
            },
        },
    })
}
