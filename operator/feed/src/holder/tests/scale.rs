//! Thousands of streams at once.

use super::{Rig, put};
use crate::frames::{Down, Up};
use crate::holder::rows::{Edit, Outcome};
use crate::holder::step::{Effect, Input};
use crate::holder::watch::{External, Reading};

const MANY: usize = 20_000;

fn name(number: usize) -> String {
    format!("mylive/stream-{number:05}")
}

/// A drain: each stream is released, once, and in one step.
#[test]
fn a_drain_of_many_streams_is_released_whole() {
    let mut rig = Rig::synced(true);
    let all: Vec<String> = (0..MANY).map(name).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for name in &all {
        rig.put(name, 5, "one");
    }
    rig.mark();
    rig.poll();
    rig.read("boot", &all);
    rig.poll();
    rig.read("boot", &all);
    for name in &all {
        rig.delete(name, 7);
    }
    rig.mark();
    assert!(rig.poll().is_empty());
    rig.sent.clear();
    rig.read("boot", &[]);
    let released = rig.released();
    assert_eq!(released.len(), MANY);
    assert!(released.iter().zip(&all).all(|((released, epoch), name)| (released.as_str(), *epoch) == (*name, 7)));
}

/// Whatever is known of the streamer, asking for one name gives what the whole report would.
#[test]
fn what_may_be_running_is_what_the_report_does_not_deny() {
    for api in [true, false] {
        let mut rig = Rig::synced(api);
        rig.put("given", 5, "one");
        rig.mark();
        for round in 0..6 {
            for name in ["given", "other", "shown"] {
                let told = rig.holder.runs().is_none_or(|runs| runs.contains_key(name));
                assert_eq!(rig.holder.may_be_running(name), told, "{name} in round {round}");
            }
            rig.poll();
            if api && round > 2 {
                rig.read("boot", &["shown"]);
            }
        }
    }
}

/// How often the API is read in `time` ms, while it shows `running` and the leader pings.
fn readings(rig: &mut Rig, time: u64, running: &str) -> usize {
    let mut count = 0;
    for _ in 0..time / 100 {
        let begun = rig.tick_to(rig.now + 100);
        if begun.contains(&Effect::ReadApi) {
            count += 1;
            let runs = [(running.to_owned(), crate::frames::Run::Capture)].into();
            let load = crate::frames::Load::default();
            let reading = Reading { id: "boot".into(), runs, external: External::Untold, load };
            rig.step(Input::ApiRead(Ok(reading)));
        }
        rig.ping();
    }
    count
}

#[test]
fn a_streamer_that_never_lets_go_is_not_read_eagerly_for_ever() {
    let mut rig = Rig::synced(true);
    rig.put("a", 5, "one");
    rig.mark();
    rig.poll();
    readings(&mut rig, 10_000, "a");
    rig.delete("a", 7);
    rig.mark();
    assert!(readings(&mut rig, 6_000, "a") >= 9, "soon after a delete it is read often");
    assert_eq!(readings(&mut rig, 30_000, "a"), 10, "then once a poll");
    rig.poll();
    assert!(readings(&mut rig, 6_000, "a") >= 9, "the answer that leaves it out is news");
    let mut count = 0;
    for _ in 0..10 {
        rig.poll();
        count += readings(&mut rig, 2_900, "a");
    }
    assert!(count <= 14, "the same answer again is none: {count}");
    rig.sent.clear();
    readings(&mut rig, 3_000, "another");
    assert!(rig.sent.contains(&Up::Released { name: "a".into(), epoch: 7 }));
}

#[test]
fn a_batch_of_puts_and_deletes_forgets_no_more_than_it_must() {
    let mut rig = Rig::synced(false);
    for number in 0..crate::holder::rows::MAX_STOPPED + 5 {
        let put = put(&name(number), 5 + number as u64, "one");
        let delete = Edit::Delete { name: put.name.clone(), epoch: 5 + number as u64 };
        rig.mirror.apply(Edit::Put(put.clone()), &mut Outcome::default());
        rig.mirror.apply(delete, &mut Outcome::default());
        rig.hear(Down::Put(put.clone()));
        rig.hear(Down::Delete { name: put.name, epoch: put.epoch });
    }
    rig.mark();
    let stopped = rig.holder.rows.stopped();
    assert_eq!(stopped.len(), crate::holder::rows::MAX_STOPPED);
    assert_eq!(stopped.first_key_value().unwrap().0, &name(5));
}
