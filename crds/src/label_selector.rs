//! Label selectors: Kubernetes' own type, with bounds and with sentences.

use crate::schema::{matches, rule};
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

/// A label's key without its optional prefix, and a label's value, which may also be empty.
const NAME: &str = "[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?";

/// A label's or annotation's key.
fn key_pattern() -> String {
    format!("^([a-z0-9.-]{{1,253}}/)?{NAME}$")
}

const KEY_SENTENCE: &str = "a key is [prefix/]name, the name at most 63 letters, digits, '-', '_' and '.': write it like 'zone' or 'example.com/zone'";

/// A rule for a map with such keys.
pub(crate) fn keys() -> Rule {
    rule(format!("self.all(key, {})", matches("key", &key_pattern())), KEY_SENTENCE)
}

/// The schema of a label's value.
fn value() -> Schema {
    let sentence =
        "a label's value is at most 63 letters, digits, '-', '_' and '.', and begins and ends with a letter or digit";
    let rules = [rule(matches("self", &format!("^({NAME})?$")), sentence)];
    json_schema!({"type": "string", "maxLength": 63, "x-kubernetes-validations": rules})
}

/// The schema of labels with their values.
pub(crate) fn labels() -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 32, "additionalProperties": value(),
        "description": "Labels that must stand there with these values.", "x-kubernetes-validations": [keys()],
    })
}

/// The schema of a label selector. Both parts must hold; an empty selector selects everything.
pub(crate) fn schema(_: &mut SchemaGenerator) -> Schema {
    let key_rules = [rule(matches("self", &key_pattern()), KEY_SENTENCE)];
    let values_rules = [rule(
        "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
        "In and NotIn need at least one of values; Exists and DoesNotExist take none",
    )];
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": labels(),
            "matchExpressions": {
                "type": "array", "maxItems": 32, "x-kubernetes-list-type": "atomic",
                "description": "Requirements that must all hold.",
                "items": {
                    "type": "object", "required": ["key", "operator"], "x-kubernetes-validations": values_rules,
                    "properties": {
                        "key": {"type": "string", "maxLength": 317, "x-kubernetes-validations": key_rules},
                        "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                        "values": {"type": "array", "maxItems": 32, "x-kubernetes-list-type": "atomic", "items": value()},
                    },
                },
            },
        },
    })
}
