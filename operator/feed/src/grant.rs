//! Grants: proof, kept by sidecars, of what a leader once decided. They outlive a restored etcd.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::digest::hex;
use crate::record::StreamerId;

/// A message authentication code: the key's name, a colon, and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seal(pub String);

/// What a seal turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Made with one of our keys over exactly this.
    Ours,
    /// Made with a key that is not in the ring: corrects nothing, still blocks, and is shown as `Disputed`.
    UnknownKey,
    /// A key of ours, but over something else, or no seal at all.
    Forged,
}

/// The keys that grants and terms are sealed with, by name. The greatest name seals; all of them verify.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct KeyRing(BTreeMap<String, Vec<u8>>);

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl KeyRing {
    /// A ring of keys by name; a name must not contain a colon, a key must have at least 32 bytes.
    pub fn new(keys: BTreeMap<String, Vec<u8>>) -> Option<Self> {
        let sound = !keys.is_empty() && keys.iter().all(|(name, key)| !name.contains(':') && key.len() >= 32);
        sound.then_some(Self(keys))
    }

    /// Seals that `streamer` was given `name` under `epoch`.
    pub fn grant(&self, streamer: &StreamerId, name: &str, epoch: u64) -> Seal {
        self.seal(&["grant", &streamer.namespace, name, &streamer.name, &epoch.to_string()])
    }

    /// Whether [`KeyRing::grant`] made this seal.
    pub fn verify_grant(&self, seal: &Seal, streamer: &StreamerId, name: &str, epoch: u64) -> Verdict {
        self.verify(seal, &["grant", &streamer.namespace, name, &streamer.name, &epoch.to_string()])
    }

    /// Seals that a leader had `term`.
    pub fn term(&self, term: u64) -> Seal {
        self.seal(&["term", &term.to_string()])
    }

    /// Whether [`KeyRing::term`] made this seal.
    pub fn verify_term(&self, seal: &Seal, term: u64) -> Verdict {
        self.verify(seal, &["term", &term.to_string()])
    }

    fn seal(&self, parts: &[&str]) -> Seal {
        self.0
            .last_key_value()
            .map_or_else(|| Seal(String::new()), |(name, key)| Seal(format!("{name}:{}", hex(&mac(key, parts)))))
    }

    fn verify(&self, seal: &Seal, parts: &[&str]) -> Verdict {
        use subtle::ConstantTimeEq;
        let Some((name, code)) = seal.0.split_once(':') else {
            return Verdict::Forged;
        };
        let Some(key) = self.0.get(name) else {
            return Verdict::UnknownKey;
        };
        let ours: bool = hex(&mac(key, parts)).as_bytes().ct_eq(code.as_bytes()).into();
        if ours { Verdict::Ours } else { Verdict::Forged }
    }
}

fn mac(key: &[u8], parts: &[&str]) -> Vec<u8> {
    // HMAC takes a key of any length, so this arm is never reached with the empty code.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return Vec::new();
    };
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(name: &str, byte: u8) -> KeyRing {
        KeyRing::new(BTreeMap::from([(name.to_owned(), vec![byte; 32])])).unwrap()
    }

    fn streamer(name: &str) -> StreamerId {
        StreamerId { namespace: "media".into(), name: name.into() }
    }

    #[test]
    fn a_grant_fits_one_streamer_one_stream_and_one_epoch() {
        let ring = ring("k1", 7);
        let seal = ring.grant(&streamer("s1"), "bunny", 5);
        assert_eq!(ring.verify_grant(&seal, &streamer("s1"), "bunny", 5), Verdict::Ours);
        assert_eq!(ring.verify_grant(&seal, &streamer("s2"), "bunny", 5), Verdict::Forged);
        assert_eq!(ring.verify_grant(&seal, &streamer("s1"), "bunny", 6), Verdict::Forged);
    }

    #[test]
    fn a_grant_under_an_unknown_key_is_told_from_a_forged_one() {
        let seal = ring("k1", 7).grant(&streamer("s1"), "bunny", 5);
        assert_eq!(ring("k2", 7).verify_grant(&seal, &streamer("s1"), "bunny", 5), Verdict::UnknownKey);
        assert_eq!(ring("k1", 8).verify_grant(&seal, &streamer("s1"), "bunny", 5), Verdict::Forged);
    }

    #[test]
    fn a_ring_never_shows_its_keys() {
        assert_eq!(format!("{:?}", ring("k1", 7)), "[\"k1\"]");
    }
}
