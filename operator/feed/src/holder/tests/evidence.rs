//! **Evidence** and **Released**.

use super::{Rig, names};
use crate::frames::{Run, Up};
use crate::holder::answer::Request;
use crate::holder::step::{Effect, Input};
use crate::holder::watch::{External, Reading};

/// A sidecar whose streamer captures `a`.
fn capturing(api: bool) -> Rig {
    let mut rig = Rig::synced(api);
    rig.put("a", 5, "one");
    rig.mark();
    if api {
        rig.read("boot", &[]);
        rig.poll();
        rig.read("boot", &["a"]);
    } else {
        rig.poll();
    }
    rig.sent.clear();
    rig
}

fn released(rig: &mut Rig) -> Vec<(String, u64)> {
    rig.released()
}

fn said(epoch: u64) -> Vec<(String, u64)> {
    vec![("a".to_owned(), epoch)]
}

#[test]
pub(crate) fn evidence_with_an_api_is_an_answer_without_the_stream_and_a_reading_after_it() {
    let mut rig = capturing(true);
    rig.delete("a", 7);
    rig.mark();
    rig.read("boot", &[]);
    assert!(
        released(&mut rig).is_empty(),
        "not running, but not told either: it may have an answer with the stream in hand"
    );
    rig.poll();
    rig.read("boot", &["a"]);
    assert!(released(&mut rig).is_empty(), "told, and still running");
    rig.read("boot", &[]);
    assert_eq!(released(&mut rig), said(7));
    rig.poll();
    rig.read("boot", &[]);
    assert!(released(&mut rig).is_empty(), "once per delete");
}

#[test]
pub(crate) fn evidence_is_no_reading_that_was_begun_before_the_answer() {
    let mut rig = capturing(true);
    rig.delete("a", 7);
    rig.mark();
    assert_eq!(rig.tick_to(rig.now + 3_000), [Effect::ReadApi]);
    rig.poll();
    rig.step(Input::ApiRead(Ok(Reading {
        id: "boot".into(),
        runs: std::collections::BTreeMap::default(),
        external: External::Untold,
        load: crate::frames::Load::default(),
    })));
    assert!(released(&mut rig).is_empty());
}

#[test]
pub(crate) fn evidence_begins_again_with_a_streamer_that_was_started_anew() {
    let mut rig = capturing(true);
    rig.delete("a", 7);
    rig.mark();
    rig.poll();
    // It boots with its old configuration: what it does after its first poll is what counts.
    rig.read("second boot", &[]);
    assert!(released(&mut rig).is_empty());
    rig.read("second boot", &[]);
    assert!(released(&mut rig).is_empty(), "it has not asked yet");
    rig.poll();
    rig.read("second boot", &[]);
    assert_eq!(released(&mut rig), said(7));
}

#[test]
pub(crate) fn evidence_is_no_api_that_cannot_be_read() {
    let mut rig = capturing(true);
    rig.delete("a", 7);
    rig.mark();
    for _ in 0..10 {
        rig.tick_to(rig.now + 3_000);
        rig.step(Input::ApiRead(Err("refused".into())));
        rig.ping();
        // The first of them waits until it was tried once more.
        rig.step(Input::Asked { number: 1, request: Request::All, host: None });
        rig.step(Input::ApiRead(Err("refused".into())));
    }
    assert!(released(&mut rig).is_empty());
}

#[test]
pub(crate) fn evidence_is_no_answer_to_one_whose_own_file_runs_it() {
    let mut rig = capturing(true);
    rig.delete("a", 7);
    rig.mark();
    rig.poll();
    assert_eq!(rig.tick_to(rig.now + 3_000), [Effect::ReadApi]);
    let runs = [("a".to_owned(), Run::Own)].into();
    rig.step(Input::ApiRead(Ok(Reading {
        id: "boot".into(),
        runs,
        external: External::Untold,
        load: crate::frames::Load::default(),
    })));
    assert!(!rig.sent.iter().any(|up| matches!(up, Up::Released { .. })));
    let told = |up: &Up| matches!(up, Up::Runs { set, .. } if set.get("a") == Some(&Run::Own));
    assert!(rig.sent.iter().any(told));
}

#[test]
pub(crate) fn evidence_without_an_api_is_an_answer_to_its_name_and_a_later_poll() {
    let mut rig = capturing(false);
    rig.delete("a", 7);
    rig.mark();
    rig.poll();
    assert!(names(&rig.ask(&["a"])).is_empty());
    assert!(released(&mut rig).is_empty(), "it has read neither yet");
    rig.poll();
    assert_eq!(released(&mut rig), said(7));
}

#[test]
pub(crate) fn evidence_of_one_that_asks_by_name_is_that_it_asked_for_this_one() {
    let mut rig = capturing(false);
    rig.ask(&["b"]);
    rig.delete("a", 7);
    rig.mark();
    for _ in 0..5 {
        rig.poll();
    }
    assert!(released(&mut rig).is_empty());
    rig.ask(&["a"]);
    rig.poll();
    assert_eq!(released(&mut rig), said(7));
}

#[test]
pub(crate) fn evidence_of_one_that_never_asks_by_name_is_two_more_polls() {
    let mut rig = capturing(false);
    rig.delete("a", 7);
    rig.mark();
    rig.poll();
    rig.poll();
    assert!(released(&mut rig).is_empty());
    rig.poll();
    assert_eq!(released(&mut rig), said(7));
}

