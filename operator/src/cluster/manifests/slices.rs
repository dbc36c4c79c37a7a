//! Placements as files of the state directory: `placements/NAMESPACE/placement-7.json`, each a Placement as
//! `kubectl apply` takes it. Its version is a counter in an annotation, and every write is a compare-and-swap.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::placement::{Placement, PlacementSpec, PlacementStatus, Removal};
use weir_feed::digest::slice_of;
use weir_feed::leader::step::{Outcome, Slice, SliceId};
use weir_feed::record::Record;
use weir_feed::rule::{Rule, lacks};

use super::file::{self, StateError};
use super::lock::Lock;
use crate::cluster::removals::Removals;
use crate::cluster::{CONFIRM_REMOVAL, SliceSeen};
use crate::text::is_name;

/// The annotation with a slice's version. Not `metadata.resourceVersion`: the API server refuses to create an object
/// that has one.
const VERSION: &str = "weir.dev/version";

/// What to do with a slice that cannot be read.
const ADVICE: &str = "restore it from a backup, or, if there is none, move it away: its streams are then placed anew when every streamer has said what it runs";

/// The slices of a state directory.
pub(super) struct Slices {
    directory: PathBuf,
    lock: Arc<Lock>,
    seen: Mutex<Seen>,
    removals: Removals,
}

#[derive(Default)]
struct Seen {
    /// The highest version of any slice, ever: the version of the list.
    highest: u64,
    /// By slice, the highest version it ever had.
    versions: BTreeMap<SliceId, u64>,
    /// By slice that is there, its file as it was read or written last.
    files: BTreeMap<SliceId, (Stamp, u64, u64)>,
}

/// What tells a file from the one that replaced it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

impl Slices {
    /// Opens the slices of a state directory; refuses them if any is unreadable.
    pub(super) fn open(state: &Path, lock: Arc<Lock>) -> Result<Self, StateError> {
        let directory = state.join("placements");
        file::make_directory(&directory).map_err(|error| unwritable(&directory, &error))?;
        let slices = Self { directory, lock, seen: Mutex::default(), removals: Removals::default() };
        slices.list()?;
        Ok(slices)
    }

    /// The highest term of any slice.
    pub(super) fn highest_term(&self) -> Result<u64, StateError> {
        Ok(self.list()?.0.iter().map(|slice| slice.term).max().unwrap_or(0))
    }

    /// Removes what interrupted writes left behind.
    pub(super) fn clear_temporaries(&self) -> Result<(), StateError> {
        for namespace in file::names(&self.directory)? {
            let directory = self.directory.join(namespace);
            self.lock
                .while_held(|| file::clear_temporaries(&directory))
                .unwrap_or(Ok(()))
                .map_err(|error| unwritable(&directory, &error))?;
        }
        Ok(())
    }

    /// Every slice, and the version of the list: the highest version that any slice ever had. A slice that went back
    /// gives the list its own, lower version, as a restored etcd would.
    pub(super) fn list(&self) -> Result<(Vec<Slice>, u64), StateError> {
        let mut slices = Vec::new();
        for id in self.ids()? {
            slices.extend(self.read(&id)?);
        }
        self.removals.listed(&slices);
        let seen = self.seen();
        let went_back = slices
            .iter()
            .filter(|slice| seen.versions.get(&slice.id).is_some_and(|highest| slice.version < *highest))
            .map(|slice| slice.version)
            .min();
        Ok((slices, went_back.unwrap_or(seen.highest)))
    }

    /// One slice.
    pub(super) fn read(&self, id: &SliceId) -> Result<Option<Slice>, StateError> {
        let before = self.stamp(id);
        let Some(placement) = self.load(id)? else {
            self.removals.read(id, None);
            return Ok(None);
        };
        let slice = slice_from(id, &placement);
        self.removals.read(id, Some(&slice));
        // A file that was replaced in between has a stamp that is not the one of what was read.
        let stamp = self.stamp(id).filter(|after| before == Some(*after));
        self.note(id, stamp, slice.version, slice.term);
        Ok(Some(slice))
    }

    /// Every Placement as an object, for whoever looks.
    pub(super) fn objects(&self) -> Result<Vec<Placement>, StateError> {
        let ids = self.ids()?;
        let loaded = ids.iter().filter_map(|id| self.load(id).transpose());
        loaded.collect()
    }

    /// Posts an empty slice.
    pub(super) fn create(&self, id: &SliceId, term: u64) -> Outcome {
        self.locked(id, || match self.load(id) {
            Err(error) => unknown(&error),
            Ok(Some(_)) => refused(format!("{id} exists already")),
            Ok(None) => {
                let mut placement = Placement::new(&id.object(), PlacementSpec { term, ..PlacementSpec::default() });
                placement.metadata.namespace = Some(id.namespace.clone());
                placement.metadata.creation_timestamp = Some(Time(Timestamp::now()));
                self.store(id, placement)
            }
        })
    }

