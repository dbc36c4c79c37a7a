//! What streams hear while a new leader waits: no record changes, not even for a user's clear wish.

use crate::claim::{Claim, Claims, Standing};
use crate::draft::Draft;
use crate::failover::tell_placed;
use crate::plan::{Note, Outlook};
use crate::reason;
use crate::time::timestamp;

/// Says where everything stands, and changes nothing.
pub(crate) fn wait<'a>(draft: &mut Draft<'a>, claims: &Claims<'a>) {
    for claim in claims.values() {
        match claim.standing() {
            Standing::Active(record) => {
                let note = waits_for(draft, claim, &record.streamer);
                tell_placed(draft, claim, &record.streamer, note);
            }
            Standing::Moving(record, _) | Standing::Leaving(record) => {
                let outlook = Outlook::Releasing {
                    streamer: record.streamer.clone(),
                    to: record.to.clone(),
                    note: Some(waiting(draft)),
                };
                draft.tell(&claim.stream.object, outlook);
            }
            Standing::New if claim.stream.disabled => {}
            Standing::New => {
                let outlook = Outlook::Pending(waiting(draft));
                draft.tell(&claim.stream.object, outlook);
            }
        }
    }
}

fn waits_for(draft: &Draft<'_>, claim: &Claim<'_>, holder: &str) -> Option<Note> {
    if claim.stream.disabled {
        return Some(waiting(draft));
    }
    claim.known.holder_lost.map(|_| {
        let message = format!(
            "a new leader waits for the streamers to report, and {holder} has not yet: nothing moves before it has{}",
            at_the_latest(draft)
        );
        Note::new(reason::WAITING, message).about(holder)
    })
}

fn waiting(draft: &Draft<'_>) -> Note {
    let message =
        format!("a new leader waits for the streamers to report: it goes on when they have{}", at_the_latest(draft));
    Note::new(reason::WAITING, message)
}

fn at_the_latest(draft: &Draft<'_>) -> String {
    let until = draft.world.settles_in.map(|left| draft.now.wall.saturating_add(left));
    until.map_or_else(String::new, |until| format!(", at the latest at {}", timestamp(until)))
}
