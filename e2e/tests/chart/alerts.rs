//! Every alert asks for what is measured, and says what to do.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, anyhow, ensure};
use promql_parser::label::MatchOp;
use promql_parser::parser::{Expr, VectorSelector, parse};
use serde_json::Value;
use weir_operator::report::reason;
use weir_sidecar::waiting::Waiting;

use super::chart::CHART;

/// Reasons that no alert asks for: they pass by themselves, are somebody's wish, or stand beside one that is asked for.
const QUIET: [&str; 38] = [
    // They pass, or become one that is asked for.
    "HolderLost",
    "Releasing",
    "ReleaseTimedOut",
    "Waiting",
    "LettingGo",
    "WritePostponed",
    "Held",
    "NotReported",
    "NotRunning",
    "NeverReported",
    "NeverSynced",
    "Behind",
    "Terminating",
    "JustStarted",
    // Nothing waits, or it is said by another condition.
    "Accepted",
    "Disabled",
    "Loaded",
    "OnDemand",
    "Placed",
    "Polling",
    "Running",
    "Supervised",
    "Synced",
    "NotPlaced",
    "NotReady",
    "NotTold",
    // Somebody wants it so.
    "SchedulingDisabled",
    "Draining",
    "Drained",
    "AtCapacity",
    "NotSupervised",
    "ForeignHost",
    // Streams or Streamers say the same: RejectedByStreamer, InstanceConflict, NotPolling.
    "InvalidStreams",
    "DocumentsRefused",
    "Superseded",
    "NameTaken",
    "StreamerApiDown",
    "NoLease",
];

/// What a person can do.
const DOES: [&str; 7] = ["kubectl ", "GET /readyz", "Look ", "log", "Compare ", "Apply ", "/readyz"];

#[test]
fn alerts_ask_for_metrics_and_reasons_that_there_are() -> Result<()> {
    let metrics = metrics()?;
    let reasons: BTreeSet<&str> = reasons();
    let mut asked = BTreeSet::new();
    for alert in alerts()? {
        let name = alert["alert"].as_str().context("no name")?;
        let text = alert["expr"].as_str().context("no expr")?;
        let expression = parse(text).map_err(|error| anyhow!("{name}: {error}"))?;
        for selector in selectors(&expression) {
            let metric = selector.name.clone().with_context(|| format!("{name}: no metric"))?;
            ensure!(metrics.contains(&metric), "{name}: nobody counts {metric}, there are {metrics:?}");
            if !metric.ends_with("_waiting") {
                continue;
            }
            for matcher in selector.matchers.find_matchers("reason") {
                for reason in matcher.value.split('|') {
                    let known = match &matcher.op {
                        MatchOp::Re(_) | MatchOp::NotRe(_) if reason.ends_with(".+") => {
                            reasons.iter().any(|known| known.starts_with(reason.trim_end_matches(".+")))
                        }
                        _ => reasons.contains(reason),
                    };
                    ensure!(known, "{name}: there is no reason {reason}");
                    let start = reason.trim_end_matches(".+");
                    let means = |known: &&&str| **known == reason || reason.ends_with(".+") && known.starts_with(start);
                    asked.extend(reasons.iter().filter(means).map(|known| (*known).to_owned()));
                }
            }
        }
    }
    // That of the operator asks for all but a few.
    asked.extend(reason::operator::ALL.iter().map(|reason| reason.name().to_owned()));
    let unasked: Vec<_> =
        reasons.iter().filter(|reason| !asked.contains(**reason) && !QUIET.contains(reason)).collect();
    ensure!(unasked.is_empty(), "no alert asks for {unasked:?}");
    Ok(())
}

#[test]
fn alerts_say_what_is_wrong_and_what_to_do() -> Result<()> {
    for alert in alerts()? {
        let severity = alert["labels"]["severity"].as_str();
        ensure!(matches!(severity, Some("critical" | "warning")), "{alert}");
        for annotation in ["summary", "description"] {
            let text = alert["annotations"][annotation].as_str().unwrap_or_default();
            ensure!(text.len() > 10, "{} has no {annotation}", alert["alert"]);
        }
        let description = alert["annotations"]["description"].as_str().unwrap_or_default();
        let says = DOES.iter().any(|what| description.contains(what));
        ensure!(says, "{} does not say what to do: {description}", alert["alert"]);
    }
    Ok(())
}

fn alerts() -> Result<Vec<Value>> {
    let read = |name: &str| std::fs::read_to_string(format!("{CHART}/files/{name}.yaml"));
    let file: Value = serde_yaml::from_str(&[read("alerts")?, read("webhook-alerts")?].concat())?;
    let groups = file["groups"].as_array().context("no groups")?;
    let alerts: Vec<Value> = groups.iter().filter_map(|group| group["rules"].as_array()).flatten().cloned().collect();
    ensure!(alerts.len() > 10, "these are not all: {}", alerts.len());
    Ok(alerts)
}

/// Of both programs, as Prometheus knows them.
fn metrics() -> Result<BTreeSet<String>> {
    let mut registry = prometheus_client::registry::Registry::default();
    let operator = weir_operator::metrics::Metrics::registered(&mut registry);
    let feed = weir_operator::feed::FeedMetrics::default();
    feed.register(&mut registry);
    let certificates = weir_operator::certificates::CertificateMetrics::default();
    certificates.register(&mut registry);
    certificates.authority(0..1);
    weir_operator::webhook::WebhookMetrics::default().register(&mut registry);
    certificates.troubled(weir_operator::certificates::Purpose::Feed, true);
    // What has no label yet is not printed.
    let one = weir_operator::metrics::Counts::from([((String::new(), ""), 1)]);
    operator.waiting(&one, &one, &one);
    operator.operator(reason::operator::ALL);
    operator.placement_write("done");
    feed.refused("token");
    let sidecar = weir_sidecar::metrics::Metrics::default();
    sidecar.wait(&[]);
    let mut text = sidecar.encode()?;
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let named = types.filter_map(|line| line.split_once(' '));
    let sample = |(name, kind): (&str, &str)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
    Ok(named.map(sample).collect())
}

fn reasons() -> BTreeSet<&'static str> {
    let operator = [reason::stream::ALL, reason::streamer::ALL, reason::placement::ALL, reason::operator::ALL];
    let operator = operator.into_iter().flatten().map(reason::Reason::name);
    operator.chain(Waiting::ALL.iter().map(|waiting| waiting.name())).collect()
}

fn selectors(expression: &Expr) -> Vec<&VectorSelector> {
    match expression {
        Expr::VectorSelector(selector) => vec![selector],
        Expr::MatrixSelector(matrix) => vec![&matrix.vs],
        Expr::Aggregate(of) => selectors(&of.expr),
        Expr::Paren(of) => selectors(&of.expr),
        Expr::Unary(of) => selectors(&of.expr),
        Expr::Subquery(of) => selectors(&of.expr),
        Expr::Binary(of) => [selectors(&of.lhs), selectors(&of.rhs)].concat(),
        Expr::Call(call) => call.args.args.iter().flat_map(|of| selectors(of)).collect(),
        _ => Vec::new(),
    }
}
