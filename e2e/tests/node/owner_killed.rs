//! What stays of a node whose owner had no time to end it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use weir_e2e::node::{FOLDER, Node};

pub(crate) async fn nothing_is_left_of_a_node_whose_owner_is_killed(_: &'static Node) -> Result<()> {
    // A world within ours: it is a node of its own all the same.
    let mut owner = tokio::process::Command::new(env!("CARGO_BIN_EXE_node"))
        .env_remove(FOLDER)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(owner.stdout.take().context("no output")?).lines();
    let path = loop {
        let line = lines.next_line().await?.context("it ended early")?;
        if let Some((_, path)) = line.split_once("export KUBECONFIG=") {
            break path.to_owned();
        }
    };
    let folder = Path::new(&path).ancestors().nth(2).context("a kubeconfig that lies elsewhere")?;
    for part in ["/etcd ", "/kubelet ", "containerd ", "/coredns "] {
        ensure!(
            processes_of(folder)?.iter().any(|line| line.contains(part)),
            "{part} does not run: {:?}",
            processes_of(folder)
        );
    }
    ensure!(!cgroups_of(folder)?.is_empty(), "it has no cgroups");

    owner.kill().await?;
    let gone = async {
        while folder.exists() || !processes_of(folder)?.is_empty() || !cgroups_of(folder)?.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(30), gone)
        .await
        .with_context(|| format!("left: {:?}, {:?}", processes_of(folder), cgroups_of(folder)))?
}

/// The processes whose command line names `folder`.
fn processes_of(folder: &Path) -> Result<Vec<String>> {
    let output = String::from_utf8(Command::new("ps").args(["-eo", "stat=,args="]).output()?.stdout)?;
    let folder = folder.to_str().context("no UTF-8")?;
    let lines = output.lines().filter(|line| !line.starts_with('Z'));
    Ok(lines.filter(|line| line.contains(folder)).map(str::to_owned).collect())
}

/// The cgroups that are called as `folder` is.
fn cgroups_of(folder: &Path) -> Result<Vec<String>> {
    let name = folder.file_name().context("no name")?;
    let found = Command::new("find").args(["/sys/fs/cgroup", "-maxdepth", "2", "-name"]).arg(name).output()?;
    Ok(String::from_utf8(found.stdout)?.lines().map(str::to_owned).collect())
}
