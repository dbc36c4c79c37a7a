//! From documents to objects: each is validated as the API server would, and what is wrong sets aside only itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use serde_json::Value;
use sha2::{Digest, Sha256};
use weir_crds::{Problem, Stream, Streamer};

use super::documents::Document;
use super::known::{Entry, Key, Kind, Known};
use crate::cluster::{CREDENTIALS, Credentials, LAST_APPLIED, Object, ObjectRef};
use crate::text::is_name;

/// What a namespace's objects without one are in, as for `kubectl`.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// What a directory declares.
#[derive(Debug, Clone, Default)]
pub(super) struct Declared {
    pub(super) streams: BTreeMap<ObjectRef, Object<Stream>>,
    pub(super) streamers: BTreeMap<ObjectRef, Object<Streamer>>,
    pub(super) secrets: BTreeMap<ObjectRef, Credentials>,
    /// What is wrong, one sentence each.
    pub(super) problems: Vec<String>,
    /// What is not ours, one sentence each.
    pub(super) set_aside: BTreeSet<String>,
}

/// Admits objects, and remembers what it admitted.
pub(super) struct Admission {
    /// The namespaces that count; empty: all.
    namespaces: BTreeSet<String>,
    pub(super) known: Known,
    /// Whether `known` is more than what was stored last.
    pub(super) news: bool,
    /// By object, the hash of the document that was judged last, and the judgement.
    judged: BTreeMap<Key, ([u8; 32], Judged)>,
}

#[derive(Clone)]
enum Judged {
    Stream(Object<Stream>),
    Streamer(Object<Streamer>),
}

impl Admission {
    pub(super) fn new(namespaces: BTreeSet<String>, known: Known) -> Self {
        Self { namespaces, known, news: false, judged: BTreeMap::new() }
    }

    /// Takes what another operator remembers.
    pub(super) fn merge(&mut self, known: Known) {
        self.known.merge(known);
        self.judged.clear();
    }

    /// Admits everything a directory declares; `now` is the wall clock in ms. A document with `true` beside it is only
    /// remembered: another one of the same object goes before it without a word.
    pub(super) fn admit(&mut self, documents: Vec<(Document, bool)>, now: u64) -> Declared {
        let mut declared = Declared::default();
        let mut candidates: BTreeMap<Key, Vec<(Document, bool)>> = BTreeMap::new();
        let mut secrets: BTreeMap<ObjectRef, Vec<(Document, bool)>> = BTreeMap::new();
        for (document, kept) in documents {
            match self.sort(&document) {
                Sorted::Object(key) => candidates.entry(key).or_default().push((document, kept)),
                Sorted::Secret(object) => secrets.entry(object).or_default().push((document, kept)),
                Sorted::Wrong(problem) => declared.problems.push(problem),
                Sorted::Foreign(sentence) => {
                    declared.set_aside.insert(sentence);
                }
            }
        }
        for (object, documents) in secrets {
            let what = format!("Secret {}/{}", object.namespace, object.name);
            let Some(document) = choose(&what, documents, None, &mut declared.problems) else { continue };
            match credentials(&document.value) {
                Ok(credentials) => {
                    declared.secrets.insert(object, credentials);
                }
                Err(why) => declared.problems.push(format!("{}: {what}: {why}", document.at())),
            }
        }
        let scope = self.namespaces.clone();
        let in_scope = |key: &Key| scope.is_empty() || scope.contains(&key.object.namespace);
        let before = self.known.0.len();
        self.known.0.retain(|key, _| candidates.contains_key(key) || !in_scope(key));
        self.news |= self.known.0.len() != before;
        self.judged.retain(|key, _| candidates.contains_key(key));
        for (key, documents) in candidates {
            let file = self.known.0.get(&key).map(|entry| entry.file.clone());
            let Some(document) = choose(&key.to_string(), documents, file.as_ref(), &mut declared.problems) else {
                continue;
            };
            match self.judge(&key, &document, now) {
                Judged::Stream(object) => {
                    declared.streams.insert(key.object, object);
                }
                Judged::Streamer(object) => {
                    declared.streamers.insert(key.object, object);
                }
            }
        }
        declared
    }

    /// What was accepted before, as documents: for a directory that cannot be read.
    pub(super) fn remembered(&self) -> Vec<(Document, bool)> {
        let entries = self.known.0.values();
        let document = |entry: &Entry| {
            let value = entry.accepted.clone()?;
            let place = "as it was accepted before".to_owned();
            Some((Document { file: entry.file.clone(), place, value }, true))
        };
        entries.filter_map(document).collect()
    }

