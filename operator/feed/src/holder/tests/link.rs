//! **Silence**, **Term** and **Report**: which leader is listened to, what of it is applied, and what it is told.

use super::*;

#[test]
pub(crate) fn silence_leaves_a_connection_and_drops_what_no_mark_followed() {
    let mut rig = Rig::synced(false);
    rig.put("a", 5, "one");
    rig.tick_to(4_999);
    assert!(rig.dropped.is_empty());
    rig.tick_to(5_001);
    assert_eq!(rig.dropped, [Why::Silent(5_000)]);
    // The leader was frozen: what it sends now reaches nobody, and a new connection begins with an empty batch.
    rig.mark();
    assert!(names(&rig.ask(&["a"])).is_empty());
    rig.mirror = rig.holder.rows.clone();
    rig.welcome(11);
    rig.mark();
    assert!(names(&rig.ask(&["a"])).is_empty());
}

#[test]
pub(crate) fn silence_a_thawed_sidecar_takes_nothing_that_an_old_leader_had_sent() {
    let mut rig = Rig::synced(false);
    // Frozen for a minute: what was in the socket comes first, the tick after it.
    rig.now += 60_000;
    rig.put("a", 5, "one");
    rig.mark();
    assert_eq!(rig.dropped, [Why::Silent(60_000)]);
    assert!(names(&rig.ask(&[])).is_empty());
    assert!(!rig.sent.iter().any(|up| matches!(up, Up::Applied { .. })));
}

#[test]
pub(crate) fn silence_a_thawed_sidecar_applies_nothing_that_had_waited_for_its_disk() {
    let mut rig = Rig::new(false);
    rig.disk = None;
    rig.welcome(10);
    rig.put("a", 5, "one");
    rig.mark();
    rig.now += 60_000;
    rig.step(Input::Persisted(Ok(())));
    assert_eq!(rig.dropped, [Why::Silent(60_000)]);
    assert_eq!(rig.ask(&[]), Answer::NotYet(NotYet::NeverSynced));
}

#[test]
pub(crate) fn silence_a_leader_that_has_outlived_its_lease_is_left_whatever_it_sends() {
    let mut rig = Rig::synced(false);
    rig.hear(Down::Ping { term: 10, may_speak: 2_000, lease: None });
    rig.now += 1_999;
    rig.put("a", 5, "one");
    rig.mark();
    assert!(rig.dropped.is_empty());
    assert_eq!(names(&rig.ask(&[])), ["a"]);
    rig.now += 1;
    rig.put("b", 5, "one");
    assert_eq!(rig.dropped, [Why::SpokenOut(0)]);

    let mut renewed = Rig::synced(false);
    renewed.hear(Down::Ping { term: 10, may_speak: 2_000, lease: None });
    renewed.now += 1_000;
    renewed.hear(Down::Ping { term: 10, may_speak: u64::MAX, lease: None });
    renewed.tick_to(renewed.now + 4_999);
    assert!(renewed.dropped.is_empty(), "one without a lease may speak for ever");
    renewed.tick_to(renewed.now + 1);
    assert_eq!(renewed.dropped, [Why::Silent(5_000)]);
}

#[test]
fn silence_is_broken_by_any_frame() {
    let mut rig = Rig::synced(false);
    for now in [4_000, 8_000, 12_000] {
        rig.tick_to(now);
        rig.hear(Down::Ping { term: 10, may_speak: MAY_SPEAK, lease: None });
    }
    assert!(rig.dropped.is_empty());
    assert_eq!(rig.holder.age(rig.clock()), Some(0));
}

#[test]
pub(crate) fn term_a_lower_one_than_stored_is_never_listened_to() {
    let mut rig = Rig::synced(false);
    let lower = Why::LowerTerm { theirs: 9, ours: 10 };
    rig.welcome(9);
    assert_eq!(rig.dropped.as_slice(), std::slice::from_ref(&lower));

    let mut restarted = Rig::restarted(false, rig.stored());
    restarted.welcome(9);
    assert_eq!(restarted.dropped, [lower], "not after a restart either");
    restarted.welcome(10);
    restarted.hear(Down::Ping { term: 9, may_speak: MAY_SPEAK, lease: None });
    assert_eq!(restarted.dropped.len(), 2, "nor in a ping");
}

#[test]
pub(crate) fn term_a_hello_shows_the_last_welcome_and_a_higher_ping_counts_too() {
    let mut rig = Rig::synced(false);
    rig.hear(Down::Ping { term: 12, may_speak: MAY_SPEAK, lease: None });
    rig.step(Input::Disconnected);
    rig.step(Input::Connected);
    let Some(Up::Hello(hello)) = rig.sent.last() else {
        panic!("a hello");
    };
    assert_eq!(hello.term, Some((10, Seal("term:10".into()))));
    rig.welcome(11);
    assert_eq!(rig.dropped, [Why::LowerTerm { theirs: 11, ours: 12 }]);
}

