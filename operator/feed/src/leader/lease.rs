//! **Grant**: under which policy a streamer may be holding a stream, and when it may serve what `StopCapturing` stops.

use std::collections::{BTreeMap, BTreeSet};

use super::Leader;
use super::session::Session;
use super::step::{Effect, Want};
use crate::frames::Partition;
use crate::record::{Change, Phase, Record, StreamId, StreamerId};
use crate::rule::{Rule, lacks};
use crate::time::Now;

impl Leader {
    /// For how long (ms) a streamer must have been lost to be gone as far as this stream goes; `u64::MAX`: never.
    pub(super) fn gone_after(&self, stream: &StreamId) -> u64 {
        let held = self.record(stream).map(|record| record.partition);
        self.want(stream).map_or(u64::MAX, |want| want.partition.gone_after(held, want.after, &self.periods))
    }

    /// **Gate**: whether nobody who has not been heard under this leader can be in the way of giving `stream` to somebody:
    /// it may be serving it under a lease of the last leader, whatever a restored record says.
    pub(super) fn lets_be_given(&self, stream: &StreamId) -> bool {
        let keeps = self.want(stream).is_none_or(|want| want.partition == Partition::KeepCapturing);
        keeps || self.has_heard_all(&stream.namespace) || lacks(Rule::Unheard)
    }

    fn has_heard_all(&self, namespace: &str) -> bool {
        self.unheard.as_ref().is_some_and(|unheard| unheard.iter().all(|id| id.namespace != namespace))
    }

    /// Forgets expected Streamers that have reported, or have been lost for so long that their lease is over.
    pub(super) fn hear_all(&mut self, now: Now) {
        if !self.settled || self.unheard.as_ref().is_some_and(BTreeSet::is_empty) {
            return;
        }
        let left = self.expected_streamers().into_iter().filter(|id| self.unheard_for(id, now).is_some());
        self.unheard = Some(left.collect());
    }

    /// For how many ms more a Streamer that was not heard under this leader may be serving under a lease of the last.
    fn unheard_for(&self, id: &StreamerId, now: Now) -> Option<u64> {
        let session = self.sessions.get(id).filter(|session| session.reported);
        let left = (self.led_since + self.periods.lease_over()).saturating_sub(self.observed(now));
        (session.is_none() && left > 0).then_some(left)
    }

    /// Expected Streamers of a namespace that were not heard under this leader, and for how many ms more they may be
    /// serving under a lease of the last one.
    pub fn unheard(&self, namespace: &str, now: Now) -> BTreeMap<String, u64> {
        let unheard = self.unheard.iter().flatten().filter(|id| id.namespace == namespace && !lacks(Rule::Unheard));
        unheard.filter_map(|id| Some((id.name.clone(), self.unheard_for(id, now)?))).collect()
    }

    /// **Grant**: what the next ping to a sidecar carries, if it may serve what `StopCapturing` stops.
    ///
    /// A lease that has not run out goes on: while it ran nothing of it was given to anybody else. One that has run out
    /// begins again only under a settled view, for rows that the sidecar has from this leader.
    pub(super) fn lease_for(&self, id: &StreamerId, now: Now) -> Option<u64> {
        let session = self.sessions.get(id)?;
        let report = session.lease?;
        if report.runs && !lacks(Rule::GrantOfRunning) {
            return report.at;
        }
        let heard = self.has_heard_all(&id.namespace) || lacks(Rule::GrantToHeard);
        let told = (session.has_applied_all() && session.dirty.is_empty()) || lacks(Rule::GrantOfApplied);
        let former = self.observed(now) < session.former_until && !lacks(Rule::GrantAfterFormer);
        let outdone = self.is_outdone(id, session) && !lacks(Rule::GrantToBest);
        report.at.filter(|_| heard && told && !former && !outdone && self.has_to_itself(id, session, now))
    }

