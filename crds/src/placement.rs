//! A Placement: a slice of records, the only truth about who captures what. Written by the operator alone.

#![allow(clippy::duplicated_attributes)] // every column has the same keys

use crate::schema::date_time;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_feed::record::{Phase, Record};

/// The most records of one slice; its 512 KiB are full long before.
pub const MAX_RECORDS: u32 = 40_000;

/// A slice of a namespace's records: those whose media name's SHA-256 begins with its digit (`placement-7`).
/// Its status has no subresource, so that one JSON patch writes both halves.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "Placement",
    namespaced,
    status = "PlacementStatus",
    derive = "PartialEq",
    doc = "A slice of the decisions about who captures what. Weir's operator writes it; editing it moves nothing in a controlled way.",
    shortname = "wpl",
    category = "weir",
    printcolumn(name = "Streams", type_ = "integer", json_path = ".status.streams"),
    printcolumn(name = "Releasing", type_ = "integer", json_path = ".status.releasing"),
    printcolumn(name = "Term", type_ = "integer", json_path = ".spec.term"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct PlacementSpec {
    /// The term of the leader that wrote the slice last, or took it.
    pub term: u64,
    /// One record for each stream.
    #[serde(default)]
    #[schemars(length(max = MAX_RECORDS), extend("x-kubernetes-list-type" = "atomic"))]
    pub records: Vec<Record>,
    /// A removal of many streams at once that is being held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal: Option<Removal>,
}

/// Streams whose Stream objects went all at once run on for a while: it may have been a mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Removal {
    /// Until when they run on.
    #[schemars(schema_with = "date_time")]
    pub until: Time,
}

/// Counts, for whoever looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PlacementStatus {
    /// How many records the slice has.
    pub streams: u32,
    /// How many of them are being released.
    pub releasing: u32,
}

impl PlacementStatus {
    /// Counts a slice's records.
    pub fn of(records: &[Record]) -> Self {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let releasing = records.iter().filter(|record| record.phase == Phase::Releasing).count();
        Self { streams: count(records.len()), releasing: count(releasing) }
    }
}
