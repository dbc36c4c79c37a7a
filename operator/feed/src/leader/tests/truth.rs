//! Taking the truth, writing it, and what others did to it.

use super::*;

#[test]
pub(crate) fn fence_writes_the_term_into_every_slice_before_anybody_is_accepted() {
    let mut stage = Stage::new();
    for name in ["a", "b", "c"] {
        let id = SliceId::of(&stream(name));
        let slice = Slice {
            id: id.clone(),
            version: 50,
            term: 7,
            records: vec![record(name, "s1", 5)],
            removal_until: None,
            removal_confirmed: false,
        };
        stage.slices.insert(id, slice);
    }
    let effects = stage.leader.step(Input::Lease { deadline: u64::MAX / 2, highest_term: 9 }, stage.now);
    let early = Input::Connected { conn: 9, streamer: streamer("s1"), verified: false, hello: Box::new(hello("s1")) };
    assert!(stage.leader.step(early, stage.now).is_empty(), "accepted before the slices were taken");
    let inputs: Vec<_> = effects.into_iter().filter_map(|effect| stage.perform(effect)).collect();
    for input in inputs {
        stage.give(input);
    }
    assert_eq!(stage.leader.role(), Role::Leading);
    assert!(stage.slices.values().all(|slice| slice.term == stage.leader.term()));
    assert!(stage.sent.contains_key(&9), "the early one is welcomed once we lead");
}

#[test]
pub(crate) fn fence_takes_a_slice_again_whose_write_had_no_answer() {
    for landed in [true, false] {
        let (mut stage, one, _) = two();
        let before = stage.leader.term();
        stage.plan("b", place("b", "s1"));
        stage.lose = Some(landed);
        stage.plan("b", Change::Move { streamer: "s2".into(), previous: None });
        let slice = &stage.slices[&SliceId::of(&stream("b"))];
        assert!(slice.term > before, "the slice was not taken again");
        // What the slice shows is what was decided, whether the lost write landed or not.
        let holder = if landed { "s2" } else { "s1" };
        assert_eq!(stage.record("b").unwrap().streamer, holder);
        assert_eq!(stage.leader.all_records()[&stream("b")].streamer, holder);
        stage.told(one);
    }
}

#[test]
pub(crate) fn term_exceeds_every_term_seen_and_the_time() {
    let mut stage = Stage::new();
    stage.give(Input::Lease { deadline: u64::MAX / 2, highest_term: 1_900_000_000_000 });
    assert_eq!(stage.leader.term(), 1_900_000_000_001);
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    assert_eq!(stage.leader.term(), 1_700_000_000_000);
    let term = 1_800_000_000_000;
    stage.connect(Hello { term: Some((term, ring().term(term))), ..hello("s1") });
    assert!(stage.down.is_some(), "a higher term of ours, shown by a sidecar, was not heeded");
    stage.lead();
    assert_eq!(stage.leader.term(), term + 1);
}

#[test]
fn term_without_our_seal_counts_for_nothing() {
    let mut stage = Stage::leading(vec![]);
    stage.connect(Hello { term: Some((u64::MAX, Seal("k1:00".into()))), ..hello("s1") });
    assert_eq!(stage.leader.role(), Role::Leading);
}

#[test]
pub(crate) fn deadline_is_checked_before_every_frame() {
    let (mut stage, one, _) = two();
    stage.give(Input::Lease { deadline: stage.now.mono + 1_000, highest_term: 0 });
    stage.told(one);
    stage.now = Now { mono: stage.now.mono + 1_000, ..stage.now };
    stage.give(Input::Tick);
    assert_eq!(stage.leader.role(), Role::Standby);
    assert!(stage.told(one).is_empty());
    assert!(!stage.leader.may_plan(stage.now));
}

