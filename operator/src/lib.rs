//! Decides which streamer captures each stream and feeds the sidecars. A library, so that tests can reach its parts; the binary is thin.

pub mod clock;
pub mod cluster;
