//! `spec.config`: the stream's further fields, passed to the streamer untouched; and those that cannot stand there.

use crate::schema::rule;
use crate::secret_ref::parse;
use crate::validate::Problem;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// The longest `config`, written as JSON, in bytes.
pub const MAX_CONFIG: usize = 65_536;

/// A bound for fields that are refused anyway.
const MAX_STRING: u32 = 2048;

/// A field that cannot stand in `config`.
struct Refused {
    /// Where it would stand; a `*` at the end stands for anything.
    path: &'static str,
    /// Its type, without which the API server cannot see the field. A value of another type is refused for its type.
    schema_type: &'static str,
    /// What to do instead.
    instead: &'static str,
}

const fn refused(path: &'static str, schema_type: &'static str, instead: &'static str) -> Refused {
    Refused { path, schema_type, instead }
}

const REMOVE: &str = "remove it";
const REFERENCE: &str = "remove it, and name storage of the streamer's own configuration in config.dvr.reference";

/// What the Stream itself says, and what streamers do not take from an external configuration (by the scope marks
/// in the vendor's OpenAPI files of 2023).
const REFUSED: &[Refused] = &[
    refused("name", "string", "set spec.name"),
    refused("inputs", "array", "set spec.inputs"),
    refused("static", "boolean", "set spec.static"),
    refused("disabled", "boolean", "set spec.disabled"),
    refused("template", "string", "write the template's fields into config"),
    refused("named_by", "string", REMOVE),
    refused("position", "integer", REMOVE),
    refused("stats", "object", REMOVE),
    refused("config_on_disk", "object", REMOVE),
    refused("cluster_ingest", "object", "remove it: Weir places the stream"),
    refused("srt_port_resolve", "object", REMOVE),
    refused("srt", "object", "remove it, or use config.srt_publish"),
    refused("srt2", "object", "remove it, or use config.srt_publish"),
    refused("srt_play", "object", REMOVE),
    refused("srt2_play", "object", REMOVE),
    refused("meta", "object", REMOVE),
    refused("pulse_off", "boolean", REMOVE),
    refused("debug_stream", "boolean", REMOVE),
    refused("prefer_codec", "string", REMOVE),
    refused("dvr.root", "string", REFERENCE),
    refused("dvr.disk_usage_limit", "integer", REFERENCE),
    refused("dvr.dvr_replicate", "boolean", REMOVE),
    refused("dvr.replication_*", "", REMOVE),
    refused("dvr.copy", "string", REFERENCE),
    refused("dvr.no_index", "boolean", REMOVE),
    refused("dvr.dvr_offline", "boolean", REMOVE),
    refused("dvr.keep_locks", "boolean", REMOVE),
    refused("logo.path", "string", REMOVE),
    refused("cache.path", "string", REMOVE),
];

impl Refused {
    fn sentence(&self) -> String {
        let (path, instead) = (self.path, self.instead);
        format!("config.{path} is not taken from a Stream's config: {instead}")
    }

    fn schema(&self) -> Value {
        let sentence = self.sentence();
        let mut open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        match self.schema_type {
            "array" => {
                json!({"type": "array", "maxItems": 256, "items": open, "description": sentence})
            }
            "object" => {
                open["description"] = sentence.into();
                open
            }
            "string" => {
                json!({"type": "string", "maxLength": MAX_STRING, "description": sentence})
            }
            other => json!({"type": other, "description": sentence}),
        }
    }

    /// The keys of `config` that it refuses.
    fn found(&self, config: &Map<String, Value>) -> Vec<String> {
        let (parent, key) = self.path.split_once('.').unwrap_or(("", self.path));
        let fields = if parent.is_empty() { Some(config) } else { config.get(parent).and_then(Value::as_object) };
        let matches = |name: &str| match key.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == key,
        };
        let dot = if parent.is_empty() { "" } else { "." };
        fields
            .into_iter()
            .flat_map(Map::keys)
            .filter(|name| matches(name))
            .map(|name| format!("spec.config.{parent}{dot}{name}"))
            .collect()
    }
}

/// The schema of `config`: the only place where unknown fields are kept. What CEL cannot see is left to [`check`].
pub(crate) fn schema(_: &mut SchemaGenerator) -> Schema {
    let mut properties = Map::new();
    let mut rules = vec![];
    for field in REFUSED.iter().filter(|field| !field.path.ends_with('*')) {
        let sentence = field.sentence();
        let (cel, slot, key) = match field.path.split_once('.') {
            None => (format!("!has(self.{})", field.path), &mut properties, field.path),
            Some((parent, key)) => {
                let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {}});
                let slot =
                    properties.entry(parent).or_insert(open).pointer_mut("/properties").and_then(Value::as_object_mut);
                let Some(slot) = slot else { continue };
                (format!("!has(self.{parent}) || !has(self.{})", field.path), slot, key)
            }
        };
        slot.insert(key.to_owned(), field.schema());
        rules.push(rule(cel, &sentence).field_path(format!(".{}", field.path)));
    }
    json_schema!({
        "type": "object", "maxProperties": 256, "x-kubernetes-preserve-unknown-fields": true,
        "properties": properties, "x-kubernetes-validations": rules,
    })
}

/// What the API server cannot see in a `config` that it took: nested and misspelt things, each with its place.
pub fn check(config: &Map<String, Value>) -> Vec<Problem> {
    let mut problems: Vec<Problem> = REFUSED
        .iter()
        .flat_map(|field| field.found(config).into_iter().map(|path| Problem::new(path, field.sentence())))
        .collect();
    for (key, value) in config {
        check_strings(&format!("spec.config.{key}"), value, &mut problems);
    }
    let size = serde_json::to_vec(config).map_or(usize::MAX, |json| json.len());
    if size > MAX_CONFIG {
        problems.push(Problem::new(
            "spec.config",
            format!("config is {size} bytes of JSON and can be {MAX_CONFIG}: make it shorter"),
        ));
    }
    problems
}

/// Reports every string within `value` whose `${` begins no reference.
fn check_strings(path: &str, value: &Value, problems: &mut Vec<Problem>) {
    match value {
        Value::String(text) => problems.extend(parse(text).err().map(|error| Problem::new(path, error.to_string()))),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check_strings(&format!("{path}[{index}]"), item, problems);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                check_strings(&format!("{path}.{key}"), field, problems);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_json(config: Value) -> Vec<String> {
        let Value::Object(config) = config else { panic!("not an object") };
        check(&config).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_cel_cannot_see_is_found() {
        assert_eq!(
            check_json(
                json!({"dvr": {"replication_port": 1, "reference": "d"}, "on_play": {"url": ["a", "${secret:x}"]}, "title": "$${ok}"})
            ),
            [
                "spec.config.dvr.replication_port: config.dvr.replication_* is not taken from a Stream's config: remove it",
                "spec.config.on_play.url[1]: '${' at character 1 begins no reference: write ${secret:NAME/KEY}, or $${ for a literal ${",
            ]
        );
        assert_eq!(check_json(json!({"title": "x".repeat(MAX_CONFIG)})).len(), 1);
    }

    #[test]
    fn a_refused_field_is_found_whatever_its_type() {
        assert_eq!(check_json(json!({"meta": [1], "position": "1", "cache": {"path": null}})).len(), 3);
        assert_eq!(
            check_json(json!({"dvr": {"reference": "main"}, "logo": {}, "cache": 5, "srt_publish": {"port": 9000}})),
            [""; 0]
        );
    }
}
