//! What the vendor's operator (github.com/flussonic/media-server-operator) makes of a `Streamer`, as far as that is public.
//!
//! From the definition of its release 26.3.1 (`docs/26.3.1/operator.yaml` there): the fields, that labels and annotations are copied
//! to the pod, that the pod is a StatefulSet's and what that selects by, and that it may make Services, ServiceAccounts, ConfigMaps and
//! Secrets. From `internal/controller/mediaserver_controller.go`, of its older `MediaServer`: the names and the whole shape of the pod.
//! That the pod of a `Streamer` has the same shape could not be verified: its controller is not public.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

/// The example, as somebody applies it.
pub const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/vendor-operator/streamer.yaml");

/// The fields of `spec`; those that have to be there first.
const FIELDS: [&str; 19] = [
    "nodeName",
    "version",
    "adminHostPort",
    "annotations",
    "clusterKey",
    "configExternalAuth",
    "configExternalUrl",
    "configExtra",
    "editAuth",
    "env",
    "hostPort",
    "image",
    "labels",
    "licenseKey",
    "logLevel",
    "nvidiaGpuCount",
    "publicUrl",
    "selectorLabels",
    "volumes",
];
const REQUIRED: usize = 2;

/// Where a MediaServer's pod has its API, and where everything else.
const API: u16 = 81;
const DATA: u16 = 80;

/// Its resource.
#[derive(Debug, Clone)]
pub struct Streamer {
    name: String,
    spec: Value,
}

impl Streamer {
    /// Reads one; it is an error if its definition does not have what stands there.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| file.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let object: Value = serde_yaml::from_str(text)?;
        let kind = (&object["apiVersion"], &object["kind"]);
        ensure!(kind == (&json!("media.flussonic.com/v1alpha1"), &json!("Streamer")), "it is a {kind:?}");
        let name = object["metadata"]["name"].as_str().context("it has no name")?.to_owned();
        let fields = object["spec"].as_object().context("it has no spec")?;
        for field in fields.keys() {
            ensure!(FIELDS.contains(&field.as_str()), "spec.{field} is no field of its definition");
        }
        // What a pod would be made without here is not passed over.
        ensure!(fields.get("volumes").is_none(), "spec.volumes is not made here");
        for field in &FIELDS[..REQUIRED] {
            ensure!(fields.contains_key(*field), "spec.{field} has to be there");
        }
        Ok(Self { name, spec: object["spec"].clone() })
    }

    /// A field of its `spec`.
    pub fn field(&self, name: &str) -> &Value {
        &self.spec[name]
    }

    /// The name of its StatefulSet.
    pub fn workload(&self) -> String {
        format!("{}-streamer", self.name)
    }

    /// The objects of its pod, in `namespace` and on `node`, with another `image`.
    pub fn objects(&self, namespace: &str, node: &str, image: &str) -> [Value; 3] {
        let metadata = |name: String| json!({ "namespace": namespace, "name": name });
        let name = &self.name;
        [
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(format!("{name}-sa")) }),
            json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": metadata(format!("{name}-configmap")),
                "data": self.configuration(),
            }),
            json!({
                "apiVersion": "apps/v1",
                "kind": "StatefulSet",
                "metadata": metadata(self.workload()),
                "spec": {
                    "replicas": 1,
                    "selector": { "matchLabels": self.selector() },
                    "template": self.template(node, image),
                },
            }),
        ]
    }

    fn configuration(&self) -> Map<String, Value> {
        let mut files =
            Map::from_iter([("k8s.conf".to_owned(), json!(format!("http {DATA} {{api false;}} http {API};")))]);
        files.extend(
            self.spec["configExtra"].as_object().into_iter().flatten().map(|(name, file)| (name.clone(), file.clone())),
        );
        files
    }

    fn labels(&self) -> Map<String, Value> {
        let mut labels = Map::from_iter([("app".to_owned(), json!(self.workload()))]);
        labels.extend(self.spec["labels"].as_object().cloned().unwrap_or_default());
        labels
    }

    fn selector(&self) -> Map<String, Value> {
        self.spec["selectorLabels"].as_object().cloned().unwrap_or_else(|| self.labels())
    }

    fn template(&self, node: &str, image: &str) -> Value {
        let volume = format!("{}-configvol", self.name);
        let mounts = self.configuration().into_iter().map(|(file, _)| {
            json!({
                "name": volume, "readOnly": true,
                "mountPath": format!("/etc/flussonic/flussonic.conf.d/{file}"), "subPath": file,
            })
        });
        let port = |name: &str, number: u16, host: &Value| {
            let mut port = json!({ "name": name, "containerPort": number });
            if host.is_number() {
                port["hostPort"] = host.clone();
            }
            port
        };
        json!({
            "metadata": { "labels": self.labels(), "annotations": self.spec["annotations"] },
            "spec": {
                "nodeName": node,
                "serviceAccountName": format!("{}-sa", self.name),
                "volumes": [{
                    "name": volume,
                    "configMap": { "name": format!("{}-configmap", self.name), "defaultMode": 0o440, "optional": false },
                }],
                "containers": [{
                    "name": "mediaserver",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "env": self.env(),
                    "livenessProbe": probe("liveness", &json!({ "initialDelaySeconds": 10, "periodSeconds": 3 })),
                    "readinessProbe": probe("readiness", &json!({ "initialDelaySeconds": 2, "periodSeconds": 2 })),
                    "startupProbe": probe(
                        "readiness",
                        &json!({ "initialDelaySeconds": 2, "periodSeconds": 2, "failureThreshold": 30 }),
                    ),
                    "ports": [
                        port("data", DATA, &self.spec["hostPort"]),
                        port("api", API, &self.spec["adminHostPort"]),
                    ],
                    "volumeMounts": mounts.collect::<Vec<_>>(),
                }],
            },
        })
    }

    fn env(&self) -> Vec<Value> {
        let mut env = vec![
            json!({ "name": "FLUSSONIC_HOSTNAME", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }),
            json!({ "name": "FLUSSONIC_SECRETS_STORAGE", "value": format!("k8s://{}-license-storage", self.name) }),
            json!({ "name": "DO_NOT_DO_NET_TUNING", "value": "true" }),
        ];
        env.extend(self.spec["env"].as_array().into_iter().flatten().cloned());
        env
    }
}

