//! A site over manifests moves into the cluster by the lines of docs/kubernetes.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use weir_e2e::control_plane::create_namespace;
use weir_e2e::node;
use weir_e2e::site::{Entry, Place, Plan, Site as Moved, condition_of, stream, until};
use weir_e2e::tools::output;

use crate::site::{CHART, SYSTEM, Site};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/kubernetes.md");
const SECTION: &str = "## From one server to a cluster\n";
const STREAMERS: usize = 2;

/// What is installed there is the chart, whose definitions and certificates are used; nothing moves, and nothing is dark.
pub(crate) async fn a_site_moves_into_the_cluster_by_the_documented_lines(site: &'static Site) -> Result<()> {
    let captured = site.await_captured_once().await?;
    let namespace = create_namespace(&site.client()?, "moved").await?;
    let (mut moved, names) = on_one_server(&namespace).await?;
    let since = moved.registry.now();
    let before = holders(&moved.records().await?)?;

    let outside = ["feed.outside.enabled=true", "feed.outside.type=NodePort"].map(str::to_owned);
    let name = format!("feed.dnsNames={{{}}}", site.cluster.address());
    site.upgrade(CHART, &["--set", &outside.join(","), "--set", &name]).await?;
    let entries = entries(site, &moved).await?;
    let lines = documented()?;
    let (last, first) = lines.split_last().context("the page has no lines")?;
    for line in first {
        typed(site, &moved, line).await?;
    }
    moved.operators[0].process.stop().await?;
    for (streamer, entry) in moved.streamers.iter_mut().zip(&entries) {
        streamer.sidecar.stop().await?;
        streamer.join(entry);
        streamer.sidecar.start()?;
    }
    typed(site, &moved, last).await?;

    until("the cluster's operator says that each is captured where it was", async || {
        let streams = site.list_in(&namespace, "streams.weir.dev").await?;
        for stream in &streams {
            let captured = condition_of(stream, "Captured");
            ensure!(captured.is_some_and(|condition| condition["status"] == "True"), "{stream}");
        }
        let records = site.records_in(&namespace).await?;
        let now = holders(&records)?;
        ensure!(streams.len() == names.len() && now == before, "{before:?} became {now:?}");
        Ok(())
    })
    .await?;
    moved.registry.ensure_undisturbed(&names, since)?;
    moved.finish().await?;
    site.kubectl(&["delete", "namespace", &namespace, "--timeout=2m"]).await?;
    site.upgrade(CHART, &[]).await?;
    site.ensure_undisturbed(&site.streams, captured)?;
    site.ensure_never_twice()
}

/// The site as it is before: an operator over manifests, and streamers that capture.
async fn on_one_server(namespace: &str) -> Result<(Moved, BTreeSet<String>)> {
    let plan = Plan { place: Place::Manifests, streamers: 0, ..Plan::default() };
    let mut moved = Moved::prepare("to_cluster", &plan).await?;
    moved.operators[0].process.set_flag("namespace", namespace);
    namespace.clone_into(&mut moved.namespace);
    for number in 1..=STREAMERS {
        let name = format!("outside-{number}");
        let entry = moved.entry(&name).await?;
        moved.add_streamer(&name, &entry, &[]).await?;
    }
    moved.start_processes().await?;
    let names: BTreeSet<String> = (1..=10).map(|number| format!("moved-{number}")).collect();
    for name in &names {
        moved.apply(stream(name).failover_after("30s").object()).await?;
    }
    moved.await_captured_once(&names).await?;
    Ok((moved, names))
}

/// How each sidecar reaches the cluster's feed from outside.
async fn entries(site: &Site, moved: &Moved) -> Result<Vec<Entry>> {
    let path = "--output=jsonpath={.spec.ports[0].nodePort}";
    let port = site.kubectl(&["--namespace", SYSTEM, "get", "service", "weir-feed-outside", path]).await?;
    let authority = moved.folder().join("ca.pem");
    let path = r"--output=jsonpath={.data.ca\.crt}";
    fs::write(
        &authority,
        site.kubectl(&["--namespace", &moved.namespace, "get", "configmap", "weir-ca", path]).await?,
    )?;
    let mut entries = Vec::new();
    for streamer in &moved.streamers {
        let token = moved.folder().join(format!("{}.token", streamer.name));
        let create = format!("weir-operator token create {} -n {}", streamer.name, moved.namespace);
        fs::write(&token, typed(site, moved, &create).await?)?;
        entries.push(Entry {
            feeds: vec![format!("https://{}:{port}", site.cluster.address())],
            namespace: moved.namespace.clone(),
            streamer: streamer.name.clone(),
            authority: Some(authority.clone()),
            token: Some(token),
            instance: None,
        });
    }
    Ok(entries)
}

/// The lines that are typed, in their order.
fn documented() -> Result<Vec<String>> {
    let page = fs::read_to_string(PAGE)?;
    let section = page.split_once(SECTION).context("the section has another name now: mend this test")?.1;
    let section = section.split("\n## ").next().unwrap_or_default();
    let typed = section.lines().filter_map(|line| line.strip_prefix("    "));
    let lines = typed.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    Ok(lines.lines().map(str::to_owned).collect())
}

/// A line as somebody types it, with the folders that are this site's.
async fn typed(site: &Site, moved: &Moved, line: &str) -> Result<String> {
    let here = |name: &str| moved.folder().join(name).display().to_string();
    let line = line
        .replace("/etc/weir/manifests", &here("manifests"))
        .replace("/var/lib/weir/operator", &here("state"))
        // Nobody shows a token to an operator on loopback.
        .replace("--token-file /etc/weir/tokens", "")
        .replace("site.yaml", &here("site.yaml"));
    let programs = node::programs()?;
    let line = format!("PATH={}:$PATH; {line}", Path::new(&programs).display());
    output(&mut site.cluster.tools().shell(&line)?).await
}

/// Who has which stream, by its records.
fn holders(records: &BTreeMap<String, Value>) -> Result<BTreeMap<String, String>> {
    let holder = |(name, record): (&String, &Value)| {
        let streamer = record["streamer"].as_str().with_context(|| format!("nobody has {name}"))?;
        Ok((name.clone(), streamer.to_owned()))
    };
    records.iter().map(holder).collect()
}
