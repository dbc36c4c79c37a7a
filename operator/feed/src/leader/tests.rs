//! Scenarios of the leader against an API kept in memory. Each rule has a test of its name.

use std::collections::{BTreeMap, BTreeSet};

use super::step::{Document, Effect, Input, Outcome, Slice, SliceId, Want};
use super::{Leader, Role};
use crate::frames::{About, ApiState, Down, Held, Hello, Partition, Run, Up};
use crate::grant::{KeyRing, Seal};
use crate::periods::Periods;
use crate::record::{Change, Phase, Record, StreamId, StreamerId};
use crate::time::Now;

fn stream(name: &str) -> StreamId {
    StreamId { namespace: "media".into(), name: name.into() }
}

fn streamer(name: &str) -> StreamerId {
    StreamerId { namespace: "media".into(), name: name.into() }
}

fn ring() -> KeyRing {
    KeyRing::new(BTreeMap::from([("k1".to_owned(), vec![1; 32])])).unwrap()
}

fn hello(name: &str) -> Hello {
    Hello {
        version: 1,
        program: "test".into(),
        namespace: "media".into(),
        streamer: name.into(),
        instance: format!("{name}-1"),
        term: None,
        synced: false,
        held: vec![],
        holds: BTreeMap::new(),
        stopped: vec![],
        runs: Some(BTreeMap::new()),
        polled: Some(0),
        api: ApiState::Absent,
        about: About::default(),
    }
}

/// A leader, its API, and what it says to whom.
struct Stage {
    leader: Leader,
    now: Now,
    slices: BTreeMap<SliceId, Slice>,
    version: u64,
    /// Answer writes with "no answer" instead; whether they land all the same.
    lose: Option<bool>,
    sent: BTreeMap<u64, Vec<Down>>,
    closed: BTreeSet<u64>,
    down: Option<String>,
    exit: Option<String>,
    log: Vec<String>,
    next_conn: u64,
}

impl Stage {
    fn new() -> Self {
        let mut stage = Self {
            leader: Leader::new(Periods::default()),
            now: Now { mono: 1_000_000, wall: 1_700_000_000_000 },
            slices: BTreeMap::new(),
            version: 100,
            lose: None,
            sent: BTreeMap::new(),
            closed: BTreeSet::new(),
            down: None,
            exit: None,
            log: vec![],
            next_conn: 0,
        };
        stage.give(Input::Keys { ring: ring() });
        stage.give(Input::Expected { streamers: BTreeSet::new() });
        stage.give(Input::Wants { wants: BTreeMap::new() });
        stage
    }

    /// A stage whose leader has taken over the given records.
    fn leading(records: Vec<Record>) -> Self {
        let mut stage = Self::new();
        for record in records {
            let id = SliceId::of(&stream(&record.name));
            let empty = Slice {
                id: id.clone(),
                version: 50,
                term: 7,
                records: vec![],
                removal_until: None,
                removal_confirmed: false,
            };
            stage.slices.entry(id).or_insert(empty).records.push(record);
        }
        stage.lead();
        assert_eq!(stage.leader.role(), Role::Leading);
        stage
    }

    fn lead(&mut self) {
        self.give(Input::Lease { deadline: u64::MAX / 2, highest_term: 0 });
    }

