//! A machine dies, as the README's table of failovers has it: that table's column which is measured on a node.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use weir_e2e::control_plane::create_namespace;
use weir_e2e::demo::operator_log;
use weir_e2e::measure::cameras;
use weir_e2e::measure::captured::captured;
use weir_e2e::measure::numbers::{bytes, millis, quantile, seconds};
use weir_e2e::measure::replica::Lookout;
use weir_e2e::measure::told::told;
use weir_e2e::measure::usage::Usage;
use weir_e2e::registry::describe;
use weir_e2e::site::{condition_of, until};

use crate::containers::process_of;
use crate::site::{OPERATORS, PATIENCE, SYSTEM, Site};

const STREAMS: usize = 200;
const STREAMERS: [&str; 3] = ["machine-0", "machine-1", "machine-2"];
const KILLED: &str = STREAMERS[0];

/// A streamer, its sidecar and their kubelet end at once: nobody brings them back, and nobody says that they are gone.
pub(crate) async fn streams_of_a_machine_that_dies_are_captured_elsewhere(site: &'static Site) -> Result<()> {
    let before = site.await_captured_once().await?;
    let namespace = create_namespace(&site.client()?, "machine").await?;
    let streams = start(site, &namespace).await?;
    let all = &site.streams | &streams;
    site.registry.await_each_once(&all, PATIENCE).await?;
    await_reported(site, &namespace).await?;

    let lost = site.read_by(KILLED);
    ensure!(!lost.is_empty(), "{KILLED} captures nothing");
    let lookout = Lookout::begin(&replicas(site, &namespace).await?, lost.clone())?;
    site.cluster.node()?.stop_kubelet().await?;
    let (at, wall) = (site.registry.now(), SystemTime::now());
    for program in ["weir-sidecar", "weir-streamer-sim"] {
        kill_process(process_of(program, KILLED)?, Signal::KILL)?;
    }
    let elsewhere = site.registry.await_until(
        |now| {
            let moved = |stream: &String| now.get(stream).into_iter().flatten().any(|by| by.streamer != KILLED);
            if lost.iter().all(moved) { Ok(()) } else { Err(describe(now)) }
        },
        PATIENCE,
    );
    elsewhere.await?;
    let replicated = lookout.end()?.into_values().max().context("nothing was replicated")?;
    site.cluster.node()?.start_kubelet().await?;
    // It is back, and has nothing: everything stays where it is.
    let back = format!("streamers.weir.dev/{KILLED}");
    site.kubectl(&["--namespace", &namespace, "wait", "--for=condition=Ready", &back, "--timeout=1m"]).await?;
    site.registry.await_each_once(&all, PATIENCE).await?;
    site.ensure_undisturbed(site.streams.iter().chain(streams.difference(&lost)), before.max(at))?;
    site.ensure_never_twice()?;

    // A kubelet that has just started serves no logs yet.
    let logs = ["--namespace", SYSTEM, "logs", OPERATORS, "--tail=-1"];
    let log = until("the operators' logs can be read", async || site.kubectl(&logs).await).await?;
    let told = told(&operator_log::since(&log, wall), &format!("{namespace}/{KILLED}"))?;
    let since = |at: SystemTime| at.duration_since(wall).unwrap_or_default();
    tell("streams, of which move", &format!("{STREAMS}, {}", lost.len()));
    tell("noticed", &millis(since(told.noticed)));
    tell("planned", &seconds(since(told.planned)));
    tell("persisted", &millis(since(told.written).saturating_sub(since(told.planned))));
    tell("replicated", &millis(since(replicated).saturating_sub(since(told.written))));
    tell("Weir's own part", &millis(since(replicated).saturating_sub(since(told.planned))));
    tell_times("captured", &captured(&site.registry, KILLED, &lost, at)?);
    tell_times("dark", &site.registry.dark_since(&lost, at));
    tell_memory(site).await?;
    // The tests after this one know the examples' streams alone.
    site.kubectl(&["delete", "namespace", &namespace, "--timeout=2m"]).await?;
    site.await_captured_once().await.map(drop)
}