fn probe(what: &str, times: &Value) -> Value {
    let mut probe = times.clone();
    probe["httpGet"] = json!({ "path": format!("/streamer/api/v3/monitoring/{what}"), "port": API });
    probe
}

#[cfg(test)]
mod tests {
    use weir_crds::Duration;
    use weir_operator::inject::{self, INJECT, YES};

    use super::*;

    fn settings() -> inject::Settings {
        inject::Settings {
            image: "weir.dev/weir-sidecar:0.1.0".into(),
            image_pull_policy: None,
            feed: vec!["https://weir-feed.weir-system.svc:9443".into()],
            audience: "weir.dev".into(),
            ca_config_map: "weir-ca".into(),
            kill: Duration::from_ms(20_000),
        }
    }

    fn template(streamer: &Streamer) -> Value {
        let [.., workload] = streamer.objects("media", "node-1", "flussonic/flussonic");
        workload["spec"]["template"].clone()
    }

    #[test]
    fn the_pod_of_the_example_gets_its_sidecar() {
        let mut pod = template(&Streamer::read(Path::new(EXAMPLE)).unwrap());
        let changes = inject::patch(&pod, &settings()).unwrap();
        json_patch::patch(&mut pod, &changes).unwrap();
        assert_eq!(pod["metadata"]["labels"][INJECT], YES);
        assert_eq!(pod["spec"]["initContainers"][0]["name"], inject::SIDECAR);
        let streamer = &pod["spec"]["containers"][0];
        assert_eq!(
            (&streamer["name"], &streamer["env"][0]["value"]),
            (&json!("mediaserver"), &json!("http://127.0.0.1:9980"))
        );
    }

    #[test]
    fn what_the_example_says_is_to_be_left_out_is_refused() {
        let example = Streamer::read(Path::new(EXAMPLE)).unwrap();
        for field in ["configExternalUrl", "configExternalAuth"] {
            assert!(example.field(field).is_null(), "{field}");
        }
        let mut told = example.clone();
        told.spec["env"] = json!([{ "name": "STREAMER_CONFIG_EXTERNAL", "value": "http://central" }]);
        let sentence = inject::patch(&template(&told), &settings()).unwrap_err().to_string();
        assert!(sentence.contains("configExternalUrl"), "{sentence}");
        let mut supervised = example;
        supervised.spec["annotations"]["weir.dev/lease-probe"] = json!("true");
        // What stands before the probe when the pod says nothing.
        let settings = inject::Settings { kill: Duration::from_ms(60_000), ..settings() };
        let sentence = inject::patch(&template(&supervised), &settings).unwrap_err().to_string();
        assert!(sentence.contains("a liveness probe of its own"), "{sentence}");
    }

    /// A StatefulSet's selector cannot be changed: Weir's label must not get into it.
    #[test]
    fn what_its_workload_selects_by_is_not_weirs() {
        let mut streamer = Streamer::read(Path::new(EXAMPLE)).unwrap();
        assert!(!streamer.selector().keys().any(|label| label.starts_with("weir.dev/")));
        streamer.spec["selectorLabels"] = Value::Null;
        assert!(streamer.selector().contains_key(INJECT), "selectorLabels would not be needed");
    }

    #[test]
    fn a_field_that_its_definition_does_not_have_is_found() {
        let text = fs::read_to_string(EXAMPLE).unwrap();
        for (from, to, what) in [
            ("  hostPort:", "  hostport:", "spec.hostport is no field"),
            ("  nodeName: node-1\n", "", "spec.nodeName has to be there"),
            ("kind: Streamer", "kind: MediaServer", "MediaServer"),
        ] {
            let error = Streamer::parse(&text.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
