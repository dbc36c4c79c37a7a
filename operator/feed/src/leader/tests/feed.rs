//! Who is given a stream, who keeps it, and when it is let go.

use super::*;

#[test]
fn who_may_be_running_a_stream_is_shown_to_the_planner() {
    let mut stage = Stage::leading(vec![record("b", "s3", 5)]);
    stage.want(&["a", "b"]);
    let runs = Some(BTreeMap::from([("a".to_owned(), Run::Capture), ("x".to_owned(), Run::Restream)]));
    let one = stage.connect(Hello { runs, ..hello("s1") });
    let known = stage.leader.known(stage.now);
    assert_eq!(known["media"]["a"].may_run.keys().collect::<Vec<_>>(), ["s1"]);
    assert_eq!(known["media"]["b"].may_run.keys().collect::<Vec<_>>(), ["s3"], "it has not reported");
    assert!(known["media"]["x"].may_run.is_empty(), "a restream stands in nobody's way");
    stage.told(one);
}

#[test]
pub(crate) fn gate_holds_a_stream_that_another_streamer_may_still_be_running() {
    let runs = Some(BTreeMap::from([("a".to_owned(), Run::Capture)]));
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    stage.want(&["a"]);
    let (one, two) = (stage.connect(hello("s1")), stage.connect(Hello { runs, ..hello("s2") }));
    stage.pass(8_000, &[one, two]);
    assert_eq!(stage.told(one), ["hold a", "mark"]);
    stage.give(Input::Frame { conn: two, frame: Up::Runs { set: BTreeMap::new(), gone: vec!["a".into()] } });
    stage.pass(500, &[one, two]);
    assert_eq!(stage.told(one), ["put a", "mark"]);
}

#[test]
pub(crate) fn gate_opens_when_the_other_one_is_gone_for_long_enough() {
    let mut stage = Stage::leading(vec![Record { previous: Some("s2".into()), ..record("a", "s1", 5) }]);
    stage.want(&["a"]);
    let one = stage.connect(hello("s1"));
    stage.pass(28_000, &[one]);
    assert_eq!(stage.told(one), ["hold a", "mark"]);
    stage.pass(4_000, &[one]);
    assert_eq!(stage.told(one), ["put a", "mark"]);
}

#[test]
fn a_row_that_is_served_goes_on_being_served() {
    let runs = Some(BTreeMap::from([("a".to_owned(), Run::Capture)]));
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    stage.want(&["a"]);
    let other = stage.connect(Hello { runs, ..hello("s2") });
    let one = stage.connect(Hello { held: vec![held("a", "s1", 5)], ..hello("s1") });
    assert_eq!(stage.told(one), ["mark"], "nothing to say: it has it");
    stage.told(other);
}

#[test]
pub(crate) fn released_counts_only_for_the_epoch_of_the_record() {
    let (mut stage, one, two) = two();
    stage.plan("a", place("a", "s1"));
    stage.plan("a", Change::Release { to: Some("s2".into()) });
    assert_eq!(stage.told(one), ["put a", "mark", "delete a", "mark"]);
    let epoch = stage.record("a").unwrap().epoch;
    stage.give(Input::Frame { conn: one, frame: Up::Released { name: "a".into(), epoch: epoch - 1 } });
    assert!(!stage.leader.known(stage.now)["media"]["a"].released);
    assert!(stage.leader.known(stage.now)["media"]["a"].may_run.contains_key("s1"));
    stage.give(Input::Frame { conn: one, frame: Up::Released { name: "a".into(), epoch } });
    assert!(stage.leader.known(stage.now)["media"]["a"].released);
    stage.plan("a", Change::Move { streamer: "s2".into(), previous: None });
    assert_eq!(stage.told(two), ["put a", "mark"]);
}

#[test]
fn a_release_is_asked_for_again_after_a_reconnect() {
    let (mut stage, one, _) = two();
    stage.plan("a", place("a", "s1"));
    stage.plan("a", Change::Release { to: Some("s2".into()) });
    stage.give(Input::Disconnected { conn: one });
    let again = stage.connect(hello("s1"));
    assert_eq!(stage.told(again), ["delete a", "mark"]);
}

#[test]
fn a_missing_document_holds_what_is_served_and_stops_nothing() {
    let (mut stage, one, _) = two();
    stage.plan("a", place("a", "s1"));
    stage.told(one);
    let wants = BTreeMap::from([(stream("a"), Want { document: None, ..want("a") })]);
    stage.give(Input::Wants { wants });
    assert_eq!(stage.told(one), ["hold a", "mark"]);
    stage.want(&["a"]);
    stage.pass(500, &[one]);
    assert_eq!(stage.told(one), ["put a", "mark"]);
}

#[test]
fn a_slow_sidecar_gets_only_the_newest_version() {
    let (mut stage, one, _) = two();
    stage.plan("a", place("a", "s1"));
    stage.told(one);
    let first = stage.leader.step(Input::Wants { wants: BTreeMap::from([(stream("a"), changed_want(1))]) }, stage.now);
    assert!(first.iter().any(|effect| matches!(effect, Effect::Send { frame: Down::Put(_), .. })));
    let mut revision = 0;
    for effect in first {
        if let Effect::Send { frame: Down::Mark { revision: sent, .. }, .. } = effect {
            revision = sent;
        }
    }
    for version in 2..50 {
        let wants = BTreeMap::from([(stream("a"), changed_want(version))]);
        let effects = stage.leader.step(Input::Wants { wants }, stage.now);
        assert!(effects.is_empty(), "a batch is under way: {effects:?}");
    }
    stage.give(Input::Frame { conn: one, frame: Up::Applied { revision } });
    let puts: Vec<_> = stage.sent[&one]
        .iter()
        .filter_map(|frame| if let Down::Put(put) = frame { Some(put.hash.clone()) } else { None })
        .collect();
    assert_eq!(puts, ["hash-49"]);
}

fn changed_want(version: u32) -> Want {
    Want { document: Some(Document { text: "{}".into(), hash: format!("hash-{version}") }), ..want("a") }
}
