//! A streamer that has another backend is brought to its sidecar with `weir-sidecar attach`, captures what Weir gives it, is drained, and has
//! its old backend again after `detach`.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::process::Command;
use weir_e2e::programs::Programs;
use weir_e2e::site::{Kind, Plan, Site, until};

const OTHER: &str = "http://s3cret-k3y@127.0.0.1:9/central/streamers/s3";

/// `weir-sidecar COMMAND` beside s3: what it prints, or complains of.
async fn typed(site: &Site, command: &str, more: &[String]) -> Result<Result<String, String>> {
    let s3 = site.streamer("s3")?;
    let mut process = Command::new(Programs::get().await?.sidecar());
    process.args([command, "--api", &format!("http://{}", s3.api), "--listen", &s3.answers.to_string(), "--data"]);
    process.arg(s3.replica.parent().context("a replica lies in a directory")?).args(more);
    let output = process.output().await?;
    let text =
        String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr }).into_owned();
    ensure!(!text.contains("s3cret-k3y"), "{command} shows the key: {text}");
    Ok(if output.status.success() { Ok(text) } else { Err(text) })
}

async fn backend(site: &Site) -> Result<String> {
    let config = reqwest::get(format!("http://{}/streamer/api/v3/config", site.streamer("s3")?.api)).await?;
    let config: serde_json::Value = config.json().await?;
    Ok(config["config_external"].as_str().unwrap_or("none").to_owned())
}

#[tokio::test]
async fn attach_and_detach() -> Result<()> {
    let mut site = Site::start("attach_and_detach", Plan { streamers: 2, ..Plan::default() }).await?;
    let mut names = site.apply_streams(10).await?;
    let captured = site.await_captured_once(&names).await?;

    let entry = site.entry("s3").await?;
    site.add_streamer("s3", &entry, &[]).await?;
    site.streamer_mut("s3")?.sim.set_flag("config-external", OTHER);
    site.streamer_mut("s3")?.start()?;
    let http = site.streamer("s3")?.http;
    let attach = ["--http-listen".to_owned(), http.to_string()];
    let refused = until("the sidecar of s3 answers", async || {
        let refused = typed(&site, "attach", &attach).await?.err().context("it took another backend's place untold")?;
        ensure!(refused.contains("--replace"), "{refused}");
        Ok(refused)
    })
    .await?;
    ensure!(backend(&site).await? == OTHER, "refused, and set all the same: {refused}");

    let told = typed(&site, "attach", &[&attach[..], &["--replace".to_owned()]].concat()).await?;
    let told = told.map_err(anyhow::Error::msg)?;
    ensure!(told.contains("it polls"), "{told}");
    site.await_streamers_ready().await?;
    names.extend(site.apply_named((11..=20).map(|number| format!("cam-{number}"))).await?);
    site.await_captured_once(&names).await?;
    ensure!(!site.read_by("s3").is_empty(), "s3 got nothing");

    site.merge(Kind::Streamer, "s3", json!({"spec": {"drain": true}})).await?;
    until("s3 reads nothing any more", async || {
        let left = site.read_by("s3");
        ensure!(left.is_empty(), "it reads {left:?}");
        Ok(())
    })
    .await?;
    let told = typed(&site, "detach", &[]).await?.map_err(anyhow::Error::msg)?;
    ensure!(told.contains("central/streamers/s3 again"), "{told}");
    ensure!(backend(&site).await? == OTHER, "it has {}", backend(&site).await?);
    site.await_captured_once(&names).await?;
    let first = names.iter().filter(|name| name.trim_start_matches("cam-").parse::<u32>().is_ok_and(|n| n <= 10));
    site.ensure_undisturbed(first, captured)?;
    site.finish().await
}
