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

/// Why a streamer gets no new streams, and what changes that.
fn closed(name: &str, seat: &Seat<'_>) -> Option<Note> {
    let streamer = seat.streamer;
    let note = |reason, message| Some(Note { reason, message });
    if let Some(why) = &streamer.not_ready {
        let message = format!("{name} {why}: it gets new streams once it is ready");
        return note(reason::NOT_READY, message);
    }
    if streamer.drain {
        let message = match seat.holds {
            0 => format!("{name} is drained: it can be taken down; set spec.drain to false to give it streams again"),
            left => format!("{name} is being drained, {left} to go; set spec.drain to false to end that"),
        };
        return note(reason::DRAINING, message);
    }
    if streamer.unschedulable {
        let message = format!(
            "{name} keeps its streams and gets no new ones; set spec.unschedulable to false to give it new ones"
        );
        return note(reason::SCHEDULING_DISABLED, message);
    }
    if !seat.has_room() {
        let capacity = streamer.capacity.unwrap_or_default();
        let message = format!(
            "{name} has, or is getting, {} of at most {capacity} streams; raise spec.capacity.streams or add a streamer",
            seat.used()
        );
        return note(reason::AT_CAPACITY, message);
    }
    None
}
