//! A sidecar is started again on a disk that has become read-only, as after an error of the disk. It answers from what is there, without
//! an operator too; with one, memory takes what is new. A condition, an Event, a metric and the log complain until it can be written
//! again, which needs no restart.

use anyhow::{Result, ensure};
use weir_e2e::site::{Kind, Plan, Site, until};
use weir_e2e::small_disk::SmallDisk;

#[tokio::test]
async fn replica_on_a_read_only_disk() -> Result<()> {
    let mut site = Site::prepare("replica_on_a_read_only_disk", &Plan { streamers: 2, ..Plan::default() }).await?;
    let replica = site.streamer("s1")?.replica.clone();
    let disk = SmallDisk::mount(replica.parent().unwrap_or(&replica), 8 << 10, &site.folder().join("disk.log")).await?;
    site.streamer_mut("s1")?.sidecar.start_within(&disk.within());
    site.start_processes().await?;
    let mut names = site.apply_streams(20).await?;
    let captured = site.await_captured_once(&names).await?;
    let held = site.read_by("s1");

    // Killed, and ended in order: what SQLite leaves beside its file is not the same.
    site.operators[0].process.kill9().await?;
    for in_order in [false, true] {
        let s1 = site.streamer_mut("s1")?;
        if in_order {
            s1.sidecar.stop().await?;
        } else {
            s1.sidecar.kill9().await?;
        }
        disk.set_read_only(true).await?;
        s1.sidecar.start()?;
        s1.await_answer(&held).await?;
        if !in_order {
            s1.sidecar.kill9().await?;
            disk.set_read_only(false).await?;
            s1.sidecar.start()?;
            s1.await_answer(&held).await?;
        }
    }
    site.ensure_undisturbed(&names, captured)?;

    site.operators[0].process.start()?;
    site.await_leader().await?;
    let sentence = site.await_condition(Kind::Streamer, "s1", "Synced", "False", "ReplicaNotWritten").await?;
    for part in ["is its disk read-only?", "answers from memory", "a restart loses"] {
        ensure!(sentence.contains(part), "the condition does not say {part:?}: {sentence}");
    }
    site.await_event(Kind::Streamer, "s1", "ReplicaNotWritten").await?;
    let s1 = site.streamer("s1")?;
    let error = s1.metric("weir_sidecar_replica_error").await?;
    ensure!(error > 0.0, "weir_sidecar_replica_error is {error}");
    let old = names.clone();
    names.extend(site.apply_named((1..=20).map(|number| format!("new-{number}"))).await?);
    site.await_captured_once(&names).await?;
    ensure!(site.read_by("s1").len() == 20, "s1 reads {:?}", site.read_by("s1"));

    let before = s1.sidecar.log().len();
    disk.set_read_only(false).await?;
    site.await_condition(Kind::Streamer, "s1", "Synced", "True", "Synced").await?;
    until("the log says that it is over", async || {
        let log = s1.sidecar.log().split_off(before);
        ensure!(log.contains("the replica is written again"), "{log}");
        Ok(())
    })
    .await?;

    site.operators[0].process.kill9().await?;
    site.streamer("s1")?.sidecar.kill9().await?;
    site.streamer_mut("s1")?.sidecar.start()?;
    site.streamer("s1")?.await_answer(&site.read_by("s1")).await?;
    site.ensure_undisturbed(&old, captured)?;
    site.finish().await
}
