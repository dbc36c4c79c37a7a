//! How connections are made: to an address, with TLS where the URL says so.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

/// A way to reach addresses.
pub trait Connect: Clone + Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// A connection to `address`; who asks decides how long that may take.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// The machine's own network.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Connect for Tcp {
    type Stream = TcpStream;

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        // Frames are small and must not wait for more to come; without it they are only later.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// What HTTP is spoken over.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection to `url`'s server at `address`: the certificate's name is the URL's. `tls` is used where it is https.
pub(crate) async fn open<C: Connect>(
    connect: &C,
    url: &Url,
    address: SocketAddr,
    tls: impl FnOnce() -> anyhow::Result<ClientConfig>,
) -> anyhow::Result<Box<dyn Io>> {
    let stream = connect.connect(address).await.context("connecting")?;
    if url.scheme() != "https" {
        return Ok(Box::new(stream));
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).context("the name in the URL")?;
    let stream = TlsConnector::from(Arc::new(tls()?)).connect(name, stream).await.map_err(told)?;
    Ok(Box::new(stream))
}

/// What `openssl req -x509` makes by itself is an authority's certificate, and only rustls knows the word for that.
fn told(error: io::Error) -> anyhow::Error {
    let authority = error.to_string().contains("CaUsedAsEndEntity");
    let error = anyhow::Error::from(error);
    if authority {
        return error.context("its certificate is an authority's, no server's: make it with basicConstraints CA:FALSE");
    }
    error.context("TLS")
}

/// TLS with the certificates in `ca_file`, else the system's; `alpn` is what is spoken.
pub(crate) fn tls(ca_file: Option<&Path>, alpn: &[u8]) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = match ca_file {
        Some(path) => builder.with_root_certificates(roots(path)?).with_no_client_auth(),
        None => builder.with_platform_verifier().context("the system's certificates")?.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

fn roots(path: &Path) -> anyhow::Result<RootCertStore> {
    let none = || format!("--ca-file {} holds no certificates", path.display());
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).with_context(|| format!("reading --ca-file {}", path.display()))?;
    for certificate in certificates {
        roots.add(certificate.with_context(none)?).with_context(none)?;
    }
    anyhow::ensure!(!roots.is_empty(), none());
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    #[tokio::test]
    async fn of_an_authoritys_certificate_is_told_what_to_do() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, certificate.pem()).unwrap();

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accept = async { TlsAcceptor::from(Arc::new(server)).accept(listener.accept().await.unwrap().0).await };

        let url = Url::parse("https://localhost").unwrap();
        let (_, opened) = tokio::join!(accept, open(&Tcp, &url, address, || tls(Some(&file), b"h2")));
        let told = format!("{:#}", opened.err().unwrap());
        assert!(told.contains("make it with basicConstraints CA:FALSE"), "{told}");
    }
}