    /// Nobody else may be running what it has: it comes back with a row that is above a restored record, and that record's
    /// holder captures the stream.
    fn has_to_itself(&self, id: &StreamerId, session: &Session, now: Now) -> bool {
        let rows = session.have.iter().filter_map(|(name, have)| Some((name, have.row.as_ref()?.0)));
        let mut unsettled = rows.filter(|(name, epoch)| {
            let stream = StreamId { namespace: id.namespace.clone(), name: (*name).clone() };
            let stops = self.want(&stream).is_some_and(|want| want.partition == Partition::StopCapturing);
            let by_record = |record: &Record| record.epoch == *epoch && record.streamers().all(|name| name == id.name);
            stops && !self.record(&stream).is_some_and(by_record) && !self.gate_open(&stream, &id.name, now)
        });
        unsettled.next().is_none() || lacks(Rule::GrantAlone)
    }

    /// It has a row under an epoch that another sidecar exceeds: a restored record that is not corrected yet.
    fn is_outdone(&self, id: &StreamerId, session: &Session) -> bool {
        let rows = || session.have.iter().filter_map(|(name, have)| Some((name, have.row.as_ref()?.0)));
        self.sessions_of(&id.namespace).filter(|(other, _)| *other != id).any(|(_, other)| {
            !other.claims.is_empty() && rows().any(|(name, epoch)| other.claims.get(name).is_some_and(|it| *it > epoch))
        })
    }

    /// When (in terms of [`Leader::observed`]) a former instance under the name of a newcomer has surely ended.
    pub(super) fn former_until(&self, streamer: &StreamerId, instance: &str, verified: bool) -> u64 {
        let over = self.periods.lease_over();
        match self.sessions.get(streamer).filter(|session| session.reported) {
            _ if verified => 0,
            Some(former) if former.instance.as_deref() == Some(instance) => former.former_until,
            Some(former) => former.holder_heard + over,
            // Another instance may have had the name under the leader before.
            None if self.expected_streamers().contains(streamer) => self.led_since + over,
            None => 0,
        }
    }

    /// Under which policy `streamer` would hold the stream, were it given to it now.
    pub(super) fn policy_on(&self, stream: &StreamId, streamer: &str) -> Partition {
        let Some(want) = self.want(stream) else {
            return Partition::KeepCapturing;
        };
        let id = StreamerId { namespace: stream.namespace.clone(), name: streamer.to_owned() };
        let row = self.sessions.get(&id).and_then(|session| session.have.get(&stream.name)?.row.as_ref());
        if row.is_none_or(|(_, hash)| is_current(want, hash)) { want.partition } else { Partition::KeepCapturing }
    }

    /// Records follow policies: to `StopCapturing` when the holder surely has it, to `KeepCapturing` before it gets it.
    pub(super) fn follow_policies(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.policies_changed || !self.settled || !self.may_plan(now) {
            return;
        }
        let differs = |(stream, record): &(StreamId, &Record)| {
            let want = self.want(stream)?;
            let follows = want.partition == Partition::KeepCapturing || self.has_surely(stream, record, want);
            (want.partition != record.partition && record.phase == Phase::Active && follows).then_some(want.partition)
        };
        let changes: Vec<_> = self
            .records()
            .filter_map(|entry| {
                let partition = differs(&entry)?;
                Some((entry.0, Change::Policy { partition }, true))
            })
            .collect();
        // Looked at again until it is written.
        self.policies_changed = !changes.is_empty();
        if self.policies_changed {
            let held = self.held_removals();
            self.plan(changes, &held, now, effects);
        }
    }

    /// The record's holder has acknowledged the row as it is wanted now.
    fn has_surely(&self, stream: &StreamId, record: &Record, want: &Want) -> bool {
        let holder = StreamerId { namespace: stream.namespace.clone(), name: record.streamer.clone() };
        self.sessions.get(&holder).is_some_and(|session| {
            let row = session.have.get(&stream.name).and_then(|have| have.row.as_ref());
            let told = session.conn.is_some() && session.has_applied_all();
            told && row.is_some_and(|(epoch, hash)| *epoch == record.epoch && is_current(want, hash))
        })
    }
}

/// The hash covers the policy.
fn is_current(want: &Want, hash: &str) -> bool {
    want.document.as_ref().is_some_and(|document| document.hash == hash)
}
