//! A streamer outside the cluster, as `docs/kubernetes.md` has it: a machine that reaches the node, and no pod.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;
use weir_e2e::child::Child;
use weir_e2e::node::{self, ADDRESS};
use weir_e2e::site::until;
use weir_e2e::tools::output;

use crate::site::{CHART, MEDIA, PATIENCE, SYSTEM, Site};
use crate::units::line_of;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/kubernetes.md");
const STREAMER: &str = "media-out";
/// How often the leader goes: each time the one address leads to either operator, and only one of them leads.
const LEADERS: usize = 4;

/// It captures, and finds each new leader, by one address behind which two operators are and from which no pod can be reached.
pub(crate) async fn a_streamer_outside_the_cluster_finds_each_leader(site: &'static Site) -> Result<()> {
    let captured = site.await_captured_once().await?;
    let names = format!("feed.dnsNames={{{ADDRESS}}}");
    let outside = ["--set", "feed.outside.enabled=true", "--set", "feed.outside.type=NodePort", "--set", &names];
    site.upgrade(CHART, &outside).await?;
    let folder = tempfile::tempdir()?;
    let tested = captures(site, folder.path()).await;
    // The tests after this one know the README's installation, and the examples' streams alone.
    let removed = remove(site, folder.path()).await;
    tested?;
    removed?;
    site.await_captured_once().await?;
    site.ensure_undisturbed(&site.streams, captured)?;
    site.ensure_never_twice()
}

async fn captures(site: &Site, folder: &Path) -> Result<()> {
    let page = std::fs::read_to_string(PAGE)?;
    let typed = async |start: &str| {
        let line = here(&line_of(&page, start)?, folder);
        let line = format!("PATH={}:$PATH; {line}", node::programs()?.display());
        output(site.cluster.tools().shell(&line)?.current_dir(folder)).await
    };
    typed("weir-operator token create ").await?;
    typed("kubectl -n media get configmap weir-ca ").await?;
    site.apply(&streamer()).await?;

    let machine = Machine::start(folder).await?;
    let path = "--output=jsonpath={.spec.ports[0].nodePort}";
    let port = site.kubectl(&["--namespace", SYSTEM, "get", "service", "weir-feed-outside", path]).await?;
    let run = here(&line_of(&page, "weir-sidecar --feed ")?, folder)
        .replace("https://feed.example.com:9443", &format!("https://{ADDRESS}:{}", port.trim()));
    let sim = format!(
        "weir-streamer-sim --hostname={STREAMER} --registry={} --api-listen=127.0.0.1:8080",
        site.registry.addr()
    );
    let _sim = machine.spawn("streamer", &sim, folder)?;
    let sidecar = machine.spawn("sidecar", &run, folder)?;
    let attach = here(&line_of(&page, "weir-sidecar attach ")?, folder);
    until("the streamer is attached", async || machine.run(&attach).await).await?;
    let found = find_leaders(site, &machine).await;
    found.with_context(|| format!("the sidecar says:\n{}", sidecar.log_tail(30)))
}

/// A stream more for each leader: only who speaks to it gets one.
async fn find_leaders(site: &Site, machine: &Machine) -> Result<()> {
    let mut all = site.streams.clone();
    let mut ours = BTreeSet::new();
    let wait = ["--namespace", MEDIA, "wait", "--for=condition=Ready", "streamers.weir.dev", "--all", "--timeout=1m"];
    for number in 0..=LEADERS {
        let begun = site.registry.now();
        if number > 0 {
            let leader = leader(site).await?;
            site.kubectl(&["--namespace", SYSTEM, "delete", "pod", &leader, "--timeout=1m"]).await?;
            until("another operator leads", async || {
                ensure!(self::leader(site).await? != leader, "not yet");
                Ok(())
            })
            .await?;
            let led = site.registry.now();
            until("the sidecar has found it", async || {
                let metrics = machine.run("curl --silent --fail http://127.0.0.1:9981/metrics").await?;
                ensure!(metrics.contains("weir_sidecar_feed_connected 1"), "not yet");
                Ok(())
            })
            .await?;
            let took = site.registry.now().saturating_sub(led);
            eprintln!("node: a leader is found from outside {took:.1?} after it leads");
        }
        let name = format!("outside/{number}");
        site.apply(&stream(&name)).await?;
        all.insert(name.clone());
        site.registry.await_each_once(&all, PATIENCE).await?;
        ensure!(site.readers()[&name] == STREAMER, "{name} is captured by {}", site.readers()[&name]);
        site.ensure_undisturbed(&ours, begun)?;
        ours.insert(name);
        site.kubectl(&wait).await?;
    }
    Ok(())
}

