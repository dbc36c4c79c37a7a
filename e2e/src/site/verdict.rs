//! The end of a scenario: what must be so whatever it was about.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::kind::Kind;
use super::{Cluster, Site, World, canary};
use crate::registry::boot_lasts;

impl Site {
    /// The last word: no stream was captured twice but where the issue allows it, nothing ended by itself or panicked, and no canary was
    /// seen. It says how dark it was.
    pub async fn finish(mut self) -> Result<()> {
        let violations = self.registry.violations(&self.cut_off, boot_lasts(&self.periods));
        ensure!(violations.is_empty(), "captured twice: {violations:#?}");
        let failed: Vec<String> = self.processes().filter_map(super::Process::failed).collect();
        ensure!(failed.is_empty(), "{failed:?}");
        for process in self.processes() {
            let log = process.log();
            let panics: Vec<&str> = log.lines().filter(|line| line.contains("panicked at")).collect();
            ensure!(panics.is_empty(), "{} panicked: {panics:?}", process.name());
        }
        self.ensure_rights_enough()?;
        let seen = self.canaries_seen().await?;
        ensure!(seen.is_empty(), "a password stands where it must not:\n{}", seen.join("\n"));
        self.tell_dark_times();
        self.finished = true;
        Ok(())
    }

    /// What operators may do is all that they need. An API server that starts refuses everybody at first, so that one of the site's own
    /// tells nothing.
    fn ensure_rights_enough(&self) -> Result<()> {
        if matches!(self.world, World::Kubernetes { cluster: Cluster::Own(_), .. }) {
            return Ok(());
        }
        for operator in &self.operators {
            let log = operator.process.log();
            let forbidden = log.lines().find(|line| line.contains("is forbidden"));
            ensure!(forbidden.is_none(), "{} lacks a right: {forbidden:?}", operator.process.name());
        }
        Ok(())
    }

    /// Where a canary stands: in logs, in any object but a Secret, in metrics.
    async fn canaries_seen(&self) -> Result<Vec<String>> {
        if self.canaries.is_empty() {
            return Ok(Vec::new());
        }
        let mut seen = Vec::new();
        for process in self.processes() {
            seen.extend(canary::found(&self.canaries, &format!("the log of {}", process.name()), &process.log()));
        }
        let mut kinds = vec![Kind::Stream, Kind::Streamer, Kind::Placement, Kind::Event];
        // A directory of manifests has none.
        kinds.extend(self.cluster().is_ok().then_some(Kind::Lease));
        for kind in kinds {
            for object in self.list(kind).await? {
                let text = serde_json::to_string_pretty(&object)?;
                let name = object["metadata"]["name"].as_str().context("an object without a name")?;
                seen.extend(canary::found(&self.canaries, &format!("{kind:?} {name}"), &text));
            }
        }
        for operator in &self.operators {
            let what = format!("the metrics of {}", operator.process.name());
            seen.extend(canary::found(&self.canaries, &what, &operator.last_metrics().await));
        }
        for streamer in self.streamers.iter().filter(|streamer| streamer.sidecar.is_running()) {
            let what = format!("the metrics of {}", streamer.sidecar.name());
            seen.extend(canary::found(&self.canaries, &what, &streamer.metrics().await?));
        }
        Ok(seen)
    }

    /// One line for each scenario, past the test harness, which would keep it to itself: dark times from each stream's first capture.
    fn tell_dark_times(&self) {
        let now = self.registry.now();
        let mut longest: Vec<(Duration, String)> = Vec::new();
        let timeline = self.registry.timeline();
        let names: BTreeSet<&str> = timeline.iter().map(|read| read.stream.as_str()).collect();
        for name in &names {
            let first = timeline.iter().find(|read| read.stream == *name).map_or(now, |read| read.from);
            let gaps = self.registry.dark(name, first, now);
            let gap = gaps.iter().map(|gap| gap.to.saturating_sub(gap.from)).max();
            longest.extend(gap.map(|gap| (gap, (*name).to_owned())));
        }
        longest.sort();
        let told = match (longest.first(), longest.last()) {
            (Some((least, _)), Some((most, name))) => {
                format!(
                    "{} of {} streams were dark, for {least:.1?} to {most:.1?} ({name})",
                    longest.len(),
                    names.len()
                )
            }
            _ => format!("none of {} streams was dark", names.len()),
        };
        // Nobody misses it if standard error is closed.
        let _ = writeln!(std::io::stderr(), "{}: {told}", self.name);
    }

    /// A line of its own about dark times, like the one of [`Site::finish`].
    pub fn tell(&self, what: &str) {
        let _ = writeln!(std::io::stderr(), "{}: {what}", self.name);
    }

    /// One line for the table of dark times: what happened to `streams`, each dark since `since`.
    pub fn tell_dark<'a>(&self, what: &str, streams: impl IntoIterator<Item = &'a String>, since: Duration) {
        let dark = self.dark_since(streams, since);
        if let (Some(median), Some(worst)) = (dark.get(dark.len() / 2), dark.last()) {
            self.tell(&format!("{what}: dark: median {median:.1?}, worst {worst:.1?} of {} streams", dark.len()));
        }
    }

    /// The same for streams of both policies: a line for each.
    pub fn tell_dark_by_policy(&self, what: &str, streams: &BTreeSet<String>, since: Duration) {
        let stopping = Self::stopping(streams);
        self.tell_dark(&format!("{what} (KeepCapturing)"), streams.difference(&stopping), since);
        self.tell_dark(&format!("{what} (StopCapturing)"), &stopping, since);
    }

    /// For how long each of `streams` was dark since `since`: from the shortest to the longest.
    pub fn dark_since<'a>(&self, streams: impl IntoIterator<Item = &'a String>, since: Duration) -> Vec<Duration> {
        self.registry.dark_since(streams, since)
    }
}
