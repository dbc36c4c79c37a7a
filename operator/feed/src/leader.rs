//! The operator's end of the feed: when it may plan, what it may tell whom, and who may be running what.
//!
//! A pure state machine: [`Leader::step`] takes an input and the time, and returns what is to be done.

use std::collections::{BTreeMap, BTreeSet};

use crate::grant::KeyRing;
use crate::periods::Periods;
use crate::record::{Record, StreamId, StreamerId};
use crate::time::Now;

mod ended;
pub mod hello;
pub mod known;
mod lease;
mod look;
mod may_run;
mod pump;
pub mod session;
mod settle;
mod slice;
pub mod step;
mod take;
#[cfg(test)]
pub(crate) mod tests;
pub mod view;
mod write;

use hello::Newcomer;
use session::Session;
use slice::SliceState;
use step::{Conn, Op, SliceId, Want};
pub use take::went_back;

/// Whether this process decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Somebody else does, or nobody.
    Standby,
    /// The Lease is ours; our term is being written into every slice.
    Taking,
    /// Every slice has our term: we plan, write and feed.
    Leading,
}

/// Everything a leader knows. Times are those of [`Leader::observed`] unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Leader {
    periods: Periods,
    ring: KeyRing,
    role: Role,
    /// Until when the Lease allows us to speak; monotonic ms.
    deadline: u64,
    term: u64,
    /// The highest term seen in Lease, slices and hellos.
    highest_term: u64,
    /// Where the leader's feed is, while it is not us.
    hint: Option<String>,
    /// For how long in all this process was not running, in ms.
    stalled: u64,
    /// The last step, monotonic ms.
    last_step: u64,
    /// When we began to lead.
    led_since: u64,
    settled: bool,
    /// Expected Streamers that were not heard under this leader and may be serving under a lease of the last one;
    /// `None` until the view is settled.
    unheard: Option<BTreeSet<StreamerId>>,
    /// When the first Streamer was ready under this leader.
    first_ready: Option<u64>,
    /// Ask for the list of slices again at this time.
    list_at: Option<u64>,
    /// Look at the newest slice at this time; the look that is under way, with the version it must show at least.
    look_at: u64,
    looking: Option<(Op, u64)>,
    /// The last operation on the API, and the list that is under way.
    ops: Op,
    listing: Option<Op>,
    /// The highest version that a list came with.
    list_version: u64,
    slices: BTreeMap<SliceId, SliceState>,
    expected: Option<BTreeSet<StreamerId>>,
    /// Instances that have ended for good, by the name that they had.
    ended: BTreeMap<StreamerId, String>,
    sessions: BTreeMap<StreamerId, Session>,
    conns: BTreeMap<Conn, StreamerId>,
    /// Sidecars that connected while the slices were being taken.
    early: Vec<Newcomer>,
    wants: Option<BTreeMap<StreamId, Want>>,
    /// `released` as said for a record's epoch.
    released: BTreeMap<StreamId, u64>,
    releasing_since: BTreeMap<StreamId, u64>,
    called_off: BTreeMap<StreamId, u64>,
    /// By namespace: when the first and the last of the Streams vanished that vanish at present.
    vanishing: BTreeMap<String, (u64, u64)>,
    /// By namespace: when records were released for want of a Stream.
    removals: BTreeMap<String, Vec<u64>>,
    /// By namespace: since when rows without record and Stream have been seen in numbers.
    strays_since: BTreeMap<String, u64>,
    /// Who was heard, what is wanted or what is written has changed: claims and strays are looked at again.
    news: bool,
    /// Policies, rows or records have changed: records are compared with policies again.
    policies_changed: bool,
    /// Rows or records have changed: strays are counted again.
    rows_changed: bool,
    /// From when on a write that is not urgent fits the budget.
    budget_at: u64,
}

impl Leader {
    /// A standby with nothing known.
    pub fn new(periods: Periods) -> Self {
        Self {
            periods,
            ring: KeyRing::default(),
            role: Role::Standby,
            deadline: 0,
            term: 0,
            highest_term: 0,
            hint: None,
            stalled: 0,
            last_step: 0,
            led_since: 0,
            settled: false,
            unheard: None,
            first_ready: None,
            list_at: None,
            look_at: 0,
            looking: None,
            ops: 0,
            listing: None,
            list_version: 0,
            slices: BTreeMap::new(),
            expected: None,
            ended: BTreeMap::new(),
            sessions: BTreeMap::new(),
            conns: BTreeMap::new(),
            early: Vec::new(),
            wants: None,
            released: BTreeMap::new(),
            releasing_since: BTreeMap::new(),
            called_off: BTreeMap::new(),
            vanishing: BTreeMap::new(),
            removals: BTreeMap::new(),
            strays_since: BTreeMap::new(),
            news: false,
            policies_changed: false,
            rows_changed: false,
            budget_at: 0,
        }
    }

    /// The monotonic clock less the time for which this process stood still: its own freeze is nobody's silence.
    fn observed(&self, now: Now) -> u64 {
        now.mono.saturating_sub(self.stalled)
    }

    fn next_op(&mut self) -> Op {
        self.ops += 1;
        self.ops
    }

    /// The record of a stream, as last acknowledged.
    fn record(&self, stream: &StreamId) -> Option<&Record> {
        self.slices.get(&SliceId::of(stream))?.records.get(&stream.name)
    }

    fn want(&self, stream: &StreamId) -> Option<&Want> {
        self.wants.as_ref()?.get(stream)
    }

    /// Every record, with its full name.
    fn records(&self) -> impl Iterator<Item = (StreamId, &Record)> {
        self.slices.iter().flat_map(|(id, slice)| {
            slice
                .records
                .values()
                .map(|record| (StreamId { namespace: id.namespace.clone(), name: record.name.clone() }, record))
        })
    }
}