#[test]
fn a_stream_is_fed_only_after_the_write_was_acknowledged() {
    let (mut stage, one, _) = two();
    let changes = vec![(stream("a"), place("a", "s1"), true)];
    let effects = stage.leader.step(Input::Plan { changes, held_removals: BTreeMap::new() }, stage.now);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Send { frame: Down::Put(_), .. })));
    for effect in effects {
        if let Some(input) = stage.perform(effect) {
            stage.give(input);
        }
    }
    assert_eq!(stage.told(one), ["put a", "mark"]);
}

#[test]
pub(crate) fn compare_and_swap_reads_again_what_was_refused() {
    let (mut stage, one, _) = two();
    stage.plan("a", place("a", "s1"));
    stage.told(one);
    // Somebody touches the slice: our version is old.
    let id = SliceId::of(&stream("a"));
    stage.version += 1;
    stage.slices.get_mut(&id).unwrap().version = stage.version;
    stage.plan("a", Change::Release { to: Some("s2".into()) });
    assert_eq!(stage.record("a").unwrap().phase, Phase::Active, "the refused write is thrown away");
    assert!(stage.leader.may_plan(stage.now));
    stage.plan("a", Change::Release { to: Some("s2".into()) });
    assert_eq!(stage.record("a").unwrap().phase, Phase::Releasing);
}

#[test]
pub(crate) fn compare_and_swap_writes_nothing_over_another_leaders_term_where_a_restored_version_fits_again() {
    let (mut stage, ..) = two();
    stage.plan("a", place("a", "s1"));
    let slice = stage.slices.get_mut(&SliceId::of(&stream("a"))).unwrap();
    slice.term += 1;
    slice.records[0].streamer = "s2".into();
    stage.plan("a", Change::Release { to: Some("s3".into()) });
    let record = stage.record("a").unwrap();
    assert_eq!((record.streamer.as_str(), record.phase), ("s2", Phase::Active));
    assert!(stage.down.is_some(), "there is another leader");
}

#[test]
fn a_slice_edited_or_deleted_by_hand_is_put_right_again() {
    let (mut stage, one, _) = two();
    stage.plan("a", place("a", "s1"));
    let id = SliceId::of(&stream("a"));
    stage.version += 1;
    let version = stage.version;
    let slice = stage.slices.get_mut(&id).unwrap();
    slice.version = version;
    slice.records[0].streamer = "s2".into();
    let epoch = slice.records[0].epoch;
    stage.give(Input::SliceSeen { id: id.clone(), version: Some(version), term: None });
    let record = stage.record("a").unwrap();
    assert_eq!(record.streamer, "s1");
    assert!(record.epoch > epoch, "a correction is a new epoch");
    stage.slices.remove(&id);
    stage.give(Input::SliceSeen { id, version: None, term: None });
    assert_eq!(stage.record("a").unwrap().streamer, "s1");
    stage.told(one);
}

/// Whichever of the requests has no answer, and whether it landed or not.
#[test]
fn a_slice_edited_or_deleted_by_hand_is_put_right_again_when_an_answer_is_lost() {
    let cases = [true, false].into_iter().flat_map(|deleted| (0..3).map(move |number| (deleted, number)));
    for (deleted, number, landed) in
        cases.flat_map(|(deleted, number)| [true, false].map(|landed| (deleted, number, landed)))
    {
        let (mut stage, one, two) = two();
        stage.plan("a", place("a", "s1"));
        let id = SliceId::of(&stream("a"));
        let version = if deleted {
            stage.slices.remove(&id);
            None
        } else {
            stage.version += 1;
            let slice = stage.slices.get_mut(&id).unwrap();
            slice.version = stage.version;
            slice.records[0].streamer = "s2".into();
            Some(stage.version)
        };
        (stage.lose, stage.lose_after) = (Some(landed), number);
        stage.give(Input::SliceSeen { id: id.clone(), version, term: None });
        stage.pass(30_000, &[one, two]);
        let case = format!("deleted {deleted}, request {number} lost, landed {landed}");
        let records = &stage.slices[&id].records;
        assert_eq!(records.iter().map(|record| record.streamer.as_str()).collect::<Vec<_>>(), ["s1"], "{case}");
        assert_eq!(stage.record("a").unwrap().epoch, records[0].epoch, "{case}");
    }
}

