//! Time in the model: discrete, with ranges of numbers by which the fingerprint knows what a number means.

use weir_feed::periods::Periods;
use weir_feed::time::Now;

/// One unit of time: a ping, a poll, a renewal of the Lease. In ms.
pub(crate) const UNIT: u64 = 1_000;

/// Each unit has two halves, and each half three phases: operators, sidecars, streamers.
pub(crate) const PHASES: u8 = 6;

/// Where monotonic clocks begin.
pub(crate) const MONO: u64 = 1 << 40;

/// Where connections are numbered from.
pub(crate) const CONN: u64 = 1 << 44;

/// Where wall clocks, and so epochs and terms, begin.
pub(crate) const WALL: u64 = 1 << 50;

/// A caller of the API waits this long for an answer.
pub(crate) const TIMEOUT: u64 = 2 * UNIT;

/// The smallest that hold their inequalities: `failover.after` comes to five units, a new leader's wait to four.
pub(crate) fn periods() -> Periods {
    Periods {
        poll: UNIT,
        ping: UNIT,
        silence: 3 * UNIT,
        alive: 3 * UNIT,
        lease: 3 * UNIT,
        period: 5 * UNIT,
        release: 4 * UNIT,
        stream_lease: 10 * UNIT,
        kill: 2 * UNIT,
    }
}

/// Both clocks at a time of the model; all processes' clocks agree.
pub(crate) fn now(time: u64) -> Now {
    Now { mono: MONO + time, wall: WALL + time }
}

/// How far into a half each phase is, in ms.
pub(crate) fn offset(phase: u64) -> u64 {
    (phase / 3) * (UNIT / 2) + (phase % 3) * 150
}
