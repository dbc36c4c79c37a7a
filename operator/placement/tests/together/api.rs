//! The API server: slices and a Lease, written by compare-and-swap; calls that get lost, or land late.

use std::collections::BTreeMap;

use weir_feed::leader::step::{Effect, Input, Outcome, Slice, SliceId};
use weir_feed::record::Record;

use crate::operator;
use crate::world::{Event, World};

/// How long (ms) a caller waits for an answer.
const TIMEOUT: u64 = 5_000;

/// The Lease as it stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lease {
    pub(crate) version: u64,
    /// A process: its number, and which of its lives.
    pub(crate) holder: Option<(usize, u32)>,
    pub(crate) term: u64,
}

/// What is kept, and how well it can be reached.
#[derive(Debug, Default)]
pub(crate) struct Api {
    pub(crate) slices: BTreeMap<SliceId, Slice>,
    pub(crate) version: u64,
    pub(crate) lease: Lease,
    /// The copy that is restored, if one is: slices, version and Lease.
    copy: (BTreeMap<SliceId, Slice>, u64, Lease),
    /// Nobody reaches it until then.
    pub(crate) down_until: u64,
    /// Calls get lost or land late until then.
    pub(crate) flaky_until: u64,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Slices(Effect),
    ReadLease,
    /// Over the version that was read.
    WriteLease(Lease),
}

/// What comes of it; `None`: no answer.
#[derive(Debug)]
pub(crate) enum Reply {
    Slices(Input),
    Lease(Option<Lease>),
    LeaseWritten(Option<Lease>),
    /// Somebody else was faster.
    LeaseRefused,
}

enum Fate {
    Good,
    RequestLost,
    AnswerLost,
    Late,
}

impl Api {
    pub(crate) fn has_copy(&self) -> bool {
        self.copy.1 > 0
    }
}

impl World {
    /// Sends a request.
    pub(crate) fn call(&mut self, operator: usize, call: &Call) {
        let life = self.operators[operator].process.life;
        let latency = self.sim.random.range(1, 30);
        let arrives = |answered| Event::Arrives { operator, life, call: call.clone(), answered };
        let silence = Event::Operator(operator, life, operator::Event::Answer(unanswered(call)));
        match self.fate(operator) {
            Fate::Good => self.sim.after(latency, arrives(true)),
            Fate::RequestLost => self.sim.after(TIMEOUT, silence),
            Fate::AnswerLost => {
                self.sim.after(latency, arrives(false));
                self.sim.after(TIMEOUT, silence);
            }
            Fate::Late => {
                let late = TIMEOUT + self.sim.random.range(0, 25_000);
                self.sim.after(late, arrives(false));
                self.sim.after(TIMEOUT, silence);
            }
        }
    }

    fn fate(&mut self, operator: usize) -> Fate {
        let now = self.sim.now;
        if now < self.api.down_until || now < self.operators[operator].cut_off_until {
            return Fate::RequestLost;
        }
        if now >= self.api.flaky_until || self.sim.random.chance(60) {
            return Fate::Good;
        }
        match self.sim.random.index(3) {
            0 => Fate::RequestLost,
            1 => Fate::AnswerLost,
            _ => Fate::Late,
        }
    }

    /// A request arrives.
    pub(crate) fn arrives(&mut self, operator: usize, life: u32, call: &Call, answered: bool) {
        let reply = if self.sim.now < self.api.down_until { unanswered(call) } else { self.execute(call) };
        if !answered {
            self.sim.say(|| format!("late or unanswered: {call:?}"));
            return;
        }
        let latency = self.sim.random.range(1, 30);
        self.sim.after(latency, Event::Operator(operator, life, operator::Event::Answer(reply)));
    }

    fn execute(&mut self, call: &Call) -> Reply {
        match call {
            Call::ReadLease => Reply::Lease(Some(self.api.lease.clone())),
            Call::WriteLease(lease) => {
                if lease.version != self.api.lease.version {
                    return Reply::LeaseRefused;
                }
                self.api.version += 1;
                self.api.lease = Lease { version: self.api.version, ..lease.clone() };
                Reply::LeaseWritten(Some(self.api.lease.clone()))
            }
            Call::Slices(effect) => Reply::Slices(self.execute_on_slices(effect.clone())),
        }
    }

