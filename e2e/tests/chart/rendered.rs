//! What the chart makes of its values.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, Client};
use serde_json::{Value, json};
use weir_crds::crds_yaml;
use weir_e2e::control_plane::{ControlPlane, apply_crds, sources};

use super::chart::{CHART, Helm, documents, every_value, shown};

#[tokio::test]
async fn an_api_server_takes_every_object() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let client = cluster.client()?;
    // Nobody makes it where no controllers run, and no pod goes without.
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    accounts.patch("default", &PatchParams::apply("weir-e2e").force(), &Patch::Apply(account)).await?;
    apply_crds(&client, &prometheus_operator().await?).await?;
    let helm = Helm::get().await?;
    for values in [json!({}), every_value()?, shown(&every_value()?)?] {
        let objects = helm.objects(&values).await?;
        ensure!(objects.len() > 10, "these are not all: {}", objects.len());
        for object in objects {
            dry_run(&client, &object).await.with_context(|| name(&object))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_same_values_render_the_same_text() -> Result<()> {
    let helm = Helm::get().await?;
    for values in [json!({}), every_value()?] {
        ensure!(helm.text(&values).await? == helm.text(&values).await?, "it is another text the second time");
    }
    Ok(())
}

/// What an installation as it comes asks of a cluster.
#[tokio::test]
async fn nothing_is_privileged_or_without_a_bound() -> Result<()> {
    let objects = Helm::get().await?.objects(&json!({})).await?;
    let mut pods = 0;
    for object in &objects {
        for rule in object["rules"].as_array().into_iter().flatten() {
            let words = ["apiGroups", "resources", "verbs"].map(|field| rule[field].as_array());
            let wild = words.into_iter().flatten().flatten().any(|word| word == "*");
            ensure!(!wild, "{} has a wildcard: {rule}", name(object));
        }
        let spec = if object["kind"] == "Pod" { &object["spec"] } else { &object["spec"]["template"]["spec"] };
        for container in spec["containers"].as_array().into_iter().flatten() {
            pods += 1;
            let image = container["image"].as_str().context("no image")?;
            ensure!(image.ends_with(concat!(":", env!("CARGO_PKG_VERSION"))), "{}: {image}", name(object));
            let security = &container["securityContext"];
            ensure!(security["allowPrivilegeEscalation"] == json!(false), "{}: {security}", name(object));
            ensure!(security["readOnlyRootFilesystem"] == json!(true), "{}: {security}", name(object));
            ensure!(security["capabilities"] == json!({"drop": ["ALL"]}), "{}: {security}", name(object));
            ensure!(spec["securityContext"]["runAsNonRoot"] == json!(true), "{} may be root", name(object));
            ensure!(container["resources"]["requests"].is_object(), "{} asks for nothing", name(object));
        }
    }
    ensure!(pods == 3, "operator, webhook and test, not {pods}");
    Ok(())
}

/// Each right that the chart gives is explained.
#[tokio::test]
async fn every_rule_has_a_comment() -> Result<()> {
    let text = Helm::get().await?.text(&json!({})).await?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let rules: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with("- apiGroups:")).collect();
    for at in &rules {
        // The webhook's rules are no rights.
        let webhook = lines[*at..].iter().take(3).any(|line| line.starts_with("operations:"));
        let before = lines[at - 1];
        ensure!(webhook || before.starts_with('#'), "nothing says why: {} after {before}", lines[*at]);
    }
    ensure!(rules.len() > 10, "these are not all: {rules:?}");
    Ok(())
}

/// The scenarios run the operator with exactly these.
#[tokio::test]
async fn the_rights_are_those_that_the_scenarios_run_with() -> Result<()> {
    let tried = documents(include_str!("../../rbac.yaml"))?;
    let objects = Helm::get().await?.objects(&json!({})).await?;
    // The operator's own role is one of its namespace in an installation.
    for (name, kind) in [("operator", "ClusterRole"), ("operator-media", "ClusterRole"), ("operator-own", "Role")] {
        let installed = name.replace("operator-media", "media").replace("operator-own", "operator");
        let is = |object: &&Value, kind: &str, name: &str| {
            object["kind"] == kind && object["metadata"]["name"].as_str() == Some(&format!("weir-{name}"))
        };
        let given = objects.iter().find(|object| is(object, kind, &installed));
        let needed = tried.iter().find(|object| is(object, "ClusterRole", name));
        let sorted = |role: Option<&Value>| -> Result<BTreeSet<String>> {
            let rules = role.with_context(|| format!("no role {name}"))?["rules"].as_array().context("no rules")?;
            Ok(rules.iter().map(ToString::to_string).collect())
        };
        let (given, needed) = (sorted(given)?, sorted(needed)?);
        ensure!(given == needed, "{name}: the chart gives {given:#?}, rbac.yaml {needed:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_definitions_are_those_of_the_types_and_outlive_the_chart() -> Result<()> {
    let helm = Helm::get().await?;
    let objects = helm.objects(&json!({})).await?;
    let definitions: Vec<&Value> = objects.iter().filter(|of| of["kind"] == "CustomResourceDefinition").collect();
    let generated = documents(&crds_yaml())?;
    ensure!(definitions.len() == generated.len(), "the chart has {} definitions", definitions.len());
    for definition in definitions {
        let kept = &definition["metadata"]["annotations"]["helm.sh/resource-policy"];
        ensure!(kept == "keep", "{} goes with the chart", name(definition));
        ensure!(
            generated.iter().any(|of| of["spec"] == definition["spec"]),
            "{} is of old: cargo run -p weir-crds --example generate",
            name(definition)
        );
    }
    let lost = helm.objects(&json!({"crds": {"keep": false}})).await?;
    ensure!(!lost.iter().any(|of| of["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"));
    let none = helm.objects(&json!({"crds": {"enabled": false}})).await?;
    ensure!(!none.iter().any(|of| of["kind"] == "CustomResourceDefinition"));
    Ok(())
}

/// With namespaces that are named, nothing of a namespace may be read in another.
#[tokio::test]
async fn named_namespaces_are_all_that_is_looked_into() -> Result<()> {
    let objects = Helm::get().await?.objects(&json!({"namespaces": ["studio", "cameras"]})).await?;
    let roles = objects.iter().filter(|of| of["kind"] == "Role");
    let namespaces: BTreeSet<&str> = roles.filter_map(|role| role["metadata"]["namespace"].as_str()).collect();
    ensure!(namespaces == BTreeSet::from(["cameras", "studio", "weir-system"]), "{namespaces:?}");
    for role in objects.iter().filter(|of| of["kind"] == "ClusterRole") {
        for rule in role["rules"].as_array().into_iter().flatten() {
            let secret = rule["resources"].as_array().into_iter().flatten().any(|resource| {
                ["secrets", "configmaps", "pods", "streams", "placements"].iter().any(|of| resource == of)
            });
            ensure!(!secret, "everywhere: {rule}");
        }
    }
    let webhook = objects.iter().find(|of| of["kind"] == "MutatingWebhookConfiguration").context("no webhook")?;
    let selected = &webhook["webhooks"][0]["namespaceSelector"]["matchExpressions"][0]["values"];
    ensure!(*selected == json!(["studio", "cameras"]), "{selected}");
    Ok(())
}

/// The webhook holds pods against the period that the operator waits for.
#[tokio::test]
async fn operator_and_webhook_have_the_same_period_to_kill() -> Result<()> {
    let helm = Helm::get().await?;
    for (values, given) in [(json!({}), None), (json!({"operator": {"periods": {"kill": "45s"}}}), Some("45s"))] {
        for name in ["weir-operator", "weir-webhook"] {
            let objects = helm.objects(&values).await?;
            let is = |of: &&Value| of["kind"] == "Deployment" && of["metadata"]["name"] == name;
            let deployment = objects.iter().find(is).with_context(|| format!("no {name}"))?;
            let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().context("no args")?;
            let kill = args.iter().filter_map(Value::as_str).find_map(|arg| arg.strip_prefix("--period-kill="));
            ensure!(kill == given, "{name}: {kill:?}, not {given:?}");
        }
    }
    Ok(())
}

fn name(object: &Value) -> String {
    format!("{} {}", object["kind"], object["metadata"]["name"])
}

/// As `kubectl apply --server-side --dry-run=server --validate=strict`.
async fn dry_run(client: &Client, object: &Value) -> Result<()> {
    let (group, version) = match object["apiVersion"].as_str().context("no apiVersion")?.split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", object["apiVersion"].as_str().unwrap_or_default()),
    };
    let kind = GroupVersionKind::gvk(group, version, object["kind"].as_str().context("no kind")?);
    let (resource, capabilities) = pinned_kind(client, &kind).await?;
    let mut object = object.clone();
    // The namespaces of the chart's values are not there.
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            ensure!(object["metadata"]["namespace"].is_string(), "it names no namespace");
            object["metadata"]["namespace"] = json!("default");
            Api::namespaced_with(client.clone(), "default", &resource)
        }
    };
    let params = PatchParams {
        dry_run: true,
        force: true,
        field_manager: Some("weir-e2e".into()),
        field_validation: Some(ValidationDirective::Strict),
    };
    let name = object["metadata"]["name"].as_str().context("no name")?.to_owned();
    api.patch(&name, &params, &Patch::Apply(&object)).await?;
    Ok(())
}

/// The definitions of what the chart has for the Prometheus operator.
async fn prometheus_operator() -> Result<String> {
    let folder = sources("prometheus-operator", "github.com/prometheus-operator/prometheus-operator").await?;
    let folder = folder.join("example/prometheus-operator-crd");
    let file = |kind: &str| std::fs::read_to_string(folder.join(format!("monitoring.coreos.com_{kind}.yaml")));
    Ok([file("servicemonitors")?, file("podmonitors")?, file("prometheusrules")?].join("\n---\n"))
}

#[test]
fn the_chart_is_of_this_version() -> Result<()> {
    let chart: Value = serde_yaml::from_str(&std::fs::read_to_string(format!("{CHART}/Chart.yaml"))?)?;
    ensure!(chart["version"] == env!("CARGO_PKG_VERSION") && chart["appVersion"] == env!("CARGO_PKG_VERSION"));
    Ok(())
}
