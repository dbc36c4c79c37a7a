//! Everything observed at one moment, from the directory of manifests and the state directory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kube::core::object::HasStatus;
use serde_json::{Value, json};

use super::admit::{Admission, Declared};
use super::directory::{Directory, Look};
use super::file::StateError;
use super::known::{Key, Kind, Known};
use super::status::Statuses;
use super::streamers::Registered;
use crate::cluster::{Object, ObjectRef, Observed};

/// What a refresh found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refreshed {
    Same,
    New,
    /// Files are being written: refresh again in a moment.
    Changing,
}

/// What is declared and registered, as far as it is known.
pub(super) struct Picture {
    directory: Directory,
    pub(super) admission: Admission,
    pub(super) registered: Registered,
    declared: Declared,
    /// Whether it was ever known what is declared: then it stays as it was while the directory cannot be read, so that
    /// nothing is taken away and a streamer that dies meanwhile fails over.
    known: bool,
    /// What is wrong with the directory as a whole, and with the registered Streamers.
    unknown: Option<String>,
    damaged: Option<String>,
    /// Why what is remembered could not be written down.
    pub(super) unwritten: Option<String>,
    /// Whether something is new that was not published yet.
    pending: bool,
    /// What was logged, so that it is logged once.
    told: BTreeSet<String>,
}

impl Picture {
    /// A picture of nothing yet. Refuses unreadable state.
    pub(super) fn open(manifests: &Path, state: &Path, namespaces: BTreeSet<String>) -> Result<Self, StateError> {
        Ok(Self {
            directory: Directory::new(manifests),
            admission: Admission::new(namespaces, Known::load(state)?),
            registered: Registered::open(state)?,
            declared: Declared::default(),
            known: false,
            unknown: None,
            damaged: None,
            unwritten: None,
            pending: false,
            told: BTreeSet::new(),
        })
    }

    /// Takes what another operator remembers, and reads everything again at the next refresh.
    pub(super) fn reload(&mut self, state: &Path) -> Result<(), StateError> {
        self.admission.merge(Known::load(state)?);
        self.directory.forget();
        Ok(())
    }

    /// Looks at the files. `hurry`: reads them even while they change.
    pub(super) fn refresh(&mut self, hurry: bool, now: SystemTime) -> Refreshed {
        let wall = now.duration_since(SystemTime::UNIX_EPOCH).as_ref().map_or(0, Duration::as_millis);
        let wall = u64::try_from(wall).unwrap_or(u64::MAX);
        let before = self.damaged.clone();
        let registered = self.registered.refresh();
        self.damaged = registered.as_ref().err().map(|error| format!("{error}; the Streamers read before stay"));
        self.pending |= registered.unwrap_or(false) || before != self.damaged;
        match self.directory.look(&self.admission.known, hurry, now) {
            Look::Unchanged => {}
            Look::Changing => return Refreshed::Changing,
            Look::Unknown(why) => {
                self.pending |= self.unknown.as_ref() != Some(&why);
                if !self.known && !self.admission.known.0.is_empty() {
                    let remembered = self.admission.remembered();
                    self.declared = self.admission.admit(remembered, wall);
                    self.known = true;
                }
                self.unknown = Some(why);
            }
            Look::Read { documents, problems } => {
                self.declared = self.admission.admit(documents, wall);
                self.declared.problems.splice(0..0, problems);
                self.known = true;
                self.unknown = None;
                self.pending = true;
            }
        }
        if !std::mem::take(&mut self.pending) {
            return Refreshed::Same;
        }
        self.tell();
        Refreshed::New
    }

    /// What is declared, if all of it is known.
    pub(super) fn whole(&self) -> Result<&Declared, StateError> {
        let whole = self.unknown.iter().chain(&self.damaged).next();
        whole.map_or(Ok(&self.declared), |why| Err(StateError(why.clone())))
    }

    /// What is wrong, one sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        let whole = self.unknown.iter().chain(&self.damaged).chain(&self.unwritten);
        whole.chain(&self.declared.problems).cloned().collect()
    }

    /// The snapshot, with the statuses in their objects.
    pub(super) fn observed(&mut self, statuses: &Statuses) -> Observed {
        for (object, stream) in &mut self.declared.streams {
            with_status(stream, statuses.streams.get(object));
        }
        let mut streamers = self.declared.streamers.clone();
        for (object, streamer) in self.registered.streamers() {
            let registered = || Object::Readable(Arc::clone(streamer));
            streamers.entry(object.clone()).or_insert_with(registered);
        }
        for (object, streamer) in &mut streamers {
            with_status(streamer, statuses.streamers.get(object));
        }
        Observed {
            streams: self.known.then(|| self.declared.streams.clone()),
            streamers: self.known.then_some(streamers),
            secrets: self.known.then(|| self.declared.secrets.clone()),
            pods: None,
            terminating: BTreeSet::new(),
            problems: self.problems(),
        }
    }

    /// Every object of a kind as JSON, with its status; those that were set aside without their spec.
    pub(super) fn objects(&mut self, kind: Kind, statuses: &Statuses) -> Vec<Value> {
        let observed = self.observed(statuses);
        match kind {
            Kind::Stream => {
                let status = |object: &ObjectRef| statuses.streams.get(object).map(|status| json!(status));
                self.list(kind, &self.declared.streams, status)
            }
            Kind::Streamer => {
                let status = |object: &ObjectRef| statuses.streamers.get(object).map(|status| json!(status));
                self.list(kind, &observed.streamers.unwrap_or_default(), status)
            }
        }
    }

    fn list<T: serde::Serialize>(
        &self,
        kind: Kind,
        objects: &BTreeMap<ObjectRef, Object<T>>,
        status: impl Fn(&ObjectRef) -> Option<Value>,
    ) -> Vec<Value> {
        let value = |(object, content): (&ObjectRef, &Object<T>)| match content {
            Object::Readable(content) => json!(**content),
            Object::Malformed { uid, generation, .. } => {
                let key = Key { kind, object: object.clone() };
                let created = self.admission.known.0.get(&key).and_then(super::known::Entry::created);
                json!({
                    "apiVersion": "weir.dev/v1alpha1",
                    "kind": kind.name(),
                    "metadata": {
                        "namespace": object.namespace,
                        "name": object.name,
                        "uid": uid,
                        "generation": generation,
                        "creationTimestamp": created,
                    },
                    "status": status(object).unwrap_or_default(),
                })
            }
        };
        objects.iter().map(value).collect()
    }

    /// Logs what was not logged before, and that it is over.
    pub(super) fn tell(&mut self) {
        let problems: BTreeSet<String> = self.problems().into_iter().collect();
        for problem in problems.difference(&self.told) {
            tracing::warn!("{problem}");
        }
        for sentence in self.declared.set_aside.difference(&self.told) {
            tracing::info!("{sentence}");
        }
        let now: BTreeSet<String> = problems.union(&self.declared.set_aside).cloned().collect();
        for over in self.told.difference(&now) {
            tracing::info!("no longer so: {over}");
        }
        self.told = now;
    }
}

/// Puts a status into an object, copying the object only if it has another one.
fn with_status<T: HasStatus + Clone>(object: &mut Object<T>, status: Option<&T::Status>)
where
    T::Status: Clone + PartialEq,
{
    if let Object::Readable(content) = object
        && content.status() != status
    {
        let mut copy = (**content).clone();
        *copy.status_mut() = status.cloned();
        *content = Arc::new(copy);
    }
}
