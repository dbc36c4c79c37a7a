//! The command line.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use url::Url;
use weir_crds::Duration;
use weir_feed::periods::Periods;

use self::certificates::CertificateArgs;
use crate::export::ExportArgs;
use crate::inject;
use crate::token::TokenArgs;

mod certificates;

/// Decides which streamer captures each stream, and feeds the sidecars.
#[derive(Debug, Parser)]
#[command(name = "weir-operator", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator: in a Kubernetes cluster, or over a directory of manifests.
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinitions, for kubectl apply.
    Crds,
    /// Show what a running operator over a directory of manifests has, as kubectl get would.
    Get(GetArgs),
    /// Print manifests with the sidecar in their pods.
    Inject(InjectArgs),
    /// Ask an installation whether it is well, from where a sidecar would be.
    Check(CheckArgs),
    /// Make, list and revoke tokens with which streamers outside Kubernetes join the feed.
    Token(TokenArgs),
    /// Print what a directory of manifests and its state hold, for a cluster in which nothing is to move.
    Export(ExportArgs),
    /// Serve the mutating webhook that puts the sidecar into pods.
    Webhook(Box<WebhookArgs>),
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Where sidecars connect to the feed, like 0.0.0.0:9443.
    #[arg(long, value_name = "ADDR")]
    pub feed_listen: SocketAddr,
    /// Where health, metrics and (without Kubernetes) objects are served, like 127.0.0.1:9981.
    #[arg(long, value_name = "ADDR")]
    pub http_listen: SocketAddr,
    /// Look after this namespace; may be given several times. By default all.
    #[arg(long, value_name = "NS")]
    pub namespace: Vec<String>,
    /// The operator's own namespace, for its Lease and its keys.
    #[arg(long, value_name = "NS", env = "POD_NAMESPACE")]
    pub own_namespace: Option<String>,
    /// Work on this directory of manifests instead of a Kubernetes cluster.
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// With --manifests: where Placements and keys are kept.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Speak plain HTTP on the feed; on loopback only.
    #[arg(long)]
    pub feed_insecure: bool,
    /// The feed's certificate chain, PEM; read again when it changes. In Kubernetes Weir makes one without it.
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the feed's certificate, PEM; read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// With --manifests: sidecars' tokens, each line NAMESPACE/STREAMER TOKEN, or sha256: and the token's hash; see token create.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The audience that sidecars' ServiceAccount tokens must have.
    #[arg(long, value_name = "AUDIENCE", default_value = "weir.dev")]
    pub token_audience: String,
    /// Where sidecars find this operator's feed; a standby's sidecars are sent there.
    #[arg(long, value_name = "URL")]
    pub feed_advertise: Option<String>,
    /// This operator's name in the election; by default the host's.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub identity: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Use this kubeconfig instead of the Pod's ServiceAccount or KUBECONFIG.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub certificates: CertificateArgs,
    #[command(flatten)]
    pub periods: PeriodArgs,
}

/// The periods of the protocol; all sidecars get them from here.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Periods")]
pub struct PeriodArgs {
    /// The longest time between two polls of a streamer [default: 3s].
    #[arg(long = "period-poll", value_name = "DURATION")]
    poll: Option<Duration>,
    /// Between two pings, and two signs of life of a sidecar [default: 1s].
    #[arg(long = "period-ping", value_name = "DURATION")]
    ping: Option<Duration>,
    /// After so much silence a sidecar leaves its connection [default: 5s].
    #[arg(long = "period-silence", value_name = "DURATION")]
    silence: Option<Duration>,
    /// A streamer that asked nothing for so long is not alive [default: 9s].
    #[arg(long = "period-alive", value_name = "DURATION")]
    alive: Option<Duration>,
    /// How long the Lease holds without being renewed [default: 15s].
    #[arg(long = "period-lease", value_name = "DURATION")]
    lease: Option<Duration>,
    /// How long a new leader waits at most for Streamers it expects, and a newcomer for a name in use [default: 15s].
    #[arg(long = "period-takeover", value_name = "DURATION")]
    period: Option<Duration>,
    /// A release that takes longer is called off [default: 30s].
    #[arg(long = "period-release", value_name = "DURATION")]
    release: Option<Duration>,
    /// How long a stream with StopCapturing is served after the last request of its streamer that a leader has heard of
    /// [default: 35s].
    #[arg(long = "period-stream-lease", value_name = "DURATION")]
    stream_lease: Option<Duration>,
    /// How long whoever asks a sidecar's GET /lease takes at most to kill a streamer that it refuses [default: 20s].
    #[arg(long = "period-kill", value_name = "DURATION")]
    kill: Option<Duration>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Args)]
