//! Two sidecars say that they are the same Streamer. Outside Kubernetes the second gets nothing until the first is gone, and nothing moves
//! when it takes its place. In Kubernetes a pod that was made again under its name is admitted at once, and the old one is told to stop.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use weir_e2e::site::{Kind, PERIODS, Place, Plan, Site, until};

#[tokio::test]
async fn second_instance_outside_kubernetes() -> Result<()> {
    let plan = Plan { place: Place::Manifests, streamers: 2, ..Plan::default() };
    let mut site = Site::start("second_instance_outside_kubernetes", plan).await?;
    let names = site.apply_streams(20).await?;
    let captured = site.await_captured_once(&names).await?;
    let (held, before) = (site.read_by("s1"), site.records().await?);

    let entry = site.entry("s1").await?;
    site.add_streamer("s1-again", &entry, &[]).await?;
    site.streamer_mut("s1-again")?.start()?;
    let sentence = site.await_condition(Kind::Streamer, "s1", "Ready", "True", "InstanceConflict").await?;
    ensure!(sentence.contains("give each sidecar a name of its own"), "it does not say what to do: {sentence}");
    site.await_event(Kind::Streamer, "s1", "InstanceConflict").await?;
    let again = site.streamer("s1-again")?;
    until("the second streamer is told 503 again and again", async || {
        let told = again.metric("weir_sidecar_answers_total{asked=\"all\",code=\"503\"}").await?;
        ensure!(told >= 5.0, "{told} times");
        Ok(())
    })
    .await?;
    let given = again.metric("weir_sidecar_answers_total{asked=\"all\",code=\"200\"}").await?;
    ensure!(given == 0.0, "the second was given streams {given} times");
    let log = again.sidecar.log();
    ensure!(
        log.contains("another instance has this Streamer's name"),
        "the sidecar's log does not say why it gets nothing:\n{log}"
    );
    site.ensure_undisturbed(&names, captured)?;

    // The first is gone with its machine: the second takes its place, and its streams stay with the name.
    let killed = site.registry.now();
    site.kill_streamer("s1").await?;
    site.await_captured_once(&names).await?;
    site.tell_dark("the first instance was killed, the second took over", &held, killed);
    ensure!(site.read_by("s1") == held, "s1 reads {:?}, and had {held:?}", site.read_by("s1"));
    let after = site.records().await?;
    for (name, record) in &before {
        ensure!(after[name]["streamer"] == record["streamer"], "{name} moved: {record}, then {}", after[name]);
    }
    site.ensure_undisturbed(names.difference(&held), captured)?;
    site.await_condition(Kind::Streamer, "s1", "Ready", "True", "Polling").await?;
    site.finish().await
}

/// A server is copied while it runs, its sidecar's data directory included: the copy has everything that the first has, and gets nothing.
#[tokio::test]
async fn second_instance_that_is_a_copy() -> Result<()> {
    let plan = Plan { place: Place::Manifests, streamers: 2, ..Plan::default() };
    let mut site = Site::start("second_instance_that_is_a_copy", plan).await?;
    let names = site.apply_streams(20).await?;
    let captured = site.await_captured_once(&names).await?;

    let entry = site.entry("s1").await?;
    site.add_streamer("s1-copy", &entry, &[]).await?;
    let folder = |name: &str| site.streamer(name).map(|streamer| streamer.replica.with_file_name(""));
    let (from, to) = (folder("s1")?, folder("s1-copy")?);
    for file in std::fs::read_dir(from)? {
        let file = file?;
        std::fs::copy(file.path(), to.join(file.file_name()))?;
    }
    let begun = "weir_sidecar_feed_connections_total";
    let before = site.streamer("s1")?.metric(begun).await?;
    site.streamer_mut("s1-copy")?.sidecar.start()?;
    site.await_condition(Kind::Streamer, "s1", "Ready", "True", "InstanceConflict").await?;
    let copy = site.streamer("s1-copy")?;
    until("the copy says why it gets nothing", async || {
        let (ready, (status, _)) = (copy.ready().await?, copy.answer().await?);
        ensure!(ready.contains("another instance has this Streamer's name"), "/readyz: {ready}");
        ensure!(status == 503, "it answers {status}");
        Ok(())
    })
    .await?;
    // For longer than a sidecar waits for an operator before it serves what it has.
    tokio::time::sleep(std::time::Duration::from_millis(2 * PERIODS.first_mark())).await;
    let (status, _) = copy.answer().await?;
    ensure!(status == 503, "it answers {status} from what it copied");
    let after = site.streamer("s1")?.metric(begun).await?;
    ensure!(after <= before, "the first was pushed out: {begun} was {before} and is {after}");
    site.ensure_undisturbed(&names, captured)?;
    site.finish().await
}

#[tokio::test]
async fn second_instance_in_kubernetes() -> Result<()> {
    let mut site = Site::start("second_instance_in_kubernetes", Plan { streamers: 2, ..Plan::default() }).await?;
    let names = site.apply_streams(20).await?;
    let captured = site.await_captured_once(&names).await?;
    let (held, before) = (site.read_by("s1"), site.records().await?);

    let old = site.entry("s1").await?;
    let token = old.token.context("no token")?;
    let kept = std::fs::read(&token)?;
    let pods = Api::<Pod>::namespaced(site.client()?, &site.namespace);
    pods.delete("s1", &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await?;
    let mut new = site.entry("s1").await?;
    ensure!(new.instance != old.instance, "the pod that was made again is the same one");
    let own = token.with_extension("again");
    std::fs::rename(&token, &own)?;
    std::fs::write(&token, kept)?;
    new.token = Some(own);
    site.add_streamer("s1-again", &new, &[]).await?;

    // The kubelet has ended the old streamer, and not yet the sidecar beside it.
    let ended = site.registry.now();
    site.streamer("s1")?.sim.kill9().await?;
    site.streamer_mut("s1")?.sidecar.may_end_with(3);
    site.streamer_mut("s1-again")?.start()?;
    site.await_captured_once(&names).await?;
    site.tell_dark("a pod was made again under its name", &held, ended);
    ensure!(site.read_by("s1") == held, "s1 reads {:?}, and had {held:?}", site.read_by("s1"));
    let old = site.streamer("s1")?;
    let code = old.sidecar.wait().await?;
    let log = old.sidecar.log();
    ensure!(code == Some(3), "the old sidecar ended with {code:?}:\n{log}");
    ensure!(
        log.contains("another instance has this Streamer's name now: this one ends"),
        "its log does not say why:\n{log}"
    );
    let after = site.records().await?;
    for (name, record) in &before {
        ensure!(after[name]["streamer"] == record["streamer"], "{name} moved: {record}, then {}", after[name]);
    }
    site.ensure_undisturbed(names.difference(&held), captured)?;
    site.await_condition(Kind::Streamer, "s1", "Ready", "True", "Polling").await?;
    until("the Streamer's status names the new instance", async || {
        let status = site.get(Kind::Streamer, "s1").await?["status"]["instance"].clone();
        ensure!(status.as_str() == new.instance.as_deref(), "it is {status}");
        Ok(())
    })
    .await?;
    site.finish().await
}
