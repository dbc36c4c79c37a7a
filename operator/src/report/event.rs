//! Events: what happened, on the object that it happened to.

use std::collections::BTreeMap;

use weir_crds::condition::{ACCEPTED, CONFIG_ACCEPTED, Condition, PLACED, READY, SYNCED, find};
use weir_crds::stream::StreamStatus;
use weir_crds::streamer::StreamerStatus;
use weir_feed::leader::step::SliceId;
use weir_feed::record::{Change, Record, StreamId};
use weir_placement::plan::{HeldRemoval, Planned};
use weir_placement::reason::{LETTING_GO, MAY_STILL_RUN, WAITING};

use super::{MAX_MESSAGE, time};
use crate::cluster::{CONFIRM_REMOVAL, ObjectRef, Occurrence};
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
    Some(occurrence("Stream", &object, uid, warning, reason, &planned.why))
}

/// That the record of a stream follows what `streamer` proves; `object` is the `metadata.name` of its Stream.
pub fn of_correction(stream: &StreamId, object: &str, uid: &str, streamer: &str) -> Occurrence {
    let object = ObjectRef { namespace: stream.namespace.clone(), name: object.to_owned() };
    let message = format!(
        "the record of {} was older than what {streamer} proves, as after a restore of an old copy of etcd: it follows {streamer}",
        stream.name
    );
    occurrence("Stream", &object, uid, true, "Corrected", &message)
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
    occurrence("Streamer", streamer, uid, true, "FailedOver", &message)
}

/// What has become wrong with a Stream, or right again, between two reports.
pub fn of_stream(object: &ObjectRef, uid: &str, old: &StreamStatus, new: &StreamStatus) -> Vec<Occurrence> {
    let mut occurrences = Vec::new();
    let mut tell = |warning, condition: &Condition| {
        let (reason, message) = (&condition.reason, &condition.message);
        occurrences.push(occurrence("Stream", object, uid, warning, reason, message));
    };
    if let Some(now) = turned(&old.conditions, &new.conditions, ACCEPTED) {
        if now.status == "False" {
            tell(true, now);
        } else if find(&old.conditions, ACCEPTED).is_some_and(|old| old.status == "False") {
            tell(false, now);
        }
    }
    // What Accepted says already is not said twice, and what only takes a moment not at all.
    let quiet = ["Placed", "Releasing", "Disabled", "Conflict", "Malformed", WAITING, LETTING_GO];
    if let Some(now) = turned(&old.conditions, &new.conditions, PLACED)
        && !quiet.contains(&now.reason.as_str())
        // After a failover that is the rule, and the failover's own Event says it.
        && !(now.status == "True" && now.reason == MAY_STILL_RUN)
    {
        tell(true, now);
    }
    occurrences
}

/// What has become wrong with a Streamer, or right again, between two reports.
pub fn of_streamer(object: &ObjectRef, uid: &str, old: &StreamerStatus, new: &StreamerStatus) -> Vec<Occurrence> {
    let mut occurrences = Vec::new();
    for type_ in [READY, SYNCED, CONFIG_ACCEPTED] {
        let Some(now) = turned(&old.conditions, &new.conditions, type_) else {
            continue;
        };
        let before = find(&old.conditions, type_).map(|old| old.status.as_str());
        // To be behind for a while is nothing to act on; nor is it that a streamer nobody started yet is not there.
        let warning = match (now.status.as_str(), now.reason.as_str()) {
            ("Unknown", _) | ("False", "Behind" | "NeverReported") => continue,
            ("True", "InstanceConflict" | "ForeignHost") | ("False", _) => true,
            _ => false,
        };
        if !warning && before == Some("True") {
            continue;
        }
        if !warning && type_ != READY && before != Some("False") {
            continue;
        }
        let reason = match (type_, warning) {
            (READY, false) => "Ready",
            _ => now.reason.as_str(),
        };
        occurrences.push(occurrence("Streamer", object, uid, warning, reason, &now.message));
    }
    occurrences
}

/// That a removal in numbers is held, on a Placement that it concerns.
pub fn of_held_removal(slice: &SliceId, held: &HeldRemoval) -> Occurrence {
    let object = ObjectRef { namespace: slice.namespace.clone(), name: slice.object() };
    let message = format!(
        "{} of {} streams of the namespace lost their Stream at once: they run on until {}; make the Streams again, or \
         confirm with kubectl -n {} annotate placements.weir.dev {} {CONFIRM_REMOVAL}=true",
        held.orphans,
        held.records,
        time(held.until).0,
        object.namespace,
        object.name
    );
    occurrence("Placement", &object, "", true, "RemovalHeld", &message)
}

/// The condition of that type, if its status or its reason is another than before.
fn turned<'a>(old: &[Condition], new: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    let now = find(new, type_)?;
    let same = find(old, type_).is_some_and(|old| old.status == now.status && old.reason == now.reason);
    (!same).then_some(now)
}

fn occurrence(
    kind: &'static str,
    object: &ObjectRef,
    uid: &str,
    warning: bool,
    reason: &str,
    message: &str,
) -> Occurrence {
    Occurrence {
        kind,
        object: object.clone(),
        uid: uid.to_owned(),
        warning,
        reason: reason.to_owned(),
        message: shortened(message, MAX_MESSAGE).to_owned(),
    }
}

#[cfg(test)]
mod tests;