pub struct GetArgs {
    /// streams, streamers, placements or events.
    #[arg(value_name = "TYPE")]
    pub resource: String,
    /// Only these objects.
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    #[arg(short, long, value_name = "NS", default_value = "default")]
    pub namespace: String,
    /// Of all namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    #[arg(short, long, value_enum)]
    pub output: Option<Output>,
    /// The operator's --http-listen.
    #[arg(long, value_name = "URL", env = "WEIR_OPERATOR", default_value = "http://127.0.0.1:9981")]
    pub server: String,
}

#[derive(Debug, Args)]
pub struct InjectArgs {
    /// Manifests with pods, or with what makes pods; - is standard input. Those labelled weir.dev/inject: "true" are injected.
    #[arg(short, long, value_name = "FILE")]
    pub filename: PathBuf,
    #[command(flatten)]
    pub sidecar: SidecarArgs,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Somebody's --http-listen, like http://weir-feed.weir-system.svc:9981; all of its addresses are asked.
    #[arg(long, value_name = "URL")]
    pub ready: Vec<Url>,
    /// The feed, like https://weir-feed.weir-system.svc:9443; all of its addresses are asked.
    #[arg(long, value_name = "URL", required_unless_present = "ready")]
    pub feed: Vec<Url>,
    /// The feed's certificate authorities, PEM.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct WebhookArgs {
    /// Where the API server connects to, like 0.0.0.0:9444.
    #[arg(long, value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Where health and metrics are served, like 0.0.0.0:9982.
    #[arg(long, value_name = "ADDR")]
    pub http_listen: SocketAddr,
    /// The webhook's certificate chain, PEM; read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub tls_cert: PathBuf,
    /// The key of the webhook's certificate, PEM; read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub tls_key: PathBuf,
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
    #[command(flatten)]
    pub sidecar: SidecarArgs,
}

/// What is the same for the sidecars of all pods.
#[derive(Debug, Args)]
pub struct SidecarArgs {
    /// The sidecar's image.
    #[arg(long, value_name = "IMAGE")]
    pub sidecar_image: String,
    /// Always, IfNotPresent or Never; without it the cluster's own default.
    #[arg(long, value_name = "POLICY")]
    pub sidecar_image_pull_policy: Option<String>,
    /// Where sidecars reach the feed, like https://weir-feed.weir-system.svc:9443.
    #[arg(long, value_name = "URL", required = true, value_delimiter = ',')]
    pub feed: Vec<String>,
    /// The ConfigMap of the pod's namespace that has the feed's certificates, as ca.crt.
    #[arg(long, value_name = "NAME", default_value = "weir-ca")]
    pub ca_config_map: String,
    /// The audience of the sidecars' ServiceAccount tokens, as the operator's.
    #[arg(long, value_name = "AUDIENCE", default_value = "weir.dev")]
    pub token_audience: String,
    /// The operator's --period-kill: with weir.dev/lease-probe no pod is made that could capture for longer [default: 20s].
    #[arg(long = "period-kill", value_name = "DURATION")]
    kill: Option<Duration>,
}

impl SidecarArgs {
    /// As [`crate::inject::patch`] takes them.
    pub fn settings(&self) -> inject::Settings {
        inject::Settings {
            image: self.sidecar_image.clone(),
            image_pull_policy: self.sidecar_image_pull_policy.clone(),
            feed: self.feed.clone(),
            audience: self.token_audience.clone(),
            ca_config_map: self.ca_config_map.clone(),
            kill: self.kill.unwrap_or(Duration::from_ms(Periods::default().kill)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Wide,
    Json,
    Yaml,
}

/// What `run` is to do: flags that fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub feed_listen: SocketAddr,
    pub http_listen: SocketAddr,
    /// Empty: all.
    pub namespaces: BTreeSet<String>,
    pub place: Place,
    pub feed: FeedSecurity,
    pub feed_advertise: Option<String>,
    pub identity: String,
    pub log_format: LogFormat,
    pub periods: Periods,
}

/// Where resources live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Kubernetes { own_namespace: Option<String>, kubeconfig: Option<PathBuf>, token_audience: String },
    Manifests { manifests: PathBuf, state: PathBuf, token_file: Option<PathBuf> },
}

/// How the feed is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedSecurity {
    /// Plain HTTP, on loopback.
    Insecure,
    /// With certificates from files.
    Files(crate::certificates::Files),
    /// With certificates that Weir makes.
    Made(crate::certificates::Settings),
}

/// Flags that do not fit together: a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