    fn execute_on_slices(&mut self, effect: Effect) -> Input {
        match effect {
            Effect::ListSlices { op } => {
                Input::Listed { op, slices: self.api.slices.values().cloned().collect(), version: self.api.version }
            }
            Effect::ReadSlice { op, id } => Input::Read { op, slice: self.api.slices.get(&id).cloned(), id },
            Effect::CreateSlice { op, id, term } => {
                let outcome = self.write(&id, None, 0, |slice| slice.term = term);
                Input::Written { op, id, outcome }
            }
            Effect::TakeSlice { op, id, version, old_term, term } => {
                let outcome = self.write(&id, Some(version), old_term, |slice| slice.term = term);
                Input::Written { op, id, outcome }
            }
            Effect::WriteSlice { op, id, version, term, records, removal_until } => {
                self.tell_changes(&id, &records);
                let outcome = self.write(&id, Some(version), term, |slice| {
                    slice.records = records;
                    slice.removal_until = removal_until;
                });
                Input::Written { op, id, outcome }
            }
            other => panic!("{other:?} is no call of the API"),
        }
    }

    fn write(&mut self, id: &SliceId, version: Option<u64>, term: u64, change: impl FnOnce(&mut Slice)) -> Outcome {
        let fits = match (self.api.slices.get(id), version) {
            (None, None) => true,
            (Some(slice), Some(version)) => slice.version == version && slice.term == term,
            _ => false,
        };
        if !fits {
            self.sim.say(|| format!("api: a write of {id} is refused"));
            return Outcome::Refused { message: "a test failed".into() };
        }
        self.api.version += 1;
        let version = self.api.version;
        let empty =
            Slice { id: id.clone(), version, term, records: vec![], removal_until: None, removal_confirmed: false };
        let slice = self.api.slices.entry(id.clone()).or_insert(empty);
        change(slice);
        slice.version = version;
        let term = slice.term;
        for operator in 0..self.operators.len() {
            self.show_slice(operator, id, version, term);
        }
        self.truth_changed();
        Outcome::Done { version }
    }

    /// The watch shows a slice to an operator, in order, some time later.
    pub(crate) fn show_slice(&mut self, operator: usize, id: &SliceId, version: u64, term: u64) {
        let lag = self.sim.random.range(5, 300);
        let blind = self.api.down_until.max(self.operators[operator].cut_off_until);
        let watching = &mut self.operators[operator];
        watching.seen_at = watching.seen_at.max(self.sim.now + lag).max(blind + lag);
        let seen = operator::Event::Seen { id: id.clone(), version, term };
        let event = Event::Operator(operator, watching.process.life, seen);
        self.sim.after(watching.seen_at - self.sim.now, event);
    }

    /// A copy is made of everything.
    pub(crate) fn copy_api(&mut self) {
        self.sim.say(|| "the API is copied".to_owned());
        self.api.copy = (self.api.slices.clone(), self.api.version, self.api.lease.clone());
    }

    /// The storage goes back in time, and numbers its versions from there on. No watch says so.
    pub(crate) fn restore_api(&mut self) {
        self.sim.say(|| "the API is restored from its copy".to_owned());
        (self.api.slices, self.api.version, self.api.lease) = self.api.copy.clone();
        self.check.restored = Some(self.sim.now);
        self.truth_changed();
    }

    fn tell_changes(&mut self, id: &SliceId, records: &[Record]) {
        let before = self.api.slices.get(id).map(|slice| slice.records.clone()).unwrap_or_default();
        for record in records.iter().filter(|record| !before.contains(record)) {
            self.sim.say(|| format!("api: write of {}", short(record)));
        }
        for old in before.iter().filter(|old| records.iter().all(|record| record.name != old.name)) {
            self.sim.say(|| format!("api: write removes {}", short(old)));
        }
    }

    /// The record of a stream, as it stands.
    pub(crate) fn record(&self, name: &str) -> Option<&Record> {
        self.api.slices.values().flat_map(|slice| &slice.records).find(|record| record.name == name)
    }
}

/// A record on one line.
pub(crate) fn short(record: &Record) -> String {
    let Record { name, streamer, epoch, phase, to, previous, .. } = record;
    format!("{name}: {phase:?} {streamer} to {to:?} previous {previous:?} epoch {}", epoch % 100_000_000)
}

fn unanswered(call: &Call) -> Reply {
    let message = "no answer".to_owned();
    match call {
        Call::ReadLease => Reply::Lease(None),
        Call::WriteLease(_) => Reply::LeaseWritten(None),
        Call::Slices(effect) => Reply::Slices(match effect.clone() {
            Effect::ListSlices { op } => Input::ListFailed { op, message },
            Effect::ReadSlice { op, id } => Input::ReadFailed { op, id, message },
            Effect::CreateSlice { op, id, .. }
            | Effect::TakeSlice { op, id, .. }
            | Effect::WriteSlice { op, id, .. } => Input::Written { op, id, outcome: Outcome::Unknown { message } },
            other => panic!("{other:?} is no call of the API"),
        }),
    }
}
