//! The programs of a control plane and of a node: found in `KUBEBUILDER_ASSETS`, or built once into a cache.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::child::Child;

/// A folder with ready-made programs, as the controller-runtime tools use it.
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// A Go module of ours, which pins the programs that are built from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Module {
    /// Everything of Kubernetes.
    ControlPlane,
    /// Its Kubernetes libraries clash with those of the control plane.
    Helm,
    /// It has the Kubernetes libraries of an older Helm.
    HelmDocs,
    /// Its clash as well.
    CoreDns,
}

impl Module {
    const ALL: [Self; 4] = [Self::ControlPlane, Self::Helm, Self::HelmDocs, Self::CoreDns];

    /// The folder of its `go.mod`, and what its folder in the cache is called.
    fn name(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Helm => "helm",
            Self::HelmDocs => "helm-docs",
            Self::CoreDns => "coredns",
        }
    }

    /// The module whose version is that of the programs.
    fn versioned_by(self) -> &'static str {
        match self {
            Self::ControlPlane => "k8s.io/kubernetes",
            Self::Helm => "helm.sh/helm/v4",
            Self::HelmDocs => "github.com/norwoodj/helm-docs",
            Self::CoreDns => "github.com/coredns/coredns",
        }
    }

    fn folder(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(self.name())
    }
}

/// A program of the control plane or of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The store under the API server.
    Etcd,
    /// What restores the store from a copy.
    Etcdutl,
    /// The API server.
    KubeApiserver,
    /// Garbage collection by owner reference, namespace deletion, default ServiceAccounts,
    /// workloads.
    KubeControllerManager,
    /// The command line client, for demonstrations and for what only it does.
    Kubectl,
    /// What gives a pod its node.
    KubeScheduler,
    /// What runs a node's pods.
    Kubelet,
    /// What makes a node's Services work.
    KubeProxy,
    /// What installs charts.
    Helm,
    /// What writes a chart's README.
    HelmDocs,
    /// The cluster's DNS server.
    CoreDns,
}

impl Program {
    /// The program's file name.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Etcdutl => "etcdutl",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::Kubectl => "kubectl",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::Helm => "helm",
            Self::HelmDocs => "helm-docs",
            Self::CoreDns => "coredns",
        }
    }

    /// The Go package it is built from.
    fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::Etcdutl => "go.etcd.io/etcd/etcdutl/v3",
            Self::KubeApiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::KubeScheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
            Self::Kubelet => "k8s.io/kubernetes/cmd/kubelet",
            Self::KubeProxy => "k8s.io/kubernetes/cmd/kube-proxy",
            Self::Helm => "helm.sh/helm/v4/cmd/helm",
            Self::HelmDocs => "github.com/norwoodj/helm-docs/cmd/helm-docs",
            Self::CoreDns => "github.com/coredns/coredns",
        }
    }

    fn module(self) -> Module {
        match self {
            Self::Helm => Module::Helm,
            Self::HelmDocs => Module::HelmDocs,
            Self::CoreDns => Module::CoreDns,
            _ => Module::ControlPlane,
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file_name())
    }
}

/// The folder that holds these `programs` of a control plane (and maybe others). Those that are missing
/// in the cache are built, which takes minutes the first time and says so on standard error; a set
/// `KUBEBUILDER_ASSETS` is taken as it is.
pub async fn binaries(programs: &[Program]) -> Result<PathBuf> {
    if let Some(folder) = variable(ASSETS) {
        let folder = PathBuf::from(folder);
        let Some(missing) = missing(&folder, programs).first().copied() else {
            return Ok(folder);
        };
        bail!(
            "{ASSETS} is set to {}, which has no {missing}: put one there, or unset {ASSETS} to have it built",
            folder.display()
        );
    }
    built(Module::ControlPlane, programs).await
}

/// The file of each of `programs`, from the cache or built into it: those of a node have to be of one version, so
/// nothing else is taken.
pub async fn pinned(programs: &[Program]) -> Result<Vec<PathBuf>> {
    for module in Module::ALL {
        let of_module = programs.iter().copied().filter(|program| program.module() == module);
        built(module, &of_module.collect::<Vec<_>>()).await?;
    }
    let file = |program: &Program| -> Result<PathBuf> {
        let recipe = Recipe::read(program.module(), &program.module().folder())?;
        Ok(cache_folder()?.join(recipe.folder_name()).join(program.file_name()))
    };
    programs.iter().map(file).collect()
}

/// The folder of a Go module's sources, of the version that our own module in `folder` pins.
pub async fn sources(folder: &str, module: &str) -> Result<PathBuf> {
    let mut go = tokio::process::Command::new("go");
    go.args(["mod", "download", "-json", module]).env("GOWORK", "off");
    let output = go.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).output().await;
    let output = output.context("cannot run go")?;
    ensure!(output.status.success(), "go mod download: {}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(told["Dir"].as_str().context("go mod download named no folder")?.into())
}

