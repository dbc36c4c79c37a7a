//! The programs that scenarios start, built once for each test process from the sources that the test itself was built from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::scratch_folder::ScratchFolder;

/// Those that are started by name.
const NAMES: [&str; 5] = ["weir-operator", "weir-sidecar", "streamer-sim", "supervisor", "kill-at-write"];

/// A test binary does not hold cargo's build lock while it runs, and cargo's own lock serialises those who build at once.
const CARGO: &str = env!("CARGO");

/// The built programs, as copies of our own: a build that goes on beside us replaces the originals under a running scenario, whose
/// restarts must start the same program again.
#[derive(Debug)]
pub struct Programs {
    folder: ScratchFolder,
}

impl Programs {
    /// Those of this process; the first who asks has them built.
    pub async fn get() -> Result<&'static Self> {
        static PROGRAMS: OnceCell<Programs> = OnceCell::const_new();
        PROGRAMS.get_or_try_init(Self::build).await
    }

    /// `weir-operator`.
    pub fn operator(&self) -> PathBuf {
        self.path("weir-operator")
    }

    /// `weir-sidecar`.
    pub fn sidecar(&self) -> PathBuf {
        self.path("weir-sidecar")
    }

    /// `streamer-sim`.
    pub fn streamer_sim(&self) -> PathBuf {
        self.path("streamer-sim")
    }

    /// `supervisor`.
    pub fn supervisor(&self) -> PathBuf {
        self.path("supervisor")
    }

    /// `kill-at-write`.
    pub fn kill_at_write(&self) -> PathBuf {
        self.path("kill-at-write")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn build() -> Result<Self> {
        let output = Output::of(&std::env::current_exe().context("cannot find the running program's own file")?)?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| CARGO.into());
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        // The whole workspace, as the test command has it: other features would build every dependency a second time.
        let mut command = Command::new(&cargo);
        command.args(["build", "--workspace", "--quiet", "--color", "never"]);
        command.args(NAMES.iter().flat_map(|name| ["--bin", name]));
        command.arg("--manifest-path").arg(manifest).args(&output.args);
        // What cargo tells a test of its package would be news to build scripts: they would run again, and what needs them.
        let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_package)).for_each(|(name, _)| {
            command.env_remove(name);
        });
        let built = command.output().await;
        let built = built.with_context(|| format!("cannot start {}: is the Rust toolchain gone?", cargo.display()))?;
        if !built.status.success() {
            let stderr = String::from_utf8_lossy(&built.stderr);
            bail!("the programs of the scenarios cannot be built ({}):\n{stderr}", built.status);
        }
        let programs = Self { folder: ScratchFolder::new("programs")? };
        for name in NAMES {
            programs.take(&output.folder, name)?;
        }
        Ok(programs)
    }

    fn take(&self, from: &Path, name: &str) -> Result<()> {
        let (from, to) = (from.join(name), self.path(name));
        // A link is enough, since cargo makes a new file; it is none across file systems.
        if std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to).with_context(|| format!("cargo built no {}", from.display()))?;
        }
        Ok(())
    }
}

/// Where cargo put the running program, and the arguments with which it puts others beside it.
#[derive(Debug, PartialEq, Eq)]
struct Output {
    folder: PathBuf,
    args: Vec<OsString>,
}

impl Output {
    fn of(exe: &Path) -> Result<Self> {
        // `TARGET/debug/deps/scenarios-HASH`, or `TARGET/TRIPLE/debug/demo`.
        let unusual = || format!("{} is not where cargo puts what it builds", exe.display());
        let folder = exe.parent().with_context(unusual)?;
        let folder = if folder.ends_with("deps") { folder.parent().with_context(unusual)? } else { folder };
        let profile = match folder.file_name().with_context(unusual)? {
            name if name == "debug" => "dev".into(),
            name => name.to_owned(),
        };
        let above = folder.parent().with_context(unusual)?;
        let mut args = vec!["--profile".into(), profile];
        let target = if above.join("CACHEDIR.TAG").exists() {
            above
        } else {
            args.extend(["--target".into(), above.file_name().with_context(unusual)?.to_owned()]);
            above.parent().with_context(unusual)?
        };
        args.extend(["--target-dir".into(), target.into()]);
        Ok(Self { folder: folder.to_owned(), args })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_built_beside_the_running_one_with_its_profile() {
        let target = tempfile::tempdir().unwrap();
        std::fs::write(target.path().join("CACHEDIR.TAG"), "").unwrap();
        let text = target.path().to_str().unwrap().to_owned();
        for (exe, folder, args) in [
            ("debug/deps/scenarios-1", "debug", vec!["--profile", "dev", "--target-dir", &text]),
            ("release/demo", "release", vec!["--profile", "release", "--target-dir", &text]),
            (
                "x86_64-unknown-linux-musl/debug/demo",
                "x86_64-unknown-linux-musl/debug",
                vec!["--profile", "dev", "--target", "x86_64-unknown-linux-musl", "--target-dir", &text],
            ),
        ] {
            let expected =
                Output { folder: target.path().join(folder), args: args.into_iter().map(Into::into).collect() };
            assert_eq!(Output::of(&target.path().join(exe)).unwrap(), expected);
        }
    }
}
