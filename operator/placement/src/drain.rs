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
            if claim.known.released || claim.known.ended {
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
            let change = Change::Move { streamer: streamer.to_owned(), previous: None };
            let how = if claim.known.ended { "whose pod has ended" } else { "which has let go of it" };
            let why = format!("moved from {holder}, {how}, to {streamer}");
            draft.change(claim.name, Some(record), change, true, why);
            tell_placed(draft, claim, streamer, None);
        }
        Err(Nowhere::MayStillRun(note)) if !timed_out(draft, claim) => {
            wake_when_late(draft, claim);
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
fn tell_stuck<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>, record: &Record, to: &str, nowhere: Nowhere) {
    let then = format!("{} is gone: the stream moves as soon as one is.", record.streamer);
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
    let release = draft.world.periods.release;
    if let Some(ago) = claim.known.called_off.filter(|ago| *ago < release) {
        draft.wake_in(release - ago);
        let again = draft.now.wall.saturating_add(release - ago);
        let message =
            format!("its release from {holder}, {cause}, was called off: it is tried again at {}", timestamp(again));
        let note = Note::new(reason::RELEASE_TIMED_OUT, message).about(holder);
        return tell_placed(draft, claim, holder, Some(note));
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
        wake_when_late(draft, claim);
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

fn release_to<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>, record: &Record, to: &str, why: String) {
    let change = Change::Release { to: Some(to.to_owned()) };
    draft.change(claim.name, Some(record), change, false, why);
    draft.wake_in(draft.world.periods.release + 1);
    tell_moving(draft, claim, record, to, None);
}

/// Calls a release off for want of a destination. Urgent, as the next: the stream may be dark.
fn keep<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>, record: &'a Record, nowhere: Nowhere) {
    let holder = &record.streamer;
    let then = format!("The stream stays on {holder}.");
    let note = nowhere.note(reason::NO_DESTINATION, &then);
    let why = format!("kept on {holder}: {}", note.message);
    draft.change(claim.name, Some(record), Change::Keep, true, why);
    draft.wake_in(draft.world.periods.release);
    tell_placed(draft, claim, holder, Some(note));
}

/// Calls off a release that takes too long.
fn keep_late<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>, record: &'a Record) {
    let holder = &record.streamer;
    let release = draft.world.periods.release;
    let why = format!("kept on {holder}, which did not let go of it within {}", duration(release));
    let again = draft.now.wall.saturating_add(release);
    let message = format!("{why}: it is tried again at {}", timestamp(again));
    let note = Note::new(reason::RELEASE_TIMED_OUT, message).about(holder);
    draft.change(claim.name, Some(record), Change::Keep, true, why);
    draft.wake_in(release);
    tell_placed(draft, claim, holder, Some(note));
}

fn timed_out(draft: &Draft<'_>, claim: &Claim<'_>) -> bool {
    let waited = claim.known.releasing_for.unwrap_or_default();
    waited > draft.world.periods.release
}

/// Asks for a plan when the release has taken too long.
fn wake_when_late(draft: &mut Draft<'_>, claim: &Claim<'_>) {
    let waited = claim.known.releasing_for.unwrap_or_default();
    draft.wake_in((draft.world.periods.release + 1).saturating_sub(waited));
}

