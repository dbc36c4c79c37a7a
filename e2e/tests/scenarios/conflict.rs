//! Two Streams have one media name: the older one is captured, the other says Conflict. When the older one is deleted, the other takes its
//! place on the same streamer.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use weir_e2e::site::{Kind, Plan, Site, stream, until};

#[tokio::test]
async fn conflict() -> Result<()> {
    let site = Site::start("conflict", Plan::default()).await?;
    let media = "mylive/bunny";
    let names: BTreeSet<String> = [media.to_owned()].into();
    let (first, second) = ("rtsp://camera/first", "rtsp://camera/second");
    site.apply(stream("first").media_name(media).url(first).object()).await?;
    let holder = site.await_source(media, first).await?;
    let captured = site.await_captured_once(&names).await?;

    site.apply(stream("second").media_name(media).url(second).object()).await?;
    let sentence = site.await_status("second", "Accepted", "False", "Conflict").await?;
    ensure!(sentence.contains("first") && sentence.contains(media), "it does not say with whom: {sentence}");
    site.await_status("second", "Placed", "False", "Conflict").await?;
    site.await_status("second", "Captured", "False", "Conflict").await?;
    site.await_status("first", "Captured", "True", "Running").await?;
    site.await_event(Kind::Stream, "second", "Conflict").await?;
    site.ensure_undisturbed(&names, captured)?;
    let records = site.records().await?;
    ensure!(records[media]["stream"] == "first", "the record is not the first one's: {}", records[media]);

    site.delete(Kind::Stream, "first").await?;
    let after = site.await_source(media, second).await?;
    ensure!(after == holder, "the second was captured on {after}, the first on {holder}");
    site.await_captured_once(&names).await?;
    site.await_status("second", "Accepted", "True", "Accepted").await?;
    site.await_status("second", "Captured", "True", "Running").await?;
    until("the record is the second one's", async || {
        let records = site.records().await?;
        ensure!(records[media]["stream"] == "second", "it is {}", records[media]);
        Ok(())
    })
    .await?;
    site.tell_dark("its Stream deleted, another one has its name", &names, captured);
    site.finish().await
}