    fn give(&mut self, input: Input) {
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            for input in std::mem::take(&mut inputs) {
                for effect in self.leader.step(input, self.now) {
                    inputs.extend(self.perform(effect));
                }
            }
        }
    }

    fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::ListSlices { op } => {
                Some(Input::Listed { op, slices: self.slices.values().cloned().collect(), version: self.version })
            }
            Effect::ReadSlice { op, id } => Some(Input::Read { op, slice: self.slices.get(&id).cloned(), id }),
            Effect::CreateSlice { op, id, term } => {
                let outcome = self.write(&id, None, term, |slice| slice.term = term);
                Some(Input::Written { op, id, outcome })
            }
            Effect::TakeSlice { op, id, version, old_term, term } => {
                let outcome = self.write(&id, Some(version), old_term, |slice| slice.term = term);
                Some(Input::Written { op, id, outcome })
            }
            Effect::WriteSlice { op, id, version, term, records, removal_until } => {
                let outcome = self.write(&id, Some(version), term, |slice| {
                    slice.records = records;
                    slice.removal_until = removal_until;
                });
                Some(Input::Written { op, id, outcome })
            }
            Effect::Send { conn, frame } => {
                assert!(!self.closed.contains(&conn), "{frame:?} after the close of {conn}");
                self.sent.entry(conn).or_default().push(frame.clone());
                match frame {
                    Down::Mark { revision, .. } => Some(Input::Frame { conn, frame: Up::Applied { revision } }),
                    _ => None,
                }
            }
            Effect::Close { conn } => {
                self.closed.insert(conn);
                None
            }
            Effect::StepDown { why } => {
                self.down = Some(why);
                None
            }
            Effect::Exit { why } => {
                self.exit = Some(why);
                None
            }
            Effect::Warn { message } => {
                self.log.push(message);
                None
            }
        }
    }

    fn write(&mut self, id: &SliceId, version: Option<u64>, term: u64, change: impl FnOnce(&mut Slice)) -> Outcome {
        let lose = self.lose.take();
        if lose == Some(false) {
            return Outcome::Unknown { message: "no answer".into() };
        }
        let fits = match (self.slices.get(id), version) {
            (None, None) => true,
            (Some(slice), Some(version)) => slice.version == version && slice.term == term,
            _ => false,
        };
        if !fits {
            return Outcome::Refused { message: "test failed".into() };
        }
        self.version += 1;
        let version = self.version;
        let slice = self.slices.entry(id.clone()).or_insert_with(|| Slice {
            id: id.clone(),
            version,
            term,
            records: vec![],
            removal_until: None,
            removal_confirmed: false,
        });
        change(slice);
        slice.version = version;
        match lose {
            Some(_) => Outcome::Unknown { message: "no answer".into() },
            None => Outcome::Done { version },
        }
    }

    fn connect(&mut self, hello: Hello) -> u64 {
        self.connect_as(hello, false)
    }

    fn connect_as(&mut self, hello: Hello, verified: bool) -> u64 {
        self.next_conn += 1;
        let conn = self.next_conn;
        let streamer = streamer(&hello.streamer);
        self.give(Input::Connected { conn, streamer, verified, hello: Box::new(hello) });
        conn
    }

    /// Lets time pass in ticks, with every connected sidecar saying `alive`, but for those in `silent`.
    fn pass(&mut self, ms: u64, alive: &[u64]) {
        for _ in 0..ms / 500 {
            self.now = Now { mono: self.now.mono + 500, wall: self.now.wall + 500 };
            for conn in alive {
                self.alive(*conn);
            }
            self.give(Input::Tick);
        }
    }

    fn alive(&mut self, conn: u64) {
        let frame = Up::Alive {
            polled: Some(0),
            api: ApiState::Absent,
            config: crate::frames::ConfigStatus::Unknown,
            load: crate::frames::Load::default(),
            foreign_host: None,
            replica_error: None,
        };
        self.give(Input::Frame { conn, frame });
    }

    fn want(&mut self, names: &[&str]) {
        let wants = names.iter().map(|name| (stream(name), want(name))).collect();
        self.give(Input::Wants { wants });
    }

    fn plan(&mut self, name: &str, change: Change) {
        assert!(self.leader.may_plan(self.now));
        let changes = vec![(stream(name), change, true)];
        self.give(Input::Plan { changes, held_removals: BTreeMap::new() });
    }

    fn record(&self, name: &str) -> Option<Record> {
        let slice = self.slices.get(&SliceId::of(&stream(name)))?;
        slice.records.iter().find(|record| record.name == name).cloned()
    }

    /// The frames about streams that a connection was sent, as short text, and forgets them.
    fn told(&mut self, conn: u64) -> Vec<String> {
        let frames = self.sent.remove(&conn).unwrap_or_default();
        frames
            .iter()
            .filter_map(|frame| match frame {
                Down::Put(put) => Some(format!("put {}", put.name)),
                Down::Delete { name, .. } => Some(format!("delete {name}")),
                Down::Hold { name, .. } => Some(format!("hold {name}")),
                Down::NotLeader { .. } => Some("not leader".into()),
                Down::Wait {} => Some("wait".into()),
                Down::Superseded {} => Some("superseded".into()),
                Down::Mark { .. } => Some("mark".into()),
                _ => None,
            })
            .collect()
    }
}

