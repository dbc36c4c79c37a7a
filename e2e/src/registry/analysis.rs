//! Questions to a timeline: who read twice, and when was it dark. Pure functions of its intervals.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_feed::periods::Periods;

use super::timeline::{Instance, Interval, Reader, maybe_micros, micros};

/// Several read one stream at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overlap {
    pub stream: String,
    pub readers: BTreeSet<Reader>,
    #[serde(rename = "from_us", serialize_with = "micros")]
    pub from: Duration,
    /// `None`: they still do.
    #[serde(rename = "to_us", serialize_with = "maybe_micros")]
    pub to: Option<Duration>,
}

/// Nobody reads a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    #[serde(rename = "from_us", serialize_with = "micros")]
    pub from: Duration,
    #[serde(rename = "to_us", serialize_with = "micros")]
    pub to: Duration,
}

/// How dark a stream was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DarkTime {
    #[serde(rename = "total_us", serialize_with = "micros")]
    pub total: Duration,
    #[serde(rename = "longest_us", serialize_with = "micros")]
    pub longest: Duration,
    pub gaps: usize,
}

/// A scenario's word that a streamer could not be reached by the control plane for a time: then it may capture what was moved away from it,
/// of what it read when that began. What it was given later nothing excuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutOff {
    pub streamer: String,
    /// Since the registry's start.
    pub from: Duration,
    /// `None`: it still is.
    #[serde(default)]
    pub to: Option<Duration>,
}

/// A half-open span; what has no end ends at `Duration::MAX`.
type Span = (Duration, Duration);

fn end(to: Option<Duration>) -> Duration {
    to.unwrap_or(Duration::MAX)
}

fn maybe_end(to: Duration) -> Option<Duration> {
    (to != Duration::MAX).then_some(to)
}

/// Every time from `since` on at which a stream has two or more readers; one overlap for each set of readers in a row.
pub fn overlaps(intervals: &[Interval], since: Duration) -> Vec<Overlap> {
    let mut by_stream: BTreeMap<&str, Vec<&Interval>> = BTreeMap::new();
    for interval in intervals {
        by_stream.entry(&interval.stream).or_default().push(interval);
    }
    let each = by_stream.into_iter();
    each.flat_map(|(stream, intervals)| of_stream(stream, &intervals, since)).collect()
}

fn of_stream(stream: &str, intervals: &[&Interval], since: Duration) -> Vec<Overlap> {
    let mut steps: BTreeMap<Duration, Vec<(bool, &Reader)>> = BTreeMap::new();
    for interval in intervals {
        let (from, to) = (interval.from.max(since), end(interval.to));
        if from < to {
            steps.entry(from).or_default().push((true, &interval.reader));
            steps.entry(to).or_default().push((false, &interval.reader));
        }
    }
    let mut reading: BTreeMap<&Reader, usize> = BTreeMap::new();
    let mut found: Vec<Overlap> = Vec::new();
    for (at, changes) in steps {
        for (starts, reader) in changes {
            let reads = reading.entry(reader).or_default();
            *reads = if starts { *reads + 1 } else { reads.saturating_sub(1) };
        }
        reading.retain(|_, reads| *reads > 0);
        let readers: BTreeSet<Reader> = reading.keys().map(|r| (*r).clone()).collect();
        if let Some(last) = found.last_mut().filter(|last| last.to.is_none()) {
            if last.readers == readers {
                continue;
            }
            last.to = maybe_end(at);
        }
        if readers.len() > 1 {
            found.push(Overlap { stream: stream.to_owned(), readers, from: at, to: None });
        }
    }
    found
}

/// For how long (at most) a streamer that boots with an old configuration captures from it: a sidecar that starts with it answers "not
/// yet" for a while, and then its next poll is answered and carried out; two more are the machine's.
pub fn boot_lasts(periods: &Periods) -> Duration {
    Duration::from_millis(periods.first_mark() + periods.poll * 3)
}

