//! What a new leader waits for, what it corrects, and what it does not believe.

use super::*;

#[test]
pub(crate) fn wait_for_every_expected_streamer_but_at_most_one_period() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5), record("b", "s2", 5)]);
    let one = stage.connect(hello("s1"));
    stage.pass(8_000, &[one]);
    assert!(!stage.leader.is_settled(), "s2 has not reported");
    stage.pass(8_000, &[one]);
    assert!(stage.leader.is_settled(), "one period is the longest wait");
}

#[test]
pub(crate) fn wait_for_silence_even_when_all_have_reported() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    let one = stage.connect(hello("s1"));
    stage.pass(5_500, &[one]);
    assert!(!stage.leader.is_settled());
    stage.pass(1_000, &[one]);
    assert!(stage.leader.is_settled());
}

#[test]
pub(crate) fn wait_after_the_first_streamer_where_none_is_expected() {
    let mut stage = Stage::leading(vec![]);
    stage.pass(60_000, &[]);
    assert!(!stage.leader.is_settled(), "nobody is there to be given anything");
    let one = stage.connect(hello("s1"));
    stage.pass(5_000, &[one]);
    assert!(!stage.leader.is_settled(), "the first to come would get all");
    stage.pass(2_000, &[one]);
    assert!(stage.leader.is_settled());
}

#[test]
pub(crate) fn all_in_corrects_a_record_from_the_highest_grant_once_everybody_has_reported() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    stage.give(Input::Expected { streamers: BTreeSet::from([streamer("s1"), streamer("s2"), streamer("s3")]) });
    stage.want(&["a"]);
    let one = stage.connect(Hello { held: vec![held("a", "s1", 6)], ..hello("s1") });
    let two = stage.connect(Hello { held: vec![held("a", "s2", 9)], ..hello("s2") });
    stage.pass(8_000, &[one, two]);
    assert_eq!(stage.record("a").unwrap().epoch, 5, "s3 has not reported");
    assert!(!stage.told(one).contains(&"delete a".to_owned()), "nothing is taken from s1 meanwhile");
    let three = stage.connect(hello("s3"));
    stage.pass(1_000, &[one, two, three]);
    let record = stage.record("a").unwrap();
    assert_eq!(record.streamer, "s2", "the highest granted epoch wins");
    assert_eq!(record.previous.as_deref(), Some("s1"));
    assert!(stage.told(one).contains(&"delete a".to_owned()));
    assert!(stage.told(two).contains(&"put a".to_owned()));
}

#[test]
pub(crate) fn all_in_one_that_turns_out_to_be_expected_later_is_waited_for_until_it_is_gone() {
    let settled = || {
        let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
        stage.want(&["a"]);
        let one = stage.connect(hello("s1"));
        stage.pass(7_000, &[one]);
        assert!(stage.leader.is_settled());
        stage.give(Input::Expected { streamers: BTreeSet::from(["s1", "s2", "s3"].map(streamer)) });
        let two = stage.connect(Hello { held: vec![held("a", "s2", 9)], ..hello("s2") });
        stage.pass(1_000, &[one, two]);
        assert_eq!(stage.record("a").unwrap().epoch, 5, "s3 may hold a higher grant");
        (stage, one, two)
    };
    let (mut stage, one, two) = settled();
    let three = stage.connect(Hello { held: vec![held("a", "s3", 11)], ..hello("s3") });
    stage.pass(1_000, &[one, two, three]);
    assert_eq!(stage.record("a").unwrap().streamer, "s3");

    let (mut stage, one, two) = settled();
    stage.pass(8_000, &[one, two]);
    assert_eq!(stage.record("a").unwrap().streamer, "s2", "s3 was not heard for a whole period");
}

#[test]
fn a_claim_under_an_unknown_key_corrects_nothing_and_takes_nothing_away() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    stage.want(&["a"]);
    let foreign = Held { grant: Seal("k9:00".into()), ..held("a", "s2", 9) };
    let one = stage.connect(hello("s1"));
    let two = stage.connect(Hello { held: vec![foreign], ..hello("s2") });
    stage.pass(40_000, &[one, two]);
    assert_eq!(stage.record("a").unwrap().epoch, 5);
    assert_eq!(stage.told(two), ["hold a", "mark"]);
    assert_eq!(stage.told(one), ["hold a", "mark"], "it still blocks");
    assert_eq!(stage.leader.known(stage.now)["media"]["a"].disputed.as_deref(), Some("s2"));
}

#[test]
fn an_unknown_list_of_streams_takes_nothing_away() {
    let (mut stage, one, two) = two();
    stage.plan("a", place("a", "s1"));
    stage.told(one);
    stage.give(Input::WantsUnknown);
    stage.pass(2_000, &[one, two]);
    assert!(!stage.leader.may_plan(stage.now));
    assert!(stage.told(one).iter().all(|frame| frame != "delete a"));
}

#[test]
fn rows_without_record_and_stream_go_unless_they_are_many() {
    let few = vec![held("x", "s1", 5)];
    let many = (0..30).map(|at| held(&format!("x{at}"), "s2", 5)).collect();
    let mut stage = Stage::leading(vec![]);
    let one = stage.connect(Hello { held: few, ..hello("s1") });
    stage.pass(16_000, &[one]);
    assert!(stage.told(one).contains(&"delete x".to_owned()));
    let two = stage.connect(Hello { held: many, ..hello("s2") });
    stage.pass(8_000, &[one, two]);
    assert!(stage.told(two).iter().all(|frame| !frame.starts_with("delete")));
    stage.pass(600_000, &[one, two]);
    assert!(stage.told(two).contains(&"delete x7".to_owned()), "ten minutes are over");
}