fn want(name: &str) -> Want {
    let document = Document { text: format!("{{\"name\":\"{name}\"}}"), hash: format!("hash-{name}") };
    Want {
        stream: name.into(),
        uid: format!("uid-{name}"),
        after: 30_000,
        partition: Partition::KeepCapturing,
        is_static: true,
        disabled: false,
        document: Some(document),
    }
}

fn record(name: &str, holder: &str, epoch: u64) -> Record {
    Record {
        name: name.into(),
        stream: name.into(),
        uid: format!("uid-{name}"),
        streamer: holder.into(),
        epoch,
        phase: Phase::Active,
        to: None,
        previous: None,
    }
}

fn held(name: &str, holder: &str, epoch: u64) -> Held {
    Held { name: name.into(), epoch, grant: ring().grant(&streamer(holder), name, epoch), hash: format!("hash-{name}") }
}

fn place(name: &str, on: &str) -> Change {
    Change::Place { stream: name.into(), uid: format!("uid-{name}"), streamer: on.into() }
}

/// A settled leader with two sidecars, that wants `a`.
fn two() -> (Stage, u64, u64) {
    let mut stage = Stage::leading(vec![]);
    stage.want(&["a"]);
    let (one, two) = (stage.connect(hello("s1")), stage.connect(hello("s2")));
    stage.pass(8_000, &[one, two]);
    assert!(stage.leader.is_settled());
    stage.told(one);
    stage.told(two);
    (stage, one, two)
}

#[test]
fn a_standby_says_who_leads() {
    let mut stage = Stage::new();
    stage.give(Input::NoLease { leader: Some("https://other:9443".into()) });
    let conn = stage.connect(hello("s1"));
    assert_eq!(stage.sent[&conn], [Down::NotLeader { leader: Some("https://other:9443".into()) }]);
    assert!(stage.closed.contains(&conn));
}

#[test]
fn fence_writes_the_term_into_every_slice_before_anybody_is_accepted() {
    let mut stage = Stage::new();
    for name in ["a", "b", "c"] {
        let id = SliceId::of(&stream(name));
        let slice = Slice {
            id: id.clone(),
            version: 50,
            term: 7,
            records: vec![record(name, "s1", 5)],
            removal_until: None,
            removal_confirmed: false,
        };
        stage.slices.insert(id, slice);
    }
    let effects = stage.leader.step(Input::Lease { deadline: u64::MAX / 2, highest_term: 9 }, stage.now);
    let early = Input::Connected { conn: 9, streamer: streamer("s1"), verified: false, hello: Box::new(hello("s1")) };
    assert!(stage.leader.step(early, stage.now).is_empty(), "accepted before the slices were taken");
    let inputs: Vec<_> = effects.into_iter().filter_map(|effect| stage.perform(effect)).collect();
    for input in inputs {
        stage.give(input);
    }
    assert_eq!(stage.leader.role(), Role::Leading);
    assert!(stage.slices.values().all(|slice| slice.term == stage.leader.term()));
    assert!(stage.sent.contains_key(&9), "the early one is welcomed once we lead");
}

