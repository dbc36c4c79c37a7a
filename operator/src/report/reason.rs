//! Every reason that a person sees, with what it means, what happens by itself and what to type: one table for
//! conditions, Events, metrics and docs/waiting.md.
//!
//! A reason can be made nowhere else, so nothing waits without standing here; the tests of this module see to it that it
//! has a condition, an Event, a metric and a row in docs/waiting.md.

use weir_placement::reason::Reason as Planned;

use super::advice::{Act, Advice, Kind};

pub mod operator;
pub mod placement;
pub mod stream;
pub mod streamer;

/// Why a condition is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    name: &'static str,
    waits: Option<Waits>,
}

/// What is to be known of a reason for which something waits, is held, frozen or disputed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    pub event: Event,
    pub means: &'static str,
    /// What happens by itself, and when.
    pub then: &'static str,
    /// What a person can do about it.
    pub advice: &'static [Advice],
}

/// Which Event a reason becomes when it comes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Warning,
    Normal,
    /// A Warning, but not in a condition that is `True`: why not.
    UnlessTrue(&'static str),
    /// None of its own: which one tells it, or why none is needed.
    Quiet(&'static str),
}

impl Reason {
    const fn well(name: &'static str) -> Self {
        Self { name, waits: None }
    }

    const fn waits(
        name: &'static str,
        event: Event,
        means: &'static str,
        then: &'static str,
        advice: &'static [Advice],
    ) -> Self {
        Self { name, waits: Some(Waits { event, means, then, advice }) }
    }

    /// CamelCase, as a condition has it.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// `None`: all is well.
    pub const fn waiting(&self) -> Option<&Waits> {
        self.waits.as_ref()
    }
}

impl PartialEq<str> for Reason {
    fn eq(&self, name: &str) -> bool {
        self.name == name
    }
}

impl PartialEq<&str> for Reason {
    fn eq(&self, name: &&str) -> bool {
        self.name == *name
    }
}

/// Declares the reasons of one kind of object, so that none is left out of `ALL`.
macro_rules! reasons {
    ($($constant:ident = $reason:expr;)*) => {
        $(pub const $constant: $crate::report::reason::Reason = $reason;)*

        /// All of them.
        pub const ALL: &[$crate::report::reason::Reason] = &[$($constant),*];

        /// The one of that name.
        pub fn named(name: &str) -> Option<&'static $crate::report::reason::Reason> {
            ALL.iter().find(|reason| reason.name() == name)
        }
    };
}
use reasons;

const fn to(to: &'static str, act: Act) -> Advice {
    Advice { to, act }
}

const LOOK_AT_STREAMER: Advice = to("to look", Act::Describe(Kind::Streamer));
const EDIT_STREAM: Advice = to("to mend it", Act::Edit(Kind::Stream));

/// The planner's reason.
pub const fn of(planned: Planned) -> Reason {
    match planned {
        Planned::Unschedulable => stream::UNSCHEDULABLE,
        Planned::NoDestination => stream::NO_DESTINATION,
        Planned::MayStillRun => stream::MAY_STILL_RUN,
        Planned::Disputed => stream::DISPUTED,
        Planned::HolderLost => stream::HOLDER_LOST,
        Planned::PolicyPending => stream::POLICY_PENDING,
        Planned::NotPolling => stream::NOT_POLLING,
        Planned::ReleaseTimedOut => stream::RELEASE_TIMED_OUT,
        Planned::Waiting => stream::WAITING,
        Planned::LettingGo => stream::LETTING_GO,
        Planned::NotReady => streamer::NOT_READY,
        Planned::SchedulingDisabled => streamer::SCHEDULING_DISABLED,
        Planned::Draining => streamer::DRAINING,
        Planned::Drained => streamer::DRAINED,
        Planned::AtCapacity => streamer::AT_CAPACITY,
    }
}

#[cfg(test)]
mod tests;