#[test]
pub(crate) fn evidence_of_before_a_503_counts_no_more() {
    let mut rig = capturing(false);
    rig.delete("a", 7);
    rig.mark();
    rig.poll();
    rig.poll();
    rig.hold("h", 8);
    rig.mark();
    rig.ask(&["h"]);
    rig.delete("h", 8);
    rig.mark();
    rig.released();
    // It has asked by name now, so its own name must be answered.
    rig.poll();
    assert!(released(&mut rig).is_empty());
    rig.ask(&["a"]);
    assert!(released(&mut rig).is_empty());
    rig.poll();
    assert_eq!(released(&mut rig).first(), Some(&("a".to_owned(), 7)));
}

#[test]
pub(crate) fn evidence_of_an_answer_before_a_503_needs_another_answer() {
    let mut rig = capturing(true);
    rig.delete("a", 7);
    rig.mark();
    rig.poll();
    rig.hold("h", 8);
    rig.mark();
    rig.ask(&["h"]);
    rig.read("boot", &[]);
    assert!(released(&mut rig).is_empty());
    rig.poll();
    rig.read("boot", &[]);
    assert_eq!(released(&mut rig), said(7));
}

#[test]
pub(crate) fn evidence_is_no_silence() {
    let mut rig = capturing(false);
    rig.delete("a", 7);
    rig.mark();
    for _ in 0..20 {
        rig.tick_to(rig.now + 1_000);
        rig.ping();
    }
    assert!(released(&mut rig).is_empty());
}

#[test]
fn released_waits_for_the_deletion_to_be_on_disk() {
    let mut rig = capturing(false);
    rig.disk = Some(Err("disk full".into()));
    rig.delete("a", 7);
    rig.mark();
    rig.poll();
    rig.poll();
    rig.poll();
    assert!(released(&mut rig).is_empty());
    rig.disk = Some(Ok(()));
    rig.ping();
    rig.tick_to(rig.now + 3_000);
    assert_eq!(released(&mut rig), said(7));
}

#[test]
fn released_is_said_again_to_who_asks_again() {
    let mut rig = capturing(false);
    rig.delete("a", 7);
    rig.mark();
    rig.poll();
    rig.step(Input::Disconnected);
    rig.poll();
    rig.poll();
    rig.sent.clear();
    rig.welcome(11);
    rig.mark();
    assert!(released(&mut rig).is_empty(), "it was not asked");
    rig.delete("a", 9);
    rig.mark();
    assert_eq!(released(&mut rig), said(9), "nothing was served since");
}

#[test]
fn released_follows_at_once_where_the_streamer_is_known_not_to_run_it() {
    let mut rig = Rig::synced(true);
    rig.delete("a", 7);
    rig.mark();
    assert!(released(&mut rig).is_empty(), "what it runs is not known");
    rig.poll();
    rig.read("boot", &["other"]);
    rig.delete("b", 7);
    rig.mark();
    assert!(released(&mut rig).is_empty(), "it may have booted since: this start of it has not been answered yet");
    rig.poll();
    rig.read("boot", &["other"]);
    assert_eq!(released(&mut rig), [("a".to_owned(), 7), ("b".to_owned(), 7)]);
    rig.delete("c", 7);
    rig.mark();
    assert_eq!(released(&mut rig), [("c".to_owned(), 7)]);
    rig.delete("other", 7);
    rig.mark();
    assert!(released(&mut rig).is_empty());
}

#[test]
fn a_whole_cycle_proves_what_was_never_given_and_never_asked_for() {
    let mut rig = Rig::synced(false);
    rig.delete("a", 7);
    rig.mark();
    rig.ask(&["b"]);
    rig.poll();
    rig.poll();
    assert!(released(&mut rig).is_empty());
    rig.poll();
    assert_eq!(released(&mut rig), said(7));
}

#[test]
fn a_stream_that_is_put_again_is_not_released() {
    let mut rig = capturing(false);
    rig.delete("a", 7);
    rig.mark();
    rig.poll();
    rig.put("a", 8, "one");
    rig.mark();
    for _ in 0..5 {
        assert_eq!(rig.poll(), ["a"]);
    }
    assert!(released(&mut rig).is_empty());
}

#[test]
fn a_streamer_that_asks_no_more_proves_nothing_at_once() {
    let mut rig = capturing(true);
    for _ in 0..4 {
        rig.read("boot", &["a"]);
    }
    rig.delete("b", 7);
    rig.mark();
    assert!(released(&mut rig).is_empty());
}

#[test]
fn a_streamer_may_end_when_everything_that_it_captured_has_let_go() {
    let mut rig = capturing(true);
    assert!(!rig.holder.has_let_go(), "it captures");
    rig.delete("a", 7);
    rig.mark();
    rig.poll();
    assert!(!rig.holder.has_let_go(), "it may still");
    rig.read("boot", &["a"]);
    assert!(!rig.holder.has_let_go(), "it does");
    rig.read("boot", &[]);
    assert!(rig.holder.has_let_go());
    rig.hold("b", 9);
    rig.mark();
    assert!(rig.holder.has_let_go(), "held, and not running");
    rig.read("boot", &["b"]);
    assert!(!rig.holder.has_let_go(), "it may be its own, and is left alone");
}

#[test]
fn who_does_not_know_what_its_streamer_captures_does_not_say_that_it_captures_nothing() {
    assert!(!Rig::new(false).holder.has_let_go());
    let mut rig = Rig::new(true);
    rig.read("boot", &[]);
    assert!(rig.holder.has_let_go(), "its API says so");
    assert!(Rig::synced(false).holder.has_let_go(), "it was given nothing");
}
