//! The leader: `step(state, input, now) -> effects`. What goes in, and what is to be done about it.

use std::collections::{BTreeMap, BTreeSet};

use crate::frames::{Down, Hello, Partition, Up};
use crate::record::{Change, Record, StreamId, StreamerId};

/// One connection of the feed, numbered by the shell.
pub type Conn = u64;

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
        Self {
            namespace: stream.namespace.clone(),
            index: crate::digest::slice_of(&stream.name),
        }
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
    Listed { slices: Vec<Slice>, version: u64 },
    /// The list could not be had.
    ListFailed { message: String },
    /// Answers [`Effect::ReadSlice`]; `None`: it does not exist.
    Read { id: SliceId, slice: Option<Slice> },
    /// A slice could not be read.
    ReadFailed { id: SliceId, message: String },
    /// Answers the effects that write.
    Written { id: SliceId, outcome: Outcome },
    /// The watch saw a slice at this version (`None`: deleted).
    SliceSeen {
        id: SliceId,
        version: Option<u64>,
        term: Option<u64>,
    },
    /// All streams that users want now, in place of what was known. Only sent when every list is complete.
    Wants { wants: BTreeMap<StreamId, Want> },
    /// The lists of Streams cannot be had (or are not believed): nothing is removed until `Wants` comes.
    WantsUnknown,
    /// Streamers that must be waited for by a new leader: those with `status.firstReady`.
    Expected { streamers: BTreeSet<StreamerId> },
    /// What the planner decided, with each change's urgency; given only when [`super::Leader::may_plan`].
    Plan {
        changes: Vec<(StreamId, Change, bool)>,
        held_removals: BTreeMap<String, u64>,
    },
    /// A sidecar connected and was authenticated as `streamer`; `verified`: its instance is vouched for (a pod's uid).
    Connected {
        conn: Conn,
        streamer: StreamerId,
        verified: bool,
        hello: Box<Hello>,
    },
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
    ListSlices,
    /// Read one slice, from a quorum.
    ReadSlice {
        id: SliceId,
    },
    /// Post an empty slice with this term.
    CreateSlice {
        id: SliceId,
        term: u64,
    },
    /// Write the term into a slice, by compare-and-swap on version and the term it has.
    TakeSlice {
        id: SliceId,
        version: u64,
        old_term: u64,
        term: u64,
    },
    /// Replace a slice's records (ordered by media name), by compare-and-swap on version and term.
    WriteSlice {
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
