//! Records are changed: **Compare-and-swap**, **Bump**, and how much may be written.

use std::collections::{BTreeMap, BTreeSet};

use super::slice::{Content, Stage};
use super::step::{Effect, Outcome, SliceId};
use super::{Leader, Role};
use crate::record::{Change, Phase, Record, StreamId, StreamerId};
use crate::rule::{Rule, lacks};
use crate::time::Now;

/// A slice is refused further streams from this size on, in bytes: an object of more than 1.5 MiB is refused by etcd.
const FULL: u64 = 512 << 10;

/// In ms.
pub(super) const MINUTE: u64 = 60_000;

/// Every write costs the whole slice in etcd's history: this many bytes a millisecond in all (1 MiB/s).
const BUDGET: u64 = 1_048;

impl Leader {
    /// **Deadline**: whether a plan can be carried out now: we lead, everything is known, and no write is under way that may yet succeed.
    pub fn may_plan(&self, now: Now) -> bool {
        self.role == Role::Leading
            && (now.mono < self.deadline || lacks(Rule::Deadline))
            && self.wants.is_some()
            && self.expected.is_some()
            && !self.slices.values().any(super::slice::SliceState::keeps_waiting)
    }

    /// In how many ms a write that is not urgent fits the budget.
    pub fn budget_in(&self, now: Now) -> u64 {
        self.budget_at.saturating_sub(self.observed(now))
    }

    /// **Bump**: more than every epoch known of the stream, at least the time in ms.
    pub(super) fn next_epoch(&self, stream: &StreamId, now: Now) -> u64 {
        let of_record = self.record(stream).map_or(0, |record| record.epoch);
        let of_claims = self
            .sessions
            .iter()
            .filter(|(id, _)| id.namespace == stream.namespace)
            .filter_map(|(_, session)| session.highest_epoch(&stream.name))
            .max()
            .unwrap_or(0);
        if lacks(Rule::Bump) && of_record > 0 {
            return of_record;
        }
        (of_record.max(of_claims) + 1).max(now.wall)
    }

    pub(super) fn bumped(&self, id: &SliceId, mut content: Content, names: &BTreeSet<String>, now: Now) -> Content {
        for (name, record) in content.records.iter_mut().filter(|(name, _)| names.contains(*name)) {
            record.epoch = self.next_epoch(&StreamId { namespace: id.namespace.clone(), name: name.clone() }, now);
        }
        content
    }

    /// Carries out a plan, slice by slice. What the budget does not allow yet is left out: it will be planned again.
    pub(super) fn plan(
        &mut self,
        changes: Vec<(StreamId, Change, bool)>,
        held_removals: &BTreeMap<String, u64>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if !self.may_plan(now) {
            return;
        }
        let mut by_slice: BTreeMap<SliceId, (bool, Vec<(StreamId, Change)>)> = BTreeMap::new();
        for (stream, change, urgent) in changes {
            let entry = by_slice.entry(SliceId::of(&stream)).or_default();
            entry.0 |= urgent;
            entry.1.push((stream, change));
        }
        for (id, state) in &self.slices {
            let until = held_removals.get(&id.namespace).copied().filter(|_| !state.records.is_empty());
            if until != state.removal_until {
                by_slice.entry(id.clone()).or_default();
            }
        }
        for (id, (urgent, changes)) in by_slice {
            let until = held_removals.get(&id.namespace).copied();
            let content = self.changed(&id, &changes, until, now);
            let observed = self.observed(now);
            if self.has_already(&id, &content) {
                let message =
                    format!("{id} is full ({} KiB): its streams are not placed; use a further namespace", FULL >> 10);
                effects.push(Effect::Warn { message });
                continue;
            }
            let blocked = self.slices.get(&id).is_some_and(|state| !state.idle());
            if blocked || (!urgent && observed < self.budget_at) {
                continue;
            }
            self.budget_at = self.budget_at.max(observed) + size(&content.records) / BUDGET;
            for (stream, change) in &changes {
                self.note(stream, change, observed);
            }
            self.write_content(&id, content, effects);
        }
    }