    fn sort(&self, document: &Document) -> Sorted {
        let at = document.at();
        let Some(kind) = document.text(&["kind"]) else {
            return Sorted::Wrong(format!("{at}: is no Kubernetes object: it has no kind"));
        };
        let api = document.text(&["apiVersion"]).unwrap_or_default();
        let ours = api.is_empty() || api.starts_with("weir.dev/");
        let name = document.text(&["metadata", "name"]).unwrap_or_default();
        let namespace = document.text(&["metadata", "namespace"]).unwrap_or(DEFAULT_NAMESPACE);
        let foreign =
            |why: &str| Sorted::Foreign(format!("{kind} {namespace}/{name} in {} is set aside: {why}", document.file));
        let declared = match kind {
            "Stream" if ours => Some(Kind::Stream),
            "Streamer" if ours => Some(Kind::Streamer),
            "Secret" if matches!(api, "" | "v1") => None,
            "Placement" if ours => {
                return foreign("Placements are the operator's own and stand in its state directory");
            }
            _ => return foreign("Weir reads Streams, Streamers and Secrets"),
        };
        if declared.is_none() && document.text(&["type"]) != Some(CREDENTIALS) {
            return foreign("only Secrets of type weir.dev/credentials are read");
        }
        if !is_name(name) || !is_name(namespace) || namespace.contains('.') {
            return Sorted::Wrong(format!(
                "{at}: a {kind} without a usable name: metadata.name is made of small letters, digits, '-' and '.', metadata.namespace of small letters, digits and '-'"
            ));
        }
        if !self.namespaces.is_empty() && !self.namespaces.contains(namespace) {
            return foreign("this operator was not told to look after its namespace");
        }
        let object = ObjectRef { namespace: namespace.to_owned(), name: name.to_owned() };
        declared
            .map_or_else(|| Sorted::Secret(object.clone()), |kind| Sorted::Object(Key { kind, object: object.clone() }))
    }

    fn judge(&mut self, key: &Key, document: &Document, now: u64) -> Judged {
        let mut value = document.value.clone();
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("namespace".to_owned(), key.object.namespace.clone().into());
            // The spec once more, where nobody hides its passwords.
            if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove(LAST_APPLIED);
            }
        }
        let hash: [u8; 32] = Sha256::digest(value.to_string()).into();
        let news = &mut self.news;
        let entry = self.known.0.entry(key.clone()).or_insert_with(|| Entry {
            first_seen: now,
            generation: 0,
            file: document.file.clone(),
            accepted: None,
        });
        if entry.generation == 0 || entry.file != document.file {
            entry.file.clone_from(&document.file);
            *news = true;
        }
        if let Some((judged, judgement)) = self.judged.get(key)
            && *judged == hash
        {
            return judgement.clone();
        }
        let result = weir_crds::validate(key.kind.name(), &value, entry.accepted.as_ref());
        let result = result.map(|accepted| {
            let spec = |value: Option<&Value>| value.and_then(|value| value.get("spec")).cloned();
            if spec(entry.accepted.as_ref()) != spec(Some(&accepted)) {
                entry.generation += 1;
            }
            *news |= entry.accepted.as_ref() != Some(&accepted);
            entry.accepted.insert(accepted).clone()
        });
        let judgement = match key.kind {
            Kind::Stream => Judged::Stream(object(result, weir_crds::decode, key, entry, document)),
            Kind::Streamer => Judged::Streamer(object(result, weir_crds::decode, key, entry, document)),
        };
        self.judged.insert(key.clone(), (hash, judgement.clone()));
        judgement
    }
}

/// What a document is to us.
enum Sorted {
    Object(Key),
    Secret(ObjectRef),
    Wrong(String),
    Foreign(String),
}

/// One document of those that declare the same object: one that was read before one that is only remembered, then that
/// of the file that declared it before, then the first.
fn choose(
    what: &str,
    mut documents: Vec<(Document, bool)>,
    file: Option<&String>,
    problems: &mut Vec<String>,
) -> Option<Document> {
    documents.sort_by_key(|(document, kept)| (*kept, Some(&document.file) != file));
    let mut documents = documents.into_iter();
    let (chosen, _) = documents.next()?;
    for (other, _) in documents.filter(|(_, kept)| !kept) {
        let sentence = format!(
            "{}: {what} is declared in {} already: this one is set aside, remove one of them",
            other.at(),
            chosen.at()
        );
        problems.push(sentence);
    }
    Some(chosen)
}

/// The object as its type, or why it is set aside.
fn object<T: ResourceExt>(
    accepted: Result<Value, Vec<Problem>>,
    decode: impl Fn(&Value) -> Result<T, Vec<Problem>>,
    key: &Key,
    entry: &Entry,
    document: &Document,
) -> Object<T> {
    match accepted.and_then(|value| decode(&value)) {
        Ok(mut object) => {
            let metadata: &mut ObjectMeta = object.meta_mut();
            entry.stamp(key, metadata);
            Object::Readable(Arc::new(object))
        }
        Err(problems) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Object::Malformed {
                uid: entry.uid(key),
                generation: entry.generation.max(1),
                message: format!("{}: {}", document.at(), problems.join("; ")),
            }
        }
    }
}

/// The data of a Secret. The sentence names a key, never a value.
fn credentials(secret: &Value) -> Result<Credentials, String> {
    let mut data = BTreeMap::new();
    for (field, encoded) in [("data", true), ("stringData", false)] {
        let values = match secret.get(field) {
            None | Some(Value::Null) => continue,
            Some(values) => values.as_object().ok_or_else(|| format!("{field} is not a map of strings"))?,
        };
        for (key, value) in values {
            let text = value.as_str().ok_or_else(|| format!("{field}.{key} is not a string: put quotes around it"))?;
            let value = if encoded {
                let dense: String = text.split_ascii_whitespace().collect();
                STANDARD
                    .decode(dense)
                    .map_err(|_| format!("{field}.{key} is not base64: write it under stringData as it is"))?
            } else {
                text.as_bytes().to_vec()
            };
            data.insert(key.clone(), value);
        }
    }
    Ok(Credentials(data))
}
