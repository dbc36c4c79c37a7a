//! Streams that nobody wants any more: deleted ones, in numbers only after a while, and disabled ones.

use weir_feed::record::{Change, Record};

use crate::claim::{Claim, Claims, Standing};
use crate::draft::Draft;
use crate::failover::{self, is_gone};
use crate::plan::{HeldRemoval, Note, Outlook};
use crate::reason;
use crate::time::duration;
use crate::world::Known;

/// `failover.after` of a stream whose Stream object is gone (ms): the default of that field.
const ORPHAN_AFTER: u64 = 30_000;
/// How long (ms) a removal in numbers is held.
const HOLD: u64 = 600_000;
/// So many records without a Stream are removed without question, however few records there are.
const FEW: usize = 10;
/// The time (ms) over which removals are counted together.
const RECENT: u64 = 60_000;

/// Holds the removal of streams that vanish in numbers, unless it is confirmed.
pub(crate) fn hold(draft: &mut Draft<'_>, claims: &Claims<'_>) {
    let removal = &draft.namespace.removal;
    let orphans = orphans(draft, claims).count();
    let known = draft.namespace.known.values();
    let records = known.filter(|known| known.record.is_some()).count();
    let confirmed = removal.confirmed || removal.namespace_terminating;
    let passed = removal.until.is_some_and(|until| until <= draft.now.wall);
    if orphans == 0 || confirmed || passed || !in_numbers(orphans, removal.recent, records) {
        return;
    }
    let until = removal.until.unwrap_or(draft.now.wall + HOLD);
    draft.wake_in(until - draft.now.wall);
    if removal.recent > 0 {
        draft.wake_in(RECENT);
    }
    draft.held = Some(HeldRemoval { orphans, records, until });
}

/// More than max(10, 20 %), those of the last minute included.
fn in_numbers(orphans: usize, recent: usize, records: usize) -> bool {
    let vanished = orphans + recent;
    vanished > FEW && vanished * 5 > records + recent
}

/// Takes streams off their streamers that are deleted or disabled, and removes the records of those that are off.
pub(crate) fn let_go<'a>(draft: &mut Draft<'a>, claims: &Claims<'a>) {
    remove(draft, claims);
    for claim in claims.values().filter(|claim| claim.stream.disabled) {
        if let Standing::Active(record) | Standing::Moving(record, _) = claim.standing() {
            let why = format!("released from {}: its Stream is disabled", record.streamer);
            let change = Change::Release { to: None };
            draft.change(claim.name, Some(record), change, false, why);
            tell_leaving(draft, claim, record);
        }
    }
    if draft.held.is_some() {
        return;
    }
    let orphans: Vec<_> = orphans(draft, claims).collect();
    let removal = &draft.namespace.removal;
    let wait = if removal.confirmed || removal.namespace_terminating { 0 } else { removal.wait };
    if wait > 0 && !orphans.is_empty() {
        return draft.wake_in(wait);
    }
    for (name, record) in orphans {
        let why = format!("released from {}: its Stream is gone", record.streamer);
        draft.change(name, Some(record), Change::Release { to: None }, false, why);
    }
}

/// Records without a Stream that nothing releases yet.
fn orphans<'a>(draft: &Draft<'a>, claims: &Claims<'a>) -> impl Iterator<Item = (&'a str, &'a Record)> {
    let namespace = draft.namespace;
    namespace
        .known
        .iter()
        .filter_map(|(name, known)| match Standing::of(known) {
            Standing::Active(record) | Standing::Moving(record, _) => Some((name.as_str(), record)),
            Standing::New | Standing::Leaving(_) => None,
        })
        .filter(|(name, record)| !claims.contains_key(name) && !is_hidden(draft, record))
}

/// Whether the record's Stream may exist without being seen: then the record stays as it is.
fn is_hidden(draft: &Draft<'_>, record: &Record) -> bool {
    draft.namespace.removal.unknown || draft.namespace.unreadable.contains(&record.stream)
}

/// Ends the records of streams that are let go for nobody, once that is done or the holder is gone.
fn remove<'a>(draft: &mut Draft<'a>, claims: &Claims<'a>) {
    for (name, known) in &draft.namespace.known {
        let claim = claims.get(name.as_str());
        let Standing::Leaving(record) = Standing::of(known) else {
            continue;
        };
        if claim.is_none() && is_hidden(draft, record) {
            continue;
        }
        let after =
            claim.map_or(ORPHAN_AFTER.max(draft.world.periods.shortest_failover()), |claim| claim.after(draft.world));
        if known.released || is_gone(draft.world, known, after) {
            let why = removed(record, known);
            draft.change(name, Some(record), Change::Remove, false, why);
        } else {
            failover::wake_when_gone(draft, known, after);
        }
        if let Some(claim) = claim {
            tell_leaving(draft, claim, record);
        }
    }
}

