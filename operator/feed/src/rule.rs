//! The rules that keep a stream captured once, by name, and a way to take one out.
//!
//! Each stands in one place, marked by its name in bold; there a debug build asks [`lacks`], so that a test can see what
//! breaks without it. In a release build the answer is a constant `false`, and nothing is left of the question.

/// Declares the rules, so that none is left out of [`Rule::ALL`].
macro_rules! rules {
    ($($(#[doc = $doc:literal])* $rule:ident: $name:literal;)*) => {
        /// A rule, or that part of one which can be taken out alone.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $($(#[doc = $doc])* $rule,)*
        }

        impl Rule {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$rule),*];

            /// What it is called where it stands in the code, and in ARCHITECTURE.md.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$rule => $name,)*
                }
            }
        }
    };
}

rules! {
    /// A write tests the resourceVersion that was read.
    CompareAndSwapVersion: "Compare-and-swap";
    /// A write tests the leader's term.
    CompareAndSwapTerm: "Compare-and-swap";
    /// A new leader writes its term into every slice before it plans, feeds or accepts a sidecar.
    FenceOfNewLeader: "Fence";
    /// So does a leader one of whose writes ended without an answer.
    FenceOfLostAnswer: "Fence";
    /// A new term is greater than every one seen in Lease, slices and hellos, and at least the time in ms.
    Term: "Term";
    /// A leader steps down before a sidecar that has listened to a higher term.
    TermOfHello: "Term";
    /// A leader checks its own Lease before everything it decides or says.
    Deadline: "Deadline";
    /// A new leader waits before it calls anybody gone.
    Wait: "Wait";
    /// A record is corrected only when every expected Streamer has reported, or is gone.
    AllIn: "All in";
    /// Nobody is given what another may still run: the planner's side.
    Adopt: "Adopt";
    /// The same, for a record that stands already.
    Gate: "Gate";
    /// Every change of a record is a new epoch.
    Bump: "Bump";
    /// It never says "no streams" when it means "I don't know".
    UnsyncedIs503: "503 until synced";
    /// A connection that says nothing is left.
    Silence: "Silence";
    /// So is one whose leader, by its own last ping, may not speak any more.
    SpokenOut: "Silence";
    /// A sidecar never listens to a lower term than it has stored.
    TermOfSidecar: "Term";
    /// An epoch that was stopped is never served again.
    Final: "Final";
    /// Nothing is dropped for a record below the row's own epoch.
    Keep: "Keep";
    /// `released` counts only for the epoch that it names.
    Released: "Released";
    /// `released` needs evidence.
    Evidence: "Evidence";
    /// An API that cannot be read is unknown, not evidence.
    EvidenceOfApi: "Evidence";
    /// On connecting a sidecar says what it holds.
    ReportOfRows: "Report";
    /// On connecting a sidecar says what its streamer runs.
    ReportOfRuns: "Report";
    /// What `StopCapturing` stops is served only under a lease.
    Lease: "Lease";
    /// A lease that has not run out goes on under any leader.
    GrantOfRunning: "Grant";
    /// One that has run out begins again only when nobody unheard can be in its way.
    GrantToHeard: "Grant";
    /// It begins again only for rows that the sidecar has from this leader.
    GrantOfApplied: "Grant";
    /// It begins again only when a former instance under the same name has ended.
    GrantAfterFormer: "Grant";
    /// It does not begin again for rows that another sidecar's grants exceed.
    GrantToBest: "Grant";
    /// It does not begin again for a row that somebody else may be running, as far as no record settles it.
    GrantAlone: "Grant";
    /// Nobody is given what a Streamer may be serving under a lease of the last leader, who has not been heard since.
    Unheard: "Gate";
    /// A streamer is gone only when there was time to kill it after its lease.
    LeaseOver: "Lease";
    /// What a streamer captures before it has asked anybody is shown.
    Boot: "Boot";
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
mod proof;
#[cfg(debug_assertions)]
pub use proof::{Test, prove, without};
#[cfg(debug_assertions)]
pub use switch::{lacks, take_out};

/// Whether a rule is taken out: never.
#[cfg(not(debug_assertions))]
#[inline]
pub const fn lacks(_: Rule) -> bool {
    false
}

#[cfg(all(test, debug_assertions))]
mod tests;
