//! The command line.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, CommandFactory, FromArgMatches, Parser, ValueEnum};
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
    /// Login of the streamer's own API, USER:PASSWORD or a token, where it does not stand in --streamer-api.
    #[arg(long, value_name = "FILE", requires = "streamer_api")]
    streamer_api_secret_file: Option<PathBuf>,
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
        self.streamer_api.as_ref().map(|url| api_url("--streamer-api", url)).transpose()
    }

    /// What `--streamer-api-secret-file` holds.
    pub fn streamer_api_secret(&self) -> anyhow::Result<Option<String>> {
        secret("--streamer-api-secret-file", self.streamer_api_secret_file.as_deref())
    }

    /// The key that the streamer must show, if any.
    pub fn listen_key(&self) -> anyhow::Result<Option<String>> {
        secret("--listen-key-file", self.listen_key_file.as_deref())
    }
}

/// The streamer's own API, by the flag that names it. The error never shows the URL: it may hold a password.
fn api_url(flag: &str, url: &Hidden) -> anyhow::Result<Url> {
    let url: Url = url.0.parse().with_context(|| format!("{flag} is no URL: write http://USER:PASSWORD@HOST:PORT"))?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("{flag} must begin with http:// or https://");
    }
    Ok(url)
}

/// What a file with a secret holds, without white space around it.
fn secret(flag: &str, path: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(path) = path else {
        return Ok(None);
    };
    let secret = std::fs::read_to_string(path).with_context(|| format!("reading {flag} {}", path.display()))?;
    let secret = secret.trim();
    if secret.is_empty() {
        bail!("{flag} {} is empty", path.display());
    }
    Ok(Some(secret.to_owned()))
}

/// What one run of the program is to do.
#[derive(Debug)]
pub enum Program {
    /// Answer the streamer.
    Run(Box<Cli>),
    /// Set the streamer's config_external to this sidecar, and see whether it polls.
    Attach(AttachArgs),
    /// Put back what the streamer had before.
    Detach(NearArgs),
}

impl Program {
    /// Reads the command line: flags alone run the sidecar.
    pub fn parse<I, T>(words: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let attach = "Set the streamer's config_external to this sidecar, over its own API, and see whether it polls";
        let detach = "Put back the config_external that the streamer had before attach";
        let matches = Cli::command()
            .subcommand(AttachArgs::augment_args(clap::Command::new("attach").about(attach)))
            .subcommand(NearArgs::augment_args(clap::Command::new("detach").about(detach)))
            .subcommand_negates_reqs(true)
            .args_conflicts_with_subcommands(true)
            .try_get_matches_from(words)?;
        match matches.subcommand() {
            Some(("attach", matches)) => AttachArgs::from_arg_matches(matches).map(Self::Attach),
            Some((_, matches)) => NearArgs::from_arg_matches(matches).map(Self::Detach),
            None => Cli::from_arg_matches(&matches).map(|cli| Self::Run(Box::new(cli))),
        }
    }
}

/// Where a streamer and its sidecar are, for whoever brings them together.
#[derive(Debug, Args)]
pub struct NearArgs {
    /// The streamer's own API: http://127.0.0.1:8080.
    #[arg(long, value_name = "URL", env = "STREAMER_API", hide_env_values = true)]
    api: Hidden,
    /// Login of the streamer's API, USER:PASSWORD or a token, where it does not stand in --api.
    #[arg(long, value_name = "FILE")]
    api_secret_file: Option<PathBuf>,
    /// The sidecar's --data directory: what the streamer had before is kept there.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The sidecar's --listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9980")]
    listen: SocketAddr,
    /// The sidecar's --listen-key-file.
    #[arg(long, value_name = "FILE")]
    listen_key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct AttachArgs {
    #[command(flatten)]
    pub near: NearArgs,
    /// The sidecar's --http-listen, which tells whether the streamer polls.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9981")]
    pub http_listen: SocketAddr,
    /// Take the place of another backend. Its streams end on this streamer, but for those that Weir gives it.
    #[arg(long)]
    pub replace: bool,
    /// How long to wait for the streamer's first poll.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub wait: u64,
}

impl NearArgs {
    /// The streamer's API, and the login for it.
    pub fn api(&self) -> anyhow::Result<(Url, Option<String>)> {
        Ok((api_url("--api", &self.api)?, secret("--api-secret-file", self.api_secret_file.as_deref())?))
    }

    /// What the streamer is to have as `config_external`.
    pub fn backend(&self) -> anyhow::Result<String> {
        let address = near(self.listen);
        let Some(key) = secret("--listen-key-file", self.listen_key_file.as_deref())? else {
            return Ok(format!("http://{address}/"));
        };
        // How streamers read anything else in a URL is not known.
        if !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) {
            bail!(
                "the key in --listen-key-file is to stand in a URL: make it of letters, digits, '-', '.', '_' and '~'"
            );
        }
        Ok(format!("http://{key}@{address}/"))
    }
}

/// Where something that listens on `address` is reached on this machine.
pub fn near(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn check_feed(url: &Url) -> anyhow::Result<()> {
    if !url.username().is_empty() || url.password().is_some() {
        bail!("--feed must not hold a user or password: use --token-file");
    }
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "https" => Ok(()),
        "http" => {
            let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
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

    #[test]
    fn flags_alone_run_the_sidecar_and_a_word_before_them_does_something_else() {
        let always = ["weir-sidecar", "--streamer", "s1", "--data", "/d", "--feed", "https://o"];
        assert!(matches!(Program::parse(always), Ok(Program::Run(_))));
        let near = ["--api", "http://admin:hunter2@127.0.0.1:8080", "--data", "/d", "--listen", "0.0.0.0:9990"];
        let attach = Program::parse(["weir-sidecar", "attach"].iter().chain(&near).chain(&["--replace"])).unwrap();
        assert!(!format!("{attach:?}").contains("hunter2"), "{attach:?}");
        let Program::Attach(attach) = attach else { panic!("{attach:?}") };
        assert_eq!((attach.near.backend().unwrap().as_str(), attach.replace), ("http://127.0.0.1:9990/", true));
        assert!(matches!(Program::parse(["weir-sidecar", "detach"].iter().chain(&near)), Ok(Program::Detach(_))));
        assert!(Program::parse(["weir-sidecar", "attach", "--data", "/d"]).is_err());
        assert!(Program::parse(["weir-sidecar", "--streamer", "s1"]).is_err());
    }

    #[test]
    fn a_key_that_a_url_would_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let near = ["weir-sidecar", "detach", "--api", "http://h", "--data", "/d", "--listen-key-file"];
        let backend = |key: &str| {
            std::fs::write(&file, key).unwrap();
            let parsed = Program::parse(near.iter().chain([&file.to_str().unwrap()]));
            let Program::Detach(near) = parsed.unwrap() else { panic!() };
            near.backend()
        };
        assert_eq!(backend("k3y\n").unwrap(), "http://k3y@127.0.0.1:9980/");
        let error = backend("s3cret/1").unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn the_systemd_unit_starts_a_sidecar() {
        let unit = include_str!("../../dist/systemd/weir-sidecar.service").replace("\\\n", " ");
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let start =
            start.replace("${WEIR_FEED}", "https://feed.example.com:9443").replace(" $WEIR_SIDECAR_OPTIONS", "");
        let Program::Run(cli) = Program::parse(start.split_whitespace()).unwrap() else { panic!() };
        cli.check().unwrap();
    }
}
