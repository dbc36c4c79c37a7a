//! Pieces of schema that several resources share. Every string, list and map has a bound: the API server refuses
//! a CEL rule over anything unbounded as too costly.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

/// What no name in Kubernetes exceeds: the length of a DNS subdomain.
pub const MAX_NAME: u32 = 253;

/// A CEL rule with the sentence that is said when it fails: what to change, not what the rule is.
pub(crate) fn rule(cel: impl Into<String>, sentence: &str) -> Rule {
    Rule::new(cel).message(sentence)
}

/// CEL that holds when `self` matches `pattern`, a regular expression that RE2 and Rust's `regex` read alike.
pub(crate) fn matches(subject: &str, pattern: &str) -> String {
    // A raw CEL string: backslashes stand for themselves. No pattern here needs a single quote.
    format!("{subject}.matches(r'{pattern}')")
}

/// An RFC 3339 date and time.
pub(crate) fn date_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 64})
}
