//! **Adopt** and **Gate**: who may be running a stream, and whether that stands in the way.

use std::collections::BTreeMap;

use super::Leader;
use super::session::Session;
use crate::record::{Phase, Record, StreamId, StreamerId};
use crate::rule::{Rule, lacks};
use crate::time::Now;

impl Leader {
    /// The streamers that may be running a stream, each with how long (ms) it has been lost, if it is.
    ///
    /// One that has reported may run what it says; one that has not, or is not connected, may also run what the record
    /// names it for. Only captures count, not restreams. One that has ended for good runs nothing.
    pub(super) fn may_run(&self, stream: &StreamId, now: Now) -> BTreeMap<String, Option<u64>> {
        self.may_run_among(stream, self.sessions_of(&stream.namespace).map(|(id, _)| id), now)
    }

    /// The same, where only these Streamers have, run or are letting go of the stream, or are named by its record.
    pub(super) fn may_run_among<'a>(
        &self,
        stream: &StreamId,
        streamers: impl Iterator<Item = &'a StreamerId>,
        now: Now,
    ) -> BTreeMap<String, Option<u64>> {
        let record = self.record(stream);
        let released = self.released.contains_key(stream);
        let observed = self.observed(now);
        let mut running = BTreeMap::new();
        let there = streamers.filter_map(|id| self.sessions.get_key_value(id));
        for (id, session) in there.filter(|(_, session)| !session.ended) {
            let name = &stream.name;
            let told = session.captures(name)
                || session.have.get(name).is_some_and(|have| have.row.is_some())
                || session.deleting.contains_key(name);
            let certain = session.conn.is_some() && session.reported && session.runs.is_some();
            let named = record.is_some_and(|record| named_by(record, &id.name, released));
            if told || (!certain && named) {
                let lost = session.lost_for(Some(name), self.periods.silence, self.periods.alive, observed);
                running.insert(id.name.clone(), lost);
            }
        }
        running
    }

    pub(super) fn sessions_of(&self, namespace: &str) -> impl Iterator<Item = (&StreamerId, &Session)> {
        let from = StreamerId { namespace: namespace.to_owned(), name: String::new() };
        self.sessions.range(from..).take_while(move |(id, _)| id.namespace == namespace)
    }

    /// **Gate**: whether `streamer`, which does not serve the stream yet, may be given it: nobody else may be running it
    /// that is not gone for longer than the stream's `failover.after`.
    pub(super) fn gate_open(&self, stream: &StreamId, streamer: &str, now: Now) -> bool {
        let bound = self.gone_after(stream);
        if lacks(Rule::Gate) {
            return self.settled;
        }
        self.settled
            && self.lets_be_given(stream)
            && self
                .may_run(stream, now)
                .iter()
                .all(|(name, lost)| name == streamer || lost.is_some_and(|lost| lost >= bound))
    }
}

/// Whether a record makes a streamer one that may be running its stream.
fn named_by(record: &Record, streamer: &str, released: bool) -> bool {
    let holder = record.streamer == streamer && !(record.phase == Phase::Releasing && released);
    holder || record.previous.as_deref() == Some(streamer)
}
