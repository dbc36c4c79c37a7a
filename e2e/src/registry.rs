//! The source registry: who reads which stream, at every instant. It is the oracle of "captured once".
//!
//! Each streamer process keeps one connection to it and says what it starts and stops reading; the end of the connection ends all its
//! reads, so a `kill -9` counts at the instant at which the kernel closes the socket. Every line is acknowledged, and a streamer waits
//! for that before it shows or does anything else: an order that is real is an order here too.

pub mod analysis;
mod client;
pub mod frames;
pub mod http;
mod server;
pub mod timeline;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

pub use analysis::{CutOff, DarkTime, Gap, Overlap, boot_lasts};
pub use client::{Client, ClientError};
pub use timeline::{Instance, Interval, NowReading, Reader};

use server::Shared;

/// A running source registry. Clones are handles to the same one; it stops when the last is dropped.
#[derive(Clone)]
pub struct Registry {
    running: Arc<Running>,
}

struct Running {
    shared: Arc<Shared>,
    addr: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A condition that did not come true in time.
#[derive(Debug, Clone)]
pub struct NotReached {
    /// How long it was waited for.
    pub waited: Duration,
    /// What was missing, in the condition's own words.
    pub missing: String,
    /// Who read what at the end.
    pub now: NowReading,
}

impl fmt::Display for NotReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not within {:?}: {}; now {}", self.waited, self.missing, describe(&self.now))
    }
}

impl std::error::Error for NotReached {}

impl Registry {
    /// Starts a registry on `addr` (port 0 takes a free one). It has a thread of its own, so that a busy caller does not bend its clock.
    pub fn start(addr: SocketAddr) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (shared, addr) = server::start(addr, stop.clone())?;
        Ok(Self { running: Arc::new(Running { shared, addr, stop }) })
    }

    /// Where readers connect.
    pub fn addr(&self) -> SocketAddr {
        self.running.addr
    }

    /// Time since the registry started, on its own monotonic clock: the unit of every instant that it returns.
    pub fn now(&self) -> Duration {
        self.running.shared.now()
    }

    /// The wall clock when the registry started.
    pub fn started(&self) -> SystemTime {
        self.running.shared.started()
    }

    /// Which reader reads which stream at this instant.
    pub fn now_reading(&self) -> NowReading {
        self.running.shared.with(|timeline| timeline.now_reading().clone())
    }

    /// Everything that was ever read of a stream, in order of `from`.
    pub fn intervals(&self, stream: &str) -> Vec<Interval> {
        self.running.shared.with(|timeline| {
            let of_stream = timeline.intervals().iter();
            of_stream.filter(|i| i.stream == stream).cloned().collect()
        })
    }

    /// Every read of every stream, in order of `from`.
    pub fn timeline(&self) -> Vec<Interval> {
        self.running.shared.with(|timeline| timeline.intervals().to_vec())
    }

    /// Every streamer process that ever connected.
    pub fn instances(&self) -> Vec<Instance> {
        self.running.shared.with(|timeline| timeline.instances().to_vec())
    }

    /// Where two or more read one stream at the same instant, from `since` on, excused or not.
    pub fn overlaps(&self, since: Duration) -> Vec<Overlap> {
        analysis::overlaps(&self.timeline(), since)
    }

    /// The real double captures: overlaps that remain without what readers that were cut off had then, and those that booted with an old
    /// configuration no longer than `boot` ago and had not polled yet.
    pub fn violations(&self, cut_off: &[CutOff], boot: Duration) -> Vec<Overlap> {
        let (intervals, instances) =
            self.running.shared.with(|timeline| (timeline.intervals().to_vec(), timeline.instances().to_vec()));
        let mut found = analysis::violations(&intervals, &instances, cut_off, boot);
        // Who still reads may have stopped before its excuse ends.
        let now = self.now();
        found.retain(|overlap| overlap.from <= now);
        found
    }

    /// When nobody read the stream between `from` and `to` (cut at now).
    pub fn dark(&self, stream: &str, from: Duration, to: Duration) -> Vec<Gap> {
        let to = to.min(self.now());
        analysis::dark(&self.intervals(stream), from, to)
    }

    /// For how long each of `streams` was dark since `since`: from the shortest to the longest.
    pub fn dark_since<'a>(&self, streams: impl IntoIterator<Item = &'a String>, since: Duration) -> Vec<Duration> {
        let now = self.now();
        let sum = |stream: &String| {
            let gaps = self.dark(stream, since, now);
            gaps.iter().map(|gap| gap.to.saturating_sub(gap.from)).sum()
        };
        let mut dark: Vec<Duration> = streams.into_iter().map(sum).collect();
        dark.sort();
        dark
    }

    /// Whether `streams` have been read without a break, each by one streamer, since `since`.
    pub fn ensure_undisturbed<'a>(
        &self,
        streams: impl IntoIterator<Item = &'a String>,
        since: Duration,
    ) -> anyhow::Result<()> {
        for stream in streams {
            let gaps = self.dark(stream, since, self.now());
            anyhow::ensure!(gaps.is_empty(), "{stream} was dark: {gaps:?}");
            let reads = self.intervals(stream);
            let since: Vec<_> = reads.iter().filter(|read| read.to.is_none_or(|to| to > since)).collect();
            anyhow::ensure!(since.len() == 1, "{stream} was read anew: {since:?}");
        }
        Ok(())
    }

    /// How long each stream that was ever read stood dark between `from` and `to` (cut at now). One that was never read is not in it.
    pub fn dark_times(&self, from: Duration, to: Duration) -> BTreeMap<String, DarkTime> {
        let to = to.min(self.now());
        analysis::dark_times(&self.timeline(), from, to)
    }

    /// Waits until `condition` holds; it is looked at again after every change, without polling. It returns what is still missing as its error.
    /// The result is the instant at which it was seen to hold.
    pub async fn await_until(
        &self,
        condition: impl Fn(&NowReading) -> Result<(), String>,
        timeout: Duration,
    ) -> Result<Duration, NotReached> {
        let shared = &self.running.shared;
        let mut changes = shared.changes();
        let check = || shared.with(|timeline| condition(timeline.now_reading()).map(|()| timeline.last_change()));
        let reached = async {
            loop {
                changes.borrow_and_update();
                if let Ok(at) = check() {
                    return at;
                }
                if changes.changed().await.is_err() {
                    // The server is gone: nothing will change any more, and the time-out says so.
                    std::future::pending::<()>().await;
                }
            }
        };
        if let Ok(at) = tokio::time::timeout(timeout, reached).await {
            return Ok(at);
        }
        shared.with(|timeline| match condition(timeline.now_reading()) {
            Ok(()) => Ok(timeline.last_change()),
            Err(missing) => Err(NotReached { waited: timeout, missing, now: timeline.now_reading().clone() }),
        })
    }

    /// Waits until each of `streams` is read by exactly one reader, and nothing else is read.
    pub async fn await_each_once(&self, streams: &BTreeSet<String>, timeout: Duration) -> Result<Duration, NotReached> {
        self.await_until(|now| each_once(streams, now), timeout).await
    }
}

