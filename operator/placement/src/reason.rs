//! Every reason of a [`crate::plan::Note`], CamelCase as conditions have them.

/// A stream without a holder: no streamer can be given it.
pub const UNSCHEDULABLE: &str = "Unschedulable";
/// A stream that has to leave its holder, or has lost it, and no streamer can be given it.
pub const NO_DESTINATION: &str = "NoDestination";
/// A streamer other than the one in question may be running the stream: nobody is given it before that is over.
pub const MAY_STILL_RUN: &str = "MayStillRun";
/// An unverifiable claim to the stream exists.
pub const DISPUTED: &str = "Disputed";
/// The holder is silent, and not yet for as long as `failover.after`.
pub const HOLDER_LOST: &str = "HolderLost";
/// The holder is silent, and has not heard yet that the stream is to stop when it is cut off.
pub const POLICY_PENDING: &str = "PolicyPending";
/// The holder does not poll, and its own API still shows the stream running.
pub const NOT_POLLING: &str = "NotPolling";
/// The holder has not let go in time.
pub const RELEASE_TIMED_OUT: &str = "ReleaseTimedOut";
/// Something that takes a moment comes first: a new leader hears the streamers out, a holder lets go.
pub const WAITING: &str = "Waiting";
/// The Stream is being taken off its streamer for good (deleted and made again, or disabled and enabled).
pub const LETTING_GO: &str = "LettingGo";

/// A streamer that cannot be given streams now.
pub const NOT_READY: &str = "NotReady";
/// A cordoned streamer, as `kubectl get nodes` calls it.
pub const SCHEDULING_DISABLED: &str = "SchedulingDisabled";
/// A streamer that its streams leave.
pub const DRAINING: &str = "Draining";
/// A streamer as full as `capacity.streams` allows.
pub const AT_CAPACITY: &str = "AtCapacity";
