//! A record: who captures one stream. The unit of truth; every change of one is a [`Change`] under a new epoch.

use serde::{Deserialize, Serialize};

use crate::frames::Partition;

/// A Streamer's full name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamerId {
    pub namespace: String,
    pub name: String,
}

impl std::fmt::Display for StreamerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A stream's full name: its namespace and its media name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamId {
    pub namespace: String,
    pub name: String,
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whether the record's streamer captures the stream, or is letting go of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Phase {
    /// The streamer captures the stream.
    Active,
    /// The streamer is to let go; nobody else may have the stream before it has.
    Releasing,
}

/// Who captures one stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The stream's media name, as streamers know it.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253)))]
    pub name: String,
    /// `metadata.name` of the Stream.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253)))]
    pub stream: String,
    /// `metadata.uid` of the Stream.
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub uid: String,
    /// `metadata.name` of the Streamer that holds the stream.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253)))]
    pub streamer: String,
    /// Grows with every change of the record: the highest known + 1, at least the time in ms.
    pub epoch: u64,
    pub phase: Phase,
    /// Of a `Releasing` record: the Streamer that is to have the stream next, with its place reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 253)))]
    pub to: Option<String>,
    /// The Streamer that held the stream before and was gone when it moved, until it is proven clear of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 253)))]
    pub previous: Option<String>,
    /// Under which `failover.partition` the holder may be holding the stream; `StopCapturing` once it surely knows.
    #[serde(default, skip_serializing_if = "is_keep")]
    pub partition: Partition,
}

/// As in every record that was written before there was a choice.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_keep(partition: &Partition) -> bool {
    *partition == Partition::KeepCapturing
}

/// One decision about one stream. The planner makes it, the leader gives it its epoch, the writer writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// A stream that has no record gets one.
    Place { stream: String, uid: String, streamer: String },
    /// The holder is to let go: for `to`, or (deleted, disabled) for nobody.
    Release { to: Option<String> },
    /// The holder has let go, or is gone and becomes `previous`: the stream is `streamer`'s now.
    Move { streamer: String, previous: Option<String> },
    /// A release is called off: the holder keeps the stream.
    Keep,
    /// The holder has let go, or is gone, and nobody is to have the stream: no record any more.
    Remove,
    /// `previous` is proven clear of the stream.
    Clear,
    /// Another Stream object stands behind the media name now (deleted and made again).
    Rename { stream: String, uid: String },
    /// The holder holds the stream under another `failover.partition` now, or may be about to.
    Policy { partition: Partition },
    /// A grant above the record proves the record old: its holder is `streamer`.
    Correct { stream: String, uid: String, streamer: String },
}

impl Record {
    /// Every streamer that the record names: holder, destination, previous holder.
    pub fn streamers(&self) -> impl Iterator<Item = String> {
        [Some(&self.streamer), self.to.as_ref(), self.previous.as_ref()].into_iter().flatten().cloned()
    }

    /// The record after `change` under `epoch`; `None` when it ends, or when there was none and the change needs one.
    pub fn apply(name: &str, old: Option<&Record>, change: &Change, epoch: u64) -> Option<Record> {
        let fresh = |stream: &String, uid: &String, streamer: &String| Record {
            name: name.to_owned(),
            stream: stream.clone(),
            uid: uid.clone(),
            streamer: streamer.clone(),
            epoch,
            phase: Phase::Active,
            to: None,
            previous: None,
            partition: Partition::KeepCapturing,
        };
        match (change, old) {
            (Change::Place { stream, uid, streamer }, _) => Some(fresh(stream, uid, streamer)),
            (Change::Correct { stream, uid, streamer }, old) => {
                // Whoever the old record named may be running the stream too, until it is proven clear.
                let previous = old.map(|old| old.streamer.clone()).filter(|previous| previous != streamer);
                Some(Record { previous, ..fresh(stream, uid, streamer) })
            }
            (Change::Remove, _) | (_, None) => None,
            (Change::Release { to }, Some(old)) => {
                Some(Record { epoch, phase: Phase::Releasing, to: to.clone(), ..old.clone() })
            }
            (Change::Move { streamer, previous }, Some(old)) => Some(Record {
                epoch,
                streamer: streamer.clone(),
                phase: Phase::Active,
                to: None,
                previous: previous.clone().or_else(|| old.previous.clone()).filter(|previous| previous != streamer),
                partition: Partition::KeepCapturing,
                ..old.clone()
            }),
            (Change::Keep, Some(old)) => Some(Record { epoch, phase: Phase::Active, to: None, ..old.clone() }),
            (Change::Clear, Some(old)) => Some(Record { epoch, previous: None, ..old.clone() }),
            (Change::Policy { partition }, Some(old)) => Some(Record { epoch, partition: *partition, ..old.clone() }),
            (Change::Rename { stream, uid }, Some(old)) => {
                Some(Record { epoch, stream: stream.clone(), uid: uid.clone(), ..old.clone() })
            }
        }
    }
}
