//! Objects as they come, without what nobody here reads: one that is malformed spoils no list.

use std::borrow::Cow;
use std::marker::PhantomData;

use kube::Resource;
use kube::core::ObjectMeta;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use weir_crds::stream::{Stream, StreamStatus};
use weir_crds::streamer::{Streamer, StreamerStatus};

use super::status::digest;
use crate::cluster::{LAST_APPLIED, Object, ObjectRef};
use crate::text::shortened;

/// The most that is said about one malformed object, in bytes.
const MAX_MESSAGE: usize = 1024;

/// An object of kind `K`, unread. Managed fields and the last applied configuration are dropped at once: they are
/// more than half of it.
#[derive(Clone)]
pub(super) struct Lean<K> {
    metadata: ObjectMeta,
    object: Value,
    kind: PhantomData<fn() -> K>,
}

/// Names the object; what stands in it may be a password.
impl<K> std::fmt::Debug for Lean<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lean({:?})", self.metadata.name)
    }
}

impl<'de, K> Deserialize<'de> for Lean<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        let mut metadata = ObjectMeta::default();
        if let Some(fields) = object.get_mut("metadata") {
            if let Some(fields) = fields.as_object_mut() {
                fields.remove("managedFields");
            }
            if let Some(annotations) = fields.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove(LAST_APPLIED);
            }
            metadata = ObjectMeta::deserialize(&*fields).unwrap_or_default();
        }
        Ok(Self { metadata, object, kind: PhantomData })
    }
}

impl<K: Resource> Resource for Lean<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<K: Resource<DynamicType = ()> + DeserializeOwned> Lean<K> {
    /// Reads it as its type, or says in one sentence why it cannot be read.
    pub(super) fn read(&self) -> Result<K, String> {
        weir_crds::decode(&self.object).map_err(|problems| {
            let sentences: Vec<_> = problems.iter().map(ToString::to_string).collect();
            shortened(&sentences.join("; "), MAX_MESSAGE).to_owned()
        })
    }
}

/// A kind whose objects are observed and get a status.
pub(super) trait Reported: Resource<DynamicType = ()> + DeserializeOwned {
    /// Its status.
    type Status: Serialize + DeserializeOwned;
}

impl Reported for Stream {
    type Status = StreamStatus;
}

impl Reported for Streamer {
    type Status = StreamerStatus;
}

/// What is kept of an object that gets a status.
#[derive(Debug, Clone)]
pub(super) struct Entry<K> {
    pub(super) object: Object<K>,
    pub(super) uid: String,
    /// `metadata.resourceVersion` as a number.
    pub(super) version: u64,
    /// [`digest`] of the status it has; `None` where that cannot be read.
    pub(super) status: Option<u64>,
}

/// Which object this is.
pub(super) fn object_ref(metadata: &ObjectMeta) -> ObjectRef {
    ObjectRef {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

/// `metadata.resourceVersion` as a number; Kubernetes promises that it is one (KEP-5504).
pub(super) fn version_of(metadata: &ObjectMeta) -> Option<u64> {
    metadata.resource_version.as_deref()?.parse().ok()
}

/// What is kept of an object as it came.
pub(super) fn entry<K: Reported>(mut lean: Lean<K>) -> (ObjectRef, Entry<K>) {
    let reference = object_ref(&lean.metadata);
    let uid = lean.metadata.uid.clone().unwrap_or_default();
    let status = lean.object.get("status").cloned().unwrap_or_default();
    let status = if status.is_null() {
        Some(digest(&Value::Object(serde_json::Map::new())))
    } else {
        K::Status::deserialize(status).ok().map(|s| digest(&s))
    };
    if status.is_none()
        && let Some(fields) = lean.object.as_object_mut()
    {
        fields.remove("status"); // only a report: nobody's stream stops because of it
    }
    let object = match lean.read() {
        Ok(object) => Object::Readable(object.into()),
        Err(message) => {
            Object::Malformed { uid: uid.clone(), generation: lean.metadata.generation.unwrap_or_default(), message }
        }
    };
    let version = version_of(&lean.metadata).unwrap_or_default();
    let entry = Entry { object, uid, version, status };
    (reference, entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stream(spec: &Value, status: &Value) -> (ObjectRef, Entry<Stream>) {
        let object = json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "Stream",
            "metadata": {
                "namespace": "media", "name": "bunny", "uid": "u1", "resourceVersion": "17", "generation": 3,
                "annotations": {LAST_APPLIED: "{\"hunter2\":1}", "kept": "yes"},
                "managedFields": [{"manager": "kubectl"}],
            },
            "spec": spec, "status": status,
        });
        entry(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn what_nobody_reads_is_dropped_and_the_rest_is_kept() {
        let (reference, entry) = stream(&json!({"inputs": [{"url": "rtsp://camera/1"}]}), &json!({}));
        assert_eq!(reference.name, "bunny");
        assert_eq!((entry.uid.as_str(), entry.version), ("u1", 17));
        let Object::Readable(stream) = entry.object else {
            panic!("{entry:?}");
        };
        assert_eq!(stream.metadata.managed_fields, None);
        let annotations = stream.metadata.annotations.clone().unwrap();
        assert_eq!(annotations.into_keys().collect::<Vec<_>>(), ["kept"]);
        assert_eq!(stream.spec.inputs.len(), 1);
    }

    #[test]
    fn a_malformed_object_is_set_aside_with_its_field_and_without_its_value() {
        let (_, entry) = stream(&json!({"inputs": "rtsp://u:hunter2@camera/1"}), &json!({}));
        let Object::Malformed { uid, generation, message } = entry.object else {
            panic!("{entry:?}");
        };
        assert_eq!((uid.as_str(), generation), ("u1", 3));
        assert!(message.contains("spec.inputs"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn a_status_that_cannot_be_read_spoils_no_object() {
        let spec = json!({"inputs": [{"url": "rtsp://camera/1"}]});
        let (_, entry) = stream(&spec, &json!({"epoch": "many"}));
        assert!(matches!(entry.object, Object::Readable(_)), "{entry:?}");
        assert_eq!(entry.status, None);
    }

    #[test]
    fn no_status_and_an_empty_one_are_the_same() {
        let spec = json!({"inputs": [{"url": "rtsp://camera/1"}]});
        let (_, without) = stream(&spec, &Value::Null);
        assert_eq!(without.status, Some(digest(&StreamStatus::default())));
    }
}
