//! One failover, measured from the kill of a streamer and its sidecar until nothing more is written about it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::time::Instant;

use super::api_writes::ApiWrites;
use super::captured::captured;
use super::placements::Watch;
use super::replica::Lookout;
use super::told::told;
use super::usage::Usage;
use crate::demo::operator_log;
use crate::site::{Kind, Site, condition_of, until};

/// What is written about statuses and Events has ended when nothing more came for so long.
const QUIET: Duration = Duration::from_secs(6);
/// Between two questions for the API server's metrics, which cost it something.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// A failover. Times are since the kill.
#[derive(Debug, Clone)]
pub struct Failover {
    /// Streams that had to move.
    pub moved: usize,
    /// The operator saw the sidecar's connection end (its log).
    pub noticed: Duration,
    /// It had planned the last move (its log).
    pub planned: Duration,
    /// The API server had acknowledged the last Placement (the operator's log); a watch saw every stream in one.
    pub persisted: Duration,
    /// The last stream stood in the replica of its new sidecar.
    pub replicated: Duration,
    /// A streamer read each stream again, in order.
    pub captured: Vec<Duration>,
    /// For how long nobody read each stream, in order.
    pub dark: Vec<Duration>,
    /// The last status or Event about it was written, to about a second.
    pub reported: Duration,
    /// What was written at the API server until then.
    pub writes: ApiWrites,
    /// Writes of the operator's Lease among them: the API server renews one of its own.
    pub leases: u64,
    pub operator: Usage,
    /// The one of the sidecars that are left that took most.
    pub sidecar: Usage,
}

impl Failover {
    /// Kills the streamer `killed` and its sidecar, and measures until all is quiet. The operator has to log as JSON.
    pub async fn of(site: &Site, killed: &str, names: &BTreeSet<String>, patience: Duration) -> Result<Self> {
        let client = site.client()?;
        let lost = site.read_by(killed);
        ensure!(!lost.is_empty(), "{killed} captures nothing");
        let left = || site.streamers.iter().filter(|streamer| streamer.name != killed);
        let replicas: Vec<_> = left().map(|streamer| streamer.replica.clone()).collect();
        let watch = Watch::begin(&client, &site.namespace, killed, &lost).await?;
        let lookout = Lookout::begin(&replicas, lost.clone())?;
        let before = ApiWrites::now(&client).await?;

        let (at, wall) = (site.registry.now(), SystemTime::now());
        site.streamer(killed)?.kill9().await?;
        site.await_ends_heard().await?;
        site.registry.await_each_once(names, patience).await?;
        let (after, quiet) = quiet(&client).await?;

        let writes = after.since(&before);
        let seen = watch.seen();
        if let Some(why) = seen.failed {
            anyhow::bail!("the API server's Placements could not be watched to the end: {why}");
        }
        let replicated = lookout.end()?;
        let since = |at: SystemTime| at.duration_since(wall).unwrap_or_default();
        let log = operator_log::since(&site.operators.first().context("no operator")?.process.log(), wall);
        let told = told(&log, &format!("{}/{killed}", site.namespace))?;
        last(&seen.moved, &lost, "in a Placement of the API server")?;
        site.ensure_undisturbed(names.difference(&lost), at)?;
        let captured = captured(&site.registry, killed, &lost, at)?;
        let used = left().map(|streamer| Usage::of(streamer.sidecar.child()?.pid())).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            moved: lost.len(),
            noticed: since(told.noticed),
            planned: since(told.planned),
            persisted: since(told.written),
            replicated: since(last(&replicated, &lost, "in a replica")?),
            captured,
            dark: site.dark_since(&lost, at),
            reported: since(quiet),
            writes,
            leases: seen.leases,
            operator: Usage::of(site.operators.first().context("no operator")?.process.child()?.pid())?,
            sidecar: used.into_iter().max_by_key(|usage| usage.resident).context("no sidecar is left")?,
        })
    }
}

/// Waits until every Stream says that it is captured, and nothing more is written about it.
pub async fn settled(site: &Site, streams: usize, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let said = until("every Stream says that it is captured", async || {
            let all = site.list(Kind::Stream).await?;
            let is_captured = |stream: &&Value| condition_of(stream, "Captured").is_some_and(|c| c["status"] == "True");
            let captured = all.iter().filter(is_captured).count();
            ensure!(captured == streams, "{captured} of {streams} do");
            Ok(())
        });
        match said.await {
            Ok(()) => break,
            Err(error) => ensure!(Instant::now() < deadline, error),
        }
    }
    quiet(&site.client()?).await?;
    Ok(())
}

/// Waits until no status of a Stream and no Event is written any more; the result is what was written by then, and when the last was seen.
async fn quiet(client: &kube::Client) -> Result<(ApiWrites, SystemTime)> {
    let told = |writes: &ApiWrites| (writes.of("streams/status"), writes.of("events"));
    let (mut last, mut at, mut since) = (ApiWrites::now(client).await?, SystemTime::now(), Instant::now());
    while since.elapsed() < QUIET {
        tokio::time::sleep(ASK_EVERY).await;
        let now = ApiWrites::now(client).await?;
        if told(&now) != told(&last) {
            (last, at, since) = (now, SystemTime::now(), Instant::now());
        }
    }
    Ok((last, at))
}

fn last(times: &BTreeMap<String, SystemTime>, streams: &BTreeSet<String>, whereabouts: &str) -> Result<SystemTime> {
    let missing = streams.iter().find(|stream| !times.contains_key(*stream));
    ensure!(missing.is_none(), "{missing:?} was not seen {whereabouts}");
    times.values().max().copied().context("nothing moved")
}