#[test]
fn a_slice_of_before_that_somebody_applies_again_is_put_right() {
    let (mut stage, ..) = two();
    stage.plan("a", place("a", "s1"));
    let id = SliceId::of(&stream("a"));
    let mut copy = stage.slices[&id].clone();
    stage.plan("a", Change::Move { streamer: "s2".into(), previous: Some("s1".into()) });
    let epoch = stage.record("a").unwrap().epoch;
    copy.term -= 1;
    stage.version += 1_000;
    copy.version = stage.version;
    let version = Some(copy.version);
    stage.slices.insert(id.clone(), copy);
    stage.give(Input::SliceSeen { id, version, term: None });
    let record = stage.record("a").unwrap();
    assert_eq!(record.streamer, "s2", "who has it since keeps it");
    assert!(record.epoch > epoch, "a correction is a new epoch");
}

#[test]
fn a_storage_that_went_back_in_time_ends_the_process() {
    let (mut stage, _, _) = two();
    stage.plan("a", place("a", "s1"));
    let id = SliceId::of(&stream("a"));
    stage.slices.get_mut(&id).unwrap().version = 3;
    stage.plan("a", Change::Release { to: None });
    assert!(stage.exit.unwrap().contains("went back in time"));
}

#[test]
pub(crate) fn bump_gives_every_change_a_greater_epoch() {
    let (mut stage, ..) = two();
    let mut last = 0;
    let release = Change::Release { to: Some("s2".into()) };
    for change in [place("a", "s1"), release, Change::Keep] {
        stage.plan("a", change);
        let epoch = stage.record("a").unwrap().epoch;
        assert!(epoch > last && epoch >= stage.now.wall);
        last = epoch;
    }
}

#[test]
pub(crate) fn bump_exceeds_what_the_holder_has_stopped_serving() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    stage.want(&["a"]);
    let stopped = Held { hash: String::new(), ..held("a", "s1", 1_900_000_000_000) };
    let one = stage.connect(Hello { stopped: vec![stopped], ..hello("s1") });
    stage.pass(8_000, &[one]);
    assert_eq!(stage.record("a").unwrap().epoch, 1_900_000_000_001);
    assert!(stage.told(one).contains(&"put a".to_owned()));
}

#[test]
fn a_full_slice_is_refused_further_streams_and_says_so() {
    let id = SliceId::of(&stream("a"));
    let same_slice = (0..).map(|at| format!("filler-{at}")).filter(|name| SliceId::of(&stream(name)) == id);
    let long = "x".repeat(250);
    let records: Vec<_> = same_slice
        .take(900)
        .map(|name| Record { stream: long.clone(), uid: long.clone(), ..record(&name, "s1", 5) })
        .collect();
    let mut stage = Stage::leading(records);
    stage.want(&["a"]);
    let before = stage.slices[&id].version;
    stage.plan("a", place("a", "s1"));
    assert_eq!(stage.slices[&id].version, before);
    assert!(stage.log.iter().any(|line| line.contains("full")), "{:?}", stage.log);
}

#[test]
pub(crate) fn bump_exceeds_the_delete_that_ended_what_the_holder_served() {
    let mut stage = Stage::leading(vec![record("a", "s1", 50)]);
    stage.want(&["a"]);
    let deleted = stage.now.wall + 1_000;
    let stopped = Held { hash: String::new(), deleted: Some(deleted), ..held("a", "s1", 5) };
    let absurd = Held { name: "b".into(), deleted: Some(u64::MAX), ..held("b", "s1", 5) };
    let one = stage.connect(Hello { stopped: vec![stopped, absurd], ..hello("s1") });
    stage.pass(8_000, &[one]);
    assert!(stage.record("a").unwrap().epoch > deleted, "an epoch below the delete would never be served");
    assert!(stage.leader.may_plan(stage.now));
}

