//! Events: what happened, on the object that it happened to.

use std::collections::BTreeMap;

use weir_crds::condition::{ACCEPTED, CAPTURED, CONFIG_ACCEPTED, Condition, PLACED, READY, SUPERVISED, SYNCED, find};
use weir_crds::stream::StreamStatus;
use weir_crds::streamer::StreamerStatus;
use weir_feed::leader::step::SliceId;
use weir_feed::record::{Change, Record, StreamId};
use weir_placement::plan::{HeldRemoval, Planned};

use super::advice::Names;
use super::reason::{self, Event, Reason};
use super::{MAX_MESSAGE, advised, time};
use crate::cluster::{Declared, ObjectRef, Occurrence, Tells};
use crate::text::shortened;

/// How many streamers a message names.
const NAMED: usize = 10;

/// What a change of a record is to people; `before` is the record as it was. `None`: nothing that they would notice.
pub fn of_change(planned: &Planned, before: Option<&Record>) -> Option<Occurrence> {
    let (reason, warning) = match &planned.change {
        Change::Place { .. } => ("Placed", false),
        Change::Release { to: Some(_) } => ("Moving", false),
        Change::Release { to: None } => ("LettingGo", false),
        Change::Move { previous: None, .. } => ("Moved", false),
        Change::Move { .. } => ("FailedOver", true),
        Change::Keep => ("Kept", true),
        Change::Remove => ("Released", false),
        Change::Rename { .. } => ("TakenOver", false),
        Change::Correct { .. } => ("Corrected", true),
        Change::Clear | Change::Policy { .. } => return None,
    };
    let (stream, uid) = match &planned.change {
        Change::Place { stream, uid, .. } | Change::Rename { stream, uid } | Change::Correct { stream, uid, .. } => {
            (stream, uid)
        }
        _ => before.map(|record| (&record.stream, &record.uid))?,
    };
    let object = ObjectRef { namespace: planned.stream.namespace.clone(), name: stream.clone() };
    Some(change("Stream", &object, uid, warning, reason, &planned.why))
}

/// That the record of a stream follows what `streamer` proves; `object` is the `metadata.name` of its Stream.
pub fn of_correction(stream: &StreamId, object: &str, uid: &str, streamer: &str) -> Occurrence {
    let object = ObjectRef { namespace: stream.namespace.clone(), name: object.to_owned() };
    let message = format!(
        "the record of {} was older than what {streamer} proves, as after a restore of an old copy of etcd: it follows {streamer}",
        stream.name
    );
    change("Stream", &object, uid, true, "Corrected", &message)
}

/// That a Streamer's streams moved away because it is gone; `to` counts them by their new streamers. One Event for all
/// of them: those on the Streams may be too many to be recorded.
pub fn of_failover(streamer: &ObjectRef, uid: &str, to: &BTreeMap<String, usize>) -> Occurrence {
    let all: usize = to.values().sum();
    let mut named: Vec<String> = to.iter().take(NAMED).map(|(name, count)| format!("{count} to {name}")).collect();
    if to.len() > NAMED {
        named.push(format!("the others to {} more", to.len() - NAMED));
    }
    let streams = if all == 1 { "1 stream" } else { &format!("{all} streams") };
    let message = format!("{streams} moved away from {}, which is gone: {}", streamer.name, named.join(", "));
    // One for all of them, and so before them.
    Occurrence { tells: Tells::State, ..change("Streamer", streamer, uid, true, "FailedOver", &message) }
}

/// What has become wrong with a Stream, or right again, between two reports.
pub fn of_stream(object: &ObjectRef, uid: &str, old: &StreamStatus, new: &StreamStatus) -> Vec<Occurrence> {
    let turns = Turns { kind: "Stream", object, uid, named: reason::stream::named };
    turns.of(&old.conditions, &new.conditions, &[ACCEPTED, PLACED, CAPTURED])
}

/// What has become wrong with a Streamer, or right again, between two reports.
pub fn of_streamer(object: &ObjectRef, uid: &str, old: &StreamerStatus, new: &StreamerStatus) -> Vec<Occurrence> {
    let turns = Turns { kind: "Streamer", object, uid, named: reason::streamer::named };
    turns.of(&old.conditions, &new.conditions, &[READY, SYNCED, CONFIG_ACCEPTED, SUPERVISED])
}

