//! The certificates of the feed and of the webhook: from files, or made and renewed by Weir; exchanged without a restart.
//!
//! What is made and when is a pure plan ([`plan`]); the API server keeps it ([`crate::cluster::kubernetes`]).

use std::collections::BTreeSet;
use std::net::IpAddr;

use rustls::pki_types::DnsName;
use serde::{Deserialize, Serialize};

mod files;
mod issue;
mod metrics;
mod pair;
pub mod plan;
mod served;
pub mod stored;
#[cfg(test)]
mod tests;

pub use files::{FileError, Files};
pub use issue::bring_up_to_date;
pub use metrics::CertificateMetrics;
pub use pair::{Pair, PairError};
pub use served::Served;

/// What Weir makes certificates for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub feed: Names,
    /// Empty: there is no webhook.
    pub webhook: Names,
    /// The MutatingWebhookConfiguration whose `caBundle` is Weir's.
    pub webhook_configuration: Option<String>,
    pub lifetimes: Lifetimes,
}

/// Which certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    Feed,
    Webhook,
}

impl Purpose {
    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::Webhook => "webhook",
        }
    }
}

/// DNS names (a first label may be `*`) and addresses that a certificate is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names(BTreeSet<String>);

/// A text that no certificate can be for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no DNS name and no address: write it like weir-feed.weir-system.svc, *.example.com or 192.0.2.7")]
pub struct NoName(String);

impl Names {
    /// Names as a person gives them.
    pub fn new(given: &[String]) -> Result<Self, NoName> {
        let read = |name: &String| {
            let plain = name.strip_prefix("*.").unwrap_or(name);
            // Nobody looks for a name with a dot at its end, although it is one.
            let is_name = name.parse::<IpAddr>().is_ok() || (DnsName::try_from(plain).is_ok() && !plain.ends_with('.'));
            if is_name { Ok(name.clone()) } else { Err(NoName(name.clone())) }
        };
        given.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// How long certificates are valid, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    certificate: u64,
    authority: u64,
}

/// Lifetimes with which something would not be valid in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLifetimes {
    #[error(
        "--certificate-lifetime is at least 10s: its tenth is the time in which bundles must have reached the pods"
    )]
    Certificate,
    #[error(
        "--ca-lifetime is at least four times --certificate-lifetime: the next authority has to be known everywhere before the last one ends"
    )]
    Authority,
}

impl Default for Lifetimes {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self { certificate: 90 * DAY, authority: 3_650 * DAY }
    }
}

impl Lifetimes {
    /// Lifetimes that fit together.
    pub const fn new(certificate: u64, authority: u64) -> Result<Self, BadLifetimes> {
        if certificate < 10 {
            return Err(BadLifetimes::Certificate);
        }
        // A third of the authority's has to hold an overlap and a certificate.
        if authority / 4 < certificate {
            return Err(BadLifetimes::Authority);
        }
        Ok(Self { certificate, authority })
    }

    /// Of a certificate.
    pub const fn certificate(self) -> u64 {
        self.certificate
    }

    /// Of an authority.
    pub const fn authority(self) -> u64 {
        self.authority
    }

    /// For how long an authority is in every bundle before it signs: mounted bundles follow in that time.
    pub const fn overlap(self) -> u64 {
        self.certificate / 10
    }
}
