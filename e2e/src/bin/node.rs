//! A whole Kubernetes node to try things on by hand, with the images of `just images`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use weir_e2e::node::{Node, archives, enter, from_outside};

/// Runs a Kubernetes node until Ctrl-C, with the images of `just images`. Nothing of it stays. Needs root.
#[derive(Parser)]
#[command(name = "node", version)]
struct Args {}

fn main() -> ExitCode {
    let Args {} = Args::parse();
    let code = enter(|| match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::FAILURE
        }
    });
    code.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[tokio::main]
async fn run() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let until_told = async {
        let node = Node::start(&archives()?).await?;
        println!("The node is ready. Before every command, to run it there:");
        println!("    {}", from_outside()?);
        println!("    export KUBECONFIG={}", node.control_plane().kubeconfig_path().display());
        println!("    kubectl is {}", node.tools().kubectl().as_std().get_program().display());
        println!("    helm is {}", node.tools().helm().as_std().get_program().display());
        println!("Ctrl-C ends it and removes its data.");
        std::future::pending::<Result<()>>().await
    };
    tokio::select! {
        result = until_told => result,
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        _ = terminate.recv() => Ok(()),
    }
}