#[test]
fn fence_takes_a_slice_again_whose_write_had_no_answer() {
    for landed in [true, false] {
        let (mut stage, one, _) = two();
        let before = stage.leader.term();
        stage.plan("b", place("b", "s1"));
        stage.lose = Some(landed);
        stage.plan("b", Change::Move { streamer: "s2".into(), previous: None });
        let slice = &stage.slices[&SliceId::of(&stream("b"))];
        assert!(slice.term > before, "the slice was not taken again");
        // What the slice shows is what was decided, whether the lost write landed or not.
        let holder = if landed { "s2" } else { "s1" };
        assert_eq!(stage.record("b").unwrap().streamer, holder);
        assert_eq!(stage.leader.all_records()[&stream("b")].streamer, holder);
        stage.told(one);
    }
}

#[test]
fn term_exceeds_every_term_seen_and_the_time() {
    let mut stage = Stage::new();
    stage.give(Input::Lease { deadline: u64::MAX / 2, highest_term: 1_900_000_000_000 });
    assert_eq!(stage.leader.term(), 1_900_000_000_001);
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    assert_eq!(stage.leader.term(), 1_700_000_000_000);
    let term = 1_800_000_000_000;
    stage.connect(Hello { term: Some((term, ring().term(term))), ..hello("s1") });
    assert!(stage.down.is_some(), "a higher term of ours, shown by a sidecar, was not heeded");
    stage.lead();
    assert_eq!(stage.leader.term(), term + 1);
}

#[test]
fn term_without_our_seal_counts_for_nothing() {
    let mut stage = Stage::leading(vec![]);
    stage.connect(Hello { term: Some((u64::MAX, Seal("k1:00".into()))), ..hello("s1") });
    assert_eq!(stage.leader.role(), Role::Leading);
}

#[test]
fn deadline_is_checked_before_every_frame() {
    let (mut stage, one, _) = two();
    stage.give(Input::Lease { deadline: stage.now.mono + 1_000, highest_term: 0 });
    stage.told(one);
    stage.now = Now { mono: stage.now.mono + 1_000, ..stage.now };
    stage.give(Input::Tick);
    assert_eq!(stage.leader.role(), Role::Standby);
    assert!(stage.told(one).is_empty());
    assert!(!stage.leader.may_plan(stage.now));
}

#[test]
fn wait_for_every_expected_streamer_but_at_most_one_period() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5), record("b", "s2", 5)]);
    let one = stage.connect(hello("s1"));
    stage.pass(8_000, &[one]);
    assert!(!stage.leader.is_settled(), "s2 has not reported");
    stage.pass(8_000, &[one]);
    assert!(stage.leader.is_settled(), "one period is the longest wait");
}

#[test]
fn wait_for_silence_even_when_all_have_reported() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    let one = stage.connect(hello("s1"));
    stage.pass(5_500, &[one]);
    assert!(!stage.leader.is_settled());
    stage.pass(1_000, &[one]);
    assert!(stage.leader.is_settled());
}

#[test]
fn wait_after_the_first_streamer_where_none_is_expected() {
    let mut stage = Stage::leading(vec![]);
    stage.pass(60_000, &[]);
    assert!(!stage.leader.is_settled(), "nobody is there to be given anything");
    let one = stage.connect(hello("s1"));
    stage.pass(5_000, &[one]);
    assert!(!stage.leader.is_settled(), "the first to come would get all");
    stage.pass(2_000, &[one]);
    assert!(stage.leader.is_settled());
}

#[test]
fn a_stream_is_fed_only_after_the_write_was_acknowledged() {
    let (mut stage, one, _) = two();
    let changes = vec![(stream("a"), place("a", "s1"), true)];
    let effects = stage.leader.step(Input::Plan { changes, held_removals: BTreeMap::new() }, stage.now);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Send { frame: Down::Put(_), .. })));
    for effect in effects {
        if let Some(input) = stage.perform(effect) {
            stage.give(input);
        }
    }
    assert_eq!(stage.told(one), ["put a", "mark"]);
}

