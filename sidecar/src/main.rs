//! `weir-sidecar`: beside each streamer, answers its `config_external` requests from a local replica.

use std::process::ExitCode;

use clap::Parser;
use weir_sidecar::cli::Cli;
use weir_sidecar::run::Exit;

/// Another instance serves this streamer: starting again would help nobody.
const SUPERSEDED: u8 = 3;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    weir_sidecar::log(cli.log_format);
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::error!("another TLS provider is installed");
        return ExitCode::FAILURE;
    }
    let shutdown = weir_sidecar::on_signal();
    match weir_sidecar::serve(cli, shutdown).await {
        Ok(Exit::Shutdown) => ExitCode::SUCCESS,
        Ok(Exit::Superseded) => {
            tracing::error!("another instance has this Streamer's name now: this one ends");
            ExitCode::from(SUPERSEDED)
        }
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
