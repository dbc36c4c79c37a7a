//! Weir as the README installs it, and the examples, on the node that all tests share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::OnceCell;
use weir_e2e::demo::declared::Declared;
use weir_e2e::node::{ADDRESS, Node};
use weir_e2e::registry::{Registry, boot_lasts};
use weir_e2e::site::until;
use weir_feed::periods::Periods;

/// Where the README's commands are typed.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
pub(crate) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/weir");
/// Where the examples are applied.
pub(crate) const MEDIA: &str = "default";
/// Where Weir is.
pub(crate) const SYSTEM: &str = "weir-system";
/// Failovers of the examples take 30 s and a few polls; containers start in seconds.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// What all tests share.
pub(crate) struct Site {
    pub(crate) node: &'static Node,
    pub(crate) registry: Registry,
    /// Media names of the examples that one streamer is to read at all times.
    pub(crate) streams: BTreeSet<String>,
    /// What `helm install` said.
    pub(crate) notes: String,
}

impl Site {
    /// The site; the first who asks installs it, literally as the README says.
    pub(crate) async fn shared(node: &'static Node) -> Result<&'static Self> {
        static SHARED: OnceCell<Site> = OnceCell::const_new();
        SHARED.get_or_try_init(|| Self::install(node)).await
    }

    async fn install(node: &'static Node) -> Result<Self> {
        let registry = Registry::start((ADDRESS, 0).into())?;
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        kubectl(node, &["label", "namespace", MEDIA, restricted]).await?;
        let told = format!("--from-literal=STREAMER_SIM_REGISTRY={}", registry.addr());
        kubectl(node, &["create", "configmap", "streamer-sim", &told]).await?;
        let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md"))?;
        let mut printed = String::new();
        for (number, start) in ["helm install ", "kubectl apply -f examples/"].into_iter().enumerate() {
            let line = readme.lines().find_map(|line| line.strip_prefix("    ").filter(|line| line.starts_with(start)));
            let line = line.with_context(|| format!("the README has no line that starts with {start:?}"))?;
            let said = typed(node, line).await?;
            if number == 0 {
                printed = said;
            }
        }
        let streams = Declared::read(&Path::new(ROOT).join("examples"))?.captured();
        Ok(Self { node, registry, streams, notes: printed })
    }

    pub(crate) async fn kubectl(&self, args: &[&str]) -> Result<String> {
        kubectl(self.node, args).await
    }

    /// As somebody applies a file.
    pub(crate) async fn apply(&self, object: &Value) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        serde_json::to_writer(file.as_file(), object)?;
        self.kubectl(&["apply", "--filename", file.path().to_str().context("no UTF-8")?]).await.map(drop)
    }

    pub(crate) async fn helm(&self, args: &[&str]) -> Result<String> {
        let mut helm = self.node.helm();
        output(helm.current_dir(ROOT).args(args)).await
    }

    /// `helm upgrade` with these further flags, and its end awaited.
    pub(crate) async fn upgrade(&self, chart: &str, flags: &[&str]) -> Result<String> {
        let args = ["upgrade", "--install", "weir", chart, "--namespace", SYSTEM, "--wait", "--timeout=2m"];
        self.helm(&[&args, flags].concat()).await
    }

    /// Waits until each stream of the examples is read once, and nothing else is.
    pub(crate) async fn await_captured_once(&self) -> Result<Duration> {
        Ok(self.registry.await_each_once(&self.streams, PATIENCE).await?)
    }

    /// Who reads what now, by stream.
    pub(crate) fn readers(&self) -> BTreeMap<String, String> {
        let reading = self.registry.now_reading().into_iter();
        reading.filter_map(|(stream, by)| Some((stream, by.first()?.streamer.clone()))).collect()
    }

    /// What a streamer reads now.
    pub(crate) fn read_by(&self, streamer: &str) -> BTreeSet<String> {
        self.readers().into_iter().filter(|(_, by)| by == streamer).map(|(stream, _)| stream).collect()
    }

