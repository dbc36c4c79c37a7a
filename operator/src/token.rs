//! Tokens of streamers that are in no pod: made once, shown once, and kept as their hashes.
//!
//! A slow hash is for what people think up. Here are 256 random bits, which nobody guesses however fast he tries, and the
//! feed hashes a token whenever a sidecar connects: so SHA-256, once.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use rand::RngCore as _;
use sha2::{Digest as _, Sha256};
use weir_feed::digest::hex;
use weir_feed::record::StreamerId;

use crate::text::is_name;

mod command;
pub(crate) mod file;
pub(crate) mod secret;

pub use command::run;

/// What every token of ours begins with: no ServiceAccount's does, and whoever searches for leaked secrets finds it.
const PREFIX: &str = "weir_";

/// What a hash begins with where plain tokens may stand too.
const MARK: &str = "sha256:";

/// How many hexadecimal digits of its hash name a token.
const ID: usize = 12;

/// Whether a token is one of ours, to be looked up by its hash, rather than one that the API server is asked about.
pub fn is_ours(token: &str) -> bool {
    token.starts_with(PREFIX)
}

/// A new token.
fn make() -> String {
    let mut bits = [0; 32];
    rand::rng().fill_bytes(&mut bits);
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bits))
}

/// A token's SHA-256. How long a comparison takes tells of hashes, and from a hash nobody makes a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Hash([u8; 32]);

impl Hash {
    pub(crate) fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// The reverse of its `Display`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        // Signs are digits to the standard library alone.
        let hash = Self(bytes);
        (hash.to_string() == text).then_some(hash)
    }

    /// The name under which people revoke the token.
    pub(crate) fn id(self) -> String {
        self.to_string().chars().take(ID).collect()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id())
    }
}

/// Tokens with which streamers outside Kubernetes join the feed.
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    pub command: TokenCommand,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token for a Streamer and print it, this once: only its hash is kept.
    Create {
        /// metadata.name of the Streamer; it need not exist yet.
        #[arg(value_name = "STREAMER")]
        streamer: String,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Show which tokens there are.
    List {
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Take tokens back: the connections that were made with them end within seconds.
    Revoke {
        /// As token list shows it.
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// Where tokens are kept: as Secrets of the Streamers' namespace, or in a file.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// The Streamers' namespace; by default the kubeconfig's, or default.
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// Use this kubeconfig instead of KUBECONFIG.
    #[arg(long, value_name = "FILE", conflicts_with = "token_file")]
    kubeconfig: Option<PathBuf>,
    /// Without Kubernetes: the operator's --token-file.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A token, as far as anybody but its owner knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) hash: Hash,
    pub(crate) streamer: StreamerId,
    /// When it was made, where that is known.
    pub(crate) made: Option<jiff::Timestamp>,
}

/// A Streamer's full name, if it is one that Kubernetes would take.
fn streamer_id(namespace: &str, name: &str) -> anyhow::Result<StreamerId> {
    for (what, name) in [("namespace", namespace), ("Streamer", name)] {
        anyhow::ensure!(is_name(name), "{name:?} is no name of a {what}: small letters, digits, '-' and '.'");
    }
    Ok(StreamerId { namespace: namespace.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_new_every_time_and_is_told_from_a_service_accounts() {
        let (one, other) = (make(), make());
        assert_ne!(one, other);
        assert!(is_ours(&one) && one.len() == PREFIX.len() + 43, "{one}");
        assert!(!is_ours("eyJhbGciOiJSUzI1NiJ9.e30.c2ln"));
    }

    #[test]
    fn a_hash_is_read_as_it_is_written_and_in_no_other_way() {
        let hash = Hash::of("weir_x");
        assert_eq!(Hash::parse(&hash.to_string()), Some(hash));
        let text = hash.to_string();
        for wrong in ["", "00", &text.to_uppercase(), &text[1..], &format!("+{}", &text[1..]), &"é".repeat(32)] {
            assert_eq!(Hash::parse(wrong), None, "{wrong}");
        }
    }
}