impl RunArgs {
    /// Checks the flags against each other. `hostname` stands in for a missing `--identity`.
    pub fn settings(self, hostname: &str) -> Result<Settings, Refusal> {
        let feed = self.feed()?;
        let place = self.place(&feed)?;
        let periods = self.periods.periods()?;
        Ok(Settings {
            feed_listen: self.feed_listen,
            http_listen: self.http_listen,
            namespaces: self.namespace.into_iter().collect(),
            place,
            feed,
            feed_advertise: self.feed_advertise,
            identity: self.identity.filter(|identity| !identity.is_empty()).unwrap_or_else(|| hostname.to_owned()),
            log_format: self.log_format,
            periods,
        })
    }

    fn feed(&self) -> Result<FeedSecurity, Refusal> {
        let security = match (self.feed_insecure, &self.tls_cert, &self.tls_key) {
            (false, Some(cert), Some(key)) => {
                FeedSecurity::Files(crate::certificates::Files { cert: cert.clone(), key: key.clone() })
            }
            (true, None, None) if self.feed_listen.ip().is_loopback() => FeedSecurity::Insecure,
            (true, None, None) => {
                return refuse(format!(
                    "--feed-insecure would send passwords in the clear over the network: listen on loopback instead of {}, or give --tls-cert and --tls-key",
                    self.feed_listen
                ));
            }
            (true, ..) => {
                return refuse("--feed-insecure and TLS exclude each other: leave out the one you do not want");
            }
            (false, None, None) if self.manifests.is_none() => {
                return self.certificates.settings().map(FeedSecurity::Made);
            }
            (false, None, None) => {
                return refuse(
                    "the feed carries passwords: give --tls-cert and --tls-key (or --feed-insecure, on loopback)",
                );
            }
            (false, ..) => return refuse("--tls-cert and --tls-key belong together: give both"),
        };
        match self.certificates.given() {
            None => Ok(security),
            Some(flag) => refuse(format!(
                "{flag} is of certificates that Weir makes: that is in Kubernetes alone, and without --tls-cert and --feed-insecure"
            )),
        }
    }

    fn place(&self, feed: &FeedSecurity) -> Result<Place, Refusal> {
        let Some(manifests) = self.manifests.clone() else {
            return match (&self.state, &self.token_file) {
                (Some(_), _) => refuse("--state is for --manifests: in a cluster the API server keeps the state"),
                (_, Some(_)) => refuse(
                    "--token-file is for --manifests: in a cluster sidecars show ServiceAccount tokens, or those of weir-operator token create",
                ),
                _ => Ok(Place::Kubernetes {
                    own_namespace: self.own_namespace.clone(),
                    kubeconfig: self.kubeconfig.clone(),
                    token_audience: self.token_audience.clone(),
                }),
            };
        };
        if self.kubeconfig.is_some() {
            return refuse(
                "--kubeconfig and --manifests exclude each other: the operator works on a cluster or on a directory",
            );
        }
        let Some(state) = self.state.clone() else {
            return refuse("--manifests needs --state: a directory where Placements and keys are kept");
        };
        if self.token_file.is_none() && *feed != FeedSecurity::Insecure {
            return refuse("without Kubernetes sidecars prove who they are by a token: give --token-file");
        }
        // State among the manifests would be read as manifests.
        if state.starts_with(&manifests) {
            return refuse(format!("--state {} lies within --manifests: keep them apart", state.display()));
        }
        Ok(Place::Manifests { manifests, state, token_file: self.token_file.clone() })
    }
}

impl PeriodArgs {
    /// The periods, if their inequalities hold.
    fn periods(&self) -> Result<Periods, Refusal> {
        let default = Periods::default();
        let or = |given: Option<Duration>, default: u64| given.map_or(default, Duration::as_ms);
        let periods = Periods {
            poll: or(self.poll, default.poll),
            ping: or(self.ping, default.ping),
            silence: or(self.silence, default.silence),
            alive: or(self.alive, default.alive),
            lease: or(self.lease, default.lease),
            period: or(self.period, default.period),
            release: or(self.release, default.release),
            stream_lease: or(self.stream_lease, default.stream_lease),
            kill: or(self.kill, default.kill),
        };
        periods.check().map_err(|error| Refusal(error.to_string()))?;
        Ok(periods)
    }
}

