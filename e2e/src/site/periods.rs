//! Weir's times, shrunk as a whole, so that a failover takes seconds; and the times of the scenarios themselves.

use std::time::Duration;

use weir_feed::periods::Periods;

use super::process::Process;

/// Small, but wide enough for a machine of two cores on which several sites run at once. `lease` is whole seconds, as the Lease's are.
pub const PERIODS: Periods = Periods {
    poll: 400,
    ping: 200,
    silence: 1_000,
    alive: 1_500,
    lease: 3_000,
    period: 2_000,
    release: 3_000,
    stream_lease: 10_000,
    kill: 3_000,
};

/// What a streamer takes between two polls, at least; at most it is `poll`: 2–3 s of the protocol's.
pub(super) fn poll_min(periods: &Periods) -> u64 {
    periods.poll * 2 / 3
}

/// What is given for `failover.after`.
pub const FAILOVER_AFTER: &str = "2s";

/// How long anything is waited for. It is reached by what is broken only.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The operator's flags.
pub(super) fn flags(process: &mut Process, periods: &Periods) {
    let Periods { poll, ping, silence, alive, lease, period, release, stream_lease, kill } = *periods;
    for (name, value) in [
        ("poll", poll),
        ("ping", ping),
        ("silence", silence),
        ("alive", alive),
        ("lease", lease),
        ("takeover", period),
        ("release", release),
        ("stream-lease", stream_lease),
        ("kill", kill),
    ] {
        process.flag(&format!("period-{name}"), format!("{value}ms"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shrunk_periods_hold_the_same_inequalities() {
        PERIODS.check().unwrap();
        assert_eq!(PERIODS.lease % 1_000, 0);
        assert!(PERIODS.shortest_failover() <= 2_000);
    }
}
