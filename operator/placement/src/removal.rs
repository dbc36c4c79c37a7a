//! Streams that nobody wants any more: deleted ones, in numbers only after a while, and disabled ones.

use weir_feed::record::{Change, Record};

use crate::claim::{Claim, Claims, Standing};
use crate::draft::Draft;
use crate::failover::{self, is_gone};
use crate::plan::{HeldRemoval, Note, Outlook};
use crate::reason;
use crate::time::duration;
use crate::world::Known;

/// `failover.after` of a stream whose Stream object is gone (ms): the default of that field.
const ORPHAN_AFTER: u64 = 30_000;
/// How long (ms) a removal in numbers is held.
const HOLD: u64 = 600_000;
/// So many records without a Stream are removed without question, however few records there are.
const FEW: usize = 10;
/// The time (ms) over which removals are counted together.
const RECENT: u64 = 60_000;

/// Holds the removal of streams that vanish in numbers, unless it is confirmed.
pub(crate) fn hold(draft: &mut Draft<'_>, claims: &Claims<'_>) {
    let removal = &draft.namespace.removal;
    let orphans = orphans(draft, claims).count();
    let known = draft.namespace.known.values();
    let records = known.filter(|known| known.record.is_some()).count();
    let confirmed = removal.confirmed || removal.namespace_terminating;
    let passed = removal.until.is_some_and(|until| until <= draft.now.wall);
    if orphans == 0 || confirmed || passed || !in_numbers(orphans, removal.recent, records) {
        return;
    }
    let until = removal.until.unwrap_or(draft.now.wall + HOLD);
    draft.wake_in(until - draft.now.wall);
    if removal.recent > 0 {
        draft.wake_in(RECENT);
    }
    draft.held = Some(HeldRemoval {
        orphans,
        records,
        until,
    });
}

/// More than max(10, 20 %), those of the last minute included.
fn in_numbers(orphans: usize, recent: usize, records: usize) -> bool {
    let vanished = orphans + recent;
    vanished > FEW && vanished * 5 > records + recent
}

/// Takes streams off their streamers that are deleted or disabled, and removes the records of those that are off.
pub(crate) fn let_go<'a>(draft: &mut Draft<'a>, claims: &Claims<'a>) {
    remove(draft, claims);
    for claim in claims.values().filter(|claim| claim.stream.disabled) {
        if let Standing::Active(record) | Standing::Moving(record, _) = claim.standing() {
            let why = format!("released from {}: its Stream is disabled", record.streamer);
            let change = Change::Release { to: None };
            draft.change(claim.name, Some(record), change, false, why);
            tell_leaving(draft, claim, record);
        }
    }
    if draft.held.is_none() {
        let orphans: Vec<_> = orphans(draft, claims).collect();
        for (name, record) in orphans {
            let why = format!("released from {}: its Stream is gone", record.streamer);
            draft.change(name, Some(record), Change::Release { to: None }, false, why);
        }
    }
}

/// Records without a Stream that nothing releases yet.
fn orphans<'a>(
    draft: &Draft<'a>,
    claims: &Claims<'a>,
) -> impl Iterator<Item = (&'a str, &'a Record)> {
    let namespace = draft.namespace;
    namespace
        .known
        .iter()
        .filter_map(|(name, known)| match Standing::of(known) {
            Standing::Active(record) | Standing::Moving(record, _) => Some((name.as_str(), record)),
            Standing::New | Standing::Leaving(_) => None,
        })
        .filter(|(name, record)| !claims.contains_key(name) && !is_hidden(draft, record))
}

/// Whether the record's Stream may exist without being seen: then the record stays as it is.
fn is_hidden(draft: &Draft<'_>, record: &Record) -> bool {
    draft.namespace.removal.unknown || draft.namespace.unreadable.contains(&record.stream)
}

/// Ends the records of streams that are let go for nobody, once that is done or the holder is gone.
fn remove<'a>(draft: &mut Draft<'a>, claims: &Claims<'a>) {
    for (name, known) in &draft.namespace.known {
        let claim = claims.get(name.as_str());
        let Standing::Leaving(record) = Standing::of(known) else {
            continue;
        };
        if claim.is_none() && is_hidden(draft, record) {
            continue;
        }
        let after = claim.map_or(ORPHAN_AFTER.max(draft.world.shortest_failover), |claim| {
            claim.after(draft.world)
        });
        if known.released || is_gone(draft.world, known, after) {
            let why = removed(record, known);
            draft.change(name, Some(record), Change::Remove, false, why);
        } else {
            failover::wake_when_gone(draft, known, after);
        }
        if let Some(claim) = claim {
            tell_leaving(draft, claim, record);
        }
    }
}

fn removed(record: &Record, known: &Known) -> String {
    let holder = &record.streamer;
    match known.holder_lost {
        Some(lost) if !known.released => {
            format!("taken off {holder} (silent for {})", duration(lost))
        }
        _ => format!("taken off {holder}, which has let go of it"),
    }
}

/// What a Stream hears that is being let go for nobody: it is disabled, or was when this began.
pub(crate) fn tell_leaving<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>, record: &Record) {
    let (holder, object) = (&record.streamer, claim.stream.object.as_str());
    let ended = draft.changed(claim.name) && matches!(claim.standing(), Standing::Leaving(_));
    let outlook = match (ended, claim.stream.disabled) {
        (true, true) => Outlook::Disabled,
        (true, false) => {
            draft.wake_in(1);
            Outlook::Pending(Note {
                reason: reason::WAITING,
                message: format!("{holder} has let go of it: it is placed anew next"),
            })
        }
        (false, disabled) => Outlook::Releasing {
            streamer: holder.clone(),
            to: None,
            note: leaving(draft, claim, record, disabled),
        },
    };
    draft.tell(object, outlook);
}

fn leaving(draft: &Draft<'_>, claim: &Claim<'_>, record: &Record, disabled: bool) -> Option<Note> {
    let holder = &record.streamer;
    let late = |waited| waited > draft.world.release;
    if claim.known.releasing_for.is_some_and(late) {
        let message = format!(
            "{holder} has not let go of it within {}: its record stays until it has, or is gone; \
             look at the streamer and its sidecar",
            duration(draft.world.release)
        );
        let reason = reason::RELEASE_TIMED_OUT;
        return Some(Note { reason, message });
    }
    (!disabled).then(|| Note {
        reason: reason::LETTING_GO,
        message: format!(
            "{holder} is letting go of what was disabled or deleted: then the stream is placed anew"
        ),
    })
}
