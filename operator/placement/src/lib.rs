//! Which streamer captures which stream: `plan(&World, now) -> Plan`, a pure function.
//!
//! Same input, same output, whatever the order of the input. No kube, no tokio, no clock, no randomness.

mod claim;
mod conflict;
mod destination;
mod draft;
mod drain;
mod eligible;
mod failover;
mod outlook;
mod place;
pub mod plan;
mod previous;
pub mod reason;
mod removal;
mod score;
pub mod selector;
mod settling;
mod time;
pub mod world;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod properties;

pub use conflict::owners;
pub use plan::plan;
