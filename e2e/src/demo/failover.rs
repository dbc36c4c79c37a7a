//! The timeline of a failover, from what was measured.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use super::screen::{BOLD, DIM, PLAIN};

/// When each stream was seen at a step, by media name.
pub type Times = BTreeMap<String, SystemTime>;

/// What was measured of one failover.
#[derive(Debug)]
pub struct Facts {
    pub streamer: String,
    pub killed: SystemTime,
    pub streams: BTreeSet<String>,
    /// The longest `failover.after` among the streams.
    pub after: Duration,
    /// The source sees the reader go.
    pub dark: Times,
    pub noticed: Option<SystemTime>,
    pub planned: Times,
    pub persisted: Times,
    pub replicated: Times,
    /// The source sees a new reader.
    pub captured: Times,
}

struct Step<'a> {
    name: &'static str,
    times: &'a Times,
    what: String,
    measured: &'static str,
}

impl Facts {
    /// The timeline as lines; an error names what was not seen.
    pub fn timeline(&self) -> Result<Vec<String>, String> {
        let noticed = self.noticed.iter().flat_map(|at| self.streams.iter().map(|name| (name.clone(), *at))).collect();
        let steps = self.steps(&noticed);
        let title = format!(
            "{BOLD}The failover of {}, {} streams, in ms since the kill{PLAIN} (first stream, last stream)",
            self.streamer,
            self.streams.len()
        );
        let mut lines = vec![title];
        for Step { name, times, what, measured } in steps {
            let missing: Vec<&str> =
                self.streams.iter().filter(|s| !times.contains_key(*s)).map(String::as_str).collect();
            if !missing.is_empty() {
                return Err(format!("the failover was not seen as {name} for {} {measured}", missing.join(", ")));
            }
            let mut ms = self.streams.iter().filter_map(|stream| times.get(stream)).map(|at| self.ms(*at));
            let first = ms.next().unwrap_or_default();
            let (first, last) = ms.fold((first, first), |(first, last), ms| (first.min(ms), last.max(ms)));
            lines.push(format!("  {name:<10} {first:>6} {last:>6}   {what} {DIM}{measured}{PLAIN}"));
        }
        Ok(lines)
    }

    fn steps<'a>(&'a self, noticed: &'a Times) -> [Step<'a>; 6] {
        let step = |name, times, what: String, measured| Step { name, times, what, measured };
        let after = self.after.as_secs();
        [
            step("dark", &self.dark, "nobody reads the sources".to_owned(), "(the sources)"),
            step("noticed", noticed, "its sidecar's connection broke".to_owned(), "(the operator's log)"),
            step(
                "planned",
                &self.planned,
                format!("failover.after: {after} s since its last sign of life"),
                "(the operator's log)",
            ),
            step(
                "persisted",
                &self.persisted,
                "the Placements name other streamers".to_owned(),
                "(the state directory)",
            ),
            step("replicated", &self.replicated, "their sidecars have it on disk".to_owned(), "(the replicas)"),
            step("captured", &self.captured, "at their next poll, every 2-3 s".to_owned(), "(the sources)"),
        ]
    }

    fn ms(&self, at: SystemTime) -> i128 {
        let ms = |duration: Duration| i128::try_from(duration.as_millis()).unwrap_or(i128::MAX);
        match at.duration_since(self.killed) {
            Ok(since) => ms(since),
            Err(before) => -ms(before.duration()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::screen;
    use super::*;

    fn facts() -> Facts {
        let killed = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let at = |a: u64, b: u64| {
            let times = [("a", a), ("b", b)];
            times.map(|(name, ms)| (name.to_owned(), killed + Duration::from_millis(ms))).into()
        };
        Facts {
            streamer: "media-2".to_owned(),
            killed,
            streams: ["a", "b"].map(str::to_owned).into(),
            after: Duration::from_secs(10),
            dark: at(3, 2),
            noticed: Some(killed + Duration::from_millis(60)),
            planned: at(9_800, 9_800),
            persisted: at(9_806, 9_811),
            replicated: at(9_830, 9_825),
            captured: at(11_300, 12_001),
        }
    }

    #[test]
    fn each_step_has_its_first_and_its_last_stream() {
        let lines = facts().timeline().unwrap();
        let numbers = |line: &String| -> Vec<String> {
            let plain = line.replace(screen::DIM, "");
            plain.split_whitespace().take(3).map(str::to_owned).collect()
        };
        let numbers: Vec<_> = lines.iter().skip(1).map(numbers).collect();
        assert_eq!(numbers[0], ["dark", "2", "3"]);
        assert_eq!(numbers[1], ["noticed", "60", "60"]);
        assert_eq!(numbers[4], ["replicated", "9825", "9830"]);
        assert_eq!(numbers[5], ["captured", "11300", "12001"]);
    }

    #[test]
    fn a_step_that_was_not_seen_is_said_and_not_made_up() {
        let mut facts = facts();
        facts.persisted.remove("b");
        assert_eq!(facts.timeline().unwrap_err(), "the failover was not seen as persisted for b (the state directory)");
        let facts = Facts { noticed: None, ..self::facts() };
        assert!(facts.timeline().unwrap_err().contains("noticed for a, b"));
    }
}
