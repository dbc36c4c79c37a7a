//! A process of a scenario that can be killed, paused and read, and that never outlives us.
//!
//! A scenario kills, pauses and restarts real processes, and may itself be killed at any
//! instant (a test that times out gets a SIGKILL). Nothing may be left running then. So every
//! child has a watchdog, a shell that holds the read end of a pipe of ours: when the pipe
//! closes, for whatever reason, it kills the child's process group.
//! Parent-death signals would not do: they are Linux only, and tied to the thread that spawned.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use tokio::sync::watch;

/// How long [`Child::stop`] waits after SIGTERM. Kubernetes' own grace period.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// Waits for one line before it becomes the program, under the same pid: if we die before the
/// watchdog stands, the line never comes and the program never runs.
const GATE: &str = r#"read -r _ || exit 125; exec "$@" </dev/null"#;

/// Goes on to a watchdog's own script when its pipe closes, and ends when a line comes first.
const UNLESS_DISMISSED: &str = "trap '' HUP INT TERM; read -r _ && exit; ";

/// `-s KILL -- -PID` is the one form that all shells take for a process group.
const KILL_GROUP: &str = r#"kill -s KILL -- "-$1""#;

/// A running (or ended) process. Dropping it kills it.
///
/// Its standard output and error go to its log file. It has a process group of its own: Ctrl-C
/// in a terminal reaches us, not it, and what it started itself dies with it.
#[derive(Debug)]
pub struct Child {
    name: String,
    pid: Pid,
    log_file: PathBuf,
    /// True until the process is reaped; signals are sent under this lock, so that a pid that
    /// the system has given to somebody else is never signalled.
    alive: Arc<Mutex<bool>>,
    exit: watch::Receiver<Option<ExitStatus>>,
    reaper: Option<JoinHandle<()>>,
}

impl Child {
    /// Starts `program`, which is called `name` in errors, with `env` on top of our own
    /// environment. What it prints is appended to `log_file`.
    pub fn spawn<A, E, K, V>(
        name: &str,
        program: impl AsRef<Path>,
        args: A,
        env: E,
        log_file: impl AsRef<Path>,
    ) -> Result<Self>
    where
        A: IntoIterator,
        A::Item: AsRef<OsStr>,
        E: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        let mut command = Command::new("sh");
        command.args(["-c", GATE, "sh"]).arg(program.as_ref()).args(args).envs(env);
        Self::spawn_command(name, program.as_ref(), command, log_file.as_ref())
    }

    fn spawn_command(name: &str, program: &Path, mut command: Command, log_file: &Path) -> Result<Self> {
        if program.components().count() > 1 && !program.is_file() {
            bail!("cannot start {name}: there is no {}", program.display());
        }
        let log = open_log(log_file)?;
        let mut child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", program.display()))?;
        let gate = child.stdin.take();
        let pid = Pid::from_child(&child);
        let alive = Arc::new(Mutex::new(true));
        let (sender, exit) = watch::channel(None);

        let watchdog = Watchdog::start(KILL_GROUP, pid.as_raw_pid().to_string())?;
        let reaper = std::thread::Builder::new().name(format!("reap {name}")).spawn({
            let alive = Arc::clone(&alive);
            move || reap(child, &alive, watchdog, &sender)
        })?;
        // Nobody reads the line when the process is already gone: its exit status says why.
        let _ = gate.map(|mut gate| gate.write_all(b"\n"));
        Ok(Self { name: name.to_owned(), pid, log_file: log_file.to_owned(), alive, exit, reaper: Some(reaper) })
    }

    /// The name given to [`Child::spawn`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the program's own process.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// The file that takes what the process prints.
    pub fn log_file(&self) -> &Path {
        &self.log_file
    }

    /// True until the process has ended. A paused process is running.
    pub fn is_running(&self) -> bool {
        self.exit_status().is_none()
    }

    /// How the process ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits until the process has ended.
    pub async fn wait(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await.map(|status| *status);
        ended.ok().flatten().unwrap_or_else(unknown)
    }

    /// Kills the process with SIGKILL and waits until it is gone. It is an error if it had
    /// already ended: then the scenario is not what it says.
    pub async fn kill9(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait().await;
        Ok(())
    }

    /// Asks the process to end with SIGTERM and waits for it, for 30 seconds at most; then it is
    /// killed, and that is an error.
    pub async fn stop(&self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        if let Ok(status) = tokio::time::timeout(STOP_WITHIN, self.wait()).await {
            return Ok(status);
        }
        self.kill9().await?;
        bail!(
            "{} did not end within {STOP_WITHIN:?} of SIGTERM and was killed; the end of its log:\n{}",
            self.name,
            self.log_tail(20)
        )
    }

    /// Stops the process where it stands (SIGSTOP): it keeps its sockets and answers nothing.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// All that the process has printed, as far as it is UTF-8.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log_file).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last `lines` lines that the process has printed.
    pub fn log_tail(&self, lines: usize) -> String {
        last_lines(&self.log(), lines).to_owned()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let alive = lock(&self.alive);
        if !*alive {
            let status = self.exit_status().unwrap_or_else(unknown);
            let tail = self.log_tail(20);
            bail!("{} has already ended ({status}); the end of its log:\n{tail}", self.name);
        }
        kill_process(self.pid, signal).with_context(|| format!("cannot send {signal:?} to {}", self.name))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let alive = lock(&self.alive);
        if *alive {
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
        drop(alive);
        if let Some(reaper) = self.reaper.take() {
            let _ = reaper.join();
        }
    }
}

