//! Pods that nobody has declared: what their Streamers say is read from the pod and its node.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use weir_e2e::control_plane::create_namespace;
use weir_e2e::node::NAME;
use weir_e2e::site::until;

use crate::site::Site;
use crate::without_webhook::{await_bundle, await_streamers};

const PLACE: [(&str, &str); 2] =
    [("topology.kubernetes.io/zone", "north-1"), ("topology.kubernetes.io/region", "north")];
/// A workload of one pod, whose name is this with `-0`.
const WORKLOAD: &str = "found";

/// Zone and region of the node, roles and capacity of its annotations, and the name or address under which it is reached: so
/// `kubectl get wsr` shows them.
pub(crate) async fn a_pods_streamer_says_where_it_is_and_what_it_is_for(site: &'static Site) -> Result<()> {
    let namespace = create_namespace(&site.client()?, "registration").await?;
    await_bundle(site, &namespace).await?;
    for (label, value) in PLACE {
        site.kubectl(&["label", "node", NAME, &format!("{label}={value}")]).await?;
    }
    let found = registered(site, &namespace).await;
    for (label, _) in PLACE {
        site.kubectl(&["label", "node", NAME, &format!("{label}-")]).await?;
    }
    found?;
    site.kubectl(&["delete", "namespace", &namespace, "--timeout=2m"]).await.map(drop)
}

async fn registered(site: &Site, namespace: &str) -> Result<()> {
    let annotations = json!({ "weir.dev/roles": "ingest,transcode", "weir.dev/capacity-streams": "37" });
    for object in workload(site, namespace, WORKLOAD, &annotations, 30) {
        site.apply(&object).await?;
    }
    // Nobody brings this one back, and it says nothing of itself.
    let [_, workload] = workload(site, namespace, "alone", &json!({}), 30);
    let mut alone = workload["spec"]["template"].clone();
    alone["apiVersion"] = "v1".into();
    alone["kind"] = "Pod".into();
    alone["metadata"]["namespace"] = namespace.into();
    alone["metadata"]["name"] = "alone".into();
    site.apply(&alone).await?;
    await_streamers(site, namespace, 2).await?;
    let path = "--output=jsonpath={.status.podIP}";
    let address = site.kubectl(&["--namespace", namespace, "get", "pod", "alone", path]).await?;

    let name = format!("{WORKLOAD}-0.{WORKLOAD}.{namespace}.svc:8080");
    let expected = [
        (format!("{WORKLOAD}-0"), ["ingest,transcode", "37", &name, "north-1", "north"]),
        ("alone".to_owned(), ["<none>", "", &format!("{address}:8080"), "north-1", "north"]),
    ];
    let columns = PLACE.map(|(label, _)| label).join(",");
    let get = ["--namespace", namespace, "get", "wsr", "--output=wide", "--label-columns", &columns];
    until("kubectl shows what the pods and their node say", async || {
        let table = site.kubectl(&get).await?;
        for (streamer, expected) in &expected {
            let row = table.lines().find(|line| line.split_whitespace().next() == Some(streamer)).context("no row")?;
            let words: Vec<&str> = row.split_whitespace().collect();
            let missing: Vec<_> = expected.iter().filter(|word| !word.is_empty() && !words.contains(word)).collect();
            ensure!(missing.is_empty(), "{streamer} does not say {missing:?}:\n{table}");
        }
        Ok(())
    })
    .await
}

/// A StatefulSet of one pod, which has a name in the DNS, and no Streamer is declared for.
pub(crate) fn workload(site: &Site, namespace: &str, name: &str, annotations: &Value, grace: u32) -> [Value; 2] {
    let metadata = json!({ "namespace": namespace, "name": name });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": { "clusterIP": "None", "selector": { "app": name }, "ports": [{ "name": "http", "port": 8080 }] },
    });
    let streamer = json!({
        "name": "streamer",
        "image": site.image("weir-streamer-sim"),
        "args": ["--hostname=$(POD_NAME)", format!("--registry={}", site.registry.addr()), "--api-listen=0.0.0.0:8080"],
        "env": [{ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }],
        "ports": [{ "name": "http", "containerPort": 8080 }],
    });
    let workload = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata,
        "spec": {
            "serviceName": name,
            "replicas": 1,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name, "weir.dev/inject": "true" }, "annotations": annotations },
                "spec": {
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": grace,
                    "containers": [streamer],
                },
            },
        },
    });
    [service, workload]
}