/// Whose conditions have turned.
struct Turns<'a> {
    kind: &'static str,
    object: &'a ObjectRef,
    uid: &'a str,
    named: fn(&str) -> Option<&'static Reason>,
}

impl Turns<'_> {
    /// An Event for each reason that was not there before, and one when what had an Event is over.
    fn of(&self, old: &[Condition], new: &[Condition], types: &[&str]) -> Vec<Occurrence> {
        let mut told: Vec<Occurrence> = Vec::new();
        for type_ in types {
            let Some(now) = turned(old, new, type_) else { continue };
            let was = find(old, type_);
            let news = match self.event(now) {
                Some(_) if old.iter().any(|old| old.reason == now.reason && old.status == now.status) => None,
                Some(warning) => Some((warning, now.reason.as_str())),
                None if self.is_well_again(type_, was, now) => {
                    Some((false, if *type_ == READY { "Ready" } else { now.reason.as_str() }))
                }
                None => None,
            };
            if let Some((warning, reason)) = news.filter(|(_, reason)| told.iter().all(|one| one.reason != *reason)) {
                told.push(Occurrence {
                    tells: Tells::State,
                    ..change(self.kind, self.object, self.uid, warning, reason, &now.message)
                });
            }
        }
        told
    }

    /// Whether a condition's reason becomes an Event, and whether that is a Warning.
    fn event(&self, condition: &Condition) -> Option<bool> {
        match (self.named)(&condition.reason)?.waiting()?.event {
            Event::Warning => Some(true),
            Event::Normal => Some(false),
            Event::UnlessTrue(_) => (condition.status != "True").then_some(true),
            Event::Quiet(_) => None,
        }
    }

    /// Where a stream is placed is told by the change of its record.
    fn is_well_again(&self, type_: &str, was: Option<&Condition>, now: &Condition) -> bool {
        let waits = (self.named)(&now.reason).is_some_and(|reason| reason.waiting().is_some());
        let told_before = was.map_or(type_ == READY, |was| was.status != "Unknown" && self.event(was).is_some());
        now.status == "True" && !waits && told_before && type_ != PLACED
    }
}

/// That a removal in numbers is held, on a Placement that it concerns.
pub fn of_held_removal(slice: &SliceId, held: &HeldRemoval, declared: Declared) -> Occurrence {
    let object = ObjectRef { namespace: slice.namespace.clone(), name: slice.object() };
    let sentence = format!(
        "{} of {} streams of the namespace lost their Stream at once: they run on until {}, and are stopped then",
        held.orphans,
        held.records,
        time(held.until).0
    );
    let names = Names { namespace: &object.namespace, placement: Some(&object.name), ..Names::default() };
    let reason = reason::placement::REMOVAL_HELD;
    let message = advised(&sentence, reason, &names, declared);
    Occurrence { tells: Tells::State, ..change("Placement", &object, "", true, reason.name(), &message) }
}

/// That a removal in numbers is held no more.
pub fn of_ended_removal(slice: &SliceId) -> Occurrence {
    let object = ObjectRef { namespace: slice.namespace.clone(), name: slice.object() };
    let message = "no removal is held any more: the Streams are there again, or their streams are being stopped";
    Occurrence { tells: Tells::State, ..change("Placement", &object, "", false, "RemovalDecided", message) }
}

/// The condition of that type, if its status or its reason is another than before.
fn turned<'a>(old: &[Condition], new: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    let now = find(new, type_)?;
    let same = find(old, type_).is_some_and(|old| old.status == now.status && old.reason == now.reason);
    (!same).then_some(now)
}

fn change(kind: &'static str, object: &ObjectRef, uid: &str, warning: bool, reason: &str, message: &str) -> Occurrence {
    Occurrence {
        kind,
        object: object.clone(),
        uid: uid.to_owned(),
        warning,
        tells: Tells::Change,
        reason: reason.to_owned(),
        message: shortened(message, MAX_MESSAGE).to_owned(),
    }
}

#[cfg(test)]
mod tests;
