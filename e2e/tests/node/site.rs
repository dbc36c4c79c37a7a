//! Weir as the README installs it, and the examples, in the cluster that all tests share.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::OnceCell;
use weir_e2e::cluster::{Cluster, HOME};
use weir_e2e::control_plane::MADE_HERE;
use weir_e2e::demo::declared::Declared;
use weir_e2e::registry::{Registry, boot_lasts};
use weir_e2e::site::until;
use weir_e2e::tools::output;
use weir_feed::periods::Periods;

/// Where the README's commands are typed.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
pub(crate) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/weir");
/// Where the examples are applied: the current namespace of who types the commands.
pub(crate) const MEDIA: &str = "media";
/// Where Weir is.
pub(crate) const SYSTEM: &str = "weir-system";
/// The operators' pods, for kubectl.
pub(crate) const OPERATORS: &str = "--selector=app.kubernetes.io/component=operator";
/// Failovers of the examples take 30 s and a few polls; containers start in seconds.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// What all tests share.
pub(crate) struct Site {
    pub(crate) cluster: &'static Cluster,
    pub(crate) registry: Registry,
    /// Media names of the examples that one streamer is to read at all times.
    pub(crate) streams: BTreeSet<String>,
    /// What `helm install` said.
    pub(crate) notes: String,
}

