//! The webhook: whose pods it changes, and what happens while it is away.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use weir_e2e::control_plane::create_namespace;
use weir_e2e::site::until;

use crate::lifecycle::scale;
use crate::site::{CHART, MEDIA, SYSTEM, Site};

const LABEL: &str = "weir.dev/inject";

pub(crate) async fn a_pod_gets_its_sidecar_without_an_operator(site: &'static Site) -> Result<()> {
    scale(site, "operator", 0).await?;
    ensure_injected(site, "no-operator").await?;
    scale(site, "operator", 2).await
}

/// A new pod with the label gets its sidecar.
pub(crate) async fn ensure_injected(site: &Site, purpose: &str) -> Result<()> {
    let pods = pods(site, purpose).await?;
    let pod = create(&pods, &pod("labelled", true)).await?;
    ensure!(has_sidecar(&pod), "it has no sidecar");
    Ok(())
}

/// A labelled pod is not made without its sidecar; nobody else's is touched.
pub(crate) async fn while_the_webhook_is_away_only_labelled_pods_wait(site: &'static Site) -> Result<()> {
    let pods = pods(site, "no-webhook").await?;
    scale(site, "webhook", 0).await?;
    let refused = create(&pods, &pod("labelled", true)).await.err().context("it was made without its sidecar")?;
    ensure!(format!("{refused:#}").contains("inject.weir.dev"), "{refused:#}");
    let other = create(&pods, &pod("other", false)).await?;
    ensure!(!has_sidecar(&other), "it was not asked for");
    scale(site, "webhook", 2).await?;
    // Whoever makes pods tries again.
    until("the webhook is back", async || {
        create(&pods, &pod("labelled", true)).await?;
        Ok(())
    })
    .await?;
    ensure!(has_sidecar(&pods.get("labelled").await?), "it has no sidecar");
    Ok(())
}

/// What the vendor's operator sets from `configExternalUrl`.
pub(crate) async fn a_pod_with_a_backend_of_its_own_is_refused_with_a_sentence(site: &'static Site) -> Result<()> {
    let pods = pods(site, "own-backend").await?;
    let mut own = pod("own", true);
    own["spec"]["containers"][0]["env"] = json!([{ "name": "STREAMER_CONFIG_EXTERNAL", "value": "http://elsewhere" }]);
    let refused = create(&pods, &own).await.err().context("it was taken as it was")?;
    let refused = format!("{refused:#}");
    ensure!(refused.contains("configExternalUrl") && refused.contains("weir.dev/config-external"), "{refused}");
    own["metadata"]["annotations"] = json!({ "weir.dev/config-external": "override" });
    ensure!(has_sidecar(&create(&pods, &own).await?), "it has no sidecar");
    Ok(())
}

pub(crate) async fn a_namespace_that_is_not_watched_is_left_alone(site: &'static Site) -> Result<()> {
    let captured = site.await_captured_once().await?;
    let elsewhere = pods(site, "elsewhere").await?;
    site.upgrade(CHART, &["--set", &format!("namespaces={{{MEDIA}}}")]).await?;
    let pod = create(&elsewhere, &pod("labelled", true)).await?;
    ensure!(!has_sidecar(&pod), "its namespace is nobody's concern");
    let path = "--output=jsonpath={.items[*].metadata.namespace}";
    let authorities = site
        .kubectl(&["get", "configmaps", "--all-namespaces", "--field-selector=metadata.name=weir-ca", path])
        .await?;
    ensure!(authorities.split_whitespace().any(|namespace| namespace == MEDIA), "{authorities}");
    ensure!(
        !site.operator_logs().await?.contains("is forbidden"),
        "a right is missing: {}",
        site.operator_logs().await?
    );
    site.upgrade(CHART, &[]).await?;
    site.ensure_undisturbed(&site.streams, captured)?;
    let ready = ["--namespace", SYSTEM, "rollout", "status", "deployment/weir-operator", "--timeout=1m"];
    site.kubectl(&ready).await.map(drop)
}

/// Pods of a namespace of its own, which nobody streams in: they need not run.
pub(crate) async fn pods(site: &Site, purpose: &str) -> Result<Api<Pod>> {
    let client = site.client()?;
    let namespace = create_namespace(&client, purpose).await?;
    Ok(Api::namespaced(client, &namespace))
}

pub(crate) fn pod(name: &str, labelled: bool) -> Value {
    json!({
        "metadata": { "name": name, "labels": if labelled { json!({ LABEL: "true" }) } else { json!({}) } },
        "spec": {
            "automountServiceAccountToken": false,
            // Looked at, not run.
            "nodeSelector": { "example.com/none": "true" },
            "containers": [{ "name": "streamer", "image": "flussonic/flussonic:v25.01" }],
        },
    })
}

pub(crate) async fn create(pods: &Api<Pod>, pod: &Value) -> Result<Pod> {
    Ok(pods.create(&PostParams::default(), &serde_json::from_value(pod.clone())?).await?)
}

pub(crate) fn has_sidecar(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten().any(|one| one.name == "weir-sidecar")
}
