//! Who may not connect to the feed: refused, counted, and logged without what was shown.

use anyhow::{Context as _, Result, ensure};
use weir_e2e::control_plane::{create_namespace, pod_bound_token, service_account_token};
use weir_e2e::site::until;

use crate::site::{SYSTEM, Site};

pub(crate) async fn foreign_tokens_are_refused_counted_and_kept_out_of_logs(site: &'static Site) -> Result<()> {
    let captured = site.await_captured_once().await?;
    let path = "--output=jsonpath={.items[0].metadata.name}";
    let selector = "--selector=app.kubernetes.io/component=operator";
    // One that an earlier test has replaced may still be on its way out.
    let running = "--field-selector=status.phase=Running";
    let operator = site.kubectl(&["--namespace", SYSTEM, "get", "pods", selector, running, path]).await?;
    let (feed, http) = tokio::try_join!(
        site.cluster.tools().forward(SYSTEM, &operator, 9443),
        site.cluster.tools().forward(SYSTEM, &operator, 9981)
    )?;
    let kubernetes = site.client()?;
    let elsewhere = create_namespace(&kubernetes, "tokens").await?;
    let client = reqwest::Client::builder()
        // Whose certificate it is, is not what is asked here.
        .danger_accept_invalid_certs(true)
        .build()?;
    let refused = async || -> Result<u64> {
        let metrics = reqwest::get(format!("http://{}/metrics", http.address)).await?.text().await?;
        let line = metrics.lines().find(|line| line.starts_with("weir_feed_refused_total{reason=\"token\"}"));
        Ok(line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default())
    };
    let before = refused().await?;
    let day = 86_400;
    let wrong_audience =
        pod_bound_token(&kubernetes, &elsewhere, "media-1", "default", "elsewhere.example.com", day).await?;
    let of_the_api = service_account_token(&kubernetes, &elsewhere, "default", day).await?;
    let tokens = [None, Some("not-a-token".to_owned()), Some(wrong_audience.token), Some(of_the_api)];
    for token in &tokens {
        let request = client.post(format!("https://{}/feed/v1", feed.address));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = request.send().await?;
        ensure!(answer.status() == reqwest::StatusCode::UNAUTHORIZED, "{}", answer.status());
        let sentence = answer.text().await?;
        ensure!(sentence.len() > 10, "it does not say why: {sentence:?}");
    }
    until("each is counted", async || {
        let counted = refused().await?;
        ensure!(counted >= before + tokens.len() as u64, "{counted} after {before}");
        Ok(())
    })
    .await?;
    let log = site.operator_logs().await?;
    ensure!(log.contains("a sidecar was refused"), "nothing is logged:\n{log}");
    for token in tokens.iter().flatten() {
        // Of a JWT the last part alone is secret; the rest would tell who it was, and is none of a log's business either.
        let told = token.rsplit('.').next().context("empty")?;
        ensure!(!log.contains(told), "a token is in the log");
    }
    site.ensure_undisturbed(&site.streams, captured)
}
