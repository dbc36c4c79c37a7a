//! Taking the truth: **Fence**, **Term**, and what is done about slices that others changed.

use super::slice::{Content, SliceState, Stage};
use super::step::{Effect, Outcome, Slice, SliceId};
use super::{Leader, Role};
use crate::rule::{Rule, lacks};
use crate::time::Now;

impl Leader {
    /// **Term**: more than every term seen in Lease, slices and hellos, at least the time in ms.
    fn raise_term(&mut self, now: Now) {
        self.highest_term = self.highest_term.max(self.term);
        let at_least = if lacks(Rule::Term) { 0 } else { now.wall };
        self.term = (self.highest_term + 1).max(at_least);
        self.highest_term = self.term;
    }

    /// The Lease has become ours: first the truth is taken.
    pub(super) fn begin_taking(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.role = Role::Taking;
        self.raise_term(now);
        self.list(effects);
    }

    fn list(&mut self, effects: &mut Vec<Effect>) {
        self.list_at = None;
        let op = self.next_op();
        self.listing = Some(op);
        effects.push(Effect::ListSlices { op });
    }

    /// Sends a slice to be read; `take`: whatever it shows, our term goes in before it is used.
    pub(super) fn read_slice(&mut self, id: &SliceId, take: bool, effects: &mut Vec<Effect>) {
        let op = self.next_op();
        let state = self.slices.entry(id.clone()).or_default();
        state.stage = Stage::Reading { take };
        state.op = op;
        effects.push(Effect::ReadSlice { op, id: id.clone() });
    }

    /// Sends our term into a slice, over what was read.
    fn take_slice(&mut self, found: Slice, effects: &mut Vec<Effect>) {
        let (op, term) = (self.next_op(), self.term);
        let Slice { id, version, term: old_term, .. } = found.clone();
        let state = self.slices.entry(id.clone()).or_default();
        state.stage = Stage::Taking { found: Box::new(found), term };
        state.op = op;
        effects.push(Effect::TakeSlice { op, id, version, old_term, term });
    }

    /// **Fence**: our term into every slice; a list in which every slice has it makes us the leader.
    pub(super) fn listed(&mut self, slices: Vec<Slice>, version: u64, now: Now, effects: &mut Vec<Effect>) {
        if version < self.list_version {
            effects.push(Effect::Exit { why: went_back("the list of Placements", version, self.list_version) });
            return;
        }
        self.list_version = version;
        let found = slices.iter().map(|slice| slice.term).max().unwrap_or(0);
        self.highest_term = self.highest_term.max(found);
        if found > self.term {
            self.raise_term(now);
        }
        self.slices.clear();
        for slice in slices {
            self.slices.insert(slice.id.clone(), SliceState::found(slice.clone()));
            if slice.term != self.term && !lacks(Rule::FenceOfNewLeader) {
                self.take_slice(slice, effects);
            }
        }
        if self.slices.values().all(SliceState::idle) {
            self.begin_leading(now, effects);
        }
    }

    pub(super) fn list_failed(&mut self, message: &str, now: Now, effects: &mut Vec<Effect>) {
        effects.push(Effect::Warn { message: format!("Placements cannot be listed: {message}") });
        self.list_at = Some(self.observed(now) + self.periods.ping);
    }

    fn begin_leading(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.role = Role::Leading;
        self.led_since = self.observed(now);
        self.budget_at = self.led_since;
        self.look_at = self.led_since + self.periods.period;
        let releasing: Vec<_> = self
            .records()
            .filter(|(_, record)| record.phase == crate::record::Phase::Releasing)
            .map(|(stream, _)| stream)
            .collect();
        for streamer in self.expected_streamers() {
            self.session_of(&streamer);
        }
        self.releasing_since = releasing.into_iter().map(|stream| (stream, self.led_since)).collect();
        for newcomer in std::mem::take(&mut self.early) {
            self.connected(newcomer, now, effects);
        }
    }