/// The folder of `programs`, all of `module`, with each of them built.
async fn built(module: Module, programs: &[Program]) -> Result<PathBuf> {
    let recipe = Recipe::read(module, &module.folder())?;
    let folder = cache_folder()?.join(recipe.folder_name());
    if missing(&folder, programs).is_empty() {
        return Ok(folder);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make the cache folder {}", folder.display()))?;
    // Held until the end of this function; another test process may be building the same.
    let _lock = lock(folder.join(".lock")).await?;
    let missing = missing(&folder, programs);
    if !missing.is_empty() {
        recipe.check_go()?;
    }
    for program in missing {
        recipe.build(program, &folder).await?;
    }
    Ok(folder)
}

fn missing(folder: &Path, programs: &[Program]) -> Vec<Program> {
    let is_missing = |program: &&Program| !folder.join(program.file_name()).is_file();
    programs.iter().filter(is_missing).copied().collect()
}

/// Waits for the lock file in a thread of its own: a build takes minutes.
async fn lock(path: PathBuf) -> Result<File> {
    let blocking = move || -> Result<File> {
        let file = File::create(&path)?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        eprintln!("waiting for the control plane, which another test is building");
        file.lock()?;
        Ok(file)
    };
    tokio::task::spawn_blocking(blocking).await?.context("cannot lock the cache of the control plane")
}

/// `WEIR_CACHE`, `XDG_CACHE_HOME/weir` or `~/.cache/weir`: outside `target`, because
/// a `cargo clean` must not cost minutes.
fn cache_folder() -> Result<PathBuf> {
    cache_folder_of(variable)
}

fn cache_folder_of(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    if let Some(folder) = variable("WEIR_CACHE") {
        return std::path::absolute(folder).context("WEIR_CACHE is no path");
    }
    // The XDG base directory specification: a relative path is to be ignored.
    let xdg = variable("XDG_CACHE_HOME").map(PathBuf::from);
    if let Some(folder) = xdg.filter(|folder| folder.is_absolute()) {
        return Ok(folder.join("weir"));
    }
    let home = variable("HOME")
        .context("there is no folder to keep the control plane in: set WEIR_CACHE (HOME is not set either)")?;
    Ok(Path::new(&home).join(".cache/weir"))
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// How the programs are built, read from the Go module.
struct Recipe {
    module: Module,
    folder: PathBuf,
    /// The programs' version with its `v`.
    version: String,
    /// The oldest Go that will do, such as `1.25.0`.
    go: String,
    /// Of `go.mod` and `go.sum`.
    digest: [u8; 32],
}

impl Recipe {
    fn read(module: Module, folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let file = folder.join(name);
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
        };
        let (go_mod, go_sum) = (read("go.mod")?, read("go.sum")?);
        let word_after = |prefix: &str| {
            let mut lines = go_mod.lines().map(str::trim);
            lines.find_map(|line| line.strip_prefix(prefix)?.split_whitespace().next())
        };
        let mut hash = Sha256::new();
        hash.update(&go_mod);
        hash.update(&go_sum);
        let (name, versioned_by) = (module.name(), module.versioned_by());
        Ok(Self {
            module,
            folder: folder.to_owned(),
            version: word_after(&format!("{versioned_by} v"))
                .map(|version| format!("v{version}"))
                .with_context(|| format!("{name}/go.mod requires no {versioned_by}"))?,
            go: word_after("go ").with_context(|| format!("{name}/go.mod names no version of Go"))?.to_owned(),
            digest: hash.finalize().into(),
        })
    }

    fn folder_name(&self) -> String {
        let (module, version) = (self.module.name(), &self.version);
        let mut name = format!("{module}-{version}-{}-{}-", std::env::consts::OS, std::env::consts::ARCH);
        name.extend(self.digest.iter().take(6).map(|byte| format!("{byte:02x}")));
        name
    }

    /// Programs report the version that the linker wrote into them.
    fn linker_flags(&self) -> String {
        let version = &self.version;
        match self.module {
            Module::ControlPlane => {
                let mut numbers = version.trim_start_matches('v').split('.');
                let mut number = || numbers.next().unwrap_or_default();
                let (major, minor) = (number(), number());
                let package = "k8s.io/component-base/version";
                format!(
                    "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
                )
            }
            Module::Helm => format!("-s -w -X helm.sh/helm/v4/internal/version.version={version}"),
            Module::HelmDocs | Module::CoreDns => "-s -w".to_owned(),
        }
    }

    fn check_go(&self) -> Result<()> {
        let needed = format!(
            "the tests run against a real Kubernetes control plane, which is built with Go {} or newer: \
             install it from https://go.dev/dl, or set {ASSETS} to a folder with etcd and kube-apiserver, \
             or WEIR_E2E_KUBECONFIG to the kubeconfig of a cluster to test in",
            self.go
        );
        let output = Command::new("go")
            .args(["env", "GOVERSION"])
            .current_dir(&self.folder)
            .env("GOWORK", "off")
            .output()
            .with_context(|| format!("cannot run go; {needed}"))?;
        let version = String::from_utf8_lossy(&output.stdout);
        let version = version.trim();
        ensure!(
            output.status.success(),
            "`go env GOVERSION` failed: {}; {needed}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        ensure!(is_at_least(version, &self.go), "{version} is too old; {needed}");
        Ok(())
    }

    /// Builds `program` aside and moves it into `folder` when it is whole.
    async fn build(&self, program: Program, folder: &Path) -> Result<()> {
        eprintln!(
            "building {program}, with {} {}, into {} (only once; all programs take some minutes)",
            self.module.versioned_by(),
            self.version,
            folder.display()
        );
        let started = Instant::now();
        // The lock is ours, so whatever lies there was left by a build that was killed.
        let aside = folder.join(".building");
        let _ = fs::remove_dir_all(&aside);
        fs::create_dir(&aside)?;
        let file = aside.join(program.file_name());
        let mut args: Vec<OsString> = vec!["build".into(), "-C".into(), self.folder.clone().into()];
        args.extend(["-mod=readonly", "-trimpath", "-buildvcs=false"].map(OsString::from));
        args.extend(["-ldflags".into(), self.linker_flags().into()]);
        args.extend(["-o".into(), file.clone().into(), program.package().into()]);
        let env = [("CGO_ENABLED", "0"), ("GOWORK", "off")];
        let go = Child::spawn("go build", "go", args, env, aside.join("log"))?;
        let status = go.wait().await;
        ensure!(
            status.success(),
            "building {program} failed ({status}); the end of what `go build {}` said:\n{}",
            program.package(),
            go.log_tail(20)
        );
        fs::rename(&file, folder.join(program.file_name()))
            .with_context(|| format!("cannot put {program} into {}", folder.display()))?;
        let _ = fs::remove_dir_all(&aside);
        eprintln!("built {program} in {} s", started.elapsed().as_secs());
        Ok(())
    }
}

/// Compares Go versions such as `go1.26.8`, `1.25` and `go1.27rc1`.
fn is_at_least(version: &str, needed: &str) -> bool {
    let numbers = |version: &str| -> Vec<u32> {
        let version = version.trim_start_matches("go").split([' ', '-']).next();
        let parts = version.unwrap_or_default().split('.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit());
            part.get(..digits.unwrap_or(part.len())).and_then(|digits| digits.parse().ok()).unwrap_or(0)
        });
        parts.chain([0, 0]).take(3).collect()
    };
    numbers(version) >= numbers(needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_module_pins_a_version_and_a_go() {
        for module in Module::ALL {
            let recipe = Recipe::read(module, &module.folder()).unwrap();
            assert!(is_at_least(&recipe.go, "1.24"), "tool directives came with Go 1.24");
        }
        let recipe = Recipe::read(Module::ControlPlane, &Module::ControlPlane.folder()).unwrap();
        let minor = recipe.version.split('.').nth(1).unwrap();
        let flags = recipe.linker_flags();
        assert!(flags.contains(&format!("gitVersion={}", recipe.version)), "{flags}");
        assert!(flags.ends_with(&format!("gitMinor={minor}")), "{flags}");
    }

    #[test]
    fn another_checksum_is_another_folder() {
        let module = tempfile::tempdir().unwrap();
        let go_mod = "go 1.25.0\nrequire (\n\tk8s.io/kubernetes v1.35.4\n)\n";
        fs::write(module.path().join("go.mod"), go_mod).unwrap();
        let name_with = |go_sum: &str| {
            fs::write(module.path().join("go.sum"), go_sum).unwrap();
            Recipe::read(Module::ControlPlane, module.path()).unwrap().folder_name()
        };
        assert!(name_with("a").starts_with("control-plane-v1.35.4-"));
        assert_eq!(name_with("a"), name_with("a"));
        assert_ne!(name_with("a"), name_with("b"));
    }

    #[test]
    fn versions_of_go_are_compared_as_numbers() {
        assert!(is_at_least("go1.26.8", "1.25.0"));
        assert!(is_at_least("go1.25.0", "1.25.0"));
        assert!(is_at_least("go1.27rc1", "1.25.0"));
        assert!(is_at_least("go1.25.3 X:nocoverageredesign", "1.25.0"));
        assert!(!is_at_least("go1.24.9", "1.25.0"));
        assert!(!is_at_least("go1.9", "1.25.0"));
        assert!(!is_at_least("", "1.25.0"));
    }

    #[test]
    fn the_cache_stands_outside_the_build_folder() {
        let with = |set: &[(&str, &str)]| {
            cache_folder_of(|name| {
                let found = set.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| OsString::from(value))
            })
        };
        let all = [("WEIR_CACHE", "/a"), ("XDG_CACHE_HOME", "/b"), ("HOME", "/c")];
        assert_eq!(with(&all).unwrap(), Path::new("/a"));
        assert_eq!(with(&all[1..]).unwrap(), Path::new("/b/weir"));
        assert_eq!(with(&all[2..]).unwrap(), Path::new("/c/.cache/weir"));
        let relative = [("XDG_CACHE_HOME", "b"), ("HOME", "/c")];
        assert_eq!(with(&relative).unwrap(), Path::new("/c/.cache/weir"));
        assert!(with(&[]).unwrap_err().to_string().contains("WEIR_CACHE"));
    }
}
