//! The chart as a next release may have it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::site::CHART;

/// A copy of the chart, for as long as it is held.
pub(crate) struct ChangedChart {
    folder: TempDir,
}

impl ChangedChart {
    /// With `text` before the first `line` of a file.
    pub(crate) fn with(file: &str, line: &str, text: &str) -> Result<Self> {
        let chart = Self { folder: tempfile::tempdir()? };
        let copied = Command::new("cp").arg("-r").arg(CHART).arg(chart.folder()).status()?;
        ensure!(copied.success(), "the chart cannot be copied");
        let path = chart.folder().join(file);
        let before = fs::read_to_string(&path)?;
        let place = before.find(&format!("\n{line}")).with_context(|| format!("{file} has changed: mend this test"))?;
        let (head, tail) = before.split_at(place + 1);
        fs::write(&path, [head, text, tail].concat())?;
        Ok(chart)
    }

    pub(crate) fn path(&self) -> Result<String> {
        Ok(self.folder().to_str().context("no UTF-8")?.to_owned())
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().join("weir")
    }
}
