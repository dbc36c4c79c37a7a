//! Something between the operator and the API server answers lists with status 200 and nothing in them: what is not in such a list is
//! not gone, and nothing stops.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use weir_e2e::api_proxy::{Asked, Deed};
use weir_e2e::site::{PERIODS, Plan, Site, credentials, stream, until};

/// Longer than anything that an operator waits for before it decides.
const BEFORE_ANYTHING_IS_DECIDED: Duration = Duration::from_millis(PERIODS.period * 2);

#[tokio::test]
async fn empty_answers() -> Result<()> {
    let mut site =
        Site::start("empty_answers", Plan { operators: 2, proxied: true, supervised: true, ..Plan::default() }).await?;
    let mut names = site.apply_of_both_policies(15).await?;
    site.apply(&credentials("cam", &[("password", "Sesame-open-7713")])).await?;
    site.canaries.push("Sesame-open-7713".to_owned());
    site.apply(stream("locked").url("rtsp://admin:${secret:cam/password}@camera/locked").object()).await?;
    names.insert("locked".to_owned());
    let captured = site.await_captured_once(&names).await?;
    let first = names.clone();
    let leader = site.await_leader().await?;
    let api = site.operators[leader].api()?;

    // Streams.
    api.rule(empty(&site, "streams", "Stream").await?);
    api.cut();
    await_doubt(&site, leader, "Streams", 31).await?;
    tokio::time::sleep(BEFORE_ANYTHING_IS_DECIDED).await;
    site.ensure_undisturbed(&names, captured)?;
    api.pass();
    // It asks again by itself.
    until("nothing is doubted any more", async || {
        let ready = site.operators[leader].ready().await?;
        ensure!(!ready.contains("empty"), "/readyz says {ready}");
        Ok(())
    })
    .await?;

    // Streamers and Secrets; what is applied meanwhile is captured as ever.
    for (plural, kind, count) in [("streamers", "Streamer", 3), ("secrets", "Secret", 1)] {
        api.rule(empty(&site, plural, kind).await?);
        api.cut();
        await_doubt(&site, leader, &format!("{kind}s"), count).await?;
        let late = format!("late-{plural}");
        let mut all = names.clone();
        all.extend(site.apply_named([late]).await?);
        site.await_captured_once(&all).await?;
        site.ensure_undisturbed(&first, captured)?;
        api.pass();
        names = all;
    }
    site.await_status("locked", "Accepted", "True", "Accepted").await?;
    site.await_streamers_ready().await?;
    let captured = site.await_captured_once(&names).await?;
    let old = names.clone();

    // Placements, to a new leader: it finds no truth, and takes its sidecars' word before it decides anything.
    let records = site.records().await?;
    let new = 1 - leader;
    let api = site.operators[new].api()?;
    api.rule(empty(&site, "placements", "Placement").await?);
    site.operators[leader].process.kill9().await?;
    site.await_leads(new).await?;
    site.await_streamers_ready().await?;
    names.extend(site.apply_named(["after".to_owned()]).await?);
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(&old, captured)?;
    for (name, record) in site.records().await? {
        let before = records.get(&name).map(|record| &record["streamer"]);
        ensure!(before.is_none_or(|before| *before == record["streamer"]), "{name} moved: {record}");
    }
    site.operators[new].api()?.pass();

    let lost = site.read_by("s1");
    let killed = site.registry.now();
    site.kill_streamer("s1").await?;
    site.await_captured_once(&names).await?;
    site.tell_dark_by_policy("after empty answers, streamer killed", &lost, killed);
    site.finish().await
}

/// Waits until an operator says that it does not believe a list.
async fn await_doubt(site: &Site, operator: usize, what: &str, count: usize) -> Result<()> {
    until(&format!("the list of {what} is doubted"), async || {
        let ready = site.operators[operator].ready().await?;
        let sentence = format!("the list is empty although {count} were there");
        ensure!(ready.contains(what) && ready.contains(&sentence), "/readyz says {ready}");
        Ok(())
    })
    .await
}

/// Every list of a kind is empty, at the version that the real one has now.
async fn empty(site: &Site, plural: &'static str, kind: &str) -> Result<impl Fn(&Asked) -> Deed + Send + 'static> {
    let lists = site.client()?;
    let (version, path) = match kind {
        "Secret" => ("v1", format!("/api/v1/namespaces/{}/secrets", site.namespace)),
        _ => ("weir.dev/v1alpha1", format!("/apis/weir.dev/v1alpha1/namespaces/{}/{plural}", site.namespace)),
    };
    let real: Value = lists.request(axum::http::Request::get(path).body(Vec::new())?).await?;
    let at = real["metadata"]["resourceVersion"].as_str().context("a list without a version")?;
    let nothing =
        json!({"apiVersion": version, "kind": format!("{kind}List"), "metadata": {"resourceVersion": at}, "items": []});
    Ok(move |asked: &Asked| if asked.lists(plural) { Deed::json(&nothing) } else { Deed::Pass })
}