fn tell(row: &str, value: &str) {
    eprintln!("node: a machine dies: {row}: {value}");
}

fn tell_times(row: &str, times: &[Duration]) {
    let at = |share| quantile(times, share).map_or_else(String::new, seconds);
    tell(row, &format!("median stream {}, last {}", at(0.5), at(1.0)));
}

/// Of the operator that takes more, and of the sidecar that takes most.
async fn tell_memory(site: &Site) -> Result<()> {
    let path = "--output=jsonpath={.items[*].metadata.name}";
    let operators = site.kubectl(&["--namespace", SYSTEM, "get", "pods", OPERATORS, path]).await?;
    let of = |program: &str, pods: &mut dyn Iterator<Item = &str>| -> Result<u64> {
        let each =
            pods.map(|pod| Ok(Usage::of(process_of(program, pod)?.as_raw_nonzero().get().try_into()?)?.resident));
        each.collect::<Result<Vec<u64>>>()?.into_iter().max().context("there is none")
    };
    tell("operator: resident memory", &bytes(of("weir-operator", &mut operators.split_whitespace())?));
    tell("sidecar: resident memory, the largest", &bytes(of("weir-sidecar", &mut STREAMERS.into_iter())?));
    Ok(())
}

/// Three streamers and their streams, in a namespace of their own.
async fn start(site: &Site, namespace: &str) -> Result<BTreeSet<String>> {
    site.apply(&streamers(site, namespace)).await?;
    let cameras = cameras::objects(STREAMS);
    let streams = cameras.keys().cloned().collect();
    let mut items: Vec<Value> = [cameras::secret()].into_iter().chain(cameras.into_values()).collect();
    for item in &mut items {
        item["metadata"]["namespace"] = json!(namespace);
    }
    let rollout = ["--namespace", namespace, "rollout", "status", "statefulset/machine", "--timeout=1m"];
    site.kubectl(&rollout).await?;
    site.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": items })).await?;
    Ok(streams)
}

fn streamers(site: &Site, namespace: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": { "namespace": namespace, "name": "machine" },
        "spec": {
            "replicas": STREAMERS.len(),
            "podManagementPolicy": "Parallel",
            "selector": { "matchLabels": { "app": "machine" } },
            "template": {
                "metadata": { "labels": { "app": "machine", "weir.dev/inject": "true" } },
                "spec": {
                    "automountServiceAccountToken": false,
                    "containers": [{
                        "name": "streamer",
                        "image": site.image("weir-streamer-sim"),
                        "args": ["--hostname=$(POD_NAME)", format!("--registry={}", site.registry.addr())],
                        "env": [{ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }],
                    }],
                },
            },
        },
    })
}

/// Waits until every Stream says that it is captured: then nothing else is being written.
async fn await_reported(site: &Site, namespace: &str) -> Result<()> {
    until("every Stream says that it is captured", async || {
        let streams = site.list_in(namespace, "streams.weir.dev").await?;
        let is_captured = |stream: &&Value| condition_of(stream, "Captured").is_some_and(|c| c["status"] == "True");
        let captured = streams.iter().filter(is_captured).count();
        ensure!(captured == STREAMS, "{captured} of {STREAMS} do");
        Ok(())
    })
    .await
}

/// The replicas of the streamers that stay, as they lie on the node.
async fn replicas(site: &Site, namespace: &str) -> Result<Vec<PathBuf>> {
    let mut replicas = Vec::new();
    for name in STREAMERS.iter().filter(|name| **name != KILLED) {
        let uid =
            site.kubectl(&["--namespace", namespace, "get", "pod", name, "--output=jsonpath={.metadata.uid}"]).await?;
        let volume = format!("kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/weir-replica");
        let folder = site.cluster.node()?.folder().join(volume);
        let files = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let database =
            files.flatten().map(|file| file.path()).find(|file| file.extension().is_some_and(|e| e == "sqlite3"));
        replicas.push(database.with_context(|| format!("no replica in {}", folder.display()))?);
    }
    Ok(replicas)
}
