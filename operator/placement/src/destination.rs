//! Where a stream can go: the best eligible streamer, if **Adopt** allows it one.

use weir_feed::frames::Partition;

use crate::claim::Claim;
use crate::draft::Draft;
use crate::eligible::{Candidate, Refusals, candidates, explain};
use crate::plan::Note;
use crate::reason::{self, Reason};
use crate::score::Score;
use crate::time::timestamp;

/// Why a stream can go nowhere.
#[derive(Debug)]
pub(crate) enum Nowhere {
    /// No streamer is eligible: the scheduler-like sentence, without what happens next, and what would change that.
    Unavailable(Refusals),
    /// **Adopt**: a streamer may be running it, and cannot be given it.
    MayStillRun(Note),
}

/// The streamer that a stream goes to: from `from`, which is gone or is made to let go first, and preferably to `to`,
/// where it has a place. One that runs the stream anyway gets it, whatever the score.
pub(crate) fn destination<'a>(
    draft: &mut Draft<'a>,
    claim: &Claim<'a>,
    from: Option<&str>,
    to: Option<&str>,
) -> Result<&'a str, Nowhere> {
    if let Some(note) = unheard(draft, claim) {
        return Err(Nowhere::MayStillRun(note));
    }
    let runners: Vec<(&str, Option<u64>)> = claim.runners(draft.world, from).collect();
    match *runners.as_slice() {
        [] => best(draft, claim, from, to),
        [(runner, _)] if is_eligible(draft, claim, runner, from, to) => Ok(runner),
        _ => Err(Nowhere::MayStillRun(may_still_run(draft, claim, &runners))),
    }
}

/// Streamers that a new leader has not heard may be capturing, under a lease of the last one, what stops when it is cut
/// off: the record may be an old one.
fn unheard(draft: &mut Draft<'_>, claim: &Claim<'_>) -> Option<Note> {
    let unheard = &draft.namespace.unheard;
    let longest = unheard.values().max().filter(|_| claim.stream.partition == Partition::StopCapturing)?;
    let names: Vec<&str> = unheard.keys().map(String::as_str).collect();
    let until = timestamp(draft.now.wall.saturating_add(*longest));
    let message = format!(
        "a new leader has not heard {} yet, which may still be capturing it under a lease of the last one: nobody is \
         given it before {until}, unless they come back; delete the Streamer of one that is gone for good",
        names.join(", ")
    );
    draft.wake_in(*longest);
    let note = Note::new(reason::MAY_STILL_RUN, message);
    names.first().map(|first| note.about(first))
}

/// Whether `streamer` can be given the stream, **Adopt** aside.
pub(crate) fn is_eligible(
    draft: &Draft<'_>,
    claim: &Claim<'_>,
    streamer: &str,
    from: Option<&str>,
    to: Option<&str>,
) -> bool {
    draft
        .seats
        .get_key_value(streamer)
        .is_some_and(|(name, seat)| Candidate::new(name, seat, claim, from, to).is_eligible())
}

fn best<'a>(
    draft: &mut Draft<'a>,
    claim: &Claim<'a>,
    from: Option<&str>,
    to: Option<&str>,
) -> Result<&'a str, Nowhere> {
    let best = candidates(draft, claim, from, to)
        .filter(|(_, candidate)| candidate.is_eligible())
        .min_by_key(|(name, candidate)| (to != Some(*name), Score::of(name, candidate.seat)))
        .map(|(name, _)| name);
    best.ok_or_else(|| {
        draft.want_room();
        Nowhere::Unavailable(explain(claim.stream, candidates(draft, claim, from, to)))
    })
}

/// Names the streamers that are in the way, and asks for a plan when the first of them may be gone.
pub(crate) fn may_still_run(draft: &mut Draft<'_>, claim: &Claim<'_>, runners: &[(&str, Option<u64>)]) -> Note {
    let after = claim.after(draft.world);
    for lost in runners.iter().filter_map(|(_, lost)| *lost).filter(|_| after < u64::MAX) {
        draft.wake_in(after.saturating_sub(lost));
    }
    let names: Vec<&str> = runners.iter().map(|(name, _)| *name).collect();
    let refusal = match *names.as_slice() {
        [one] => draft
            .seats
            .get_key_value(one)
            .and_then(|(name, seat)| Candidate::new(name, seat, claim, None, None).refusal())
            .map_or_else(String::new, |why| format!(" (and cannot be given it: {why})")),
        _ => String::new(),
    };
    let message = format!(
        "{} may still be running it{refusal}: nobody else is given it before its sidecar says otherwise or it is gone{}",
        names.join(", "),
        gone_at(draft, after, runners)
    );
    let note = Note::new(reason::MAY_STILL_RUN, message);
    names.first().map_or_else(|| note.clone(), |first| note.clone().about(first))
}

/// When the last of those that are silent counts as gone; nothing where one is there.
fn gone_at(draft: &Draft<'_>, after: u64, runners: &[(&str, Option<u64>)]) -> String {
    let left: Option<Vec<u64>> = runners.iter().map(|(_, lost)| Some(after.saturating_sub((*lost)?))).collect();
    let last = left.and_then(|left| left.into_iter().max());
    last.map_or_else(String::new, |left| format!(", at {}", timestamp(draft.now.wall.saturating_add(left))))
}

impl Nowhere {
    /// As a note: `reason` for want of a streamer, and what happens `then`.
    pub(crate) fn note(self, reason: Reason, then: &str) -> Note {
        match self {
            Nowhere::Unavailable(Refusals { sentence, about, set }) => {
                Note { reason, message: format!("{sentence}. {then}"), about, set }
            }
            Nowhere::MayStillRun(note) => note,
        }
    }
}