fn refuse<T>(sentence: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(sentence.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn settings(flags: &str) -> Result<Settings, Refusal> {
        let words =
            ["weir-operator", "run", "--http-listen", "127.0.0.1:9981"].into_iter().chain(flags.split_whitespace());
        let Command::Run(args) = Cli::try_parse_from(words).unwrap().command else { panic!() };
        args.settings("host-1")
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_directory_or_a_cluster() {
        let manual = settings(
            "--feed-listen 127.0.0.1:9443 --feed-insecure --manifests m --state s --namespace a --namespace b",
        )
        .unwrap();
        assert_eq!(manual.place, Place::Manifests { manifests: "m".into(), state: "s".into(), token_file: None });
        assert_eq!(
            (manual.feed, manual.namespaces.len(), manual.identity.as_str()),
            (FeedSecurity::Insecure, 2, "host-1")
        );

        let cluster =
            settings("--feed-listen 0.0.0.0:9443 --tls-cert c --tls-key k --own-namespace weir --identity pod-1")
                .unwrap();
        assert!(matches!(cluster.place, Place::Kubernetes { own_namespace: Some(own), .. } if own == "weir"));
        assert_eq!((cluster.identity.as_str(), cluster.periods), ("pod-1", Periods::default()));
    }

    #[test]
    fn flags_that_do_not_fit_are_refused_with_a_sentence() {
        let local = "--feed-listen 127.0.0.1:9443";
        for (flags, what) in [
            ("--feed-listen 0.0.0.0:9443 --feed-insecure", "in the clear"),
            (local, "give --feed-dns-name"),
            (&format!("{local} --manifests m --state s"), "give --tls-cert"),
            (&format!("{local} --feed-insecure --feed-dns-name f"), "that Weir makes"),
            (&format!("{local} --feed-dns-name not_a/name"), "--feed-dns-name: not_a/name"),
            (&format!("{local} --feed-dns-name f --webhook-configuration w"), "needs --webhook-dns-name"),
            (&format!("{local} --feed-dns-name f --ca-lifetime 1h"), "at least four times"),
            (&format!("{local} --tls-cert c"), "belong together"),
            (&format!("{local} --feed-insecure --tls-cert c --tls-key k"), "exclude each other"),
            (&format!("{local} --feed-insecure --state s"), "--state is for --manifests"),
            (&format!("{local} --feed-insecure --token-file t"), "--token-file is for --manifests"),
            (&format!("{local} --feed-insecure --manifests m"), "needs --state"),
            (&format!("{local} --feed-insecure --manifests m --state m/s"), "keep them apart"),
            (&format!("{local} --feed-insecure --manifests m --state s --kubeconfig k"), "exclude each other"),
            (&format!("{local} --tls-cert c --tls-key k --manifests m --state s"), "give --token-file"),
            (&format!("{local} --feed-insecure --period-silence 2s"), "three pings"),
        ] {
            let error = settings(flags).unwrap_err().to_string();
            assert!(error.contains(what), "{flags}: {error}");
        }
    }

    #[test]
    fn without_a_certificate_of_its_own_weir_makes_one_for_the_names_given() {
        let flags = "--feed-listen 0.0.0.0:9443 --feed-dns-name weir-feed.weir-system.svc --feed-dns-name 192.0.2.7 \
                     --webhook-dns-name weir-webhook.weir-system.svc --webhook-configuration weir --certificate-lifetime 1h";
        let FeedSecurity::Made(made) = settings(flags).unwrap().feed else { panic!() };
        assert_eq!((made.feed.iter().count(), made.webhook.iter().count()), (2, 1));
        assert_eq!((made.lifetimes.certificate(), made.webhook_configuration.as_deref()), (3_600, Some("weir")));
    }

    #[test]
    fn periods_are_durations() {
        let flags = "--feed-listen 127.0.0.1:9443 --feed-insecure --period-poll 300ms --period-ping 100ms --period-silence 500ms \
                     --period-alive 900ms --period-lease 1s500ms --period-takeover 1s500ms --period-release 3s";
        let periods = settings(flags).unwrap().periods;
        assert_eq!((periods.poll, periods.lease, periods.release), (300, 1_500, 3_000));
        let words = "weir-operator run --feed-listen 127.0.0.1:1 --http-listen 127.0.0.1:2 --period-poll 3";
        let error = Cli::try_parse_from(words.split(' ')).unwrap_err().to_string();
        assert!(error.contains("write it like 30s"), "{error}");
    }

    #[test]
    fn the_systemd_unit_starts_an_operator() {
        let unit = include_str!("../../dist/systemd/weir-operator.service").replace("\\\n", " ");
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let words = start.split_whitespace().filter(|word| !word.starts_with('$'));
        let Command::Run(args) = Cli::try_parse_from(words).unwrap().command else { panic!() };
        args.settings("host-1").unwrap();
    }
}
