//! The operator's end of the feed: when it may plan, what it may tell whom, and who may be running what.

pub mod known;
pub mod step;
