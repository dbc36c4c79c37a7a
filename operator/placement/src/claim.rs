//! A claim: the one Stream object behind a media name, with what the leader knows of the stream.

use std::collections::BTreeMap;

use weir_feed::record::{Phase, Record};
use weir_feed::rule::{Rule, lacks};

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
    ended: false,
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

    /// **Adopt**: streamers other than `except` that may be running the stream and are not gone: name, and how long they
    /// are lost. Nobody else is given it.
    pub(crate) fn runners(&self, world: &World, except: Option<&str>) -> impl Iterator<Item = (&'a str, Option<u64>)> {
        let after = self.after(world);
        self.known
            .may_run
            .iter()
            .map(|(streamer, lost)| (streamer.as_str(), *lost))
            .filter(move |(_, lost)| lost.is_none_or(|lost| lost < after))
            .filter(move |(streamer, _)| Some(*streamer) != except && !lacks(Rule::Adopt))
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;
    use crate::{failover, place};
    use weir_feed::rule::prove;
    use weir_feed::rule_tests;

    #[test]
    fn every_rule_here_has_tests_that_fail_without_it() {
        let tests = rule_tests![
            failover::tests::adopt_nobody_is_given_what_another_may_still_run,
            failover::tests::adopt_the_only_one_that_runs_it_gets_it_whatever_the_score,
            place::tests::adopt_whoever_runs_it_gets_it_and_before_the_others_take_the_room,
            place::tests::adopt_whoever_runs_it_gets_it_before_a_failover_takes_the_room,
            place::tests::adopt_of_two_that_run_it_the_one_that_can_be_given_it_gets_it_and_else_the_least_name,
            place::tests::adopt_who_may_run_it_and_is_silent_is_waited_for,
            place::tests::adopt_the_only_one_that_runs_it_gets_it_whatever_speaks_against_it,
        ];
        prove(Rule::Adopt, &[], tests);
    }
}