#[test]
fn many_rows_without_record_and_stream_are_held_to_the_last_while_their_streams_are_applied_again() {
    let many = (0..30).map(|at| held(&format!("x{at}"), "s2", 5)).collect();
    let mut stage = Stage::leading(vec![]);
    let two = stage.connect(Hello { held: many, ..hello("s2") });
    stage.pass(8_000, &[two]);
    let names: Vec<String> = (0..29).map(|at| format!("x{at}")).collect();
    stage.want(&names.iter().map(String::as_str).collect::<Vec<_>>());
    stage.pass(8_000, &[two]);
    assert!(stage.told(two).iter().all(|frame| !frame.starts_with("delete")), "x29 comes last");
    stage.pass(600_000, &[two]);
    assert!(stage.told(two).contains(&"delete x29".to_owned()), "it never came");
}

#[test]
fn rows_of_a_lost_api_are_held_however_late_those_come_who_make_them_many() {
    let some = |name: &'static str| (0..10).map(|at| held(&format!("{name}-{at}"), name, 5)).collect::<Vec<_>>();
    let mut stage = Stage::leading(vec![]);
    let one = stage.connect(Hello { held: some("s1"), ..hello("s1") });
    stage.pass(10_000, &[one]);
    assert!(stage.leader.is_settled(), "nobody is expected");
    let two = stage.connect(Hello { held: some("s2"), ..hello("s2") });
    stage.pass(60_000, &[one, two]);
    for told in [stage.told(one), stage.told(two)] {
        assert!(told.iter().all(|frame| !frame.starts_with("delete")), "{told:?}");
    }
}

#[test]
fn a_record_that_ended_leaves_no_claim_behind() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    stage.want(&["a"]);
    let one = stage.connect(Hello { held: vec![held("a", "s1", 5)], ..hello("s1") });
    stage.pass(8_000, &[one]);
    stage.give(Input::Wants { wants: BTreeMap::from([(stream("a"), Want { disabled: true, ..want("a") })]) });
    stage.plan("a", Change::Release { to: None });
    let epoch = stage.record("a").unwrap().epoch;
    stage.give(Input::Frame { conn: one, frame: Up::Released { name: "a".into(), epoch } });
    stage.plan("a", Change::Remove);
    stage.give(Input::Wants { wants: BTreeMap::from([(stream("b"), want("b"))]) });
    stage.want(&["a", "b"]);
    stage.pass(2_000, &[one]);
    assert_eq!(stage.record("a"), None, "the old grant took the stream back past the planner");
}

#[test]
fn a_claim_to_a_disabled_stream_makes_no_record() {
    let mut stage = Stage::leading(vec![]);
    stage.give(Input::Wants { wants: BTreeMap::from([(stream("a"), Want { disabled: true, ..want("a") })]) });
    let one = stage.connect(Hello { held: vec![held("a", "s1", 5)], ..hello("s1") });
    stage.pass(8_000, &[one]);
    assert_eq!(stage.record("a"), None);
    assert!(stage.told(one).contains(&"delete a".to_owned()));
}

#[test]
fn what_is_held_for_nobody_is_let_go_once_that_is_known() {
    let mut stage = Stage::leading(vec![]);
    let runs = Some(BTreeMap::from([("a".to_owned(), Run::Capture)]));
    let one = stage.connect(Hello { runs, ..hello("s1") });
    assert_eq!(stage.told(one), ["hold a", "mark"], "somebody may want it");
    stage.pass(16_000, &[one]);
    assert_eq!(stage.told(one), ["delete a", "mark"], "or its streamer would hear \"not now\" for ever");
}

#[test]
pub(crate) fn final_an_epoch_that_its_holder_has_stopped_is_not_sent_to_it_again() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    stage.give(Input::Expected { streamers: BTreeSet::from([streamer("s1"), streamer("s2")]) });
    stage.want(&["a"]);
    let stopped = Held { deleted: Some(9), hash: String::new(), ..held("a", "s1", 5) };
    let one = stage.connect(Hello { stopped: vec![stopped], ..hello("s1") });
    stage.pass(7_000, &[one]);
    assert_eq!(stage.told(one), ["hold a", "mark"], "it would not take it, and leave for the mismatch");
    let two = stage.connect(hello("s2"));
    stage.pass(1_000, &[one, two]);
    assert!(stage.record("a").unwrap().epoch > 9, "all are in");
    assert_eq!(stage.told(one), ["put a", "mark"]);
}

#[test]
fn all_in_a_correction_whose_write_was_lost_is_made_again() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    stage.want(&["a"]);
    let one = stage.connect(hello("s1"));
    let two = stage.connect(Hello { held: vec![held("a", "s2", 9)], ..hello("s2") });
    stage.lose = Some(false);
    stage.pass(9_000, &[one, two]);
    assert_eq!(stage.lose, None, "a write was lost");
    stage.pass(2_000, &[one, two]);
    assert_eq!(stage.record("a").unwrap().streamer, "s2");
}
