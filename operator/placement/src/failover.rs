//! Streams whose holder is lost: once it is gone they move.

use weir_feed::record::{Change, Record};

use crate::claim::{Claim, Claims, Standing};
use crate::destination::destination;
use crate::draft::Draft;
use crate::plan::{Note, Outlook};
use crate::reason;
use crate::time::{duration, timestamp};
use crate::world::{Known, World};

/// Whether the record's holder is gone: ended for good, or lost for `after` (ms) and not shown as running the stream by its
/// own API.
pub(crate) fn is_gone(world: &World, known: &Known, after: u64) -> bool {
    let lost_for_long = known.holder_lost.is_some_and(|lost| lost >= after);
    world.settled && (known.ended || (lost_for_long && !known.not_polling))
}

/// Asks for a plan when the holder, if it is lost, will be gone.
pub(crate) fn wake_when_gone(draft: &mut Draft<'_>, known: &Known, after: u64) {
    if let Some(lost) = known.holder_lost.filter(|lost| *lost < after && after < u64::MAX) {
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

/// Moves a stream from a holder that is gone, and may be running it all the same unless it has ended.
pub(crate) fn move_from_gone<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>, record: &Record, streamer: &str) {
    let holder = &record.streamer;
    let (previous, how) = if claim.known.ended {
        (None, "whose pod has ended".to_owned())
    } else {
        (Some(holder.clone()), format!("silent for {}", duration(claim.known.holder_lost.unwrap_or_default())))
    };
    let change = Change::Move { streamer: streamer.to_owned(), previous };
    let why = format!("moved from {holder} ({how}) to {streamer}");
    draft.change(claim.name, Some(record), change, true, why);
}

/// What is the matter with a holder that is not gone.
pub(crate) fn lost(draft: &mut Draft<'_>, claim: &Claim<'_>, record: &Record) -> Option<Note> {
    let holder = &record.streamer;
    if claim.known.not_polling {
        let message = format!(
            "{holder} does not poll its sidecar, and its own API shows it running the stream: it stays there, or two would \
             capture it, until {holder} polls again or is stopped; see to config_external on {holder}"
        );
        return Some(Note::new(reason::NOT_POLLING, message).about(holder));
    }
    let lost = claim.known.holder_lost?;
    let after = claim.after(draft.world);
    wake_when_gone(draft, claim.known, after);
    let since = draft.now.wall.saturating_sub(lost);
    if after == u64::MAX {
        let message = format!(
            "{holder} has been silent since {} and has not heard yet that the stream is to stop when it is cut off: it may \
             go on capturing, so the stream stays until {holder} is back",
            timestamp(since)
        );
        return Some(Note::new(reason::POLICY_PENDING, message).about(holder));
    }
    let message = format!(
        "{holder} has been silent since {}: the stream moves at {} unless it comes back",
        timestamp(since),
        timestamp(since.saturating_add(after))
    );
    Some(Note::new(reason::HOLDER_LOST, message).about(holder))
}

pub(crate) fn tell_placed<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>, streamer: &str, note: Option<Note>) {
    let streamer = streamer.to_owned();
    draft.tell(&claim.stream.object, Outlook::Placed { streamer, note });
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fixture::{NOW, Scene, move_to, selector};

    fn scene(lost: u64) -> Scene {
        Scene::new(&["s1", "s2", "s3"]).with_active("m", "s1").lost("m", lost)
    }

    #[test]
    fn a_stream_moves_when_its_holder_is_gone_and_that_is_urgent() {
        let plan = scene(31_000).plan();
        assert_eq!(plan.change("m"), Some(&move_to("s2", Some("s1"))));
        assert!(plan.urgent("m"));
        assert_eq!(plan.why("m"), "moved from s1 (silent for 31 s) to s2");
        let placed = Outlook::Placed { streamer: "s2".into(), note: None };
        assert_eq!(plan.outlook("m"), &placed);
        assert_eq!((plan.streamer("s1").streams, plan.streamer("s2").streams), (0, 1));
    }

    #[test]
    fn a_lost_holder_that_is_not_gone_keeps_the_stream_and_says_until_when() {
        let plan = scene(12_000).plan();
        assert_eq!(plan.changes, []);
        assert_eq!(plan.wake_in, Some(18_000));
        let note = plan.note("m");
        assert_eq!(note.reason, reason::HOLDER_LOST);
        assert_eq!(
            note.message,
            "s1 has been silent since 2023-11-14T22:13:08Z: the stream moves at 2023-11-14T22:13:38Z unless it comes back"
        );
    }

    #[test]
    fn a_shorter_after_than_the_shortest_failover_is_not_carried_out() {
        let scene = |lost| scene(lost).with(|s| s.object("m").after = 1);
        assert_eq!(scene(8_999).plan().changes, []);
        assert_eq!(scene(9_000).plan().change("m"), Some(&move_to("s2", Some("s1"))));
    }

    #[test]
    fn without_a_destination_it_stays_active_and_says_why_as_the_scheduler_does() {
        let scene = scene(60_000).with(|s| {
            s.streamer("s2").capacity = Some(0);
            s.object("m").streamer_selector = selector("zone", "a");
            s.streamer("s2").labels = crate::fixture::labels("zone", "a");
        });
        let plan = scene.plan();
        assert_eq!(plan.changes, []);
        assert_eq!(plan.note("m").reason, reason::NO_DESTINATION);
        assert_eq!(
            plan.note("m").message,
            "0/3 streamers are available: 1 is the one that it leaves, 1 does not match the stream's selector, \
             1 at capacity; raise spec.capacity.streams of a Streamer or add one. \
             s1 is gone: the stream moves as soon as one is."
        );
    }

    #[test]
    fn not_polling_blocks_a_move_and_is_shown() {
        let scene = scene(60_000).with(|s| s.known("m").not_polling = true);
        let plan = scene.plan();
        assert_eq!(plan.changes, []);
        assert_eq!(plan.note("m").reason, reason::NOT_POLLING);
    }

    #[test]
    fn a_holder_that_has_ended_for_good_is_gone_at_once_and_not_remembered_as_one_that_may_run_it() {
        let ended = |scene: Scene| {
            scene.with(|s| {
                s.known("m").ended = true;
                s.known("m").may_run.clear();
            })
        };
        let plan = ended(scene(0)).plan();
        assert_eq!(plan.change("m"), Some(&move_to("s2", None)));
        assert!(plan.urgent("m"));
        assert_eq!(plan.why("m"), "moved from s1 (whose pod has ended) to s2");
        let mut stops = ended(scene(0));
        stops.object("m").partition = weir_feed::frames::Partition::StopCapturing;
        stops.streamer("s2").supervised = true;
        assert_eq!(
            stops.plan().change("m"),
            Some(&move_to("s2", None)),
            "what ended captures nothing without a lease either"
        );
        assert_eq!(
            ended(scene(0)).with(|s| s.0.settled = false).plan().changes,
            [],
            "a new leader hears everybody first"
        );
        let someone = ended(scene(0)).with(|s| {
            s.known("m").may_run.insert("s3".into(), Some(1_000));
        });
        assert_eq!(someone.plan().changes, [], "another one may be running it");
    }

    #[test]
    pub(crate) fn adopt_nobody_is_given_what_another_may_still_run() {
        let scene = scene(60_000).with(|s| {
            s.known("m").may_run.insert("s3".into(), Some(20_000));
        });
        let plan = scene.plan();
        assert_eq!(plan.changes, []);
        assert_eq!(plan.note("m").reason, reason::MAY_STILL_RUN);
        assert!(plan.note("m").message.starts_with("s3 may still be running it"));
        assert_eq!(plan.wake_in, Some(10_000));
    }

    #[test]
    fn adopt_who_may_run_it_and_is_gone_is_not_in_the_way_and_gets_nothing() {
        let scene = scene(60_000).with(|s| {
            s.known("m").may_run.insert("s2".into(), Some(30_000));
        });
        assert_eq!(scene.plan().change("m"), Some(&move_to("s3", Some("s1"))));
    }

    #[test]
    pub(crate) fn adopt_the_only_one_that_runs_it_gets_it_whatever_the_score() {
        let scene = scene(60_000).with_active("other", "s3").with(|s| {
            s.known("m").may_run.insert("s3".into(), None);
        });
        assert_eq!(scene.plan().change("m"), Some(&move_to("s3", Some("s1"))));
    }

    #[test]
    fn streams_of_a_gone_streamer_spread_evenly() {
        let mut scene = Scene::new(&["s1", "s2", "s3"]);
        for at in 0..200 {
            let name = format!("m{at:03}");
            scene = scene.with_active(&name, "s1").lost(&name, 40_000);
        }
        let plan = scene.plan();
        assert_eq!(plan.changes.len(), 200);
        assert_eq!((plan.streamer("s2").streams, plan.streamer("s3").streams), (100, 100));
    }

    #[test]
    fn nobody_is_gone_before_a_new_leader_has_settled() {
        let scene = scene(60_000).with(|s| s.0.settled = false);
        let plan = crate::plan(&scene.0, NOW);
        assert_eq!(plan.changes, []);
        assert_eq!(plan.note("m").reason, reason::WAITING);
    }
}
