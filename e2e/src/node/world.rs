//! A world of a node's own: its network, its mounts and its processes. They end with it, however it ends, because the
//! kernel kills whoever lives in a PID namespace whose first process is gone.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::child::Watchdog;

/// The node's own address, which its pods reach too.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);

/// Set within a world: the folder that everything of the node lies in.
pub const FOLDER: &str = "WEIR_E2E_NODE_FOLDER";

/// Set within a world: the process outside whose network and mounts are the node's.
const PROCESS: &str = "WEIR_E2E_NODE_PROCESS";

/// What the folders of nodes are called.
const PREFIX: &str = "weir-node-";

const WORLD: &str = include_str!("world.sh");
const TEAR_DOWN: &str = include_str!("tear_down.sh");

/// Held by whoever a folder belongs to, for as long as they live.
const LOCK: &str = "lock";

/// The folder of the node, for who is in its world.
pub(super) fn folder() -> Result<PathBuf> {
    let folder =
        std::env::var_os(FOLDER).context("a node is started in a world of its own: `node::enter` comes first")?;
    Ok(folder.into())
}

/// What stands before a command to run it on the node, from outside.
pub fn from_outside() -> Result<String> {
    let process = std::env::var(PROCESS).context("who is not in a node's world has no way into it")?;
    Ok(format!("nsenter --net --mount --target {process}"))
}

/// Starts this program once more, with the same arguments, in a world of its own; both have ended when it returns.
pub(super) fn run_again() -> Result<ExitCode> {
    remove_what_lies_around()?;
    let folder = tempfile::Builder::new().prefix(PREFIX).tempdir().context("cannot make a temporary folder")?.keep();
    let _lock = take(&folder)?;
    let watchdog = Watchdog::start(TEAR_DOWN, &folder)?;
    let ended = run(&folder);
    tear_down(&folder)?;
    watchdog.dismiss();
    ended
}

/// Starts this program again as part of a new world, and waits for its end.
fn run(folder: &Path) -> Result<ExitCode> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"]);
    unshare.args(["sh", "-c", WORLD, "sh"]).arg(folder).arg(ADDRESS.to_string());
    unshare.arg(std::env::current_exe().context("cannot find the running program's own file")?);
    unshare.args(std::env::args_os().skip(1));
    unshare.env(FOLDER, folder).env("TMPDIR", folder);
    let mut world = unshare.stdin(Stdio::piped()).spawn().context("cannot start unshare")?;
    let watchdog = Watchdog::start(r#"kill -s KILL "$1""#, OsString::from(world.id().to_string()))?;
    // Nobody reads the line when it has ended already: its status says why.
    let _ = world.stdin.take().map(|mut gate| writeln!(gate, "{}", world.id()));
    let status = world.wait();
    watchdog.dismiss();
    let status = status.context("the end of the node's world is not known")?;
    if let Some(signal) = status.signal() {
        eprintln!("the node's world was ended by signal {signal}");
    }
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Removes a folder and the cgroups of its node, whose processes are dead.
fn tear_down(folder: &Path) -> Result<()> {
    let output = Command::new("sh").args(["-c", TEAR_DOWN, "sh"]).arg(folder).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the node's remains cannot be removed: {}", told.trim_end());
    Ok(())
}

/// What nodes have left whose owner was killed together with its watchdog, or with the machine.
fn remove_what_lies_around() -> Result<()> {
    for entry in fs::read_dir(std::env::temp_dir())? {
        let folder = entry?.path();
        let of_a_node = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        if of_a_node && take(&folder).is_ok() {
            eprintln!("removing {}, which a node has left", folder.display());
            tear_down(&folder)?;
        }
    }
    Ok(())
}

/// The lock of a folder, if nobody has it.
fn take(folder: &Path) -> Result<File> {
    let lock = File::create(folder.join(LOCK))?;
    lock.try_lock()?;
    Ok(lock)
}
