//! A streamer refuses an answer as a whole when one stream of it is invalid. The invalid Stream is named; everybody else on that streamer
//! is captured, can be edited, and is taken over from others as before.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::json;
use weir_e2e::site::{Kind, Plan, Site, stream, url};

#[tokio::test]
async fn invalid_document() -> Result<()> {
    let site = Site::start("invalid_document", Plan::default()).await?;
    let mut names = site.apply_streams(9).await?;
    let captured = site.await_captured_once(&names).await?;

    // The API server cannot know what a streamer takes: `title` is a string there.
    let bad = stream("bad").config("title", json!(5));
    site.apply(bad.object()).await?;
    let sentence = site.await_status("bad", "Accepted", "False", "RejectedByStreamer").await?;
    ensure!(sentence.contains("title"), "it does not say what is wrong: {sentence}");
    site.await_status("bad", "Captured", "False", "RejectedByStreamer").await?;
    let holder = site.get(Kind::Stream, "bad").await?["status"]["streamer"].clone();
    let holder = holder.as_str().unwrap_or_default().to_owned();
    let neighbours = site.read_by(&holder);
    ensure!(!neighbours.is_empty(), "nobody else is on {holder}");
    site.ensure_undisturbed(&names, captured)?;

    // Its streamer goes on taking answers: a neighbour's edit arrives …
    let neighbour = neighbours.first().expect("there is one");
    let edited = "rtsp://camera/edited";
    site.merge(Kind::Stream, neighbour, json!({"spec": {"inputs": [{"url": edited}]}})).await?;
    site.await_source(neighbour, edited).await?;
    // … a neighbour that turns invalid goes on as it was last accepted …
    let second = neighbours.last().expect("there is one");
    site.merge(Kind::Stream, second, json!({"spec": {"config": {"title": true}}})).await?;
    site.await_status(second, "Accepted", "False", "RejectedByStreamer").await?;
    site.await_status(second, "Captured", "True", "Running").await?;
    site.ensure_undisturbed([second], captured)?;
    // … and so do the streams of a streamer that dies.
    let other = site.streamers.iter().find(|streamer| streamer.name != holder).expect("there are three");
    let lost = site.read_by(&other.name);
    let killed = site.registry.now();
    site.kill_streamer(&other.name).await?;
    site.await_captured_once(&names).await?;
    let taken: BTreeSet<String> = site.read_by(&holder).intersection(&lost).cloned().collect();
    ensure!(!taken.is_empty(), "{holder} took none of {lost:?}");
    site.ensure_undisturbed(names.difference(&lost), killed)?;

    // Corrected, they are streams like any other.
    site.merge(Kind::Stream, "bad", json!({"spec": {"config": {"title": "five"}}})).await?;
    site.merge(Kind::Stream, second, json!({"spec": {"config": {"title": "six"}}})).await?;
    names.insert("bad".to_owned());
    site.await_captured_once(&names).await?;
    site.await_source("bad", &url("bad")).await?;
    for name in ["bad", second] {
        site.await_status(name, "Accepted", "True", "Accepted").await?;
        site.await_status(name, "Captured", "True", "Running").await?;
    }
    site.finish().await
}