/// Whether each of `streams` has exactly one reader and no other stream has any; the error names those that differ.
pub fn each_once(streams: &BTreeSet<String>, now: &NowReading) -> Result<(), String> {
    let dark: Vec<_> = streams.iter().filter(|s| !now.contains_key(*s)).collect();
    let foreign: Vec<_> = now.keys().filter(|s| !streams.contains(*s)).collect();
    let double: Vec<_> = now.iter().filter(|(_, r)| r.len() > 1).collect();
    if dark.is_empty() && foreign.is_empty() && double.is_empty() {
        return Ok(());
    }
    let mut parts = Vec::new();
    for (what, names) in [
        ("nobody reads", &dark),
        ("read but not expected:", &foreign),
        ("read more than once:", &double.into_iter().map(|(s, _)| s).collect()),
    ] {
        if !names.is_empty() {
            parts.push(format!("{what} {}", shortened(names)));
        }
    }
    Err(parts.join("; "))
}

/// Who reads what, for a person: by reader, long lists shortened.
pub fn describe(now: &NowReading) -> String {
    let mut by_reader: BTreeMap<&Reader, Vec<&String>> = BTreeMap::new();
    for (stream, readers) in now {
        for reader in readers {
            by_reader.entry(reader).or_default().push(stream);
        }
    }
    if by_reader.is_empty() {
        return "nobody reads anything".to_owned();
    }
    let each = by_reader.iter().map(|(reader, streams)| format!("{reader} reads {}", shortened(streams)));
    each.collect::<Vec<_>>().join("; ")
}

fn shortened(names: &Vec<&String>) -> String {
    const SHOWN: usize = 10;
    let mut shown: Vec<&str> = names.iter().take(SHOWN).map(|n| n.as_str()).collect();
    if names.len() > SHOWN {
        shown.push("…");
    }
    format!("{} ({})", names.len(), shown.join(", "))
}

#[cfg(test)]
mod tests;
