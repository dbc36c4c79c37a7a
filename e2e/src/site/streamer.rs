//! One media server of a site: a streamer and the sidecar beside it, as two processes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use weir_feed::periods::Periods;

use super::process::Process;
use super::wait::until;
use super::{periods, ports};
use crate::programs::Programs;

/// A streamer that may not live is killed after so many answers that say so.
const FAILURES: u32 = 4;

/// A streamer and its sidecar. They keep their addresses, database and configuration over kills and restarts.
#[derive(Debug)]
pub struct Streamer {
    /// The Streamer's `metadata.name`; or another, where two say that they are one Streamer.
    pub name: String,
    pub sidecar: Process,
    pub sim: Process,
    /// Where the sidecar answers its streamer.
    pub answers: SocketAddr,
    /// Where the sidecar's health and metrics are.
    pub http: SocketAddr,
    /// Where the streamer's own API is.
    pub api: SocketAddr,
    /// The sidecar's database.
    pub replica: PathBuf,
    client: reqwest::Client,
}

/// How a sidecar reaches the feed, and who it says it is.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// `--feed`, each.
    pub feeds: Vec<String>,
    pub namespace: String,
    /// `--streamer`, and what the streamer sends as `host`.
    pub streamer: String,
    /// `--ca-file`.
    pub authority: Option<PathBuf>,
    /// `--token-file`.
    pub token: Option<PathBuf>,
    /// `--instance`.
    pub instance: Option<String>,
}

impl Streamer {
    /// One that is not started yet. `sim_args` go to the streamer as they are.
    pub(super) fn new(
        name: &str,
        entry: &Entry,
        sim_args: &[String],
        registry: SocketAddr,
        periods: &Periods,
        folder: &Path,
        programs: &Programs,
    ) -> Result<Self> {
        let (answers, http, api) = (ports::free_address()?, ports::free_address()?, ports::free_address()?);
        let mut sidecar = Process::new(&format!("{name}-sidecar"), programs.sidecar(), folder);
        sidecar.flag("feed", entry.feeds.join(","));
        sidecar.flag("namespace", &entry.namespace);
        sidecar.flag("streamer", &entry.streamer);
        let data = folder.join(format!("{name}-data"));
        std::fs::create_dir_all(&data)?;
        sidecar.flag("data", &data);
        sidecar.flag("listen", answers.to_string());
        sidecar.flag("http-listen", http.to_string());
        sidecar.flag("streamer-api", format!("http://{api}"));
        for (flag, path) in [("ca-file", &entry.authority), ("token-file", &entry.token)] {
            if let Some(path) = path {
                sidecar.flag(flag, path);
            }
        }
        if let Some(instance) = &entry.instance {
            sidecar.flag("instance", instance);
        }
        let mut sim = Process::new(&format!("{name}-streamer"), programs.streamer_sim(), folder);
        sim.flag("hostname", &entry.streamer);
        sim.flag("config-external", format!("http://{answers}"));
        sim.flag("api-listen", api.to_string());
        sim.flag("registry", registry.to_string());
        sim.flag("state", folder.join(format!("{name}-state.json")));
        sim.flag("poll-min-ms", periods::poll_min(periods).to_string());
        sim.flag("poll-max-ms", periods.poll.to_string());
        sim.args.extend(sim_args.iter().map(Into::into));
        let replica = data.join("replica.sqlite3");
        let client = super::http_client()?;
        Ok(Self { name: name.to_owned(), sidecar, sim, answers, http, api, replica, client })
    }

    /// From its next start on the sidecar reaches the feed as `entry` says.
    pub fn join(&mut self, entry: &Entry) {
        self.sidecar.set_flag("feed", entry.feeds.join(","));
        self.sidecar.set_flag("namespace", &entry.namespace);
        for (flag, path) in [("ca-file", &entry.authority), ("token-file", &entry.token)] {
            if let Some(path) = path {
                self.sidecar.set_flag(flag, path);
            }
        }
    }