/// The pod of the operator that leads.
pub(crate) async fn leader(site: &Site) -> Result<String> {
    until("an operator that is there leads", async || {
        let path = "--output=jsonpath={.items[*].spec.holderIdentity}";
        let holder = site.kubectl(&["--namespace", SYSTEM, "get", "leases", path]).await?;
        let running = "--field-selector=status.phase=Running";
        let pods = site.kubectl(&["--namespace", SYSTEM, "get", "pods", running, "--output=name"]).await?;
        let leader = pods.lines().filter_map(|pod| pod.strip_prefix("pod/")).find(|pod| holder.contains(pod));
        Ok(leader.with_context(|| format!("the Lease is {holder:?}'s, and the pods are {pods}"))?.to_owned())
    })
    .await
}

/// A line of the page as it is typed here: with this streamer's name and other folders.
fn here(line: &str, folder: &Path) -> String {
    let folder = folder.display();
    line.replace("media-1", STREAMER)
        .replace("/etc/weir", &folder.to_string())
        .replace("/var/lib/weir/sidecar", &format!("{folder}/replica"))
}

/// It takes these streams alone, and nobody else does.
fn streamer() -> Value {
    let labels = json!({ "outside": "yes" });
    json!({
        "apiVersion": "weir.dev/v1alpha1",
        "kind": "Streamer",
        "metadata": { "namespace": MEDIA, "name": STREAMER, "labels": labels },
        "spec": { "streamSelector": { "matchLabels": labels } },
    })
}

fn stream(name: &str) -> Value {
    let labels = json!({ "outside": "yes" });
    json!({
        "apiVersion": "weir.dev/v1alpha1",
        "kind": "Stream",
        "metadata": { "namespace": MEDIA, "name": name.replace('/', "-"), "labels": labels },
        "spec": {
            "name": name,
            "inputs": [{ "url": "udp://239.0.0.1:1234" }],
            "placement": { "streamerSelector": { "matchLabels": labels } },
        },
    })
}

async fn remove(site: &Site, folder: &Path) -> Result<()> {
    let kinds = "streams.weir.dev,streamers.weir.dev";
    site.kubectl(&["--namespace", MEDIA, "delete", kinds, "--selector=outside=yes", "--timeout=1m"]).await?;
    let program = node::programs()?.join("weir-operator");
    let command = |args: &str| format!("{} token {args} -n {MEDIA}", program.display());
    let listed = output(&mut site.cluster.tools().shell(&command("list"))?).await?;
    for line in listed.lines().filter(|line| line.contains(STREAMER)) {
        let id = line.split_whitespace().next().context("an empty line")?;
        output(site.cluster.tools().shell(&command(&format!("revoke {id}")))?.current_dir(folder)).await?;
    }
    site.upgrade(CHART, &[]).await.map(drop)
}

/// Another machine: a network of its own, from which the node can be reached and whose way to the pods leads nowhere.
struct Machine {
    first: Child,
}

impl Machine {
    async fn start(folder: &Path) -> Result<Self> {
        let no_environment: [(&str, &str); 0] = [];
        let args = ["--net", "sleep", "infinity"];
        let first = Child::spawn("machine", "unshare", args, no_environment, folder.join("machine.log"))?;
        let network = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net"));
        until("the machine has a network of its own", async || {
            ensure!(network(&first.pid().to_string())? != network("self")?, "not yet");
            Ok(())
        })
        .await?;
        let machine = Self { first };
        let node = format!(
            "ip link add outside0 type veth peer name eth0 netns {} && ip address add 10.12.0.1/30 dev outside0 && \
             ip link set outside0 up",
            machine.first.pid()
        );
        output(Command::new("sh").args(["-ec", &node])).await?;
        let routes = format!(
            "ip link set lo up && ip address add 10.12.0.2/30 dev eth0 && ip link set eth0 up && \
             ip route add {ADDRESS} via 10.12.0.1 && ip route add {} dev eth0",
            node::POD_ADDRESSES
        );
        machine.run(&routes).await?;
        Ok(machine)
    }

    /// What a command prints there.
    async fn run(&self, line: &str) -> Result<String> {
        let mut command = Command::new("nsenter");
        output(command.args(self.args(line)?).kill_on_drop(true)).await
    }

    /// A program that runs there.
    fn spawn(&self, name: &str, line: &str, folder: &Path) -> Result<Child> {
        let no_environment: [(&str, &str); 0] = [];
        let args = self.args(&format!("exec {line}"))?;
        Child::spawn(name, "nsenter", args, no_environment, folder.join(format!("{name}.log")))
    }

    fn args(&self, line: &str) -> Result<[String; 6]> {
        let line = format!("PATH={}:$PATH; {line}", node::programs()?.display());
        let process = self.first.pid().to_string();
        Ok(["--net", "--target", &process, "sh", "-ec", &line].map(str::to_owned))
    }
}
