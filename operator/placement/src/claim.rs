//! A claim: the one Stream object behind a media name, with what the leader knows of the stream.

use std::collections::BTreeMap;

use weir_feed::record::{Phase, Record};

use crate::world::{Known, Stream, World};

/// By media name: the Stream that has it. Those without one are in conflict, orphans, or not to be touched.
pub(crate) type Claims<'a> = BTreeMap<&'a str, Claim<'a>>;

/// A Stream that has its media name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    /// Media name.
    pub(crate) name: &'a str,
    pub(crate) stream: &'a Stream,
    pub(crate) known: &'a Known,
}

/// Where a stream's record stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Standing<'a> {
    /// No record.
    New,
    Active(&'a Record),
    /// Releasing, with a destination.
    Moving(&'a Record, &'a str),
    /// Releasing for nobody.
    Leaving(&'a Record),
}

/// What is known of a stream of which nothing is known.
pub(crate) static NOTHING: Known = Known {
    record: None,
    holder_lost: None,
    not_polling: false,
    released: false,
    releasing_for: None,
    called_off: None,
    may_run: BTreeMap::new(),
    disputed: None,
};

impl<'a> Standing<'a> {
    pub(crate) fn of(known: &'a Known) -> Self {
        match &known.record {
            None => Standing::New,
            Some(record) => match (record.phase, &record.to) {
                (Phase::Active, _) => Standing::Active(record),
                (Phase::Releasing, Some(to)) => Standing::Moving(record, to),
                (Phase::Releasing, None) => Standing::Leaving(record),
            },
        }
    }
}

impl<'a> Claim<'a> {
    pub(crate) fn standing(&self) -> Standing<'a> {
        Standing::of(self.known)
    }

    /// How long (ms) a streamer must have been lost to be gone as far as this stream goes; `u64::MAX`: it never is.
    pub(crate) fn after(&self, world: &World) -> u64 {
        let held = self.known.record.as_ref().map(|record| record.partition);
        self.stream.partition.gone_after(held, self.stream.after, &world.periods)
    }

    /// Streamers other than `except` that may be running the stream and are not gone: name, and how long they are lost.
    pub(crate) fn runners(&self, world: &World, except: Option<&str>) -> impl Iterator<Item = (&'a str, Option<u64>)> {
        let after = self.after(world);
        self.known
            .may_run
            .iter()
            .map(|(streamer, lost)| (streamer.as_str(), *lost))
            .filter(move |(_, lost)| lost.is_none_or(|lost| lost < after))
            .filter(move |(streamer, _)| Some(*streamer) != except)
    }
}
