//! When streams were captured again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::registry::Registry;

/// How long after `at` each of `streams` was first read by another streamer than `killed`, in order.
pub fn captured(registry: &Registry, killed: &str, streams: &BTreeSet<String>, at: Duration) -> Result<Vec<Duration>> {
    let mut first = BTreeMap::new();
    for read in registry.timeline() {
        if read.from > at && read.reader.streamer != killed && streams.contains(&read.stream) {
            first.entry(read.stream).or_insert(read.from.saturating_sub(at));
        }
    }
    ensure!(first.len() == streams.len(), "{} of {} streams were captured again", first.len(), streams.len());
    let mut times: Vec<Duration> = first.into_values().collect();
    times.sort();
    Ok(times)
}
