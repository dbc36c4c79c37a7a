//! One bad document must freeze nobody else, and must not keep the innocent away.

use std::collections::BTreeMap;

use super::{Rig, names};
use crate::frames::{Load, Up};
use crate::holder::answer::Answer;
use crate::holder::step::Input;
use crate::holder::watch::{External, Reading};

fn refused(index: Option<usize>) -> External {
    External::Error { message: "validation_error".into(), index }
}

/// The streamer reads an answer and judges it whole; `base` is where it begins to count.
fn judge(rig: &mut Rig, bad: &[&str], base: usize) {
    rig.now += 1;
    let Answer::Streams(items) = rig.ask(&[]) else {
        panic!("an answer");
    };
    let at = items.iter().position(|item| bad.iter().any(|bad| item.document.contains(bad)));
    let external = match at {
        Some(at) => refused(Some(at + base)),
        None => External::Loaded,
    };
    rig.read_with("boot", &[], external);
}

fn documents(rig: &mut Rig) -> String {
    rig.now += 1;
    match rig.ask(&[]) {
        Answer::Streams(items) => Answer::body(&items),
        Answer::NotYet(reason) => panic!("503: {reason}"),
    }
}

/// A sidecar whose three documents were accepted.
fn accepted() -> Rig {
    let mut rig = Rig::synced(true);
    rig.read("boot", &[]);
    for name in ["a", "b", "c"] {
        rig.put(name, 5, "good");
    }
    rig.mark();
    judge(&mut rig, &[], 0);
    judge(&mut rig, &[], 0);
    judge(&mut rig, &[], 0);
    rig.sent.clear();
    rig
}

#[test]
fn a_refused_document_is_served_as_last_accepted_whatever_the_base() {
    for base in [0, 1] {
        let mut rig = accepted();
        rig.put("b", 5, "wrong");
        rig.mark();
        judge(&mut rig, &["wrong"], base);
        let served = documents(&mut rig);
        assert!(!served.contains("wrong"), "base {base}: {served}");
        assert_eq!(served.matches("good").count(), 3, "base {base}: {served}");
        let told = |up: &Up| matches!(up, Up::Rejected { name, message: Some(_), .. } if name == "b");
        assert!(rig.sent.iter().any(told), "base {base}");
    }
}

#[test]
fn one_that_was_never_accepted_is_left_out() {
    let mut rig = accepted();
    rig.put("d", 5, "wrong");
    rig.mark();
    judge(&mut rig, &["wrong"], 0);
    rig.now += 1;
    assert_eq!(names(&rig.ask(&[])), ["a", "b", "c"]);
}

#[test]
fn a_new_document_clears_the_refusal() {
    let mut rig = accepted();
    rig.put("b", 5, "wrong");
    rig.mark();
    judge(&mut rig, &["wrong"], 0);
    rig.put("b", 5, "better");
    rig.mark();
    assert!(documents(&mut rig).contains("better"));
}

#[test]
fn an_error_that_is_older_than_the_remedy_sets_nobody_else_back() {
    let mut rig = accepted();
    for name in ["a", "b", "c"] {
        rig.put(name, 5, if name == "b" { "wrong" } else { "newer" });
    }
    rig.holder.answers.base = Some(0);
    rig.mark();
    judge(&mut rig, &["wrong"], 0);
    rig.read_with("boot", &[], refused(Some(1)));
    rig.read_with("boot", &[], refused(Some(1)));
    assert_eq!(documents(&mut rig).matches("newer").count(), 2);
}

/// An error is read before anybody knows which of two answers it is about: nobody of the wrong one is blamed.
#[test]
fn a_place_that_means_two_documents_blames_neither_until_it_means_one() {
    let mut rig = Rig::synced(true);
    rig.read("boot", &[]);
    for name in ["b", "c", "d"] {
        rig.put(name, 5, "good");
    }
    rig.mark();
    // Given, taken and run, but nobody has heard of it yet.
    documents(&mut rig);
    rig.put("a", 5, "wrong");
    rig.mark();
    judge(&mut rig, &["wrong"], 0);
    assert_eq!(documents(&mut rig).matches("good").count(), 3);
    judge(&mut rig, &["wrong"], 0);
    judge(&mut rig, &["wrong"], 0);
    assert_eq!(documents(&mut rig).matches("good").count(), 3, "an innocent is left out");
    assert!(!documents(&mut rig).contains("wrong"));
    let told = |up: &&Up| matches!(up, Up::Rejected { message: Some(_), .. });
    let told: Vec<_> = rig.sent.iter().filter(told).collect();
    assert!(matches!(told[..], [Up::Rejected { name, .. }] if name == "a"), "{told:?}");
}

