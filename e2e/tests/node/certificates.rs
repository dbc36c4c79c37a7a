//! The feed's certificate is renewed under connections.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use weir_e2e::site::until;

use crate::containers;
use crate::site::{CHART, MEDIA, OPERATORS, SYSTEM, Site};

/// One for a further name is made at once, and renewed two thirds of a minute later: no operator is started anew for that, no stream is
/// dark, and a sidecar that has to connect again can.
pub(crate) async fn a_certificate_is_renewed_under_connections(site: &'static Site) -> Result<()> {
    let captured = site.await_captured_once().await?;
    let mut seen = BTreeSet::from([stored(site).await?]);
    let flags = ["--set", "certificates.lifetime=60s", "--set", "feed.dnsNames={feed.example.com}"];
    site.upgrade(CHART, &flags).await?;
    let operators = operators(site).await?;
    for (number, which) in [(2, "one for the further name"), (3, "one that follows it")] {
        until(which, async || {
            seen.insert(stored(site).await?);
            ensure!(seen.len() >= number, "{} were seen", seen.len());
            Ok(())
        })
        .await?;
    }
    // Of a pod whose containers no other test kills: a kubelet waits longer each time.
    containers::kill(site, "media-3", "weir-sidecar", "weir-sidecar").await?;
    let ready = ["--namespace", MEDIA, "wait", "--for=condition=Ready", "streamers.weir.dev", "--all", "--timeout=1m"];
    site.kubectl(&ready).await?;
    let tested = site.helm(&["test", "weir", "--namespace", SYSTEM, "--timeout=1m"]).await?;
    ensure!(tested.contains("Phase:          Succeeded"), "{tested}");
    // Those of before the upgrade may have been on their way out.
    ensure!(self::operators(site).await?.is_subset(&operators), "operators were started again");
    site.upgrade(CHART, &[]).await?;
    site.ensure_undisturbed(&site.streams, captured)?;
    site.ensure_never_twice()
}

async fn stored(site: &Site) -> Result<String> {
    let path = "--output=jsonpath={.data}";
    site.kubectl(&["--namespace", SYSTEM, "get", "secret", "weir-certificates", path]).await
}

/// Their names, each with how often it was started again.
async fn operators(site: &Site) -> Result<BTreeSet<String>> {
    let path = "--output=jsonpath={range .items[*]}{.metadata.name}/{.status.containerStatuses[0].restartCount} {end}";
    let pods = site.kubectl(&["--namespace", SYSTEM, "get", "pods", OPERATORS, path]).await?;
    Ok(pods.split_whitespace().map(str::to_owned).collect())
}