#[test]
fn compare_and_swap_reads_again_what_was_refused() {
    let (mut stage, one, _) = two();
    stage.plan("a", place("a", "s1"));
    stage.told(one);
    // Somebody touches the slice: our version is old.
    let id = SliceId::of(&stream("a"));
    stage.version += 1;
    stage.slices.get_mut(&id).unwrap().version = stage.version;
    stage.plan("a", Change::Release { to: Some("s2".into()) });
    assert_eq!(stage.record("a").unwrap().phase, Phase::Active, "the refused write is thrown away");
    assert!(stage.leader.may_plan(stage.now));
    stage.plan("a", Change::Release { to: Some("s2".into()) });
    assert_eq!(stage.record("a").unwrap().phase, Phase::Releasing);
}

#[test]
fn a_slice_edited_or_deleted_by_hand_is_put_right_again() {
    let (mut stage, one, _) = two();
    stage.plan("a", place("a", "s1"));
    let id = SliceId::of(&stream("a"));
    stage.version += 1;
    let version = stage.version;
    let slice = stage.slices.get_mut(&id).unwrap();
    slice.version = version;
    slice.records[0].streamer = "s2".into();
    let epoch = slice.records[0].epoch;
    stage.give(Input::SliceSeen { id: id.clone(), version: Some(version), term: None });
    let record = stage.record("a").unwrap();
    assert_eq!(record.streamer, "s1");
    assert!(record.epoch > epoch, "a correction is a new epoch");
    stage.slices.remove(&id);
    stage.give(Input::SliceSeen { id, version: None, term: None });
    assert_eq!(stage.record("a").unwrap().streamer, "s1");
    stage.told(one);
}

#[test]
fn a_storage_that_went_back_in_time_ends_the_process() {
    let (mut stage, _, _) = two();
    stage.plan("a", place("a", "s1"));
    let id = SliceId::of(&stream("a"));
    stage.slices.get_mut(&id).unwrap().version = 3;
    stage.plan("a", Change::Release { to: None });
    assert!(stage.exit.unwrap().contains("went back in time"));
}

#[test]
fn adopt_shows_who_may_be_running_a_stream() {
    let mut stage = Stage::leading(vec![record("b", "s3", 5)]);
    stage.want(&["a", "b"]);
    let runs = Some(BTreeMap::from([("a".to_owned(), Run::Capture), ("x".to_owned(), Run::Restream)]));
    let one = stage.connect(Hello { runs, ..hello("s1") });
    let known = stage.leader.known(stage.now);
    assert_eq!(known["media"]["a"].may_run.keys().collect::<Vec<_>>(), ["s1"]);
    assert_eq!(known["media"]["b"].may_run.keys().collect::<Vec<_>>(), ["s3"], "it has not reported");
    assert!(known["media"]["x"].may_run.is_empty(), "a restream stands in nobody's way");
    stage.told(one);
}

#[test]
fn gate_holds_a_stream_that_another_streamer_may_still_be_running() {
    let runs = Some(BTreeMap::from([("a".to_owned(), Run::Capture)]));
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    stage.want(&["a"]);
    let (one, two) = (stage.connect(hello("s1")), stage.connect(Hello { runs, ..hello("s2") }));
    stage.pass(8_000, &[one, two]);
    assert_eq!(stage.told(one), ["hold a", "mark"]);
    stage.give(Input::Frame { conn: two, frame: Up::Runs { set: BTreeMap::new(), gone: vec!["a".into()] } });
    stage.pass(500, &[one, two]);
    assert_eq!(stage.told(one), ["put a", "mark"]);
}

#[test]
fn gate_opens_when_the_other_one_is_gone_for_long_enough() {
    let mut stage = Stage::leading(vec![Record { previous: Some("s2".into()), ..record("a", "s1", 5) }]);
    stage.want(&["a"]);
    let one = stage.connect(hello("s1"));
    stage.pass(28_000, &[one]);
    assert_eq!(stage.told(one), ["hold a", "mark"]);
    stage.pass(4_000, &[one]);
    assert_eq!(stage.told(one), ["put a", "mark"]);
}

