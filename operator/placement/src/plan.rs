//! What a plan says: changes of records, and for each stream and streamer a reason that a person understands.

use std::collections::BTreeMap;

use weir_feed::record::{Change, StreamId, StreamerId};
use weir_feed::time::Now;

use crate::claim::Claims;
use crate::draft::Draft;
use crate::reason::Reason;
use crate::world::World;
use crate::{conflict, drain, failover, outlook, place, previous, removal, settling};

/// Decides, for every stream, who is to capture it. The same world gives the same plan, whatever the order of its input.
pub fn plan(world: &World, now: Now) -> Plan {
    let mut plan = Plan::default();
    for (name, namespace) in &world.namespaces {
        let mut draft = Draft::new(world, now, name, namespace);
        let claims = conflict::resolve(&mut draft);
        removal::hold(&mut draft, &claims);
        if world.settled {
            decide(&mut draft, &claims);
        } else {
            settling::wait(&mut draft, &claims);
        }
        outlook::complete(&mut draft, &claims);
        draft.finish(&mut plan);
    }
    plan
}

/// A stage leaves alone what an earlier one has changed; what is dark takes its place before what can wait.
fn decide<'a>(draft: &mut Draft<'a>, claims: &Claims<'a>) {
    removal::let_go(draft, claims);
    place::adopt(draft, claims);
    drain::finish(draft, claims);
    failover::recover(draft, claims);
    place::place(draft, claims);
    conflict::take_over(draft, claims);
    previous::clear(draft, claims);
    drain::begin(draft, claims);
}

/// The outcome of planning. The writer carries it out and makes no choices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// At most one change a stream, ordered by stream.
    pub changes: Vec<Planned>,
    /// Where each Stream object stands, by namespace and `metadata.name`.
    pub streams: BTreeMap<StreamId, Outlook>,
    /// Where each Streamer stands.
    pub streamers: BTreeMap<StreamerId, StreamerOutlook>,
    /// By namespace: a removal in numbers that is held. The writer puts `until` on the slices concerned, and takes the
    /// deadline off where there is none here (one left behind, and passed, would let the next removal through).
    pub held_removals: BTreeMap<String, HeldRemoval>,
    /// Plan again after this many ms even if nothing changes: something is waiting for time to pass.
    pub wake_in: Option<u64>,
}

/// One change of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub stream: StreamId,
    pub change: Change,
    /// A failover: written at once, whatever the write budget says.
    pub urgent: bool,
    /// For the Event and the log: one sentence.
    pub why: String,
}

/// Where one Stream object stands (`Placed`'s reason and message).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// It has a holder. `note` says what is about to happen or cannot (lost holder, drain without destination …).
    Placed { streamer: String, note: Option<Note> },
    /// On its way from one streamer to another, or to nobody.
    Releasing { streamer: String, to: Option<String>, note: Option<Note> },
    /// `disabled`, with nothing left running.
    Disabled,
    /// Another Stream has the media name: its `metadata.name`.
    Conflict { with: String },
    /// Nobody has it: why.
    Pending(Note),
}

/// Why something waits, a sentence that says what happens next, and what a person may set to decide otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub reason: Reason,
    pub message: String,
    /// The Streamer that it depends on, if it is one.
    pub about: Option<String>,
    /// A field of that Streamer that ends the waiting, and its value.
    pub set: Option<Setting>,
}

/// A field of a Streamer's `spec`, and its value.
pub type Setting = (&'static str, String);

impl Note {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), about: None, set: None }
    }

    /// It depends on that Streamer.
    #[must_use]
    pub fn about(mut self, streamer: &str) -> Self {
        self.about = Some(streamer.to_owned());
        self
    }

    /// Setting that field of the Streamer that it is about ends the waiting.
    #[must_use]
    pub fn set(mut self, field: &'static str, value: impl Into<String>) -> Self {
        self.set = Some((field, value.into()));
        self
    }
}

/// Where one Streamer stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamerOutlook {
    /// Records that name it as holder.
    pub streams: u32,
    /// Places reserved on it by streams on their way.
    pub reserved: u32,
    /// Why it gets no new streams, if so.
    pub closed: Option<Note>,
}

/// A removal in numbers that is held for the user to confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRemoval {
    /// Records without a Stream.
    pub orphans: usize,
    /// Of how many records.
    pub records: usize,
    /// Wall-clock ms at which they are released after all.
    pub until: u64,
}