#[test]
fn term_nothing_is_applied_before_it_is_on_disk() {
    let mut rig = Rig::new(false);
    rig.disk = None;
    rig.welcome(10);
    rig.put("a", 5, "one");
    rig.mark();
    assert_eq!(rig.ask(&[]), Answer::NotYet(NotYet::NeverSynced));
    rig.disk = Some(Ok(()));
    rig.step(Input::Persisted(Ok(())));
    assert_eq!(names(&rig.ask(&[])), ["a"]);
    assert!(rig.sent.contains(&Up::Applied { revision: 1 }));
}

#[test]
fn a_batch_becomes_visible_at_its_mark_and_not_before() {
    let mut rig = Rig::synced(false);
    rig.put("a", 5, "one");
    rig.put("b", 5, "one");
    assert!(names(&rig.ask(&[])).is_empty());
    rig.mark();
    assert_eq!(names(&rig.ask(&[])), ["a", "b"]);
}

#[test]
fn a_mark_that_does_not_fit_applies_nothing_and_leaves() {
    for (count, digest) in [(1, "another"), (2, "")] {
        let mut rig = Rig::synced(false);
        rig.put("a", 5, "one");
        let digest = if digest.is_empty() { rig.mirror.digest() } else { digest.to_owned() };
        rig.hear(Down::Mark { revision: 9, count, digest });
        assert_eq!(rig.dropped, [Why::Mismatch { revision: 9 }]);
        assert!(names(&rig.ask(&[])).is_empty());
    }
}

#[test]
pub(crate) fn keep_and_final_show_in_the_next_hello() {
    let mut rig = Rig::synced(false);
    rig.put("kept", 9, "one");
    rig.put("ended", 5, "one");
    rig.delete("ended", 7);
    rig.mark();
    // A leader that reads an old slice.
    rig.mirror = Rows::default();
    rig.hear(Down::Delete { name: "kept".into(), epoch: 8 });
    rig.hear(Down::Put(put("ended", 6, "two")));
    rig.mark();
    assert_eq!(rig.dropped.len(), 1, "its digest is another");
    assert_eq!(names(&rig.ask(&[])), ["kept"]);
    rig.step(Input::Connected);
    let Some(Up::Hello(hello)) = rig.sent.last() else {
        panic!("a hello");
    };
    let kept: Vec<(&str, u64)> = told(&hello.held);
    assert_eq!(kept, [("kept", 9)]);
    assert_eq!(told(&hello.stopped), [("ended", 5)]);
}

fn told(held: &[Held]) -> Vec<(&str, u64)> {
    held.iter().map(|held| (held.name.as_str(), held.epoch)).collect()
}

#[test]
pub(crate) fn report_a_hello_says_what_is_served_with_its_grant_and_what_runs() {
    let mut rig = Rig::synced(true);
    rig.put("a", 5, "one");
    rig.mark();
    rig.read("boot", &["a", "x"]);
    rig.step(Input::Disconnected);
    rig.step(Input::Connected);
    let Some(Up::Hello(hello)) = rig.sent.last() else {
        panic!("a hello");
    };
    let held: Vec<_> = hello.held.iter().map(|held| (held.name.as_str(), held.epoch, held.grant.0.as_str())).collect();
    assert_eq!(held, [("a", 5, "a:5")]);
    let runs = hello.runs.as_ref().unwrap();
    assert_eq!(runs.keys().collect::<Vec<_>>(), ["a", "x"]);
}

#[test]
pub(crate) fn report_what_it_runs_is_unknown_until_a_whole_cycle_or_a_reading() {
    let mut cycle = Rig::synced(false);
    cycle.put("a", 5, "one");
    cycle.mark();
    cycle.poll();
    cycle.poll();
    assert_eq!(cycle.holder.runs(), None);
    cycle.step(Input::Connected);
    assert!(matches!(cycle.sent.last(), Some(Up::Hello(hello)) if hello.runs.is_none()), "unknown, not nothing");
    cycle.welcome(10);
    cycle.mark();
    cycle.poll();
    let runs = BTreeMap::from([("a".to_owned(), Run::Capture)]);
    assert_eq!(cycle.holder.runs(), Some(runs.clone()));
    let set = Up::Runs { set: runs, gone: vec![] };
    assert!(cycle.sent.contains(&set));

    let mut reading = Rig::synced(true);
    reading.read("boot", &["x"]);
    let told = reading
        .sent
        .iter()
        .any(|up| matches!(up, Up::Runs { set, .. } if set.keys().eq(["x"].map(str::to_owned).iter())));
    assert!(told, "{:?}", reading.sent);
}

