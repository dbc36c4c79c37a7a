//! What is left to say when everything is decided: streams that stay as they are, and the streamers.

use crate::claim::{Claim, Claims, Standing};
use crate::destination::may_still_run;
use crate::draft::{Draft, Seat};
use crate::failover::tell_placed;
use crate::plan::{Note, Outlook};
use crate::{place, previous, reason};

/// Sees to it that every Stream and every Streamer hears where it stands.
pub(crate) fn complete<'a>(draft: &mut Draft<'a>, claims: &Claims<'a>) {
    for claim in claims.values() {
        if !draft.told(&claim.stream.object) {
            stays(draft, claim);
        }
    }
    let seats: Vec<_> = draft.seats.iter().map(|(name, seat)| (*name, *seat)).collect();
    for (name, seat) in seats {
        draft.close(name, closed(name, &seat));
    }
}

fn stays<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>) {
    match claim.standing() {
        Standing::Active(record) => {
            let note = previous::note(claim, record).or_else(|| place::disputed(claim));
            tell_placed(draft, claim, &record.streamer, note);
        }
        Standing::Moving(record, _) | Standing::Leaving(record) => {
            let outlook = Outlook::Releasing { streamer: record.streamer.clone(), to: record.to.clone(), note: None };
            draft.tell(&claim.stream.object, outlook);
        }
        Standing::New => {
            let outlook = unwanted(draft, claim);
            draft.tell(&claim.stream.object, outlook);
        }
    }
}

/// A disabled stream without a record: done, unless somebody may be running it.
fn unwanted(draft: &mut Draft<'_>, claim: &Claim<'_>) -> Outlook {
    let runners: Vec<_> = claim.runners(draft.world, None).collect();
    match runners.first() {
        None => Outlook::Disabled,
        Some((runner, _)) => Outlook::Releasing {
            streamer: (*runner).to_owned(),
            to: None,
            note: Some(may_still_run(draft, claim, &runners)),
        },
    }
}

/// Why a streamer gets no new streams, and until when.
fn closed(name: &str, seat: &Seat<'_>) -> Option<Note> {
    let streamer = seat.streamer;
    let note = |reason, message| Some(Note::new(reason, message).about(name));
    if let Some(why) = &streamer.not_ready {
        return note(reason::NOT_READY, format!("{name} {why}: it gets new streams once it is ready"));
    }
    if streamer.drain {
        return match seat.holds {
            0 => note(reason::DRAINED, format!("{name} is drained, and gets no new streams: it can be taken down")),
            left => {
                let message = format!(
                    "{name} is being drained, {left} to go, each as soon as another streamer can take it; it gets no new ones"
                );
                note(reason::DRAINING, message)
            }
        };
    }
    if streamer.unschedulable {
        return note(reason::SCHEDULING_DISABLED, format!("{name} keeps its streams and gets no new ones"));
    }
    if !seat.has_room() {
        let capacity = streamer.capacity.unwrap_or_default();
        let message = format!(
            "{name} has, or is getting, {} of at most {capacity} streams: it gets new ones when others have left it",
            seat.used()
        );
        let room = seat.used().saturating_add(1).to_string();
        return Some(Note::new(reason::AT_CAPACITY, message).about(name).set("capacity.streams", room));
    }
    None
}
