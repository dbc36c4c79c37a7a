//! When to plan again. Pure.

use weir_feed::record::{Change, StreamId};
use weir_placement::plan::Plan;

use super::DEBOUNCE;

/// The longest pause (ms) between two equal plans of which nothing can be written.
const LONGEST: u64 = 30_000;

/// Remembers what could not be written: a full or refused slice is not planned for at every ping for ever.
#[derive(Debug, Default)]
pub(super) struct Pace {
    left: Vec<(StreamId, Change)>,
    pause: u64,
}

impl Pace {
    /// In how many ms to plan again if nothing happens. `writing`: something of the plan is being written; `budget`: in
    /// how many ms a write that is not urgent may be.
    pub(super) fn after(&mut self, plan: &Plan, writing: bool, budget: u64, ping: u64) -> Option<u64> {
        if writing || plan.changes.is_empty() {
            *self = Self::default();
            return plan.wake_in.map(|wake| wake.max(DEBOUNCE));
        }
        let left: Vec<_> =
            plan.changes.iter().map(|planned| (planned.stream.clone(), planned.change.clone())).collect();
        let again = budget == 0 && left == self.left;
        self.pause = if again { (self.pause * 2).min(LONGEST.max(ping)) } else { ping };
        self.left = left;
        let pause = self.pause.max(budget);
        Some(plan.wake_in.map_or(pause, |wake| wake.max(ping).min(pause)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_placement::plan::Planned;

    fn plan(streamer: &str, why: &str, wake_in: Option<u64>) -> Plan {
        let stream = StreamId { namespace: "media".into(), name: "bunny".into() };
        let change = Change::Move { streamer: streamer.into(), previous: None };
        let planned = Planned { stream, change, urgent: false, why: why.into() };
        Plan { changes: vec![planned], wake_in, ..Plan::default() }
    }

    #[test]
    fn what_cannot_be_written_is_planned_less_and_less_often() {
        let mut pace = Pace::default();
        let mut after = |why: usize| pace.after(&plan("s2", &format!("silent for {why} s"), None), false, 0, 1_000);
        let pauses: Vec<_> = (0..8).filter_map(&mut after).collect();
        assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(pace.after(&plan("s3", "", None), false, 0, 1_000), Some(1_000), "another plan");
        assert_eq!(pace.after(&plan("s3", "", Some(70)), false, 0, 1_000), Some(1_000), "something is about to happen");
        assert_eq!(pace.after(&plan("s3", "", None), true, 0, 1_000), None, "the write's end is waited for");
        assert_eq!(pace.after(&plan("s3", "", None), false, 0, 1_000), Some(1_000));
    }

    #[test]
    fn a_plan_that_waits_for_the_budget_is_not_stuck() {
        let mut pace = Pace::default();
        for _ in 0..3 {
            assert_eq!(pace.after(&plan("s2", "", None), false, 1_500, 1_000), Some(1_500));
        }
    }

    #[test]
    fn without_changes_only_time_wakes() {
        let mut pace = Pace::default();
        assert_eq!(pace.after(&Plan::default(), false, 0, 1_000), None);
        let wakes = Plan { wake_in: Some(1), ..Plan::default() };
        assert_eq!(pace.after(&wakes, false, 0, 1_000), Some(DEBOUNCE));
    }
}
