//! The sidecar's rules, each under its name, as stories of one sidecar.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::document_hash;
use crate::frames::{ApiState, Down, Held, Load, Partition, Put, Run, Up};
use crate::grant::Seal;
use crate::holder::answer::{Answer, NotYet, Request};
use crate::holder::link::Why;
use crate::holder::rows::{Edit, Outcome, Rows};
use crate::holder::step::{Effect, Holder, Input, Settings, Stored};
use crate::holder::watch::{External, Reading};
use crate::periods::Periods;
use crate::time::Now;

mod at_stake;
pub(crate) mod evidence;
mod invariants;
mod judgement;
pub(crate) mod lease;
mod scale;

/// A lease that has just been renewed.
const MAY_SPEAK: u64 = 15_000;

/// A sidecar, with a disk and a leader that a test plays.
pub(crate) struct Rig {
    pub(crate) holder: Holder,
    pub(crate) now: u64,
    /// What the leader believes the replica to be.
    pub(crate) mirror: Rows,
    /// What the disk does with the next writes; `None`: it does not come back.
    pub(crate) disk: Option<Result<(), String>>,
    pub(crate) sent: Vec<Up>,
    pub(crate) dropped: Vec<Why>,
    pub(crate) writes: usize,
    pub(crate) exits: usize,
    revision: u64,
}

impl Rig {
    pub(crate) fn new(api: bool) -> Self {
        Self::restarted(api, Stored::default())
    }

    pub(crate) fn restarted(api: bool, stored: Stored) -> Self {
        let settings = Settings { streamer: "s1".into(), api, ..Settings::default() };
        let mut rig = Self {
            mirror: stored.rows.clone(),
            holder: Holder::new(settings, stored, Now { mono: 1, wall: 1 }),
            now: 1,
            disk: Some(Ok(())),
            sent: Vec::new(),
            dropped: Vec::new(),
            writes: 0,
            exits: 0,
            revision: 0,
        };
        rig.holder.settings.about.hostname = "s1.example".into();
        rig
    }

    /// One that is synced with nothing, under term 10.
    pub(crate) fn synced(api: bool) -> Self {
        let mut rig = Self::new(api);
        rig.welcome(10);
        rig.mark();
        rig.sent.clear();
        rig
    }

    pub(crate) fn clock(&self) -> Now {
        Now { mono: self.now, wall: self.now }
    }

