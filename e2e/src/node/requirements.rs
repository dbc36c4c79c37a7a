//! What a node needs that Weir does not build itself.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// Programs, and the Debian packages that they are in.
const PROGRAMS: [(&str, &str); 15] = [
    ("containerd", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("ps", "procps"),
    ("find", "findutils"),
    ("cc", "gcc"),
    // The machine without Kubernetes, on which systemd runs.
    ("systemd-nspawn", "systemd-container"),
    ("useradd", "passwd"),
    ("curl", "curl"),
    ("openssl", "openssl"),
];

/// In every installation of Debian (`Essential: yes`), or with the compiler that cargo itself needs: nobody has to be told.
#[cfg(test)]
const THERE_ALREADY: [&str; 4] = ["util-linux", "findutils", "passwd", "gcc"];

/// Where distributions put CNI's plugins.
const CNI: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

/// The plugins that the node's network is made of.
const PLUGINS: [&str; 3] = ["ptp", "host-local", "loopback"];

/// The folder of CNI's plugins.
pub(super) fn cni_plugins() -> Option<PathBuf> {
    let has_all = |folder: &&&str| PLUGINS.iter().all(|plugin| Path::new(folder).join(plugin).is_file());
    CNI.iter().find(has_all).map(PathBuf::from)
}

/// An error that names everything that is missing, at once.
pub(super) fn check() -> Result<()> {
    let missing =
        missing(cfg!(target_os = "linux"), rustix::process::geteuid().is_root(), has_program, cni_plugins().is_some());
    ensure!(missing.is_empty(), "a node of our own cannot be started here without\n    {}", missing.join("\n    "));
    Ok(())
}

fn missing(is_linux: bool, is_root: bool, has: impl Fn(&str) -> bool, has_cni: bool) -> Vec<String> {
    let mut missing = Vec::new();
    if !is_linux {
        missing.push("Linux: a node is made of its namespaces and cgroups".to_owned());
    }
    if !is_root {
        missing.push("root: it makes namespaces, mounts and cgroups (sudo -E just test-node)".to_owned());
    }
    let absent = PROGRAMS.iter().filter(|(program, _)| !has(program));
    missing.extend(absent.map(|(program, package)| format!("{program}: apt-get install {package}")));
    if !has_cni {
        let (plugins, folders) = (PLUGINS.join(", "), CNI.join(", "));
        missing.push(format!(
            "CNI's plugins ({plugins}) in one of {folders}: apt-get install containernetworking-plugins"
        ));
    }
    missing
}

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// With what `dist/images` needs, which is not asked for here.
    #[test]
    fn the_readme_and_the_check_of_every_change_name_the_same_packages() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let listed = |file: &str, from: &str, to: char| -> BTreeSet<String> {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            let (_, list) =
                text.split_once(from).unwrap_or_else(|| panic!("{file} has no list that begins with {from:?}"));
            list.split(to).next().unwrap().split_whitespace().map(str::to_owned).collect()
        };
        let of_images = ["buildah", "musl-tools"];
        let ours = PROGRAMS.iter().map(|(_, package)| *package).filter(|package| !THERE_ALREADY.contains(package));
        let ours: BTreeSet<String> =
            ours.chain(["containernetworking-plugins"]).chain(of_images).map(str::to_owned).collect();
        assert_eq!(listed(".ci/run", "local packages=(", ')'), ours);
        assert_eq!(listed("README.md", "packages `", '`'), ours);
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        assert_eq!(missing(true, true, |_| true, true), [""; 0]);
        let without = missing(true, false, |program| program != "runc" && program != "nft", false);
        let [root, runc, nft, cni] = &without[..] else {
            panic!("{without:?}");
        };
        assert!(root.starts_with("root: ") && cni.contains("containernetworking-plugins"), "{without:?}");
        assert_eq!([&**runc, nft], ["runc: apt-get install runc", "nft: apt-get install nftables"]);
    }
}
