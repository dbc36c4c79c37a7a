//! Statuses: written whole, and only when they differ from what is there.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Resource};
use serde::Serialize;
use serde_json::json;
use weir_crds::stream::Stream;
use weir_crds::streamer::Streamer;

use super::lean::{Entry, version_of};
use super::request::{Failure, bounded};
use super::{Kubernetes, MANAGER};
use crate::cluster::{ObjectRef, Status, Trouble};

/// A number that two statuses share exactly when they are written alike. Good within one process only.
pub(super) fn digest(status: &impl Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    // By way of `Value`, whose fields are in order whatever the type's are. Our own types have no keys that fail.
    let value = serde_json::to_value(status).unwrap_or_default();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

/// A status at a version of its object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct At {
    uid: String,
    version: u64,
    status: Option<u64>,
}

impl<K> From<&Entry<K>> for At {
    fn from(entry: &Entry<K>) -> Self {
        Self { uid: entry.uid.clone(), version: entry.version, status: entry.status }
    }
}

/// Whether `wanted` must be written, by what the watch saw last and by what we wrote last: the watch comes after.
fn is_needed(seen: Option<&At>, written: Option<&At>, wanted: u64) -> bool {
    let newest = match (seen, written) {
        (Some(seen), Some(written)) if seen.uid == written.uid && seen.version < written.version => Some(written),
        (Some(seen), _) => Some(seen),
        (None, written) => written,
    };
    newest.and_then(|newest| newest.status) != Some(wanted)
}

/// What was written last, by kind and object.
#[derive(Debug, Default)]
pub(super) struct Written(Mutex<BTreeMap<(&'static str, ObjectRef), At>>);

impl Written {
    fn get(&self, kind: &'static str, object: &ObjectRef) -> Option<At> {
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.get(&(kind, object.clone())).cloned()
    }

    /// Keeps it, unless there are far more than objects: deleted ones are not told from others here.
    fn set(&self, kind: &'static str, object: &ObjectRef, at: Option<At>, objects: usize) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() > objects * 2 + 1024 {
            written.clear();
        }
        match at {
            Some(at) => written.insert((kind, object.clone()), at),
            None => written.remove(&(kind, object.clone())),
        };
    }
}

impl Kubernetes {
    /// Writes a status if it differs. That of an object which is gone is nobody's loss.
    pub(super) async fn put_status(&self, object: &ObjectRef, status: &Status) -> Result<(), Trouble> {
        match status {
            Status::Stream(status) => {
                let seen = self.store().stream(object).map(At::from);
                self.put::<Stream>("Stream", object, seen, status).await
            }
            Status::Streamer(status) => {
                let seen = self.store().streamer(object).map(At::from);
                self.put::<Streamer>("Streamer", object, seen, status).await
            }
        }
    }

    async fn put<K>(
        &self,
        kind: &'static str,
        object: &ObjectRef,
        seen: Option<At>,
        status: &impl Serialize,
    ) -> Result<(), Trouble>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + std::fmt::Debug,
    {
        let wanted = digest(status);
        if !is_needed(seen.as_ref(), self.written.get(kind, object).as_ref(), wanted) {
            return Ok(());
        }
        let api = Api::<PartialObjectMeta<K>>::namespaced(self.client.clone(), &object.namespace);
        // `add` replaces the status as a whole: a merge would keep what is to go.
        let patch = json!([{"op": "add", "path": "/status", "value": status}]);
        let patch = serde_json::from_value(patch).map_err(|error| Trouble(error.to_string()))?;
        let (parameters, patch) = (PatchParams::apply(MANAGER), Patch::Json::<()>(patch));
        let request = api.patch_status(&object.name, &parameters, &patch);
        let answer = bounded(self.limit, request).await;
        let at = answer.as_ref().ok().and_then(|answer| {
            let version = version_of(&answer.metadata)?;
            let uid = answer.metadata.uid.clone().unwrap_or_default();
            let status = Some(wanted);
            Some(At { uid, version, status })
        });
        let objects = self.store().reported();
        self.written.set(kind, object, at, objects);
        match answer {
            Ok(_) => Ok(()),
            Err(failure) if failure.code() == Some(404) => Ok(()),
            Err(failure) => Err(trouble(kind, object, &failure)),
        }
    }
}

fn trouble(kind: &str, object: &ObjectRef, failure: &Failure) -> Trouble {
    let ObjectRef { namespace, name } = object;
    Trouble(format!("the status of {kind} {namespace}/{name}: {failure}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_crds::stream::StreamStatus;

    fn at(version: u64, status: u64) -> At {
        At { uid: "u1".into(), version, status: Some(status) }
    }

    #[test]
    fn a_status_is_written_when_it_differs_from_the_newest_that_is_known() {
        assert!(is_needed(None, None, 1));
        assert!(!is_needed(Some(&at(5, 1)), None, 1));
        assert!(is_needed(Some(&at(5, 2)), None, 1));
        // Ours has not come round yet.
        assert!(!is_needed(Some(&at(5, 2)), Some(&at(6, 1)), 1));
        assert!(is_needed(Some(&at(5, 1)), Some(&at(6, 2)), 1));
        // Somebody else wrote after us.
        assert!(is_needed(Some(&at(7, 2)), Some(&at(6, 1)), 1));
        // Deleted and made again.
        let again = At { uid: "u2".into(), ..at(8, 2) };
        assert!(is_needed(Some(&again), Some(&at(9, 1)), 1));
    }

    #[test]
    fn a_status_that_cannot_be_read_is_written_over() {
        let unreadable = At { status: None, ..at(5, 0) };
        assert!(is_needed(Some(&unreadable), None, 1));
    }

    #[test]
    fn a_digest_tells_statuses_apart() {
        let status = StreamStatus { epoch: Some(1), ..StreamStatus::default() };
        assert_eq!(digest(&status), digest(&status.clone()));
        assert_ne!(digest(&status), digest(&StreamStatus::default()));
    }

    #[test]
    fn what_was_written_does_not_pile_up() {
        let written = Written::default();
        for index in 0..5_000 {
            let object = ObjectRef { namespace: "media".into(), name: index.to_string() };
            written.set("Stream", &object, Some(at(1, 1)), 10);
        }
        assert!(written.0.lock().unwrap().len() <= 1_045);
    }
}
