//! A place for a process that comes and goes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};

use crate::child::Child;

/// A process that can be ended and started again with the same arguments.
pub(crate) struct Part {
    name: String,
    file: PathBuf,
    args: Vec<OsString>,
    log_file: PathBuf,
    child: Mutex<Option<Arc<Child>>>,
}

impl Part {
    /// `file` is the program, `folder` takes the log.
    pub(crate) fn new(file: &Path, folder: &Path, args: Vec<OsString>) -> Self {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self {
            log_file: folder.join(format!("{name}.log")),
            name,
            file: file.to_owned(),
            args,
            child: Mutex::default(),
        }
    }

    /// Starts it; what it printed before stays in the log. It is an error if it runs already.
    pub(crate) fn start(&self) -> Result<Arc<Child>> {
        let mut slot = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let running = slot.as_ref().is_some_and(|child| child.is_running());
        ensure!(!running, "{} is running already", self.name);
        let no_env = std::iter::empty::<(&str, &str)>();
        let child = Child::spawn(&self.name, &self.file, &self.args, no_env, &self.log_file)?;
        let child = Arc::new(child);
        *slot = Some(Arc::clone(&child));
        Ok(child)
    }

    /// The process as it was started last.
    pub(crate) fn child(&self) -> Result<Arc<Child>> {
        let slot = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let child = slot.clone();
        child.with_context(|| format!("{} was never started", self.name))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child().is_ok_and(|child| child.is_running())
    }
}
