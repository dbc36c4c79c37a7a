//! Streams whose holder is lost: once it is gone they move.

use weir_feed::record::{Change, Record};

use crate::claim::{Claim, Claims, Standing};
use crate::destination::destination;
use crate::draft::Draft;
use crate::plan::{Note, Outlook};
use crate::reason;
use crate::time::{duration, timestamp};
use crate::world::{Known, World};

/// Whether the record's holder is gone: lost for `after` (ms), and not shown as running the stream by its own API.
pub(crate) fn is_gone(world: &World, known: &Known, after: u64) -> bool {
    let lost_for_long = known.holder_lost.is_some_and(|lost| lost >= after);
    world.settled && lost_for_long && !known.not_polling
}

/// Asks for a plan when the holder, if it is lost, will be gone.
pub(crate) fn wake_when_gone(draft: &mut Draft<'_>, known: &Known, after: u64) {
    if let Some(lost) = known.holder_lost.filter(|lost| *lost < after) {
        draft.wake_in(after - lost);
    }
}

/// Moves the streams of holders that are gone, and says what is the matter with those that are on their way there.
pub(crate) fn recover<'a>(draft: &mut Draft<'a>, claims: &Claims<'a>) {
    for claim in claims.values().filter(|claim| !claim.stream.disabled) {
        let Standing::Active(record) = claim.standing() else {
            continue;
        };
        if is_gone(draft.world, claim.known, claim.after(draft.world)) {
            recover_one(draft, claim, record);
        } else if let Some(note) = lost(draft, claim, record) {
            tell_placed(draft, claim, &record.streamer, Some(note));
        }
    }
}

fn recover_one<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>, record: &'a Record) {
    let holder = record.streamer.as_str();
    match destination(draft, claim, Some(holder), None) {
        Ok(streamer) => {
            move_from_gone(draft, claim, record, streamer);
            tell_placed(draft, claim, streamer, None);
        }
        Err(nowhere) => {
            let then = format!("{holder} is gone: the stream moves as soon as one is.");
            let note = nowhere.note(reason::NO_DESTINATION, &then);
            tell_placed(draft, claim, holder, Some(note));
        }
    }
}

/// Moves a stream from a holder that is gone, and may be running it all the same.
pub(crate) fn move_from_gone<'a>(
    draft: &mut Draft<'a>,
    claim: &Claim<'a>,
    record: &Record,
    streamer: &str,
) {
    let holder = &record.streamer;
    let silent = duration(claim.known.holder_lost.unwrap_or_default());
    let change = Change::Move {
        streamer: streamer.to_owned(),
        previous: Some(holder.clone()),
    };
    let why = format!("moved from {holder} (silent for {silent}) to {streamer}");
    draft.change(claim.name, Some(record), change, true, why);
}

/// What is the matter with a holder that is not gone.
pub(crate) fn lost(draft: &mut Draft<'_>, claim: &Claim<'_>, record: &Record) -> Option<Note> {
    let holder = &record.streamer;
    if claim.known.not_polling {
        return Some(Note {
            reason: reason::NOT_POLLING,
            message: format!(
                "{holder} does not poll its sidecar, and its own API shows it running the stream: it stays there, or two \
                 would capture it; check config_external on {holder}, or stop that streamer for the stream to move"
            ),
        });
    }
    let lost = claim.known.holder_lost?;
    let after = claim.after(draft.world);
    wake_when_gone(draft, claim.known, after);
    let since = draft.now.wall.saturating_sub(lost);
    Some(Note {
        reason: reason::HOLDER_LOST,
        message: format!(
            "{holder} has been silent since {}: the stream moves at {} unless it comes back",
            timestamp(since),
            timestamp(since.saturating_add(after))
        ),
    })
}

pub(crate) fn tell_placed<'a>(
    draft: &mut Draft<'a>,
    claim: &Claim<'a>,
    streamer: &str,
    note: Option<Note>,
) {
    let streamer = streamer.to_owned();
    draft.tell(&claim.stream.object, Outlook::Placed { streamer, note });
}
