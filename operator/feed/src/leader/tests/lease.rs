//! **Grant**: when a ping carries a lease, and what a record says of the policy under which it is held.

use super::*;

fn stops(name: &str) -> Want {
    let document = Document { text: "{}".into(), hash: format!("stops-{name}") };
    Want { partition: Partition::StopCapturing, document: Some(document), ..want(name) }
}

fn says(stage: &mut Stage, conn: u64, lease: LeaseReport) {
    stage.give(Input::Frame { conn, frame: alive(Some(0), ApiState::Absent, Some(lease)) });
}

/// What the last ping to a connection carries, after one more.
fn lease(stage: &mut Stage, conn: u64) -> Option<u64> {
    stage.sent.remove(&conn);
    stage.now = Now { mono: stage.now.mono + 1_000, wall: stage.now.wall + 1_000 };
    stage.give(Input::Tick);
    let pings = stage.sent.get(&conn).into_iter().flatten().rev();
    pings.into_iter().find_map(|frame| match frame {
        Down::Ping { lease, .. } => Some(*lease),
        _ => None,
    })?
}

const ASKED: LeaseReport = LeaseReport { at: Some(77), runs: false, asked: None, boots_with: None };
const RUNS: LeaseReport = LeaseReport { runs: true, ..ASKED };

#[test]
fn grant_a_lease_echoes_what_the_sidecar_said_under_a_settled_view() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    stage.give(Input::Wants { wants: [(stream("a"), stops("a"))].into() });
    let one = stage.connect_as(hello("s1"), true);
    says(&mut stage, one, ASKED);
    assert_eq!(lease(&mut stage, one), None, "not settled");
    stage.pass(8_000, &[one]);
    says(&mut stage, one, ASKED);
    assert_eq!(lease(&mut stage, one), Some(77));
}

#[test]
pub(crate) fn grant_one_that_runs_goes_on_under_a_new_leader_before_it_has_settled() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5), record("b", "s2", 5)]);
    stage.give(Input::Wants { wants: [(stream("a"), stops("a"))].into() });
    let one = stage.connect(hello("s1"));
    says(&mut stage, one, RUNS);
    assert_eq!(lease(&mut stage, one), Some(77));
}

#[test]
pub(crate) fn grant_one_that_has_run_out_waits_for_every_streamer_that_may_still_have_one() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5), record("b", "s2", 5)]);
    stage.give(Input::Wants { wants: [(stream("a"), stops("a"))].into() });
    let one = stage.connect_as(Hello { held: vec![held("a", "s1", 5)], ..hello("s1") }, true);
    stage.pass(56_000, &[one]);
    says(&mut stage, one, ASKED);
    assert_eq!(lease(&mut stage, one), None);
    assert_eq!(stage.leader.unheard("media", stage.now).len(), 1);
    stage.pass(1_000, &[one]);
    says(&mut stage, one, ASKED);
    assert_eq!(lease(&mut stage, one), Some(77));
}

#[test]
pub(crate) fn gate_holds_what_one_that_was_not_heard_may_be_serving_under_a_lease_of_the_last_leader() {
    // A restored record may name another than who has it.
    let mut stage = Stage::leading(vec![record("a", "s1", 5), record("b", "s2", 5)]);
    stage.give(Input::Wants { wants: [(stream("a"), stops("a"))].into() });
    let one = stage.connect(hello("s1"));
    stage.pass(57_500, &[one]);
    assert_eq!(stage.told(one), ["hold a", "mark"]);
    assert_eq!(stage.leader.unheard("media", stage.now).len(), 1, "nor is anybody else given it");
    stage.pass(1_000, &[one]);
    assert!(stage.told(one).contains(&"put a".to_owned()));
}

#[test]
pub(crate) fn deadline_of_its_own_ends_what_a_leader_may_grant() {
    let (mut stage, one, _) = two();
    stage.give(Input::Wants { wants: [(stream("a"), stops("a"))].into() });
    stage.give(Input::Lease { deadline: stage.now.mono + 1_500, highest_term: 0 });
    says(&mut stage, one, ASKED);
    assert_eq!(lease(&mut stage, one), Some(77));
    assert_eq!(lease(&mut stage, one), None);
}

#[test]
pub(crate) fn grant_nothing_to_one_that_has_not_applied_what_it_was_told() {
    let (mut stage, one, _) = two();
    stage.give(Input::Wants { wants: [(stream("a"), stops("a"))].into() });
    says(&mut stage, one, ASKED);
    assert_eq!(lease(&mut stage, one), Some(77));
    let changes = vec![(stream("a"), place("a", "s1"), true)];
    let plan = Input::Plan { changes, held_removals: BTreeMap::new() };
    // Its answer to the next mark stays away.
    stage.deaf = true;
    stage.give(plan);
    says(&mut stage, one, ASKED);
    assert_eq!(lease(&mut stage, one), None);
}

