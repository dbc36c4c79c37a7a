//! A site: one namespace of a real control plane (or one directory of manifests) with operators, streamers and their sidecars as real
//! processes, and a source registry that sees who captures what.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use weir_e2e::site::{Plan, Site};
//!
//! let mut site = Site::start("failover", Plan::default()).await?;
//! let names = site.apply_streams(30).await?;
//! site.await_captured_once(&names).await?;
//! site.kill_streamer("s1").await?;
//! site.await_captured_once(&names).await?;
//! site.finish().await
//! # }
//! ```

mod canary;
mod certificates;
mod diagnosis;
mod kind;
pub mod kubelet;
mod operator;
mod periods;
pub(crate) mod ports;
mod process;
pub mod rbac;
mod start;
mod stream;
mod streamer;
mod to_cluster;
mod verdict;
mod wait;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use tokio::sync::SemaphorePermit;
use weir_feed::periods::Periods;

pub use self::kind::Kind;
pub use self::operator::Operator;
pub use self::periods::{FAILOVER_AFTER, PATIENCE, PERIODS};
pub use self::ports::free_address;
pub use self::process::Process;
pub use self::start::{Place, Plan};
pub use self::stream::{StreamObject, credentials, secret, stream, url};
pub use self::streamer::{Entry, Streamer};
pub use self::to_cluster::Destination;
pub use self::wait::until;
pub use self::world::{Cluster, World};
use crate::control_plane::ControlPlane;
use crate::registry::{CutOff, Registry};
use crate::scratch_folder::ScratchFolder;

/// Objects that are applied at one time.
const APPLIED_AT_ONCE: usize = 16;
/// What the names of streams that stop when they are cut off begin with.
const STOPPING: &str = "stop-";

/// A running site. One that is dropped before [`Site::finish`] has failed, and says what it looks like.
pub struct Site {
    name: String,
    /// Where its Streams are.
    pub namespace: String,
    pub registry: Registry,
    pub operators: Vec<Operator>,
    pub streamers: Vec<Streamer>,
    /// Times at which a streamer was out of reach: then it may capture what was moved away from it.
    pub cut_off: Vec<CutOff>,
    /// Passwords that must be found nowhere.
    pub canaries: Vec<String>,
    periods: Periods,
    supervised: bool,
    world: World,
    folder: ScratchFolder,
    finished: bool,
    _place: SemaphorePermit<'static>,
}

impl Site {
    /// The control plane.
    pub fn cluster(&self) -> Result<&ControlPlane> {
        match &self.world {
            World::Kubernetes { cluster, .. } => Ok(cluster),
            World::Manifests { .. } => bail!("{} has no control plane", self.name),
        }
    }

    /// A client of the administrator.
    pub fn client(&self) -> Result<kube::Client> {
        match &self.world {
            World::Kubernetes { client, .. } => Ok(client.clone()),
            World::Manifests { .. } => bail!("{} has no control plane", self.name),
        }
    }

    /// Weir's times here.
    pub fn periods(&self) -> &Periods {
        &self.periods
    }

    /// Where logs, databases and manifests are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The streamer of that name.
    pub fn streamer(&self, name: &str) -> Result<&Streamer> {
        let found = self.streamers.iter().find(|streamer| streamer.name == name);
        found.with_context(|| format!("there is no streamer {name}"))
    }

    /// As [`Site::streamer`], to start it.
    pub fn streamer_mut(&mut self, name: &str) -> Result<&mut Streamer> {
        let found = self.streamers.iter_mut().find(|streamer| streamer.name == name);
        found.with_context(|| format!("there is no streamer {name}"))
    }

    /// Kills a streamer and its sidecar (SIGKILL). When this returns, the source registry has seen its reads end.
    pub async fn kill_streamer(&self, name: &str) -> Result<()> {
        self.streamer(name)?.kill9().await?;
        let ended = self.registry.await_until(
            |now| match now.values().flatten().filter(|reader| reader.streamer == name).count() {
                0 => Ok(()),
                reads => Err(format!("{name} was killed and reads {reads}")),
            },
            PATIENCE,
        );
        ended.await?;
        Ok(())
    }

