//! Two commands, and what a person sees afterwards.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use weir_e2e::node::Node;
use weir_e2e::site::until;

use crate::site::{MEDIA, SYSTEM, Site};

pub(crate) async fn two_commands_capture_every_stream_once(node: &'static Node) -> Result<()> {
    let site = Site::shared(node).await?;
    site.await_captured_once().await?;
    let lines = site.kubectl(&["--namespace", MEDIA, "get", "wst", "--no-headers"]).await?;
    ensure!(lines.lines().count() >= site.streams.len(), "kubectl get wst shows too few:\n{lines}");

    // What is shown is what is.
    until("kubectl get wst shows who captures what", async || {
        let readers = site.readers();
        let shown: BTreeMap<String, String> = shown(site).await?;
        for (stream, reader) in &readers {
            ensure!(shown.get(stream) == Some(reader), "{stream} is captured by {reader}; shown is {shown:?}");
        }
        Ok(())
    })
    .await?;
    until("kubectl get wsr shows how much each captures", async || {
        for streamer in site.list("streamers.weir.dev").await? {
            let name = streamer["metadata"]["name"].as_str().context("no name")?;
            let ready = condition(&streamer, "Ready").context("no condition Ready")?;
            ensure!(ready["status"] == "True", "{name} is not ready: {ready}");
        }
        Ok(())
    })
    .await?;
    let (stream, reader) = site.readers().into_iter().find(|(stream, _)| stream == "clock").context("no clock")?;
    let described = site.kubectl(&["--namespace", MEDIA, "describe", "wst", &stream]).await?;
    for word in [&*reader, "Placed", "Captured", "Events:"] {
        ensure!(described.contains(word), "kubectl describe wst does not say {word}:\n{described}");
    }
    let events = site.kubectl(&["--namespace", MEDIA, "get", "events"]).await?;
    ensure!(events.contains("stream/clock"), "no Event tells of clock:\n{events}");
    let secret = "example-only-change-me";
    for text in [described, events, site.operator_logs().await?] {
        ensure!(!text.contains(secret), "a password is shown:\n{text}");
    }
    site.ensure_never_twice()
}

async fn shown(site: &Site) -> Result<BTreeMap<String, String>> {
    let streams = site.list("streams.weir.dev").await?;
    let shown = streams.iter().filter_map(|stream| {
        let name = stream["spec"]["name"].as_str().or(stream["metadata"]["name"].as_str())?;
        Some((name.to_owned(), stream["status"]["streamer"].as_str()?.to_owned()))
    });
    Ok(shown.collect())
}

fn condition<'a>(object: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == name)
}

/// Each command that NOTES.txt tells to type can be typed.
pub(crate) async fn the_notes_say_what_to_type(node: &'static Node) -> Result<()> {
    let site = Site::shared(node).await?;
    let commands = site.notes.lines().filter_map(|line| line.strip_prefix("     "));
    let commands: Vec<&str> = commands.filter(|line| line.starts_with("kubectl ") && !line.contains("<<")).collect();
    ensure!(commands.len() >= 3, "the notes say nothing to type:\n{}", site.notes);
    for command in commands {
        let args: Vec<&str> = command.split_whitespace().skip(1).collect();
        ensure!(!site.kubectl(&args).await?.trim().is_empty(), "{command} shows nothing");
    }
    let tested = site.helm(&["test", "weir", "--namespace", SYSTEM, "--timeout=1m"]).await?;
    ensure!(tested.contains("Phase:          Succeeded"), "{tested}");
    Ok(())
}

/// Two operators, both ready: one leads.
pub(crate) async fn a_standby_is_ready(node: &'static Node) -> Result<()> {
    let site = Site::shared(node).await?;
    let ready = site
        .kubectl(&["--namespace", SYSTEM, "get", "deployments", "--output=jsonpath={.items[*].status.readyReplicas}"])
        .await?;
    ensure!(ready.trim() == "2 2", "operators and webhooks that are ready: {ready}");
    Ok(())
}
