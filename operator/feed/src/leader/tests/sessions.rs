//! Standbys, instances, and who is lost.

use super::*;

#[test]
fn a_standby_says_who_leads() {
    let mut stage = Stage::new();
    stage.give(Input::NoLease { leader: Some("https://other:9443".into()) });
    let conn = stage.connect(hello("s1"));
    assert_eq!(stage.sent[&conn], [Down::NotLeader { leader: Some("https://other:9443".into()) }]);
    assert!(stage.closed.contains(&conn));
}

#[test]
fn a_newcomer_waits_until_the_first_is_silent_for_one_period() {
    let (mut stage, one, two) = two();
    let newcomer = stage.connect(Hello { instance: "other".into(), ..hello("s1") });
    assert_eq!(stage.told(newcomer), ["wait"]);
    stage.give(Input::Disconnected { conn: one });
    stage.pass(14_000, &[two, newcomer]);
    assert!(stage.told(newcomer).is_empty());
    stage.pass(2_000, &[two, newcomer]);
    assert_eq!(stage.told(newcomer), ["mark"], "its turn");
}

#[test]
fn a_copy_of_a_living_sidecar_waits_although_it_has_the_same_id() {
    let (mut stage, one, two) = two();
    stage.pass(1_000, &[one, two]);
    let copy = stage.connect(hello("s1"));
    assert_eq!(stage.told(copy), ["wait"]);
    stage.pass(30_000, &[one, two, copy]);
    assert!(stage.told(copy).is_empty() && !stage.closed.contains(&one));
    stage.give(Input::Disconnected { conn: one });
    stage.pass(10_000, &[two, copy]);
    assert!(stage.told(copy).is_empty(), "the first may only have lost its connection");
    stage.pass(6_000, &[two, copy]);
    assert_eq!(stage.told(copy), ["mark"]);
}

#[test]
fn a_sidecar_that_connects_again_is_let_in_when_the_end_of_its_old_connection_has_come() {
    let (mut stage, one, two) = two();
    stage.pass(1_000, &[one, two]);
    let again = stage.connect(hello("s1"));
    assert_eq!(stage.told(again), ["wait"]);
    stage.give(Input::Disconnected { conn: one });
    stage.give(Input::Tick);
    assert_eq!(stage.told(again), ["mark"]);
    // Where its end never comes, two pings without a word are as good.
    let third = stage.connect(hello("s1"));
    assert_eq!(stage.told(third), ["wait"]);
    stage.pass(3_000, &[two, third]);
    assert_eq!(stage.told(third), ["mark"]);
}

/// A leader with `a` on s1, whose sidecar dies; a newcomer of that name.
fn succession() -> (Stage, u64, u64) {
    let (mut stage, one, two) = two();
    stage.plan("a", place("a", "s1"));
    stage.give(Input::Disconnected { conn: one });
    stage.pass(6_000, &[two]);
    let newcomer = stage.connect(Hello { instance: "other".into(), polled: None, ..hello("s1") });
    (stage, two, newcomer)
}

fn lost(stage: &Stage) -> Option<u64> {
    stage.leader.known(stage.now)["media"]["a"].holder_lost
}

#[test]
fn a_newcomers_waiting_counts_as_contact() {
    let (mut stage, two, newcomer) = succession();
    let pings = |stage: &Stage| stage.sent[&newcomer].iter().filter(|frame| matches!(frame, Down::Ping { .. })).count();
    for _ in 0..7 {
        assert_eq!(lost(&stage), None, "nothing moves meanwhile");
        stage.pass(1_000, &[two, newcomer]);
    }
    assert!(pings(&stage) >= 6, "it would leave a silent leader");
    stage.pass(10_000, &[two, newcomer]);
    assert_eq!(lost(&stage), None, "what it said of its streamer while it waited counts");
}

