//! What operator and sidecar share: frames, records, grants, and both ends' state machines.
//!
//! Nothing here does I/O or reads a clock: `now` is an argument, effects are values. The same code runs in the
//! product, in simulation and under a model.

pub mod digest;
pub mod frames;
pub mod grant;
pub mod holder;
pub mod leader;
pub mod periods;
pub mod record;
pub mod rule;
pub mod time;
