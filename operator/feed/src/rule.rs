//! The rules that keep a stream captured once, by name, and a way to take one out.
//!
//! Each stands in one place, marked by its name in bold; there a debug build asks [`lacks`], so that a test can see what
//! breaks without it. In a release build the answer is a constant `false`, and nothing is left of the question.

/// A rule, or that part of one which can be taken out alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A write tests the resourceVersion that was read.
    CompareAndSwapVersion,
    /// A write tests the leader's term.
    CompareAndSwapTerm,
    /// A new leader writes its term into every slice before it plans, feeds or accepts a sidecar.
    FenceOfNewLeader,
    /// So does a leader one of whose writes ended without an answer.
    FenceOfLostAnswer,
    /// A new term is greater than every one seen in Lease, slices and hellos, and at least the time in ms.
    Term,
    /// A leader steps down before a sidecar that has listened to a higher term.
    TermOfHello,
    /// A leader checks its own Lease before everything it decides or says.
    Deadline,
    /// A new leader waits before it calls anybody gone.
    Wait,
    /// A record is corrected only when every expected Streamer has reported, or is gone.
    AllIn,
    /// Nobody is given what another may still run: the planner's side.
    Adopt,
    /// The same, for a record that stands already.
    Gate,
    /// Every change of a record is a new epoch.
    Bump,
    /// It never says "no streams" when it means "I don't know".
    UnsyncedIs503,
    /// A connection that says nothing is left.
    Silence,
    /// A sidecar never listens to a lower term than it has stored.
    TermOfSidecar,
    /// An epoch that was stopped is never served again.
    Final,
    /// Nothing is dropped for a record below the row's own epoch.
    Keep,
    /// `released` counts only for the epoch that it names.
    Released,
    /// `released` needs evidence.
    Evidence,
    /// An API that cannot be read is unknown, not evidence.
    EvidenceOfApi,
    /// On connecting a sidecar says what it holds.
    ReportOfRows,
    /// On connecting a sidecar says what its streamer runs.
    ReportOfRuns,
    /// What `StopCapturing` stops is served only under a lease.
    Lease,
    /// A lease that has not run out goes on under any leader.
    GrantOfRunning,
    /// One that has run out begins again only when nobody unheard can be in its way.
    GrantToHeard,
    /// It begins again only for rows that the sidecar has from this leader.
    GrantOfApplied,
    /// It begins again only when a former instance under the same name has ended.
    GrantAfterFormer,
    /// It does not begin again for rows that another sidecar's grants exceed.
    GrantToBest,
    /// Nobody is given what a Streamer may be serving under a lease of the last leader, who has not been heard since.
    Unheard,
    /// A streamer is gone after lease + poll + kill, and not a ping earlier.
    LeaseOver,
}

#[cfg(debug_assertions)]
mod switch {
    use super::Rule;
    use std::cell::Cell;

    thread_local! {
        static LACKING: Cell<u64> = const { Cell::new(0) };
    }

    /// From now on this thread does without `rules`.
    pub fn take_out(rules: &[Rule]) {
        LACKING.set(rules.iter().fold(0, |set, rule| set | 1 << *rule as u64));
    }

    /// Whether this thread does without a rule.
    #[inline]
    pub fn lacks(rule: Rule) -> bool {
        LACKING.get() & (1 << rule as u64) != 0
    }
}

#[cfg(debug_assertions)]
pub use switch::{lacks, take_out};

/// Whether a rule is taken out: never.
#[cfg(not(debug_assertions))]
#[inline]
pub const fn lacks(_: Rule) -> bool {
    false
}