    /// Every process of the site.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        let of_streamers = self.streamers.iter().flat_map(|streamer| [&streamer.sidecar, &streamer.sim]);
        self.operators.iter().map(|operator| &operator.process).chain(of_streamers)
    }

    /// Applies an object in the site's namespace.
    pub async fn apply(&self, object: &Value) -> Result<()> {
        self.world.apply(&self.namespace, object).await
    }

    /// Applies `cam-1` to `cam-COUNT`, and returns their names.
    pub async fn apply_streams(&self, count: usize) -> Result<BTreeSet<String>> {
        self.apply_named((1..=count).map(|number| format!("cam-{number}"))).await
    }

    /// Applies a Stream for each name; those that begin with `stop-` stop when they are cut off.
    pub async fn apply_named(&self, names: impl IntoIterator<Item = String>) -> Result<BTreeSet<String>> {
        let names: BTreeSet<String> = names.into_iter().collect();
        let object = |name: &str| {
            let stream = stream(name);
            if name.starts_with(STOPPING) { stream.stop_capturing().object().clone() } else { stream.object().clone() }
        };
        let all = futures::stream::iter(&names).map(|name| async move { self.apply(&object(name)).await });
        all.buffer_unordered(APPLIED_AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(names)
    }

    /// Applies `stop-1` to `stop-COUNT`, which stop when they are cut off, and returns their names.
    pub async fn apply_stopping(&self, count: usize) -> Result<BTreeSet<String>> {
        self.apply_named((1..=count).map(|number| format!("{STOPPING}{number}"))).await
    }

    /// Applies so many Streams that stop when they are cut off, and as many that go on, and returns the names of all.
    pub async fn apply_of_both_policies(&self, each: usize) -> Result<BTreeSet<String>> {
        let (stopping, going_on) = (self.apply_stopping(each).await?, self.apply_streams(each).await?);
        Ok(&stopping | &going_on)
    }

    /// Those of [`Site::apply_stopping`] among `streams`.
    pub fn stopping(streams: &BTreeSet<String>) -> BTreeSet<String> {
        streams.iter().filter(|name| name.starts_with(STOPPING)).cloned().collect()
    }

    /// As `kubectl patch --type merge`.
    pub async fn merge(&self, kind: Kind, name: &str, patch: Value) -> Result<()> {
        self.world.merge(&self.namespace, kind, name, &patch).await
    }

    /// Deletes an object.
    pub async fn delete(&self, kind: Kind, name: &str) -> Result<()> {
        self.world.delete(&self.namespace, kind, name).await
    }

    /// One object.
    pub async fn get(&self, kind: Kind, name: &str) -> Result<Value> {
        self.world.get(&self.namespace, kind, name).await
    }

    /// Every object of a kind.
    pub async fn list(&self, kind: Kind) -> Result<Vec<Value>> {
        self.world.list(&self.namespace, kind).await
    }

    /// The Events of an object.
    pub async fn events(&self, kind: Kind, name: &str) -> Result<Vec<Value>> {
        let kind = format!("{kind:?}");
        let mut events = self.list(Kind::Event).await?;
        events.retain(|event| {
            // Without Kubernetes they are of core/v1, as `kubectl` shows them.
            let object = event.get("regarding").unwrap_or(&event["involvedObject"]);
            object["kind"] == *kind && object["name"] == name
        });
        Ok(events)
    }

    /// Waits for an Event of an object with that reason, and returns its sentence.
    pub async fn await_event(&self, kind: Kind, name: &str, reason: &str) -> Result<String> {
        until(&format!("an Event {reason} of {kind:?} {name}"), async || {
            let events = self.events(kind, name).await?;
            let seen: Vec<&str> = events.iter().filter_map(|event| event["reason"].as_str()).collect();
            let found = events.iter().find(|event| event["reason"] == reason);
            let found = found.with_context(|| format!("its Events are {seen:?}"))?;
            let sentence = found.get("note").unwrap_or(&found["message"]);
            Ok(sentence.as_str().unwrap_or_default().to_owned())
        })
        .await
    }

    /// Waits until an object has a condition with that status and that reason, and returns its sentence.
    pub async fn await_condition(
        &self,
        kind: Kind,
        name: &str,
        condition: &str,
        status: &str,
        reason: &str,
    ) -> Result<String> {
        until(&format!("{kind:?} {name}: {condition} is {status} ({reason})"), async || {
            let object = self.get(kind, name).await?;
            let found = condition_of(&object, condition);
            let found = found.with_context(|| format!("it has no such condition: {}", object["status"]))?;
            ensure!(found["status"] == status && found["reason"] == reason, "it is {found}");
            Ok(found["message"].as_str().unwrap_or_default().to_owned())
        })
        .await
    }

    /// [`Site::await_condition`] of a Stream.
    pub async fn await_status(&self, stream: &str, condition: &str, status: &str, reason: &str) -> Result<String> {
        self.await_condition(Kind::Stream, stream, condition, status, reason).await
    }

    /// Waits until every streamer that runs is Ready.
    pub async fn await_streamers_ready(&self) -> Result<()> {
        for streamer in self.streamers.iter().filter(|streamer| streamer.sidecar.is_running()) {
            self.await_condition(Kind::Streamer, &streamer.name, "Ready", "True", "Polling").await?;
        }
        Ok(())
    }

    /// Waits until each of `streams` (media names) is read by exactly one streamer, and nothing else is read; the result is when.
    pub async fn await_captured_once(&self, streams: &BTreeSet<String>) -> Result<Duration> {
        self.await_ends_heard().await?;
        Ok(self.registry.await_each_once(streams, PATIENCE).await?)
    }

    /// Waits until the registry has heard of the end of every streamer that does not run, which is a moment after it: until then a
    /// killed one seems to go on reading.
    pub async fn await_ends_heard(&self) -> Result<()> {
        let ended = |name: &str| self.streamers.iter().any(|one| one.name == name && !one.sim.is_running());
        let heard = self.registry.await_until(
            |now| match now.values().flatten().find(|reader| ended(&reader.streamer)) {
                Some(reader) => Err(format!("{reader} has ended and still reads")),
                None => Ok(()),
            },
            PATIENCE,
        );
        heard.await?;
        Ok(())
    }

    /// Waits until each of `streams` is read by somebody else than a streamer, whatever that one still reads.
    pub async fn await_captured_elsewhere(&self, streams: &BTreeSet<String>, streamer: &str) -> Result<Duration> {
        let elsewhere = self.registry.await_until(
            |now| {
                let read =
                    |name: &&String| now.get(*name).into_iter().flatten().any(|reader| reader.streamer != streamer);
                match streams.iter().find(|name| !read(name)) {
                    Some(name) => Err(format!("{name} is read by nobody but {streamer}, if at all")),
                    None => Ok(()),
                }
            },
            PATIENCE,
        );
        Ok(elsewhere.await?)
    }

    /// Waits until nobody reads the stream any more; the result is when.
    pub async fn await_dark(&self, stream: &str) -> Result<Duration> {
        let dark = self.registry.await_until(
            |now| match now.get(stream) {
                Some(readers) => Err(format!("{stream} is read by {readers:?}")),
                None => Ok(()),
            },
            PATIENCE,
        );
        Ok(dark.await?)
    }

    /// Waits until exactly one streamer reads the stream, from `source`; the result is its name.
    pub async fn await_source(&self, stream: &str, source: &str) -> Result<String> {
        until(&format!("{stream} is read from the right source"), || async {
            let reads = self.registry.intervals(stream);
            let mut open = reads.iter().filter(|interval| interval.to.is_none());
            let read = open.next().with_context(|| format!("nobody reads {stream}"))?;
            ensure!(open.next().is_none(), "{stream} is read more than once");
            ensure!(read.source == source, "{stream} is still read from another source");
            Ok(read.reader.streamer.clone())
        })
        .await
    }

    /// Which streamer reads which streams now.
    pub fn readers(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut readers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (stream, reading) in self.registry.now_reading() {
            for reader in reading {
                readers.entry(reader.streamer).or_default().insert(stream.clone());
            }
        }
        readers
    }

    /// What a streamer reads now.
    pub fn read_by(&self, streamer: &str) -> BTreeSet<String> {
        self.readers().remove(streamer).unwrap_or_default()
    }

    /// Whether `streams` have been read without a break, each by one streamer, since `since`.
    pub fn ensure_undisturbed<'a>(&self, streams: impl IntoIterator<Item = &'a String>, since: Duration) -> Result<()> {
        self.registry.ensure_undisturbed(streams, since)
    }

    /// Whether no two have read any of `streams` at one instant since `since`, whatever else is excused.
    pub fn ensure_never_twice(&self, streams: &BTreeSet<String>, since: Duration) -> Result<()> {
        let overlaps = self.registry.overlaps(since);
        let twice: Vec<_> = overlaps.iter().filter(|overlap| streams.contains(&overlap.stream)).collect();
        ensure!(twice.is_empty(), "captured twice: {twice:#?}");
        Ok(())
    }

    /// Every record of the namespace, by media name.
    pub async fn records(&self) -> Result<BTreeMap<String, Value>> {
        let mut records = BTreeMap::new();
        for placement in self.list(Kind::Placement).await? {
            for record in placement["spec"]["records"].as_array().into_iter().flatten() {
                let name = record["name"].as_str().context("a record without a name")?;
                records.insert(name.to_owned(), record.clone());
            }
        }
        Ok(records)
    }

    /// Waits until that operator of [`Site::operators`] leads, whatever the others say or do not say.
    pub async fn await_leads(&self, place: usize) -> Result<()> {
        let operator = self.operators.get(place).context("there is no such operator")?;
        until(&format!("{} leads", operator.process.name()), async || {
            ensure!(operator.metric("weir_leader").await? > 0.0, "it does not");
            Ok(())
        })
        .await
    }

    /// Waits until exactly one operator leads, and returns its place in [`Site::operators`].
    pub async fn await_leader(&self) -> Result<usize> {
        until("one operator leads", async || {
            let mut leaders = Vec::new();
            for (place, operator) in self.operators.iter().enumerate() {
                if operator.process.is_running() && operator.metric("weir_leader").await? > 0.0 {
                    leaders.push(place);
                }
            }
            match leaders[..] {
                [leader] => Ok(leader),
                _ => bail!("{} lead", leaders.len()),
            }
        })
        .await
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // The test's own run time is no place to wait in; another thread has one of its own.
        let told = std::thread::scope(|threads| threads.spawn(|| self.diagnose()).join());
        eprintln!("{}", told.unwrap_or_else(|_| "the site cannot be described".to_owned()));
    }
}

impl Site {
    fn diagnose(&mut self) -> String {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return format!("no run time: {error}"),
        };
        runtime.block_on(async {
            if let Err(error) = self.world.renew() {
                return format!("{error:#}");
            }
            let limit = Duration::from_secs(20);
            let told = tokio::time::timeout(limit, diagnosis::of(self)).await;
            told.unwrap_or_else(|_| format!("the site's objects were not told within {limit:?}"))
        })
    }
}

/// The condition of that type of an object.
pub fn condition_of<'a>(object: &'a Value, condition: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|one| one["type"] == condition)
}

/// A client for loopback.
fn http_client() -> Result<reqwest::Client> {
    // An error means that there is a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?)
}

/// The value of one line of metrics; 0 where it is not said.
fn metric(text: &str, line: &str) -> Result<f64> {
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    Ok(found.map_or(Ok(0.0), str::parse)?)
}

/// Where a feed is, as sidecars are told.
fn feed_url(scheme: &str, address: SocketAddr) -> String {
    format!("{scheme}://{address}")
}
