//! The webhook under load, and while its certificate is renewed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use weir_e2e::measure::usage::Usage;
use weir_e2e::site::until;
use weir_e2e::tools::Forward;

use crate::changed_chart::ChangedChart;
use crate::containers::process_of;
use crate::injection::{has_sidecar, pod, pods};
use crate::site::{CHART, SYSTEM, Site};

const SELECTOR: &str = "--selector=app.kubernetes.io/component=webhook";
const NAME: &str = "weir-webhook.weir-system.svc";

/// One for a further name is made at once, and renewed two thirds of a minute later: every pod that is made meanwhile gets its sidecar,
/// and whoever connects is shown one that is valid.
pub(crate) async fn the_webhooks_certificate_is_renewed_while_pods_are_made(site: &'static Site) -> Result<()> {
    let before = webhooks(site).await?;
    let pods = pods(site, "renewed").await?;
    let line = "            - --webhook-dns-name={{ $name }}-webhook.{{ .Release.Namespace }}.svc\n";
    let further = line.replace(".svc\n", ".svc.cluster.local\n");
    let chart = ChangedChart::with("templates/operator/deployment.yaml", line, &further)?;

    let mut seen = Vec::new();
    for name in &before {
        let (review, http) =
            (site.cluster.tools().forward(SYSTEM, name, 9444), site.cluster.tools().forward(SYSTEM, name, 9982));
        let (review, http) = tokio::try_join!(review, http)?;
        seen.push(Seen { review, http, expiries: BTreeSet::new() });
    }
    let renewed = async {
        site.upgrade(&chart.path()?, &["--set", "certificates.lifetime=60s"]).await?;
        for (count, which) in [(2, "one for the further name"), (3, "one that follows it")] {
            until(which, async || look(site, &mut seen, |expiries| expiries.len() >= count).await).await?;
        }
        site.upgrade(CHART, &[]).await?;
        let month = jiff::Timestamp::now().as_second() + 30 * 86_400;
        let month = u64::try_from(month)?;
        until("the usual one", async || look(site, &mut seen, |expiries| expiries.last() > Some(&month)).await).await
    };
    let made = tokio::select! {
        renewed = renewed => renewed,
        Err(refused) = make_pods(site, &pods) => Err(refused),
    };
    made?;
    ensure!(webhooks(site).await? == before, "webhooks were started again");
    Ok(())
}

/// Makes pods, one after the other and none to stay, until one is refused. Meanwhile it has kubelets look at the webhook's volumes,
/// as they do by themselves every minute or so.
async fn make_pods(site: &Site, pods: &Api<Pod>) -> Result<()> {
    let object: Pod = serde_json::from_value(pod("labelled", true))?;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    for number in 0_u64.. {
        pace.tick().await;
        let made = pods.create(&dry, &object).await.with_context(|| format!("pod {number} was refused"))?;
        ensure!(has_sidecar(&made), "pod {number} has no sidecar");
        if number % 10 == 0 {
            let look = format!("example.com/look={number}");
            site.kubectl(&["--namespace", SYSTEM, "annotate", "pods", SELECTOR, "--overwrite", &look]).await?;
        }
    }
    bail!("numbers have ended")
}

/// What is seen of one of its pods.
struct Seen {
    review: Forward,
    http: Forward,
    /// Until when its certificates are valid that it has shown so far.
    expiries: BTreeSet<u64>,
}

/// Connects to each as the API server does, and notes until when it says that its certificate is valid; an error if that is not yet
/// `enough` of one of them.
async fn look(site: &Site, seen: &mut [Seen], enough: impl Fn(&BTreeSet<u64>) -> bool) -> Result<()> {
    let path = "--output=jsonpath={.webhooks[0].clientConfig.caBundle}";
    let bundle = site.kubectl(&["get", "mutatingwebhookconfiguration", "weir-webhook", path]).await?;
    let roots = reqwest::Certificate::from_pem_bundle(&STANDARD.decode(bundle)?)?;
    for one in &mut *seen {
        let client = reqwest::Client::builder().tls_certs_only(roots.clone()).no_proxy();
        let client = client.resolve(NAME, one.review.address).build()?;
        let url = format!("https://{NAME}:{}/mutate", one.review.address.port());
        let answer = client.post(url).body("{}").send().await?;
        ensure!(answer.status() == reqwest::StatusCode::BAD_REQUEST, "it answers {}", answer.status());
        let metrics = reqwest::get(format!("http://{}/metrics", one.http.address)).await?.text().await?;
        let sample = "weir_certificate_expiry_timestamp_seconds{certificate=\"webhook\"} ";
        let expiry = metrics.lines().find_map(|line| line.strip_prefix(sample)).context("it says nothing")?;
        one.expiries.insert(expiry.parse()?);
    }
    let missing: Vec<_> = seen.iter().map(|one| &one.expiries).filter(|expiries| !enough(expiries)).collect();
    ensure!(missing.is_empty(), "so far {missing:?}");
    Ok(())
}

