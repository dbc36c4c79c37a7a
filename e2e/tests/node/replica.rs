//! A replica that outlives its pod.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::json;
use weir_e2e::node::NAME;
use weir_e2e::site::until;

use crate::lifecycle::scale;
use crate::site::{MEDIA, OPERATORS, PATIENCE, SYSTEM, Site};

const POD: &str = "kept";

/// Made anew while there is no operator, a pod whose replica lies on a persistent volume captures what it had.
pub(crate) async fn a_pod_made_anew_without_an_operator_serves_from_its_volume(site: &'static Site) -> Result<()> {
    let captured = site.await_captured_once().await?;
    let folder = tempfile::tempdir()?;
    // The volume's group gets it (`fsGroup`); a local volume's folder has to be there.
    for object in volume(folder.path().to_str().unwrap_or_default()) {
        site.apply(&object).await?;
    }
    site.apply(&pod(site)).await?;
    let wait = ["--namespace", MEDIA, "wait", "--for=condition=Ready", "pod", POD, "--timeout=1m"];
    site.kubectl(&wait).await?;
    let stream = json!({
        "apiVersion": "weir.dev/v1alpha1",
        "kind": "Stream",
        "metadata": { "namespace": MEDIA, "name": POD },
        "spec": {
            "inputs": [{ "url": "udp://239.0.0.1:1234" }],
            "placement": { "streamerSelector": { "matchLabels": { "kept": "yes" } } },
        },
    });
    site.apply(&stream).await?;
    let all = &site.streams | &BTreeSet::from([POD.to_owned()]);
    site.registry.await_each_once(&all, PATIENCE).await?;
    ensure!(site.readers()[POD] == POD, "it is captured by {}", site.readers()[POD]);

    scale(site, "operator", 0).await?;
    site.kubectl(&["--namespace", MEDIA, "delete", "pod", POD, "--timeout=1m"]).await?;
    site.apply(&pod(site)).await?;
    site.registry.await_each_once(&all, PATIENCE).await?;
    let operators = site.kubectl(&["--namespace", SYSTEM, "get", "pods", OPERATORS]);
    ensure!(operators.await?.trim().is_empty(), "an operator was there");
    scale(site, "operator", 2).await?;
    site.kubectl(&wait).await?;
    site.ensure_undisturbed(&site.streams, captured)?;
    site.ensure_never_twice()?;
    let gone = ["--namespace", MEDIA, "delete", "--timeout=1m", "stream.weir.dev/kept", "pod/kept"];
    site.kubectl(&gone).await?;
    site.kubectl(&["--namespace", MEDIA, "delete", "persistentvolumeclaim/kept", "--timeout=1m"]).await?;
    site.kubectl(&["delete", "persistentvolume/kept", "--timeout=1m"]).await?;
    until("its Streamer is forgotten", async || {
        let streamers = site.kubectl(&["--namespace", MEDIA, "get", "wsr", "--output=name"]).await?;
        ensure!(!streamers.contains(POD), "{streamers}");
        Ok(())
    })
    .await?;
    site.await_captured_once().await.map(drop)
}

fn volume(folder: &str) -> [serde_json::Value; 2] {
    let size = json!({ "storage": "1Gi" });
    let here =
        json!([{ "matchExpressions": [{ "key": "kubernetes.io/hostname", "operator": "In", "values": [NAME] }] }]);
    [
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": { "name": POD },
            "spec": {
                "capacity": size,
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "claimRef": { "namespace": MEDIA, "name": POD },
                "local": { "path": folder },
                "nodeAffinity": { "required": { "nodeSelectorTerms": here } },
            },
        }),
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": { "namespace": MEDIA, "name": POD },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "",
                "volumeName": POD,
                "resources": { "requests": size },
            },
        }),
    ]
}

fn pod(site: &Site) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": MEDIA,
            "name": POD,
            "labels": { "weir.dev/inject": "true", "kept": "yes" },
            "annotations": { "weir.dev/replica-volume": "replica", "weir.dev/capacity-streams": "1" },
        },
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true,
                "fsGroup": 65532,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "streamer",
                "image": site.image("weir-streamer-sim"),
                "args": [format!("--hostname={POD}"), format!("--registry={}", site.registry.addr())],
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                },
            }],
            "volumes": [{ "name": "replica", "persistentVolumeClaim": { "claimName": POD } }],
        },
    })
}
