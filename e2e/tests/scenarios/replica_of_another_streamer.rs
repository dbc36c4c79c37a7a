//! A server is set up as a copy of another, its sidecar's database included. The sidecar refuses to start with it, with a sentence that
//! names both; nothing of it is served, nobody is registered, nobody is disturbed. Without the copy it is a streamer like any other.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use weir_e2e::site::{Kind, Plan, Site};

#[tokio::test]
async fn replica_of_another_streamer() -> Result<()> {
    let mut site = Site::start("replica_of_another_streamer", Plan { streamers: 2, ..Plan::default() }).await?;
    let mut names = site.apply_streams(20).await?;
    let captured = site.await_captured_once(&names).await?;

    let entry = site.entry("s3").await?;
    site.add_streamer("s3", &entry, &[]).await?;
    let (from, to) = (site.streamer("s1")?.replica.clone(), site.streamer("s3")?.replica.clone());
    let (from, to) = (from.parent().context("no folder")?.to_owned(), to.parent().context("no folder")?.to_owned());
    for file in fs::read_dir(&from)? {
        let file = file?;
        fs::copy(file.path(), to.join(file.file_name()))?;
    }
    site.streamer_mut("s3")?.start()?;
    let s3 = site.streamer("s3")?;
    let code = s3.sidecar.wait().await?;
    ensure!(code == Some(1), "the sidecar ended with {code:?}");
    let log = s3.sidecar.log();
    for part in [
        &format!("is the replica of streamer {}/s1", site.namespace),
        &format!("this sidecar serves {}/s3", site.namespace),
        "give each streamer a --data directory of its own",
    ] {
        ensure!(log.contains(part), "the log does not say {part:?}:\n{log}");
    }
    ensure!(!log.contains("answering"), "it answered before it refused:\n{log}");
    ensure!(site.read_by("s3").is_empty(), "its streamer reads {:?}", site.read_by("s3"));
    for streamer in site.list(Kind::Streamer).await? {
        ensure!(streamer["metadata"]["name"] != "s3", "s3 was registered");
    }
    site.ensure_undisturbed(&names, captured)?;

    for file in fs::read_dir(&to)? {
        fs::remove_file(file?.path())?;
    }
    site.streamer_mut("s3")?.sidecar.start()?;
    site.await_streamers_ready().await?;
    let old = names.clone();
    names.extend(site.apply_named((1..=10).map(|number| format!("new-{number}"))).await?);
    site.await_captured_once(&names).await?;
    ensure!(site.read_by("s3").len() == 10, "s3 reads {:?}", site.read_by("s3"));
    site.ensure_undisturbed(&old, captured)?;
    site.finish().await
}