/// Waits for the end of `child`, ends its process group and its watchdog, and reports.
fn reap(mut child: process::Child, alive: &Mutex<bool>, watchdog: Watchdog, exit: &watch::Sender<Option<ExitStatus>>) {
    let pid = Pid::from_child(&child);
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    // The pid stays ours until `wait` below takes it, which nobody who signals can overlap.
    while matches!(waitid(WaitId::Pid(pid), ended), Err(Errno::INTR)) {}
    let mut alive = lock(alive);
    let _ = kill_process_group(pid, Signal::KILL);
    watchdog.dismiss();
    let status = child.wait().unwrap_or_else(|_| unknown());
    *alive = false;
    exit.send_replace(Some(status));
}

/// A shell that runs a script when this process dies, or when it is dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: process::Child,
    pipe: Option<ChildStdin>,
}

impl Watchdog {
    /// The script finds `argument` as `$1`.
    pub(crate) fn start(script: &str, argument: impl AsRef<OsStr>) -> Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", &format!("{UNLESS_DISMISSED}{script}"), "sh"])
            .arg(argument)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the shell that ends our processes when we die")?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }

    /// Ends the shell without running its script.
    pub(crate) fn dismiss(mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.write_all(b"\n");
        }
        let _ = self.shell.wait();
    }
}

/// The last `count` lines of `text`.
pub(crate) fn last_lines(text: &str, count: usize) -> &str {
    let text = text.trim_end();
    let Some(count) = count.checked_sub(1) else {
        return "";
    };
    match text.rmatch_indices('\n').nth(count) {
        Some((newline, _)) => text.get(newline + 1..).unwrap_or_default(),
        None => text,
    }
}

/// For an end that the system did not tell us about, which must not pass for a success.
fn unknown() -> ExitStatus {
    ExitStatus::from_raw(255 << 8)
}

fn open_log(path: &Path) -> Result<File> {
    let open = || -> io::Result<File> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        OpenOptions::new().create(true).append(true).open(path)
    };
    open().with_context(|| format!("cannot write the log file {}", path.display()))
}

fn lock(alive: &Mutex<bool>) -> MutexGuard<'_, bool> {
    alive.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_ENV: [(&str, &str); 0] = [];

    fn shell(script: &str, folder: &Path) -> Child {
        Child::spawn("a script", "sh", ["-c", script], NO_ENV, folder.join("log")).unwrap()
    }

    async fn await_log(child: &Child, text: &str) {
        while !child.log().contains(text) {
            assert!(child.is_running(), "ended early: {}", child.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The state of a process as `ps` shows it: `T` when paused, empty when there is none.
    fn state(pid: u32) -> String {
        let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// True while a process that is nobody's zombie has this pid.
    fn exists(pid: u32) -> bool {
        let state = state(pid);
        !state.is_empty() && !state.starts_with('Z')
    }

    #[tokio::test]
    async fn the_pid_is_that_of_the_program_and_its_output_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let args = ["-c", "echo pid $$ $WORD; echo problem >&2; exit 3"];
        let child = Child::spawn("a script", "sh", args, [("WORD", "seven")], log).unwrap();
        assert_eq!(child.wait().await.code(), Some(3));
        assert_eq!(child.log(), format!("pid {} seven\nproblem\n", child.pid()));
        assert_eq!(child.log_tail(1), "problem");
    }

    #[tokio::test]
    async fn a_killed_process_is_gone_when_kill9_returns() {
        let folder = tempfile::tempdir().unwrap();
        let child = shell("trap '' TERM; echo up; while :; do sleep 1; done", folder.path());
        await_log(&child, "up").await;
        child.kill9().await.unwrap();
        assert!(!child.is_running() && !exists(child.pid()));
        let error = child.kill9().await.unwrap_err().to_string();
        assert!(error.contains("a script has already ended"), "{error}");
    }

    #[tokio::test]
    async fn a_stopped_process_may_end_in_its_own_way() {
        let folder = tempfile::tempdir().unwrap();
        let script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done";
        let child = shell(script, folder.path());
        await_log(&child, "up").await;
        assert_eq!(child.stop().await.unwrap().code(), Some(7));
        assert_eq!(child.log(), "up\nbye\n");
    }

    #[tokio::test]
    async fn a_paused_process_stands_still_until_it_is_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let script = "trap 'echo heard' USR1; echo up; while :; do sleep 0.01; done";
        let child = shell(script, folder.path());
        await_log(&child, "up").await;
        child.pause().unwrap();
        while !state(child.pid()).starts_with('T') {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(child.is_running());
        child.signal(Signal::USR1).unwrap();
        assert_eq!(child.log(), "up\n");
        child.resume().unwrap();
        await_log(&child, "heard").await;
    }

    #[tokio::test]
    async fn dropping_a_process_ends_it_and_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let child = shell("sleep 600 & echo started $!; wait", folder.path());
        await_log(&child, "\n").await;
        let grandchild: u32 = child.log().trim()["started ".len()..].parse().unwrap();
        assert!(exists(grandchild));
        let pid = child.pid();
        drop(child);
        assert!(!exists(pid));
        while exists(grandchild) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("weir-operator");
        let error = Child::spawn("operator", &program, [""; 0], NO_ENV, folder.path().join("log")).unwrap_err();
        let told = format!("cannot start operator: there is no {}", program.display());
        assert_eq!(error.to_string(), told);
    }

    #[test]
    fn the_tail_of_a_log_is_whole_lines() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a\nb", 5), "a\nb");
        assert_eq!(last_lines("a\nb", 0), "");
        assert_eq!(last_lines("", 3), "");
    }
}
