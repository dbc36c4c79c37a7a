//! A certificate chain with its key, as a server shows it.

use std::ops::Range;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// A chain and the key of its first certificate.
#[derive(Debug, Clone)]
pub struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    valid: Range<i64>,
}

/// Why two texts are no pair. It never quotes them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    #[error("the key cannot be read: {0}")]
    Key(String),
    #[error("the key is not the certificate's: {0}")]
    Mismatch(String),
}

impl Pair {
    /// From PEM.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, PairError> {
        let unreadable = |error: &dyn std::fmt::Display| PairError::Certificate(error.to_string());
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| unreadable(&error))?;
        let Some(first) = chain.first() else {
            return Err(PairError::Certificate("there is none".into()));
        };
        let (_, parsed) = x509_parser::parse_x509_certificate(first).map_err(|error| unreadable(&error))?;
        let validity = parsed.validity();
        let valid = validity.not_before.timestamp()..validity.not_after.timestamp();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| PairError::Key(error.to_string()))?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider());
        let key = key.map_err(|error| PairError::Mismatch(error.to_string()))?;
        Ok(Self { key: key.into(), valid })
    }

    /// When it is valid, seconds since the Unix epoch.
    pub fn valid(&self) -> Range<i64> {
        self.valid.clone()
    }
}
