//! Release before capture: a stream leaves a streamer that drains, or that it no longer fits, for a destination.

use weir_feed::record::{Change, Record};

use crate::claim::{Claim, Claims, Standing};
use crate::destination::{Nowhere, destination, is_eligible, may_still_run};
use crate::draft::Draft;
use crate::eligible::is_valid;
use crate::failover::{self, is_gone, lost, move_from_gone, tell_placed};
use crate::plan::{Note, Outlook};
use crate::reason;
use crate::time::{duration, timestamp};

/// Ends releases: the stream goes on to its destination, or stays when that took too long or there is none any more.
pub(crate) fn finish<'a>(draft: &mut Draft<'a>, claims: &Claims<'a>) {
    for claim in claims.values().filter(|claim| !claim.stream.disabled) {
        if let Standing::Moving(record, to) = claim.standing() {
            let after = claim.after(draft.world);
            if claim.known.released {
                arrive(draft, claim, record, to);
            } else if is_gone(draft.world, claim.known, after) {
                arrive_from_gone(draft, claim, record, to);
            } else if timed_out(draft, claim) {
                keep_late(draft, claim, record);
            } else {
                failover::wake_when_gone(draft, claim.known, after);
            }
        }
    }
}

/// The holder has let go: the stream is dark until somebody has it.
fn arrive<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>, record: &'a Record, to: &'a str) {
    let holder = record.streamer.as_str();
    let runs = |(runner, _): &(&str, Option<u64>)| *runner == holder;
    let going = match claim.runners(draft.world, None).find(runs) {
        // What it runs is reported apart from `released`, and may be the older news of the two.
        Some(still) => Err(Nowhere::MayStillRun(may_still_run(draft, claim, &[still]))),
        None => destination(draft, claim, Some(holder), Some(to)),
    };
    match going {
        Ok(streamer) => {
            let change = Change::Move {
                streamer: streamer.to_owned(),
                previous: None,
            };
            let why = format!("moved from {holder}, which has let go of it, to {streamer}");
            draft.change(claim.name, Some(record), change, true, why);
            tell_placed(draft, claim, streamer, None);
        }
        Err(Nowhere::MayStillRun(note)) if !timed_out(draft, claim) => {
            tell_moving(draft, claim, record, to, Some(note));
        }
        Err(nowhere) if is_gone(draft.world, claim.known, claim.after(draft.world)) => {
            tell_stuck(draft, claim, record, to, nowhere);
        }
        Err(nowhere) => keep(draft, claim, record, nowhere),
    }
}

fn arrive_from_gone<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>, record: &'a Record, to: &'a str) {
    match destination(draft, claim, Some(&record.streamer), Some(to)) {
        Ok(streamer) => {
            move_from_gone(draft, claim, record, streamer);
            tell_placed(draft, claim, streamer, None);
        }
        Err(nowhere) => tell_stuck(draft, claim, record, to, nowhere),
    }
}

/// The holder is gone and there is nowhere to go.
fn tell_stuck<'a>(
    draft: &mut Draft<'a>,
    claim: &Claim<'a>,
    record: &Record,
    to: &str,
    nowhere: Nowhere,
) {
    let then = format!(
        "{} is gone: the stream moves as soon as one is.",
        record.streamer
    );
    let note = nowhere.note(reason::NO_DESTINATION, &then);
    tell_moving(draft, claim, record, to, Some(note));
}

/// Begins releases, and changes the destination of those whose destination is not eligible any more.
pub(crate) fn begin<'a>(draft: &mut Draft<'a>, claims: &Claims<'a>) {
    for claim in claims.values().filter(|claim| !claim.stream.disabled) {
        if draft.changed(claim.name) || draft.told(&claim.stream.object) {
            continue;
        }
        match claim.standing() {
            Standing::Active(record) => leave(draft, claim, record),
            Standing::Moving(record, to) => redirect(draft, claim, record, to),
            Standing::New | Standing::Leaving(_) => {}
        }
    }
}

