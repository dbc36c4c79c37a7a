//! Runs a program and kills it with SIGKILL at its n-th write to files whose path has a given beginning, before that write is done.
//!
//! `kill-at-write --files PREFIX --number N --told FILE -- PROGRAM [ARGUMENT…]`: when it has killed, it writes what the write was to FILE.
//! It looks at every system call of the program through ptrace, so no write is missed. Linux on x86-64 or arm64 only.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
struct Arguments {
    /// What a file's path begins with to count.
    #[arg(long)]
    files: String,
    /// The write that is not done, counted from 1; 0: none is prevented.
    #[arg(long)]
    number: u64,
    /// Where it is told which write that was; without it, all of them one a line.
    #[arg(long)]
    told: PathBuf,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match traced::run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kill-at-write: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod traced {
    pub(super) fn run(_: &super::Arguments) -> anyhow::Result<std::process::ExitCode> {
        anyhow::bail!("system calls are looked at on Linux with x86-64 or arm64 only")
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod traced {
    use std::collections::BTreeSet;
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::process::{Command, ExitCode, Stdio};

    use anyhow::{Context as _, Result};
    use nix::libc;
    use nix::sys::ptrace::{self, Options};
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::Pid;

    use super::Arguments;

    /// Becomes the program, under the same pid, when it is looked at.
    const GATE: &str = r#"read -r _ || exit 125; exec "$@" </dev/null"#;

    /// System calls that change a file by its descriptor.
    const WRITES: [(i64, &str); 8] = [
        (libc::SYS_write, "write"),
        (libc::SYS_writev, "writev"),
        (libc::SYS_pwrite64, "pwrite"),
        (libc::SYS_pwritev, "pwritev"),
        (libc::SYS_ftruncate, "ftruncate"),
        (libc::SYS_fallocate, "fallocate"),
        (libc::SYS_fsync, "fsync"),
        (libc::SYS_fdatasync, "fdatasync"),
    ];

    pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
        let mut command = Command::new("sh");
        command.args(["-c", GATE, "sh"]).args(&arguments.command).stdin(Stdio::piped());
        let mut child = command.spawn().context("cannot start a shell")?;
        let mut gate = child.stdin.take().context("no gate")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        let refused = "the program cannot be looked at: ptrace must be allowed for one's own children (kernel.yama.ptrace_scope 0 or 1, and no seccomp profile against it)";
        ptrace::seize(pid, options).context(refused)?;
        ptrace::interrupt(pid).context(refused)?;
        gate.write_all(b"\n")?;
        let mut watch = Watch { arguments, program: pid, seen: 0, within: BTreeSet::new() };
        loop {
            // Waiting for any child: the program's threads and processes are all ours to look at.
            let status = waitpid(None, Some(WaitPidFlag::__WALL))?;
            if let Some(code) = watch.stopped(status)? {
                return Ok(code);
            }
        }
    }

    struct Watch<'a> {
        arguments: &'a Arguments,
        program: Pid,
        /// Writes so far.
        seen: u64,
        /// Threads that are in a system call.
        within: BTreeSet<Pid>,
    }

    impl Watch<'_> {
        /// One of them stopped, or ended; the exit code when it was the program itself that ended.
        fn stopped(&mut self, status: WaitStatus) -> Result<Option<ExitCode>> {
            match status {
                WaitStatus::PtraceSyscall(thread) => {
                    if !self.within.remove(&thread) {
                        self.within.insert(thread);
                        self.entered(thread)?;
                    }
                    go_on(thread, None)?;
                }
                WaitStatus::PtraceEvent(thread, _, event) => {
                    if event == libc::PTRACE_EVENT_EXEC {
                        // Of the call that made it another program, only the end comes.
                        self.within.insert(thread);
                    }
                    go_on(thread, None)?;
                }
                WaitStatus::Stopped(thread, signal) => go_on(thread, Some(signal))?,
                WaitStatus::Exited(process, code) if process == self.program => {
                    return Ok(Some(ExitCode::from(u8::try_from(code).unwrap_or(1))));
                }
                WaitStatus::Signaled(process, signal, _) if process == self.program => {
                    return Ok(Some(ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(1))));
                }
                WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, _, _) => {
                    self.within.remove(&thread);
                }
                WaitStatus::Continued(_) | WaitStatus::StillAlive => {}
            }
            Ok(None)
        }

        /// A system call is about to be done.
        fn entered(&mut self, thread: Pid) -> Result<()> {
            let Ok((call, descriptor)) = call(thread) else {
                // It was killed at this very moment.
                return Ok(());
            };
            let Some((_, name)) = WRITES.iter().find(|(write, _)| *write == call) else {
                return Ok(());
            };
            let link = format!("/proc/{thread}/fd/{descriptor}");
            let Ok(file) = std::fs::read_link(link) else {
                return Ok(());
            };
            let file = file.to_string_lossy();
            let Some(rest) = file.strip_prefix(&self.arguments.files) else {
                return Ok(());
            };
            self.seen += 1;
            let last = self.seen == self.arguments.number;
            if last || self.arguments.number == 0 {
                let mut told = OpenOptions::new().create(true).append(true).open(&self.arguments.told)?;
                writeln!(told, "{} {name} …{rest}", self.seen)?;
            }
            if last {
                kill(self.program, Signal::SIGKILL)?;
            }
            Ok(())
        }
    }

    /// Lets it go on to its next system call; one that was killed meanwhile cannot.
    fn go_on(thread: Pid, signal: Option<Signal>) -> Result<()> {
        match ptrace::syscall(thread, signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The number of the system call and its first argument.
    #[cfg(target_arch = "x86_64")]
    fn call(thread: Pid) -> Result<(i64, u64)> {
        let registers = ptrace::getregs(thread)?;
        Ok((registers.orig_rax.cast_signed(), registers.rdi))
    }

    #[cfg(target_arch = "aarch64")]
    fn call(thread: Pid) -> Result<(i64, u64)> {
        let registers = ptrace::getregs(thread)?;
        Ok((registers.regs[8].cast_signed(), registers.regs[0]))
    }
}