#[test]
fn a_row_that_is_served_goes_on_being_served() {
    let runs = Some(BTreeMap::from([("a".to_owned(), Run::Capture)]));
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    stage.want(&["a"]);
    let other = stage.connect(Hello { runs, ..hello("s2") });
    let one = stage.connect(Hello { held: vec![held("a", "s1", 5)], ..hello("s1") });
    assert_eq!(stage.told(one), ["mark"], "nothing to say: it has it");
    stage.told(other);
}

#[test]
fn all_in_corrects_a_record_from_the_highest_grant_once_everybody_has_reported() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    stage.give(Input::Expected { streamers: BTreeSet::from([streamer("s1"), streamer("s2"), streamer("s3")]) });
    stage.want(&["a"]);
    let one = stage.connect(Hello { held: vec![held("a", "s1", 6)], ..hello("s1") });
    let two = stage.connect(Hello { held: vec![held("a", "s2", 9)], ..hello("s2") });
    stage.pass(8_000, &[one, two]);
    assert_eq!(stage.record("a").unwrap().epoch, 5, "s3 has not reported");
    assert!(!stage.told(one).contains(&"delete a".to_owned()), "nothing is taken from s1 meanwhile");
    let three = stage.connect(hello("s3"));
    stage.pass(1_000, &[one, two, three]);
    let record = stage.record("a").unwrap();
    assert_eq!(record.streamer, "s2", "the highest granted epoch wins");
    assert_eq!(record.previous.as_deref(), Some("s1"));
    assert!(stage.told(one).contains(&"delete a".to_owned()));
    assert!(stage.told(two).contains(&"put a".to_owned()));
}

#[test]
fn a_claim_under_an_unknown_key_corrects_nothing_and_takes_nothing_away() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    stage.want(&["a"]);
    let foreign = Held { grant: Seal("k9:00".into()), ..held("a", "s2", 9) };
    let one = stage.connect(hello("s1"));
    let two = stage.connect(Hello { held: vec![foreign], ..hello("s2") });
    stage.pass(40_000, &[one, two]);
    assert_eq!(stage.record("a").unwrap().epoch, 5);
    assert_eq!(stage.told(two), ["hold a", "mark"]);
    assert_eq!(stage.told(one), ["hold a", "mark"], "it still blocks");
    assert_eq!(stage.leader.known(stage.now)["media"]["a"].disputed.as_deref(), Some("s2"));
}

#[test]
fn bump_gives_every_change_a_greater_epoch() {
    let (mut stage, ..) = two();
    let mut last = 0;
    let release = Change::Release { to: Some("s2".into()) };
    for change in [place("a", "s1"), release, Change::Keep] {
        stage.plan("a", change);
        let epoch = stage.record("a").unwrap().epoch;
        assert!(epoch > last && epoch >= stage.now.wall);
        last = epoch;
    }
}

#[test]
fn bump_exceeds_what_the_holder_has_stopped_serving() {
    let mut stage = Stage::leading(vec![record("a", "s1", 5)]);
    stage.want(&["a"]);
    let stopped = Held { hash: String::new(), ..held("a", "s1", 1_900_000_000_000) };
    let one = stage.connect(Hello { stopped: vec![stopped], ..hello("s1") });
    stage.pass(8_000, &[one]);
    assert_eq!(stage.record("a").unwrap().epoch, 1_900_000_000_001);
    assert!(stage.told(one).contains(&"put a".to_owned()));
}

#[test]
fn released_counts_only_for_the_epoch_of_the_record() {
    let (mut stage, one, two) = two();
    stage.plan("a", place("a", "s1"));
    stage.plan("a", Change::Release { to: Some("s2".into()) });
    assert_eq!(stage.told(one), ["put a", "mark", "delete a", "mark"]);
    let epoch = stage.record("a").unwrap().epoch;
    stage.give(Input::Frame { conn: one, frame: Up::Released { name: "a".into(), epoch: epoch - 1 } });
    assert!(!stage.leader.known(stage.now)["media"]["a"].released);
    assert!(stage.leader.known(stage.now)["media"]["a"].may_run.contains_key("s1"));
    stage.give(Input::Frame { conn: one, frame: Up::Released { name: "a".into(), epoch } });
    assert!(stage.leader.known(stage.now)["media"]["a"].released);
    stage.plan("a", Change::Move { streamer: "s2".into(), previous: None });
    assert_eq!(stage.told(two), ["put a", "mark"]);
}

