//! A directory with every kind of error in it: what is good is captured, what is bad is set aside with its own sentence, objects of other
//! kinds are set aside with one line of the log. (That the API server refuses the same ones in the same words is in `validation.rs`.)

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_e2e::site::{Kind, Place, Plan, Site, StreamObject, stream, until};

/// Every error that a schema or a rule of the CRDs refuses.
const REFUSED: &str = include_str!("../../../crds/tests/refused.yaml");

#[derive(Debug, Deserialize)]
struct Case {
    kind: String,
    title: String,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    object: Value,
    path: String,
    says: String,
}

impl Case {
    /// A good object of that name with this error in it.
    fn object(&self, name: &str) -> Value {
        let spec = if self.kind == "Stream" { json!({"inputs": [{"url": "udp://239.0.0.1:1234"}]}) } else { json!({}) };
        let mut object =
            json!({"apiVersion": "weir.dev/v1alpha1", "kind": self.kind, "metadata": {"name": name}, "spec": spec});
        for (field, value) in self.spec.as_object().into_iter().flatten() {
            object["spec"][field] = value.clone();
        }
        for (field, value) in self.object.as_object().into_iter().flatten() {
            object[field] = value.clone();
        }
        object["metadata"]["namespace"] = "media".into();
        object
    }
}

/// Files that are wrong in ways that no single object is.
const FILES: [(&str, &str); 5] = [
    ("broken.yaml", "kind: Stream\n  metadata: [\n"),
    ("kindless.yaml", "metadata: {name: kindless}\n"),
    ("foreign.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: nginx, namespace: media}\n"),
    (
        "elsewhere.yaml",
        "apiVersion: weir.dev/v1alpha1\nkind: Stream\nmetadata: {name: far, namespace: other}\nspec: {inputs: [{url: 'udp://h:1'}]}\n",
    ),
    (
        "twice.yaml",
        "apiVersion: weir.dev/v1alpha1\nkind: Stream\nmetadata: {name: cam-1, namespace: media}\nspec: {inputs: [{url: 'udp://h:1'}]}\n",
    ),
];

/// What the log says of them.
const SAID: [&str; 5] = [
    "broken.yaml: is not YAML",
    "kindless.yaml, document 1: is no Kubernetes object: it has no kind",
    "Deployment media/nginx in foreign.yaml is set aside: Weir reads Streams, Streamers and Secrets",
    "Stream other/far in elsewhere.yaml is set aside: this operator was not told to look after its namespace",
    "cam-1 is declared in",
];

#[tokio::test]
async fn manifest_with_every_error() -> Result<()> {
    let site = Site::start("manifest_with_every_error", Plan { place: Place::Manifests, ..Plan::default() }).await?;
    let mut names = site.apply_streams(6).await?;
    let captured = site.await_captured_once(&names).await?;

    let manifests = site.folder().join("manifests");
    let refused = write_refused(&manifests)?;
    for (file, text) in FILES {
        std::fs::write(manifests.join(file), text)?;
    }
    write_both(&manifests, &stream("bad").url("gopher://a"))?;

    names.insert("good".to_owned());
    site.await_captured_once(&names).await?;
    for (object, case) in &refused {
        await_said(&site, object, case).await?;
    }
    let sentence = site.await_status("bad", "Accepted", "False", "Malformed").await?;
    ensure!(sentence.contains("mixed.yaml, document 2"), "it does not say where: {sentence}");
    for line in SAID {
        await_logged(&site, line).await?;
    }
    let log = site.operators[0].process.log();
    let foreign = log.lines().filter(|line| line.contains("Deployment media/nginx")).count();
    ensure!(foreign == 1, "an object of another kind has {foreign} lines in the log");

    // Nothing but what is good is captured, and nobody was disturbed. A bad one can be corrected.
    let others: BTreeSet<String> = names.iter().filter(|name| name.starts_with("cam-")).cloned().collect();
    site.ensure_undisturbed(&others, captured)?;
    write_both(&manifests, &stream("bad"))?;
    names.insert("bad".to_owned());
    site.await_captured_once(&names).await?;
    site.await_status("bad", "Accepted", "True", "Accepted").await?;
    site.finish().await
}

/// Each refused Stream and Streamer in a file of its own; Placements are the operator's, and are not read from manifests.
fn write_refused(manifests: &Path) -> Result<Vec<(Value, Case)>> {
    let cases = serde_yaml::from_str::<Vec<Case>>(REFUSED)?;
    let mut refused = Vec::new();
    for (number, case) in cases.into_iter().enumerate().filter(|(_, case)| case.kind != "Placement") {
        let name = format!("bad-{number}");
        let object = case.object(&name);
        std::fs::write(manifests.join(format!("{name}.yaml")), serde_yaml::to_string(&object)?)?;
        refused.push((object, case));
    }
    ensure!(refused.len() > 30, "only {} cases", refused.len());
    Ok(refused)
}

/// A good Stream, and another, in one file.
fn write_both(manifests: &Path, other: &StreamObject) -> Result<()> {
    let good = serde_yaml::to_string(&in_media(stream("good").object()))?;
    let other = serde_yaml::to_string(&in_media(other.object()))?;
    std::fs::write(manifests.join("mixed.yaml"), format!("{good}---\n{other}"))?;
    Ok(())
}

/// Its condition says where the error is, in which file, and what to do.
async fn await_said(site: &Site, object: &Value, case: &Case) -> Result<()> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if !is_name(name) {
        // An object without a name of its own can only be said in the log.
        return await_logged(site, "without a usable name").await;
    }
    let (kind, condition) = match case.kind.as_str() {
        "Stream" => (Kind::Stream, "Accepted"),
        _ => (Kind::Streamer, "Ready"),
    };
    let sentence = site.await_condition(kind, name, condition, "False", "Malformed").await;
    let sentence = sentence.with_context(|| case.title.clone())?;
    ensure!(sentence.contains(&case.path), "{}: it does not say where: {sentence}", case.title);
    ensure!(sentence.contains(&case.says), "{}: it does not say what to do: {sentence}", case.title);
    ensure!(sentence.contains(".yaml"), "{}: it does not name the file: {sentence}", case.title);
    Ok(())
}

fn in_media(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"]["namespace"] = "media".into();
    object
}

/// A name that an object can have (RFC 1123).
fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    !name.is_empty() && name.chars().all(inner) && !name.starts_with(['-', '.']) && !name.ends_with(['-', '.'])
}

async fn await_logged(site: &Site, text: &str) -> Result<()> {
    until(&format!("the log says: {text}"), async || {
        ensure!(site.operators[0].process.log().contains(text), "it does not");
        Ok(())
    })
    .await
}