    pub(crate) fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut rest = Vec::new();
        let clock = self.clock();
        let mut effects: Vec<Effect> = self.holder.step(input, clock);
        while !effects.is_empty() {
            let mut more = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Send(up) => self.sent.push(up),
                    Effect::Drop(why) => self.dropped.push(why),
                    Effect::Exit => self.exits += 1,
                    Effect::Persist(_) => {
                        self.writes += 1;
                        if let Some(result) = self.disk.clone() {
                            more.extend(self.holder.step(Input::Persisted(result), clock));
                        }
                    }
                    other => rest.push(other),
                }
            }
            effects = more;
        }
        rest
    }

    pub(crate) fn hear(&mut self, frame: Down) {
        self.step(Input::Frame(frame));
    }

    pub(crate) fn tick_to(&mut self, now: u64) -> Vec<Effect> {
        self.now = now;
        self.step(Input::Tick)
    }

    pub(crate) fn welcome(&mut self, term: u64) {
        self.step(Input::Connected);
        self.hear(Down::Welcome {
            version: crate::frames::VERSION,
            term,
            seal: Seal(format!("term:{term}")),
            periods: Periods::default(),
        });
    }

    pub(crate) fn put(&mut self, name: &str, epoch: u64, text: &str) {
        let put = put(name, epoch, text);
        self.mirror.apply(Edit::Put(put.clone()), &mut Outcome::default());
        self.hear(Down::Put(put));
    }

    pub(crate) fn delete(&mut self, name: &str, epoch: u64) {
        let name = name.to_owned();
        let edit = Edit::Delete { name: name.clone(), epoch };
        self.mirror.apply(edit, &mut Outcome::default());
        self.hear(Down::Delete { name, epoch });
    }

    pub(crate) fn hold(&mut self, name: &str, epoch: u64) {
        let name = name.to_owned();
        let edit = Edit::Hold { name: name.clone(), epoch };
        self.mirror.apply(edit, &mut Outcome::default());
        self.hear(Down::Hold { name, epoch });
    }

    pub(crate) fn mark(&mut self) {
        self.revision += 1;
        let mark = Down::Mark { revision: self.revision, count: self.mirror.count(), digest: self.mirror.digest() };
        self.hear(mark);
    }

    pub(crate) fn ask(&mut self, names: &[&str]) -> Answer {
        let request = if names.is_empty() {
            Request::All
        } else {
            Request::Named(names.iter().map(ToString::to_string).collect())
        };
        let asked = Input::Asked { number: 1, request, host: None };
        match self.step(asked).pop() {
            Some(Effect::Answer { answer, .. }) => answer,
            other => panic!("no answer: {other:?}"),
        }
    }

    /// A plain poll, one poll later, while the leader pings; the names it got.
    pub(crate) fn poll(&mut self) -> Vec<String> {
        self.now += 1_000;
        self.ping();
        names(&self.ask(&[]))
    }

    pub(crate) fn read(&mut self, id: &str, runs: &[&str]) {
        self.read_with(id, runs, External::Untold);
    }

    /// The streamer's API is read, begun now.
    pub(crate) fn read_with(&mut self, id: &str, runs: &[&str], external: External) {
        let begun = self.tick_to(self.now + 3_000);
        assert_eq!(begun, [Effect::ReadApi]);
        let reading = Reading {
            id: id.into(),
            runs: runs.iter().map(|name| ((*name).to_owned(), Run::Capture)).collect(),
            external,
            load: Load::default(),
        };
        self.step(Input::ApiRead(Ok(reading)));
        self.ping();
    }

    /// The leader says that it is there.
    pub(crate) fn ping(&mut self) {
        self.hear(Down::Ping { term: self.holder.meta.highest_term, may_speak: MAY_SPEAK, lease: None });
    }

    pub(crate) fn released(&mut self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.sent)
            .into_iter()
            .filter_map(|up| match up {
                Up::Released { name, epoch } => Some((name, epoch)),
                _ => None,
            })
            .collect()
    }

    fn stored(&self) -> Stored {
        Stored { rows: self.holder.rows.clone(), meta: self.holder.meta.clone() }
    }
}

pub(crate) fn put(name: &str, epoch: u64, text: &str) -> Put {
    let document = format!("{{\"name\":\"{name}\",\"title\":\"{text}\"}}");
    Put {
        name: name.into(),
        epoch,
        grant: Seal(format!("{name}:{epoch}")),
        is_static: true,
        partition: Partition::KeepCapturing,
        hash: document_hash(&[&document]),
        document,
    }
}

pub(crate) fn names(answer: &Answer) -> Vec<String> {
    match answer {
        Answer::Streams(items) => items.iter().map(|item| item.name.clone()).collect(),
        Answer::NotYet(reason) => panic!("503: {reason}"),
    }
}

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
fn report_an_api_that_fails_later_leaves_what_was_known() {
    let mut rig = Rig::synced(true);
    rig.read("boot", &["x"]);
    rig.tick_to(rig.now + 3_000);
    rig.step(Input::ApiRead(Err("refused".into())));
    assert!(rig.holder.runs().unwrap().contains_key("x"));
    assert_eq!(rig.holder.watch.api, ApiState::Down);
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

#[test]
fn another_hosts_request_is_served_and_shown() {
    let mut rig = Rig::synced(false);
    rig.step(Input::Asked { number: 1, request: Request::Named(BTreeSet::new()), host: Some("other".into()) });
    rig.tick_to(2_000);
    let shown = |up: &Up| matches!(up, Up::Alive { foreign_host: Some(host), .. } if host == "other");
    assert!(rig.sent.iter().any(shown));
}
