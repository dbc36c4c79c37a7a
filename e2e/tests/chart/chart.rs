//! The chart, and Helm.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::process::Command;
use weir_e2e::control_plane::{Program, pinned};

pub(crate) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/weir");
/// A value for each value of the schema, none of them the default.
pub(crate) const EVERY_VALUE: &str = include_str!("every-value.yaml");

/// What hides other values when it is not what it is by default.
pub(crate) const HIDING: [&str; 3] = ["/webhook/enabled", "/crds/enabled", "/feed/outside/type"];

/// Helm, of the version that is pinned.
pub(crate) struct Helm(PathBuf);

impl Helm {
    pub(crate) async fn get() -> Result<Self> {
        let programs = pinned(&[Program::Helm]).await?;
        Ok(Self(programs.into_iter().next().context("no helm")?))
    }

    /// What it prints; what it complains about where it fails.
    pub(crate) async fn run(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(&self.0).args(args).output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The chart as text, installed as the README says, with `values`.
    pub(crate) async fn text(&self, values: &Value) -> Result<String> {
        let file = tempfile::NamedTempFile::new()?;
        serde_json::to_writer(file.as_file(), values)?;
        self.run(&["template", "weir", CHART, "--namespace=weir-system", "--values", path(file.path())?]).await
    }

    /// The same as objects.
    pub(crate) async fn objects(&self, values: &Value) -> Result<Vec<Value>> {
        let text = self.text(values).await?;
        documents(&text).with_context(|| text.clone())
    }
}

/// The objects of a text of several.
pub(crate) fn documents(yaml: &str) -> Result<Vec<Value>> {
    let documents = serde_yaml::Deserializer::from_str(yaml).map(Value::deserialize);
    let objects = documents.collect::<Result<Vec<_>, _>>()?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("no UTF-8")
}

/// All that can be turned on is, and nothing is what it is by default.
pub(crate) fn every_value() -> Result<Value> {
    Ok(serde_yaml::from_str(EVERY_VALUE)?)
}

/// The same with what hides other values as it is by default.
pub(crate) fn shown(every: &Value) -> Result<Value> {
    let mut shown = every.clone();
    for hiding in HIDING {
        let (object, key) = hiding.rsplit_once('/').context("a pointer")?;
        let object = shown.pointer_mut(object).and_then(Value::as_object_mut);
        object.and_then(|object| object.remove(key)).with_context(|| format!("there is no {hiding}"))?;
    }
    Ok(shown)
}
