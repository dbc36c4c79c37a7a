//! The server's TLS: certificate and key from files, HTTP/2 and nothing else.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{StartError, TlsFiles};

/// Reads the files.
pub(super) fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, StartError> {
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| refused("certificate", &files.cert, &error))?;
    if chain.is_empty() {
        return Err(refused("certificate", &files.cert, &"the file holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| refused("key", &files.key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| refused("certificate", &files.cert, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn refused(what: &'static str, path: &Path, why: &dyn std::fmt::Display) -> StartError {
    StartError::Tls { what, path: path.to_owned(), why: why.to_string() }
}