    /// How the write of a term ended.
    pub(super) fn taken(&mut self, id: &SliceId, outcome: Outcome, now: Now, effects: &mut Vec<Effect>) {
        let observed = self.observed(now);
        let Some(state) = self.slices.get_mut(id) else {
            return;
        };
        let Stage::Taking { found, term } = std::mem::take(&mut state.stage) else {
            return;
        };
        match (outcome, self.role) {
            (Outcome::Done { version }, Role::Taking) => {
                state.version = Some(version);
                state.term = term;
                // "Takes, then lists": a slice that the old leader posted late is seen by the second list.
                if self.slices.values().all(SliceState::idle) {
                    self.list(effects);
                }
            }
            (_, Role::Taking) => {
                self.list_at = Some(observed + self.periods.ping);
            }
            (Outcome::Done { version }, _) => {
                // One that was deleted is made empty, and what is known of it is still to be written.
                let unknown = state.version.is_none() && state.records.is_empty();
                let newer = state.version.is_some() && found.term > state.term;
                let (seen, doubt) = (state.seen, state.doubt.take());
                let mut fresh = SliceState::found(Slice { version, term, ..*found });
                fresh.seen = seen.max(version);
                let counts = unknown || newer || doubt.is_some_and(|doubt| doubt == fresh.records);
                self.adopt_slice(id, fresh, counts, now, effects);
            }
            (Outcome::Refused { message } | Outcome::Unknown { message }, _) => {
                effects.push(Effect::Warn { message: format!("{id} could not be taken again: {message}") });
                let at = observed + state.failed(&self.periods);
                state.stage = Stage::ReadAt { at, take: true };
            }
        }
    }

    /// The watch has shown a slice; if that is not what we wrote, it is read again from a quorum.
    pub(super) fn slice_seen(&mut self, id: &SliceId, version: Option<u64>, effects: &mut Vec<Effect>) {
        if self.role != Role::Leading {
            return;
        }
        let known = self.slices.contains_key(id);
        if version.is_none() && !known {
            return;
        }
        let state = self.slices.entry(id.clone()).or_default();
        match version {
            Some(version) => {
                state.seen = state.seen.max(version);
                state.seen_deleted = false;
            }
            None => state.seen_deleted = true,
        }
        self.read_if_stale(id, effects);
    }

    /// Reads an idle slice of which the watch has shown something newer.
    pub(super) fn read_if_stale(&mut self, id: &SliceId, effects: &mut Vec<Effect>) {
        let Some(state) = self.slices.get_mut(id) else {
            return;
        };
        let deleted = state.seen_deleted && state.version.is_some();
        if state.quiet() && (deleted || state.seen > state.version.unwrap_or(0)) {
            self.read_slice(id, false, effects);
        }
    }

    /// A slice as a quorum read found it.
    pub(super) fn read(&mut self, id: &SliceId, slice: Option<Slice>, now: Now, effects: &mut Vec<Effect>) {
        let until = self.observed(now) + self.periods.period;
        let Some(state) = self.slices.get_mut(id) else {
            return;
        };
        let Stage::Reading { take: must_take } = state.stage else {
            return;
        };
        let Some(slice) = slice else {
            return self.slice_is_gone(id, now, effects);
        };
        let known = state.version.unwrap_or(0);
        if slice.version < known {
            effects.push(Effect::Exit { why: went_back(&id.to_string(), slice.version, known) });
            return;
        }
        if slice.term > self.term {
            self.highest_term = self.highest_term.max(slice.term);
            self.step_down(&format!("{id} has term {}, ours is {}", slice.term, self.term), effects);
            return;
        }
        // **Fence**: a slice with a foreign term, or one whose last write ended without an answer, is taken first.
        if must_take && !lacks(Rule::FenceOfLostAnswer) || slice.term != state.term {
            self.raise_term(now);
            self.take_slice(slice, effects);
            return;
        }
        if slice.version == known {
            // Read after a refusal, and nothing is new: the API would refuse the same write again.
            let message =
                format!("{id} is unchanged, and yet its write was refused: this is a bug; it is tried again later");
            effects.push(Effect::Warn { message });
            state.stage = Stage::Blocked { until };
            return;
        }
        self.adopt_slice(id, SliceState::found(slice), false, now, effects);
    }

    pub(super) fn read_failed(&mut self, id: &SliceId, message: &str, now: Now, effects: &mut Vec<Effect>) {
        let observed = self.observed(now);
        let Some(state) = self.slices.get_mut(id) else {
            return;
        };
        if let Stage::Reading { take } = state.stage {
            effects.push(Effect::Warn { message: format!("{id} cannot be read: {message}") });
            let at = observed + state.failed(&self.periods);
            state.stage = Stage::ReadAt { at, take };
        }
    }