    fn has_already(&self, id: &SliceId, content: &Content) -> bool {
        let state = self.slices.get(id);
        state.map_or(content.records.is_empty(), |state| {
            state.records == content.records && state.removal_until == content.removal_until
        })
    }

    fn changed(&self, id: &SliceId, changes: &[(StreamId, Change)], until: Option<u64>, now: Now) -> Content {
        let mut records = self.slices.get(id).map(|state| state.records.clone()).unwrap_or_default();
        let full = self.is_full(id);
        for (stream, change) in changes.iter().filter(|(_, change)| !(full && matches!(change, Change::Place { .. }))) {
            let epoch = self.next_epoch(stream, now);
            match Record::apply(&stream.name, records.get(&stream.name), change, epoch) {
                Some(mut record) => {
                    if matches!(change, Change::Place { .. } | Change::Move { .. } | Change::Correct { .. }) {
                        record.partition = self.policy_on(stream, &record.streamer);
                    }
                    records.insert(stream.name.clone(), record)
                }
                None => records.remove(&stream.name),
            };
        }
        let removal_until = until.filter(|_| !records.is_empty());
        Content { records, removal_until }
    }

    /// A slice takes no further streams.
    pub(super) fn is_full(&self, id: &SliceId) -> bool {
        self.slices.get(id).is_some_and(|state| size(&state.records) >= FULL)
    }

    /// A release that is called off is not tried again for a while.
    fn note(&mut self, stream: &StreamId, change: &Change, observed: u64) {
        if *change == Change::Keep {
            self.called_off.insert(stream.clone(), observed);
        }
    }

    /// **Compare-and-swap**: version and term are tested by the write; a new slice is posted empty, then filled.
    pub(super) fn write_content(&mut self, id: &SliceId, content: Content, effects: &mut Vec<Effect>) {
        let (op, term) = (self.next_op(), self.term);
        let state = self.slices.entry(id.clone()).or_default();
        state.op = op;
        state.failures = 0;
        if let Some(version) = state.version {
            effects.push(Effect::WriteSlice {
                op,
                id: id.clone(),
                version,
                term: state.term,
                records: content.records.values().cloned().collect(),
                removal_until: content.removal_until,
            });
            state.stage = Stage::Writing { next: Box::new(content) };
        } else {
            effects.push(Effect::CreateSlice { op, id: id.clone(), term });
            state.stage = Stage::Creating { term, next: Box::new(content) };
        }
    }

    /// How a write ended.
    pub(super) fn written(&mut self, id: &SliceId, outcome: Outcome, now: Now, effects: &mut Vec<Effect>) {
        let Some(state) = self.slices.get_mut(id) else {
            return;
        };
        match (std::mem::take(&mut state.stage), outcome) {
            (taking @ Stage::Taking { .. }, outcome) => {
                state.stage = taking;
                self.taken(id, outcome, now, effects);
            }
            (Stage::Creating { term, next }, Outcome::Done { version }) => {
                state.version = Some(version);
                state.term = term;
                state.seen_deleted = false;
                self.write_content(id, *next, effects);
            }
            (Stage::Writing { next }, Outcome::Done { version }) => {
                state.version = Some(version);
                state.removal_until = next.removal_until;
                state.doubt = None;
                let before = std::mem::replace(&mut state.records, next.records);
                self.records_changed(id, &before, now);
                self.read_if_stale(id, effects);
            }
            (Stage::Creating { .. } | Stage::Writing { .. }, Outcome::Refused { message }) => {
                let message = format!("{id} was not written, it is read again: {message}");
                effects.push(Effect::Warn { message });
                self.read_slice(id, false, effects);
            }
            // **Fence**: a write without an answer may yet land; our term in the slice makes it fail its test.
            (under_way @ (Stage::Creating { .. } | Stage::Writing { .. }), Outcome::Unknown { message }) => {
                if let Stage::Writing { next } = under_way {
                    state.doubt = Some(next.records);
                }
                let message = format!("a write of {id} ended without an answer, it is taken again: {message}");
                effects.push(Effect::Warn { message });
                self.read_slice(id, true, effects);
            }
            (other, _) => state.stage = other,
        }
    }

