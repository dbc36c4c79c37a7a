//! The API server's validation without an API server: the same schemas, defaults and CEL rules, taken from the
//! generated definitions, so that a manifest which a directory takes is one that a cluster takes.

use crate::label_selector::{keys, labels};
use crate::schema::{MAX_NAME, matches, rule};
use crate::{GROUP, StreamSpec, VERSION, config, crds};
use jsonschema::error::{ValidationError, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use kube::Resource;
use kube_cel::CompiledSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

/// One thing that is wrong with an object. It never repeats a value, which may be a password.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where: `spec.inputs[0].url`; empty for the object as a whole.
    pub path: String,
    /// What to change, in a sentence.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.path.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{}", self.path, self.message)
    }
}

/// What is needed to validate one kind.
struct Kind {
    schema: Value,
    structure: jsonschema::Validator,
    rules: CompiledSchema,
    has_status_subresource: bool,
}

/// Every kind, made on first use.
static KINDS: LazyLock<BTreeMap<String, Kind>> = LazyLock::new(|| {
    let kinds = crds().into_iter().filter_map(|crd| {
        let version = crd.spec.versions.into_iter().next()?;
        let mut schema = serde_json::to_value(version.schema?.open_api_v3_schema?).ok()?;
        complete(&mut schema, &crd.spec.names.kind);
        let mut structure = schema.clone();
        close(&mut structure);
        // Go's expressions are those of the `regex` crate, without look-around.
        let options = jsonschema::options()
            .should_validate_formats(true)
            .with_pattern_options(jsonschema::PatternOptions::regex());
        let structure = options.build(&structure).ok()?;
        let mut rules = schema.clone();
        let names = underscored(&rules);
        escape(&mut rules, &names);
        let rules = kube_cel::compile_schema(&rules);
        let has_status_subresource = version.subresources.is_some_and(|subresources| subresources.status.is_some());
        Some((crd.spec.names.kind, Kind { schema, structure, rules, has_status_subresource }))
    });
    kinds.collect()
});

/// The object as the API server would store it, its defaults applied, or everything that is wrong with it.
/// `old` is the stored object that it replaces, for rules about changes. What only a look at other objects or at the
/// innards of `config` can tell ([`check_stream`]) is not looked at.
pub fn validate(kind: &str, object: &Value, old: Option<&Value>) -> Result<Value, Vec<Problem>> {
    let known = || KINDS.keys().cloned().collect::<Vec<_>>().join(", ");
    let kind = KINDS.get(kind).ok_or_else(|| vec![Problem::new("kind", format!("must be one of {}", known()))])?;
    let object = kind.admit(object);
    let (mut problems, readable) = kind.structure_problems(&object);
    if readable {
        let old = old.map(|old| kind.admit(old));
        problems.extend(kind.rule_problems(&object, old.as_ref()));
    }
    if problems.is_empty() { Ok(object) } else { Err(problems) }
}

/// Reads one object as its type. An object that cannot be read (stored before its definition changed, say) is an
/// error of its own and spoils no list.
pub fn decode<K: Resource<DynamicType = ()> + DeserializeOwned>(object: &Value) -> Result<K, Vec<Problem>> {
    K::deserialize(object).map_err(|_| {
        // Not serde's own words: they repeat the value.
        let kind = K::kind(&());
        let problems = KINDS.get(kind.as_ref()).map(|kind| kind.structure_problems(object).0).unwrap_or_default();
        if problems.is_empty() {
            vec![Problem::new(
                "",
                format!("cannot be read as a {kind}: compare it with `kubectl explain {}`", kind.to_lowercase()),
            )]
        } else {
            problems
        }
    })
}

/// What no rule of the API server can see in a Stream that it took; such a Stream is stored and not `Accepted`.
pub fn check_stream(spec: &StreamSpec) -> Vec<Problem> {
    config::check(&spec.config)
}

impl Kind {
    /// What the API server does before it validates: a status has a door of its own, a null is as good as an absent
    /// field, and defaults are filled in.
    fn admit(&self, object: &Value) -> Value {
        let mut object = object.clone();
        if self.has_status_subresource
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
        drop_nulls(&self.schema, &mut object);
        kube_cel::apply_defaults(&self.schema, &object)
    }

    /// What is wrong with the object's shape, and whether rules can read it all the same.
    fn structure_problems(&self, object: &Value) -> (Vec<Problem>, bool) {
        let (mut problems, mut readable) = (vec![], true);
        for error in self.structure.iter_errors(object) {
            use ValidationErrorKind::{MaxItems, MaxLength, MaxProperties, Required, Type};
            readable &= !matches!(
                error.kind(),
                Required { .. } | Type { .. } | MaxItems { .. } | MaxLength { .. } | MaxProperties { .. }
            );
            problems.extend(structure_problem(&error));
        }
        (problems, readable)
    }

    fn rule_problems(&self, object: &Value, old: Option<&Value>) -> Vec<Problem> {
        let errors =
            kube_cel::validate_compiled(&self.rules, object, old).err().map(kube_cel::ValidationErrors::into_vec);
        errors.into_iter().flatten().map(|error| Problem::new(error.field_path, error.message)).collect()
    }
}