#[test]
pub(crate) fn report_of_an_empty_replica_waits_for_the_first_reading_of_its_streamer() {
    let hello_of = |rig: &Rig| match rig.sent.last() {
        Some(Up::Hello(hello)) => Some(hello.runs.clone()),
        _ => None,
    };
    let mut read = Rig::new(true);
    assert_eq!(read.tick_to(10), [Effect::ReadApi]);
    read.step(Input::Connected);
    assert_eq!(hello_of(&read), None, "the leader would mark the replica complete");
    let runs = BTreeMap::from([("a".to_owned(), Run::Capture)]);
    let (external, load) = (External::Untold, Load::default());
    read.step(Input::ApiRead(Ok(Reading { id: "boot".into(), runs: runs.clone(), external, load })));
    assert_eq!(hello_of(&read), Some(Some(runs)));

    let mut hung = Rig::new(true);
    assert_eq!(hung.tick_to(10), [Effect::ReadApi]);
    hung.step(Input::Connected);
    hung.tick_to(2_009);
    assert_eq!(hello_of(&hung), None);
    hung.tick_to(2_010);
    assert_eq!(hello_of(&hung), Some(None), "one that hangs is not waited for");
}

#[test]
fn report_an_api_that_fails_later_leaves_what_was_known() {
    let mut rig = Rig::synced(true);
    rig.read("boot", &["x"]);
    rig.tick_to(rig.now + 3_000);
    rig.step(Input::ApiRead(Err("refused".into())));
    assert!(rig.holder.runs().unwrap().contains_key("x"));
    assert_eq!(rig.holder.watch.api, ApiState::Down);
}

/// What it says of its streamer's last request, each time that it lives.
fn polled(rig: &mut Rig) -> Vec<Option<u64>> {
    let said = std::mem::take(&mut rig.sent).into_iter();
    said.filter_map(|up| if let Up::Alive { polled, .. } = up { Some(polled) } else { None }).collect()
}

#[test]
fn one_that_waits_for_its_name_says_that_it_lives() {
    let mut rig = Rig::new(false);
    rig.step(Input::Connected);
    rig.tick_to(1_500);
    assert_eq!(polled(&mut rig), [], "not before it is answered");
    rig.hear(Down::Wait {});
    rig.ask(&[]);
    rig.tick_to(1_700);
    assert_eq!(polled(&mut rig), [Some(200)]);
}

#[test]
fn one_that_waits_for_its_name_gives_nothing_of_what_may_be_a_copy() {
    let mut first = Rig::synced(false);
    first.put("a", 1, "a");
    first.mark();
    let stored = Stored { rows: first.holder.rows().clone(), meta: first.holder.meta().clone() };
    let mut copy = Rig::restarted(false, stored);
    copy.step(Input::Connected);
    copy.hear(Down::Wait {});
    for now in [5_000, 20_000] {
        copy.tick_to(now);
        assert_eq!(copy.ask(&[]), Answer::NotYet(NotYet::Contested), "whether the leader is still there or not");
        copy.step(Input::Disconnected);
    }
    copy.welcome(10);
    copy.mark();
    assert_eq!(names(&copy.ask(&[])), ["a"]);
}

#[test]
fn its_own_freeze_is_not_the_streamers_silence() {
    let mut rig = Rig::synced(false);
    rig.poll();
    for now in [2_000, 3_000] {
        rig.tick_to(now);
        rig.hear(Down::Ping { term: 10, may_speak: 10_000, lease: None });
    }
    rig.sent.clear();
    rig.tick_to(7_000);
    assert_eq!(polled(&mut rig), [Some(1_999)]);
    rig.hear(Down::Ping { term: 10, may_speak: 10_000, lease: None });
    rig.poll();
    rig.tick_to(9_000);
    assert_eq!(polled(&mut rig), [Some(1_000)]);
}

#[test]
fn a_superseded_sidecar_serves_nobody_and_ends() {
    let mut rig = Rig::synced(false);
    rig.hear(Down::Superseded {});
    assert_eq!((rig.exits, rig.dropped.as_slice()), (1, &[Why::Superseded][..]));
    assert_eq!(rig.ask(&[]), Answer::NotYet(NotYet::Superseded));
}

#[test]
fn a_shutdown_says_goodbye() {
    let mut rig = Rig::synced(false);
    rig.step(Input::Shutdown);
    assert_eq!(rig.sent.last(), Some(&Up::Goodbye {}));
    assert_eq!(rig.dropped, [Why::Shutdown]);
}