#[test]
fn a_newcomers_waiting_counts_even_before_the_old_connection_is_known_to_be_dead() {
    let (mut stage, one, two) = two();
    stage.plan("a", place("a", "s1"));
    let quiet = |stage: &mut Stage| {
        for _ in 0..40 {
            stage.give(Input::Frame { conn: one, frame: quiet() });
            stage.pass(1_000, &[two]);
        }
    };
    quiet(&mut stage);
    assert!(lost(&stage) >= Some(39_000));
    let newcomer = stage.connect(Hello { instance: "other".into(), ..hello("s1") });
    assert_eq!(lost(&stage), None);
    quiet(&mut stage);
    assert!(lost(&stage) >= Some(79_000), "two sidecars of one name must not hide a dead streamer");
    stage.told(newcomer);
}

#[test]
fn what_a_newcomer_has_said_of_the_streamer_counts_when_it_has_gone_again() {
    let (mut stage, two, newcomer) = succession();
    stage.pass(8_000, &[two, newcomer]);
    stage.give(Input::Disconnected { conn: newcomer });
    stage.pass(4_000, &[two]);
    let last = stage.connect(Hello { instance: "last".into(), polled: None, ..hello("s1") });
    stage.pass(6_000, &[two]);
    stage.give(Input::Frame { conn: last, frame: quiet() });
    assert_eq!(lost(&stage), Some(10_000), "not since the first was there");
}

#[test]
fn a_newcomer_that_dies_is_not_waited_for() {
    let (mut stage, two, dead) = succession();
    stage.pass(1_000, &[two, dead]);
    let last = stage.connect(Hello { instance: "last".into(), ..hello("s1") });
    stage.pass(10_000, &[two, last]);
    assert!(stage.closed.contains(&dead));
    assert_eq!(stage.told(last), ["wait", "put a", "mark"]);
}

#[test]
fn a_sidecar_that_is_back_has_time_to_hear_its_streamer() {
    let (mut stage, one, two) = two();
    stage.plan("a", place("a", "s1"));
    stage.give(Input::Disconnected { conn: one });
    stage.pass(20_000, &[two]);
    let again = stage.connect(Hello { polled: None, ..hello("s1") });
    assert_eq!(lost(&stage), None, "the streamer may have asked in vain");
    stage.give(Input::Frame { conn: again, frame: quiet() });
    stage.pass(4_500, &[two]);
    stage.give(Input::Frame { conn: again, frame: quiet() });
    stage.pass(500, &[two]);
    assert_eq!(lost(&stage), None, "nobody has said so since");
    stage.give(Input::Frame { conn: again, frame: quiet() });
    assert_eq!(lost(&stage), Some(25_000), "it does not ask");
}

#[test]
fn a_sidecar_that_starts_again_has_time_to_read_its_streamers_api() {
    let (mut stage, mut one, two) = two();
    stage.plan("a", place("a", "s1"));
    for _ in 0..2 {
        stage.give(Input::Disconnected { conn: one });
        stage.pass(20_000, &[two]);
        one = stage.connect(Hello { polled: None, runs: None, api: ApiState::Down, ..hello("s1") });
        assert_eq!(lost(&stage), None);
    }
    stage.pass(2_000, &[two]);
    stage.give(Input::Frame { conn: one, frame: quiet() });
    assert_eq!(lost(&stage), Some(42_000), "it shows nothing");
}

/// A sidecar lives, and its streamer has not asked.
fn quiet() -> Up {
    alive(None, ApiState::Absent, None)
}

#[test]
fn a_pod_with_a_new_uid_supersedes_the_old_one_at_once() {
    let (mut stage, one, _) = two();
    let pod = stage.connect_as(Hello { instance: "new-uid".into(), ..hello("s1") }, true);
    assert_eq!(stage.told(one), ["superseded"]);
    assert!(stage.closed.contains(&one));
    assert_eq!(stage.told(pod), ["mark"]);
}

