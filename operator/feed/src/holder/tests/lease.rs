//! **Lease**: what a stream with `StopCapturing` is served under, and when its streamer is to be killed.

use super::*;
use crate::holder::lease::Disobeys;

/// One with `a`, which stops when it is cut off, and `b`, which goes on.
fn rig(api: bool) -> Rig {
    let mut rig = Rig::synced(api);
    give(&mut rig);
    rig
}

fn give(rig: &mut Rig) {
    rig.now = 1_000;
    let stops = Put { partition: Partition::StopCapturing, ..put("a", 5, "one") };
    rig.mirror.apply(Edit::Put(stops.clone()), &mut Outcome::default());
    rig.hear(Down::Put(stops));
    rig.put("b", 5, "one");
    rig.mark();
    rig.sent.clear();
}

/// The leader answers the last that it heard of the streamer.
fn grant(rig: &mut Rig) {
    let term = rig.holder.meta.highest_term;
    let lease = rig.holder.watch.last_request;
    rig.hear(Down::Ping { term, may_speak: MAY_SPEAK, lease });
}

fn lease(rig: &mut Rig) -> Result<(), Disobeys> {
    match rig.step(Input::LeaseAsked { number: 7 }).pop() {
        Some(Effect::AnswerLease { number: 7, answer }) => answer,
        other => panic!("no answer: {other:?}"),
    }
}

/// Polls and pings without a lease, up to a time.
fn go_on_without(rig: &mut Rig, until: u64) {
    while rig.now < until {
        rig.poll();
    }
}

#[test]
pub(crate) fn lease_a_stream_that_stops_is_served_only_while_it_runs() {
    let mut rig = rig(false);
    assert_eq!(rig.ask(&[]), Answer::NotYet(NotYet::NoLeaseYet("a".into())), "a lease is on its way");
    grant(&mut rig);
    assert_eq!(rig.poll(), ["a", "b"]);
    grant(&mut rig);
    let asked = rig.now;
    go_on_without(&mut rig, asked + 34_000);
    assert_eq!(names(&rig.ask(&[])), ["a", "b"]);
    rig.now = asked + 34_999;
    assert_eq!(names(&rig.ask(&[])), ["a", "b"]);
    rig.now = asked + 35_000;
    assert_eq!(names(&rig.ask(&[])), ["b"], "what goes on goes on");
    assert_eq!(names(&rig.ask(&["a", "b"])), ["b"], "by name too");
    grant(&mut rig);
    assert_eq!(names(&rig.ask(&[])), ["a", "b"]);
}

#[test]
pub(crate) fn lease_is_counted_from_the_streamers_request_so_that_a_late_ping_lengthens_none() {
    let mut rig = rig(false);
    rig.ask(&[]);
    let asked = rig.holder.watch.last_request;
    let late = |rig: &mut Rig, lease| rig.hear(Down::Ping { term: 10, may_speak: MAY_SPEAK, lease });
    late(&mut rig, asked);
    go_on_without(&mut rig, 30_000);
    late(&mut rig, asked);
    go_on_without(&mut rig, 37_000);
    assert_eq!(rig.poll(), ["b"]);
    late(&mut rig, Some(u64::MAX));
    assert_eq!(rig.poll(), ["b"], "an answer to what was never said");
}

#[test]
pub(crate) fn lease_of_before_a_restart_is_none() {
    let mut before = rig(false);
    before.ask(&[]);
    grant(&mut before);
    let mut rig = Rig::restarted(false, before.stored());
    rig.welcome(11);
    rig.mark();
    assert_eq!(rig.ask(&[]), Answer::NotYet(NotYet::NoLeaseYet("a".into())));
    let mut alone = Rig::restarted(false, before.stored());
    alone.now = 10_001;
    assert_eq!(names(&alone.ask(&[])), ["b"], "nobody gives it one: the policy says stop");
}

#[test]
fn lease_the_first_request_without_one_is_said_at_once() {
    let mut rig = rig(false);
    rig.ask(&[]);
    let said = rig.sent.iter().find_map(|up| match up {
        Up::Alive { lease, .. } => *lease,
        _ => None,
    });
    let said = said.unwrap();
    assert_eq!((said.at, said.runs), (Some(1_000), false));
}

