//! A process that can be started again as it was.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::child::Child;

/// What is started, and its present process.
#[derive(Debug)]
pub struct Process {
    name: String,
    program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(String, OsString)>,
    log_file: PathBuf,
    child: Option<Child>,
    /// The exit status with which it may end by itself, beside 0.
    may_end_with: Option<i32>,
}

impl Process {
    /// Nothing is started yet. Its log is `NAME.log` in `folder`, all its lives in one.
    pub(crate) fn new(name: &str, program: PathBuf, folder: &Path) -> Self {
        let log_file = folder.join(format!("{name}.log"));
        Self {
            name: name.to_owned(),
            program,
            args: Vec::new(),
            env: Vec::new(),
            log_file,
            child: None,
            may_end_with: None,
        }
    }

    /// Adds `--NAME VALUE`.
    pub fn flag(&mut self, name: &str, value: impl Into<OsString>) {
        self.args.push(format!("--{name}").into());
        self.args.push(value.into());
    }

    /// As [`Process::flag`], in the place of the value that it had.
    pub fn set_flag(&mut self, name: &str, value: impl Into<OsString>) {
        let flag = OsString::from(format!("--{name}"));
        if let Some(at) = self.args.iter().position(|arg| *arg == flag) {
            self.args.drain(at..at + 2);
        }
        self.flag(name, value);
    }

    /// From the next start on it is started by another program: `words`, which its own name and arguments follow.
    pub fn start_within(&mut self, words: &[OsString]) {
        let [program, before @ ..] = words else {
            return;
        };
        let own = std::mem::replace(&mut self.program, program.into());
        self.args.splice(0..0, before.iter().cloned().chain([own.into()]));
    }

    /// It is part of the scenario that it ends by itself with that exit status.
    pub fn may_end_with(&mut self, code: i32) {
        self.may_end_with = Some(code);
    }

    /// Waits for its end, and returns its exit status; `None` if a signal ended it.
    pub async fn wait(&self) -> Result<Option<i32>> {
        let ended = tokio::time::timeout(super::PATIENCE, self.child()?.wait()).await;
        let status = ended.with_context(|| format!("{} goes on and should have ended", self.name))?;
        Ok(status.code())
    }

    /// Starts it, with the arguments of before.
    pub fn start(&mut self) -> Result<()> {
        if self.is_running() {
            bail!("{} runs already", self.name);
        }
        let env = self.env.iter().map(|(name, value)| (name, value));
        self.child = Some(Child::spawn(&self.name, &self.program, &self.args, env, &self.log_file)?);
        Ok(())
    }

    /// Its process.
    pub fn child(&self) -> Result<&Child> {
        self.child.as_ref().with_context(|| format!("{} was never started", self.name))
    }

    /// SIGKILL; returns when it is gone.
    pub async fn kill9(&self) -> Result<()> {
        self.child()?.kill9().await
    }

    /// SIGTERM, and waits for its end.
    pub async fn stop(&self) -> Result<()> {
        self.child()?.stop().await.map(drop)
    }

    /// Whether it was started and has not ended.
    pub fn is_running(&self) -> bool {
        self.child.as_ref().is_some_and(Child::is_running)
    }

    /// Whether it ended without having been killed or stopped by us: with an exit status that is not 0.
    pub(super) fn failed(&self) -> Option<String> {
        let status = self.child.as_ref()?.exit_status()?;
        let code = status.code().filter(|code| *code != 0 && Some(*code) != self.may_end_with)?;
        Some(format!("{} ended with exit status {code}", self.name))
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All that it has printed, in all its lives.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log_file).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
