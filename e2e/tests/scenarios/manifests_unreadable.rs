//! A directory of manifests goes away, is emptied, comes back; its operator stands still or is started anew meanwhile. What cannot be read
//! is not known, and nothing stops because of it. A streamer that dies in that time fails over; what the operator holds back it says.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use weir_e2e::site::{PERIODS, Place, Plan, Site, stream, until};

/// Waits until the operator's `/readyz` says it.
async fn await_word(site: &Site, word: &str) -> Result<String> {
    until(&format!("the operator says {word:?}"), async || {
        let ready = site.operators[0].ready().await?;
        ensure!(ready.contains(word), "/readyz: {ready}");
        Ok(ready)
    })
    .await
}

/// Waits until it does not say it any more.
async fn await_no_word(site: &Site, word: &str) -> Result<()> {
    until(&format!("the operator says {word:?} no more"), async || {
        let ready = site.operators[0].ready().await?;
        ensure!(!ready.contains(word), "/readyz: {ready}");
        Ok(())
    })
    .await
}

fn files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect()
}

#[tokio::test]
async fn manifests_unreadable() -> Result<()> {
    let mut site = Site::start("manifests_unreadable", Plan { place: Place::Manifests, ..Plan::default() }).await?;
    let mut names = site.apply_streams(30).await?;
    let captured = site.await_captured_once(&names).await?;
    let (manifests, kept) = (site.folder().join("manifests"), site.folder().join("manifests-elsewhere"));

    // Gone, as when a mount is lost.
    fs::rename(&manifests, &kept)?;
    let ready = await_word(&site, "everything stays as it is").await?;
    ensure!(ready.contains("manifests cannot be read"), "it does not say why: {ready}");
    let lost = site.read_by("s1");
    let killed = site.registry.now();
    site.kill_streamer("s1").await?;
    site.await_captured_once(&names).await?;
    site.tell_dark("a streamer died while the manifests could not be read", &lost, killed);
    site.ensure_undisturbed(names.difference(&lost), captured)?;
    let moved = site.registry.now();

    // There again, and empty, as a mount is under which the disk is missing; the operator stands still, and is killed.
    fs::create_dir(&manifests)?;
    let ready = await_word(&site, "leave one file with a comment in it").await?;
    ensure!(ready.contains("has no manifest any more and had"), "it does not say why: {ready}");
    let operator = &site.operators[0].process;
    operator.child()?.pause()?;
    tokio::time::sleep(std::time::Duration::from_millis(2 * PERIODS.lease)).await;
    site.ensure_undisturbed(&names, moved)?;
    operator.child()?.resume()?;
    site.await_leader().await?;
    operator.kill9().await?;
    site.operators[0].process.start()?;
    site.await_leader().await?;
    await_word(&site, "leave one file with a comment in it").await?;
    site.streamer_mut("s1")?.start()?;
    site.await_streamers_ready().await?;
    site.await_captured_once(&names).await?;
    for name in &names {
        let dark = site.registry.dark(name, moved, site.registry.now());
        ensure!(dark.is_empty(), "{name} was dark: {dark:?}");
    }

    // Restored: with one Stream less and one more.
    fs::remove_dir(&manifests)?;
    fs::rename(&kept, &manifests)?;
    await_no_word(&site, "stays as it is").await?;
    let gone = files(&manifests)?.into_iter().find(|file| file.ends_with("streams-cam-9.yaml"));
    fs::remove_file(gone.context("no manifest of cam-9")?)?;
    names.remove("cam-9");
    site.apply(stream("late").object()).await?;
    names.insert("late".to_owned());
    site.await_captured_once(&names).await?;
    let old: Vec<&String> = names.iter().filter(|name| *name != "late").collect();
    for name in old {
        let dark = site.registry.dark(name, moved, site.registry.now());
        ensure!(dark.is_empty(), "{name} was dark: {dark:?}");
    }
    let log = site.operators[0].process.log();
    ensure!(log.contains("no longer so: "), "the log does not say that it is over:\n{log}");
    site.finish().await
}
