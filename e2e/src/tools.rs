//! `kubectl` and `helm`, as the administrator of a cluster.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::control_plane::{Program, pinned};

/// The programs, and whom they speak to.
#[derive(Debug, Clone)]
pub struct Tools {
    kubectl: PathBuf,
    helm: PathBuf,
    kubeconfig: PathBuf,
    /// Helm keeps something there.
    folder: PathBuf,
}

/// A port of this machine that leads to one of a pod, for as long as this is held.
pub struct Forward {
    pub address: SocketAddr,
    _kubectl: Child,
}

impl Tools {
    /// Those of the administrator whose file `kubeconfig` is; the first who asks for them builds them.
    pub async fn new(kubeconfig: &Path, folder: &Path) -> Result<Self> {
        let programs = pinned(&[Program::Kubectl, Program::Helm]).await?;
        let [kubectl, helm]: [PathBuf; 2] = programs.try_into().ok().context("not every program was built")?;
        Ok(Self { kubectl, helm, kubeconfig: kubeconfig.to_owned(), folder: folder.to_owned() })
    }

    pub fn kubectl(&self) -> Command {
        self.command(&self.kubectl)
    }

    pub fn helm(&self) -> Command {
        let mut helm = self.command(&self.helm);
        for (name, folder) in [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            helm.env(name, self.folder.join("helm").join(folder));
        }
        helm
    }

    /// A shell that finds both, as somebody types `line`.
    pub fn shell(&self, line: &str) -> Result<Command> {
        let (kubectl, helm) = (self.kubectl(), self.helm());
        let folders = [&self.kubectl, &self.helm].into_iter().filter_map(|program| program.parent());
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(folders.map(Path::to_owned).chain(std::env::split_paths(&rest)))?;
        let set = [&kubectl, &helm].into_iter().flat_map(|command| command.as_std().get_envs());
        let mut shell = Command::new("sh");
        shell.envs(set.filter_map(|(name, value)| Some((name, value?)))).env("PATH", path).args(["-c", line]);
        Ok(shell)
    }

    /// `kubectl port-forward` to a port of a pod.
    pub async fn forward(&self, namespace: &str, pod: &str, port: u16) -> Result<Forward> {
        let mut kubectl = self.kubectl();
        kubectl.args(["--namespace", namespace, "port-forward", pod, &format!(":{port}")]);
        let mut child = kubectl.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        // `Forwarding from 127.0.0.1:PORT -> 9443`
        let line = lines.next_line().await?.with_context(|| format!("no port of {pod} can be reached"))?;
        let local = line.split_whitespace().find_map(|word| word.strip_prefix("127.0.0.1:"));
        let local = local.with_context(|| format!("kubectl port-forward says {line:?}"))?.parse()?;
        // Nobody reads what it says about each connection, and it must not wait for that.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Forward { address: (Ipv4Addr::LOCALHOST, local).into(), _kubectl: child })
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }
}

/// What a command prints; an error with everything it has said if it fails.
pub async fn output(command: &mut Command) -> Result<String> {
    let ended = command.output().await;
    let Output { status, stdout, stderr } =
        ended.with_context(|| format!("cannot run {}", command.as_std().get_program().display()))?;
    let line = format!("{:?}", command.as_std());
    let told = [stdout.as_slice(), &stderr].map(String::from_utf8_lossy).concat();
    ensure!(status.success(), "{line}: {status}: {}", told.trim_end());
    Ok(String::from_utf8(stdout)?)
}
