//! What the leader knows of one slice, and what is under way with it.

use std::collections::BTreeMap;

use super::step::{Op, Slice};
use crate::periods::Periods;
use crate::record::Record;

/// One Placement object as the leader knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct SliceState {
    /// `None`: it does not exist.
    pub(super) version: Option<u64>,
    /// The term that stands in it.
    pub(super) term: u64,
    /// The truth, as last acknowledged, by media name.
    pub(super) records: BTreeMap<String, Record>,
    pub(super) removal_until: Option<u64>,
    pub(super) removal_confirmed: bool,
    /// The records of a write that ended without an answer, until it is known whether it landed.
    pub(super) doubt: Option<BTreeMap<String, Record>>,
    pub(super) stage: Stage,
    /// The operation that `stage` waits for.
    pub(super) op: Op,
    /// The highest version that the watch has shown.
    pub(super) seen: u64,
    /// The watch has shown it deleted.
    pub(super) seen_deleted: bool,
    /// How often in a row it could not be read or taken (as far as that matters): nobody else is kept waiting for it.
    pub(super) failures: u8,
}

/// What is under way with a slice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// Nothing: it may be written.
    #[default]
    Idle,
    /// The API refused a write of it although nothing had changed: it is left alone until this time.
    Blocked { until: u64 },
    /// It has to be read, not before this time.
    ReadAt { at: u64, take: bool },
    /// It is being read; `take`: whatever it shows, our term goes in before it is used (**Fence**).
    Reading { take: bool },
    /// Our term is being written into it, over what was read.
    Taking { found: Box<Slice>, term: u64 },
    /// It is being made, to be filled with this.
    Creating { term: u64, next: Box<Content> },
    /// It is being filled.
    Writing { next: Box<Content> },
}

/// What a write puts into a slice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Content {
    pub(super) records: BTreeMap<String, Record>,
    pub(super) removal_until: Option<u64>,
}

impl SliceState {
    pub(super) fn found(slice: Slice) -> Self {
        Self {
            version: Some(slice.version),
            term: slice.term,
            records: by_name(slice.records),
            removal_until: slice.removal_until,
            removal_confirmed: slice.removal_confirmed,
            seen: slice.version,
            ..Self::default()
        }
    }

    pub(super) fn idle(&self) -> bool {
        self.stage == Stage::Idle
    }

    /// Nothing is under way.
    pub(super) fn quiet(&self) -> bool {
        matches!(self.stage, Stage::Idle | Stage::Blocked { .. })
    }

    /// Something is under way that a plan has to wait for. A slice that only fails again and again is left out of plans:
    /// each stream is in one slice alone, and the others' streamers fail too.
    pub(super) fn keeps_waiting(&self) -> bool {
        !self.quiet() && self.failures == 0
    }
}

impl SliceState {
    /// Counts a failure; the answer is in how many ms to try again, later and later.
    pub(super) fn failed(&mut self, periods: &Periods) -> u64 {
        let pause = (periods.ping << self.failures).min(periods.period);
        self.failures = (self.failures + 1).min(8);
        pause
    }
}

pub(super) fn by_name(records: Vec<Record>) -> BTreeMap<String, Record> {
    records.into_iter().map(|record| (record.name.clone(), record)).collect()
}
