//! The leader: `step(state, input, now) -> effects`. What goes in, and what is to be done about it.

use std::collections::{BTreeMap, BTreeSet};

use super::Role;
use super::hello::Newcomer;
use crate::frames::{Down, Hello, Partition, Up};
use crate::record::{Change, Record, StreamId, StreamerId};
use crate::rule::{Rule, lacks};
use crate::time::Now;

/// One connection of the feed, numbered by the shell.
pub type Conn = u64;

/// One operation on the API, numbered by the leader: an answer to another one than the last is not listened to.
pub type Op = u64;

/// One Placement object: `placement-7` of a namespace is its slice 7.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SliceId {
    pub namespace: String,
    /// 0–15, see [`crate::digest::slice_of`].
    pub index: u8,
}

impl SliceId {
    /// `metadata.name` of the Placement.
    pub fn object(&self) -> String {
        format!("placement-{:x}", self.index)
    }

    /// The slice that holds a stream's record.
    pub fn of(stream: &StreamId) -> Self {
        Self { namespace: stream.namespace.clone(), index: crate::digest::slice_of(&stream.name) }
    }
}

impl std::fmt::Display for SliceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.object())
    }
}

/// A slice as a quorum read found it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slice {
    pub id: SliceId,
    /// `metadata.resourceVersion` as a number.
    pub version: u64,
    pub term: u64,
    pub records: Vec<Record>,
    /// The deadline of a held removal, wall-clock ms.
    pub removal_until: Option<u64>,
    /// An annotation confirms the removal.
    pub removal_confirmed: bool,
}

/// How a write of a slice ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Acknowledged; the slice's new version.
    Done { version: u64 },
    /// A test failed, the slice exists already, or it is not there: nothing was written.
    Refused { message: String },
    /// No answer, or one that does not tell: it may have been written, or may yet be.
    Unknown { message: String },
}

/// What a stream's document is, as the shell made it from the Stream and its Secrets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Want {
    /// `metadata.name` of the Stream that has the media name.
    pub stream: String,
    pub uid: String,
    /// `failover.after`, in ms.
    pub after: u64,
    pub partition: Partition,
    pub is_static: bool,
    /// Nobody is to capture it: its record goes, and with it the rows.
    pub disabled: bool,
    /// The document for its owner; `None` where it cannot be made now (a Secret is missing, the Stream is malformed):
    /// who serves it goes on serving what it has.
    pub document: Option<Document>,
}

/// A stream's configuration as the streamer gets it. Holds credentials: `Debug` shows the hash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Document {
    /// One JSON object.
    pub text: String,
    /// [`crate::digest::document_hash`] of static, partition and text.
    pub hash: String,
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Document({})", self.hash)
    }
}

/// What happens to a leader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Input {
    /// The keys that grants are sealed with; nothing is taken before they are known.
    Keys { ring: crate::grant::KeyRing },
    /// The Lease is ours (acquired or renewed): we may speak until `deadline` (monotonic ms).
    Lease { deadline: u64, highest_term: u64 },
    /// The Lease is not ours; where the leader's feed is, if the Lease says so.
    NoLease { leader: Option<String> },
    /// Answers [`Effect::ListSlices`]: every slice in scope and the version of the list.
    Listed { op: Op, slices: Vec<Slice>, version: u64 },
    /// The list could not be had.
    ListFailed { op: Op, message: String },
    /// Answers [`Effect::ReadSlice`]; `None`: it does not exist.
    Read { op: Op, id: SliceId, slice: Option<Slice> },
    /// A slice could not be read.
    ReadFailed { op: Op, id: SliceId, message: String },
    /// Answers the effects that write.
    Written { op: Op, id: SliceId, outcome: Outcome },
    /// The watch saw a slice at this version (`None`: deleted).
    SliceSeen { id: SliceId, version: Option<u64>, term: Option<u64> },
    /// All streams that users want now, in place of what was known. Only sent when every list is complete.
    Wants { wants: BTreeMap<StreamId, Want> },
    /// The lists of Streams cannot be had (or are not believed): nothing is removed until `Wants` comes.
    WantsUnknown,
    /// Streamers that must be waited for by a new leader: those with `status.firstReady`.
    Expected { streamers: BTreeSet<StreamerId> },
    /// Instances that have ended for good, by the name that they had: whoever ran them says that nothing of them runs any
    /// more, and nobody brings them back under that name. In place of what was known.
    Ended { instances: BTreeMap<StreamerId, String> },
    /// What the planner decided, with each change's urgency; given only when [`super::Leader::may_plan`].
    Plan { changes: Vec<(StreamId, Change, bool)>, held_removals: BTreeMap<String, u64> },
    /// A sidecar connected and was authenticated as `streamer`; `verified`: its instance is vouched for (a pod's uid).
    Connected { conn: Conn, streamer: StreamerId, verified: bool, hello: Box<Hello> },
    /// A later frame of it.
    Frame { conn: Conn, frame: Up },
    /// Its connection ended.
    Disconnected { conn: Conn },
    /// Time has passed; at least every half `ping`.
    Tick,
}

