//! Streams that nobody has: the least loaded of the eligible streamers gets each, or whoever runs it already.

use weir_feed::record::Change;

use crate::claim::{Claim, Claims, Standing};
use crate::destination::destination;
use crate::draft::Draft;
use crate::failover::tell_placed;
use crate::plan::{Note, Outlook};
use crate::reason;

/// Places streams without a record; those that somebody may be running first, while there is room for them there.
pub(crate) fn place<'a>(draft: &mut Draft<'a>, claims: &Claims<'a>) {
    let (run, dark): (Vec<_>, Vec<_>) = claims
        .values()
        .filter(|claim| !claim.stream.disabled && matches!(claim.standing(), Standing::New))
        .partition(|claim| !claim.known.may_run.is_empty());
    for claim in run.into_iter().chain(dark) {
        match place_one(draft, claim) {
            Ok(streamer) => tell_placed(draft, claim, streamer, None),
            Err(note) => draft.tell(&claim.stream.object, Outlook::Pending(note)),
        }
    }
}

fn place_one<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>) -> Result<&'a str, Note> {
    if let Some(note) = disputed(claim) {
        return Err(note);
    }
    let streamer = destination(draft, claim, None, None).map_err(|nowhere| {
        nowhere.note(
            reason::UNSCHEDULABLE,
            "The stream is placed as soon as one is.",
        )
    })?;
    let change = Change::Place {
        stream: claim.stream.object.clone(),
        uid: claim.stream.uid.clone(),
        streamer: streamer.to_owned(),
    };
    let adopted = claim.known.may_run.contains_key(streamer);
    let suffix = if adopted {
        ", which may be running it"
    } else {
        ""
    };
    let why = format!("placed on {streamer}{suffix}");
    draft.change(claim.name, None, change, false, why);
    Ok(streamer)
}

/// A claim that cannot be verified corrects nothing, and keeps the stream from being placed anew.
pub(crate) fn disputed(claim: &Claim<'_>) -> Option<Note> {
    claim.known.disputed.as_ref().map(|by| Note {
        reason: reason::DISPUTED,
        message: format!(
            "{by} says that the stream is its own, under a key that the operator does not have: it is not placed anew \
             before that claim is withdrawn; restore the Secret with the key ring, or stop {by} and wipe its data directory"
        ),
    })
}
