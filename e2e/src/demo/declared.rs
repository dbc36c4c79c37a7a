//! What the manifests declare, as far as the outcome is held against it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize as _;
use serde_json::Value;
use weir_crds::{Stream, Streamer, decode, validate};

/// What is to become of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// One streamer reads it at all times.
    Captured,
    /// It is read while somebody watches it.
    OnDemand,
    /// Nobody reads it: somebody publishes to it.
    Published,
    Disabled,
}

/// The declared streams by media name, each with its `failover.after`; and the Streamers.
#[derive(Debug, Default)]
pub struct Declared {
    pub streams: BTreeMap<String, (Wish, Duration)>,
    pub streamers: BTreeSet<String>,
}

impl Declared {
    /// Reads the manifests in `folder`; one that a cluster would refuse is an error.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut declared = Self::default();
        for (place, object) in objects(folder)? {
            declared.add(&object).with_context(|| place)?;
        }
        Ok(declared)
    }

    fn add(&mut self, object: &Value) -> Result<()> {
        let kind = object["kind"].as_str().unwrap_or_default();
        if !matches!(kind, "Stream" | "Streamer") {
            return Ok(());
        }
        let told = |problems: Vec<weir_crds::Problem>| {
            let each = problems.iter().map(ToString::to_string);
            anyhow::Error::msg(each.collect::<Vec<_>>().join("; "))
        };
        let object = validate(kind, object, None).map_err(told)?;
        if kind == "Streamer" {
            let streamer: Streamer = decode(&object).map_err(told)?;
            self.streamers.extend(streamer.metadata.name);
            return Ok(());
        }
        let stream: Stream = decode(&object).map_err(told)?;
        let after = Duration::from_millis(stream.spec.failover.after.as_ms());
        let before = self.streams.insert(stream.media_name().to_owned(), (wish(&stream), after));
        ensure!(before.is_none(), "there is another Stream with the media name {}", stream.media_name());
        Ok(())
    }

    /// The streams that one streamer is to read at all times.
    pub fn captured(&self) -> BTreeSet<String> {
        let captured = self.streams.iter().filter(|(_, (wish, _))| *wish == Wish::Captured);
        captured.map(|(name, _)| name.clone()).collect()
    }

    /// The longest `failover.after` of these streams.
    pub fn longest_after<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Duration {
        let after = |name| self.streams.get(name).map(|(_, after)| *after);
        names.into_iter().filter_map(after).max().unwrap_or_default()
    }
}

fn wish(stream: &Stream) -> Wish {
    if stream.spec.disabled {
        Wish::Disabled
    } else if stream.spec.inputs.iter().all(|input| input.url == "publish://") {
        Wish::Published
    } else if stream.spec.r#static {
        Wish::Captured
    } else {
        Wish::OnDemand
    }
}

/// Every object of the folder's YAML files, with its place for a person.
pub fn objects(folder: &Path) -> Result<Vec<(String, Value)>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    let mut objects = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for (index, document) in serde_yaml::Deserializer::from_str(&text).enumerate() {
            let place = format!("{}, document {}", path.display(), index + 1);
            let object = Value::deserialize(document).with_context(|| place.clone())?;
            if !object.is_null() {
                objects.push((place, object));
            }
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use weir_crds::check_stream;
    use weir_crds::secret_ref::fill;

    use super::super::EXAMPLES;
    use super::*;

    #[test]
    fn a_cluster_takes_every_example_and_every_secret_that_they_name_is_there() {
        let objects = objects(Path::new(EXAMPLES)).unwrap();
        let secret = |name: &str, key: &str| {
            let mut secrets = objects.iter().map(|(_, object)| object).filter(|object| object["kind"] == "Secret");
            let found = secrets.find(|secret| secret["metadata"]["name"] == name)?;
            assert_eq!(found["type"], "weir.dev/credentials");
            found["stringData"][key].as_str().map(str::to_owned)
        };
        for (place, object) in &objects {
            let kind = object["kind"].as_str().unwrap();
            // Secrets, and the pods of streamers, are Kubernetes' own.
            if object["apiVersion"] != "weir.dev/v1alpha1" {
                continue;
            }
            let admitted = validate(kind, object, None).unwrap_or_else(|problems| panic!("{place}: {problems:?}"));
            if kind == "Stream" {
                let stream: Stream = decode(&admitted).unwrap();
                assert_eq!(check_stream(&stream.spec), [], "{place}");
                let filled = fill(&object["spec"], &mut |wanted| secret(&wanted.name, &wanted.key));
                assert!(filled.is_ok(), "{place}: {filled:?}");
            }
        }
    }

    #[test]
    fn the_examples_show_every_shape_of_a_stream() {
        let declared = Declared::read(Path::new(EXAMPLES)).unwrap();
        for shape in [Wish::Captured, Wish::OnDemand, Wish::Published, Wish::Disabled] {
            assert!(declared.streams.values().any(|(wish, _)| *wish == shape), "{shape:?}");
        }
        assert_eq!(declared.streamers.len(), 3);
        assert!(declared.captured().len() >= 10);
    }
}
