//! The API server: one slice, a Lease, and what users declared; kept by compare-and-swap, and restored from copies.

use std::sync::Arc;

use weir_feed::leader::step::{Effect, Input, Outcome, Slice, SliceId};
use weir_feed::record::Record;
use weir_feed::rule::{Rule, lacks};

use crate::clock::TIMEOUT;

use crate::world::{NAME, NAMESPACE, World};

/// The Lease as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) version: u64,
    /// An operator's number, and whether it is the one that runs now rather than its former life.
    pub(crate) holder: Option<(usize, bool)>,
    pub(crate) term: u64,
}

/// What users want, and the status that decisions depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Wishes {
    /// `metadata.uid` of the Stream, if there is one.
    pub(crate) stream: Option<u8>,
    pub(crate) disabled: bool,
    /// The Streamer that is drained.
    pub(crate) drained: Option<usize>,
    /// Streamers with `status.firstReady`.
    pub(crate) ready: [bool; 2],
}

impl Wishes {
    pub(crate) fn wanted(&self) -> bool {
        self.stream.is_some() && !self.disabled
    }
}

/// Everything in etcd.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Stored {
    pub(crate) slice: Option<Slice>,
    pub(crate) version: u64,
    pub(crate) lease: Lease,
    pub(crate) wishes: Wishes,
}

/// The server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Api {
    pub(crate) stored: Stored,
    /// Copies taken while the initial situation came about, oldest first.
    pub(crate) copies: Vec<Arc<Stored>>,
    /// Everything as it was before the last change of a record.
    pub(crate) before: Option<Arc<Stored>>,
    /// Writes that were given up by their callers and are still under way.
    pub(crate) late: Vec<(u64, Effect)>,
}

/// How an operator's next write of a slice goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    RequestLost,
    AnswerLost,
    /// The caller gives it up; it lands when the explorer likes.
    Late,
    /// The operator dies when it is written, before it can tell anybody.
    ThenDies,
    /// The operator freezes with it under way; it lands when the explorer likes.
    FrozenMeanwhile,
}

impl Stored {
    pub(crate) fn new() -> Self {
        let wishes = Wishes { stream: None, disabled: false, drained: None, ready: [false; 2] };
        Self { slice: None, version: crate::clock::WALL, lease: Lease::default(), wishes }
    }

    /// The stream's record.
    pub(crate) fn record(&self) -> Option<&Record> {
        self.slice.as_ref()?.records.iter().find(|record| record.name == NAME)
    }
}

/// An answer on its way to an operator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Reply {
    pub(crate) due: u64,
    pub(crate) input: Input,
}

impl World {
    pub(crate) fn stored(&mut self) -> &mut Stored {
        &mut Arc::make_mut(&mut self.api).stored
    }

    /// An operator calls the API about slices.
    pub(crate) fn call(&mut self, at: usize, effect: Effect) {
        let writes = !matches!(effect, Effect::ListSlices { .. } | Effect::ReadSlice { .. });
        let due = self.mono() + TIMEOUT;
        let no_answer = Reply { due, input: unanswered(&effect) };
        if self.operators[at].cut_off {
            self.operator(at).replies.push(no_answer);
            return;
        }
        let fate = if writes { self.operator(at).next_write.take() } else { None };
        match fate {
            None => {
                let reply = Reply { due: self.mono(), input: self.execute(&effect) };
                self.operator(at).replies.push(reply);
            }
            Some(Fate::RequestLost) => {
                self.say(|| format!("operator {at}: the request of {} is lost", told(&effect)));
                self.operator(at).replies.push(no_answer);
            }
            Some(Fate::AnswerLost) => {
                self.say(|| format!("operator {at}: the answer to {} is lost", told(&effect)));
                self.execute(&effect);
                self.operator(at).replies.push(no_answer);
            }
            Some(Fate::Late) => {
                self.say(|| format!("operator {at}: {} is late", told(&effect)));
                Arc::make_mut(&mut self.api).late.push((due, effect));
                self.operator(at).replies.push(no_answer);
            }
            Some(Fate::ThenDies) => {
                self.execute(&effect);
                self.crash_operator(at);
            }
            Some(Fate::FrozenMeanwhile) => {
                self.say(|| format!("operator {at} freezes with {} under way", told(&effect)));
                Arc::make_mut(&mut self.api).late.push((due, effect));
                self.operator(at).replies.push(no_answer);
                self.operator(at).frozen = true;
            }
        }
    }

    /// A late write lands, whoever has given it up.
    pub(crate) fn land(&mut self) {
        let (due, effect) = Arc::make_mut(&mut self.api).late.remove(0);
        self.say(|| format!("a late write lands: {}", told(&effect)));
        // Until it is given up, and somebody knows better, it is right by what its writer knew.
        let led = (0..2).any(|at| self.operators[at].leads(self.mono()));
        self.check.forgives = !led || self.mono() < due + crate::clock::UNIT;
        self.execute(&effect);
        self.check.forgives = false;
    }