fn leave<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>, record: &'a Record) {
    let holder = record.streamer.as_str();
    let Some(cause) = cause_to_leave(draft, claim, holder) else {
        return;
    };
    let release = draft.world.release;
    if let Some(ago) = claim.known.called_off.filter(|ago| *ago < release) {
        draft.wake_in(release - ago);
        let again = draft.now.wall.saturating_add(release - ago);
        let message = format!(
            "its release from {holder}, {cause}, was called off: it is tried again at {}; \
             look at the streamer and its sidecar if this happens again",
            timestamp(again)
        );
        let reason = reason::RELEASE_TIMED_OUT;
        return tell_placed(draft, claim, holder, Some(Note { reason, message }));
    }
    match destination(draft, claim, Some(holder), None) {
        Ok(to) => {
            let why = format!("leaves {holder}, {cause}, for {to}");
            release_to(draft, claim, record, to, why);
        }
        Err(nowhere) => {
            let then = format!("The stream leaves {holder}, {cause}, as soon as one is.");
            let note = nowhere.note(reason::NO_DESTINATION, &then);
            tell_placed(draft, claim, holder, Some(note));
        }
    }
}

/// Why a stream cannot stay; a holder that is full or cordoned, or has no Streamer object, is no cause.
fn cause_to_leave(draft: &Draft<'_>, claim: &Claim<'_>, holder: &str) -> Option<&'static str> {
    let streamer = draft.namespace.streamers.get(holder)?;
    if streamer.drain {
        Some("which is drained")
    } else if is_valid(claim.stream, streamer) {
        None
    } else {
        Some("whose labels and the stream's no longer match")
    }
}

fn redirect<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>, record: &'a Record, to: &'a str) {
    let holder = record.streamer.as_str();
    if is_eligible(draft, claim, to, Some(holder), Some(to)) {
        let waited = claim.known.releasing_for.unwrap_or_default();
        draft.wake_in((draft.world.release + 1).saturating_sub(waited));
        let note = lost(draft, claim, record);
        return tell_moving(draft, claim, record, to, note);
    }
    match destination(draft, claim, Some(holder), None) {
        Ok(other) => {
            let why = format!("leaves {holder} for {other}, since {to} cannot take it any more");
            release_to(draft, claim, record, other, why);
        }
        Err(nowhere) => keep(draft, claim, record, nowhere),
    }
}

fn release_to<'a>(
    draft: &mut Draft<'a>,
    claim: &Claim<'a>,
    record: &Record,
    to: &str,
    why: String,
) {
    let change = Change::Release {
        to: Some(to.to_owned()),
    };
    draft.change(claim.name, Some(record), change, false, why);
    draft.wake_in(draft.world.release + 1);
    tell_moving(draft, claim, record, to, None);
}

/// Calls a release off for want of a destination. Urgent, as the next: the stream may be dark.
fn keep<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>, record: &'a Record, nowhere: Nowhere) {
    let holder = &record.streamer;
    let then = format!("The stream stays on {holder}.");
    let note = nowhere.note(reason::NO_DESTINATION, &then);
    let why = format!("kept on {holder}: {}", note.message);
    draft.change(claim.name, Some(record), Change::Keep, true, why);
    draft.wake_in(draft.world.release);
    tell_placed(draft, claim, holder, Some(note));
}

/// Calls off a release that takes too long.
fn keep_late<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>, record: &'a Record) {
    let holder = &record.streamer;
    let release = draft.world.release;
    let why = format!(
        "kept on {holder}, which did not let go of it within {}",
        duration(release)
    );
    let again = draft.now.wall.saturating_add(release);
    let note = Note {
        reason: reason::RELEASE_TIMED_OUT,
        message: format!(
            "{why}: it is tried again at {}; look at the streamer and its sidecar",
            timestamp(again)
        ),
    };
    draft.change(claim.name, Some(record), Change::Keep, true, why);
    draft.wake_in(release);
    tell_placed(draft, claim, holder, Some(note));
}

fn timed_out(draft: &Draft<'_>, claim: &Claim<'_>) -> bool {
    let waited = claim.known.releasing_for.unwrap_or_default();
    waited > draft.world.release
}

fn tell_moving<'a>(
    draft: &mut Draft<'a>,
    claim: &Claim<'a>,
    record: &Record,
    to: &str,
    note: Option<Note>,
) {
    let outlook = Outlook::Releasing {
        streamer: record.streamer.clone(),
        to: Some(to.to_owned()),
        note,
    };
    draft.tell(&claim.stream.object, outlook);
}
