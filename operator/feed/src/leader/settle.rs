//! **Wait** and **All in**: when a new leader may act, and when it may correct a record from what sidecars show.

use std::collections::{BTreeMap, BTreeSet};

use super::step::Effect;
use super::{Leader, Role};
use crate::periods::Periods;
use crate::record::{Change, Record, StreamId, StreamerId};
use crate::rule::{Rule, lacks};
use crate::time::Now;

impl Leader {
    /// Streamers that a new leader waits for: those in a record, and those that were ever ready.
    pub(super) fn expected_streamers(&self) -> BTreeSet<StreamerId> {
        let in_records = self.records().flat_map(|(stream, record)| {
            let namespace = stream.namespace;
            let names: Vec<_> = record.streamers().collect();
            names.into_iter().map(move |name| StreamerId { namespace: namespace.clone(), name })
        });
        self.expected.iter().flatten().cloned().chain(in_records).collect()
    }

    /// **Wait**: after taking over, at least silence + 1 s and until all expected Streamers have reported, at most one
    /// period. With nobody expected, silence + 1 s after the first was ready, so that the first does not get all.
    pub(super) fn settle(&mut self, now: Now) {
        if self.role != Role::Leading || self.settled || self.expected.is_none() {
            return;
        }
        let observed = self.observed(now);
        let ready = self.sessions.values().any(|session| session.conn.is_some() && session.has_polled);
        if ready && self.first_ready.is_none() {
            self.first_ready = Some(observed);
        }
        let expected = self.expected_streamers();
        let waited = observed >= self.led_since + self.periods.wait();
        self.settled = lacks(Rule::Wait)
            || waited
                && if expected.is_empty() {
                    self.first_ready.is_some_and(|at| observed >= at + self.periods.wait())
                } else {
                    let all = expected.iter().all(|id| self.sessions.get(id).is_some_and(|session| session.reported));
                    all || observed >= self.led_since + self.periods.period
                };
    }

    /// **All in**: every expected Streamer has reported, or is gone.
    fn all_in(&self, now: Now) -> bool {
        if lacks(Rule::AllIn) {
            return true;
        }
        let observed = self.observed(now);
        self.settled
            && self.expected_streamers().iter().all(|id| {
                let never_heard = Some(observed.saturating_sub(self.led_since));
                let (reported, lost) = self.sessions.get(id).map_or((false, never_heard), |session| {
                    let Periods { silence, alive, .. } = self.periods;
                    (session.reported, session.lost_for(None, silence, alive, observed))
                });
                reported || lost.is_some_and(|lost| lost >= self.periods.period)
            })
    }

    /// **All in**: records below a proven grant are old, and are corrected; the highest granted epoch wins.
    pub(super) fn correct(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.news || !self.may_plan(now) || !self.all_in(now) {
            return;
        }
        let mut changes = Vec::new();
        for (stream, (epoch, streamer)) in self.best_claims() {
            let record = self.record(&stream);
            // What nobody is to capture needs no record to be taken away.
            let Some(want) = self.want(&stream).filter(|want| record.is_some() || !want.disabled) else {
                continue;
            };
            if record.is_none_or(|record| record.epoch < epoch) {
                let (object, uid) = (want.stream.clone(), want.uid.clone());
                changes.push((stream, Change::Correct { stream: object, uid, streamer }, true));
            }
        }
        let corrected: BTreeSet<_> = changes.iter().map(|(stream, ..)| stream.clone()).collect();
        for (stream, record) in self.records().filter(|(stream, _)| !corrected.contains(stream)) {
            if self.outdated(&stream, record) {
                changes.push((stream, Change::Keep, true));
            }
        }
        // Looked at again until it is written: a write may be lost.
        self.news = !changes.is_empty();
        if self.news {
            let message = format!("{} records are older than what sidecars prove: corrected", changes.len());
            let corrected = changes.iter().filter_map(|(stream, change, _)| match change {
                Change::Correct { streamer, .. } => Some((stream.clone(), streamer.clone())),
                _ => Some((stream.clone(), self.record(stream)?.streamer.clone())),
            });
            let corrected = Effect::Corrected { streams: corrected.collect() };
            let (held, before) = (self.held_removals(), effects.len());
            self.plan(changes, &held, now, effects);
            if effects.len() > before {
                effects.extend([Effect::Warn { message }, corrected]);
            }
        }
    }

    /// An epoch that its holder has stopped serving is never served again (**Final**): it needs a greater one.
    fn outdated(&self, stream: &StreamId, record: &Record) -> bool {
        let holder = StreamerId { namespace: stream.namespace.clone(), name: record.streamer.clone() };
        let stopped = self.sessions.get(&holder).and_then(|session| session.stopped.get(&stream.name));
        let active = record.phase == crate::record::Phase::Active && !lacks(Rule::Final);
        active && stopped.is_some_and(|stopped| *stopped >= record.epoch)
    }

    fn best_claims(&self) -> BTreeMap<StreamId, (u64, String)> {
        let mut best: BTreeMap<StreamId, (u64, String)> = BTreeMap::new();
        for (id, session) in &self.sessions {
            for (name, epoch) in &session.claims {
                let stream = StreamId { namespace: id.namespace.clone(), name: name.clone() };
                let claim = (*epoch, id.name.clone());
                let entry = best.entry(stream).or_insert_with(|| claim.clone());
                *entry = claim.max(entry.clone());
            }
        }
        best
    }

    pub(super) fn held_removals(&self) -> BTreeMap<String, u64> {
        let held = self.slices.iter().filter_map(|(id, slice)| Some((id.namespace.clone(), slice.removal_until?)));
        held.collect()
    }
}
