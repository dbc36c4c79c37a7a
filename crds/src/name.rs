//! The media name of a stream: what streamers, viewers and publishers call it (`mylive/bunny`).

use crate::Stream;
use crate::schema::{MAX_NAME, matches, rule};
use schemars::{Schema, SchemaGenerator, json_schema};

/// The vendor publishes no expression; its text says Latin letters, digits, `.`, `-`, `_`, and `/` between segments.
const PATTERN: &str = "^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$";

/// The schema of a media name.
pub(crate) fn schema(_: &mut SchemaGenerator) -> Schema {
    let rules = [
        rule(
            matches("self", PATTERN),
            "a media name is made of Latin letters, digits, '.', '-' and '_', with single '/' between segments: write it like 'mylive/bunny'",
        ),
        // Streamers make directories of names.
        rule(
            matches("!self", r"(^|/)[.][.]?(/|$)"),
            "a segment of a media name cannot be '.' or '..': give the segment a name",
        ),
    ];
    json_schema!({
        "type": "string", "minLength": 1, "maxLength": MAX_NAME, "x-kubernetes-validations": rules,
    })
}

impl Stream {
    /// The media name: `spec.name`, by default `metadata.name` (empty only in an object that has neither).
    pub fn media_name(&self) -> &str {
        let default = self.metadata.name.as_deref().unwrap_or_default();
        self.spec.name.as_deref().unwrap_or(default)
    }
}
