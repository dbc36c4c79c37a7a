//! A small disk of a scenario's own, which can be filled up and made read-only: a tmpfs in a user and mount namespace, for which nobody
//! needs to be root. Only programs that are started within it see it under its path.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;

use crate::child::Child;
use crate::site::until;

/// Holds the namespaces and the mount for as long as it runs.
const HOLD: &str = r#"mount -t tmpfs -o "size=$2k,mode=0700" tmpfs "$1" && echo mounted && exec sleep 2147483647"#;
/// What takes all the room.
const FILLER: &str = "filler";

/// A mounted disk. It is gone when this and every program within it are.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Child,
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts a disk of `kib` KiB at `path`, a folder that is there. `log_file` takes what goes wrong.
    pub async fn mount(path: &Path, kib: u32, log_file: &Path) -> Result<Self> {
        ensure!(
            cfg!(target_os = "linux"),
            "a scenario with a full or read-only disk needs Linux: its disk is a tmpfs in a mount namespace"
        );
        let args = ["--user", "--map-root-user", "--mount", "sh", "-c", HOLD, "sh"].map(OsString::from);
        let args = args.into_iter().chain([path.into(), kib.to_string().into()]);
        let holder = Child::spawn("a small disk", "unshare", args, [("LC_ALL", "C")], log_file)?;
        until("the small disk is mounted", async || {
            let log = holder.log();
            if holder.is_running() {
                ensure!(log.contains("mounted"), "{log}");
                return Ok(Ok(()));
            }
            Ok(Err(log))
        })
        .await?
        .or_else(|log| {
            bail!(
                "a disk of the scenario's own cannot be mounted: {}\nIt needs `unshare` (util-linux) and the right to make user \
                 namespaces: as root, sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), or \
                 kernel.unprivileged_userns_clone=1 (Debian), or user.max_user_namespaces=1000 (RHEL); in a container, one that may.",
                log.trim_end()
            )
        })?;
        Ok(Self { holder, path: path.to_owned() })
    }

    /// What stands before a program's own words to start it where the disk is mounted.
    pub fn within(&self) -> Vec<OsString> {
        let target = self.holder.pid().to_string();
        ["nsenter", "--preserve-credentials", "--user", "--mount", "--target", &target].map(Into::into).to_vec()
    }

    /// Where the disk is for us, who are not within it.
    pub fn path(&self) -> PathBuf {
        let path = self.path.strip_prefix("/").unwrap_or(&self.path);
        Path::new("/proc").join(self.holder.pid().to_string()).join("root").join(path)
    }

    /// Writes until there is no room left.
    pub fn fill(&self) -> Result<()> {
        let mut filler = File::create(self.path().join(FILLER)).context("the small disk cannot be filled")?;
        for block in [vec![0; 4_096], vec![0; 1]] {
            let error = loop {
                if let Err(error) = filler.write_all(&block) {
                    break error;
                }
            };
            ensure!(error.kind() == std::io::ErrorKind::StorageFull, "the small disk cannot be filled: {error}");
        }
        Ok(())
    }

    /// Frees what [`SmallDisk::fill`] took.
    pub fn make_room(&self) -> Result<()> {
        fs::remove_file(self.path().join(FILLER)).context("the small disk cannot be emptied")
    }

    /// Makes it read-only, or writable again. Nobody may have a file of it open for writing.
    pub async fn set_read_only(&self, read_only: bool) -> Result<()> {
        let [program, args @ ..] = &self.within()[..] else {
            bail!("no program");
        };
        let how = if read_only { "remount,ro" } else { "remount,rw" };
        let output = Command::new(program).args(args).args(["mount", "-o", how]).arg(&self.path).output().await?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the small disk cannot be mounted with {how}: {}", why.trim_end());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_full_and_has_room_again_and_is_read_only_and_writable_again() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let disk = SmallDisk::mount(&data, 256, &folder.path().join("disk.log")).await.unwrap();
        let file = disk.path().join("file");
        fs::write(&file, "first").unwrap();
        disk.fill().unwrap();
        let error = fs::write(disk.path().join("more"), "more").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        disk.make_room().unwrap();
        fs::write(disk.path().join("more"), "more").unwrap();

        disk.set_read_only(true).await.unwrap();
        let error = fs::write(&file, "second").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(fs::read_to_string(&file).unwrap(), "first");
        disk.set_read_only(false).await.unwrap();
        fs::write(&file, "second").unwrap();
        assert!(!data.join("file").exists(), "only who is within it sees it");
    }
}
