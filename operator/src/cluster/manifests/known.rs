//! What is remembered of declared objects over a restart: since when there is each, how often its spec changed, and the
//! version that was accepted last. It stands in `objects.json`, readable by the operator alone: a spec may hold passwords.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use weir_feed::digest::hex;

use super::file::{self, StateError};
use crate::cluster::ObjectRef;

const ADVICE: &str = "restore it from a backup, or move it away: then every object counts as seen for the first time, and nothing protects against an emptied directory until it has been read once";

/// A kind that users declare here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Stream,
    Streamer,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Stream => "Stream",
            Self::Streamer => "Streamer",
        }
    }
}

/// One object's name among all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) kind: Kind,
    pub(super) object: ObjectRef,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind.name(), self.object.namespace, self.object.name)
    }
}

/// What is remembered of one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    /// When it was seen first, ms since the Unix epoch.
    pub(super) first_seen: u64,
    /// How many specs of it were accepted.
    pub(super) generation: i64,
    /// The file that declares it, relative to the directory.
    pub(super) file: String,
    /// The version accepted last, its defaults applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) accepted: Option<Value>,
}

/// Everything that is remembered.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Known(pub(super) BTreeMap<Key, Entry>);

impl Known {
    /// Reads `objects.json`.
    pub(super) fn load(state: &Path) -> Result<Self, StateError> {
        let path = state.join("objects.json");
        let entries: BTreeMap<String, Entry> = file::read_json(&path, ADVICE)?.unwrap_or_default();
        let entries = entries.into_iter().map(|(text, entry)| {
            let key = key(&text)
                .ok_or_else(|| file::unusable(&path, "has an entry without a kind, a namespace and a name", ADVICE))?;
            Ok((key, entry))
        });
        entries.collect::<Result<_, _>>().map(Self)
    }

    /// Writes `objects.json`.
    pub(super) fn store(&self, state: &Path) -> std::io::Result<()> {
        let text = |key: &Key| format!("{}/{}/{}", key.kind.name(), key.object.namespace, key.object.name);
        let entries: BTreeMap<String, &Entry> = self.0.iter().map(|(key, entry)| (text(key), entry)).collect();
        file::replace(&state.join("objects.json"), &serde_json::to_vec(&entries)?)
    }

    /// Takes what another operator wrote meanwhile; what only we saw stays.
    pub(super) fn merge(&mut self, newer: Self) {
        self.0.extend(newer.0);
    }
}

impl Entry {
    /// The uid of an object: it stays while the object is declared; one that is deleted and made again has another.
    pub(super) fn uid(&self, key: &Key) -> String {
        let digits = hex(&Sha256::digest(format!("{key}@{}", self.first_seen)));
        let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
        // Version 8 of RFC 9562: made by a rule of our own.
        format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(12, 15), part(15, 18), part(18, 30))
    }

    /// The metadata that an API server would add.
    pub(super) fn stamp(&self, key: &Key, metadata: &mut ObjectMeta) {
        metadata.namespace = Some(key.object.namespace.clone());
        metadata.uid = Some(self.uid(key));
        metadata.generation = Some(self.generation.max(1));
        metadata.creation_timestamp = self.created();
        metadata.resource_version = None;
        metadata.managed_fields = None;
    }

    /// `metadata.creationTimestamp`.
    pub(super) fn created(&self) -> Option<Time> {
        let first_seen = i64::try_from(self.first_seen).ok()?;
        Timestamp::from_millisecond(first_seen).ok().map(Time)
    }
}

fn key(text: &str) -> Option<Key> {
    let (kind, rest) = text.split_once('/')?;
    let (namespace, name) = rest.split_once('/')?;
    let kind = [Kind::Stream, Kind::Streamer].into_iter().find(|known| known.name() == kind)?;
    let object = ObjectRef { namespace: namespace.to_owned(), name: name.to_owned() };
    Some(Key { kind, object })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_comes_back_and_damage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Known::load(dir.path()).unwrap(), Known::default());
        let object = ObjectRef { namespace: "media".into(), name: "bunny".into() };
        let key = Key { kind: Kind::Stream, object };
        let entry = Entry { first_seen: 5, generation: 2, file: "a.yaml".into(), accepted: None };
        let known = Known([(key, entry)].into());
        known.store(dir.path()).unwrap();
        assert_eq!(Known::load(dir.path()).unwrap(), known);
        for text in ["", "{", "{\"Stream/a\": {\"firstSeen\": 1, \"generation\": 1, \"file\": \"a\"}}"] {
            std::fs::write(dir.path().join("objects.json"), text).unwrap();
            let error = Known::load(dir.path()).unwrap_err().0;
            assert!(error.contains("objects.json") && error.contains("restore it"), "{error}");
        }
    }

    #[test]
    fn a_uid_is_the_object_s_own_and_changes_when_it_is_made_again() {
        let key =
            |name: &str| Key { kind: Kind::Stream, object: ObjectRef { namespace: "media".into(), name: name.into() } };
        let entry = |first_seen| Entry { first_seen, generation: 1, file: String::new(), accepted: None };
        let uid = entry(1).uid(&key("a"));
        assert_eq!(uid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!(uid, entry(1).uid(&key("a")));
        assert_ne!(uid, entry(2).uid(&key("a")));
        assert_ne!(uid, entry(1).uid(&key("b")));
    }
}
