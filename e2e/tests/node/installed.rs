//! Two commands, and what a person sees afterwards.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use weir_e2e::site::{condition_of, until};

use crate::site::{MEDIA, PATIENCE, SYSTEM, Site};

pub(crate) async fn two_commands_capture_every_stream_once(site: &'static Site) -> Result<()> {
    site.await_captured_once().await?;
    until("kubectl get wst shows who captures what", async || {
        let shown = site.kubectl(&["--namespace", MEDIA, "get", "wst", "--no-headers"]).await?;
        let names = objects_of(site).await?;
        for (stream, reader) in &site.readers() {
            let row = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let row = row.into_iter().find(|row| row.first().is_some_and(|name| names.get(*name) == Some(stream)));
            let row = row.with_context(|| format!("{stream} is not shown:\n{shown}"))?;
            ensure!(row.get(1..4) == Some(&[reader.as_str(), "True", "True"]), "{reader} captures {stream}:\n{shown}");
        }
        Ok(())
    })
    .await?;
    until("kubectl get wsr shows how many each has", async || {
        let records = site.records_in(MEDIA).await?;
        for streamer in site.list("streamers.weir.dev").await? {
            let name = streamer["metadata"]["name"].as_str().context("no name")?;
            let ready = condition_of(&streamer, "Ready").context("no condition Ready")?;
            ensure!(ready["status"] == "True", "{name} is not ready: {ready}");
            let has = records.values().filter(|record| record["streamer"] == name).count();
            let shown = &streamer["status"]["streams"];
            ensure!(shown.as_u64() == u64::try_from(has).ok(), "{name} has {has}, and {shown} are shown");
        }
        Ok(())
    })
    .await?;
    let reader = site.readers().remove("clock").context("nobody reads the clock")?;
    let described = site.kubectl(&["--namespace", MEDIA, "describe", "wst", "clock"]).await?;
    ensure!(
        described.lines().any(|line| line.contains("Streamer:") && line.ends_with(&reader)),
        "{reader} is not named:\n{described}"
    );
    let clock = site.list("streams.weir.dev").await?.into_iter().find(|stream| stream["metadata"]["name"] == "clock");
    let clock = clock.context("no clock")?;
    for condition in ["Accepted", "Placed", "Captured"] {
        let said = condition_of(&clock, condition).with_context(|| format!("no condition {condition}"))?;
        ensure!(said["status"] == "True", "it is captured, and says {said}");
    }
    let events = site.kubectl(&["--namespace", MEDIA, "get", "events", "--no-headers"]).await?;
    let tells = |line: &str| line.contains("stream/clock") && line.contains(&reader);
    ensure!(events.lines().any(tells), "no Event tells that {reader} has the clock:\n{events}");
    let secret = "example-only-change-me";
    for text in [described, events, site.operator_logs().await?] {
        ensure!(!text.contains(secret), "a password is shown:\n{text}");
    }
    site.ensure_never_twice()
}

/// The media name of each Stream object.
async fn objects_of(site: &Site) -> Result<BTreeMap<String, String>> {
    let streams = site.list("streams.weir.dev").await?;
    let named = streams.iter().filter_map(|stream| {
        let object = stream["metadata"]["name"].as_str()?;
        Some((object.to_owned(), stream["spec"]["name"].as_str().unwrap_or(object).to_owned()))
    });
    Ok(named.collect())
}

/// Each command that NOTES.txt tells to type can be typed.
pub(crate) async fn the_notes_say_what_to_type(site: &'static Site) -> Result<()> {
    let commands = site.notes.lines().filter_map(|line| line.strip_prefix("     "));
    let commands: Vec<&str> = commands.filter(|line| line.starts_with("kubectl ")).collect();
    ensure!(commands.len() >= 3, "the notes say nothing to type:\n{}", site.notes);
    for command in commands {
        let args: Vec<&str> = command.split_whitespace().skip(1).collect();
        ensure!(!site.kubectl(&args).await?.trim().is_empty(), "{command} shows nothing");
    }
    // With a document behind it, it ends where the shell sees its end.
    let (_, script) = site.notes.split_once("\nkubectl apply").context("the notes apply nothing")?;
    let (document, _) = script.split_once("\nEOF\n").context("what is applied has no end")?;
    let applied = site.typed(&format!("kubectl apply{document}\nEOF\n")).await?;
    ensure!(applied.contains("my-stream created"), "{applied}");
    let all = &site.streams | &BTreeSet::from(["my-stream".to_owned()]);
    site.registry.await_each_once(&all, PATIENCE).await?;
    site.kubectl(&["--namespace", MEDIA, "delete", "wst", "my-stream"]).await?;
    site.await_captured_once().await?;
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
