//! The process's clocks, read at the edge and passed in as values.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use weir_feed::time::Now;

/// Both clocks, now. `mono` counts from the process's first reading, plus one hour, so that subtractions have room.
pub fn now() -> Now {
    static START: OnceLock<Instant> = OnceLock::new();
    let mono = START.get_or_init(Instant::now).elapsed().as_millis();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    Now {
        mono: u64::try_from(mono).unwrap_or(u64::MAX / 2) + 3_600_000,
        wall: u64::try_from(wall).unwrap_or(u64::MAX / 2),
    }
}
