//! What the API server counted: writes by resource, from its own metrics.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

/// Answered writes by resource (`streams/status`), since the API server started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiWrites(pub BTreeMap<String, u64>);

const WRITES: [&str; 5] = ["POST", "PUT", "PATCH", "APPLY", "DELETE"];

impl ApiWrites {
    /// Asks the API server. `client` has to be an administrator's.
    pub async fn now(client: &kube::Client) -> Result<Self> {
        let request = axum::http::Request::get("/metrics").body(Vec::new())?;
        Self::read(&client.request_text(request).await?)
    }

    fn read(metrics: &str) -> Result<Self> {
        let mut writes = BTreeMap::new();
        let mut known = false;
        for line in metrics.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")) {
            known = true;
            let (labels, count) = line.rsplit_once("} ").context("a line of metrics without a value")?;
            let label = |name: &str| {
                let value = labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\""));
                value.map(|value| value.trim_end_matches('"'))
            };
            if !label("verb").is_some_and(|verb| WRITES.contains(&verb)) {
                continue;
            }
            let mut name = label("resource").unwrap_or_default().to_owned();
            if let Some(part) = label("subresource").filter(|part| !part.is_empty()) {
                name = format!("{name}/{part}");
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count, that may be told as 1e+06"
            )]
            let count = count.parse::<f64>()? as u64;
            *writes.entry(name).or_default() += count;
        }
        ensure!(known, "the API server's metrics have no apiserver_request_total");
        Ok(Self(writes))
    }

    /// What was written since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let new = self.0.iter().filter_map(|(name, count)| {
            let more = count.saturating_sub(earlier.of(name));
            (more > 0).then(|| (name.clone(), more))
        });
        Self(new.collect())
    }

    /// Writes of one resource.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// All but those of `names`.
    pub fn but(&self, names: &[&str]) -> u64 {
        self.0.iter().filter(|(name, _)| !names.contains(&name.as_str())).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_counted_by_resource_and_reads_are_not() {
        let before = ApiWrites::read(
            r#"# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",dry_run="",group="weir.dev",resource="streams",scope="resource",subresource="status",verb="PATCH",version="v1alpha1"} 3
apiserver_request_total{code="200",component="apiserver",dry_run="",group="weir.dev",resource="streams",scope="cluster",subresource="",verb="LIST",version="v1alpha1"} 9
"#,
        )
        .unwrap();
        assert_eq!(before.0, BTreeMap::from([("streams/status".to_owned(), 3)]));
        let after = ApiWrites::read(
            r#"apiserver_request_total{code="200",group="weir.dev",resource="streams",subresource="status",verb="PATCH"} 5
apiserver_request_total{code="422",group="weir.dev",resource="streams",subresource="status",verb="PATCH"} 1
apiserver_request_total{code="201",group="events.k8s.io",resource="events",subresource="",verb="POST"} 1e+03
"#,
        )
        .unwrap();
        let more = after.since(&before);
        assert_eq!((more.of("streams/status"), more.of("events"), more.of("leases")), (3, 1_000, 0));
        assert_eq!(more.but(&["events"]), 3);
        assert!(ApiWrites::read("up 1").is_err());
    }
}
