//! The two clocks a decision may depend on, passed in as a value.

use serde::{Deserialize, Serialize};

/// The present, as both clocks read it. Durations are measured on `mono`, which no administrator can set back;
/// `wall` only makes epochs, terms and timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Now {
    /// Milliseconds of a monotonic clock with an arbitrary start.
    pub mono: u64,
    /// Milliseconds since the Unix epoch.
    pub wall: u64,
}
