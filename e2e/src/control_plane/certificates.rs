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
pub(crate) struct Certificates {
    folder: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
    pub(super) ca: String,
    pub(super) admin_certificate: String,
    pub(super) admin_key: String,
}

impl Certificates {
    /// Makes all of them, in `folder`. `addresses`: where the API server is found, besides `localhost`; the address
    /// of the Service `kubernetes` is one of them.
    pub(super) fn make(folder: &Path, addresses: &[Ipv4Addr]) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let ca = certificate_authority()?;
        let (server_certificate, server_key) = api_server(&ca, addresses)?;
        let (admin_certificate, admin_key) = client(&ca, "kubernetes-admin", Some("system:masters"))?;
        // Who signs a token is not who checks it: the API server takes the public half apart.
        let service_account = KeyPair::generate()?;
        let certificates =
            Self { folder: folder.to_owned(), ca: ca.pem(), authority: ca, admin_certificate, admin_key };
        let (kubelets_client, kubelets_client_key) = certificates.kubelets_client_files();
        for (file, content) in [
            (certificates.ca_file(), &certificates.ca),
            (certificates.server_certificate_file(), &server_certificate),
            (certificates.server_key_file(), &server_key),
            (kubelets_client, &certificates.admin_certificate),
            (kubelets_client_key, &certificates.admin_key),
            (certificates.service_account_key_file(), &service_account.serialize_pem()),
            (certificates.service_account_public_key_file(), &service_account.public_key_pem()),
        ] {
            fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(certificates)
    }

    /// A client's certificate and its key, for a kubeconfig: `common_name` is the user, `organization` the group.
    pub(crate) fn client(&self, common_name: &str, organization: Option<&str>) -> Result<(String, String)> {
        client(&self.authority, common_name, organization)
    }

    /// What the API server shows to kubelets: it may do there what the administrator may.
    pub(super) fn kubelets_client_files(&self) -> (PathBuf, PathBuf) {
        (self.folder.join("kubelets-client.crt"), self.folder.join("kubelets-client.key"))
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
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
    let addresses = addresses.iter().copied().chain([Ipv4Addr::LOCALHOST]).map(IpAddr::V4);
    params.subject_alt_names.extend(addresses.map(SanType::IpAddress));
    issue(ca, &params)
}

fn client(
    ca: &CertifiedIssuer<'_, KeyPair>,
    common_name: &str,
    organization: Option<&str>,
) -> Result<(String, String)> {
    let mut params = named(common_name);
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
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
