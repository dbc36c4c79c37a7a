//! A Stream: what is to be captured, from where, and how it is to be placed.

#![allow(clippy::duplicated_attributes)] // every column has the same keys

use crate::condition::{self, Condition};
use crate::duration::{self, Duration};
use crate::label_selector::{self, LabelSelector};
use crate::schema::{date_time, matches, rule};
use crate::{config, name, url};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One named stream that is to be captured, once, on the right streamer.
#[derive(Debug, Clone, PartialEq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "Stream",
    namespaced,
    status = "StreamStatus",
    derive = "PartialEq",
    doc = "A named media stream that is to be captured, once, on the right streamer.",
    shortname = "wst",
    category = "weir",
    printcolumn(name = "Streamer", type_ = "string", json_path = ".status.streamer"),
    printcolumn(name = "Placed", type_ = "string", json_path = ".status.conditions[?(@.type==\"Placed\")].status"),
    printcolumn(name = "Captured", type_ = "string", json_path = ".status.conditions[?(@.type==\"Captured\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Media Name", type_ = "string", json_path = ".status.mediaName", priority = 1),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.epoch", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = spec_rules()))]
pub struct StreamSpec {
    /// The name by which streamers, viewers and publishers know the stream; by default metadata.name. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "name::schema")]
    pub name: Option<String>,
    /// Where the stream is read from: the first that works is used.
    #[schemars(length(min = 1, max = 32))]
    pub inputs: Vec<Input>,
    /// Whether the stream runs all the time, or only while somebody watches it.
    #[serde(rename = "static", default = "yes")]
    pub r#static: bool,
    /// Any further field of the stream, as the streamer's API has it, passed on untouched. `${secret:NAME/KEY}` in a
    /// string stands for a value of a Secret of type weir.dev/credentials; `$${` is a literal `${`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "config::schema")]
    pub config: Map<String, Value>,
    /// Where the stream may be captured.
    #[serde(default)]
    pub placement: StreamPlacement,
    /// What happens when its streamer is gone.
    #[serde(default)]
    pub failover: Failover,
    /// Whether the stream is to be captured nowhere.
    #[serde(default)]
    pub disabled: bool,
}

/// One source of a stream.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = url::rules()))]
pub struct Input {
    /// Where the stream is read from; `publish://` is whoever publishes to it. `${secret:NAME/KEY}` stands for a value
    /// of a Secret of type weir.dev/credentials; `$${` is a literal `${`.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
}

impl std::fmt::Debug for Input {
    /// Without what may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = self.url.split_once("://").map_or("", |(scheme, _)| scheme);
        write!(f, "Input({scheme}://…)")
    }
}

/// Wishes about the streamer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamPlacement {
    /// Only Streamers with matching labels; by default any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector::schema")]
    pub streamer_selector: Option<LabelSelector>,
}

/// What happens when the stream's streamer is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = failover_rules()))]
pub struct Failover {
    /// How long the streamer must be gone before the stream moves.
    pub after: Duration,
    /// Whether the stream goes home when its first streamer is back: Stay, it does not.
    pub back: Back,
    /// What a streamer does that is cut off from Weir. KeepCapturing: it goes on, and its stream may be captured twice until it is back. StopCapturing: it stops when its lease has run out, and only then does the stream move; the streamer's liveness check must ask its sidecar's GET /lease.
    pub partition: Partition,
}

impl Default for Failover {
    fn default() -> Self {
        Self { after: Duration::from_ms(30_000), back: Back::Stay, partition: Partition::KeepCapturing }
    }
}

/// Whether a stream goes home.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Back {
    /// It stays where it is.
    #[default]
    Stay,
    /// It returns when its first streamer has been healthy for a while. Not carried out yet, and refused.
    Return,
}

/// What a cut-off streamer does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Partition {
    /// It goes on capturing.
    #[default]
    KeepCapturing,
    /// It captures only under a lease.
    StopCapturing,
}

/// A report; nothing is decided by it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StreamStatus {
    /// The name by which streamers know the stream, the default included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub media_name: Option<String>,
    /// The Streamer that holds the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub streamer: Option<String>,
    /// The epoch of its record: grows with every decision about the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Since when that Streamer holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub since: Option<Time>,
    /// The Streamer where it was placed first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub home: Option<String>,
    /// The reason of the first of Accepted, Placed and Captured that is False, or waits for something.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// The metadata.generation that this report is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, Placed and Captured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::schema")]
    pub conditions: Vec<Condition>,
}

const fn yes() -> bool {
    true
}

/// On the spec, with `has()` both ways: a rule on the field itself is got round by unsetting it first.
fn spec_rules() -> Vec<Rule> {
    let unchanged = "has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)";
    let sentence = "a stream's name cannot be changed, set or unset later: make a new Stream with the new name and delete this one";
    vec![rule(unchanged, sentence).field_path(".name")]
}

fn failover_rules() -> Vec<Rule> {
    let duration = matches("self.after", duration::PATTERN);
    vec![
        rule(
            format!(
                "!{duration} || (duration(self.after) > duration('0s') && duration(self.after) <= duration('24h'))"
            ),
            "failover.after must be more than 0s and at most 24h: write it like 30s",
        )
        .field_path(".after"),
        rule("self.back != 'Return'", "Return is not carried out by this version: use Stay").field_path(".back"),
    ]
}
