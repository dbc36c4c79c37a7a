//! The flags of the certificates that Weir makes.

use clap::Args;
use weir_crds::Duration;

use super::{Refusal, refuse};
use crate::certificates::{Lifetimes, Names, Settings};

/// Of certificates that Weir makes and renews; for Kubernetes, without --tls-cert.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Certificates (in Kubernetes, without --tls-cert)")]
pub struct CertificateArgs {
    /// A name or address under which sidecars reach the feed; may be given several times.
    #[arg(long, value_name = "NAME")]
    feed_dns_name: Vec<String>,
    /// A name or address under which the API server reaches the webhook; may be given several times.
    #[arg(long, value_name = "NAME")]
    webhook_dns_name: Vec<String>,
    /// The MutatingWebhookConfiguration that is told whom to trust (its caBundle).
    #[arg(long, value_name = "NAME")]
    webhook_configuration: Option<String>,
    /// How long a certificate is valid; it is renewed after two thirds of that [default: 2160h, 90 days].
    #[arg(long, value_name = "DURATION")]
    certificate_lifetime: Option<Duration>,
    /// How long the authority (CA) that signs them is valid, likewise [default: 87600h, 10 years].
    #[arg(long, value_name = "DURATION")]
    ca_lifetime: Option<Duration>,
}

impl CertificateArgs {
    /// The first flag that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [
            (!self.feed_dns_name.is_empty(), "--feed-dns-name"),
            (!self.webhook_dns_name.is_empty(), "--webhook-dns-name"),
            (self.webhook_configuration.is_some(), "--webhook-configuration"),
            (self.certificate_lifetime.is_some(), "--certificate-lifetime"),
            (self.ca_lifetime.is_some(), "--ca-lifetime"),
        ];
        given.into_iter().find(|(is, _)| *is).map(|(_, flag)| flag)
    }

    /// What is to be made.
    pub(super) fn settings(&self) -> Result<Settings, Refusal> {
        if self.feed_dns_name.is_empty() {
            return refuse(
                "the feed carries passwords, so it needs a certificate: give --feed-dns-name with the name under which sidecars \
                 reach it, and Weir makes one; or bring one with --tls-cert and --tls-key (or --feed-insecure, on loopback)",
            );
        }
        if self.webhook_configuration.is_some() && self.webhook_dns_name.is_empty() {
            return refuse("--webhook-configuration needs --webhook-dns-name: the webhook's certificate is for a name");
        }
        let default = Lifetimes::default();
        let or = |given: Option<Duration>, default: u64| given.map_or(default, |given| given.as_ms() / 1_000);
        let lifetimes = Lifetimes::new(
            or(self.certificate_lifetime, default.certificate()),
            or(self.ca_lifetime, default.authority()),
        );
        Ok(Settings {
            feed: names("--feed-dns-name", &self.feed_dns_name)?,
            webhook: names("--webhook-dns-name", &self.webhook_dns_name)?,
            webhook_configuration: self.webhook_configuration.clone(),
            lifetimes: lifetimes.map_err(|error| Refusal(error.to_string()))?,
        })
    }
}

fn names(flag: &str, given: &[String]) -> Result<Names, Refusal> {
    Names::new(given).map_err(|error| Refusal(format!("{flag}: {error}")))
}
