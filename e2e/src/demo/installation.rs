//! The processes: one operator over a directory of manifests, and for each Streamer a streamer and its sidecar.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::child::last_lines;
use crate::programs::Programs;
use crate::registry::Registry;
use crate::scratch_folder::ScratchFolder;
use crate::site::{Process, ports};

/// A media server: both processes keep their addresses, database and configuration over a kill.
#[derive(Debug)]
pub struct Server {
    pub sidecar: Process,
    pub streamer: Process,
    /// The sidecar's replica.
    pub replica: PathBuf,
}

/// The objects, as the operator shows them.
#[derive(Debug, Clone)]
pub struct Objects {
    http: SocketAddr,
    client: reqwest::Client,
}

impl Objects {
    /// Every object of a kind.
    pub async fn list(&self, resource: &str) -> Result<Vec<Value>> {
        let url = format!("http://{}/apis/weir.dev/v1alpha1/{resource}", self.http);
        let answer = self.client.get(&url).send().await.context("the operator does not answer")?;
        let mut list: Value = answer.error_for_status()?.json().await?;
        match list["items"].as_array_mut() {
            Some(items) => Ok(std::mem::take(items)),
            None => bail!("{url} answered no list"),
        }
    }
}

/// Everything that runs. Dropped, nothing of it is left.
pub struct Installation {
    pub servers: BTreeMap<String, Server>,
    pub operator: Process,
    /// The operator's `--http-listen`.
    pub http: SocketAddr,
    pub registry: Registry,
    pub objects: Objects,
    // Last, so that it is removed when nobody writes into it any more.
    folder: ScratchFolder,
}

impl Installation {
    /// Makes everything and starts it.
    pub fn start(programs: &Programs, manifests: &Path, names: impl IntoIterator<Item = String>) -> Result<Self> {
        let folder = ScratchFolder::new("demo")?;
        let registry = Registry::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let (feed, http) = (ports::free_address()?, ports::free_address()?);
        let mut operator = Process::new("operator", programs.operator(), folder.path());
        operator.args.push("run".into());
        operator.flag("feed-listen", feed.to_string());
        operator.flag("http-listen", http.to_string());
        operator.flag("manifests", manifests);
        operator.flag("state", folder.path().join("state"));
        operator.args.push("--feed-insecure".into());
        operator.flag("log-format", "json");
        // Every planned change, one line each.
        operator.env.push(("RUST_LOG".to_owned(), "info,weir_operator::reconcile=debug".into()));
        operator.start()?;
        let mut servers = BTreeMap::new();
        for name in names {
            let mut server = Server::new(&name, programs, feed, registry.addr(), folder.path())?;
            server.start()?;
            servers.insert(name, server);
        }
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        Ok(Self { servers, operator, http, registry, objects: Objects { http, client }, folder })
    }

    /// Where the logs are, and everything else.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the operator keeps its Placements.
    pub fn placements(&self) -> PathBuf {
        self.folder().join("state/placements")
    }

    /// A server by its Streamer's name.
    pub fn server(&self, name: &str) -> Result<&Server> {
        self.servers.get(name).with_context(|| format!("there is no server {name}"))
    }

    /// Starts a server again with what it has on its disk.
    pub fn bring_back(&mut self, name: &str) -> Result<()> {
        let server = self.servers.get_mut(name).with_context(|| format!("there is no server {name}"))?;
        server.start()
    }

    /// What is wrong with the processes, and the operator's own complaints.
    pub fn complaints(&self) -> Vec<String> {
        let of_servers = self.servers.values().flat_map(|server| [&server.sidecar, &server.streamer]);
        let ended = std::iter::once(&self.operator).chain(of_servers).filter(|process| !process.is_running());
        let mut complaints: Vec<String> = ended
            .map(|process| {
                format!("{} is not running; its log ends:\n{}", process.name(), last_lines(&process.log(), 5))
            })
            .collect();
        let log = self.operator.log();
        let warnings = log.lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\""));
        let warnings: Vec<&str> = warnings.collect();
        let newest = warnings.iter().skip(warnings.len().saturating_sub(5));
        complaints.extend(newest.map(|line| format!("the operator's log: {line}")));
        complaints
    }
}

impl Server {
    fn new(name: &str, programs: &Programs, feed: SocketAddr, registry: SocketAddr, folder: &Path) -> Result<Self> {
        let (answers, http, api) = (ports::free_address()?, ports::free_address()?, ports::free_address()?);
        let data = folder.join(format!("{name}-replica"));
        let mut sidecar = Process::new(&format!("{name}-sidecar"), programs.sidecar(), folder);
        sidecar.flag("feed", format!("http://{feed}"));
        sidecar.flag("streamer", name);
        sidecar.flag("data", &data);
        sidecar.flag("listen", answers.to_string());
        sidecar.flag("http-listen", http.to_string());
        sidecar.flag("streamer-api", format!("http://{api}"));
        let mut streamer = Process::new(name, programs.streamer_sim(), folder);
        streamer.flag("hostname", name);
        streamer.flag("config-external", format!("http://{answers}/"));
        streamer.flag("api-listen", api.to_string());
        streamer.flag("registry", registry.to_string());
        streamer.flag("state", folder.join(format!("{name}-configuration.json")));
        Ok(Self { sidecar, streamer, replica: data.join("replica.sqlite3") })
    }

    fn start(&mut self) -> Result<()> {
        self.sidecar.start()?;
        self.streamer.start()
    }

    /// SIGKILL to both at once, as when the power fails.
    pub async fn kill9(&self) -> Result<()> {
        tokio::try_join!(self.streamer.kill9(), self.sidecar.kill9())?;
        Ok(())
    }
}
