//! One operator process of a site.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use weir_feed::periods::Periods;

use super::process::Process;
use super::wait::until;
use super::{periods, ports};
use crate::api_proxy::ApiProxy;

/// An operator. It comes back at the same addresses after it was killed.
#[derive(Debug)]
pub struct Operator {
    pub process: Process,
    /// Where its feed is.
    pub feed: SocketAddr,
    /// Where its health, metrics and objects are.
    pub http: SocketAddr,
    /// What stands between it and the API server, if anything does.
    pub(super) proxy: Option<ApiProxy>,
    client: reqwest::Client,
}

impl Operator {
    /// One that is not started yet; what is particular to Kubernetes or to a directory is up to `more`.
    pub(super) fn new(
        name: &str,
        program: &Path,
        namespace: &str,
        folder: &Path,
        periods: &Periods,
        more: impl FnOnce(&mut Process, SocketAddr),
    ) -> Result<Self> {
        let (feed, http) = (ports::free_address()?, ports::free_address()?);
        let mut process = Process::new(name, program.to_owned(), folder);
        process.args.push("run".into());
        process.flag("feed-listen", feed.to_string());
        process.flag("http-listen", http.to_string());
        process.flag("namespace", namespace);
        process.flag("identity", name);
        periods::flags(&mut process, periods);
        more(&mut process, feed);
        Ok(Self { process, feed, http, proxy: None, client: super::http_client()? })
    }

    /// The proxy between it and the API server, of a site whose plan is `proxied`.
    pub fn api(&self) -> Result<&ApiProxy> {
        self.proxy.as_ref().with_context(|| format!("{} asks the API server itself", self.process.name()))
    }

    /// What `/metrics` says.
    pub async fn metrics(&self) -> Result<String> {
        self.get("metrics").await
    }

    /// The value of one line of `/metrics`, such as `weir_leader` or `weir_feed_refused_total{reason="token"}`; 0 where it is not said.
    pub async fn metric(&self, line: &str) -> Result<f64> {
        super::metric(&self.metrics().await?, line)
    }

    /// Waits until `/readyz` misses nothing: it leads, or stands by.
    pub async fn await_ready(&self) -> Result<()> {
        let name = self.process.name();
        until(&format!("{name} is ready"), async || {
            ensure!(self.process.is_running(), "{name} has ended; its log:\n{}", self.process.child()?.log_tail(20));
            self.get("readyz").await.map(drop)
        })
        .await
    }

    /// What `/readyz` says, whatever its status.
    pub async fn ready(&self) -> Result<String> {
        Ok(self.client.get(format!("http://{}/readyz", self.http)).send().await?.text().await?)
    }

    async fn get(&self, path: &str) -> Result<String> {
        let answer = self.client.get(format!("http://{}/{path}", self.http)).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "/{path} of {}: {status}: {}", self.process.name(), text.trim_end());
        Ok(text)
    }

    /// Its `/metrics`, if it runs; for whoever looks at what is left.
    pub(super) async fn last_metrics(&self) -> String {
        match self.metrics().await.with_context(|| self.process.name().to_owned()) {
            Ok(text) => text,
            Err(error) => format!("{error:#}"),
        }
    }
}
