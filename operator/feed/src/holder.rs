//! The sidecar's end of the feed: what it holds, what it answers, when it says `released`.

pub mod accepted;
pub mod answer;
pub mod boot;
pub mod evidence;
pub mod journal;
pub mod lease;
pub mod link;
pub mod rows;
pub mod step;
pub mod watch;

#[cfg(test)]
pub(crate) mod tests;
