//! Who may not connect to the feed: refused, counted, and logged without what was shown.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use weir_e2e::control_plane::{create_namespace, pod_bound_token, service_account_token};
use weir_e2e::site::until;

use crate::site::{SYSTEM, Site};

/// Of the feed.
const AUDIENCE: &str = "weir.dev";
const DAY: i64 = 86_400;

pub(crate) async fn foreign_tokens_are_refused_counted_and_kept_out_of_logs(site: &'static Site) -> Result<()> {
    let client = site.client()?;
    let elsewhere = create_namespace(&client, "tokens").await?;
    let wrong_audience =
        pod_bound_token(&client, &elsewhere, "media-1", "default", "elsewhere.example.com", DAY).await?;
    let of_the_api = service_account_token(&client, &elsewhere, "default", DAY).await?;
    ensure_refused(site, &[None, Some("not-a-token".to_owned()), Some(wrong_audience.token), Some(of_the_api)]).await
}

/// A pod's token for the feed whose time is over. Nobody can ask for one that is valid for less than ten minutes: it is signed again,
/// and is good but for its times.
pub(crate) async fn an_expired_token_is_refused_counted_and_kept_out_of_logs(site: &'static Site) -> Result<()> {
    let client = site.client()?;
    let namespace = create_namespace(&client, "expired").await?;
    let token = pod_bound_token(&client, &namespace, "media-1", "default", AUDIENCE, DAY).await?.token;
    let api = site.cluster.node()?.control_plane();
    let as_it_was = review(&client, &api.sign_again(&token, |_| ())?).await?;
    ensure!(as_it_was.authenticated == Some(true), "it is not signed as the API server signs: {:?}", as_it_was.error);
    let expired = api.sign_again(&token, |claims| {
        // A day as before, which ended a minute before it began.
        let ended = claims["iat"].as_i64().unwrap_or_default() - 60;
        for (claim, time) in [("iat", ended - DAY), ("nbf", ended - DAY), ("exp", ended)] {
            claims[claim] = json!(time);
        }
    })?;
    let why = review(&client, &expired).await?;
    ensure!(why.authenticated != Some(true), "the API server takes it");
    let why = why.error.unwrap_or_default();
    ensure!(why.contains("expired"), "it is refused for something else: {why}");
    ensure_refused(site, &[Some(expired)]).await
}

async fn review(client: &Client, token: &str) -> Result<TokenReviewStatus> {
    let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) };
    let review = TokenReview { spec, ..TokenReview::default() };
    let reviewed = Api::<TokenReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    reviewed.status.context("no answer")
}

/// Shows each to the feed: refused, counted, and not in a log; no stream notices.
async fn ensure_refused(site: &Site, tokens: &[Option<String>]) -> Result<()> {
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
    for token in tokens {
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
