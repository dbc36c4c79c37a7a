//! A wiped replica: the streamer runs documents that this sidecar has never had, and one of the new ones is invalid.

use std::collections::{BTreeMap, BTreeSet};

use super::Rig;
use crate::frames::{Load, Run, Up};
use crate::holder::answer::{Answer, Item, NotYet};
use crate::holder::rows::Judged;
use crate::holder::step::{Effect, Input, Stored};
use crate::holder::watch::{External, Reading};

/// A streamer that keeps the protocol's habits: it refuses an answer whole, and stops what one leaves out.
#[derive(Clone)]
struct Streamer {
    running: BTreeMap<String, String>,
    asks_by_name: bool,
    /// Where it begins to count; `None`: its errors have no place.
    base: Option<usize>,
    /// Its API is also read while an answer is on its way to it.
    read_between: bool,
    external: External,
}

impl Streamer {
    fn new(running: &[&str], asks_by_name: bool, base: Option<usize>) -> Self {
        let running = running.iter().map(|name| ((*name).to_owned(), "earlier".to_owned())).collect();
        Self { running, asks_by_name, base, read_between: false, external: External::Loaded }
    }

    /// One poll, with the question for what runs and was not listed.
    fn cycle(&mut self, rig: &mut Rig) {
        let answer = rig.ask(&[]);
        if self.read_between {
            self.read(rig);
        }
        let Some(items) = self.take(answer) else {
            return;
        };
        let listed: BTreeSet<String> = items.iter().map(|item| item.name.clone()).collect();
        self.run(items);
        let missing: Vec<String> = self.running.keys().filter(|name| !listed.contains(*name)).cloned().collect();
        if self.asks_by_name && !missing.is_empty() {
            let asked: Vec<&str> = missing.iter().map(String::as_str).collect();
            let Some(items) = self.take(rig.ask(&asked)) else {
                return;
            };
            let found: BTreeSet<String> = items.iter().map(|item| item.name.clone()).collect();
            self.run(items);
            self.running.retain(|name, _| !missing.contains(name) || found.contains(name));
        } else {
            self.running.retain(|name, _| listed.contains(name));
        }
    }

    /// The streams of an answer that it takes.
    fn take(&mut self, answer: Answer) -> Option<Vec<Item>> {
        let Answer::Streams(items) = answer else {
            self.external = External::NotFetched { message: "unavailable".into(), ours: true };
            return None;
        };
        if let Some(at) = items.iter().position(|item| item.document.contains("wrong")) {
            let index = self.base.map(|base| at + base);
            self.external = External::Error { message: "validation_error".into(), index };
            return None;
        }
        self.external = External::Loaded;
        Some(items)
    }

    fn run(&mut self, items: Vec<Item>) {
        self.running.extend(items.into_iter().map(|item| (item.name, item.document.to_string())));
    }

    fn names(&self) -> Vec<&str> {
        self.running.keys().map(String::as_str).collect()
    }

    /// What it thinks and runs now is read.
    fn read(&self, rig: &mut Rig) {
        let begun = rig.tick_to(rig.now + 3_000);
        assert!(begun.contains(&Effect::ReadApi));
        let runs = self.running.keys().map(|name| (name.clone(), Run::Capture)).collect();
        let external = self.external.clone();
        rig.step(Input::ApiRead(Ok(Reading { id: "boot".into(), runs, external, load: Load::default() })));
        rig.ping();
    }

    fn cycles(&mut self, rig: &mut Rig, count: usize) {
        let before: Vec<String> = self.running.keys().cloned().collect();
        for cycle in 0..count {
            rig.now += 1;
            self.cycle(rig);
            self.read(rig);
            for name in &before {
                assert!(self.running.contains_key(name), "{name} is stopped in cycle {cycle}");
            }
        }
    }
}

const ALL: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A sidecar that was wiped, and filled anew; `asked`: the streamer has asked it by name once.
fn wiped(bad: &[&str], asked: bool) -> Rig {
    let mut rig = Rig::synced(true);
    if asked {
        rig.ask(&["elsewhere"]);
    }
    for name in ALL {
        rig.put(name, 5, if bad.contains(&name) { "wrong" } else { "good" });
    }
    rig.mark();
    rig
}

fn certain(rig: &Rig) -> BTreeSet<&str> {
    let rows = rig.holder.rows.all().iter();
    let certain = rows.filter(|(_, row)| matches!(row.judged, Judged::Refused { certain: true, .. }));
    certain.map(|(name, _)| name.as_str()).collect()
}

/// Every set of invalid documents, running or not, however errors name them.
fn cases() -> impl Iterator<Item = (Vec<&'static str>, Vec<&'static str>, Option<usize>)> {
    let bad = [vec![], vec!["a"], vec!["c"], vec!["f"], vec!["b", "c"], vec!["a", "f"], vec!["a", "c", "e"]];
    let running = [vec![], vec!["c"], vec!["a", "b", "c"], vec!["a", "c", "e", "f"], ALL.to_vec()];
    bad.into_iter().flat_map(move |bad| {
        running.clone().into_iter().flat_map(move |running| {
            let bad = bad.clone();
            [None, Some(0), Some(1)].into_iter().map(move |base| (bad.clone(), running.clone(), base))
        })
    })
}

