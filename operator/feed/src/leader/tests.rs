//! Scenarios of the leader against an API kept in memory. Each rule has a test of its name.

mod ended;
pub(crate) mod feed;
pub(crate) mod lease;
mod sessions;
pub(crate) mod settle;
pub(crate) mod truth;

use std::collections::{BTreeMap, BTreeSet};

use super::step::{Document, Effect, Input, Outcome, Slice, SliceId, Want};
use super::{Leader, Role};
use crate::frames::{About, ApiState, ConfigStatus, Down, Held, Hello, LeaseReport, Load, Partition, Run, Up};
use crate::grant::{KeyRing, Seal};
use crate::periods::Periods;
use crate::record::{Change, Phase, Record, StreamId, StreamerId};
use crate::rule::{Rule, lacks};
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
        oldest: None,
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
    /// So many writes are answered before that.
    lose_after: usize,
    /// Refuse to make slices, as in a namespace that is being deleted.
    refuse_creates: bool,
    /// Sidecars do not say that they have applied anything.
    deaf: bool,
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
            lose_after: 0,
            refuse_creates: false,
            deaf: false,
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
                    Down::Mark { revision, .. } if !self.deaf => {
                        Some(Input::Frame { conn, frame: Up::Applied { revision } })
                    }
                    _ => None,
                }
            }
            Effect::Corrected { .. } => None,
            Effect::Close { conn } | Effect::Abort { conn } => {
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
        let lose = if self.lose_after == 0 { self.lose.take() } else { None };
        self.lose_after = self.lose_after.saturating_sub(1);
        if lose == Some(false) {
            return Outcome::Unknown { message: "no answer".into() };
        }
        let fits = match (self.slices.get(id), version) {
            (None, None) => !self.refuse_creates,
            (Some(slice), Some(version)) => {
                (slice.version == version || lacks(Rule::CompareAndSwapVersion))
                    && (slice.term == term || lacks(Rule::CompareAndSwapTerm))
            }
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
        self.give(Input::Frame { conn, frame: alive(Some(0), ApiState::Absent, None) });
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

/// A sidecar lives; `polled` ms ago its streamer asked.
fn alive(polled: Option<u64>, api: ApiState, lease: Option<LeaseReport>) -> Up {
    Up::Alive {
        polled,
        api,
        config: ConfigStatus::Unknown,
        load: Load::default(),
        foreign_host: None,
        replica_error: None,
        lease,
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
        partition: Partition::KeepCapturing,
    }
}

fn held(name: &str, holder: &str, epoch: u64) -> Held {
    Held {
        name: name.into(),
        epoch,
        grant: ring().grant(&streamer(holder), name, epoch),
        hash: format!("hash-{name}"),
        deleted: None,
    }
}

fn place(name: &str, on: &str) -> Change {
    Change::Place { stream: name.into(), uid: format!("uid-{name}"), streamer: on.into() }
}

#[test]
fn a_refusal_is_of_the_document_that_was_refused_and_not_of_the_next_one() {
    let (mut stage, one, _) = two();
    stage.plan("a", place("a", "s1"));
    let rejections = |stage: &Stage| stage.leader.streamer(&streamer("s1"), stage.now).unwrap().rejected;
    let refused = |hash: &str| Up::Rejected { name: "a".into(), hash: hash.into(), message: Some("no".into()) };
    stage.give(Input::Frame { conn: one, frame: refused("hash-a") });
    assert_eq!(rejections(&stage).into_keys().collect::<Vec<_>>(), ["a"]);

    let corrected = Want { document: Some(Document { text: "{}".into(), hash: "better".into() }), ..want("a") };
    stage.give(Input::Wants { wants: [(stream("a"), corrected)].into() });
    stage.pass(1_000, &[one]);
    assert!(rejections(&stage).is_empty());
    // Said before the new one had arrived.
    stage.give(Input::Frame { conn: one, frame: refused("hash-a") });
    assert!(rejections(&stage).is_empty());
    stage.give(Input::Frame { conn: one, frame: refused("better") });
    assert_eq!(rejections(&stage).len(), 1);
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
