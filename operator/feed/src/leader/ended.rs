//! Instances that have ended for good: whoever ran them says so, and that nobody brings them back under their name.
//!
//! It is true for ever, and counts for that very instance alone: it runs nothing any more, so its streams need not wait for
//! anything. A goodbye is no such word: who ends a sidecar need not have ended its streamer.

use std::collections::{BTreeMap, BTreeSet};

use super::Leader;
use crate::record::{Record, StreamerId};

impl Leader {
    /// Those that have ended, by the name that they had, in place of what was known.
    pub(super) fn hear_of_the_ended(&mut self, instances: BTreeMap<StreamerId, String>) {
        self.ended = instances;
        for (id, instance) in &self.ended {
            let session = self.sessions.get_mut(id);
            // One that is not vouched for may call itself whatever it likes.
            let session = session.filter(|session| session.verified && session.instance.as_ref() == Some(instance));
            if let Some(session) = session.filter(|session| !session.ended) {
                session.ended = true;
                self.news = true;
            }
        }
    }

    /// Whether that instance of a Streamer, which says hello, has ended since.
    pub(super) fn has_ended(&self, id: &StreamerId, instance: &str, verified: bool) -> bool {
        verified && self.ended.get(id).is_some_and(|ended| ended == instance)
    }

    /// Every Streamer that a record names.
    pub fn named(&self) -> BTreeSet<StreamerId> {
        let of = |(stream, record): (crate::record::StreamId, &Record)| {
            let names: Vec<String> = record.streamers().collect();
            names.into_iter().map(move |name| StreamerId { namespace: stream.namespace.clone(), name })
        };
        self.records().flat_map(of).collect()
    }
}
