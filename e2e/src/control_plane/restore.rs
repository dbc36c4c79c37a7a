//! etcd's data as a copy, and the copy put back: what an administrator does after a disaster.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use super::binaries::Program;
use super::{ControlPlane, binaries, processes};

/// A copy of all that the API server had stored at one instant.
#[derive(Debug)]
pub struct EtcdCopy {
    folder: PathBuf,
}

impl ControlPlane {
    /// Copies etcd's data; etcd stands still meanwhile.
    pub fn copy_etcd(&self) -> Result<EtcdCopy> {
        let own = self.own("its etcd is not ours to copy")?;
        let folder = own.folder.path().join("etcd-copy");
        let etcd = own.etcd.child()?;
        etcd.pause()?;
        let copied = copy_folder(&processes::etcd_data(own.folder.path()), &folder);
        etcd.resume()?;
        copied.context("etcd's data cannot be copied")?;
        Ok(EtcdCopy { folder })
    }

    /// Ends API server and etcd, puts a copy in place of what etcd had, and starts both again. With `bump` the copy's revision is raised by
    /// so much and what was before is marked as compacted (`etcdutl snapshot restore`); without, it is as it was copied.
    pub async fn restore_etcd(&self, copy: &EtcdCopy, bump: Option<u64>) -> Result<()> {
        let own = self.own("its etcd is not ours to restore")?;
        let etcdutl = binaries(&[Program::Etcdutl]).await?.join(Program::Etcdutl.file_name());
        self.kill_api_server().await?;
        self.kill_etcd().await?;
        let data = processes::etcd_data(own.folder.path());
        fs::remove_dir_all(&data).context("etcd's data cannot be removed")?;
        match bump {
            None => copy_folder(&copy.folder, &data).context("the copy cannot be put back")?,
            Some(bump) => bumped(&etcdutl, copy, &data, bump).await?,
        }
        self.start_etcd().await?;
        self.start_api_server().await
    }
}

async fn bumped(etcdutl: &Path, copy: &EtcdCopy, data: &Path, bump: u64) -> Result<()> {
    let mut command = Command::new(etcdutl);
    command.args(["snapshot", "restore"]).arg(copy.folder.join("member/snap/db"));
    // A file that was copied rather than saved as a snapshot has no hash at its end.
    command.args(["--skip-hash-check", "--mark-compacted", "--bump-revision", &bump.to_string()]);
    command.args(["--name", processes::ETCD_NAME, "--data-dir"]).arg(data);
    let peer = processes::ETCD_PEER;
    command.args(["--initial-advertise-peer-urls", peer, "--initial-cluster"]);
    let output = command.arg(format!("{}={peer}", processes::ETCD_NAME)).output().await?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "etcdutl snapshot restore: {}: {told}", output.status);
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}