fn tell_moving<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>, record: &Record, to: &str, note: Option<Note>) {
    let outlook = Outlook::Releasing { streamer: record.streamer.clone(), to: Some(to.to_owned()), note };
    draft.tell(&claim.stream.object, outlook);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Scene, labels, move_to, release_to, selector};

    fn drained() -> Scene {
        Scene::new(&["s1", "s2", "s3"]).with_active("m", "s1").with(|s| s.streamer("s1").drain = true)
    }

    fn moving() -> Scene {
        Scene::new(&["s1", "s2", "s3"]).with_releasing("m", "s1", Some("s3"))
    }

    #[test]
    fn a_drained_streamer_lets_go_for_a_destination_whose_place_is_reserved() {
        let plan = drained().plan();
        assert_eq!(plan.change("m"), Some(&release_to("s2")));
        assert!(!plan.urgent("m"));
        assert_eq!(plan.why("m"), "leaves s1, which is drained, for s2");
        assert_eq!((plan.streamer("s1").streams, plan.streamer("s2").reserved), (1, 1));
        assert_eq!(plan.streamer("s1").closed.as_ref().unwrap().reason, reason::DRAINING);
    }

    #[test]
    fn reservations_of_one_plan_count_in_it() {
        let scene = drained().with_active("n", "s1").with_active("o", "s1").with(|s| {
            s.streamer("s2").capacity = Some(1);
            s.streamer("s3").capacity = Some(1);
        });
        let plan = scene.plan();
        assert_eq!(plan.change("m"), Some(&release_to("s2")));
        assert_eq!(plan.change("n"), Some(&release_to("s3")));
        assert_eq!(plan.change("o"), None);
        assert_eq!(plan.note("o").reason, reason::NO_DESTINATION);
    }

    #[test]
    fn a_stream_whose_labels_no_longer_match_leaves() {
        let wanted = Scene::new(&["s1", "s2"]).with_active("m", "s1").with(|s| {
            s.object("m").streamer_selector = selector("zone", "b");
            s.streamer("s2").labels = labels("zone", "b");
        });
        assert_eq!(wanted.plan().change("m"), Some(&release_to("s2")));
        let refused = Scene::new(&["s1", "s2"])
            .with_active("m", "s1")
            .with(|s| s.streamer("s1").stream_selector = selector("tier", "gold"));
        assert_eq!(refused.plan().change("m"), Some(&release_to("s2")));
    }

    #[test]
    fn a_streamer_without_an_object_is_no_reason_to_leave() {
        let scene = Scene::new(&["s2"]).with_active("m", "s1");
        assert_eq!(scene.plan().changes, []);
    }

    #[test]
    fn a_stream_whose_holder_is_lost_or_does_not_poll_is_not_released() {
        assert_eq!(drained().lost("m", 10_000).plan().changes, []);
        let scene = drained().with(|s| s.known("m").not_polling = true);
        assert_eq!(scene.plan().changes, []);
    }

    #[test]
    fn after_a_release_was_called_off_there_is_a_pause() {
        let scene = |ago| drained().with(|s| s.known("m").called_off = Some(ago));
        let plan = scene(29_000).plan();
        assert_eq!(plan.changes, []);
        assert_eq!(plan.wake_in, Some(1_000));
        assert_eq!(plan.note("m").reason, reason::RELEASE_TIMED_OUT);
        assert_eq!(scene(30_000).plan().change("m"), Some(&release_to("s2")));
    }

    #[test]
    fn a_released_stream_moves_to_its_reserved_place_at_once() {
        let scene = moving().released("m").with(|s| s.streamer("s3").capacity = Some(1));
        let plan = scene.plan();
        assert_eq!(plan.change("m"), Some(&move_to("s3", None)));
        assert!(plan.urgent("m"));
        assert_eq!((plan.streamer("s3").streams, plan.streamer("s3").reserved), (1, 0));
    }

    #[test]
    fn a_released_stream_moves_elsewhere_when_its_destination_went_away() {
        let scene = moving().released("m").with(|s| s.streamer("s3").unschedulable = true);
        assert_eq!(scene.plan().change("m"), Some(&move_to("s2", None)));
    }

    #[test]
    fn a_released_stream_without_any_destination_goes_back_where_it_was() {
        let scene = moving().released("m").with(|s| {
            s.streamer("s2").unschedulable = true;
            s.streamer("s3").unschedulable = true;
        });
        let plan = scene.plan();
        assert_eq!(plan.change("m"), Some(&Change::Keep));
        assert!(plan.urgent("m"));
        assert_eq!(plan.note("m").reason, reason::NO_DESTINATION);
        let gone = scene.with(|s| s.known("m").holder_lost = Some(60_000)).plan();
        assert_eq!(gone.changes, []);
        assert_eq!(gone.note("m").reason, reason::NO_DESTINATION);
    }

    #[test]
    fn a_holder_that_says_released_and_is_still_reported_as_running_is_waited_for() {
        let mut scene = moving();
        scene.known("m").released = true;
        let plan = scene.plan();
        assert_eq!(plan.changes, []);
        assert_eq!(plan.note("m").reason, reason::MAY_STILL_RUN);
        assert_eq!(plan.wake_in, Some(30_001));
    }

    #[test]
    fn a_holder_that_is_gone_while_it_lets_go_becomes_previous() {
        let plan = moving().lost("m", 60_000).plan();
        assert_eq!(plan.change("m"), Some(&move_to("s3", Some("s1"))));
        assert!(plan.urgent("m"));
    }

    #[test]
    fn a_holder_that_ends_while_it_lets_go_has_let_go() {
        let ended = moving().with(|s| {
            s.known("m").ended = true;
            s.known("m").may_run.clear();
        });
        let plan = ended.plan();
        assert_eq!(plan.change("m"), Some(&move_to("s3", None)));
        assert_eq!(plan.why("m"), "moved from s1, whose pod has ended, to s3");
    }

    #[test]
    fn a_destination_that_went_away_before_the_release_is_changed() {
        let scene = moving().with(|s| s.streamer("s3").drain = true);
        let plan = scene.plan();
        assert_eq!(plan.change("m"), Some(&release_to("s2")));
        assert_eq!((plan.streamer("s2").reserved, plan.streamer("s3").reserved), (1, 0));
        let plan = scene.with(|s| s.streamer("s2").drain = true).plan();
        assert_eq!(plan.change("m"), Some(&Change::Keep));
    }

    #[test]
    fn a_full_destination_is_no_reason_to_change_it() {
        let scene = moving().with(|s| s.streamer("s3").capacity = Some(0));
        assert_eq!(scene.plan().changes, []);
    }

    #[test]
    fn a_release_that_takes_too_long_is_called_off() {
        let scene = |ms| moving().with(|s| s.known("m").releasing_for = Some(ms));
        let waiting = scene(30_000).plan();
        assert_eq!((waiting.changes.len(), waiting.wake_in), (0, Some(1)));
        let plan = scene(30_001).plan();
        assert_eq!(plan.change("m"), Some(&Change::Keep));
        assert!(plan.urgent("m"));
        assert_eq!(plan.note("m").reason, reason::RELEASE_TIMED_OUT);
        assert_eq!(plan.why("m"), "kept on s1, which did not let go of it within 30 s");
    }

    #[test]
    fn what_is_dark_takes_room_before_what_can_wait() {
        let scene = drained().with_new("z").with(|s| {
            s.streamer("s2").capacity = Some(1);
            s.streamer("s3").capacity = Some(0);
        });
        let plan = scene.plan();
        assert_eq!(plan.change("z"), Some(&crate::fixture::place_on("z", "s2")));
        assert_eq!(plan.note("m").reason, reason::NO_DESTINATION);
    }
}