#[test]
fn answers_that_change_with_every_poll_hold_nobody_up_for_ever() {
    let mut rig = Rig::synced(true);
    rig.read("boot", &[]);
    rig.put("z", 5, "wrong");
    rig.mark();
    for number in 10..40 {
        rig.put(&format!("a{number}"), 5, "good");
        rig.mark();
        judge(&mut rig, &["wrong"], 0);
    }
    for _ in 0..30 {
        judge(&mut rig, &["wrong"], 0);
    }
    let served = documents(&mut rig);
    assert!(!served.contains("wrong"), "{served}");
    assert_eq!(served.matches("good").count(), 30, "{served}");
}

#[test]
fn a_stream_that_runs_unjudged_goes_on_when_its_next_document_is_refused() {
    let mut rig = Rig::synced(true);
    rig.read("boot", &[]);
    rig.put("a", 5, "good");
    rig.mark();
    documents(&mut rig);
    rig.put("a", 5, "wrong");
    rig.mark();
    judge(&mut rig, &["wrong"], 0);
    judge(&mut rig, &["wrong"], 0);
    assert!(documents(&mut rig).contains("good"));
}

#[test]
fn two_refused_documents_in_a_row_leave_nothing_to_serve() {
    let mut rig = accepted();
    rig.put("d", 5, "wrong first");
    rig.mark();
    documents(&mut rig);
    rig.put("d", 5, "wrong second");
    rig.mark();
    for _ in 0..6 {
        judge(&mut rig, &["wrong"], 0);
    }
    let served = documents(&mut rig);
    assert!(!served.contains("wrong"), "{served}");
    assert_eq!(served.matches("good").count(), 3, "{served}");
}

/// Whatever is new at once, wherever it counts from: in the end only the bad ones are set back.
#[test]
fn the_innocent_come_back() {
    for base in [0, 1] {
        for index in [true, false] {
            for bad in [vec!["a"], vec!["b"], vec!["c", "d"], vec!["a", "f"]] {
                let mut rig = Rig::synced(true);
                rig.read("boot", &[]);
                for name in ["a", "b", "c", "d", "e", "f"] {
                    let text = if bad.contains(&name) { "wrong" } else { "good" };
                    rig.put(name, 5, text);
                }
                rig.mark();
                for _ in 0..40 {
                    if index {
                        judge(&mut rig, &["wrong"], base);
                        continue;
                    }
                    let wrong = documents(&mut rig).contains("wrong");
                    let external = if wrong { refused(None) } else { External::Loaded };
                    rig.read_with("boot", &[], external);
                }
                let served = documents(&mut rig);
                let case = format!("base {base}, index {index}, bad {bad:?}: {served}");
                assert!(!served.contains("wrong"), "{case}");
                assert_eq!(served.matches("good").count(), 6 - bad.len(), "{case}");
            }
        }
    }
}

#[test]
fn a_refusal_outlives_a_reconnection() {
    let mut rig = accepted();
    rig.put("b", 5, "wrong");
    rig.mark();
    judge(&mut rig, &["wrong"], 0);
    rig.sent.clear();
    rig.welcome(11);
    let told = |up: &Up| matches!(up, Up::Rejected { name, .. } if name == "b");
    assert!(rig.sent.iter().any(told));
}

#[test]
fn a_reading_that_may_be_older_than_the_answer_accepts_nothing() {
    let mut rig = accepted();
    rig.put("b", 5, "wrong");
    rig.mark();
    rig.now += 1;
    rig.ask(&[]);
    rig.tick_to(rig.now + 3_000);
    rig.now += 1;
    rig.ask(&[]);
    rig.step(Input::ApiRead(Ok(reading(External::Loaded))));
    judge(&mut rig, &["wrong"], 0);
    assert!(!documents(&mut rig).contains("wrong"));
}

fn reading(external: External) -> Reading {
    Reading { id: "boot".into(), runs: BTreeMap::new(), external, load: Load::default() }
}