    /// The truth has changed: who has to hear of it, and what is forgotten.
    pub(super) fn records_changed(&mut self, id: &SliceId, before: &BTreeMap<String, Record>, now: Now) {
        let observed = self.observed(now);
        let Some(state) = self.slices.get(id) else {
            return;
        };
        let mut touched: BTreeMap<String, (BTreeSet<String>, Option<Phase>)> = BTreeMap::new();
        for name in before.keys().chain(state.records.keys()) {
            let (old, new) = (before.get(name), state.records.get(name));
            if old != new {
                let streamers = [old, new].into_iter().flatten().flat_map(Record::streamers).collect();
                touched.insert(name.clone(), (streamers, new.map(|record| record.phase)));
            }
        }
        for (name, (streamers, phase)) in touched {
            let stream = StreamId { namespace: id.namespace.clone(), name };
            self.policies_changed = true;
            self.released.remove(&stream);
            self.outdate_claims(&stream, before.get(&stream.name));
            let leaves =
                self.record(&stream).is_some_and(|record| record.phase == Phase::Releasing && record.to.is_none());
            let left =
                before.get(&stream.name).is_some_and(|record| record.phase == Phase::Releasing && record.to.is_none());
            if leaves && !left && self.want(&stream).is_none() {
                self.removals.entry(stream.namespace.clone()).or_default().push(observed);
            }
            match phase {
                Some(Phase::Releasing) => {
                    self.releasing_since.entry(stream.clone()).or_insert(observed);
                }
                _ => {
                    self.releasing_since.remove(&stream);
                }
            }
            for streamer in streamers {
                let streamer = StreamerId { namespace: id.namespace.clone(), name: streamer };
                self.session_of(&streamer).dirty.insert(stream.name.clone());
            }
        }
    }
}

impl Leader {
    /// What a record has overtaken, or outlived, is claimed no more.
    fn outdate_claims(&mut self, stream: &StreamId, before: Option<&Record>) {
        let epoch = self.record(stream).or(before).map_or(0, |record| record.epoch);
        for (_, session) in self.sessions.iter_mut().filter(|(id, _)| id.namespace == stream.namespace) {
            for claims in [&mut session.claims, &mut session.disputed] {
                if claims.get(&stream.name).is_some_and(|claim| *claim <= epoch) {
                    claims.remove(&stream.name);
                }
            }
        }
    }

    /// A Stream of that namespace is there no more.
    pub(super) fn vanishes(&mut self, namespace: String, observed: u64) {
        let (first, last) = self.vanishing.entry(namespace).or_insert((observed, observed));
        if observed.saturating_sub(*last) >= MINUTE {
            *first = observed;
        }
        *last = observed;
    }

    /// For how many ms nothing is to be released for want of a Stream: who takes many away does so one after the other,
    /// and they are counted together. A minute is enough, however many follow.
    pub(super) fn vanishing_for(&self, namespace: &str, observed: u64) -> u64 {
        let until =
            self.vanishing.get(namespace).map(|(first, last)| (last + self.periods.silence).min(first + MINUTE));
        until.unwrap_or(0).saturating_sub(observed)
    }

    /// Forgets what no plan asks for any more.
    pub(super) fn forget_old_news(&mut self, now: Now) {
        let observed = self.observed(now);
        for times in self.removals.values_mut() {
            times.retain(|at| observed.saturating_sub(*at) < MINUTE);
        }
        self.removals.retain(|_, times| !times.is_empty());
        let pause = self.periods.release;
        self.called_off.retain(|_, at| observed.saturating_sub(*at) < pause);
    }
}

/// How large a slice is in the API server's storage, in bytes, roughly: every key stands beside its value.
fn size(records: &BTreeMap<String, Record>) -> u64 {
    let of_record = |record: &Record| {
        let values = record.streamers().map(|name| name.len()).sum::<usize>();
        record.name.len() + record.stream.len() + record.uid.len() + values + 130
    };
    records.values().map(|record| of_record(record) as u64).sum::<u64>() + 400
}
