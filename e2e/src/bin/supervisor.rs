//! What a kubelet or systemd is to a streamer: it starts a program, asks its sidecar's `GET /lease` again and again, and kills the
//! program when the answer is no, or none, several times in a row; whatever has ended is started again.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use reqwest::{Client, Url};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use weir_e2e::child::Child;

/// Starts a program and kills it when it may not live any more.
#[derive(Debug, Parser)]
struct Settings {
    /// What is asked: 200 means that it may live.
    #[arg(long)]
    lease: Url,
    /// Between two questions; an answer may take twice as long.
    #[arg(long)]
    every_ms: u64,
    /// Answers other than 200 in a row that kill.
    #[arg(long)]
    failures: u32,
    /// What the program prints goes here.
    #[arg(long)]
    log: PathBuf,
    /// The program and its arguments.
    #[arg(last = true, required = true, num_args = 1..)]
    program: Vec<OsString>,
}

/// A program that has ended is started again after this.
const BACK_OFF: Duration = Duration::from_millis(500);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // A second provider is an error only if somebody installed one before, and nobody did.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = Settings::parse();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let client = Client::builder().no_proxy().timeout(Duration::from_millis(settings.every_ms * 2)).build()?;
    loop {
        let (program, args) = settings.program.split_first().context("no program")?;
        let none: [(&str, &str); 0] = [];
        let child = Child::spawn("streamer", program, args, none, &settings.log)?;
        println!("{}", json!({"started": child.pid()}));
        tokio::select! {
            why = watch(&settings, &client, &child) => {
                println!("{}", json!({"killed": child.pid(), "why": why}));
                if child.is_running() {
                    child.kill9().await?;
                }
            }
            _ = terminate.recv() => return child.stop().await.map(drop),
        }
        tokio::time::sleep(BACK_OFF).await;
    }
}

/// Returns when the program has ended or is to be killed, with the reason.
async fn watch(settings: &Settings, client: &Client, child: &Child) -> String {
    let mut failures = 0;
    loop {
        tokio::select! {
            status = child.wait() => return format!("it ended by itself: {status}"),
            () = tokio::time::sleep(Duration::from_millis(settings.every_ms)) => {}
        }
        match ask(client, settings.lease.clone()).await {
            Ok(()) => failures = 0,
            Err(why) => {
                failures += 1;
                if failures == settings.failures {
                    return why;
                }
            }
        }
    }
}

async fn ask(client: &Client, lease: Url) -> Result<(), String> {
    let answer = client.get(lease).send().await.map_err(|error| error.to_string())?;
    if answer.status().is_success() {
        return Ok(());
    }
    Err(answer.text().await.unwrap_or_default().trim().to_owned())
}