/// The names of its pods.
async fn webhooks(site: &Site) -> Result<BTreeSet<String>> {
    let path = "--output=jsonpath={.items[*].metadata.name}";
    let running = "--field-selector=status.phase=Running";
    let pods = site.kubectl(&["--namespace", SYSTEM, "get", "pods", SELECTOR, running, path]).await?;
    let pods: BTreeSet<_> = pods.split_whitespace().map(str::to_owned).collect();
    ensure!(!pods.is_empty(), "there is no webhook");
    Ok(pods)
}

/// `just test-node thousand 2>&1 | grep node:` prints what the chart's values say.
pub(crate) async fn a_thousand_pods_cost_the_webhook_what_it_asks_for(site: &'static Site) -> Result<()> {
    let pods = pods(site, "thousand").await?;
    let usual = serde_json::from_value(pod("labelled", true))?;
    measure(site, &pods, &usual, 1_000, "requests").await?;
    let mut large = pod("labelled", true);
    large["spec"]["containers"][0]["env"] = json!([{ "name": "LARGE", "value": "x".repeat(1 << 20) }]);
    measure(site, &pods, &serde_json::from_value(large)?, 100, "limits").await
}

/// Makes `count` pods, none to stay, and holds the webhook's memory against what its Deployment has in `bound`.
async fn measure(site: &Site, pods: &Api<Pod>, object: &Pod, count: u32, bound: &str) -> Result<()> {
    const AT_ONCE: usize = 16;
    let process = |pod: &String| Ok(u32::try_from(process_of("weir-operator", pod)?.as_raw_nonzero().get())?);
    let processes = webhooks(site).await?.iter().map(process).collect::<Result<Vec<u32>>>()?;
    let usage = || processes.iter().map(|process| Usage::of(*process)).collect::<Result<Vec<_>>>();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let (before, started) = (usage()?, Instant::now());
    let make = async |_| -> Result<()> {
        ensure!(has_sidecar(&pods.create(&dry, object).await?), "it has no sidecar");
        Ok(())
    };
    stream::iter(0..count).map(make).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let (after, took) = (usage()?, started.elapsed());
    let cpu: Duration = before.iter().zip(&after).map(|(before, after)| after.cpu.saturating_sub(before.cpu)).sum();
    let most = |of: fn(&Usage) -> u64, usage: &[Usage]| usage.iter().map(of).max().context("no process");
    let (peak, has) = (most(|usage| usage.peak, &after)?, memory(site, bound).await?);
    eprintln!(
        "node: the webhook: {count} pods of {} KiB, {AT_ONCE} at once, in {took:.1?}: {:.1} MiB before, {:.1} MiB at most, of {} MiB \
         in its {bound}; {:.2?} of CPU a pod",
        serde_json::to_vec(object)?.len().div_ceil(1 << 10),
        mib(most(|usage| usage.resident, &before)?),
        mib(peak),
        has >> 20,
        cpu / count
    );
    ensure!(
        peak <= has,
        "it takes {peak} bytes, and its {bound} are {has}: see to webhook.resources in the chart's values.yaml"
    );
    Ok(())
}

/// The memory in its `requests` or `limits`, in bytes.
async fn memory(site: &Site, bound: &str) -> Result<u64> {
    let deployment = site.kubectl(&["--namespace", SYSTEM, "get", "deployment/weir-webhook", "--output=json"]).await?;
    let deployment: Value = serde_json::from_str(&deployment)?;
    let memory = &deployment["spec"]["template"]["spec"]["containers"][0]["resources"][bound]["memory"];
    let mib = memory.as_str().and_then(|text| text.strip_suffix("Mi")).context("it is in Mi no more")?;
    Ok(mib.parse::<u64>()? << 20)
}

#[expect(clippy::cast_precision_loss, reason = "a process's memory, for a person")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
