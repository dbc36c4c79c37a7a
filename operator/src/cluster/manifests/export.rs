//! Everything as objects for a cluster. Applied there before its operator starts, nothing moves: records say who captures
//! what, slices carry the term that the next one exceeds, and the key ring proves what sidecars say that they serve.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use weir_crds::Placement;

use super::file::{self, StateError};
use super::known::{Key, Kind};
use super::lock::Lock;
use super::picture::{Picture, Refreshed};
use super::slices::Slices;
use super::{admit, keys};
use crate::cluster::kubernetes::GRANTS;
use crate::cluster::{CONFIRM_REMOVAL, CREDENTIALS, Credentials, Object, ObjectRef};
use crate::token;

/// How often a directory that is being written is looked at again.
const LOOKS: u32 = 20;

/// What is to be exported, and to where.
#[derive(Debug, Clone)]
pub struct Options {
    pub manifests: PathBuf,
    pub state: PathBuf,
    /// Empty: all.
    pub namespaces: BTreeSet<String>,
    /// The namespace of the cluster's operator.
    pub own_namespace: String,
    pub token_file: Option<PathBuf>,
}

/// What a cluster is to be given, in the order in which it is to be applied, and what people should know.
#[derive(Debug, Clone, Default)]
pub struct Export {
    pub objects: Vec<Value>,
    pub warnings: Vec<String>,
}

/// Reads everything, and changes nothing; an operator may be running.
pub fn export(options: &Options) -> Result<Export, StateError> {
    let state = &options.state;
    let never_led = || file::unusable(state, "holds no keys", "name the --state of an operator that has led");
    let ring = keys::encoded(state)?.ok_or_else(never_led)?;
    let mut picture = Picture::open(&options.manifests, state, options.namespaces.clone())?;
    let mut looks = 0;
    while picture.refresh(true, SystemTime::now()) == Refreshed::Changing {
        looks += 1;
        if looks == LOOKS {
            return Err(file::unusable(&options.manifests, "keeps changing", "try again when it is quiet"));
        }
    }
    let slices = Slices::open(state, Arc::new(Lock::new(state, "export", None)))?;
    let placements = slices.objects()?;
    let mut export = Export { warnings: picture.problems(), ..Export::default() };
    let declared = picture.whole()?;
    let in_scope = |namespace: &str| options.namespaces.is_empty() || options.namespaces.contains(namespace);

    // What others need comes first, and records before their Streams: a Stream without one would be placed anew.
    let mut objects = vec![key_ring(&options.own_namespace, &ring)];
    objects.extend(declared.secrets.iter().map(|(object, data)| credentials(object, data)));
    if let Some(path) = &options.token_file {
        let portable = token::file::portable(path).map_err(|error| StateError(format!("{error:#}")))?;
        objects.extend(portable.tokens.iter().map(|(hash, streamer)| json!(token::secret::secret(*hash, streamer))));
        export.warnings.extend(portable.others.iter().map(|streamer| {
            format!("the token of {streamer} is none of weir-operator token create: the cluster does not take it")
        }));
    }
    objects.extend(
        placements.iter().filter(|one| in_scope(one.metadata.namespace.as_deref().unwrap_or_default())).map(placement),
    );
    let registered = picture.registered.streamers().iter();
    let registered =
        registered.filter(|(object, _)| in_scope(&object.namespace) && !declared.streamers.contains_key(object));
    objects.extend(registered.map(|(_, streamer)| bare(json!(**streamer))));
    for (kind, declared) in
        [(Kind::Streamer, malformed(&declared.streamers)), (Kind::Stream, malformed(&declared.streams))]
    {
        for (object, malformed) in declared {
            let key = Key { kind, object };
            let accepted = picture.admission.known.0.get(&key).and_then(|entry| entry.accepted.clone());
            export.warnings.extend(malformed.map(|why| match accepted {
                Some(_) => format!("{key} is exported as it was accepted last: {why}"),
                None => format!("{key} is left out, since it was never accepted: {why}"),
            }));
            objects.extend(accepted.map(bare));
        }
    }
    export.objects = namespaces(&objects).chain(objects.clone()).collect();
    Ok(export)
}

/// The names of declared objects, and why one cannot be read.
fn malformed<T>(declared: &BTreeMap<ObjectRef, Object<T>>) -> Vec<(ObjectRef, Option<String>)> {
    let why = |content: &Object<T>| match content {
        Object::Readable(_) => None,
        Object::Malformed { message, .. } => Some(message.clone()),
    };
    declared.iter().map(|(object, content)| (object.clone(), why(content))).collect()
}

/// The namespaces of `objects`, but for the one that every cluster has.
fn namespaces(objects: &[Value]) -> impl Iterator<Item = Value> {
    let names = objects.iter().filter_map(|object| object["metadata"]["namespace"].as_str());
    let names: BTreeSet<String> = names.filter(|name| *name != admit::DEFAULT_NAMESPACE).map(str::to_owned).collect();
    names.into_iter().map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
}

fn key_ring(namespace: &str, encoded: &BTreeMap<String, String>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"namespace": namespace, "name": GRANTS},
        "data": encoded,
    })
}

fn credentials(object: &ObjectRef, Credentials(data): &Credentials) -> Value {
    let data: Map<String, Value> =
        data.iter().map(|(key, value)| (key.clone(), STANDARD.encode(value).into())).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": CREDENTIALS,
        "metadata": {"namespace": object.namespace, "name": object.name},
        "data": data,
    })
}

fn placement(placement: &Placement) -> Value {
    let mut object = bare(json!(placement));
    object["status"] = json!(placement.status);
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.retain(|name, _| name == CONFIRM_REMOVAL);
    }
    object
}

/// An object as a person would write it: without what only a cluster gives it.
fn bare(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, value| {
            ["namespace", "name", "labels", "annotations"].contains(&field.as_str()) && !value.is_null()
        });
    }
    object
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
