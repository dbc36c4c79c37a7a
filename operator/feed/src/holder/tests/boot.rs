//! **Boot**: what a streamer captures before it is answered is said, and it is answered when that was seen.

use std::collections::BTreeMap;

use super::{Rig, names};
use crate::frames::{Load, Run, Up};
use crate::holder::answer::{Answer, Request};
use crate::holder::step::{Effect, Input};
use crate::holder::watch::{External, Reading};

/// A sidecar whose streamer captures `a`, and then is not there any more.
fn gone() -> Rig {
    let mut rig = Rig::synced(true);
    rig.put("a", 5, "one");
    rig.mark();
    rig.read("start-1", &[]);
    rig.poll();
    rig.read("start-1", &["a"]);
    assert_eq!(rig.tick_to(rig.now + 3_000), [Effect::ReadApi]);
    assert_eq!(cannot_be_read(&mut rig), []);
    rig.ping();
    rig
}

fn cannot_be_read(rig: &mut Rig) -> Vec<Effect> {
    rig.step(Input::ApiRead(Err("refused".into())))
}

fn is_read(rig: &mut Rig, id: &str, runs: &[&str]) -> Vec<Effect> {
    let runs: BTreeMap<_, _> = runs.iter().map(|name| ((*name).to_owned(), Run::Capture)).collect();
    rig.step(Input::ApiRead(Ok(Reading { id: id.into(), runs, external: External::Untold, load: Load::default() })))
}

fn asks(rig: &mut Rig, number: u64) -> Vec<Effect> {
    rig.step(Input::Asked { number, request: Request::All, host: None })
}

/// The numbers of the requests that these answer, each with the names it got.
fn answered(effects: &[Effect]) -> Vec<(u64, Vec<String>)> {
    let of = |effect: &Effect| match effect {
        Effect::Answer { number, answer } => Some((*number, names(answer))),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}

/// What the leader was told last.
fn said(rig: &mut Rig) -> Option<u64> {
    rig.now += 1_000;
    rig.ping();
    rig.step(Input::Tick);
    rig.sent.iter().rev().find_map(|up| match up {
        Up::Alive { lease, .. } => lease.map(|lease| lease.boots_with),
        _ => None,
    })?
}

#[test]
pub(crate) fn boot_what_a_streamer_captures_before_it_is_answered_is_said() {
    let mut rig = gone();
    assert_eq!(said(&mut rig), None, "it ran before this sidecar did");
    is_read(&mut rig, "start-2", &["a", "b"]);
    assert_eq!(said(&mut rig), Some(2));
    rig.poll();
    rig.read("start-2", &["a"]);
    assert_eq!(said(&mut rig), Some(2), "until it starts with none");
    rig.tick_to(rig.now + 3_000);
    cannot_be_read(&mut rig);
    rig.ping();
    rig.tick_to(rig.now + 600);
    is_read(&mut rig, "start-3", &[]);
    assert_eq!(said(&mut rig), Some(0));
    // It was killed and started again within the time between two readings.
    rig.poll();
    rig.read("start-4", &["a"]);
    assert_eq!(said(&mut rig), Some(0), "of this start nothing is known");
}

#[test]
pub(crate) fn boot_a_streamer_that_is_back_is_read_before_it_is_answered() {
    let mut rig = gone();
    assert_eq!(asks(&mut rig, 7), [Effect::ReadApi], "at once, and no answer yet");
    assert_eq!(asks(&mut rig, 8), []);
    let after = is_read(&mut rig, "start-2", &["a", "b"]);
    assert_eq!(answered(&after), [(7, vec!["a".to_owned()]), (8, vec!["a".to_owned()])]);
    assert_eq!(said(&mut rig), Some(2));
    assert_eq!(answered(&asks(&mut rig, 9)).len(), 1, "it is there");
}

#[test]
fn boot_a_reading_that_was_begun_before_the_streamer_was_there_is_followed_by_another() {
    let mut rig = gone();
    assert_eq!(rig.tick_to(rig.now + 600), [Effect::ReadApi]);
    rig.now += 10;
    assert_eq!(asks(&mut rig, 7), [], "one is under way");
    rig.now += 10;
    assert_eq!(cannot_be_read(&mut rig), [Effect::ReadApi]);
    assert_eq!(answered(&is_read(&mut rig, "start-2", &["b"])).len(), 1);
    assert_eq!(said(&mut rig), Some(1));
}

#[test]
fn boot_a_streamer_whose_api_fails_or_hangs_is_answered_all_the_same() {
    let mut rig = gone();
    assert_eq!(asks(&mut rig, 7), [Effect::ReadApi]);
    assert_eq!(answered(&cannot_be_read(&mut rig)).len(), 1);
    assert_eq!(answered(&asks(&mut rig, 8)).len(), 1, "it has waited once");

    let mut rig = gone();
    assert_eq!(asks(&mut rig, 7), [Effect::ReadApi]);
    assert_eq!(rig.tick_to(rig.now + 599), []);
    assert_eq!(answered(&rig.tick_to(rig.now + 1)).len(), 1);
    assert_eq!(answered(&asks(&mut rig, 8)).len(), 1);
    is_read(&mut rig, "start-2", &["a"]);
    assert_eq!(said(&mut rig), None, "it was answered before: that is not what it boots with");
}

#[test]
fn boot_an_api_that_fails_at_first_makes_no_start_of_a_streamer_that_runs() {
    let mut rig = Rig::synced(true);
    rig.put("a", 5, "one");
    rig.mark();
    assert_eq!(rig.tick_to(rig.now), [Effect::ReadApi]);
    cannot_be_read(&mut rig);
    assert_eq!(asks(&mut rig, 7), [Effect::ReadApi]);
    assert_eq!(answered(&cannot_be_read(&mut rig)).len(), 1);
    rig.ping();
    assert_eq!(rig.tick_to(rig.now + 3_000), [Effect::ReadApi]);
    cannot_be_read(&mut rig);
    rig.ping();
    rig.tick_to(rig.now + 600);
    is_read(&mut rig, "start-1", &["a"]);
    assert_eq!(said(&mut rig), None);
}

#[test]
fn boot_somebody_else_who_asks_while_the_streamer_is_away_does_not_use_its_wait_up() {
    let mut rig = gone();
    assert_eq!(asks(&mut rig, 7), [Effect::ReadApi]);
    assert_eq!(answered(&cannot_be_read(&mut rig)).len(), 1);
    for _ in 0..10 {
        rig.tick_to(rig.now + 1_000);
        cannot_be_read(&mut rig);
        rig.ping();
    }
    assert_eq!(asks(&mut rig, 8), [Effect::ReadApi], "it is back");
    assert_eq!(answered(&is_read(&mut rig, "start-2", &["b"])).len(), 1);
    assert_eq!(said(&mut rig), Some(1));
}

#[test]
fn boot_a_503_changes_nothing_on_a_streamer_so_what_it_captures_after_one_it_has_booted_with() {
    let mut rig = Rig::new(true);
    assert_eq!(rig.tick_to(1), [Effect::ReadApi]);
    cannot_be_read(&mut rig);
    assert_eq!(asks(&mut rig, 7), [Effect::ReadApi]);
    let refused = cannot_be_read(&mut rig);
    assert!(matches!(refused[..], [Effect::Answer { number: 7, answer: Answer::NotYet(_) }]), "{refused:?}");
    rig.tick_to(rig.now + 600);
    is_read(&mut rig, "start-1", &["a"]);
    rig.welcome(10);
    assert_eq!(said(&mut rig), Some(1));
}