    /// No stream of `streams` was dark for a moment, nor read by another, since `since`.
    pub(crate) fn ensure_undisturbed<'a>(
        &self,
        streams: impl IntoIterator<Item = &'a String>,
        since: Duration,
    ) -> Result<()> {
        self.registry.ensure_undisturbed(streams, since)
    }

    /// Nothing was ever captured twice: here nobody is cut off.
    pub(crate) fn ensure_never_twice(&self) -> Result<()> {
        let violations = self.registry.violations(&[], boot_lasts(&Periods::default()));
        ensure!(violations.is_empty(), "captured twice: {violations:#?}");
        Ok(())
    }

    /// Median and longest time for which any of `streams` was dark since `since`, for the README's table.
    pub(crate) fn tell_dark(&self, what: &str, streams: &BTreeSet<String>, since: Duration) {
        let times = self.registry.dark_since(streams, since);
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let worst = times.last().copied().unwrap_or_default();
        eprintln!("{what}: dark: median {median:.1?}, worst {worst:.1?} of {} streams", streams.len());
    }

    /// A client for the run time of the test that asks.
    pub(crate) fn client(&self) -> Result<Client> {
        self.node.client()
    }

    fn pods(&self) -> Result<Api<Pod>> {
        Ok(Api::namespaced(self.client()?, MEDIA))
    }

    pub(crate) async fn uid(&self, pod: &str) -> Result<String> {
        self.pods()?.get(pod).await?.metadata.uid.context("a pod without a uid")
    }

    /// How often a container of a pod was started again.
    pub(crate) async fn restarts(&self, pod: &str, container: &str) -> Result<i32> {
        let status = self.pods()?.get(pod).await?.status.context("no status")?;
        let all = [status.init_container_statuses, status.container_statuses].into_iter().flatten().flatten();
        let found = all.into_iter().find(|status| status.name == container);
        Ok(found.with_context(|| format!("{pod} has no container {container}"))?.restart_count)
    }

    /// Kills the program of a pod's container, as the kernel does when memory runs out, and waits until the kubelet has
    /// started it again.
    pub(crate) async fn kill_container(&self, pod: &str, container: &str, program: &str) -> Result<()> {
        let before = self.restarts(pod, container).await?;
        let killed = process_of(program, pod)?;
        rustix::process::kill_process(killed, rustix::process::Signal::KILL)?;
        until(&format!("{container} of {pod} is started again"), async || {
            ensure!(self.restarts(pod, container).await? > before, "not yet");
            ensure!(process_of(program, pod)? != killed, "it is still the old one");
            Ok(())
        })
        .await
    }

    /// The objects of a kind, in the examples' namespace.
    pub(crate) async fn list(&self, kind: &str) -> Result<Vec<Value>> {
        let text = self.kubectl(&["--namespace", MEDIA, "get", kind, "--output=json"]).await?;
        let list: Value = serde_json::from_str(&text)?;
        Ok(list["items"].as_array().context("no list")?.clone())
    }

    /// Each stream's streamer as Placements have it, by media name.
    pub(crate) async fn records(&self) -> Result<BTreeMap<String, Value>> {
        let mut records = BTreeMap::new();
        for slice in self.list("placements.weir.dev").await? {
            for record in slice["spec"]["streams"].as_array().into_iter().flatten() {
                let name = record["name"].as_str().context("a record without a name")?;
                records.insert(name.to_owned(), record.clone());
            }
        }
        Ok(records)
    }

    /// What the operators' pods have printed.
    pub(crate) async fn operator_logs(&self) -> Result<String> {
        let selector = "--selector=app.kubernetes.io/component=operator";
        self.kubectl(&["--namespace", SYSTEM, "logs", selector, "--tail=-1", "--prefix"]).await
    }
}

/// The program of this name whose pod has this name.
fn process_of(program: &str, pod: &str) -> Result<rustix::process::Pid> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended meanwhile.
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let command = read("cmdline");
        let is_program =
            command.split(|byte| *byte == 0).next().is_some_and(|first| first.ends_with(program.as_bytes()));
        let host = format!("HOSTNAME={pod}");
        if is_program && read("environ").split(|byte| *byte == 0).any(|variable| variable == host.as_bytes()) {
            return rustix::process::Pid::from_raw(pid).context("no process has this id");
        }
    }
    bail!("{program} does not run in {pod}")
}

async fn kubectl(node: &Node, args: &[&str]) -> Result<String> {
    output(node.kubectl().args(args)).await
}

/// A line as somebody types it into a shell.
async fn typed(node: &Node, line: &str) -> Result<String> {
    let (kubectl, helm) = (node.kubectl(), node.helm());
    let mut shell = Command::new("sh");
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    for command in [&kubectl, &helm] {
        let folder = Path::new(command.as_std().get_program()).parent().context("no folder")?;
        let mut longer = folder.as_os_str().to_owned();
        longer.push(":");
        longer.push(&path);
        path = longer;
    }
    let set = [&kubectl, &helm].into_iter().flat_map(|command| command.as_std().get_envs());
    shell.envs(set.filter_map(|(name, value)| Some((name, value?)))).env("PATH", path);
    output(shell.args(["-c", line]).current_dir(ROOT)).await
}

async fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command.output().await?;
    let line = format!("{:?}", command.as_std());
    ensure!(status.success(), "{line}: {}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    Ok(String::from_utf8(stdout)?)
}