#[test]
fn lease_a_streamer_that_lets_go_lives_and_one_that_does_not_is_killed() {
    let mut rig = rig(true);
    rig.ask(&[]);
    grant(&mut rig);
    rig.poll();
    rig.read("start-1", &["a", "b"]);
    assert_eq!(lease(&mut rig), Ok(()));
    let over = rig.now + 36_000;
    while rig.now < over {
        rig.now += 2_000;
        rig.ping();
        rig.ask(&[]);
    }
    assert!(matches!(lease(&mut rig), Err(Disobeys::NoLease { streams, .. }) if streams == "a"));
    rig.read("start-1", &["b"]);
    assert_eq!(lease(&mut rig), Ok(()), "it has let go of it, and b goes on");
}

#[test]
fn lease_a_streamer_that_does_not_ask_is_killed_while_it_runs() {
    let mut rig = rig(true);
    rig.ask(&[]);
    grant(&mut rig);
    rig.read("start-1", &["a", "b"]);
    rig.tick_to(rig.now + 9_001);
    let why = lease(&mut rig).unwrap_err();
    assert!(matches!(&why, Disobeys::NotPolling { streams, .. } if streams == "a"), "{why}");
}

#[test]
fn lease_a_streamer_that_hangs_before_it_was_read_is_killed_for_what_it_was_given() {
    let mut rig = rig(true);
    rig.read("start-1", &[]);
    rig.ask(&[]);
    grant(&mut rig);
    rig.ask(&[]);
    rig.tick_to(rig.now + 3_000);
    rig.step(Input::ApiRead(Err("no answer".into())));
    rig.tick_to(rig.now + 9_001);
    let why = lease(&mut rig).unwrap_err();
    assert!(matches!(&why, Disobeys::NotPolling { streams, .. } if streams.contains('a')), "{why}");
}

#[test]
fn lease_of_a_wiped_sidecar_kills_what_it_does_not_know() {
    let mut rig = Rig::new(true);
    assert_eq!(lease(&mut rig), Err(Disobeys::Unknown));
    rig.read("start-1", &["x"]);
    assert!(matches!(lease(&mut rig), Err(Disobeys::NoLease { streams, .. }) if streams == "x"));
    rig.read("start-1", &[]);
    assert_eq!(lease(&mut rig), Ok(()), "it runs nothing");
}

#[test]
fn lease_is_nothing_to_a_streamer_whose_streams_go_on() {
    let mut rig = Rig::synced(true);
    rig.put("b", 5, "one");
    rig.mark();
    rig.ask(&[]);
    rig.read("start-1", &["b"]);
    rig.tick_to(rig.now + 600_000);
    assert_eq!(lease(&mut rig), Ok(()));
}

#[test]
pub(crate) fn lease_proof_without_an_api_is_what_was_left_out_and_not_asked_for() {
    let mut rig = rig(false);
    rig.ask(&[]);
    grant(&mut rig);
    for _ in 0..4 {
        rig.poll();
    }
    grant(&mut rig);
    rig.now += 38_000;
    assert!(lease(&mut rig).is_err());
    for _ in 0..3 {
        assert!(lease(&mut rig).is_err(), "not proven yet");
        rig.poll();
    }
    assert_eq!(lease(&mut rig), Ok(()));
}

#[test]
fn lease_a_streamer_has_a_poll_to_let_go_in_before_it_is_killed() {
    let mut rig = rig(true);
    rig.ask(&[]);
    grant(&mut rig);
    rig.read("start-1", &["a", "b"]);
    let asked = rig.holder.watch.last_request.unwrap();
    go_on_without(&mut rig, asked + 30_000);
    rig.read("start-1", &["a", "b"]);
    rig.now = asked + 35_000;
    assert_eq!(lease(&mut rig), Ok(()), "it may not have asked since");
    rig.now = asked + 37_999;
    assert_eq!(lease(&mut rig), Ok(()));
    rig.now = asked + 38_000;
    assert!(lease(&mut rig).is_err());
}
