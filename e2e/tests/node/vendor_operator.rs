//! A pod as the vendor's operator makes it of the example, with the simulator in it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;
use weir_e2e::control_plane::create_namespace;
use weir_e2e::node::NAME;
use weir_e2e::vendor_operator::{EXAMPLE, Streamer};

use crate::site::{PATIENCE, Site};
use crate::without_webhook::{await_bundle, await_streamers, stream};

const STREAM: &str = "of-the-vendor";
const LOGIN: &str = "root:not-the-default";

/// It gets its sidecar by the label alone, becomes a Streamer of its pod's name, and captures.
pub(crate) async fn a_streamer_of_the_vendors_operator_captures_a_stream(site: &'static Site) -> Result<()> {
    let captured = site.await_captured_once().await?;
    let namespace = create_namespace(&site.client()?, "vendor").await?;
    await_bundle(site, &namespace).await?;
    let login = format!("--from-literal=url=http://{LOGIN}@127.0.0.1:81");
    site.kubectl(&["--namespace", &namespace, "create", "secret", "generic", "flussonic-api", &login]).await?;
    let example = Streamer::read(Path::new(EXAMPLE))?;
    let [account, configuration, mut workload] = example.objects(&namespace, NAME, &site.image("weir-streamer-sim"));
    let container = &mut workload["spec"]["template"]["spec"]["containers"][0];
    // What the vendor's image takes from its files, under the name that it is given. Not the login: the simulator would ask the
    // kubelet's probes for it too.
    container["args"] = json!([
        "--hostname=$(FLUSSONIC_HOSTNAME)",
        format!("--registry={}", site.registry.addr()),
        "--api-listen=0.0.0.0:81",
    ]);
    // Ports below 1024 are root's.
    container["securityContext"] = json!({ "runAsUser": 0 });
    for object in [&account, &configuration, &workload] {
        site.apply(object).await?;
    }
    let rollout = format!("statefulset/{}", example.workload());
    site.kubectl(&["--namespace", &namespace, "rollout", "status", &rollout, "--timeout=1m"]).await?;
    await_streamers(site, &namespace, 1).await?;
    site.apply(&stream(&namespace, STREAM)).await?;
    let all = &site.streams | &BTreeSet::from([STREAM.to_owned()]);
    site.registry.await_each_once(&all, PATIENCE).await?;
    ensure!(site.readers()[STREAM] == NAME, "it is captured by {}", site.readers()[STREAM]);

    let name = format!("{}-0", example.workload());
    let registered = site.kubectl(&["--namespace", &namespace, "get", "wsr", &name, "--output=json"]).await?;
    let registered: serde_json::Value = serde_json::from_str(&registered)?;
    ensure!(registered["metadata"]["labels"]["site"] == example.field("labels")["site"], "{registered}");
    ensure!(registered["spec"]["capacity"]["streams"] == 200, "{registered}");
    ensure!(registered["spec"]["roles"] == json!(["ingest", "transcode"]), "{registered}");
    site.ensure_undisturbed(&site.streams, captured)?;
    site.ensure_never_twice()?;
    site.kubectl(&["delete", "namespace", &namespace, "--timeout=2m"]).await?;
    site.await_captured_once().await.map(drop)
}
