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