impl Site {
    /// The site; the first who asks installs it, literally as the README says.
    pub(crate) async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Site> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::install).await
    }

    async fn install() -> Result<Self> {
        let cluster = Cluster::shared().await?;
        let registry = Registry::start((cluster.address(), 0).into())?;
        let folder = tempfile::tempdir()?;
        let examples = Path::new(ROOT).join("examples");
        let streams = Declared::read(&examples)?.captured();
        let site = Self { cluster, registry, streams, notes: String::new() };
        site.kubectl(&["create", "namespace", MEDIA]).await?;
        site.kubectl(&["label", "namespace", MEDIA, "pod-security.kubernetes.io/enforce=restricted", MADE_HERE])
            .await?;
        site.kubectl(&["config", "set-context", "--current", "--namespace", MEDIA]).await?;
        let told = format!("--from-literal=STREAMER_SIM_REGISTRY={}", site.registry.addr());
        site.kubectl(&["create", "configmap", "streamer-sim", &told]).await?;
        let mut install = of_the_readme("helm install ")?;
        let mut apply = of_the_readme("kubectl apply -f examples/")?;
        if cluster.images() != HOME {
            install = format!("{install} --set image.registry={}", cluster.images());
            elsewhere(&examples, folder.path(), cluster.images())?;
            apply = apply.replace("examples/", folder.path().to_str().context("no UTF-8")?);
        }
        let notes = site.typed(&install).await?;
        site.typed(&apply).await?;
        Ok(Self { notes, ..site })
    }

    /// An image of Weir's, as a pod names it.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}:{}", self.cluster.images(), env!("CARGO_PKG_VERSION"))
    }

    /// A line as somebody types it into a shell.
    pub(crate) async fn typed(&self, line: &str) -> Result<String> {
        output(self.cluster.tools().shell(line)?.current_dir(ROOT)).await
    }

    pub(crate) async fn kubectl(&self, args: &[&str]) -> Result<String> {
        output(self.cluster.tools().kubectl().args(args)).await
    }

    /// As somebody applies a file.
    pub(crate) async fn apply(&self, object: &Value) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        serde_json::to_writer(file.as_file(), object)?;
        self.kubectl(&["apply", "--filename", file.path().to_str().context("no UTF-8")?]).await.map(drop)
    }

    pub(crate) async fn helm(&self, args: &[&str]) -> Result<String> {
        output(self.cluster.tools().helm().current_dir(ROOT).args(args)).await
    }

    /// `helm upgrade` with these further flags, and its end awaited, until one of the new operators leads.
    pub(crate) async fn upgrade(&self, chart: &str, flags: &[&str]) -> Result<String> {
        let registry = format!("image.registry={}", self.cluster.images());
        let args = [
            "upgrade",
            "--install",
            "weir",
            chart,
            "--namespace",
            SYSTEM,
            "--wait",
            "--timeout=2m",
            "--set",
            &registry,
        ];
        let said = self.helm(&[&args, flags].concat()).await?;
        // A leader that is on its way out still decides as it was told.
        self.await_led().await?;
        Ok(said)
    }

    /// Waits until those operators that an upgrade replaces are gone, another one leads, and every Streamer's sidecar has found it.
    pub(crate) async fn await_led(&self) -> Result<()> {
        until("an operator leads and hears all sidecars", async || {
            let wait =
                ["--namespace", MEDIA, "wait", "--for=condition=Ready", "streamers.weir.dev", "--all", "--timeout=1s"];
            self.kubectl(&wait).await?;
            let path = "--output=jsonpath={.items[*].spec.holderIdentity}";
            let holder = self.kubectl(&["--namespace", SYSTEM, "get", "leases", path]).await?;
            let pods = self.kubectl(&["--namespace", SYSTEM, "get", "pods", OPERATORS, "--output=name"]).await?;
            let leads = pods.lines().filter_map(|pod| pod.strip_prefix("pod/")).any(|pod| holder.contains(pod));
            ensure!(leads && pods.lines().count() == 2, "the Lease is {holder}'s, and the pods are {pods}");
            Ok(())
        })
        .await
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

    /// Whoever reads most: streams were placed as streamers came, so one that came late may have none.
    pub(crate) fn busiest(&self) -> Result<String> {
        let readers: Vec<String> = self.readers().into_values().collect();
        let count = |name: &String| readers.iter().filter(|reader| *reader == name).count();
        readers.iter().max_by_key(|name| count(name)).cloned().context("nobody reads anything")
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

    /// Median and longest time for which any of `streams` was dark since `since`, for docs/figures.md.
    pub(crate) fn tell_dark(&self, what: &str, streams: &BTreeSet<String>, since: Duration) {
        let times = self.registry.dark_since(streams, since);
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let worst = times.last().copied().unwrap_or_default();
        eprintln!("{what}: dark: median {median:.1?}, worst {worst:.1?} of {} streams", streams.len());
    }

    /// A client for the run time of the test that asks.
    pub(crate) fn client(&self) -> Result<Client> {
        self.cluster.client()
    }

    pub(crate) fn pods(&self) -> Result<Api<Pod>> {
        Ok(Api::namespaced(self.client()?, MEDIA))
    }

    pub(crate) async fn uid(&self, pod: &str) -> Result<String> {
        self.pods()?.get(pod).await?.metadata.uid.context("a pod without a uid")
    }

    /// The objects of a kind, in the examples' namespace.
    pub(crate) async fn list(&self, kind: &str) -> Result<Vec<Value>> {
        self.list_in(MEDIA, kind).await
    }

    /// The objects of a kind, in a namespace.
    pub(crate) async fn list_in(&self, namespace: &str, kind: &str) -> Result<Vec<Value>> {
        let text = self.kubectl(&["--namespace", namespace, "get", kind, "--output=json"]).await?;
        let mut list: Value = serde_json::from_str(&text)?;
        serde_json::from_value(list["items"].take()).context("no list")
    }

    /// Each stream's record as a namespace's Placements have it, by media name.
    pub(crate) async fn records_in(&self, namespace: &str) -> Result<BTreeMap<String, Value>> {
        let mut records = BTreeMap::new();
        for slice in self.list_in(namespace, "placements.weir.dev").await? {
            for record in slice["spec"]["records"].as_array().context("a Placement without records")? {
                let name = record["name"].as_str().context("a record without a name")?;
                records.insert(name.to_owned(), record.clone());
            }
        }
        Ok(records)
    }

    /// What the operators' pods have printed.
    pub(crate) async fn operator_logs(&self) -> Result<String> {
        self.kubectl(&["--namespace", SYSTEM, "logs", OPERATORS, "--tail=-1", "--prefix"]).await
    }
}

/// Takes away what was installed, as far as it was, from a cluster that stays.
pub(crate) async fn remove(cluster: &Cluster) -> Result<()> {
    let kubectl = async |args: &[&str]| output(cluster.tools().kubectl().args(args).arg("--ignore-not-found")).await;
    let uninstall = ["uninstall", "weir", "--namespace", SYSTEM, "--wait", "--timeout=2m", "--ignore-not-found"];
    output(cluster.tools().helm().args(uninstall)).await?;
    kubectl(&["delete", "namespaces", "--selector", MADE_HERE, "--timeout=3m"]).await?;
    kubectl(&["delete", "namespace", SYSTEM, "--timeout=1m"]).await?;
    let definitions = ["streams.weir.dev", "streamers.weir.dev", "placements.weir.dev"];
    kubectl(&[&["delete", "customresourcedefinitions"][..], &definitions].concat()).await.map(drop)
}

/// The line of the README that starts so, as it stands.
fn of_the_readme(start: &str) -> Result<String> {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md"))?;
    let line = readme.lines().find_map(|line| line.strip_prefix("    ").filter(|line| line.starts_with(start)));
    line.map(str::to_owned).with_context(|| format!("the README has no line that starts with {start:?}"))
}

/// The examples, with images of a registry.
fn elsewhere(examples: &Path, folder: &Path, registry: &str) -> Result<()> {
    for entry in fs::read_dir(examples)? {
        let path = entry?.path();
        if path.is_file() {
            let text = fs::read_to_string(&path)?;
            let image = format!("image: {HOME}/");
            fs::write(
                folder.join(path.file_name().context("no name")?),
                text.replace(&image, &format!("image: {registry}/")),
            )?;
        }
    }
    Ok(())
}
