//! A machine that systemd runs, as one is at its first start: Debian's programs, nothing in `/etc` and `/var`. It shares the
//! node's network, and ends with the node's world.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;
use weir_e2e::child::Child;
use weir_e2e::node;
use weir_e2e::site::until;

/// Goes into cgroups of its own before it becomes the program: below the node's, with which they are removed.
const IN_CGROUP: &str = r#"
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
        [ ! -f "$hierarchy/cgroup.procs" ] || {
            mkdir -p "$hierarchy/$1/machine" && echo $$ >"$hierarchy/$1/machine/cgroup.procs"
        } || exit
    done
    shift
    exec "$@""#;

pub(crate) struct Machine {
    _container: Child,
    /// Its first process, as it is seen from here.
    first: u32,
}

impl Machine {
    /// Starts one with `programs` in its `/usr/bin`, and returns when it has come up.
    pub(crate) async fn start(programs: &Path) -> Result<Self> {
        let folder = PathBuf::from(std::env::var_os(node::FOLDER).context("there is no node's world to start it in")?);
        // In memory, where the world keeps what it lays over the host's folders: it may be no overlay itself.
        let usr = folder.join("over/machine/usr");
        put_programs(programs, &usr)?;
        let cgroup = folder.file_name().context("no name")?.to_string_lossy();
        let overlay = format!("--overlay=/usr:{}:/usr", usr.display());
        let args = [
            &["-c", IN_CGROUP, "sh", &*cgroup, "systemd-nspawn", "--quiet", "--register=no", "--keep-unit"][..],
            &["--directory=/", "--volatile=yes", &overlay, "--machine=weir", "--resolv-conf=off", "--link-journal=no"],
            // Filters of addresses (`IPAddressDeny`) are programs for the kernel.
            &["--capability=CAP_BPF,CAP_NET_ADMIN", "--system-call-filter=bpf"],
            &["--console=pipe", "--boot", "systemd.firstboot=off"],
        ];
        let env = [("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")];
        let container = Child::spawn("systemd-nspawn", "sh", args.concat(), env, folder.join("machine.log"))?;
        let come_up = until("the machine has come up", async || {
            let first = first_process(container.pid()).await?;
            run_in(first, "systemctl is-active multi-user.target").await?;
            Ok(first)
        });
        let first = tokio::select! {
            first = come_up => first?,
            status = container.wait() => bail!("systemd-nspawn has ended ({status}): {}", container.log()),
        };
        Ok(Self { _container: container, first })
    }

    /// Runs a script there, as root, and returns what it printed.
    pub(crate) async fn run(&self, script: &str) -> Result<String> {
        run_in(self.first, script).await
    }

    /// Writes a file there.
    pub(crate) fn write(&self, path: &str, mode: u32, text: &str) -> Result<()> {
        let file = Path::new("/proc").join(self.first.to_string()).join("root").join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().context("a path without a folder")?)?;
        fs::write(&file, text).with_context(|| format!("{path} cannot be written"))?;
        Ok(fs::set_permissions(&file, Permissions::from_mode(mode))?)
    }
}

/// What is laid over the machine's `/usr`.
fn put_programs(programs: &Path, usr: &Path) -> Result<()> {
    let (bin, presets) = (usr.join("bin"), usr.join("lib/systemd/system-preset"));
    fs::create_dir_all(&bin)?;
    fs::create_dir_all(&presets)?;
    for name in ["weir-operator", "weir-sidecar", "weir-streamer-sim"] {
        let program = programs.join(name);
        fs::copy(&program, bin.join(name)).with_context(|| format!("there is no {}: just dist", program.display()))?;
    }
    // Whatever else is installed on the host: an empty /etc has systemd enable all that its distribution would.
    Ok(fs::write(presets.join("00-none.preset"), "disable *\n")?)
}

/// systemd, a child of the container's process.
async fn first_process(container: u32) -> Result<u32> {
    let output = Command::new("ps").args(["-o", "pid=,comm=", "--ppid", &container.to_string()]).output().await?;
    let listed = String::from_utf8(output.stdout)?;
    let systemd = listed.lines().find_map(|line| line.trim().strip_suffix(" systemd"));
    Ok(systemd.with_context(|| format!("no systemd among {listed:?}"))?.trim().parse()?)
}

async fn run_in(first: u32, script: &str) -> Result<String> {
    let mut command = Command::new("nsenter");
    command.args(["--all", "--target", &first.to_string(), "sh", "-ec", script]);
    let output = command.kill_on_drop(true).output().await.context("cannot run nsenter")?;
    let told = [output.stdout, output.stderr].map(|told| String::from_utf8_lossy(&told).into_owned());
    ensure!(output.status.success(), "{script}: {}: {}", output.status, told.concat().trim_end());
    let [printed, _] = told;
    Ok(printed)
}
