//! The configuration that survives a restart: one JSON file, replaced as a whole.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{check, streams_of};
use super::configuration::Configuration;
use super::document::Document;

/// What the state file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    config_external: Option<String>,
    external: Vec<Value>,
    own: Vec<Value>,
    running: BTreeSet<String>,
}

/// What a streamer knew when it went down.
#[derive(Debug, Default)]
pub struct Saved {
    pub config_external: Option<String>,
    pub external: Vec<Document>,
    pub own: Vec<Document>,
    pub running: BTreeSet<String>,
}

/// Reads the state file; one that does not exist yet is empty.
pub fn load(path: &Path) -> anyhow::Result<Saved> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let file: File =
        serde_json::from_slice(&text).with_context(|| format!("{} is not a state file", path.display()))?;
    let documents = |values: Vec<Value>| {
        let each = values.into_iter().map(|value| check(value, 0));
        each.collect::<Result<Vec<_>, _>>().map_err(|invalid| anyhow!("{}: {}", path.display(), invalid.detail))
    };
    Ok(Saved {
        config_external: file.config_external,
        external: documents(file.external)?,
        own: documents(file.own)?,
        running: file.running,
    })
}

/// Writes the state file beside itself and renames it into place.
pub fn save(path: &Path, config_external: Option<&str>, configuration: &Configuration) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Borrowed<'a> {
        config_external: Option<&'a str>,
        external: Vec<&'a Document>,
        own: Vec<&'a Document>,
        running: BTreeSet<&'a String>,
    }
    let file = Borrowed {
        config_external,
        external: configuration.external().values().collect(),
        own: configuration.own().values().collect(),
        running: configuration.running().keys().collect(),
    };
    let write = || -> anyhow::Result<()> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let mut beside = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        beside.write_all(&serde_json::to_vec(&file)?)?;
        beside.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Reads a configuration file of its own: `{"streams": [ … ]}`, as on the wire.
pub fn own_streams(path: &Path) -> anyhow::Result<Vec<Document>> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    streams_of(&text, 0).map_err(|invalid| {
        let place = Value::Array(invalid.path);
        anyhow!("{} at {place}: {}", path.display(), invalid.detail)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::configuration::{Event, Habits};
    use super::*;

    #[test]
    fn what_was_saved_is_what_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert!(load(&path).unwrap().running.is_empty());

        let document = |name: &str, is_static: bool| {
            let document = json!({"name": name, "static": is_static, "inputs": [{"url": "udp://x:1"}]});
            check(document, 0).unwrap()
        };
        let mut configuration = Configuration::new(Habits::default(), [document("own", false)], []);
        let listed = vec![document("a", true), document("b", false)];
        configuration.step(Event::Listed(listed));
        save(&path, Some("http://b"), &configuration).unwrap();

        let saved = load(&path).unwrap();
        assert_eq!(saved.config_external.as_deref(), Some("http://b"));
        assert_eq!(saved.external, [document("a", true), document("b", false)]);
        assert_eq!(saved.own, [document("own", false)]);
        assert_eq!(saved.running, BTreeSet::from(["a".to_owned()]));
    }

    #[test]
    fn a_broken_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        std::fs::write(&path, "{").unwrap();
        assert!(format!("{:#}", load(&path).unwrap_err()).contains("state.json"));
        std::fs::write(&path, r#"{"streams":[{"name":"a"},{}]}"#).unwrap();
        let error = own_streams(&path).unwrap_err().to_string();
        assert!(error.contains(r#"["streams",1,"name"]: name is missing"#), "{error}");
    }
}
