//! A pod that is deleted with `weir.dev/drain-on-stop`: its streams move, each released before it is captured elsewhere, before its
//! kubelet may end the streamer; one without a stream does not hold its kubelet up.

use anyhow::{Result, ensure};
use serde_json::json;
use weir_e2e::site::{Kind, Plan, Site};

#[tokio::test]
async fn drain_on_stop() -> Result<()> {
    let mut site = Site::prepare("drain_on_stop", &Plan { streamers: 2, ..Plan::default() }).await?;
    site.add_pod("set-0", "StatefulSet", json!({"weir.dev/drain-on-stop": "true"})).await?;
    site.start_processes().await?;
    let hook = format!("http://{}/drained", site.streamer("set-0")?.http);
    let ended = reqwest::get(&hook).await?;
    ensure!(ended.status() == 200, "it has no streams, and is to wait: {ended:?}");
    let names = site.apply_streams(12).await?;
    let captured = site.await_captured_once(&names).await?;
    let held = site.read_by("set-0");
    ensure!(held.len() == 4, "it has {held:?}");

    // The kubelet hears of the deletion as the operator does, and asks the hook before it ends anything.
    site.delete_pod("set-0").await?;
    let answer = reqwest::get(&hook).await?;
    let (status, left) = (answer.status(), site.read_by("set-0"));
    ensure!(status == 200 && left.is_empty(), "it may end ({status}: {}), and captures {left:?}", answer.text().await?);
    let said = site.await_condition(Kind::Streamer, "set-0", "Ready", "False", "Terminating").await?;
    ensure!(said.contains("move before it ends"), "{said}");
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(names.difference(&held), captured)?;
    site.ensure_never_twice(&names, captured)?;
    site.tell_dark("drained on stop", &held, captured);
    for name in &held {
        site.await_event(Kind::Stream, name, "Moved").await?;
    }
    site.streamer("set-0")?.sim.stop().await?;
    site.streamer("set-0")?.sidecar.stop().await?;
    site.pod_has_ended("set-0").await?;
    site.bring_back("set-0", "StatefulSet").await?;
    site.await_streamers_ready().await?;
    site.ensure_never_twice(&names, captured)?;
    site.finish().await
}
