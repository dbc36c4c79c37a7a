//! Two hundred Streams on three streamers are captured once each, and spread evenly.

use std::time::Duration;

use anyhow::{Result, ensure};
use weir_e2e::site::{Kind, Plan, Site, condition_of, until};

#[tokio::test]
async fn two_hundred_streams() -> Result<()> {
    let site = Site::start("two_hundred_streams", Plan::default()).await?;
    let applied = site.registry.now();
    let names = site.apply_streams(200).await?;
    let captured = site.await_captured_once(&names).await?;
    site.tell(&format!("all captured {:.1?} after the first was applied", captured.saturating_sub(applied)));

    let mut counts: Vec<usize> = site.readers().values().map(std::collections::BTreeSet::len).collect();
    counts.sort_unstable();
    ensure!(counts == [66, 67, 67], "not spread evenly: {counts:?}");

    until("every Stream says that it is captured", async || {
        let streams = site.list(Kind::Stream).await?;
        let said =
            |stream: &&serde_json::Value| condition_of(stream, "Captured").is_some_and(|c| c["status"] == "True");
        let captured = streams.iter().filter(said).count();
        ensure!(captured == names.len(), "{captured} of {} do", names.len());
        Ok(())
    })
    .await?;
    for streamer in site.list(Kind::Streamer).await? {
        let streams = &streamer["status"]["streams"];
        ensure!(streams == 66 || streams == 67, "{} says {streams} streams", streamer["metadata"]["name"]);
    }

    // Nothing was started twice on the way: each stream has been read by one streamer, from its first capture on.
    for name in &names {
        let reads = site.registry.intervals(name);
        ensure!(reads.len() == 1, "{name} was read {} times: {reads:?}", reads.len());
    }
    site.ensure_undisturbed(&names, captured.max(Duration::ZERO))?;
    site.finish().await
}