#[test]
fn a_slice_that_cannot_be_made_again_keeps_nobody_from_planning() {
    let (mut stage, one, two) = two();
    stage.plan("a", place("a", "s1"));
    let id = SliceId::of(&stream("a"));
    stage.slices.remove(&id);
    stage.refuse_creates = true;
    stage.give(Input::SliceSeen { id: id.clone(), version: None, term: None });
    assert!(stage.leader.may_plan(stage.now), "every namespace waits for one that is being deleted");
    stage.pass(16_000, &[one, two]);
    assert!(stage.leader.may_plan(stage.now));
    stage.refuse_creates = false;
    stage.pass(16_000, &[one, two]);
    assert_eq!(stage.record("a").unwrap().streamer, "s1", "what is known is written again once it can be");
}

#[test]
fn a_slice_that_the_api_does_not_answer_for_keeps_nobody_from_planning_the_others() {
    let (mut stage, _, _) = two();
    stage.plan("b", place("b", "s1"));
    let (stuck, other) = (SliceId::of(&stream("b")), SliceId::of(&stream("a")));
    assert_ne!(stuck, other);
    let moved = vec![(stream("b"), Change::Move { streamer: "s2".into(), previous: None }, true)];
    let plan = |changes| Input::Plan { changes, held_removals: BTreeMap::new() };
    let mut effects = stage.leader.step(plan(moved.clone()), stage.now);
    assert!(!stage.leader.may_plan(stage.now), "a write is under way");
    let message = || "no answer".to_owned();
    for fails in 0..3 {
        let failed: Vec<Input> = effects
            .drain(..)
            .filter_map(|effect| match effect {
                Effect::WriteSlice { op, id, .. } | Effect::TakeSlice { op, id, .. } => {
                    Some(Input::Written { op, id, outcome: Outcome::Unknown { message: message() } })
                }
                Effect::ReadSlice { op, id } => Some(Input::ReadFailed { op, id, message: message() }),
                _ => None,
            })
            .collect();
        assert_eq!(failed.len(), 1, "after {fails} failures nothing is tried");
        for input in failed {
            effects.extend(stage.leader.step(input, stage.now));
        }
        stage.now = Now { mono: stage.now.mono + Periods::default().ping, ..stage.now };
        effects.extend(stage.leader.step(Input::Tick, stage.now));
        assert_eq!(stage.leader.may_plan(stage.now), fails > 0, "after {fails} failures");
    }
    assert!(
        stage.leader.step(plan(moved), stage.now).is_empty(),
        "what is under way may yet land: it is not written over"
    );
    let urgent = vec![(stream("a"), place("a", "s2"), true)];
    let written = stage.leader.step(plan(urgent), stage.now);
    assert!(matches!(&written[..], [Effect::CreateSlice { id, .. } | Effect::WriteSlice { id, .. }] if *id == other));
}

#[test]
fn a_quiet_leader_looks_at_its_newest_slice_once_a_period_and_sees_a_storage_that_went_back() {
    let (mut stage, _, _) = two();
    stage.plan("b", place("b", "s1"));
    stage.plan("a", place("a", "s1"));
    let newest = SliceId::of(&stream("a"));
    let mut looks = 0;
    let periods = Periods::default();
    for _ in 0..periods.period * 3 / periods.ping {
        stage.now = Now { mono: stage.now.mono + periods.ping, ..stage.now };
        for effect in stage.leader.step(Input::Tick, stage.now) {
            if let Effect::ReadSlice { op, id } = effect {
                assert_eq!(id, newest);
                looks += 1;
                assert!(stage.leader.may_plan(stage.now), "a look keeps nobody waiting");
                stage.give(Input::Read { op, slice: stage.slices.get(&id).cloned(), id });
            }
        }
    }
    assert_eq!((looks, &stage.exit), (3, &None));
    stage.slices.get_mut(&newest).unwrap().version -= 1;
    for _ in 0..periods.period / periods.ping {
        stage.now = Now { mono: stage.now.mono + periods.ping, ..stage.now };
        stage.give(Input::Tick);
    }
    assert!(stage.exit.unwrap().contains("went back in time"));
}
