//! What is told of certificates.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Purpose;

/// Metrics of certificates; clones count together.
#[derive(Debug, Clone, Default)]
pub struct CertificateMetrics {
    expiry: Family<Certificate, Gauge>,
    troubled: Family<Certificate, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Certificate {
    certificate: &'static str,
}

impl CertificateMetrics {
    /// Puts them into a registry, under their full names.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "weir_certificate_expiry_timestamp",
            "When the certificate that is served now expires, since the Unix epoch; ca: the newest authority",
            Unit::Seconds,
            self.expiry.clone(),
        );
        registry.register(
            "weir_certificate_troubled",
            "1 while a newer certificate cannot be read, made or given out; /readyz or the log says why",
            self.troubled.clone(),
        );
    }

    /// This one is served, until then (seconds since the Unix epoch).
    pub fn serves(&self, purpose: Purpose, expires: i64) {
        self.expiry.get_or_create(&Certificate { certificate: purpose.name() }).set(expires);
    }

    /// When the newest authority expires.
    pub fn authority(&self, expires: u64) {
        let expires = i64::try_from(expires).unwrap_or(i64::MAX);
        self.expiry.get_or_create(&Certificate { certificate: "ca" }).set(expires);
    }

    /// Whether something is wrong with a certificate.
    pub fn troubled(&self, purpose: Purpose, is: bool) {
        self.troubled.get_or_create(&Certificate { certificate: purpose.name() }).set(i64::from(is));
    }
}