#[test]
pub(crate) fn grant_nothing_to_a_new_instance_while_the_former_may_have_a_lease() {
    let (mut stage, one, two) = two();
    stage.give(Input::Wants { wants: [(stream("a"), stops("a"))].into() });
    says(&mut stage, one, RUNS);
    stage.give(Input::Disconnected { conn: one });
    let other = Hello { instance: "s1-2".into(), ..hello("s1") };
    let three = stage.connect(other);
    stage.pass(20_000, &[two, three]);
    assert!(stage.leader.streamer(&streamer("s1"), stage.now).unwrap().instance.as_deref() == Some("s1-2"));
    says(&mut stage, three, ASKED);
    assert_eq!(lease(&mut stage, three), None);
    stage.pass(40_000, &[two, three]);
    says(&mut stage, three, ASKED);
    assert_eq!(lease(&mut stage, three), Some(77));
}

#[test]
pub(crate) fn grant_nothing_for_a_row_that_another_sidecar_proves_old() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    stage.give(Input::Wants { wants: [(stream("a"), stops("a"))].into() });
    let one = stage.connect_as(Hello { held: vec![held("a", "s1", 5)], ..hello("s1") }, true);
    stage.pass(8_000, &[one]);
    let epoch = stage.record("a").unwrap().epoch + 1;
    let two = stage.connect(Hello { held: vec![held("a", "s2", epoch)], ..hello("s2") });
    stage.sent.clear();
    says(&mut stage, one, ASKED);
    let leases = |frame: &Down| matches!(frame, Down::Ping { lease: Some(_), .. });
    assert!(!stage.sent.values().flatten().any(leases), "the record is about to name s2");
    stage.pass(1_000, &[one, two]);
    assert_eq!(stage.record("a").unwrap().streamer, "s2");
}

#[test]
pub(crate) fn grant_nothing_for_a_row_above_the_record_while_somebody_else_runs_the_stream() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    stage.give(Input::Wants { wants: [(stream("a"), stops("a"))].into() });
    let runs = Some(BTreeMap::from([("a".to_owned(), Run::Capture)]));
    let one = stage.connect_as(Hello { held: vec![held("a", "s1", 5)], runs, ..hello("s1") }, true);
    stage.pass(8_000, &[one]);
    let above = stage.record("a").unwrap().epoch + 1;
    let two = stage.connect_as(Hello { held: vec![held("a", "s2", above)], ..hello("s2") }, true);
    stage.pass(2_000, &[one, two]);
    assert_eq!(stage.record("a").unwrap().streamer, "s2", "corrected");
    says(&mut stage, two, ASKED);
    assert_eq!(lease(&mut stage, two), None, "s1 has not let go of it yet");
    stage.give(Input::Frame { conn: one, frame: Up::Runs { set: BTreeMap::new(), gone: vec!["a".into()] } });
    let deleted = stage.record("a").unwrap().epoch;
    stage.give(Input::Frame { conn: one, frame: Up::Released { name: "a".into(), epoch: deleted } });
    says(&mut stage, two, ASKED);
    assert_eq!(lease(&mut stage, two), Some(77));
}

#[test]
fn a_record_says_stop_capturing_only_when_its_holder_surely_has_it() {
    let (mut stage, one, two) = two();
    stage.plan("a", place("a", "s1"));
    assert_eq!(stage.record("a").unwrap().partition, Partition::KeepCapturing);
    stage.deaf = true;
    stage.give(Input::Wants { wants: [(stream("a"), stops("a"))].into() });
    stage.pass(2_000, &[one, two]);
    assert_eq!(stage.record("a").unwrap().partition, Partition::KeepCapturing, "not acknowledged");
    let revision = stage.leader.streamer(&streamer("s1"), stage.now).unwrap().revision;
    stage.deaf = false;
    stage.give(Input::Frame { conn: one, frame: Up::Applied { revision } });
    stage.pass(1_000, &[one, two]);
    assert_eq!(stage.record("a").unwrap().partition, Partition::StopCapturing);
    stage.told(one);

    stage.want(&["a"]);
    assert_eq!(stage.told(one), ["hold a", "mark"], "the record says so first");
    stage.pass(1_000, &[one, two]);
    assert_eq!(stage.record("a").unwrap().partition, Partition::KeepCapturing);
    assert_eq!(stage.told(one), ["put a", "mark"]);
}

#[test]
pub(crate) fn lease_poll_and_kill_are_waited_for_exactly() {
    let of = |previous: &str| Record {
        partition: Partition::StopCapturing,
        previous: Some(previous.into()),
        ..record("a", "s1", 5)
    };
    let mut stage = Stage::leading(vec![of("s2")]);
    stage.give(Input::Wants { wants: [(stream("a"), stops("a"))].into() });
    let one = stage.connect(hello("s1"));
    stage.pass(57_500, &[one]);
    assert_eq!(stage.told(one), ["hold a", "mark"]);
    stage.pass(500, &[one]);
    assert_eq!(stage.told(one), ["put a", "mark"]);
}
