//! A Stream's inputs are edited: the same streamer reads the new source. Disabled, nobody reads it; enabled, it is read again; deleted,
//! nobody reads it and nothing of it is left. Nobody else notices.

use anyhow::{Result, ensure};
use serde_json::json;
use weir_e2e::site::{Kind, Plan, Site, until, url};

#[tokio::test]
async fn stream_edited_disabled_deleted() -> Result<()> {
    let site = Site::start("stream_edited_disabled_deleted", Plan::default()).await?;
    let mut names = site.apply_streams(9).await?;
    let captured = site.await_captured_once(&names).await?;
    let holder = site.await_source("cam-1", &url("cam-1")).await?;

    let edited = "rtsp://camera/elsewhere";
    site.merge(Kind::Stream, "cam-1", json!({"spec": {"inputs": [{"url": edited}]}})).await?;
    let after = site.await_source("cam-1", edited).await?;
    ensure!(after == holder, "an edit moved it from {holder} to {after}");

    site.merge(Kind::Stream, "cam-1", json!({"spec": {"disabled": true}})).await?;
    site.await_dark("cam-1").await?;
    site.await_status("cam-1", "Placed", "False", "Disabled").await?;
    until("a disabled Stream has no record", async || {
        let records = site.records().await?;
        ensure!(!records.contains_key("cam-1"), "it has {}", records["cam-1"]);
        Ok(())
    })
    .await?;
    ensure!(
        site.get(Kind::Stream, "cam-1").await?["status"]["streamer"].is_null(),
        "its status still names a streamer"
    );

    site.merge(Kind::Stream, "cam-1", json!({"spec": {"disabled": false}})).await?;
    site.await_captured_once(&names).await?;
    site.await_source("cam-1", edited).await?;
    site.await_status("cam-1", "Captured", "True", "Running").await?;

    site.delete(Kind::Stream, "cam-1").await?;
    names.remove("cam-1");
    site.await_captured_once(&names).await?;
    until("a deleted Stream has no record", async || {
        let records = site.records().await?;
        ensure!(!records.contains_key("cam-1"), "it has {}", records["cam-1"]);
        Ok(())
    })
    .await?;

    // Made again under its old name, it is captured again: what its last streamer stopped serving is not final for it.
    names.extend(site.apply_named(["cam-1".to_owned()]).await?);
    site.await_captured_once(&names).await?;
    site.await_source("cam-1", &url("cam-1")).await?;
    names.remove("cam-1");
    site.ensure_undisturbed(&names, captured)?;
    site.finish().await
}
