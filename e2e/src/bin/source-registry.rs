//! The source registry as a process: readers connect to one port, questions come over HTTP to another.
//! Prints both addresses as one JSON line when it is ready.

use std::net::SocketAddr;

use anyhow::Context;
use clap::Parser;
use serde_json::json;
use weir_e2e::registry::{Registry, http};

#[derive(Debug, Parser)]
#[command(about = "Counts who reads which stream at every instant")]
struct Arguments {
    /// Where streamer-sims connect; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where questions are answered.
    #[arg(long, default_value = "127.0.0.1:0")]
    http_listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let registry =
        Registry::start(arguments.listen).with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let listener = tokio::net::TcpListener::bind(arguments.http_listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.http_listen))?;
    println!("{}", json!({ "registry": registry.addr(), "http": listener.local_addr()? }));
    axum::serve(listener, http::router(registry)).await.context("the HTTP listener ended")
}