#[test]
fn a_release_is_asked_for_again_after_a_reconnect() {
    let (mut stage, one, _) = two();
    stage.plan("a", place("a", "s1"));
    stage.plan("a", Change::Release { to: Some("s2".into()) });
    stage.give(Input::Disconnected { conn: one });
    let again = stage.connect(hello("s1"));
    assert_eq!(stage.told(again), ["delete a", "mark"]);
}

#[test]
fn a_newcomer_waits_until_the_first_is_silent_for_one_period() {
    let (mut stage, one, two) = two();
    let newcomer = stage.connect(Hello { instance: "other".into(), ..hello("s1") });
    assert_eq!(stage.told(newcomer), ["wait"]);
    stage.give(Input::Disconnected { conn: one });
    stage.pass(14_000, &[two, newcomer]);
    assert!(stage.told(newcomer).is_empty());
    stage.pass(2_000, &[two, newcomer]);
    assert_eq!(stage.told(newcomer), ["mark"], "its turn");
}

#[test]
fn a_pod_with_a_new_uid_supersedes_the_old_one_at_once() {
    let (mut stage, one, _) = two();
    let pod = stage.connect_as(Hello { instance: "new-uid".into(), ..hello("s1") }, true);
    assert_eq!(stage.told(one), ["superseded"]);
    assert!(stage.closed.contains(&one));
    assert_eq!(stage.told(pod), ["mark"]);
}

#[test]
fn goodbye_frees_the_name() {
    let (mut stage, one, two) = two();
    stage.give(Input::Frame { conn: one, frame: Up::Goodbye {} });
    stage.give(Input::Disconnected { conn: one });
    let next = stage.connect(Hello { instance: "other".into(), ..hello("s1") });
    assert_eq!(stage.told(next), ["mark"]);
    stage.told(two);
}

#[test]
fn a_missing_document_holds_what_is_served_and_stops_nothing() {
    let (mut stage, one, _) = two();
    stage.plan("a", place("a", "s1"));
    stage.told(one);
    let wants = BTreeMap::from([(stream("a"), Want { document: None, ..want("a") })]);
    stage.give(Input::Wants { wants });
    assert_eq!(stage.told(one), ["hold a", "mark"]);
    stage.want(&["a"]);
    stage.pass(500, &[one]);
    assert_eq!(stage.told(one), ["put a", "mark"]);
}

#[test]
fn an_unknown_list_of_streams_takes_nothing_away() {
    let (mut stage, one, two) = two();
    stage.plan("a", place("a", "s1"));
    stage.told(one);
    stage.give(Input::WantsUnknown);
    stage.pass(2_000, &[one, two]);
    assert!(!stage.leader.may_plan(stage.now));
    assert!(stage.told(one).iter().all(|frame| frame != "delete a"));
}

#[test]
fn rows_without_record_and_stream_go_unless_they_are_many() {
    let few = vec![held("x", "s1", 5)];
    let many = (0..30).map(|at| held(&format!("x{at}"), "s2", 5)).collect();
    let mut stage = Stage::leading(vec![]);
    let one = stage.connect(Hello { held: few, ..hello("s1") });
    stage.pass(8_000, &[one]);
    assert!(stage.told(one).contains(&"delete x".to_owned()));
    let two = stage.connect(Hello { held: many, ..hello("s2") });
    stage.pass(8_000, &[one, two]);
    assert!(stage.told(two).iter().all(|frame| !frame.starts_with("delete")));
    stage.pass(600_000, &[one, two]);
    assert!(stage.told(two).contains(&"delete x7".to_owned()), "ten minutes are over");
}

