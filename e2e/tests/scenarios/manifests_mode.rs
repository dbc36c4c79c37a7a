//! No Kubernetes: one operator over a directory of manifests. Streams are captured once each, a killed streamer fails over, a killed
//! operator comes back without anybody noticing, and `weir-operator get` shows what `kubectl get` would.

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;
use weir_e2e::programs::Programs;
use weir_e2e::site::{Kind, Place, Plan, Site, stream};

/// What `weir-operator get RESOURCE` prints.
async fn get(site: &Site, resource: &str) -> Result<String> {
    let server = format!("http://{}", site.operators[0].http);
    let mut command = Command::new(Programs::get().await?.operator());
    command.args(["get", resource, "--namespace", &site.namespace, "--server", &server]);
    let output = command.output().await?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

#[tokio::test]
async fn manifests_mode() -> Result<()> {
    let mut site = Site::start("manifests_mode", Plan { place: Place::Manifests, ..Plan::default() }).await?;
    let mut names = site.apply_streams(30).await?;
    let captured = site.await_captured_once(&names).await?;
    for name in &names {
        site.await_status(name, "Captured", "True", "Running").await?;
    }

    let streams = get(&site, "streams").await?;
    let mut lines = streams.lines();
    let header: Vec<&str> = lines.next().context("nothing was printed")?.split_whitespace().collect();
    ensure!(header == ["NAME", "STREAMER", "PLACED", "CAPTURED", "REASON", "AGE"], "{streams}");
    ensure!(lines.clone().count() == names.len(), "{streams}");
    let holder = site.await_source("cam-7", &weir_e2e::site::url("cam-7")).await?;
    let row: Vec<&str> =
        lines.find(|line| line.starts_with("cam-7 ")).context("no row for cam-7")?.split_whitespace().collect();
    ensure!(row[..4] == ["cam-7", holder.as_str(), "True", "True"], "{row:?}");
    let streamers = get(&site, "streamers").await?;
    ensure!(streamers.starts_with("NAME") && streamers.lines().count() == 4, "{streamers}");

    // The operator is killed and comes back: its state is in a directory, its term grows, nothing goes dark.
    let old_term = site.operators[0].metric("weir_term").await?;
    site.operators[0].process.kill9().await?;
    site.operators[0].process.start()?;
    site.await_leader().await?;
    site.await_streamers_ready().await?;
    let new_term = site.operators[0].metric("weir_term").await?;
    ensure!(new_term > old_term, "the term did not grow: {old_term}, then {new_term}");
    site.apply(stream("late").object()).await?;
    let old = names.clone();
    names.insert("late".to_owned());
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(&old, captured)?;

    let lost = site.read_by("s1");
    let killed = site.registry.now();
    site.kill_streamer("s1").await?;
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(names.difference(&lost), killed)?;
    site.tell_dark("without Kubernetes: streamer killed", &lost, killed);
    let lost = lost.first().context("s1 had no streams")?;
    site.await_event(Kind::Stream, lost, "FailedOver").await?;

    // A file that is removed is a Stream that is deleted; one that is edited is a Stream that is edited.
    site.delete(Kind::Stream, "late").await?;
    names.remove("late");
    site.await_captured_once(&names).await?;
    site.apply(stream("cam-2").url("rtsp://camera/edited").object()).await?;
    site.await_source("cam-2", "rtsp://camera/edited").await?;
    site.finish().await
}
