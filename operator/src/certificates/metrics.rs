//! What is told of certificates.

use std::ops::Range;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Purpose;

/// Metrics of certificates; clones count together.
#[derive(Debug, Clone, Default)]
pub struct CertificateMetrics {
    expiry: Family<Certificate, Gauge>,
    lifetime: Family<Certificate, Gauge>,
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
        registry.register_with_unit(
            "weir_certificate_lifetime",
            "For how long that certificate is valid in all: what is left of it is small or large by this",
            Unit::Seconds,
            self.lifetime.clone(),
        );
        registry.register(
            "weir_certificate_troubled",
            "1 while a newer certificate cannot be read, made or given out; /readyz or the log says why",
            self.troubled.clone(),
        );
    }

    /// This one is served, which is valid from the one to the other (seconds since the Unix epoch).
    pub fn serves(&self, purpose: Purpose, valid: Range<i64>) {
        self.tell(purpose.name(), valid);
    }

    /// The newest authority is valid for so long.
    pub fn authority(&self, valid: Range<i64>) {
        self.tell("ca", valid);
    }

    fn tell(&self, certificate: &'static str, valid: Range<i64>) {
        self.expiry.get_or_create(&Certificate { certificate }).set(valid.end);
        self.lifetime.get_or_create(&Certificate { certificate }).set(valid.end.saturating_sub(valid.start));
    }

    /// Whether something is wrong with a certificate.
    pub fn troubled(&self, purpose: Purpose, is: bool) {
        self.troubled.get_or_create(&Certificate { certificate: purpose.name() }).set(i64::from(is));
    }
}