#[test]
fn a_leaders_own_freeze_is_nobodys_silence() {
    let (mut stage, one, two) = two();
    stage.plan("a", place("a", "s1"));
    stage.now = Now { mono: stage.now.mono + 60_000, wall: stage.now.wall + 60_000 };
    stage.give(Input::Tick);
    let lost = stage.leader.known(stage.now)["media"]["a"].holder_lost;
    assert!(lost.is_none_or(|lost| lost < 5_000), "{lost:?}");
    stage.told(one);
    stage.told(two);
}

#[test]
fn a_streamer_that_does_not_poll_is_lost_unless_its_api_shows_the_stream() {
    let (mut stage, one, two) = two();
    stage.plan("a", place("a", "s1"));
    let alive = |stage: &mut Stage, polled, api| {
        let frame = Up::Alive {
            polled: Some(polled),
            api,
            config: crate::frames::ConfigStatus::Unknown,
            load: crate::frames::Load::default(),
            foreign_host: None,
            replica_error: None,
        };
        stage.give(Input::Frame { conn: one, frame });
        stage.leader.known(stage.now)["media"]["a"].clone()
    };
    assert_eq!(alive(&mut stage, 8_000, ApiState::Absent).holder_lost, None);
    assert_eq!(alive(&mut stage, 10_000, ApiState::Absent).holder_lost, Some(10_000));
    assert_eq!(alive(&mut stage, 10_000, ApiState::Down).holder_lost, Some(10_000));
    let set = BTreeMap::from([("a".to_owned(), Run::Capture)]);
    stage.give(Input::Frame { conn: one, frame: Up::Runs { set, gone: vec![] } });
    let known = alive(&mut stage, 10_000, ApiState::Up);
    assert_eq!((known.holder_lost, known.not_polling), (None, true));
    stage.told(two);
}

#[test]
fn a_slow_sidecar_gets_only_the_newest_version() {
    let (mut stage, one, _) = two();
    stage.plan("a", place("a", "s1"));
    stage.told(one);
    let first = stage.leader.step(Input::Wants { wants: BTreeMap::from([(stream("a"), changed_want(1))]) }, stage.now);
    assert!(first.iter().any(|effect| matches!(effect, Effect::Send { frame: Down::Put(_), .. })));
    let mut revision = 0;
    for effect in first {
        if let Effect::Send { frame: Down::Mark { revision: sent, .. }, .. } = effect {
            revision = sent;
        }
    }
    for version in 2..50 {
        let wants = BTreeMap::from([(stream("a"), changed_want(version))]);
        let effects = stage.leader.step(Input::Wants { wants }, stage.now);
        assert!(effects.is_empty(), "a batch is under way: {effects:?}");
    }
    stage.give(Input::Frame { conn: one, frame: Up::Applied { revision } });
    let puts: Vec<_> = stage.sent[&one]
        .iter()
        .filter_map(|frame| if let Down::Put(put) = frame { Some(put.hash.clone()) } else { None })
        .collect();
    assert_eq!(puts, ["hash-49"]);
}

fn changed_want(version: u32) -> Want {
    Want { document: Some(Document { text: "{}".into(), hash: format!("hash-{version}") }), ..want("a") }
}

#[test]
fn a_full_slice_is_refused_further_streams_and_says_so() {
    let id = SliceId::of(&stream("a"));
    let same_slice = (0..).map(|at| format!("filler-{at}")).filter(|name| SliceId::of(&stream(name)) == id);
    let long = "x".repeat(250);
    let records: Vec<_> = same_slice
        .take(900)
        .map(|name| Record { stream: long.clone(), uid: long.clone(), ..record(&name, "s1", 5) })
        .collect();
    let mut stage = Stage::leading(records);
    stage.want(&["a"]);
    let before = stage.slices[&id].version;
    stage.plan("a", place("a", "s1"));
    assert_eq!(stage.slices[&id].version, before);
    assert!(stage.log.iter().any(|line| line.contains("full")), "{:?}", stage.log);
}
