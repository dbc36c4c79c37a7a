//! A Kubernetes control plane to try things on by hand.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use weir_e2e::control_plane::{ControlPlane, Options, Program, binaries};

/// Runs etcd and kube-apiserver until Ctrl-C. Nothing of it stays.
#[derive(Parser)]
#[command(name = "control-plane", version)]
struct Args {
    /// Write the administrator's kubeconfig to this file too
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Also run kube-controller-manager
    #[arg(long)]
    controller_manager: bool,

    /// Build all programs, kubectl included, print their folder and exit
    #[arg(long)]
    build_only: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let args = Args::parse();
    if args.build_only {
        let all = [Program::Etcd, Program::KubeApiserver, Program::KubeControllerManager, Program::Kubectl];
        println!("{}", binaries(&all).await?.display());
        return Ok(());
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let run = async {
        let options = Options { controller_manager: args.controller_manager, ..Options::default() };
        let control_plane = ControlPlane::start(options).await?;
        introduce(&control_plane, args.kubeconfig)?;
        std::future::pending::<Result<()>>().await
    };
    tokio::select! {
        result = run => result,
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        _ = terminate.recv() => Ok(()),
    }
}

fn introduce(control_plane: &ControlPlane, copy: Option<PathBuf>) -> Result<()> {
    let mut path = control_plane.kubeconfig_path().to_owned();
    if let Some(copy) = copy {
        let cannot = || format!("cannot write the kubeconfig to {}", copy.display());
        std::fs::copy(&path, &copy).with_context(cannot)?;
        path = std::path::absolute(copy)?;
    }
    println!("The control plane is ready. Its kubeconfig: {}", path.display());
    println!("    export KUBECONFIG={}", path.display());
    let kubectl = control_plane.binaries()?.join(Program::Kubectl.file_name());
    if kubectl.is_file() {
        println!("A kubectl of the same version: {}", kubectl.display());
    }
    println!("Ctrl-C ends it and removes its data.");
    Ok(())
}
