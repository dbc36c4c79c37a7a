//! Weir on this machine: what it does when a streamer is killed, seen and measured.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use weir_e2e::demo::Demo;
use weir_e2e::demo::screen::Screen;

/// Runs an operator over examples/, three streamers and their sidecars; kills one streamer and brings it back.
///
/// Takes about a minute and ends by itself: with exit status 0 when every stream was captured once.
#[derive(Parser)]
#[command(name = "demo", version)]
struct Args {
    /// Leave everything running afterwards, to play with
    #[arg(long)]
    stay: bool,
}

/// As a shell has it after Ctrl-C.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let screen = Arc::new(Screen::new());
    // An error means that there is a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ended = tokio::select! {
        ended = run(&args, &screen) => ended,
        interrupted = interrupted() => interrupted.map(|()| ExitCode::from(INTERRUPTED)),
    };
    screen.leave();
    ended.unwrap_or_else(|error| {
        eprintln!("demo: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(args: &Args, screen: &Arc<Screen>) -> Result<ExitCode> {
    let mut demo = Demo::start(Arc::clone(screen)).await?;
    let code = match demo.story().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            demo.tell_failure(&error);
            ExitCode::FAILURE
        }
    };
    if args.stay {
        demo.introduce();
        interrupted().await?;
    }
    demo.end();
    Ok(code)
}

/// Returns at Ctrl-C or SIGTERM.
async fn interrupted() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened to")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("Ctrl-C cannot be listened to"),
        _ = terminate.recv() => Ok(()),
    }
}