    /// Writes a term into a slice if it is at `version` with `old_term`.
    pub(super) fn take(&self, id: &SliceId, version: u64, old_term: u64, term: u64) -> Outcome {
        self.swap(id, version, old_term, |placement| placement.spec.term = term)
    }

    /// Replaces a slice's records if it is at `version` with `term`.
    pub(super) fn write(
        &self,
        id: &SliceId,
        version: u64,
        term: u64,
        records: Vec<Record>,
        removal_until: Option<u64>,
    ) -> Outcome {
        let outcome = self.swap(id, version, term, |placement| {
            placement.spec.records = records;
            placement.spec.removal = removal_until.and_then(time).map(|until| Removal { until });
        });
        if let Outcome::Done { .. } = outcome {
            for confirmed in self.removals.written(id, removal_until.is_some()) {
                self.take_off_confirmation(&confirmed);
            }
        }
        outcome
    }

    /// Takes the used-up confirmation off, as a person would: [`Self::changes`] tells whoever knows the slice with it.
    fn take_off_confirmation(&self, id: &SliceId) {
        let edit = || -> Result<(), StateError> {
            if let Some(mut placement) = self.load(id)? {
                placement.metadata.annotations.get_or_insert_default().remove(CONFIRM_REMOVAL);
                self.put(id, &placement).map_err(|error| unwritable(&self.path(id), &error))?;
            }
            self.removals.taken_off(id);
            Ok(())
        };
        if let Some(Err(error)) = self.lock.while_held(edit) {
            tracing::warn!("the annotation {CONFIRM_REMOVAL} is used up and stays for now: {error}");
        }
    }

    /// What changed since this was last asked, or since the slices were last read or written here. A file that a person
    /// edited without touching its version gets a new one, so that a write which rests on the old one is refused.
    pub(super) fn changes(&self) -> Result<Vec<SliceSeen>, StateError> {
        let mut changes = Vec::new();
        let ids = self.ids()?;
        let gone: Vec<SliceId> = {
            let seen = self.seen();
            seen.files.keys().filter(|id| !ids.contains(id)).cloned().collect()
        };
        for id in gone {
            self.seen().files.remove(&id);
            changes.push(SliceSeen { id, version: None, term: None });
        }
        for id in ids {
            let before = self.seen().files.get(&id).copied();
            if before.map(|(stamp, ..)| stamp) == self.stamp(&id) {
                continue;
            }
            let Some(mut slice) = self.read(&id)? else { continue };
            if before.is_some_and(|(_, version, _)| version == slice.version)
                && let Outcome::Done { version } = self.swap(&id, slice.version, slice.term, |_| {})
            {
                slice.version = version;
            }
            changes.push(SliceSeen { id, version: Some(slice.version), term: Some(slice.term) });
        }
        Ok(changes)
    }

    fn swap(&self, id: &SliceId, version: u64, term: u64, change: impl FnOnce(&mut Placement)) -> Outcome {
        self.locked(id, || match self.load(id) {
            Err(error) => unknown(&error),
            Ok(None) => refused(format!("{id} does not exist")),
            Ok(Some(mut placement)) => {
                let (at, of) = (version_of(&placement), placement.spec.term);
                // **Compare-and-swap**, as the API server does it.
                let same_version = at == version || lacks(Rule::CompareAndSwapVersion);
                if !same_version || of != term && !lacks(Rule::CompareAndSwapTerm) {
                    return refused(format!(
                        "{id} is at version {at} of term {of}, not at version {version} of term {term}"
                    ));
                }
                // Another version by right, as soon as anybody looks.
                let known = self.seen().files.get(id).copied();
                if known.map(|(stamp, ..)| stamp) != self.stamp(id) {
                    return refused(format!("{id} was edited since it was read"));
                }
                change(&mut placement);
                self.store(id, placement)
            }
        })
    }

    /// Runs a write while the lease is ours, so that two processes never swap at once.
    fn locked(&self, id: &SliceId, write: impl FnOnce() -> Outcome) -> Outcome {
        if !is_name(&id.namespace) || id.index > 15 {
            return refused(format!("{id:?} is not the name of a slice"));
        }
        let not_ours = || refused(format!("{id} was not written: the lock of the state directory is not ours"));
        self.lock.while_held(write).unwrap_or_else(not_ours)
    }

    /// Writes a slice under the next version.
    fn store(&self, id: &SliceId, mut placement: Placement) -> Outcome {
        let version = self.seen().highest.max(version_of(&placement)) + 1;
        let annotations = placement.metadata.annotations.get_or_insert_default();
        annotations.insert(VERSION.to_owned(), version.to_string());
        placement.status = Some(PlacementStatus::of(&placement.spec.records));
        if let Err(error) = self.put(id, &placement) {
            return Outcome::Unknown { message: unwritable(&self.path(id), &error).0 };
        }
        self.note(id, self.stamp(id), version, placement.spec.term);
        Outcome::Done { version }
    }

