//! `weir-operator inject`: the manifests of a file, with sidecars.

use std::io::Read as _;
use std::path::Path;

use serde::Deserialize as _;
use serde_json::Value;

use super::{INJECT, Refusal, Settings, YES, patch, refuse};
use crate::text::yaml;

/// Where the pod of each kind is.
const KINDS: [(&str, &str); 7] = [
    ("Pod", ""),
    ("Deployment", "/spec/template"),
    ("StatefulSet", "/spec/template"),
    ("DaemonSet", "/spec/template"),
    ("ReplicaSet", "/spec/template"),
    ("Job", "/spec/template"),
    ("CronJob", "/spec/jobTemplate/spec/template"),
];

/// The manifests of a file, or of standard input (`-`).
pub fn file(path: &Path, settings: &Settings) -> Result<String, Refusal> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text).map(drop),
        _ => std::fs::read_to_string(path).map(|read| text = read),
    };
    match read {
        Ok(()) => manifests(&text, settings),
        Err(error) => refuse(error.to_string()),
    }
}

/// The same manifests, those with labelled pods injected. It is refused when there is no such pod: nothing was done then.
pub fn manifests(text: &str, settings: &Settings) -> Result<String, Refusal> {
    let (mut printed, mut injected) = (Vec::new(), 0);
    for (place, document) in (1..).zip(serde_yaml::Deserializer::from_str(text)) {
        let within = |error: &dyn std::fmt::Display| Refusal(format!("document {place}: {error}"));
        let mut object = Value::deserialize(document).map_err(|error| within(&error))?;
        if object.is_null() {
            continue;
        }
        injected += usize::from(inject(&mut object, settings).map_err(|refusal| within(&refusal))?);
        printed.push(yaml(&object).map_err(|error| within(&error))?);
    }
    if injected == 0 {
        return refuse(format!(
            "no pod here has the label {INJECT}: {YES:?} (in a Deployment or StatefulSet: among the labels of its template)"
        ));
    }
    Ok(printed.join("---\n"))
}

/// Whether it has a pod that asks for it, which is injected.
fn inject(object: &mut Value, settings: &Settings) -> Result<bool, Refusal> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let Some((_, path)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        return Ok(false);
    };
    let Some(pod) = object.pointer_mut(path).filter(|pod| pod["metadata"]["labels"][INJECT] == YES) else {
        return Ok(false);
    };
    let within = |error: &dyn std::fmt::Display| Refusal(format!("{kind} {name}: {error}"));
    let changes = patch(pod, settings).map_err(|refusal| within(&refusal))?;
    json_patch::patch(pod, &changes).map_err(|error| within(&error))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::inject::tests::settings;

    const LABELLED: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: streamer}
spec:
  replicas: 2
  template:
    metadata: {labels: {weir.dev/inject: "true"}}
    spec:
      containers: [{name: streamer, image: "flussonic:25"}]
"#;
    const OTHER: &str = "\napiVersion: v1\nkind: Service\nmetadata: {name: streamer}\nspec: {clusterIP: None}\n";

    fn read(text: &str) -> Vec<Value> {
        let documents = serde_yaml::Deserializer::from_str(text);
        documents.map(|document| Value::deserialize(document).unwrap()).collect()
    }

    #[test]
    fn a_template_is_injected_and_everything_else_printed_as_it_was() {
        let printed = read(&manifests(&format!("{OTHER}---{LABELLED}---\n"), &settings()).unwrap());
        assert_eq!(printed[0], read(OTHER)[0]);
        assert_eq!(printed[1]["spec"]["replicas"], 2);
        assert_eq!(printed[1]["spec"]["template"]["spec"]["initContainers"][0]["name"], "weir-sidecar");
        assert_eq!(printed.len(), 2);
    }

    #[test]
    fn what_was_injected_is_printed_as_it_is() {
        let once = manifests(LABELLED, &settings()).unwrap();
        assert_eq!(manifests(&once, &settings()).unwrap(), once);
    }

    /// It says itself by which command.
    #[test]
    fn the_example_without_the_webhook_is_what_is_printed_now() {
        let written = include_str!("../../../examples/without-webhook/workload.yaml");
        let comment: Vec<&str> = written.lines().take_while(|line| line.starts_with('#')).collect();
        let lines = comment.iter().map(|line| line.trim_start_matches('#').trim());
        let command = lines.skip_while(|line| !line.starts_with("weir-operator ")).take_while(|line| !line.is_empty());
        let command = command.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
        let Command::Inject(args) = Cli::try_parse_from(command.split_whitespace()).unwrap().command else { panic!() };
        assert_eq!(args.filename, Path::new("examples/workload.yaml"));
        assert!(args.sidecar.sidecar_image.ends_with(concat!(":", env!("CARGO_PKG_VERSION"))), "{command}");
        let printed = manifests(include_str!("../../../examples/workload.yaml"), &args.sidecar.settings()).unwrap();
        let now = format!("{}\n{printed}", comment.join("\n"));
        assert!(now == written, "examples/without-webhook/workload.yaml is of old: just examples");
    }

    #[test]
    fn a_file_without_a_labelled_pod_and_one_that_is_no_yaml_are_refused() {
        let sentence = manifests(OTHER, &settings()).unwrap_err().to_string();
        assert!(sentence.contains("no pod here has the label weir.dev/inject"), "{sentence}");
        let sentence = manifests(&format!("{OTHER}---\n: :"), &settings()).unwrap_err().to_string();
        assert!(sentence.starts_with("document 2: "), "{sentence}");
        let misspelt = LABELLED.replace("labels:", "annotations: {weir.dev/contaner: x}, labels:");
        let sentence = manifests(&misspelt, &settings()).unwrap_err().to_string();
        assert!(sentence.starts_with("document 1: StatefulSet streamer: Weir knows no annotation"), "{sentence}");
    }
}
