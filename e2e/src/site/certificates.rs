//! The feed's TLS: an authority of the site's own, and a certificate for loopback.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

/// PEM files.
#[derive(Debug, Clone)]
pub(super) struct Certificates {
    /// What sidecars trust.
    pub authority: PathBuf,
    /// What operators serve with.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificates {
    /// Makes them in `folder`.
    pub(super) fn make(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let certificates =
            Self { authority: folder.join("ca.crt"), certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
        let (authority_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let mut serving = CertificateParams::new(["localhost".to_owned()])?;
        serving.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        serving.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        serving.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        std::fs::write(&certificates.authority, authority.self_signed(&authority_key)?.pem())?;
        let issuer = Issuer::new(authority, authority_key);
        std::fs::write(&certificates.certificate, serving.signed_by(&key, &issuer)?.pem())?;
        std::fs::write(&certificates.key, key.serialize_pem())?;
        Ok(certificates)
    }
}
