//! The feed over TLS: only the certificate that was given vouches for the operator.

mod common;

use axum_server::tls_rustls::RustlsConfig;
use common::{Conn, Sidecar, feed};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// A certificate for `localhost` and its key, both PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// A leader with a certificate for `localhost`; its address, and the certificate's file.
async fn leader(data: &TempDir) -> (String, String, mpsc::Receiver<Conn>) {
    let (url, file, conns, _) = leader_that_may_change(data).await;
    (url, file, conns)
}

/// The same, with a way to give it another certificate.
async fn leader_that_may_change(data: &TempDir) -> (String, String, mpsc::Receiver<Conn>, RustlsConfig) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (certificate, key) = certificate();
    let file = data.path().join("ca.pem");
    std::fs::write(&file, &certificate).unwrap();
    let config = RustlsConfig::from_pem(certificate.into(), key.into()).await.unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, conns) = mpsc::channel(10);
    let server = axum_server::from_tcp_rustls(listener, config.clone()).unwrap();
    tokio::spawn(server.serve(feed(sender).into_make_service()));
    (format!("https://localhost:{port}"), file.to_str().unwrap().to_owned(), conns, config)
}

#[tokio::test]
async fn the_given_certificate_is_trusted() {
    let data = TempDir::new().unwrap();
    let (url, ca, mut conns) = leader(&data).await;
    let sidecar = Sidecar::start(data.path(), &url, &["--ca-file", &ca]).await;
    let mut conn = conns.recv().await.unwrap();
    conn.welcome(10).await;
    conn.mark().await;
    assert_eq!(sidecar.ask("").await.0, 200);
    sidecar.stop().await;
}

#[tokio::test]
async fn another_certificate_is_not() {
    let data = TempDir::new().unwrap();
    let (url, _, mut conns) = leader(&data).await;
    let other = TempDir::new().unwrap();
    let (_, ca, _) = leader(&other).await;
    let sidecar = Sidecar::start(data.path(), &url, &["--ca-file", &ca]).await;
    // It has tried, several times, and no connection has come through.
    loop {
        let metrics = sidecar.health("/metrics").await.1;
        let tried = metrics.lines().find(|line| line.starts_with("weir_sidecar_feed_connections_total"));
        let tried = tried.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        if tried.is_some_and(|tried| tried >= 3) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(conns.try_recv().is_err());
    assert_eq!(sidecar.ask("").await.0, 503);
    sidecar.stop().await;
}

#[tokio::test]
async fn certificates_are_read_anew_for_each_connection() {
    let data = TempDir::new().unwrap();
    let (url, ca, mut conns, config) = leader_that_may_change(&data).await;
    let sidecar = Sidecar::start(data.path(), &url, &["--ca-file", &ca]).await;
    let mut first = conns.recv().await.unwrap();
    first.welcome(10).await;
    first.mark().await;
    let (next, key) = certificate();
    std::fs::write(&ca, &next).unwrap();
    config.reload_from_pem(next.into(), key.into()).await.unwrap();
    // What is connected goes on, whatever its certificate was.
    first.mark().await;
    drop(first);
    let mut second = conns.recv().await.unwrap();
    second.welcome(10).await;
    assert_eq!(sidecar.ask("").await.0, 200);
    sidecar.stop().await;
}
