//! The demo: an installation over `examples/`, a failover, and what is measured of it.

pub mod declared;
pub mod failover;
pub mod installation;
pub mod live;
pub mod operator_log;
pub mod outcome;
pub mod screen;
pub mod table;
pub mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};

use self::declared::Declared;
use self::failover::{Facts, Times};
use self::installation::Installation;
use self::live::Live;
use self::screen::{BOLD, DIM, GREEN, PLAIN, RED, Screen};
use self::witness::{Lookout, Witness};
use crate::programs::Programs;

/// The manifests that it runs on.
pub const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");

/// How long anything is waited for beyond what it should take. Only what is broken takes as long.
const PATIENCE: Duration = Duration::from_mins(1);

/// For whoever watches; nothing rests on it.
const TIME_TO_LOOK: Duration = Duration::from_secs(3);

/// A running demo.
pub struct Demo {
    screen: Arc<Screen>,
    declared: Declared,
    installation: Installation,
    operator: String,
    started: Instant,
    live: Live,
}

/// The failover so far, on the registry's clock.
struct Failover {
    streamer: String,
    streams: BTreeSet<String>,
    killed: Duration,
}

impl Demo {
    /// Builds the programs and starts everything.
    pub async fn start(screen: Arc<Screen>) -> Result<Self> {
        let manifests = Path::new(EXAMPLES).canonicalize().with_context(|| format!("there is no {EXAMPLES}"))?;
        let declared = Declared::read(&manifests)?;
        screen.progress("Building operator, sidecar and streamer (minutes the first time) …");
        let programs = Programs::get().await?;
        let started = Instant::now();
        let installation = Installation::start(programs, &manifests, declared.streamers.iter().cloned())?;
        let captured = declared.captured().len();
        screen.say(&format!(
            "{BOLD}Weir on this machine{PLAIN}: one operator, {} streamers, a sidecar beside each, {captured} streams to capture at all times.\n\
             The streamers are simulated; their sources count who reads them at every instant.\n{DIM}Manifests: {}   Logs and databases: {}{PLAIN}\n",
            declared.streamers.len(),
            manifests.display(),
            installation.folder().display(),
        ));
        let live = Live::start(Arc::clone(&screen), &installation, &declared, started);
        let operator = programs.operator().display().to_string();
        Ok(Self { screen, declared, installation, operator, started, live })
    }

    /// From the start to the end of the failover; an error says what was not as it should be.
    pub async fn story(&mut self) -> Result<()> {
        let expected = self.declared.captured();
        self.tell("started: a first leader hears everybody out for 6 s before it places anything");
        let lit = self.installation.registry.await_each_once(&expected, PATIENCE).await?;
        self.tell(&format!("every stream is captured, once: {}", self.shares()));
        self.await_ready().await?;
        tokio::time::sleep(TIME_TO_LOOK).await;

        let failover = self.fail_over(&expected).await?;
        tokio::time::sleep(TIME_TO_LOOK).await;
        let back = self.bring_back(&failover.streamer, &expected).await?;
        self.await_ready().await?;
        tokio::time::sleep(TIME_TO_LOOK).await;
        let after = outcome::of_return(&self.installation.registry, &failover.streamer, back);
        self.screen.say(&format!(
            "\n{BOLD}{} is back{PLAIN}, with its old database and its old configuration",
            failover.streamer
        ));
        for line in after {
            self.screen.say(&format!("  {line}"));
        }
        self.screen.say("");
        let dark = outcome::judge(&self.installation.registry, &expected, &failover.streams, lit, failover.killed)?;
        self.tell(&format!("{GREEN}captured once:{PLAIN} {dark}"));
        Ok(())
    }

    /// Kills a streamer and its sidecar, and shows how its streams come back.
    async fn fail_over(&self, expected: &BTreeSet<String>) -> Result<Failover> {
        let (streamer, streams) = self.choose().context("no streamer captures anything")?;
        let after = self.declared.longest_after(&streams);
        let others = self.installation.servers.iter().filter(|(name, _)| **name != streamer);
        let witness = Witness::begin(Lookout {
            streams: streams.clone(),
            leave: streamer.clone(),
            placements: self.installation.placements(),
            replicas: others.map(|(_, server)| server.replica.clone()).collect(),
        });
        let registry = &self.installation.registry;
        self.tell(&format!("{RED}kill -9{PLAIN}: {streamer}, which captures {}, and its sidecar", names(&streams)));
        let (wall, killed) = (SystemTime::now(), registry.now());
        self.live.killed(Some(&streamer));
        self.installation.server(&streamer)?.kill9().await?;
        let captured = registry.await_each_once(expected, after + PATIENCE).await;
        let seen = witness.end();
        captured?;
        self.tell(&format!("every stream is captured again, once: {}", self.shares()));
        let log = operator_log::since(&self.installation.operator.log(), wall);
        let (dark, captured) = self.reads_since(&streams, &streamer, killed);
        let facts = Facts {
            streamer: streamer.clone(),
            killed: wall,
            streams: streams.clone(),
            after,
            dark,
            noticed: operator_log::noticed(&log, &streamer),
            planned: operator_log::planned(&log),
            persisted: seen.persisted,
            replicated: seen.replicated,
            captured,
        };
        self.screen.say("");
        for line in facts.timeline().map_err(anyhow::Error::msg)? {
            self.screen.say(&line);
        }
        self.screen.say("");
        Ok(Failover { streamer, streams, killed })
    }

