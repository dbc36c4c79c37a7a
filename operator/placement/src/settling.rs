//! What streams hear while a new leader waits: no record changes, not even for a user's clear wish.

use crate::claim::{Claim, Claims, Standing};
use crate::draft::Draft;
use crate::failover::tell_placed;
use crate::plan::{Note, Outlook};
use crate::reason;

/// Says where everything stands, and changes nothing.
pub(crate) fn wait<'a>(draft: &mut Draft<'a>, claims: &Claims<'a>) {
    for claim in claims.values() {
        match claim.standing() {
            Standing::Active(record) => {
                let note = waits_for(claim, &record.streamer);
                tell_placed(draft, claim, &record.streamer, note);
            }
            Standing::Moving(record, _) | Standing::Leaving(record) => {
                let outlook = Outlook::Releasing {
                    streamer: record.streamer.clone(),
                    to: record.to.clone(),
                    note: Some(waiting()),
                };
                draft.tell(&claim.stream.object, outlook);
            }
            Standing::New if claim.stream.disabled => {}
            Standing::New => draft.tell(&claim.stream.object, Outlook::Pending(waiting())),
        }
    }
}

fn waits_for(claim: &Claim<'_>, holder: &str) -> Option<Note> {
    if claim.stream.disabled {
        return Some(waiting());
    }
    claim.known.holder_lost.map(|_| Note {
        reason: reason::WAITING,
        message: format!(
            "a new leader waits for the streamers to report, and {holder} has not yet: nothing moves before it has"
        ),
    })
}

fn waiting() -> Note {
    Note {
        reason: reason::WAITING,
        message: "a new leader waits for the streamers to report: then it goes on".to_owned(),
    }
}