    fn put(&self, id: &SliceId, placement: &Placement) -> std::io::Result<()> {
        let path = self.path(id);
        let text = serde_json::to_vec(placement)?;
        file::make_directory(path.parent().unwrap_or(&self.directory))?;
        file::replace(&path, &text)
    }

    fn note(&self, id: &SliceId, stamp: Option<Stamp>, version: u64, term: u64) {
        let mut seen = self.seen();
        seen.highest = seen.highest.max(version);
        let highest = seen.versions.entry(id.clone()).or_default();
        *highest = version.max(*highest);
        if let Some(stamp) = stamp {
            seen.files.insert(id.clone(), (stamp, version, term));
        }
    }

    fn load(&self, id: &SliceId) -> Result<Option<Placement>, StateError> {
        let path = self.path(id);
        let Some(placement) = file::read_json::<Placement>(&path, ADVICE)? else {
            return Ok(None);
        };
        match misplaced(id, &placement) {
            Some(what) => Err(file::unusable(&path, &what, ADVICE)),
            None => Ok(Some(placement)),
        }
    }

    fn ids(&self) -> Result<Vec<SliceId>, StateError> {
        let mut ids = Vec::new();
        for namespace in file::names(&self.directory)? {
            let directory = self.directory.join(&namespace);
            if !directory.is_dir() || !is_name(&namespace) {
                continue;
            }
            let indices = file::names(&directory)?.into_iter().filter_map(|name| index_of(&name));
            ids.extend(indices.map(|index| SliceId { namespace: namespace.clone(), index }));
        }
        Ok(ids)
    }

    fn path(&self, id: &SliceId) -> PathBuf {
        self.directory.join(&id.namespace).join(format!("{}.json", id.object()))
    }

    fn stamp(&self, id: &SliceId) -> Option<Stamp> {
        let metadata = fs::metadata(self.path(id)).ok()?;
        Some(Stamp { inode: metadata.ino(), length: metadata.len(), modified: metadata.modified().ok() })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `placement-7.json` holds slice 7.
fn index_of(name: &str) -> Option<u8> {
    let digit = name.strip_prefix("placement-")?.strip_suffix(".json")?;
    (0..16).find(|index| format!("{index:x}") == digit)
}

/// What is wrong with a Placement that can be parsed, if anything is.
fn misplaced(id: &SliceId, placement: &Placement) -> Option<String> {
    let name = (placement.metadata.namespace.as_deref(), placement.metadata.name.as_deref());
    if name != (Some(&id.namespace), Some(&id.object())) {
        return Some("holds another Placement than its path says".to_owned());
    }
    let version = placement.metadata.annotations.as_ref().and_then(|annotations| annotations.get(VERSION));
    if version.is_none_or(|version| version.parse::<u64>().is_err()) {
        return Some(format!("has no version in its annotation {VERSION}"));
    }
    let mut names: Vec<&str> = placement.spec.records.iter().map(|record| record.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair.first() == pair.last()) {
        return Some(format!("has two records of {}", pair.join(", ")));
    }
    let foreign = names.iter().find(|name| slice_of(name) != id.index);
    foreign.map(|name| format!("has a record of {name}, which belongs to another slice"))
}

fn version_of(placement: &Placement) -> u64 {
    let annotations = placement.metadata.annotations.as_ref();
    let version = annotations.and_then(|annotations| annotations.get(VERSION));
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn slice_from(id: &SliceId, placement: &Placement) -> Slice {
    let annotations = placement.metadata.annotations.as_ref();
    let until = placement.spec.removal.as_ref().map(|removal| removal.until.0.as_millisecond());
    Slice {
        id: id.clone(),
        version: version_of(placement),
        term: placement.spec.term,
        records: placement.spec.records.clone(),
        removal_until: until.and_then(|until| u64::try_from(until).ok()),
        removal_confirmed: annotations
            .is_some_and(|annotations| annotations.get(CONFIRM_REMOVAL).is_some_and(|value| value == "true")),
    }
}

/// A time of whole seconds, as Kubernetes keeps them: never before `ms`.
fn time(ms: u64) -> Option<Time> {
    let seconds = i64::try_from(ms.div_ceil(1000)).ok()?;
    Timestamp::from_second(seconds).ok().map(Time)
}

fn refused(message: String) -> Outcome {
    Outcome::Refused { message }
}

fn unknown(error: &StateError) -> Outcome {
    Outcome::Unknown { message: error.0.clone() }
}

fn unwritable(path: &Path, error: &std::io::Error) -> StateError {
    file::unusable(path, &format!("cannot be written ({error})"), "make room, or let the operator's user write it")
}

#[cfg(test)]
#[path = "slices_tests.rs"]
mod tests;
