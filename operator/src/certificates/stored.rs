//! What is kept of the certificates that Weir made: one value, so that it changes as a whole. Times are seconds since the
//! Unix epoch.

use serde::{Deserialize, Serialize};

use super::{Names, Purpose};

/// Everything that was made and still matters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// From the oldest to the newest.
    pub authorities: Vec<Authority>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feed: Option<Leaf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Leaf>,
}

/// An authority (CA).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authority {
    /// Counts up.
    pub id: u64,
    /// PEM.
    pub certificate: String,
    /// Gone when another one signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    pub made: u64,
    pub expires: u64,
    /// When it had come into every bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<u64>,
    /// When the last that it signed expires.
    #[serde(default)]
    pub signed_until: u64,
}

/// A certificate that a server shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leaf {
    /// PEM.
    pub certificate: String,
    pub key: Key,
    pub names: Names,
    /// Who signed it.
    pub authority: u64,
    pub made: u64,
    pub expires: u64,
}

/// A private key, PEM. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub String);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Stored {
    /// What clients are to trust, PEM: every authority that something valid is, or soon will be, signed by.
    pub fn bundle(&self) -> String {
        self.authorities.iter().map(|authority| authority.certificate.as_str()).collect()
    }

    /// A certificate, if there is one.
    pub fn leaf(&self, purpose: Purpose) -> Option<&Leaf> {
        match purpose {
            Purpose::Feed => self.feed.as_ref(),
            Purpose::Webhook => self.webhook.as_ref(),
        }
    }

    /// Notes that the bundle, as it is here, has come everywhere.
    #[must_use]
    pub fn published(mut self, now: u64) -> Self {
        for authority in &mut self.authorities {
            authority.published.get_or_insert(now);
        }
        self
    }
}
