//! Instances that have ended for good.

use super::*;

/// A leader with `a` on s1, which runs it; both instances are vouched for.
fn running() -> (Stage, u64, u64) {
    let mut stage = Stage::leading(vec![]);
    stage.want(&["a"]);
    let one = stage.connect_as(hello("s1"), true);
    let two = stage.connect_as(hello("s2"), true);
    stage.pass(8_000, &[one, two]);
    stage.plan("a", place("a", "s1"));
    let set = BTreeMap::from([("a".to_owned(), Run::Capture)]);
    stage.give(Input::Frame { conn: one, frame: Up::Runs { set, gone: vec![] } });
    stage.told(two);
    (stage, one, two)
}

fn leaves(stage: &mut Stage, conn: u64) {
    stage.give(Input::Frame { conn, frame: Up::Goodbye {} });
    stage.give(Input::Disconnected { conn });
}

fn ended(stage: &mut Stage, instance: &str) {
    stage.give(Input::Ended { instances: [(streamer("s1"), instance.to_owned())].into() });
}

fn known(stage: &Stage) -> crate::leader::known::Known {
    stage.leader.known(stage.now)["media"]["a"].clone()
}

#[test]
fn a_goodbye_ends_a_session_and_no_streamer() {
    let (mut stage, one, _) = running();
    let before = stage.leader.liveness(stage.now);
    leaves(&mut stage, one);
    assert!(!known(&stage).ended);
    assert!(known(&stage).may_run.contains_key("s1"), "whoever ended the sidecar need not have ended the streamer");
    ended(&mut stage, "s1-1");
    assert!(known(&stage).ended && known(&stage).may_run.is_empty());
    assert_ne!(stage.leader.liveness(stage.now), before, "that is planned for");
}

#[test]
fn what_has_ended_keeps_nobody_from_being_given_its_streams() {
    let (mut stage, one, two) = running();
    leaves(&mut stage, one);
    stage.plan("a", Change::Move { streamer: "s2".into(), previous: None });
    assert_eq!(stage.told(two), ["hold a", "mark"], "it may be running on");
    ended(&mut stage, "s1-1");
    stage.pass(500, &[two]);
    assert_eq!(stage.told(two), ["put a", "mark"]);
}

#[test]
fn it_has_ended_that_very_instance_and_only_if_it_is_vouched_for() {
    let (mut stage, one, _) = running();
    ended(&mut stage, "s1-2");
    assert!(!known(&stage).ended, "another one had the name, or will have");
    ended(&mut stage, "s1-1");
    assert!(known(&stage).ended);
    // Somebody makes a pod of that name after all.
    stage.give(Input::Disconnected { conn: one });
    stage.connect_as(Hello { instance: "s1-2".into(), runs: None, ..hello("s1") }, true);
    assert!(!known(&stage).ended && known(&stage).may_run.contains_key("s1"));

    let (mut stage, one, two) = two();
    stage.plan("a", place("a", "s1"));
    ended(&mut stage, "s1-1");
    stage.pass(500, &[one, two]);
    assert!(!known(&stage).ended, "its id is its own word");
}

#[test]
fn what_has_ended_says_hello_to_no_avail() {
    let (mut stage, one, _) = running();
    ended(&mut stage, "s1-1");
    stage.give(Input::Disconnected { conn: one });
    stage.connect_as(hello("s1"), true);
    assert!(known(&stage).ended);
}
