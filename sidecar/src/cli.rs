//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use url::Url;

/// Answers one streamer's config_external requests from a local replica, whatever happens upstream.
#[derive(Debug, Parser)]
#[command(name = "weir-sidecar", version)]
pub struct Cli {
    /// The operator's feed; several, or a name with several addresses, are tried in turn. http:// only on loopback.
    #[arg(long, value_name = "URL", required = true, value_delimiter = ',')]
    pub feed: Vec<Url>,
    /// Namespace of the Streamer.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// metadata.name of the Streamer; in Kubernetes that is the pod's name.
    #[arg(long, env = "POD_NAME")]
    pub streamer: String,
    /// Directory of the replica, of this streamer alone.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Where the streamer asks: its config_external is http://THIS/.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9980")]
    pub listen: SocketAddr,
    /// Where /healthz, /readyz and /metrics are.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:9981")]
    pub http_listen: SocketAddr,
    /// The streamer's own API, with user and password if it wants them: http://USER:PASSWORD@127.0.0.1:8080.
    #[arg(long, value_name = "URL", env = "STREAMER_API", hide_env_values = true)]
    streamer_api: Option<Hidden>,
    /// What the streamer sends as host. Default: --streamer.
    #[arg(long, value_name = "NAME")]
    streamer_hostname: Option<String>,
    /// An address at which others reach the streamer; may be repeated.
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub address: Vec<String>,
    /// Certificates that vouch for the operator. Default: the system's.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Token shown to the operator; read again for each connection.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Key that the streamer must show (http://KEY@HOST/), needed where --listen is not loopback.
    #[arg(long, value_name = "FILE")]
    listen_key_file: Option<PathBuf>,
    /// The pod's uid. Default: an id made once and kept in --data.
    #[arg(long, env = "POD_UID")]
    pub instance: Option<String>,
    /// Form of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Text that may hold a password: `Debug` does not show it.
#[derive(Clone)]
struct Hidden(String);

impl std::str::FromStr for Hidden {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

impl Cli {
    /// Refuses what would work and should not.
    pub fn check(&self) -> anyhow::Result<()> {
        for url in &self.feed {
            check_feed(url)?;
        }
        if !self.listen.ip().is_loopback() && self.listen_key_file.is_none() {
            bail!(
                "--listen {} can be reached by others, and the answers hold passwords: listen on 127.0.0.1, or give --listen-key-file",
                self.listen
            );
        }
        Ok(())
    }

    /// The streamer's hostname.
    pub fn hostname(&self) -> String {
        let hostname = self.streamer_hostname.as_ref();
        hostname.unwrap_or(&self.streamer).clone()
    }

    /// The streamer's own API. The error never shows the URL: it holds a password.
    pub fn streamer_api(&self) -> anyhow::Result<Option<Url>> {
        let Some(url) = &self.streamer_api else {
            return Ok(None);
        };
        let url: Url = url.0.parse().context("--streamer-api is no URL: write http://USER:PASSWORD@HOST:PORT")?;
        if !matches!(url.scheme(), "http" | "https") {
            bail!("--streamer-api must begin with http:// or https://");
        }
        Ok(Some(url))
    }

    /// The key that the streamer must show, if any.
    pub fn listen_key(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.listen_key_file else {
            return Ok(None);
        };
        let key =
            std::fs::read_to_string(path).with_context(|| format!("reading --listen-key-file {}", path.display()))?;
        let key = key.trim();
        if key.is_empty() {
            bail!("--listen-key-file {} is empty", path.display());
        }
        Ok(Some(key.to_owned()))
    }
}

fn check_feed(url: &Url) -> anyhow::Result<()> {
    if !url.username().is_empty() || url.password().is_some() {
        bail!("--feed must not hold a user or password: use --token-file");
    }
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "https" => Ok(()),
        "http" => {
            let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            if host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback()) {
                return Ok(());
            }
            bail!("--feed {url} would send passwords in the clear: use https://, or loopback")
        }
        scheme => bail!("--feed must begin with https://, not {scheme}://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cli(more: &[&str]) -> anyhow::Result<()> {
        let always = ["weir-sidecar", "--streamer", "s1", "--data", "/d"];
        let cli = Cli::try_parse_from(always.iter().chain(more))?;
        cli.check()?;
        cli.streamer_api().map(drop)
    }

    #[test]
    fn plain_http_is_for_loopback_alone() {
        cli(&["--feed", "http://127.0.0.1:1,http://[::1]:1,https://operator:1"]).unwrap();
        let error = cli(&["--feed", "http://operator:1"]).unwrap_err();
        assert!(error.to_string().contains("in the clear"), "{error}");
    }

    #[test]
    fn answers_that_others_could_fetch_need_a_key() {
        let open = ["--feed", "https://operator", "--listen", "0.0.0.0:9980"];
        let error = cli(&open).unwrap_err();
        assert!(error.to_string().contains("--listen-key-file"), "{error}");
        cli(&[&open[..], &["--listen-key-file", "/key"]].concat()).unwrap();
    }

    #[test]
    fn an_error_never_shows_the_password_of_the_streamers_api() {
        let wrong = ["--feed", "https://o", "--streamer-api", "user:hunter2@host"];
        let error = format!("{:?}", cli(&wrong).unwrap_err());
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn no_debug_output_shows_the_password_of_the_streamers_api() {
        let always = ["weir-sidecar", "--streamer", "s1", "--data", "/d", "--feed", "https://o"];
        let api = ["--streamer-api", "http://admin:hunter2@127.0.0.1:8080"];
        let cli = Cli::parse_from(always.iter().chain(&api));
        assert!(!format!("{cli:?}").contains("hunter2"), "{cli:?}");
        assert_eq!(cli.streamer_api().unwrap().unwrap().password(), Some("hunter2"));
    }
}
