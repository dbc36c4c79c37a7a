//! A Streamer: one media server, as a Node is one machine.

#![allow(clippy::duplicated_attributes)] // every column has the same keys

use crate::condition::{self, Condition};
use crate::label_selector::{self, LabelSelector};
use crate::schema::{date_time, matches, rule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use kube::core::Rule;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// One media server. Made by the operator when its sidecar registers, or by the user; its spec is never overwritten.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "Streamer",
    namespaced,
    status = "StreamerStatus",
    derive = "PartialEq",
    doc = "A media server that captures streams.",
    shortname = "wsr",
    category = "weir",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.summary"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Roles", type_ = "string", json_path = ".status.roles"),
    printcolumn(name = "Streams", type_ = "integer", json_path = ".status.streams"),
    printcolumn(name = "Capacity", type_ = "integer", json_path = ".spec.capacity.streams"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.sidecarVersion"),
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.addresses[0]", priority = 1),
    printcolumn(
        name = "Synced",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Synced\")].status",
        priority = 1
    ),
    printcolumn(name = "Last Contact", type_ = "date", json_path = ".status.lastContact", priority = 1),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.replicaRevision", priority = 1)
)]
#[serde(rename_all = "camelCase", default)]
pub struct StreamerSpec {
    /// The name by which the streamer calls itself (the host of its requests); by default metadata.name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = hostname_rules()))]
    pub hostname: Option<String>,
    /// Where other streamers reach it: addresses or host names, each with a port if it is not the usual one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "addresses")]
    pub addresses: Vec<String>,
    /// What it is for, like ingest or transcode.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "roles")]
    pub roles: Vec<String>,
    /// How much it can take.
    pub capacity: Capacity,
    /// Only Streams with matching labels are placed here; by default any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector::schema")]
    pub stream_selector: Option<LabelSelector>,
    /// Whether new streams are kept away. Those that are here stay.
    pub unschedulable: bool,
    /// Whether its streams are moved away, each when another streamer has a place for it.
    pub drain: bool,
}

/// How much a streamer can take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Capacity {
    /// The most streams that are placed here; without it there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub streams: Option<u32>,
}

/// What the operator knows of the streamer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StreamerStatus {
    /// Ready or NotReady, then what keeps streams away, like `Ready,SchedulingDisabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub summary: Option<String>,
    /// The reason of the first of Ready, Synced and ConfigAccepted that is False, or waits for something.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// Its roles as `kubectl get nodes` shows them: `ingest,transcode`, or `<none>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub roles: Option<String>,
    /// How many streams records name it for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<u32>,
    /// What the streamer says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// How far its sidecar's replica has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica_revision: Option<u64>,
    /// When its sidecar was last heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub last_contact: Option<Time>,
    /// When it was first Ready: from then on a new leader waits for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub first_ready: Option<Time>,
    /// The instance of its sidecar: the pod's uid, or the id in its data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub instance: Option<String>,
    /// The version of its sidecar.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub sidecar_version: Option<String>,
    /// The metadata.generation that this report is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Synced, ConfigAccepted and Supervised.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::schema")]
    pub conditions: Vec<Condition>,
}

/// A streamer's load, from its own API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Load {
    /// Use of the processors, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u32>,
    /// What comes in, in kbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_kbit: Option<u64>,
    /// What goes out, in kbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_kbit: Option<u64>,
}

impl Streamer {
    /// The name by which the streamer calls itself: `spec.hostname`, by default `metadata.name`.
    pub fn hostname(&self) -> &str {
        let default = self.metadata.name.as_deref().unwrap_or_default();
        self.spec.hostname.as_deref().unwrap_or(default)
    }
}

impl StreamerSpec {
    /// The roles as [`StreamerStatus::roles`] shows them.
    pub fn role_list(&self) -> String {
        if self.roles.is_empty() { "<none>".into() } else { self.roles.join(",") }
    }
}

const HOST: &str = "[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?";

fn hostname_rules() -> Vec<Rule> {
    let sentence = "a hostname is made of letters, digits, '-', '_' and '.', and begins and ends with a letter or digit: write it like 'media-1.example.com'";
    vec![rule(matches("self", &format!("^{HOST}$")), sentence)]
}

fn addresses(_: &mut SchemaGenerator) -> Schema {
    let pattern = format!(r"^({HOST}(:[0-9]{{1,5}})?|[0-9A-Fa-f:.]+|\[[0-9A-Fa-f:.]+\](:[0-9]{{1,5}})?)$");
    let sentence = "an address is an IP address or a host name, with or without a port and without a scheme: write it like '10.0.0.7', 'media-1:8080' or '[fd00::7]:8080'";
    strings(261, &[rule(matches("self", &pattern), sentence)])
}

fn roles(_: &mut SchemaGenerator) -> Schema {
    let sentence = "a role is made of small letters, digits and '-': write it like 'ingest'";
    strings(63, &[rule(matches("self", "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"), sentence)])
}

/// The schema of a short list of strings.
fn strings(max_length: u32, rules: &[Rule]) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 16, "x-kubernetes-list-type": "atomic",
        "items": {"type": "string", "minLength": 1, "maxLength": max_length, "x-kubernetes-validations": rules},
    })
}
