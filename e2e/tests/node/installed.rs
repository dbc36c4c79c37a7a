//! Two commands, and what a person sees afterwards.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use weir_e2e::site::{condition_of, until};

use crate::site::{MEDIA, SYSTEM, Site};

pub(crate) async fn two_commands_capture_every_stream_once(site: &'static Site) -> Result<()> {
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
            let ready = condition_of(&streamer, "Ready").context("no condition Ready")?;
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

/// Each command that NOTES.txt tells to type can be typed.
pub(crate) async fn the_notes_say_what_to_type(site: &'static Site) -> Result<()> {
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
pub(crate) async fn a_standby_is_ready(site: &'static Site) -> Result<()> {
    let ready = site
        .kubectl(&["--namespace", SYSTEM, "get", "deployments", "--output=jsonpath={.items[*].status.readyReplicas}"])
        .await?;
    ensure!(ready.trim() == "2 2", "operators and webhooks that are ready: {ready}");
    Ok(())
}

/// What the operator writes into what the chart rendered (the webhook's `caBundle`) is no drift: applied again, nothing would change.
pub(crate) async fn what_the_operator_writes_is_no_drift(site: &'static Site) -> Result<()> {
    let path = "--output=jsonpath={.webhooks[0].clientConfig.caBundle}";
    let authorities = site.kubectl(&["get", "mutatingwebhookconfiguration", "weir-webhook", path]).await?;
    ensure!(!authorities.is_empty(), "the operator has written no caBundle");
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), site.helm(&["get", "manifest", "weir", "--namespace", SYSTEM]).await?)?;
    let manifest = file.path().to_str().context("no UTF-8")?;
    let args = ["diff", "--server-side", "--field-manager=helm", "--filename", manifest];
    let told = match site.kubectl(&args).await {
        Ok(same) => same,
        // It fails where there is a difference, and prints it.
        Err(differs) => format!("{differs:#}"),
    };
    // Helm marks what is its own, over and above what it renders; a dry run counts what it does not change.
    let changed = told
        .lines()
        .filter(|line| line.starts_with(['+', '-']) && !line.starts_with("+++") && !line.starts_with("---"));
    let (helms, others): (Vec<&str>, Vec<&str>) = changed
        .partition(|line| line.contains("meta.helm.sh/") || line.trim_start_matches('-').trim() == "annotations:");
    ensure!(!helms.is_empty(), "nothing was compared: {told}");
    let others: Vec<&str> = others.into_iter().filter(|line| !line.contains("  generation: ")).collect();
    ensure!(others.is_empty(), "{others:#?}");
    Ok(())
}
