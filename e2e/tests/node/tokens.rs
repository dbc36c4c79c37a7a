//! Who may not connect to the feed: refused, counted, and logged without what was shown.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use weir_e2e::control_plane::{create_namespace, pod_bound_token, service_account_token};
use weir_e2e::site::until;
use weir_e2e::tools::Forward;
use weir_feed::frames::VERSION;

use crate::outside::leader;
use crate::site::{MEDIA, SYSTEM, Site};

/// Of the feed.
const AUDIENCE: &str = "weir.dev";
const DAY: i64 = 86_400;

pub(crate) async fn foreign_tokens_are_refused_counted_and_kept_out_of_logs(site: &'static Site) -> Result<()> {
    let client = site.client()?;
    let elsewhere = create_namespace(&client, "tokens").await?;
    let wrong_audience =
        pod_bound_token(&client, &elsewhere, "media-1", "default", "elsewhere.example.com", DAY).await?;
    let of_the_api = service_account_token(&client, &elsewhere, "default", DAY).await?;
    let tokens = [None, Some("not-a-token".to_owned()), Some(wrong_audience.token), Some(of_the_api)];
    ensure_refused(site, &tokens.map(Shown::token)).await
}

/// A token that is good for the feed, of a pod that may not be who the hello says.
pub(crate) async fn the_token_of_another_pod_is_refused_counted_and_kept_out_of_logs(
    site: &'static Site,
) -> Result<()> {
    let client = site.client()?;
    let namespace = create_namespace(&client, "other").await?;
    let token = pod_bound_token(&client, &namespace, "media-1", "default", AUDIENCE, DAY).await?.token;
    let reviewed = review(&client, &token).await?;
    ensure!(reviewed.authenticated == Some(true), "the API server does not take it: {:?}", reviewed.error);
    ensure_refused(site, &[Shown { token: Some(token), hello: Some("media-1"), reason: "identity" }]).await
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
    ensure_refused(site, &[Shown::token(Some(expired))]).await
}

async fn review(client: &Client, token: &str) -> Result<TokenReviewStatus> {
    let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) };
    let review = TokenReview { spec, ..TokenReview::default() };
    let reviewed = Api::<TokenReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    reviewed.status.context("no answer")
}

/// What is shown to the feed, and under which reason it is refused.
struct Shown {
    token: Option<String>,
    /// The Streamer that the hello names, where there is one.
    hello: Option<&'static str>,
    reason: &'static str,
}

impl Shown {
    /// One that gets no further than its token.
    fn token(token: Option<String>) -> Self {
        Self { token, hello: None, reason: "token" }
    }
}

/// The feed of the operator that leads.
struct Leader {
    pod: String,
    feed: Forward,
    http: Forward,
    client: reqwest::Client,
}

impl Leader {
    async fn find(site: &Site) -> Result<Self> {
        site.await_led().await?;
        let pod = leader(site).await?;
        let tools = site.cluster.tools();
        let (feed, http) = tokio::try_join!(tools.forward(SYSTEM, &pod, 9443), tools.forward(SYSTEM, &pod, 9981))?;
        // Whose certificate it is, is not what is asked here.
        let client = reqwest::Client::builder().danger_accept_invalid_certs(true).build()?;
        Ok(Self { pod, feed, http, client })
    }

    async fn refused(&self, reason: &str) -> Result<u64> {
        let metrics = reqwest::get(format!("http://{}/metrics", self.http.address)).await?.text().await?;
        let counter = format!("weir_feed_refused_total{{reason=\"{reason}\"}}");
        let line = metrics.lines().find(|line| line.starts_with(&counter));
        Ok(line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default())
    }

    /// What it has printed since it had printed `mark` bytes.
    async fn log(&self, site: &Site, mark: usize) -> Result<String> {
        let log = site.kubectl(&["--namespace", SYSTEM, "logs", &self.pod, "--tail=-1"]).await?;
        Ok(log.get(mark..).context("the log begins anew")?.to_owned())
    }

    /// It refuses, and says why.
    async fn ensure_refuses(&self, shown: &Shown) -> Result<()> {
        let mut request = self.client.post(format!("https://{}/feed/v1", self.feed.address));
        if let Some(token) = &shown.token {
            request = request.bearer_auth(token);
        }
        let Some(streamer) = shown.hello else {
            let answer = request.send().await?;
            ensure!(answer.status() == reqwest::StatusCode::UNAUTHORIZED, "{}", answer.status());
            let sentence = answer.text().await?;
            ensure!(sentence.len() > 10, "it does not say why: {sentence:?}");
            return Ok(());
        };
        let hello = json!({
            "type": "hello", "version": VERSION, "program": "0.0.1", "namespace": MEDIA, "streamer": streamer,
            "instance": "its token says", "synced": false, "held": [], "holds": {}, "stopped": [], "runs": {},
            "polled": 0, "api": "up",
        });
        let answer = request.body(format!("{hello}\n")).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        let frames = answer.text().await?;
        let last: serde_json::Value = serde_json::from_str(frames.lines().last().context("it says nothing")?)?;
        let why = last["message"].as_str().unwrap_or_default();
        ensure!(last["type"] == "refused" && why.contains("only be the Streamer that its token is for"), "{last}");
        Ok(())
    }
}

/// Shows each to the feed: refused, counted, and not in a log; no stream notices.
async fn ensure_refused(site: &Site, all: &[Shown]) -> Result<()> {
    let captured = site.await_captured_once().await?;
    let leader = Leader::find(site).await?;
    for shown in all {
        let (before, mark) = (leader.refused(shown.reason).await?, leader.log(site, 0).await?.len());
        leader.ensure_refuses(shown).await?;
        until("it is counted and logged", async || {
            let counted = leader.refused(shown.reason).await?;
            ensure!(counted > before, "{} is counted {counted} times, as before", shown.reason);
            let log = leader.log(site, mark).await?;
            // A token's refusal has no other reason, and says none.
            let told = |line: &str| {
                line.contains("a sidecar was refused") && (shown.hello.is_none() || line.contains(shown.reason))
            };
            ensure!(log.lines().any(told), "nothing is logged:\n{log}");
            Ok(())
        })
        .await?;
    }
    let log = site.operator_logs().await?;
    for token in all.iter().filter_map(|shown| shown.token.as_deref()) {
        // Of a JWT the last part alone is secret; the rest would tell who it was, and is none of a log's business either.
        let told = token.rsplit('.').next().context("empty")?;
        ensure!(!log.contains(told), "a token is in the log");
    }
    site.ensure_undisturbed(&site.streams, captured)
}
