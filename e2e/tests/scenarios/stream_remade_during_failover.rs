//! Streams are deleted and made again (as other objects, of the same media name) while their failover goes on: before it is decided, while
//! its write is under way, and after it was given up for want of a Stream. Each is captured once, and its record is the new object's.

use anyhow::{Context as _, Result, ensure};
use weir_e2e::api_proxy::Deed;
use weir_e2e::site::{Kind, Plan, Site, until};

#[tokio::test]
async fn stream_remade_during_failover() -> Result<()> {
    let site =
        Site::start("stream_remade_during_failover", Plan { proxied: true, supervised: true, ..Plan::default() })
            .await?;
    let names = site.apply_of_both_policies(15).await?;
    site.await_captured_once(&names).await?;
    site.await_streamers_ready().await?;
    let lost = site.read_by("s3");
    let (early, after) = (lost.first().context("s3 has no stream")?, lost.last().context("s3 has no stream")?);
    let remake = async |name: &String| {
        site.delete(Kind::Stream, name).await?;
        site.apply_named([name.clone()]).await
    };

    // Before it is decided; and a Stream that is not there when it is.
    let killed = site.registry.now();
    site.kill_streamer("s3").await?;
    remake(early).await?;
    site.delete(Kind::Stream, after).await?;
    let mut rest = names.clone();
    rest.remove(after);
    site.await_captured_once(&rest).await?;
    let again = site.registry.now();
    site.apply_named([after.clone()]).await?;
    site.await_captured_once(&names).await?;
    let moved = lost.iter().filter(|name| *name != after);
    let moved = moved.cloned().collect();
    site.tell_dark_by_policy("streamer killed, a Stream made again at once", &moved, killed);
    site.tell_dark("its Stream made again after the failover", [after], again);
    site.ensure_undisturbed(names.difference(&lost), killed)?;

    // While its write is under way.
    let lost = site.read_by("s2");
    let late = lost.first().context("s2 has no stream")?;
    let api = site.operators[0].api()?;
    api.rule(|asked| if asked.writes("placements") { Deed::Hold } else { Deed::Pass });
    let killed = site.registry.now();
    site.kill_streamer("s2").await?;
    api.await_held().await?;
    remake(late).await?;
    api.pass();
    api.release().await?;
    site.await_captured_once(&names).await?;
    site.tell_dark_by_policy("streamer killed, a Stream made again during the write", &lost, killed);
    until("the records are the new objects'", async || {
        let records = site.records().await?;
        for name in &names {
            let stream = site.get(Kind::Stream, name).await?;
            let record = records.get(name).with_context(|| format!("{name} has no record"))?;
            ensure!(record["uid"] == stream["metadata"]["uid"], "{name} is recorded as {record}");
        }
        Ok(())
    })
    .await?;
    for name in [early, after, late] {
        site.await_status(name, "Captured", "True", "Running").await?;
        let streamer = site.get(Kind::Stream, name).await?["status"]["streamer"].clone();
        ensure!(streamer == "s1", "{name} says it is on {streamer}");
    }
    site.ensure_undisturbed(names.difference(&lost), killed)?;
    site.finish().await
}
