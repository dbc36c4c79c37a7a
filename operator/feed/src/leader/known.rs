//! What the leader knows of one stream, as the planner sees it.

use std::collections::BTreeMap;

use crate::record::Record;

/// What the leader knows of one media name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    pub record: Option<Record>,
    /// How long (ms) the record's holder has been lost as far as this stream goes: its sidecar silent, or its streamer
    /// not alive and not shown as running it. `None`: it is there.
    pub holder_lost: Option<u64>,
    /// The holder does not poll, but its own API still shows the stream running: this blocks a move and is shown.
    pub not_polling: bool,
    /// The holder has said `released` for the record's epoch.
    pub released: bool,
    /// The record's holder has ended for good: it runs nothing any more, and nobody comes back under its name.
    pub ended: bool,
    /// How long (ms) the record has been `Releasing`, as this leader saw it.
    pub releasing_for: Option<u64>,
    /// How long ago (ms) a release of it was last called off.
    pub called_off: Option<u64>,
    /// **Adopt**: streamers that may be running the stream, each with how long (ms) it has been lost, if it is.
    pub may_run: BTreeMap<String, Option<u64>>,
    /// An unverifiable claim to the stream exists (`Disputed`): whose.
    pub disputed: Option<String>,
}
