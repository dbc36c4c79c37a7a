//! Streams that nobody has: the least loaded of the eligible streamers gets each, or whoever runs it already.

use weir_feed::record::Change;

use crate::claim::{Claim, Claims, Standing};
use crate::destination::{destination, is_eligible};
use crate::draft::Draft;
use crate::failover::tell_placed;
use crate::plan::{Note, Outlook};
use crate::reason;

/// Gives streams without a record to those that are there and run them: that takes no room that they had not taken.
pub(crate) fn adopt<'a>(draft: &mut Draft<'a>, claims: &Claims<'a>) {
    let world = draft.world;
    let run = |claim: &&Claim<'_>| claim.runners(world, None).any(|(_, lost)| lost.is_none());
    place_all(draft, claims.values().filter(run));
}

/// Places the other streams without a record.
pub(crate) fn place<'a>(draft: &mut Draft<'a>, claims: &Claims<'a>) {
    place_all(draft, claims.values());
}

fn place_all<'a: 'b, 'b>(draft: &mut Draft<'a>, claims: impl Iterator<Item = &'b Claim<'a>>) {
    for claim in claims {
        if claim.stream.disabled || !matches!(claim.standing(), Standing::New) || draft.told(&claim.stream.object) {
            continue;
        }
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
    let streamer = match adopter(draft, claim) {
        Some(streamer) => streamer,
        None => destination(draft, claim, None, None)
            .map_err(|nowhere| nowhere.note(reason::UNSCHEDULABLE, "The stream is placed as soon as one is."))?,
    };
    let change = Change::Place {
        stream: claim.stream.object.clone(),
        uid: claim.stream.uid.clone(),
        streamer: streamer.to_owned(),
    };
    let adopted = claim.known.may_run.contains_key(streamer);
    let suffix = if adopted { ", which may be running it" } else { "" };
    let why = format!("placed on {streamer}{suffix}");
    draft.change(claim.name, None, change, false, why);
    Ok(streamer)
}

/// Of those that are there and may be running it, the one that is to have it: one that can be given it if possible. It
/// gets it even if it is full or drained: without a record it would be held for ever, and a drain moves it in order. Of
/// several the others, whom no record names, let go first (**Gate**).
fn adopter<'a>(draft: &Draft<'a>, claim: &Claim<'a>) -> Option<&'a str> {
    let there = claim.runners(draft.world, None).filter(|(_, lost)| lost.is_none());
    there.map(|(name, _)| name).min_by_key(|name| (!is_eligible(draft, claim, name, None, None), *name))
}

/// A claim that cannot be verified corrects nothing, and keeps the stream from being placed anew.
pub(crate) fn disputed(claim: &Claim<'_>) -> Option<Note> {
    claim.known.disputed.as_ref().map(|by| {
        let message = format!(
            "{by} says that the stream is its own, under a key that the operator does not have: whoever captures it goes \
             on, and it is not placed anew before that claim is withdrawn"
        );
        Note::new(reason::DISPUTED, message).about(by)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fixture::{Scene, labels, place_on, selector};

    #[test]
    fn new_streams_spread_evenly_and_ties_go_to_the_least_name() {
        let mut scene = Scene::new(&["s1", "s2", "s3"]);
        for at in 0..200 {
            scene = scene.with_new(&format!("m{at:03}"));
        }
        let plan = scene.plan();
        assert_eq!(plan.change("m000"), Some(&place_on("m000", "s1")));
        assert_eq!(plan.change("m001"), Some(&place_on("m001", "s2")));
        let on = |name| plan.streamer(name).streams;
        assert_eq!((on("s1"), on("s2"), on("s3")), (67, 67, 66));
    }

    #[test]
    fn the_share_of_capacity_counts_and_reservations_do() {
        let scene = Scene::new(&["s1", "s2", "s3"])
            .with_releasing("a", "s3", Some("s1"))
            .with_active("b", "s2")
            .with_new("m")
            .with(|s| {
                s.streamer("s1").capacity = Some(2);
                s.streamer("s2").capacity = Some(4);
                s.streamer("s3").unschedulable = true;
            });
        assert_eq!(scene.plan().change("m"), Some(&place_on("m", "s2")));
    }

    #[test]
    fn the_last_place_is_not_given_away_to_a_stream_that_only_somebody_gone_was_running() {
        let scene = Scene::new(&["s1"]).with_new("a").with_new("b").with(|s| {
            s.streamer("s1").capacity = Some(1);
            s.known("a").may_run.insert("s0".into(), Some(60_000));
            s.known("b").may_run.insert("s1".into(), None);
        });
        let plan = scene.plan();
        assert_eq!(plan.change("b"), Some(&place_on("b", "s1")));
        assert_eq!(plan.note("a").reason, reason::UNSCHEDULABLE);
        let note = plan.note("a");
        assert_eq!((note.about.as_deref(), &note.set), (Some("s1"), &Some(("capacity.streams", "2".to_owned()))));
    }

    #[test]
    fn labels_are_required_both_ways() {
        let scene = Scene::new(&["s1", "s2", "s3"]).with_new("m").with(|s| {
            s.object("m").streamer_selector = selector("zone", "a");
            s.object("m").labels = labels("tier", "gold");
            s.streamer("s2").labels = labels("zone", "a");
            s.streamer("s2").stream_selector = selector("tier", "silver");
            s.streamer("s3").labels = labels("zone", "a");
            s.streamer("s3").stream_selector = selector("tier", "gold");
        });
        assert_eq!(scene.plan().change("m"), Some(&place_on("m", "s3")));
    }

    #[test]
    fn a_stream_that_nobody_can_have_says_why_and_what_to_do() {
        let scene = Scene::new(&["s1", "s2", "s3"]).with_new("m").with(|s| {
            s.streamer("s1").unschedulable = true;
            s.streamer("s2").not_ready = Some("has never reported".into());
            s.streamer("s3").not_ready = Some("does not poll".into());
        });
        let plan = scene.plan();
        assert_eq!(plan.note("m").reason, reason::UNSCHEDULABLE);
        assert_eq!(
            plan.note("m").message,
            "0/3 streamers are available: 1 unschedulable, 2 not ready; see the condition Ready of the Streamers. \
             The stream is placed as soon as one is."
        );
        assert_eq!(plan.streamer("s1").closed.as_ref().unwrap().reason, reason::SCHEDULING_DISABLED);
        let not_ready = plan.streamer("s2").closed.as_ref().unwrap();
        assert_eq!(not_ready.message, "s2 has never reported: it gets new streams once it is ready");
    }

    #[test]
    fn without_any_streamer_it_says_to_start_one() {
        let plan = Scene::new(&[]).with_new("m").plan();
        assert!(plan.note("m").message.starts_with("0/0 streamers are available: start a streamer"));
    }

    #[test]
    fn capacity_is_a_bound_and_a_place_freed_by_this_plan_is_not_yet_free() {
        let scene = Scene::new(&["s1"]).with_releasing("gone", "s1", None).released("gone").with_new("m").with(|s| {
            s.streamer("s1").capacity = Some(1);
            s.object("gone").disabled = true;
        });
        let plan = scene.plan();
        assert_eq!(plan.change("gone"), Some(&Change::Remove));
        assert_eq!(plan.change("m"), None);
        assert_eq!(plan.wake_in, Some(1));
    }

    #[test]
    pub(crate) fn adopt_whoever_runs_it_gets_it_and_before_the_others_take_the_room() {
        let scene = Scene::new(&["s1", "s2"]).with_new("a").with_new("m").with(|s| {
            s.streamer("s1").capacity = Some(1);
            s.known("m").may_run.insert("s1".into(), None);
        });
        let plan = scene.plan();
        assert_eq!(plan.change("m"), Some(&place_on("m", "s1")));
        assert_eq!(plan.why("m"), "placed on s1, which may be running it");
        assert_eq!(plan.change("a"), Some(&place_on("a", "s2")));
    }

    #[test]
    pub(crate) fn adopt_whoever_runs_it_gets_it_before_a_failover_takes_the_room() {
        let scene = Scene::new(&["s1", "s2"]).with_active("a", "s1").lost("a", 60_000).with_new("m").with(|s| {
            s.streamer("s2").capacity = Some(1);
            s.known("m").may_run.insert("s2".into(), None);
        });
        let plan = scene.plan();
        assert_eq!(plan.change("m"), Some(&place_on("m", "s2")));
        assert_eq!(plan.change("a"), None, "s2 has no place for both");
    }

    #[test]
    pub(crate) fn adopt_of_two_that_run_it_the_one_that_can_be_given_it_gets_it_and_else_the_least_name() {
        let both = Scene::new(&["s1", "s2", "s3"]).with_new("m").with(|s| {
            s.known("m").may_run.insert("s1".into(), None);
            s.known("m").may_run.insert("s2".into(), None);
        });
        assert_eq!(both.plan().change("m"), Some(&place_on("m", "s1")));
        let cordoned = both.with(|s| s.streamer("s1").unschedulable = true);
        assert_eq!(cordoned.plan().change("m"), Some(&place_on("m", "s2")));
        let neither = cordoned.with(|s| s.streamer("s2").drain = true);
        assert_eq!(neither.plan().change("m"), Some(&place_on("m", "s1")));
    }

    #[test]
    pub(crate) fn adopt_who_may_run_it_and_is_silent_is_waited_for() {
        let scene = Scene::new(&["s1", "s2", "s3"]).with_new("m").with(|s| {
            s.known("m").may_run.insert("s1".into(), Some(3_000));
            s.known("m").may_run.insert("s2".into(), Some(1_000));
        });
        let plan = scene.plan();
        assert_eq!(plan.changes, []);
        assert!(plan.note("m").message.starts_with("s1, s2 may still be running it"));
        assert_eq!(plan.wake_in, Some(27_000));
    }

    #[test]
    pub(crate) fn adopt_the_only_one_that_runs_it_gets_it_whatever_speaks_against_it() {
        let refusals: [fn(&mut Scene); 4] = [
            |s| s.streamer("s1").drain = true,
            |s| s.streamer("s1").capacity = Some(0),
            |s| s.object("m").streamer_selector = selector("zone", "a"),
            |s| drop(s.namespace().streamers.remove("s1")),
        ];
        for refuse in refusals {
            let scene = Scene::new(&["s1", "s2"]).with_new("m").with(refuse).with(|s| {
                s.known("m").may_run.insert("s1".into(), None);
            });
            assert_eq!(scene.plan().change("m"), Some(&place_on("m", "s1")));
        }
    }

    #[test]
    fn a_disputed_stream_is_not_placed_anew() {
        let scene = Scene::new(&["s1"]).with_new("m").with(|s| s.known("m").disputed = Some("s9".into()));
        let plan = scene.plan();
        assert_eq!(plan.changes, []);
        assert_eq!(plan.note("m").reason, reason::DISPUTED);
    }

    #[test]
    fn a_new_leader_places_nothing_before_it_has_settled() {
        let scene = Scene::new(&["s1"]).with_new("m").with(|s| s.0.settled = false);
        let plan = scene.plan();
        assert_eq!(plan.changes, []);
        assert_eq!(plan.note("m").reason, reason::WAITING);
    }

    #[test]
    fn what_is_valid_stays_for_want_of_a_reason_to_move() {
        let scene = Scene::new(&["s1", "s2"]).with_active("a", "s1").with_active("b", "s1").with(|s| {
            s.streamer("s1").capacity = Some(1);
            s.streamer("s1").unschedulable = true;
        });
        assert_eq!(scene.plan().changes, []);
    }
}
