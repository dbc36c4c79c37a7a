//! Which streamer captures which stream: `plan(&World, now) -> Plan`, a pure function.
//!
//! Same input, same output, whatever the order of the input. No kube, no tokio, no clock, no randomness.

pub mod plan;
pub mod selector;
pub mod world;
