//! `weir-sidecar`: beside each streamer, answers its `config_external` requests from a local replica.

use std::process::ExitCode;

use weir_sidecar::attach;
use weir_sidecar::cli::{Cli, Program};
use weir_sidecar::run::Exit;

/// Another instance serves this streamer: starting again would help nobody.
const SUPERSEDED: u8 = 3;

#[tokio::main]
async fn main() -> ExitCode {
    let program = Program::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("weir-sidecar: another TLS provider is installed");
        return ExitCode::FAILURE;
    }
    let done = match program {
        Program::Run(cli) => return run(*cli).await,
        Program::Attach(args) => attach::attach(&args, &mut std::io::stdout()).await,
        Program::Detach(args) => attach::detach(&args, &mut std::io::stdout()).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-sidecar: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> ExitCode {
    weir_sidecar::log(cli.log_format);
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