    fn execute(&mut self, effect: &Effect) -> Input {
        match effect {
            Effect::ListSlices { op } => {
                let stored = &self.api.stored;
                let slices = stored.slice.iter().cloned().collect();
                Input::Listed { op: *op, slices, version: stored.version }
            }
            Effect::ReadSlice { op, id } => {
                Input::Read { op: *op, id: id.clone(), slice: self.api.stored.slice.clone().filter(|s| s.id == *id) }
            }
            Effect::CreateSlice { op, id, term } => {
                let outcome = self.write(id, None, *term, |_| {});
                Input::Written { op: *op, id: id.clone(), outcome }
            }
            Effect::TakeSlice { op, id, version, old_term, term } => {
                let outcome = self.write(id, Some(*version), *old_term, |slice| slice.term = *term);
                Input::Written { op: *op, id: id.clone(), outcome }
            }
            Effect::WriteSlice { op, id, version, term, records, removal_until } => {
                let before = Arc::new(self.api.stored.clone());
                let outcome = self.write(id, Some(*version), *term, |slice| {
                    slice.records.clone_from(records);
                    slice.removal_until = *removal_until;
                });
                if matches!(outcome, Outcome::Done { .. }) {
                    Arc::make_mut(&mut self.api).before = Some(before);
                    self.record_written();
                }
                Input::Written { op: *op, id: id.clone(), outcome }
            }
            other => panic!("{other:?} is no call of the API"),
        }
    }

    /// **Compare-and-swap**, the API server's side: the patch tests resourceVersion and term.
    fn write(&mut self, id: &SliceId, version: Option<u64>, term: u64, change: impl FnOnce(&mut Slice)) -> Outcome {
        let tests = |slice: &Slice, version: u64| {
            (slice.version == version || lacks(Rule::CompareAndSwapVersion))
                && (slice.term == term || lacks(Rule::CompareAndSwapTerm))
        };
        let fits = match (&self.api.stored.slice, version) {
            (None, None) => true,
            (Some(slice), Some(version)) => tests(slice, version),
            _ => false,
        };
        if !fits {
            self.say(|| format!("the API refuses a write of {id}"));
            return Outcome::Refused { message: "a test failed".into() };
        }
        let stored = self.stored();
        stored.version += 1;
        let version = stored.version;
        let empty =
            Slice { id: id.clone(), version, term, records: vec![], removal_until: None, removal_confirmed: false };
        let slice = stored.slice.get_or_insert(empty);
        change(slice);
        slice.version = version;
        for at in 0..2 {
            self.operator(at).unseen = Some(version);
        }
        Outcome::Done { version }
    }

    /// The storage goes back to a copy; `bumped`: its versions go on above all that were ever seen, and watches start
    /// anew. Otherwise no watch says so.
    pub(crate) fn restore(&mut self, copy: &Stored, bumped: bool) {
        let version = self.api.stored.version;
        let stored = self.stored();
        *stored = copy.clone();
        if bumped {
            stored.version = version + 1_000;
            stored.lease.version += 1_000;
            let slice = stored.slice.as_mut();
            let seen = slice.map(|slice| {
                slice.version = version + 1_000;
                slice.version
            });
            for at in 0..2 {
                self.operator(at).unseen = seen;
            }
        }
        let api = Arc::make_mut(&mut self.api);
        api.before = None;
        self.declared();
    }
}

/// What an effect writes, on one line.
fn told(effect: &Effect) -> String {
    match effect {
        Effect::CreateSlice { .. } => "a new slice".to_owned(),
        Effect::TakeSlice { term, .. } => format!("the term {}", crate::story::number(*term)),
        Effect::WriteSlice { records, .. } => {
            let records: Vec<String> = records.iter().map(crate::story::record).collect();
            if records.is_empty() { "\"no record\"".to_owned() } else { format!("\"{}\"", records.join("; ")) }
        }
        other => format!("{other:?}"),
    }
}

fn unanswered(effect: &Effect) -> Input {
    let message = "no answer".to_owned();
    match effect.clone() {
        Effect::ListSlices { op } => Input::ListFailed { op, message },
        Effect::ReadSlice { op, id } => Input::ReadFailed { op, id, message },
        Effect::CreateSlice { op, id, .. } | Effect::TakeSlice { op, id, .. } | Effect::WriteSlice { op, id, .. } => {
            Input::Written { op, id, outcome: Outcome::Unknown { message } }
        }
        other => panic!("{other:?} is no call of the API"),
    }
}

/// The one slice that there is.
pub(crate) fn slice_id() -> SliceId {
    SliceId { namespace: NAMESPACE.into(), index: weir_feed::digest::slice_of(NAME) }
}