fn removed(record: &Record, known: &Known) -> String {
    let holder = &record.streamer;
    match known.holder_lost {
        _ if known.ended => format!("taken off {holder}, whose pod has ended"),
        Some(lost) if !known.released => {
            format!("taken off {holder} (silent for {})", duration(lost))
        }
        _ => format!("taken off {holder}, which has let go of it"),
    }
}

/// What a Stream hears that is being let go for nobody: it is disabled, or was when this began.
pub(crate) fn tell_leaving<'a>(draft: &mut Draft<'a>, claim: &Claim<'a>, record: &Record) {
    let (holder, object) = (&record.streamer, claim.stream.object.as_str());
    let ended = draft.changed(claim.name) && matches!(claim.standing(), Standing::Leaving(_));
    let outlook = match (ended, claim.stream.disabled) {
        (true, true) => Outlook::Disabled,
        (true, false) => {
            draft.wake_in(1);
            let message = format!("{holder} has let go of it: it is placed anew next");
            Outlook::Pending(Note::new(reason::WAITING, message))
        }
        (false, disabled) => {
            Outlook::Releasing { streamer: holder.clone(), to: None, note: leaving(draft, claim, record, disabled) }
        }
    };
    draft.tell(object, outlook);
}

fn leaving(draft: &Draft<'_>, claim: &Claim<'_>, record: &Record, disabled: bool) -> Option<Note> {
    let holder = &record.streamer;
    let late = |waited| waited > draft.world.periods.release;
    if claim.known.releasing_for.is_some_and(late) {
        let message = format!(
            "{holder} has not let go of it within {}: its record stays until it has, or is gone",
            duration(draft.world.periods.release)
        );
        return Some(Note::new(reason::RELEASE_TIMED_OUT, message).about(holder));
    }
    let message = || format!("{holder} is letting go of what was disabled or deleted: then the stream is placed anew");
    (!disabled).then(|| Note::new(reason::LETTING_GO, message()).about(holder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{NOW, Scene, record};
    use crate::plan::Plan;

    /// `records` records, of which the first `orphans` have no Stream.
    fn scene(records: usize, orphans: usize) -> Scene {
        let mut scene = Scene::new(&["s1"]);
        for at in 0..records {
            let name = format!("m{at:03}");
            scene = scene.with_active(&name, "s1");
        }
        scene.namespace().streams.drain(..orphans);
        scene
    }

    fn released(plan: &Plan) -> usize {
        let release = |planned: &&crate::plan::Planned| planned.change == Change::Release { to: None };
        assert_eq!(plan.changes.iter().filter(release).count(), plan.changes.len());
        plan.changes.len()
    }

    #[test]
    fn a_deleted_stream_is_released_at_once() {
        let plan = scene(3, 1).plan();
        assert_eq!(released(&plan), 1);
        assert_eq!(plan.why("m000"), "released from s1: its Stream is gone");
        assert!(plan.held_removals.is_empty() && !plan.urgent("m000"));
    }

    #[test]
    fn ten_go_without_question_and_eleven_of_few_are_held_for_ten_minutes() {
        assert_eq!(released(&scene(20, 10).plan()), 10);
        let plan = scene(20, 11).plan();
        assert_eq!(released(&plan), 0);
        let held = HeldRemoval { orphans: 11, records: 20, until: NOW.wall + 600_000 };
        assert_eq!(plan.held_removals["ns"], held);
        assert_eq!(plan.wake_in, Some(600_000));
    }

    #[test]
    fn a_fifth_of_many_goes_and_more_is_held() {
        assert_eq!(released(&scene(100, 20).plan()), 20);
        assert_eq!(released(&scene(100, 21).plan()), 0);
    }

    #[test]
    fn what_was_removed_within_a_minute_counts() {
        let scene = scene(20, 5).with(|s| s.namespace().removal.recent = 6);
        let plan = scene.plan();
        assert_eq!(released(&plan), 0);
        assert_eq!(plan.wake_in, Some(60_000));
    }

    #[test]
    fn a_hold_stands_until_its_deadline_and_then_they_go() {
        let until = |until| scene(20, 15).with(|s| s.namespace().removal.until = Some(until));
        let plan = until(NOW.wall + 5).plan();
        assert_eq!(released(&plan), 0);
        assert_eq!(plan.held_removals["ns"].until, NOW.wall + 5);
        assert_eq!(plan.wake_in, Some(5));
        let plan = until(NOW.wall).plan();
        assert_eq!(released(&plan), 15);
        assert!(plan.held_removals.is_empty());
    }

    #[test]
    fn the_few_that_are_left_when_streams_come_back_go() {
        let scene = scene(20, 3).with(|s| s.namespace().removal.until = Some(NOW.wall + 500_000));
        let plan = scene.plan();
        assert_eq!(released(&plan), 3);
        assert!(plan.held_removals.is_empty());
    }

    #[test]
    fn a_confirmed_removal_and_that_of_a_whole_namespace_are_not_held() {
        let confirmed = scene(20, 20).with(|s| s.namespace().removal.confirmed = true);
        let terminating = scene(20, 20).with(|s| s.namespace().removal.namespace_terminating = true);
        assert_eq!(released(&confirmed.plan()), 20);
        assert_eq!(released(&terminating.plan()), 20);
    }

    #[test]
    fn nothing_is_removed_while_the_list_is_not_known_or_the_object_cannot_be_read() {
        let unknown = scene(3, 3).with(|s| s.namespace().removal.unknown = true);
        assert_eq!(unknown.plan().changes, []);
        let unreadable = scene(3, 1).with(|s| {
            s.namespace().unreadable.insert("m000".into());
        });
        assert_eq!(unreadable.plan().changes, []);
    }

    #[test]
    fn a_disabled_stream_is_released_even_while_a_removal_is_held() {
        let scene = scene(30, 15).with(|s| s.object("m029").disabled = true);
        let plan = scene.plan();
        assert_eq!(released(&plan), 1);
        assert_eq!(plan.why("m029"), "released from s1: its Stream is disabled");
        let leaving = Outlook::Releasing { streamer: "s1".into(), to: None, note: None };
        assert_eq!(plan.outlook("m029"), &leaving);
    }

    #[test]
    fn a_stream_let_go_for_nobody_is_removed_when_released_or_its_holder_is_gone() {
        let scene = || Scene::new(&["s1"]).with_releasing("m", "s1", None);
        assert_eq!(scene().plan().changes, []);
        let plan = scene().released("m").plan();
        assert_eq!(plan.change("m"), Some(&Change::Remove));
        assert_eq!(plan.note("m").reason, reason::WAITING);
        assert_eq!(scene().lost("m", 29_999).plan().wake_in, Some(1));
        let plan = scene().lost("m", 30_000).plan();
        assert_eq!(plan.change("m"), Some(&Change::Remove));
        assert_eq!(plan.why("m"), "taken off s1 (silent for 30 s)");
    }

    #[test]
    fn a_record_without_a_stream_waits_thirty_seconds_for_a_lost_holder() {
        let scene = Scene::new(&["s1"]).with_releasing("m", "s1", None).with(|s| s.namespace().streams.clear());
        assert_eq!(scene.clone().lost("m", 29_999).plan().changes, []);
        let plan = scene.lost("m", 30_000).plan();
        assert_eq!(plan.change("m"), Some(&Change::Remove));
    }

    #[test]
    fn a_disabled_stream_with_nothing_left_running_says_so() {
        let mut scene = Scene::new(&["s1"]).with_new("m");
        scene.object("m").disabled = true;
        assert_eq!(scene.plan().outlook("m"), &Outlook::Disabled);
        scene.known("m").may_run.insert("s1".into(), None);
        assert_eq!(scene.plan().note("m").reason, reason::MAY_STILL_RUN);
    }

    #[test]
    fn an_enabled_stream_waits_until_it_is_off_and_never_returns_to_active() {
        let mut scene = Scene::new(&["s1"]).with_releasing("m", "s1", None);
        scene.object("m").uid = "again".into();
        let plan = scene.plan();
        assert_eq!(plan.changes, []);
        assert_eq!(plan.note("m").reason, reason::LETTING_GO);
        scene.known("m").releasing_for = Some(30_001);
        let plan = scene.plan();
        assert_eq!(plan.changes, []);
        assert_eq!(plan.note("m").reason, reason::RELEASE_TIMED_OUT);
    }

    #[test]
    fn an_orphan_on_a_gone_holder_does_not_move() {
        let mut scene = Scene::new(&["s1", "s2"]);
        scene.known("m").record = Some(record("m", "s1"));
        let plan = scene.lost("m", 60_000).plan();
        assert_eq!(plan.change("m"), Some(&Change::Release { to: None }));
    }
}
