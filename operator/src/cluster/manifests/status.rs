//! Statuses: reports, so they live in memory. One thing in them is a memory itself and is kept in `first-ready.json`:
//! which Streamers a new leader waits for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::{StreamStatus, StreamerStatus};

use super::file::{self, StateError};
use crate::cluster::{ObjectRef, Status};

const ADVICE: &str =
    "restore it from a backup, or move it away: the next leader then waits only for Streamers that records name";

/// Every status there is.
pub(super) struct Statuses {
    path: PathBuf,
    /// By `NAMESPACE/NAME` of a Streamer.
    first_ready: BTreeMap<String, Time>,
    pub(super) streams: BTreeMap<ObjectRef, StreamStatus>,
    pub(super) streamers: BTreeMap<ObjectRef, StreamerStatus>,
}

impl Statuses {
    /// Reads what survived.
    pub(super) fn load(state: &Path) -> Result<Self, StateError> {
        let path = state.join("first-ready.json");
        let first_ready = file::read_json(&path, ADVICE)?.unwrap_or_default();
        let mut statuses = Self { path, first_ready, streams: BTreeMap::new(), streamers: BTreeMap::new() };
        statuses.restore();
        Ok(statuses)
    }

    /// Takes what another operator wrote meanwhile.
    pub(super) fn reload(&mut self) -> Result<(), StateError> {
        self.first_ready = file::read_json(&self.path, ADVICE)?.unwrap_or_default();
        self.restore();
        Ok(())
    }

    fn restore(&mut self) {
        for (streamer, first_ready) in &self.first_ready {
            if let Some((namespace, name)) = streamer.split_once('/') {
                let object = ObjectRef { namespace: namespace.to_owned(), name: name.to_owned() };
                self.streamers.entry(object).or_default().first_ready = Some(first_ready.clone());
            }
        }
    }

    /// Takes a status; `true` where it differs from what was there. `firstReady` stays once it is known.
    pub(super) fn write(&mut self, object: &ObjectRef, status: &Status) -> Result<bool, StateError> {
        match status {
            Status::Stream(status) => Ok(self.streams.insert(object.clone(), status.clone()).as_ref() != Some(status)),
            Status::Streamer(status) => {
                let key = format!("{}/{}", object.namespace, object.name);
                let mut status = status.clone();
                match self.first_ready.get(&key) {
                    Some(first_ready) => status.first_ready = Some(first_ready.clone()),
                    None => {
                        if let Some(first_ready) = &status.first_ready {
                            self.first_ready.insert(key, first_ready.clone());
                            self.store()?;
                        }
                    }
                }
                Ok(self.streamers.insert(object.clone(), status.clone()).as_ref() != Some(&status))
            }
        }
    }

    /// Forgets the statuses of Streams, and of Streamers, that are not there any more.
    pub(super) fn retain(
        &mut self,
        stream: impl Fn(&ObjectRef) -> bool,
        streamer: impl Fn(&ObjectRef) -> bool,
    ) -> Result<(), StateError> {
        self.streams.retain(|object, _| stream(object));
        self.streamers.retain(|object, _| streamer(object));
        let before = self.first_ready.len();
        self.first_ready.retain(|key, _| {
            let object = key
                .split_once('/')
                .map(|(namespace, name)| ObjectRef { namespace: namespace.to_owned(), name: name.to_owned() });
            object.is_some_and(|object| streamer(&object))
        });
        if self.first_ready.len() == before { Ok(()) } else { self.store() }
    }

    fn store(&self) -> Result<(), StateError> {
        let text = serde_json::to_vec(&self.first_ready).map_err(Into::into);
        text.and_then(|text| file::replace(&self.path, &text)).map_err(|error| {
            file::unusable(
                &self.path,
                &format!("cannot be written ({error})"),
                "make room, or let the operator's user write it",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> ObjectRef {
        ObjectRef { namespace: "media".into(), name: name.into() }
    }

    fn time(second: i64) -> Time {
        Time(jiff::Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn only_first_ready_survives_a_restart_and_it_never_changes() {
        let dir = tempfile::tempdir().unwrap();
        let mut statuses = Statuses::load(dir.path()).unwrap();
        let status = |first_ready, streams| {
            Status::Streamer(StreamerStatus { first_ready, streams: Some(streams), ..StreamerStatus::default() })
        };
        assert!(statuses.write(&object("s1"), &status(Some(time(5)), 1)).unwrap());
        assert!(!statuses.write(&object("s1"), &status(Some(time(9)), 1)).unwrap());
        assert!(!statuses.write(&object("s1"), &status(None, 1)).unwrap());

        let mut again = Statuses::load(dir.path()).unwrap();
        assert_eq!(
            again.streamers[&object("s1")],
            StreamerStatus { first_ready: Some(time(5)), ..StreamerStatus::default() }
        );
        again.retain(|_| true, |_| false).unwrap();
        assert!(Statuses::load(dir.path()).unwrap().streamers.is_empty());
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("first-ready.json"), "{\"media/s1\": 5}").unwrap();
        assert!(Statuses::load(dir.path()).is_err());
    }
}
