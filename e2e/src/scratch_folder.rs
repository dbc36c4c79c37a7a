//! A temporary folder that is removed even when this process is killed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::child::Watchdog;

/// Keeps the folders (logs, databases, certificates) after the test, for a person to read.
const KEEP: &str = "WEIR_E2E_KEEP";

/// Those who write into the folder are being killed at the same time, hence more than once.
const REMOVE: &str = r#"for _ in 1 2 3 4 5 6 7 8 9; do rm -rf "$1" && exit; sleep 0.2; done"#;

/// A folder in the system's temporary folder, readable by this user alone.
///
/// It is removed when it is dropped or when this process dies; with `WEIR_E2E_KEEP` set it stays,
/// and its path is printed.
#[derive(Debug)]
pub struct ScratchFolder {
    path: PathBuf,
    watchdog: Option<Watchdog>,
}

impl ScratchFolder {
    /// Makes a folder whose name starts with `weir-`, `purpose` and a hyphen.
    pub fn new(purpose: &str) -> Result<Self> {
        let path = tempfile::Builder::new()
            .prefix(&format!("weir-{purpose}-"))
            .tempdir()
            .context("cannot make a temporary folder")?
            .keep();
        if std::env::var_os(KEEP).is_some() {
            eprintln!("{KEEP} is set: {} stays", path.display());
            return Ok(Self { path, watchdog: None });
        }
        let watchdog = Watchdog::start(REMOVE, &path)?;
        Ok(Self { path, watchdog: Some(watchdog) })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            // Dropped undismissed, the watchdog goes on trying.
            if std::fs::remove_dir_all(&self.path).is_ok() {
                watchdog.dismiss();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_folder_is_gone_with_all_that_is_in_it() {
        let folder = ScratchFolder::new("test").unwrap();
        let path = folder.path().to_owned();
        std::fs::create_dir_all(path.join("etcd/member")).unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
