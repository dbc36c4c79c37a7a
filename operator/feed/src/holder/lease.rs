//! **Lease**: streams with `StopCapturing` are served only while a leader has lately answered, and the streamer lives only
//! while it obeys.

use std::collections::BTreeSet;

use crate::frames::{ApiState, LeaseReport, Partition, Run};
use crate::holder::answer::Request;
use crate::holder::evidence::{Pending, Proof};
use crate::holder::rows::Row;
use crate::holder::step::Holder;
use crate::rule::{Rule, lacks};
use crate::time::Now;

/// Names that a sentence shows.
const SHOWN: usize = 3;

/// Why whoever supervises the streamer should kill it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Disobeys {
    #[error(
        "the streamer has not polled for {idle} ms and may be capturing {streams}, which must not go on without word of it"
    )]
    NotPolling { idle: u64, streams: String },
    #[error(
        "no leader has answered for {since} ms and the streamer may be capturing {streams}, which stops when it is cut off"
    )]
    NoLease { since: u64, streams: String },
    #[error("what the streamer captures is not known, and no leader has answered since this sidecar started")]
    Unknown,
}

/// What is known of the lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Until when streams with `StopCapturing` are served, monotonic ms; `None`: never given since the start.
    pub until: Option<u64>,
    /// When `GET /lease` was last asked.
    pub asked: Option<u64>,
    /// Its end has been dealt with.
    over: bool,
}

impl Holder {
    /// Whether streams with `StopCapturing` are served now.
    pub fn is_leased(&self, now: Now) -> bool {
        self.lease.until.is_some_and(|until| now.mono < until)
    }

    pub(super) fn may_serve(&self, row: &Row, now: Now) -> bool {
        row.partition == Partition::KeepCapturing || self.is_leased(now) || lacks(Rule::Lease)
    }

    /// A ping carried a lease, counted from the request `at`.
    pub(super) fn lease(&mut self, at: u64, now: Now) {
        // What was never said is not answered.
        if at > now.mono {
            return;
        }
        let until = at.saturating_add(self.periods().stream_lease);
        self.lease.until = self.lease.until.max(Some(until));
        if self.lease.over && self.is_leased(now) {
            self.lease.over = false;
            // They are served again, and need not be let go.
            let rows = &self.rows;
            self.pending.retain(|name, pending| pending.asked.is_some() || rows.row(name).is_none());
        }
    }

    /// When the lease runs out, the streamer has to let go of what was served under it.
    pub(super) fn mind_lease(&mut self, now: Now) {
        if self.lease.over || self.is_leased(now) {
            return;
        }
        self.lease.over = true;
        let stops: Vec<String> = self.stopping().map(|(name, _)| name.clone()).collect();
        for name in stops {
            let pending = Pending { asked: None, write: 0, proof: Proof::Nothing };
            self.pending.entry(name).or_insert(pending);
        }
        self.watch.stirred = now.mono;
    }

    fn stopping(&self) -> impl Iterator<Item = (&String, &Row)> {
        self.rows.all().iter().filter(|(_, row)| row.partition == Partition::StopCapturing)
    }

    /// Streams that are not served for want of a lease, counted.
    pub fn unleased(&self, now: Now) -> usize {
        if self.is_leased(now) { 0 } else { self.stopping().count() }
    }

    /// A stream that `request` asks for, and that is served when the first lease since the start comes.
    pub(super) fn awaits_lease<'a>(&'a self, request: &'a Request, now: Now) -> Option<&'a String> {
        let patience = self.started.saturating_add(self.periods().first_mark());
        if self.lease.until.is_some() || now.mono >= patience {
            return None;
        }
        let mut stopping = self.stopping().filter(|(name, row)| match request {
            Request::All => row.is_static,
            Request::Named(names) => names.contains(*name),
        });
        stopping.next().map(|(name, _)| name)
    }

    /// How it stands, for the leader.
    pub(super) fn lease_report(&self, now: Now) -> LeaseReport {
        LeaseReport {
            at: self.watch.last_request,
            runs: self.is_leased(now),
            asked: self.lease.asked.map(|asked| now.mono.saturating_sub(asked)),
            boots_with: self.watch.boots_with,
        }
    }

    /// `GET /lease`: whether the streamer may live. One that polls and has let go of what it may not capture may,
    /// whoever is there or not: other streams run on it.
    pub fn obeys(&self, now: Now) -> Result<(), Disobeys> {
        let idle = now.mono.saturating_sub(self.watch.last_request.unwrap_or(self.started));
        let polls = idle <= self.periods().alive;
        // A poll after the lease's end is its own to let go in: `Periods::lease_over` has it beside `kill`.
        let lets_go = self.lease.until.is_some_and(|until| now.mono < until.saturating_add(self.periods().poll));
        if polls && lets_go {
            return Ok(());
        }
        let Some(names) = self.unguarded() else {
            return Err(Disobeys::Unknown);
        };
        if names.is_empty() {
            return Ok(());
        }
        let streams = named(&names);
        if self.is_leased(now) {
            return Err(Disobeys::NotPolling { idle, streams });
        }
        let since = self.lease.until.map_or(now.mono - self.started.min(now.mono), |until| {
            now.mono.saturating_sub(until).saturating_add(self.periods().stream_lease)
        });
        Err(Disobeys::NoLease { since, streams })
    }

    /// What the streamer may be capturing and is not known to go on when it is cut off; `None`: that is not known.
    fn unguarded(&self) -> Option<BTreeSet<String>> {
        let keeps = |name: &String| self.rows.row(name).is_some_and(|row| row.partition == Partition::KeepCapturing);
        let names: BTreeSet<String> = match (&self.watch.runs, self.watch.api) {
            (Some(runs), _) => {
                let captures = runs.iter().filter(|(_, run)| **run == Run::Capture).map(|(name, _)| name);
                // What it was given since it was read does not show yet.
                let given = self.watch.served.iter().filter(|_| !self.watch.is_read_since_it_asked());
                captures.chain(given).cloned().collect()
            }
            (None, ApiState::Absent) if self.runs_known() => self.watch.served.clone(),
            // What has only rows that go on when it is cut off cannot run anything else, but for what it was not told of.
            (None, _) if self.meta.synced && self.stopping().next().is_none() && self.pending.is_empty() => {
                BTreeSet::new()
            }
            (None, _) => return None,
        };
        Some(names.into_iter().filter(|name| !keeps(name)).collect())
    }
}

fn named(names: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    let shown = shown.join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
