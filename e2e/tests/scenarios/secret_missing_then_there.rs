//! A Stream names a Secret that is not there: it says so, and nobody captures it. The Secret comes, and it is captured. The Secret goes,
//! and it goes on as it is.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::json;
use weir_e2e::site::{Kind, Plan, Site, credentials, secret, stream, until};

#[tokio::test]
async fn secret_missing_then_there() -> Result<()> {
    let mut site = Site::start("secret_missing_then_there", Plan::default()).await?;
    let (first, second) = ("Sesame-open-8841", "Another-word-5512");
    site.canaries.extend([first.to_owned(), second.to_owned()]);
    let others = site.apply_streams(6).await?;
    let captured = site.await_captured_once(&others).await?;

    let with_secret = stream("locked").url("rtsp://admin:${secret:cam/password}@camera/locked");
    site.apply(with_secret.object()).await?;
    let sentence = site.await_status("locked", "Accepted", "False", "SecretNotFound").await?;
    ensure!(sentence.contains("cam") && sentence.contains("password"), "it does not say what to make: {sentence}");
    site.await_status("locked", "Captured", "False", "SecretNotFound").await?;
    // One of another type is none: a Stream could read any Secret of its namespace out to a URL.
    site.apply(&secret("cam", "Opaque", &[("password", first)])).await?;
    site.apply(stream("witness").object()).await?;
    let mut names: BTreeSet<String> = others.clone();
    names.insert("witness".to_owned());
    site.await_captured_once(&names).await?;
    site.await_status("locked", "Accepted", "False", "SecretNotFound").await?;

    // A Secret's type cannot be changed.
    site.delete(Kind::Secret, "cam").await?;
    site.apply(&credentials("cam", &[("user", "admin")])).await?;
    site.await_status("locked", "Accepted", "False", "SecretKeyNotFound").await?;
    site.apply(&credentials("cam", &[("password", first)])).await?;
    names.insert("locked".to_owned());
    site.await_captured_once(&names).await?;
    let holder = site.await_source("locked", &format!("rtsp://admin:{first}@camera/locked")).await?;
    site.await_status("locked", "Accepted", "True", "Accepted").await?;
    site.await_status("locked", "Captured", "True", "Running").await?;

    // Another password is another URL, on the same streamer.
    site.merge(Kind::Secret, "cam", json!({"stringData": {"password": second}})).await?;
    let after = site.await_source("locked", &format!("rtsp://admin:{second}@camera/locked")).await?;
    ensure!(after == holder, "a new password moved it from {holder} to {after}");
    let changed = site.registry.now();

    site.delete(Kind::Secret, "cam").await?;
    site.await_status("locked", "Accepted", "False", "SecretNotFound").await?;
    site.await_status("locked", "Captured", "True", "Running").await?;
    // Its sidecar has been told since: what came later is there.
    site.apply_named((1..=6).map(|number| format!("later-{number}"))).await?;
    names.extend((1..=6).map(|number| format!("later-{number}")));
    site.await_captured_once(&names).await?;
    until("its streamer has asked again", async || {
        let (status, streams) = site.streamer(&holder)?.answer().await?;
        let answered = streams.iter().any(|stream| stream["name"] == "locked");
        ensure!(status == 200 && answered, "it answers {status} and {} streams", streams.len());
        Ok(())
    })
    .await?;
    site.ensure_undisturbed(["locked".to_owned()].iter(), changed)?;
    site.ensure_undisturbed(&others, captured)?;
    site.finish().await
}
