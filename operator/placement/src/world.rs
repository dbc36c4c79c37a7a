//! What a plan is made from: one immutable snapshot of what users want and of what the leader knows.

use std::collections::{BTreeMap, BTreeSet};

use weir_feed::frames::Partition;
pub use weir_feed::leader::known::Known;
use weir_feed::periods::Periods;

use crate::selector::Selector;

/// Everything a plan depends on. Namespaces are absolute walls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// False while a new leader waits for sidecars to report: nobody is gone, nothing new is placed.
    pub settled: bool,
    /// In how many ms a new leader waits no longer, whoever has reported; `None`: not known, or it does not wait.
    pub settles_in: Option<u64>,
    pub periods: Periods,
    pub namespaces: BTreeMap<String, Namespace>,
}

/// One namespace of a [`World`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Every readable Stream object, those in conflict included, in any order.
    pub streams: Vec<Stream>,
    /// `metadata.name` of Stream objects that exist and cannot be read: their records stay as they are.
    pub unreadable: BTreeSet<String>,
    /// By `metadata.name`.
    pub streamers: BTreeMap<String, Streamer>,
    /// By media name: every stream that has a record, or that some streamer may be running.
    pub known: BTreeMap<String, Known>,
    pub removal: Removal,
    /// Streamers that a new leader has not heard, and for how many ms more they may be capturing, under a lease of the
    /// last one, what `StopCapturing` stops.
    pub unheard: BTreeMap<String, u64>,
}

/// One Stream object, as far as placement depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// `metadata.name`.
    pub object: String,
    pub uid: String,
    /// Media name.
    pub name: String,
    /// `metadata.creationTimestamp`, ms since the Unix epoch: the oldest of a conflict wins (then the least `object`).
    pub created: u64,
    pub labels: BTreeMap<String, String>,
    /// `placement.streamerSelector`.
    pub streamer_selector: Selector,
    pub disabled: bool,
    /// `failover.after`, in ms.
    pub after: u64,
    /// `failover.partition`.
    pub partition: Partition,
}

/// One Streamer, as far as placement depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Streamer {
    pub labels: BTreeMap<String, String>,
    /// `streamSelector`, over Streams' labels.
    pub stream_selector: Selector,
    /// `capacity.streams`; `None` is unlimited.
    pub capacity: Option<u32>,
    pub unschedulable: bool,
    pub drain: bool,
    /// `None` when it can be given streams; otherwise why not, for people (`has never reported`, `does not poll`).
    pub not_ready: Option<String>,
    /// Somebody kills its streamer when it goes on without a lease.
    pub supervised: bool,
}

/// What is known about streams that vanish in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// The list of Streams is not known (unreadable directory, wiped CRD, a list that never came): remove nothing.
    pub unknown: bool,
    /// The deadline that stands on the slices, in wall-clock ms, if a removal is being held.
    pub until: Option<u64>,
    /// An annotation on a slice confirms the removal.
    pub confirmed: bool,
    /// The namespace itself is being deleted.
    pub namespace_terminating: bool,
    /// Records released for want of a Stream within the last minute.
    pub recent: usize,
    /// For how many ms nothing is released for want of a Stream: more may be vanishing.
    pub wait: u64,
}
