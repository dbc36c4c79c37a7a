//! **503 until synced**, and what a request gets: holds, names, another's host.

use super::*;

#[test]
pub(crate) fn until_synced_it_answers_503() {
    let mut rig = Rig::new(false);
    assert_eq!(rig.ask(&[]), Answer::NotYet(NotYet::NeverSynced));
    rig.welcome(10);
    rig.put("a", 5, "one");
    assert_eq!(rig.ask(&["a"]), Answer::NotYet(NotYet::NeverSynced), "no mark yet");
    rig.tick_to(60_000);
    assert_eq!(rig.ask(&[]), Answer::NotYet(NotYet::NeverSynced), "however long it takes");
    rig.welcome(10);
    rig.put("a", 5, "one");
    rig.mark();
    assert_eq!(names(&rig.ask(&[])), ["a"]);
}

#[test]
pub(crate) fn until_synced_again_after_a_restart_it_answers_503_or_for_ten_seconds() {
    let mut rig = Rig::synced(false);
    rig.put("a", 5, "one");
    rig.mark();

    let mut marked = Rig::restarted(false, rig.stored());
    assert_eq!(marked.ask(&[]), Answer::NotYet(NotYet::NoMarkYet));
    marked.welcome(11);
    assert_eq!(marked.ask(&[]), Answer::NotYet(NotYet::NoMarkYet));
    marked.mark();
    assert_eq!(names(&marked.ask(&[])), ["a"]);

    let mut alone = Rig::restarted(false, rig.stored());
    alone.now = 10_000;
    assert_eq!(alone.ask(&[]), Answer::NotYet(NotYet::NoMarkYet));
    alone.now = 10_001;
    assert_eq!(names(&alone.ask(&[])), ["a"]);
}

#[test]
pub(crate) fn until_synced_again_after_a_restart_nothing_is_said_of_a_stream_that_the_replica_never_heard_of() {
    let mut rig = Rig::synced(true);
    rig.put("a", 5, "one");
    rig.put("b", 5, "one");
    rig.mark();
    rig.delete("b", 6);
    rig.mark();
    let mut alone = Rig::restarted(true, rig.stored());
    alone.now = 10_001;
    alone.read("start-1", &["a", "b", "x"]);
    assert_eq!(alone.ask(&[]), Answer::NotYet(NotYet::NotKnown("x".into())), "it would be stopped");
    assert_eq!(names(&alone.ask(&["a", "b"])), ["a"], "b it has let go of");
    assert_eq!(names(&alone.ask(&[])), ["a"], "one that asks by name asks for x before it stops it");
    assert_eq!(alone.ask(&["x"]), Answer::NotYet(NotYet::NotKnown("x".into())));
    alone.welcome(11);
    alone.mark();
    assert!(names(&alone.ask(&["x"])).is_empty(), "now it knows");
}

#[test]
fn a_hold_is_503_to_who_asks_for_it_and_to_a_poll_that_would_stop_it() {
    let mut rig = Rig::synced(false);
    rig.put("a", 5, "one");
    rig.hold("h", 5);
    rig.mark();
    let held = Answer::NotYet(NotYet::Held("h".into()));
    assert_eq!(rig.ask(&[]), held, "what it runs is not known");
    assert_eq!(rig.ask(&["a", "h"]), held);
    assert_eq!(names(&rig.ask(&["a"])), ["a"]);
    assert_eq!(names(&rig.ask(&[])), ["a"], "it asks by name");
}

#[test]
fn a_hold_is_no_503_to_a_poll_of_a_streamer_that_does_not_run_it() {
    let mut rig = Rig::synced(true);
    rig.read("boot", &[]);
    rig.put("a", 5, "one");
    rig.hold("h", 5);
    rig.mark();
    assert_eq!(names(&rig.ask(&[])), ["a"]);
    rig.read("boot", &["h"]);
    assert_eq!(rig.ask(&[]), Answer::NotYet(NotYet::Held("h".into())));
}

#[test]
fn a_hold_keeps_what_is_served() {
    let mut rig = Rig::synced(false);
    rig.put("a", 5, "one");
    rig.mark();
    rig.hold("a", 6);
    rig.mark();
    assert_eq!(names(&rig.ask(&[])), ["a"]);
    assert_eq!(names(&rig.ask(&["a"])), ["a"]);
}

#[test]
fn plain_answers_list_static_streams_and_names_get_any() {
    let mut rig = Rig::synced(false);
    let dynamic = Put { is_static: false, ..put("d", 5, "one") };
    rig.mirror.apply(Edit::Put(dynamic.clone()), &mut Outcome::default());
    rig.hear(Down::Put(dynamic));
    rig.put("b", 5, "one");
    rig.put("a", 5, "one");
    rig.mark();
    assert_eq!(names(&rig.ask(&[])), ["a", "b"]);
    assert_eq!(names(&rig.ask(&["d", "elsewhere", "b"])), ["b", "d"]);
    assert_eq!(rig.ask(&[]), rig.ask(&[]));
}

#[test]
fn a_disk_that_fails_stops_no_answer_and_shows() {
    let mut rig = Rig::synced(false);
    rig.disk = Some(Err("disk full".into()));
    rig.put("a", 5, "one");
    rig.mark();
    assert_eq!(names(&rig.ask(&[])), ["a"]);
    let shown = |up: &Up| matches!(up, Up::Alive { replica_error: Some(error), .. } if error == "disk full");
    assert!(rig.sent.iter().any(shown), "{:?}", rig.sent);
    assert!(rig.sent.contains(&Up::Applied { revision: 2 }));
    rig.disk = Some(Ok(()));
    rig.tick_to(rig.now + 4_000);
    rig.hear(Down::Ping { term: 10, may_speak: MAY_SPEAK, lease: None });
    rig.tick_to(rig.now + 2_000);
    assert_eq!(rig.holder.replica_error(), None, "tried again");
}

#[test]
fn another_hosts_request_is_served_and_shown() {
    let mut rig = Rig::synced(false);
    rig.step(Input::Asked { number: 1, request: Request::Named(BTreeSet::new()), host: Some("other".into()) });
    rig.tick_to(2_000);
    let shown = |up: &Up| matches!(up, Up::Alive { foreign_host: Some(host), .. } if host == "other");
    assert!(rig.sent.iter().any(shown));
}