/// What is to be done. The shell does it and chooses nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// List every slice in scope, from a quorum.
    ListSlices {
        op: Op,
    },
    /// Read one slice, from a quorum.
    ReadSlice {
        op: Op,
        id: SliceId,
    },
    /// Post an empty slice with this term.
    CreateSlice {
        op: Op,
        id: SliceId,
        term: u64,
    },
    /// Write the term into a slice, by compare-and-swap on version and the term it has.
    TakeSlice {
        op: Op,
        id: SliceId,
        version: u64,
        old_term: u64,
        term: u64,
    },
    /// Replace a slice's records (ordered by media name), by compare-and-swap on version and term.
    WriteSlice {
        op: Op,
        id: SliceId,
        version: u64,
        term: u64,
        records: Vec<Record>,
        removal_until: Option<u64>,
    },
    Send {
        conn: Conn,
        frame: Down,
    },
    /// After what was sent before.
    Close {
        conn: Conn,
    },
    /// End it at once, with whatever is still queued for it.
    Abort {
        conn: Conn,
    },
    /// Records that were older than what sidecars prove now name these holders.
    Corrected {
        streams: Vec<(StreamId, String)>,
    },
    /// Give the Lease back: this leader must not go on.
    StepDown {
        why: String,
    },
    /// End the process: the storage went back in time, and every cache here is wrong.
    Exit {
        why: String,
    },
    /// Something for people: a line of the log, at warning level.
    Warn {
        message: String,
    },
}

impl super::Leader {
    /// Takes one input at a time `now`; what is to be done comes back in order.
    pub fn step(&mut self, input: Input, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.count_stall(now);
        // **Deadline**: our own lease is checked before everything we decide or say.
        let over = self.role != Role::Standby && now.mono >= self.deadline && !lacks(Rule::Deadline);
        if over && !matches!(input, Input::Lease { .. }) {
            self.step_down("its Lease ran out before it could be renewed", &mut effects);
        }
        let tick = input == Input::Tick;
        self.take_input(input, now, &mut effects);
        if tick {
            self.retry(now, &mut effects);
        }
        if self.role == Role::Leading {
            if std::mem::take(&mut self.rows_changed) {
                self.count_strays(now);
            }
            if tick {
                self.forget_old_news(now);
                self.settle(now);
                self.hear_all(now);
                self.admit_waiting(now, &mut effects);
                self.correct(now, &mut effects);
                self.follow_policies(now, &mut effects);
                self.look_again_at_what_is_held();
                self.look(now, &mut effects);
            }
            self.pump(now, &mut effects);
        }
        effects
    }

    /// For as long as this process stood still it heard nobody: that is not their silence.
    fn count_stall(&mut self, now: Now) {
        let gap = now.mono.saturating_sub(self.last_step);
        if self.last_step > 0 && gap > self.periods.ping * 2 {
            self.stalled += gap - self.periods.ping;
        }
        self.last_step = now.mono;
    }

