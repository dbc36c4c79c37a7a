//! The authority that vouches for the feed is replaced while pods have it mounted.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use weir_e2e::site::until;

use crate::containers;
use crate::injection::{create, has_sidecar, pod, pods};
use crate::site::{CHART, MEDIA, SYSTEM, Site};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// Each follows the one before it in time: no stream is dark, and a sidecar that starts again with the bundle that its pod has mounted
/// connects.
pub(crate) async fn an_authority_is_replaced_under_mounted_bundles(site: &'static Site) -> Result<()> {
    let captured = site.await_captured_once().await?;
    let pods = pods(site, "authority").await?;
    let story = async {
        site.upgrade(CHART, &["--set", "certificates.lifetime=20s,certificates.caLifetime=80s"]).await?;
        // One that is there already keeps its ten years.
        let first = made_anew(site).await?;
        let mut seen = first.clone();
        until("another one stands beside it", async || {
            seen.extend(bundle(site).await?);
            ensure!(seen.len() > first.len(), "there is none");
            Ok(())
        })
        .await?;
        until("nothing that the first has signed is valid", async || {
            ensure!(bundle(site).await?.is_disjoint(&first), "it is still there");
            Ok(())
        })
        .await?;
        // Of a pod whose containers other tests kill seldom: a kubelet waits longer each time.
        containers::kill(site, "media-3", "weir-sidecar", "weir-sidecar").await?;
        await_connected(site).await?;
        site.upgrade(CHART, &[]).await?;
        made_anew(site).await?;
        await_connected(site).await?;
        until("pods are made again", async || {
            ensure!(has_sidecar(&create(&pods, &pod("labelled", true)).await?), "it has no sidecar");
            Ok(())
        })
        .await
    };
    tokio::select! {
        told = story => told?,
        Err(error) = have_kubelets_look(site) => return Err(error),
    }
    site.ensure_undisturbed(&site.streams, captured)?;
    site.ensure_never_twice()
}

/// Has everything made anew, as the page says, and waits until every pod of the examples has mounted it.
async fn made_anew(site: &Site) -> Result<BTreeSet<String>> {
    let before = bundle(site).await?;
    site.kubectl(&["--namespace", SYSTEM, "delete", "secret", "weir-certificates"]).await?;
    until("every pod has mounted an authority that is new", async || {
        let now = bundle(site).await?;
        ensure!(now.is_disjoint(&before), "it is the old one");
        let mounted = mounted(site).await?;
        ensure!(!mounted.is_empty() && mounted.iter().all(|bundle| *bundle == now), "some have the old one mounted");
        Ok(())
    })
    .await?;
    bundle(site).await
}

/// Every Streamer is Ready, and `helm test` connects.
async fn await_connected(site: &Site) -> Result<()> {
    let ready = ["--namespace", MEDIA, "wait", "--for=condition=Ready", "streamers.weir.dev", "--all", "--timeout=1m"];
    site.kubectl(&ready).await?;
    let tested = site.helm(&["test", "weir", "--namespace", SYSTEM, "--timeout=1m"]).await?;
    ensure!(tested.contains("Phase:          Succeeded"), "{tested}");
    Ok(())
}

/// The authorities that are given out.
async fn bundle(site: &Site) -> Result<BTreeSet<String>> {
    let path = r"--output=jsonpath={.data.ca\.crt}";
    Ok(authorities(&site.kubectl(&["--namespace", MEDIA, "get", "configmap", "weir-ca", path]).await?))
}

fn authorities(pem: &str) -> BTreeSet<String> {
    pem.split(BEGIN).skip(1).map(|one| one.trim().to_owned()).collect()
}

/// Those that each pod of the examples has mounted.
async fn mounted(site: &Site) -> Result<Vec<BTreeSet<String>>> {
    let folder = site.cluster.node()?.folder().join("kubelet/pods");
    let uids =
        site.kubectl(&["--namespace", MEDIA, "get", "pods", "--output=jsonpath={.items[*].metadata.uid}"]).await?;
    let mut found = Vec::new();
    for uid in uids.split_whitespace() {
        let volumes = folder.join(uid).join("volumes");
        for entry in fs::read_dir(&volumes)?.flatten().flat_map(|kind| fs::read_dir(kind.path()).into_iter().flatten())
        {
            let file = entry?.path().join("ca.crt");
            // The API server's own lies in no pod here: none mounts a ServiceAccount.
            if file.is_file() {
                found.push(authorities(&fs::read_to_string(file)?));
            }
        }
    }
    Ok(found)
}

/// Kubelets look at volumes by themselves every minute or so; here they do all the time.
async fn have_kubelets_look(site: &Site) -> Result<()> {
    let mut pace = tokio::time::interval(Duration::from_millis(500));
    for number in 0_u64.. {
        pace.tick().await;
        let look = format!("example.com/look={number}");
        for namespace in [MEDIA, SYSTEM] {
            site.kubectl(&["--namespace", namespace, "annotate", "pods", "--all", "--overwrite", &look]).await?;
        }
    }
    bail!("numbers have ended")
}