    /// Starts the killed streamer and its sidecar again, and returns when the streamer has carried out its first poll, with the time at
    /// which it was started.
    async fn bring_back(&mut self, streamer: &str, expected: &BTreeSet<String>) -> Result<Duration> {
        let back = self.installation.registry.now();
        self.installation.bring_back(streamer)?;
        self.live.killed(None);
        self.tell(&format!("{streamer} and its sidecar are started again, with what was on their disks"));
        let registry = &self.installation.registry;
        let deadline = Instant::now() + PATIENCE;
        let polled = || {
            let mut instances =
                registry.instances().into_iter().filter(|instance| instance.reader.streamer == streamer);
            instances.any(|instance| instance.from >= back && instance.polled.is_some())
        };
        while !polled() {
            ensure!(Instant::now() < deadline, "{streamer} was started again and its first poll is not answered");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        registry.await_each_once(expected, PATIENCE).await?;
        Ok(back)
    }

    /// Waits until the operator says that every Streamer is Ready.
    async fn await_ready(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let streamers = self.installation.objects.list("streamers").await?;
            let not_ready = streamers.iter().filter(|streamer| streamer["status"]["summary"] != "Ready");
            let not_ready: Vec<&str> = not_ready.filter_map(|streamer| streamer["metadata"]["name"].as_str()).collect();
            if not_ready.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the operator does not call {} Ready", not_ready.join(", "));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The streamer to kill: one whose streams move soon, of those the one with the most.
    fn choose(&self) -> Option<(String, BTreeSet<String>)> {
        let shares = live::shares(&self.installation.registry);
        shares.into_iter().min_by_key(|(name, streams)| {
            (self.declared.longest_after(streams), std::cmp::Reverse(streams.len()), name.clone())
        })
    }

    /// How many streams each captures.
    fn shares(&self) -> String {
        let shares = live::shares(&self.installation.registry);
        let shares = shares.iter().map(|(name, streams)| format!("{name} {}", streams.len()));
        shares.collect::<Vec<_>>().join(", ")
    }

    /// When the killed streamer's reads ended, and when others began to read the same streams.
    fn reads_since(&self, streams: &BTreeSet<String>, streamer: &str, killed: Duration) -> (Times, Times) {
        let registry = &self.installation.registry;
        let (mut dark, mut captured) = (BTreeMap::new(), BTreeMap::new());
        for read in registry.timeline().into_iter().filter(|read| streams.contains(&read.stream)) {
            if read.reader.streamer == streamer {
                if let Some(to) = read.to.filter(|to| *to >= killed) {
                    dark.entry(read.stream).or_insert(registry.started() + to);
                }
            } else if read.from >= killed {
                captured.entry(read.stream).or_insert(registry.started() + read.from);
            }
        }
        (dark, captured)
    }

    /// What went wrong, and what helps to see why.
    pub fn tell_failure(&self, error: &anyhow::Error) {
        self.tell(&format!("{RED}not as it should be{PLAIN}: {error:#}"));
        for complaint in self.installation.complaints() {
            self.screen.say(&format!("  {complaint}"));
        }
        self.screen.say("  (WEIR_E2E_KEEP=1 cargo demo keeps the logs and databases)");
    }

    /// How to play with what is left running.
    pub fn introduce(&self) {
        let (folder, http) = (self.installation.folder().display(), self.installation.http);
        let operator = &self.operator;
        let pids = self.installation.servers.iter().filter_map(|(name, server)| {
            let (streamer, sidecar) = (server.streamer.child().ok()?.pid(), server.sidecar.child().ok()?.pid());
            Some(format!("{name} {streamer} and {sidecar}"))
        });
        let pids = pids.collect::<Vec<_>>().join(", ");
        self.screen.say(&format!(
            "\n{BOLD}Everything stays up until Ctrl-C.{PLAIN}\n  \
             Ask:     {operator} get streams --server http://{http}\n           \
             {operator} get streamers -o wide --server http://{http}   (and placements, events)\n           \
             curl http://{http}/metrics\n  \
             Change:  edit or add a file in examples/\n  \
             Kill:    kill -9 with both of {pids} (streamer and sidecar)\n  \
             Logs:    {folder}/*.log\n"
        ));
    }

    /// The last picture.
    pub fn end(&self) {
        self.live.end();
    }

    fn tell(&self, line: &str) {
        self.live.catch_up();
        self.screen.say(&format!("{:>6.1} s  {line}", self.started.elapsed().as_secs_f64()));
    }
}

/// Names, if they are few.
fn names(names: &BTreeSet<String>) -> String {
    const NAMED: usize = 6;
    let mut each: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    let more = format!("{} more", names.len().saturating_sub(NAMED));
    if names.len() > NAMED {
        each.push(&more);
    }
    each.join(", ")
}
