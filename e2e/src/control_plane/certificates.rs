//! The keys and certificates that an API server and its administrator need.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

/// The names under which the API server is reached, here and from pods.
const API_SERVER_NAMES: [&str; 5] =
    ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];

/// Where the files lie, and what goes into a kubeconfig (PEM).
pub(super) struct Certificates {
    folder: PathBuf,
    pub(super) ca: String,
    pub(super) admin_certificate: String,
    pub(super) admin_key: String,
}

impl Certificates {
    /// Makes all of them, in `folder`. `service_address` is the address of the Service
    /// `kubernetes`.
    pub(super) fn make(folder: &Path, service_address: Ipv4Addr) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let ca = certificate_authority()?;
        let addresses = [Ipv4Addr::LOCALHOST, service_address];
        let (server_certificate, server_key) = api_server(&ca, &addresses)?;
        let (admin_certificate, admin_key) = administrator(&ca)?;
        // Who signs a token is not who checks it: the API server takes the public half apart.
        let service_account = KeyPair::generate()?;
        let certificates = Self { folder: folder.to_owned(), ca: ca.pem(), admin_certificate, admin_key };
        for (file, content) in [
            (certificates.ca_file(), &certificates.ca),
            (certificates.server_certificate_file(), &server_certificate),
            (certificates.server_key_file(), &server_key),
            (certificates.service_account_key_file(), &service_account.serialize_pem()),
            (certificates.service_account_public_key_file(), &service_account.public_key_pem()),
        ] {
            fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(certificates)
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    pub(super) fn server_certificate_file(&self) -> PathBuf {
        self.folder.join("kube-apiserver.crt")
    }

    pub(super) fn server_key_file(&self) -> PathBuf {
        self.folder.join("kube-apiserver.key")
    }

    pub(super) fn service_account_key_file(&self) -> PathBuf {
        self.folder.join("service-account.key")
    }

    pub(super) fn service_account_public_key_file(&self) -> PathBuf {
        self.folder.join("service-account.pub")
    }
}

fn certificate_authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = named("weir-e2e");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn api_server(ca: &CertifiedIssuer<'_, KeyPair>, addresses: &[Ipv4Addr]) -> Result<(String, String)> {
    let mut params = named("kube-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in API_SERVER_NAMES {
        let name = SanType::DnsName(name.try_into()?);
        params.subject_alt_names.push(name);
    }
    let addresses = addresses.iter().copied().map(IpAddr::V4);
    params.subject_alt_names.extend(addresses.map(SanType::IpAddress));
    issue(ca, &params)
}

/// Of the group `system:masters`, which may do everything.
fn administrator(ca: &CertifiedIssuer<'_, KeyPair>) -> Result<(String, String)> {
    let mut params = named("kubernetes-admin");
    let group = "system:masters";
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    issue(ca, &params)
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

/// The certificate and its key, both PEM.
fn issue(ca: &CertifiedIssuer<'_, KeyPair>, params: &CertificateParams) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, ca)?;
    Ok((certificate.pem(), key.serialize_pem()))
}