    /// A quorum read does not find a slice: it was deleted under us, or could not be made a moment ago.
    fn slice_is_gone(&mut self, id: &SliceId, now: Now, effects: &mut Vec<Effect>) {
        let until = self.observed(now) + self.periods.period;
        match self.slices.get_mut(id) {
            Some(state) if state.version.is_some() => self.restore(id, now, effects),
            // A namespace that is being deleted refuses it again and again.
            Some(state) => state.stage = Stage::Blocked { until },
            None => {}
        }
    }

    /// What we know of a slice that is not there is the truth, and is written again.
    fn restore(&mut self, id: &SliceId, now: Now, effects: &mut Vec<Effect>) {
        let Some(state) = self.slices.get_mut(id) else {
            return;
        };
        let content = Content { records: state.records.clone(), removal_until: state.removal_until };
        *state = SliceState { records: content.records.clone(), ..SliceState::default() };
        if content.records.is_empty() {
            return;
        }
        effects.push(Effect::Warn { message: format!("{id} was deleted: it is made again") });
        let names = content.records.keys().cloned().collect();
        let content = self.bumped(id, content, &names, now);
        self.write_content(id, content, effects);
    }

    /// A slice with our term becomes what we know where its records count: it shows our write that had no answer, or a newer leader's,
    /// or nothing was known of it. Otherwise somebody edited it, or put an older one back, and its records are put right again.
    fn adopt_slice(&mut self, id: &SliceId, fresh: SliceState, counts: bool, now: Now, effects: &mut Vec<Effect>) {
        let Some(state) = self.slices.get_mut(id) else {
            return;
        };
        let changed: std::collections::BTreeSet<String> = state
            .records
            .keys()
            .chain(fresh.records.keys())
            .filter(|name| state.records.get(*name) != fresh.records.get(*name))
            .cloned()
            .collect();
        if counts || changed.is_empty() {
            let before = std::mem::replace(state, fresh);
            self.records_changed(id, &before.records, now);
            self.read_if_stale(id, effects);
            return;
        }
        let message = format!("{id} was edited by somebody else ({} records): it is put right again", changed.len());
        effects.push(Effect::Warn { message });
        let content = Content { records: state.records.clone(), removal_until: state.removal_until };
        *state = SliceState { records: content.records.clone(), ..fresh };
        let content = self.bumped(id, content, &changed, now);
        self.write_content(id, content, effects);
    }

    /// What is due: a list or reads that failed before.
    pub(super) fn retry(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let observed = self.observed(now);
        if self.list_at.is_some_and(|at| observed >= at) && self.role == Role::Taking {
            self.list(effects);
        }
        let (mut due, mut absent) = (Vec::new(), Vec::new());
        for (id, state) in &mut self.slices {
            match state.stage {
                Stage::ReadAt { at, take } if observed >= at => due.push((id.clone(), take)),
                Stage::Blocked { until } if observed >= until => {
                    state.stage = Stage::Idle;
                    if state.version.is_none() {
                        absent.push(id.clone());
                    }
                }
                _ => {}
            }
        }
        for (id, take) in due {
            self.read_slice(&id, take, effects);
        }
        for id in absent {
            if self.is_alive(&id.namespace) {
                self.restore(&id, now, effects);
            } else {
                self.slices.remove(&id);
            }
        }
    }
}

impl Leader {
    /// Whether anybody wants anything in a namespace, or is there.
    fn is_alive(&self, namespace: &str) -> bool {
        let wanted = self.wants.iter().flatten().any(|(stream, _)| stream.namespace == namespace);
        wanted || self.wants.is_none() || self.sessions_of(namespace).any(|(_, session)| session.conn.is_some())
    }
}

/// Why a process must not go on that finds `what` at a resourceVersion below one that it has seen.
pub fn went_back(what: &str, found: u64, known: u64) -> String {
    format!(
        "{what} has resourceVersion {found}, but {known} was seen before: the API server's storage went back in time \
         (restored from a copy); every cache of this process is wrong, so it starts anew"
    )
}
