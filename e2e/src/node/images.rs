//! Images, and containerd's store of them: there is no registry.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::tools::output;

/// What a pod's containers share: `pause`, under a name of our own.
pub(super) const SANDBOX: &str = "weir.dev/pause:local";

/// Kubernetes' own `pause`, from the sources of `kubernetes` (the folder of its module), as an archive in `folder`.
pub(super) async fn sandbox_archive(kubernetes: &Path, folder: &Path) -> Result<PathBuf> {
    let folder = folder.join("pause");
    fs::create_dir(&folder)?;
    let source = kubernetes.join("build/pause/linux/pause.c");
    let mut cc = Command::new("cc");
    cc.args(["-Os", "-static", "-DVERSION=local", "-o"]).arg(folder.join("pause")).arg(source);
    output(&mut cc).await?;
    tar(&folder, "layer.tar", &["pause"]).await?;
    let digest = Sha256::digest(fs::read(folder.join("layer.tar"))?);
    let mut layer = "sha256:".to_owned();
    layer.extend(digest.iter().map(|byte| format!("{byte:02x}")));
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Entrypoint": ["/pause"], "User": "65535:65535" },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": [SANDBOX], "Layers": ["layer.tar"] }]);
    fs::write(folder.join("config.json"), config.to_string())?;
    fs::write(folder.join("manifest.json"), manifest.to_string())?;
    tar(&folder, "image.tar", &["manifest.json", "config.json", "layer.tar"]).await?;
    Ok(folder.join("image.tar"))
}

/// Puts an archive, as `docker save` and buildah write them, into the store that the kubelet's pods are made from.
pub(super) async fn import(socket: &Path, archive: &Path) -> Result<()> {
    let mut ctr = Command::new("ctr");
    ctr.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images", "import"]).arg(archive);
    output(&mut ctr).await.with_context(|| format!("{} cannot be imported", archive.display()))?;
    Ok(())
}

/// Gives an image another name.
pub(super) async fn tag(socket: &Path, image: &str, other: &str) -> Result<()> {
    let mut ctr = Command::new("ctr");
    ctr.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images", "tag", "--force", image, other]);
    output(&mut ctr).await?;
    Ok(())
}

async fn tar(folder: &Path, archive: &str, files: &[&str]) -> Result<()> {
    output(Command::new("tar").arg("-C").arg(folder).args(["-cf", archive]).args(files).current_dir(folder)).await?;
    Ok(())
}