#[test]
fn goodbye_frees_the_name() {
    let (mut stage, one, two) = two();
    stage.give(Input::Frame { conn: one, frame: Up::Goodbye {} });
    stage.give(Input::Disconnected { conn: one });
    let next = stage.connect(Hello { instance: "other".into(), ..hello("s1") });
    assert_eq!(stage.told(next), ["mark"]);
    stage.told(two);
}

#[test]
fn a_leaders_own_freeze_is_nobodys_silence() {
    let (mut stage, one, two) = two();
    stage.plan("a", place("a", "s1"));
    stage.now = Now { mono: stage.now.mono + 60_000, wall: stage.now.wall + 60_000 };
    stage.give(Input::Tick);
    let lost = stage.leader.known(stage.now)["media"]["a"].holder_lost;
    assert!(lost.is_none_or(|lost| lost < 5_000), "{lost:?}");
    stage.told(one);
    stage.told(two);
}

#[test]
fn a_streamer_that_does_not_poll_is_lost_unless_its_api_shows_the_stream() {
    let (mut stage, one, two) = two();
    stage.plan("a", place("a", "s1"));
    let alive = |stage: &mut Stage, polled, api| {
        stage.give(Input::Frame { conn: one, frame: alive(Some(polled), api, None) });
        stage.leader.known(stage.now)["media"]["a"].clone()
    };
    assert_eq!(alive(&mut stage, 8_000, ApiState::Absent).holder_lost, None);
    assert_eq!(alive(&mut stage, 10_000, ApiState::Absent).holder_lost, Some(10_000));
    assert_eq!(alive(&mut stage, 10_000, ApiState::Down).holder_lost, Some(10_000));
    let set = BTreeMap::from([("a".to_owned(), Run::Capture)]);
    stage.give(Input::Frame { conn: one, frame: Up::Runs { set, gone: vec![] } });
    let known = alive(&mut stage, 10_000, ApiState::Up);
    assert_eq!((known.holder_lost, known.not_polling), (None, true));
    stage.told(two);
}

#[test]
fn a_sidecar_that_starts_again_and_again_does_not_hide_a_dead_streamer() {
    let (mut stage, mut one, two) = two();
    stage.plan("a", place("a", "s1"));
    for _ in 0..10 {
        stage.give(Input::Disconnected { conn: one });
        one = stage.connect(Hello { polled: None, ..hello("s1") });
        stage.pass(4_000, &[two]);
    }
    let lost = stage.leader.known(stage.now)["media"]["a"].holder_lost;
    assert!(lost.is_some_and(|lost| lost >= 30_000), "{lost:?}");
}

#[test]
fn a_dead_streamers_last_word_is_not_said_to_be_capturing() {
    use super::super::view::Capture;
    let (mut stage, one, two) = two();
    stage.plan("a", place("a", "s1"));
    let set = BTreeMap::from([("a".to_owned(), Run::Capture)]);
    stage.give(Input::Frame { conn: one, frame: Up::Runs { set, gone: vec![] } });
    assert_eq!(stage.leader.capture(&stream("a"), stage.now), Capture::Running);
    stage.pass(20_000, &[two]);
    assert_eq!(stage.leader.capture(&stream("a"), stage.now), Capture::Unknown);
}

#[test]
fn a_node_that_died_without_a_word_is_gone_although_its_connection_still_stands() {
    let (mut stage, one, two) = two();
    stage.plan("a", place("a", "s1"));
    let set = BTreeMap::from([("a".to_owned(), Run::Capture)]);
    stage.give(Input::Frame { conn: one, frame: Up::Runs { set, gone: vec![] } });
    stage.give(Input::Frame { conn: one, frame: alive(Some(0), ApiState::Up, None) });
    stage.pass(40_000, &[two]);
    let known = stage.leader.known(stage.now)["media"]["a"].clone();
    assert_eq!((known.holder_lost, known.not_polling), (Some(40_000), false));
}
