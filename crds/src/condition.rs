//! Conditions: what is so about an object, why, and since when, as everywhere in Kubernetes.

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{Schema, SchemaGenerator, json_schema};

/// Of a Stream: nothing about it keeps it from being placed (`False`: what to change in it).
pub const ACCEPTED: &str = "Accepted";
/// Of a Stream: a record names a streamer for it.
pub const PLACED: &str = "Placed";
/// Of a Stream: its streamer says that it runs.
pub const CAPTURED: &str = "Captured";
/// Of a Streamer: it can be given streams.
pub const READY: &str = "Ready";
/// Of a Streamer: its sidecar's replica is the leader's view.
pub const SYNCED: &str = "Synced";
/// Of a Streamer: the streamer took the last configuration that it fetched.
pub const CONFIG_ACCEPTED: &str = "ConfigAccepted";
/// Of a Streamer: it is killed when it captures without a lease, and boots with nothing.
pub const SUPERVISED: &str = "Supervised";

/// The bound of a condition's message, the one of `metav1.Condition`.
pub const MAX_MESSAGE: usize = 32_768;

/// The schema of a list of conditions, one of each type.
pub(crate) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 16, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object", "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"type": "string", "minLength": 1, "maxLength": 316, "description": "What the condition is about."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Why, in one word."},
                "message": {"type": "string", "maxLength": MAX_MESSAGE, "description": "Why, in a sentence."},
                "lastTransitionTime": {"type": "string", "format": "date-time", "maxLength": 64, "description": "When status last changed."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0, "description": "The metadata.generation that it speaks about."},
            },
        },
    })
}

/// `True`, `False` or `Unknown` (`None`).
pub fn status(truth: Option<bool>) -> &'static str {
    match truth {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    }
}

/// The condition of that type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Puts `new` in the place of the condition of its type; the time of its transition stays while its status does.
pub fn set(conditions: &mut Vec<Condition>, mut new: Condition) {
    match conditions.iter_mut().find(|old| old.type_ == new.type_) {
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time = Time(old.last_transition_time.0);
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(type_: &str, status: &str, reason: &str, at: i64) -> Condition {
        Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: String::new(),
            last_transition_time: serde_json::from_value(format!("1970-01-01T00:00:{at:02}Z").into()).unwrap(),
            observed_generation: None,
        }
    }

    #[test]
    fn a_transition_is_a_change_of_status_only() {
        let mut conditions = vec![];
        set(&mut conditions, condition(PLACED, "False", "NoStreamer", 1));
        set(&mut conditions, condition(PLACED, "False", "NoCapacity", 2));
        assert_eq!(conditions, [condition(PLACED, "False", "NoCapacity", 1)]);
        set(&mut conditions, condition(PLACED, "True", "Placed", 3));
        assert_eq!(conditions, [condition(PLACED, "True", "Placed", 3)]);
    }
}