#[test]
fn nothing_that_runs_is_stopped_and_the_innocent_come_through() {
    for (number, (bad, running, base)) in cases().enumerate() {
        let mut rig = wiped(&bad, true);
        let mut streamer = Streamer::new(&running, true, base);
        streamer.read_between = number % 2 == 0;
        let case = format!("bad {bad:?}, running {running:?}, base {base:?}, between {}", streamer.read_between);
        streamer.cycles(&mut rig, 60);
        for name in ALL {
            let runs = streamer.running.get(name).map(String::as_str);
            if bad.contains(&name) {
                assert_eq!(runs, running.contains(&name).then_some("earlier"), "{name}: {case}");
            } else {
                assert!(runs.is_some_and(|runs| runs.contains("good")), "{name} is {runs:?}: {case}");
            }
        }
        assert_eq!(certain(&rig), bad.iter().copied().collect(), "{case}");
    }
}

#[test]
fn a_streamer_that_never_asks_by_name_keeps_what_runs_and_comes_through_once_it_is_corrected() {
    for (number, (bad, running, base)) in cases().enumerate() {
        let mut rig = wiped(&bad, false);
        let mut streamer = Streamer::new(&running, false, base);
        streamer.read_between = number % 2 == 0;
        let case = format!("bad {bad:?}, running {running:?}, base {base:?}, between {}", streamer.read_between);
        streamer.cycles(&mut rig, 60);
        if !bad.iter().any(|name| running.contains(name)) {
            let good = ALL.iter().filter(|name| !bad.contains(name));
            assert_eq!(streamer.names(), good.copied().collect::<Vec<_>>(), "{case}");
        }
        for name in &bad {
            rig.put(name, 6, "good");
        }
        rig.mark();
        streamer.cycles(&mut rig, 20);
        assert_eq!(streamer.names(), ALL, "{case}");
        assert!(streamer.running.values().all(|document| document.contains("good")), "{case}");
    }
}

#[test]
fn a_restart_of_the_sidecar_in_the_middle_stops_nothing_either() {
    for asks_by_name in [true, false] {
        for cut in 1..8 {
            let mut rig = wiped(&["c"], asks_by_name);
            let mut streamer = Streamer::new(&ALL, asks_by_name, Some(1));
            streamer.cycles(&mut rig, cut);
            let stored = Stored { rows: rig.holder.rows.clone(), meta: rig.holder.meta.clone() };
            let mut rig = Rig::restarted(true, stored);
            rig.welcome(10);
            rig.mark();
            streamer.cycles(&mut rig, 20);
            rig.put("c", 6, "good");
            rig.mark();
            streamer.cycles(&mut rig, 20);
            let good = streamer.running.values().all(|document| document.contains("good"));
            assert!(good, "by name {asks_by_name}, cut after {cut}: {:?}", streamer.running);
        }
    }
}

#[test]
fn a_suspect_that_runs_is_503_to_its_name_and_to_a_list_that_would_stop_it() {
    let mut rig = wiped(&["c"], true);
    let mut streamer = Streamer::new(&ALL, true, Some(0));
    streamer.cycles(&mut rig, 20);
    assert_eq!(rig.ask(&["c"]), Answer::NotYet(NotYet::Refused("c".into())));
    assert_eq!(super::names(&rig.ask(&[])), ["a", "b", "d", "e", "f"]);
    let said = rig.sent.iter().rev().find_map(|up| match up {
        Up::Rejected { name, message: Some(message), .. } if name == "c" => Some(message.as_str()),
        _ => None,
    });
    assert!(said.unwrap().contains("goes on with that"), "{said:?}");

    let mut never = wiped(&["f"], false);
    Streamer::new(&ALL, false, Some(1)).cycles(&mut never, 20);
    assert_eq!(never.ask(&[]), Answer::NotYet(NotYet::Refused("f".into())));
}

/// What the streamer thought of another replica's answers says nothing of this one's.
#[test]
fn an_error_from_before_the_wipe_blames_nobody_that_runs() {
    let mut rig = wiped(&[], true);
    let mut streamer = Streamer::new(&ALL, true, Some(1));
    streamer.external = External::Error { message: "validation_error".into(), index: Some(ALL.len()) };
    rig.now += 1;
    let answer = rig.ask(&[]);
    // The answer is on its way: what is read now is older.
    streamer.read(&mut rig);
    assert_eq!(certain(&rig), BTreeSet::new());
    streamer.take(answer);
    streamer.cycles(&mut rig, 3);
    assert_eq!(streamer.names(), ALL);
    assert!(rig.holder.rows.all().values().all(|row| row.judged == Judged::Accepted));
}

#[test]
fn what_the_streamers_own_file_runs_is_not_at_stake() {
    let mut rig = Rig::synced(true);
    rig.put("a", 5, "wrong");
    rig.mark();
    let mut streamer = Streamer::new(&[], true, Some(0));
    for _ in 0..4 {
        rig.now += 1;
        streamer.take(rig.ask(&[]));
        rig.tick_to(rig.now + 3_000);
        let runs = [("a".to_owned(), Run::Own)].into();
        let external = streamer.external.clone();
        rig.step(Input::ApiRead(Ok(Reading { id: "boot".into(), runs, external, load: Load::default() })));
        rig.ping();
    }
    assert!(super::names(&rig.ask(&["a"])).is_empty());
}