/// The overlaps that nothing excuses: times at which a streamer was cut off, for what it read when that began, or an instance had booted
/// with an old configuration, no longer than `boot` ago, and had not carried out its first poll, are taken out of what it read; what still
/// overlaps is a double capture.
pub fn violations(intervals: &[Interval], instances: &[Instance], cut_off: &[CutOff], boot: Duration) -> Vec<Overlap> {
    let mut booting: BTreeMap<&Reader, Vec<Span>> = BTreeMap::new();
    for instance in instances.iter().filter(|i| i.boot) {
        let until = end(instance.polled.or(instance.to)).min(instance.from.saturating_add(boot));
        let spans = booting.entry(&instance.reader).or_default();
        spans.push((instance.from, until));
    }
    let cut_off: Vec<(&CutOff, BTreeSet<&str>)> = cut_off.iter().map(|c| (c, c.had(intervals))).collect();
    let mut counted = Vec::new();
    for interval in intervals {
        let booting = booting.get(&interval.reader).into_iter().flatten().copied();
        let covers = |(c, had): &&(&CutOff, BTreeSet<&str>)| {
            c.streamer == interval.reader.streamer && had.contains(interval.stream.as_str())
        };
        let cut_off = cut_off.iter().filter(covers).map(|(c, _)| (c.from, end(c.to)));
        counted.extend(without(interval, booting.chain(cut_off)));
    }
    overlaps(&counted, Duration::ZERO)
}

impl CutOff {
    /// What its streamer read when it was cut off.
    fn had<'a>(&self, intervals: &'a [Interval]) -> BTreeSet<&'a str> {
        let open = |i: &&Interval| i.from <= self.from && self.from < end(i.to);
        let own = intervals.iter().filter(|i| i.reader.streamer == self.streamer).filter(open);
        own.map(|i| i.stream.as_str()).collect()
    }
}

/// What remains of an interval outside the excused spans.
fn without(interval: &Interval, excused: impl Iterator<Item = Span>) -> Vec<Interval> {
    let mut remaining = vec![(interval.from, end(interval.to))];
    for (from, to) in excused.filter(|(from, to)| from < to) {
        let cut = |(start, stop): Span| {
            let before = (start, stop.min(from));
            let after = (start.max(to), stop);
            [before, after].into_iter().filter(|(a, b)| a < b)
        };
        remaining = remaining.into_iter().flat_map(cut).collect();
    }
    let part = |(from, to): Span| Interval { from, to: maybe_end(to), ..interval.clone() };
    remaining.into_iter().map(part).collect()
}

/// When none of the intervals, all of one stream, covers `from..to`.
pub fn dark<'a>(intervals: impl IntoIterator<Item = &'a Interval>, from: Duration, to: Duration) -> Vec<Gap> {
    let spans = intervals.into_iter().map(|i| (i.from, end(i.to)));
    let mut lit: Vec<Span> = spans.filter(|(from, to)| from < to).collect();
    lit.sort_unstable();
    let mut gaps = Vec::new();
    let mut covered = from;
    for (start, stop) in lit {
        if start >= to {
            break;
        }
        if start > covered {
            gaps.push(Gap { from: covered, to: start });
        }
        covered = covered.max(stop);
    }
    if covered < to {
        gaps.push(Gap { from: covered, to });
    }
    gaps
}

/// [`dark`] of every stream that has an interval, summed up.
pub fn dark_times(intervals: &[Interval], from: Duration, to: Duration) -> BTreeMap<String, DarkTime> {
    let mut by_stream: BTreeMap<&str, Vec<&Interval>> = BTreeMap::new();
    for interval in intervals {
        by_stream.entry(&interval.stream).or_default().push(interval);
    }
    let each = by_stream.into_iter().map(|(stream, intervals)| {
        let gaps = dark(intervals, from, to);
        let lengths = gaps.iter().map(|gap| gap.to.saturating_sub(gap.from));
        let time =
            DarkTime { total: lengths.clone().sum(), longest: lengths.max().unwrap_or_default(), gaps: gaps.len() };
        (stream.to_owned(), time)
    });
    each.collect()
}

#[cfg(test)]
mod tests;