    /// Puts a supervisor before the streamer, which then keeps no configuration over a restart.
    pub(super) fn supervise(&mut self, periods: &Periods, folder: &Path, programs: &Programs) {
        let (name, sim) = (&self.name, &mut self.sim);
        if let Some(state) = sim.args.iter().position(|arg| arg == "--state") {
            sim.args.drain(state..state + 2);
        }
        let args = std::mem::take(&mut sim.args);
        let mut supervisor = Process::new(&format!("{name}-streamer"), programs.supervisor(), folder);
        supervisor.flag("lease", format!("http://{}/lease", self.http));
        // Unanswered, `FAILURES` of them take three quarters of `kill`: each is waited for twice as long as the pause before it.
        supervisor.flag("every-ms", (periods.kill / u64::from(FAILURES) / 4).to_string());
        supervisor.flag("failures", FAILURES.to_string());
        supervisor.flag("log", folder.join(format!("{name}-streamer-sim.log")));
        supervisor.args.push("--".into());
        supervisor.args.push(programs.streamer_sim().into());
        supervisor.args.extend(args);
        *sim = supervisor;
    }

    /// The process of a supervised streamer now.
    pub fn supervised_pid(&self) -> Result<i32> {
        let log = self.sim.log();
        let lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let pid = lines.into_iter().find_map(|line| line["started"].as_i64());
        Ok(i32::try_from(pid.context("its supervisor has started nothing")?)?)
    }

    /// Why its supervisor killed it, each time.
    pub fn kills(&self) -> Vec<String> {
        let log = self.sim.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["killed"].is_i64()).filter_map(|line| Some(line["why"].as_str()?.to_owned())).collect()
    }

    /// Starts both, with what they kept on disk.
    pub fn start(&mut self) -> Result<()> {
        self.sidecar.start()?;
        self.sim.start()
    }

    /// SIGKILL to both at once.
    pub async fn kill9(&self) -> Result<()> {
        tokio::try_join!(self.sim.kill9(), self.sidecar.kill9())?;
        Ok(())
    }

    /// What the sidecar's `/metrics` says.
    pub async fn metrics(&self) -> Result<String> {
        let answer = self.client.get(format!("http://{}/metrics", self.http)).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// What the sidecar's `/readyz` says.
    pub async fn ready(&self) -> Result<String> {
        Ok(self.client.get(format!("http://{}/readyz", self.http)).send().await?.text().await?)
    }

    /// The value of one line of its `/metrics`; 0 where it is not said.
    pub async fn metric(&self, line: &str) -> Result<f64> {
        super::metric(&self.metrics().await?, line)
    }

    /// What the sidecar would answer its streamer now: the status, and the streams where it is 200.
    pub async fn answer(&self) -> Result<(u16, Vec<Value>)> {
        let url = format!("http://{}/streamer/api/v3/streams?host={}", self.answers, self.name);
        let answer = self.client.get(url).send().await?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Ok((status, Vec::new()));
        }
        let mut body: Value = answer.json().await?;
        ensure!(body["streams"].is_array(), "an answer without streams: {body}");
        Ok((status, body["streams"].as_array_mut().map(std::mem::take).unwrap_or_default()))
    }

    /// Waits until the sidecar would answer with exactly these streams; what they are is returned.
    pub async fn await_answer(&self, names: &BTreeSet<String>) -> Result<Vec<Value>> {
        until(&format!("{} answers {} streams", self.sidecar.name(), names.len()), async || {
            let (status, streams) = self.answer().await?;
            ensure!(status == 200, "it answers {status}");
            let answered: BTreeSet<&str> = streams.iter().filter_map(|stream| stream["name"].as_str()).collect();
            ensure!(answered == names.iter().map(String::as_str).collect(), "it answers {answered:?}, not {names:?}");
            Ok(streams)
        })
        .await
    }
}