/// The words for an error of shape.
fn structure_problem(error: &ValidationError<'_>) -> Vec<Problem> {
    let path = path_of(error.instance_path());
    let at = |name: &str| {
        if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
    };
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let sentence = "unknown field: correct or remove it (further fields of the stream stand in spec.config)";
            unexpected.iter().map(|name| Problem::new(at(name), sentence)).collect()
        }
        ValidationErrorKind::Required { property } => {
            vec![Problem::new(at(property.as_str().unwrap_or_default()), "is required: set it")]
        }
        _ => vec![Problem::new(path, error.masked_with("the value").to_string())],
    }
}

/// A JSON pointer as Kubernetes writes paths.
fn path_of(location: &Location) -> String {
    location.segments().fold(String::new(), |path, segment| match segment {
        LocationSegment::Index(index) => format!("{path}[{index}]"),
        LocationSegment::Property(name) if path.is_empty() => name.into_owned(),
        LocationSegment::Property(name) => format!("{path}.{name}"),
    })
}

/// Adds what the API server knows of every object and no definition says.
fn complete(schema: &mut Value, kind: &str) {
    let subdomain = rule(
        matches("self", "^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"),
        "a name is made of small letters, digits, '-' and '.', and begins and ends with a letter or digit",
    );
    let label = rule(
        matches("self", "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"),
        "a namespace is made of small letters, digits and '-', and begins and ends with a letter or digit",
    );
    let mut properties = json!({
        "name": {"type": "string", "minLength": 1, "maxLength": MAX_NAME, "x-kubernetes-validations": [subdomain]},
        "namespace": {"type": "string", "minLength": 1, "maxLength": 63, "x-kubernetes-validations": [label]},
        "labels": labels(),
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}, "x-kubernetes-validations": [keys()]},
        "generateName": {}, "uid": {}, "resourceVersion": {}, "generation": {}, "creationTimestamp": {}, "selfLink": {},
        "deletionTimestamp": {}, "deletionGracePeriodSeconds": {}, "finalizers": {}, "ownerReferences": {}, "managedFields": {},
    });
    if let Some(labels) = properties["labels"].as_object_mut() {
        labels.remove("maxProperties"); // a selector's bound, not an object's
    }
    schema["properties"]["metadata"] = json!({"type": "object", "required": ["name"], "properties": properties});
    schema["properties"]["apiVersion"] = json!({"type": "string", "const": format!("{GROUP}/{VERSION}")});
    schema["properties"]["kind"] = json!({"type": "string", "const": kind});
    schema["required"] = json!(["apiVersion", "kind", "metadata", "spec"]);
}

/// The schemas directly within `schema`.
fn children(schema: &mut Value) -> impl Iterator<Item = &mut Value> {
    let fields = schema.as_object_mut().into_iter().flatten();
    fields.flat_map(|(key, value)| match (key.as_str(), value) {
        ("properties", Value::Object(named)) => named.values_mut().collect(),
        ("items" | "additionalProperties", child @ Value::Object(_)) => vec![child],
        _ => vec![],
    })
}

/// Refuses fields that the schema does not name, as `kubectl` asks the API server to do.
fn close(schema: &mut Value) {
    let open = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
        || schema.get("additionalProperties").is_some();
    if !open && schema.get("properties").is_some() {
        schema["additionalProperties"] = Value::Bool(false);
    }
    children(schema).for_each(close);
}

/// Removes every null that stands for a field which the schema names.
fn drop_nulls(schema: &Value, object: &mut Value) {
    match object {
        Value::Object(fields) => {
            let child = |name: &str| {
                schema
                    .get("properties")
                    .and_then(|named| named.get(name))
                    .or_else(|| schema.get("additionalProperties"))
            };
            fields.retain(|name, field| !(field.is_null() && child(name).is_some()));
            fields.iter_mut().for_each(|(name, field)| {
                if let Some(schema) = child(name) {
                    drop_nulls(schema, field);
                }
            });
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    drop_nulls(schema, item);
                }
            }
        }
        _ => {}
    }
}

/// The names with an underscore that the schema declares.
fn underscored(schema: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut schemas = vec![schema];
    while let Some(schema) = schemas.pop() {
        let fields = schema.get("properties").and_then(Value::as_object);
        names.extend(fields.into_iter().flat_map(|fields| fields.keys()).filter(|name| name.contains('_')).cloned());
        schemas.extend(fields.into_iter().flat_map(|fields| fields.values()));
        schemas.extend(["items", "additionalProperties"].into_iter().filter_map(|key| schema.get(key)));
    }
    names
}

/// kube-cel 0.8 doubles the underscores of field names (the API server escapes only names with two of them): a rule
/// that says `has(self.named_by)` would not see the field. Its rules get the same escape.
fn escape(schema: &mut Value, names: &BTreeSet<String>) {
    for rule in schema.get_mut("x-kubernetes-validations").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(Value::String(cel)) = rule.get_mut("rule") {
            for name in names {
                *cel = cel.replace(&format!(".{name})"), &format!(".{})", name.replace('_', "__")));
            }
        }
    }
    children(schema).for_each(|child| escape(child, names));
}