    fn take_input(&mut self, input: Input, now: Now, effects: &mut Vec<Effect>) {
        match input {
            Input::Keys { ring } => self.ring = ring,
            Input::Lease { deadline, highest_term } => self.lease(deadline, highest_term, now, effects),
            Input::NoLease { leader } => {
                self.hint = leader;
                self.step_down("the Lease is somebody else's", effects);
            }
            Input::Listed { op, slices, version } if self.listing == Some(op) => {
                self.listing = None;
                self.listed(slices, version, now, effects);
            }
            Input::ListFailed { op, message } if self.listing == Some(op) => {
                self.listing = None;
                self.list_failed(&message, now, effects);
            }
            Input::Read { op, slice, .. } if self.is_looking(op) => self.looked(slice.as_ref(), effects),
            Input::ReadFailed { op, .. } if self.is_looking(op) => self.looked(None, effects),
            Input::Read { op, id, slice } if self.awaits(&id, op) => self.read(&id, slice, now, effects),
            Input::ReadFailed { op, id, message } if self.awaits(&id, op) => {
                self.read_failed(&id, &message, now, effects);
            }
            Input::Written { op, id, outcome } if self.awaits(&id, op) => self.written(&id, outcome, now, effects),
            Input::SliceSeen { id, version, .. } => self.slice_seen(&id, version, effects),
            Input::Wants { wants } => self.wants_changed(wants, now),
            Input::WantsUnknown => self.wants = None,
            Input::Expected { streamers } => self.expected = Some(streamers),
            Input::Ended { instances } => self.hear_of_the_ended(instances),
            Input::Plan { changes, held_removals } => self.plan(changes, &held_removals, now, effects),
            Input::Connected { conn, streamer, verified, hello } => {
                let newcomer = Newcomer::new(conn, streamer, verified, hello, self.observed(now));
                self.connected(newcomer, now, effects);
            }
            Input::Frame { conn, frame } => self.frame(conn, frame, now),
            Input::Disconnected { conn } => self.disconnected(conn),
            // Time passes; and answers to what an earlier leadership asked.
            Input::Tick
            | Input::Listed { .. }
            | Input::ListFailed { .. }
            | Input::Read { .. }
            | Input::ReadFailed { .. }
            | Input::Written { .. } => {}
        }
    }

    fn awaits(&self, id: &SliceId, op: Op) -> bool {
        self.role != Role::Standby && self.slices.get(id).is_some_and(|slice| slice.op == op)
    }

    fn lease(&mut self, deadline: u64, highest_term: u64, now: Now, effects: &mut Vec<Effect>) {
        if now.mono >= deadline {
            return self.step_down("its Lease was renewed too late", effects);
        }
        self.deadline = deadline;
        if self.role != Role::Standby && highest_term > self.term {
            self.highest_term = self.highest_term.max(highest_term);
            return self.step_down("the Lease shows a higher term than ours", effects);
        }
        self.highest_term = self.highest_term.max(highest_term);
        if self.role == Role::Standby && self.ring != crate::grant::KeyRing::default() {
            self.begin_taking(now, effects);
        }
    }

    fn wants_changed(&mut self, wants: BTreeMap<StreamId, Want>, now: Now) {
        let observed = self.observed(now);
        self.news = true;
        self.policies_changed = true;
        self.rows_changed = true;
        let old = self.wants.take().unwrap_or_default();
        let names = old.keys().chain(wants.keys()).filter(|name| old.get(name) != wants.get(name));
        let changed: BTreeSet<StreamId> = names.cloned().collect();
        let vanished = old.keys().filter(|name| !wants.contains_key(*name));
        let vanished: BTreeSet<String> = vanished.map(|name| name.namespace.clone()).collect();
        self.wants = Some(wants);
        for namespace in vanished {
            self.vanishes(namespace, observed);
        }
        for stream in changed {
            let holders: BTreeSet<String> = self.record(&stream).into_iter().flat_map(Record::streamers).collect();
            for (id, session) in self.sessions.iter_mut().filter(|(id, _)| id.namespace == stream.namespace) {
                if holders.contains(&id.name) || session.concerns(&stream.name) {
                    session.dirty.insert(stream.name.clone());
                }
            }
        }
    }

    /// Everything that was known as a leader is forgotten; sidecars look for the next one.
    pub(super) fn step_down(&mut self, why: &str, effects: &mut Vec<Effect>) {
        if self.role == Role::Standby {
            return;
        }
        let conns: BTreeSet<Conn> =
            self.conns.keys().copied().chain(self.early.iter().map(|newcomer| newcomer.conn)).collect();
        effects.extend(conns.into_iter().map(|conn| Effect::Abort { conn }));
        effects.push(Effect::StepDown { why: why.to_owned() });
        let kept = Self {
            ring: std::mem::take(&mut self.ring),
            hint: self.hint.take(),
            wants: self.wants.take(),
            expected: self.expected.take(),
            ended: std::mem::take(&mut self.ended),
            highest_term: self.highest_term.max(self.term),
            stalled: self.stalled,
            last_step: self.last_step,
            ops: self.ops,
            list_version: self.list_version,
            ..Self::new(self.periods)
        };
        *self = kept;
    }
}
