//! Takes connections in and speaks HTTP/2 on them, in TLS or not.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use axum::{Extension, Router};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::door::{Door, Guest};

/// How long connections may take to end when the server stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves `router` on every connection, until it is told to stop.
pub(super) async fn accept<L: Listener>(
    mut listener: L,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
    settings: Settings,
    stopping: CancellationToken,
) {
    let door = Door::new(settings.connections, settings.hello_within);
    let tls = tls.map(TlsAcceptor::from);
    let mut guests = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            Some(_) = guests.join_next() => {}
            (stream, _) = listener.accept() => {
                if let Some(guest) = door.let_in(stream) {
                    guests.spawn(serve(guest, tls.clone(), router.clone(), settings, stopping.clone()));
                }
            }
        }
    }
    drop(listener);
    // Connections end by themselves now; what a peer does not read is not waited for.
    let ended = async { while guests.join_next().await.is_some() {} };
    drop(timeout(FAREWELL, ended).await);
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    guest: Guest<S>,
    tls: Option<TlsAcceptor>,
    router: Router,
    settings: Settings,
    stopping: CancellationToken,
) {
    let router = router.layer(Extension(guest.admission()));
    match tls {
        None => speak(guest, router, settings, stopping).await,
        Some(tls) => {
            // One that does not finish its handshake has nothing to be told.
            if let Ok(Ok(stream)) = timeout(settings.hello_within, tls.accept(guest)).await {
                speak(stream, router, settings, stopping).await;
            }
        }
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    settings: Settings,
    stopping: CancellationToken,
) {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .keep_alive_interval(settings.keep_alive)
        .keep_alive_timeout(settings.keep_alive)
        // One feed for each connection; a second while the first is being closed.
        .max_concurrent_streams(2);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    tokio::select! {
        biased;
        // How it ended shows where its requests are handled.
        _ = connection.as_mut() => return,
        () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}
