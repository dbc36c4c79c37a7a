//! A streamer that keeps the `config_external` protocol's habits, as a process. With `--api-listen` it prints the address of its own API
//! as one JSON line when it is ready. It ends on SIGTERM, and with an error when it loses the source registry.

use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use weir_e2e::streamer::api;
use weir_e2e::streamer::engine::Streamer;
use weir_e2e::streamer::settings::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let filter =
        EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env().context("RUST_LOG")?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    // A second provider is an error only if somebody installed one before, and nobody did.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = Settings::parse();
    let api_listen = settings.api_listen;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let listener = match api_listen {
        Some(addr) => Some(TcpListener::bind(addr).await.with_context(|| format!("--api-listen {addr}"))?),
        None => None,
    };
    let streamer = Streamer::boot(settings).await?;
    tokio::spawn(streamer.clone().poll());
    tokio::select! {
        served = serve_api(listener, streamer.clone()) => served,
        () = streamer.lost.cancelled() => bail!("the source registry is lost"),
        _ = terminate.recv() => {
            tracing::info!("stopping: the end of its connection ends all its reads");
            Ok(())
        }
    }
}

async fn serve_api(listener: Option<TcpListener>, streamer: Arc<Streamer>) -> anyhow::Result<()> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    println!("{}", json!({ "api": listener.local_addr()? }));
    axum::serve(listener, api::router(streamer)).await.context("its own API ended")
}
