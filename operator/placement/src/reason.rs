//! Every reason of a [`crate::plan::Note`], CamelCase as conditions have them.

/// Declares the reasons, so that none is left out of [`Reason::ALL`].
macro_rules! reasons {
    ($($(#[$doc:meta])* $constant:ident = $name:ident;)*) => {
        /// Why a stream or a streamer waits.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// As a condition has it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }

        $($(#[$doc])* pub const $constant: Reason = Reason::$name;)*
    };
}

reasons! {
    /// A stream without a holder: no streamer can be given it.
    UNSCHEDULABLE = Unschedulable;
    /// A stream that has to leave its holder, or has lost it, and no streamer can be given it.
    NO_DESTINATION = NoDestination;
    /// A streamer other than the one in question may be running the stream: nobody is given it before that is over.
    MAY_STILL_RUN = MayStillRun;
    /// An unverifiable claim to the stream exists.
    DISPUTED = Disputed;
    /// The holder is silent, and not yet for as long as `failover.after`.
    HOLDER_LOST = HolderLost;
    /// The holder is silent, and has not heard yet that the stream is to stop when it is cut off.
    POLICY_PENDING = PolicyPending;
    /// The holder does not poll, and its own API still shows the stream running.
    NOT_POLLING = NotPolling;
    /// The holder has not let go in time.
    RELEASE_TIMED_OUT = ReleaseTimedOut;
    /// Something that takes a moment comes first: a new leader hears the streamers out, a holder lets go.
    WAITING = Waiting;
    /// The Stream is being taken off its streamer for good (deleted and made again, or disabled and enabled).
    LETTING_GO = LettingGo;

    /// A streamer that cannot be given streams now.
    NOT_READY = NotReady;
    /// A cordoned streamer, as `kubectl get nodes` calls it.
    SCHEDULING_DISABLED = SchedulingDisabled;
    /// A streamer that its streams leave.
    DRAINING = Draining;
    /// A streamer that its streams have left.
    DRAINED = Drained;
    /// A streamer as full as `capacity.streams` allows.
    AT_CAPACITY = AtCapacity;
}
