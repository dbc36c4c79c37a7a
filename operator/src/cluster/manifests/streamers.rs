//! Streamers that nobody declared: each that registered is a file `streamers/NAMESPACE/NAME.json` of the state directory.
//! Removing the file removes the Streamer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::{Streamer, StreamerSpec};
use weir_feed::frames::About;
use weir_feed::record::StreamerId;
use weir_feed::time::Now;

use super::file::{self, StateError};
use super::known::{Entry, Key, Kind};
use super::scan::{self, Outline};
use crate::cluster::ObjectRef;
use crate::text::is_name;

const ADVICE: &str =
    "restore it from a backup, or move it away: the Streamer registers again when its sidecar connects";

/// The registered Streamers of a state directory.
pub(super) struct Registered {
    directory: PathBuf,
    outline: Option<Outline>,
    streamers: BTreeMap<ObjectRef, Arc<Streamer>>,
}

impl Registered {
    /// Reads them; refuses them if any is unreadable.
    pub(super) fn open(state: &Path) -> Result<Self, StateError> {
        let directory = state.join("streamers");
        file::make_directory(&directory).map_err(|error| {
            file::unusable(
                &directory,
                &format!("cannot be made ({error})"),
                "let the operator's user write the state directory",
            )
        })?;
        let mut registered = Self { directory, outline: None, streamers: BTreeMap::new() };
        registered.refresh()?;
        Ok(registered)
    }

    /// Those there are.
    pub(super) fn streamers(&self) -> &BTreeMap<ObjectRef, Arc<Streamer>> {
        &self.streamers
    }

    /// Reads them again if their files changed; `true` where they did. After an error those that were there stay.
    pub(super) fn refresh(&mut self) -> Result<bool, StateError> {
        let outline = scan::outline(&self.directory).ok();
        if outline.is_some() && outline == self.outline {
            return Ok(false);
        }
        let mut streamers = BTreeMap::new();
        for namespace in file::names(&self.directory)? {
            for name in file::names(&self.directory.join(&namespace))? {
                let Some(name) = name.strip_suffix(".json") else { continue };
                let object = ObjectRef { namespace: namespace.clone(), name: name.to_owned() };
                let path = self.path(&object);
                let Some(streamer) = file::read_json::<Streamer>(&path, ADVICE)? else { continue };
                let named = (streamer.metadata.namespace.as_deref(), streamer.metadata.name.as_deref());
                if named != (Some(&object.namespace), Some(&object.name)) {
                    return Err(file::unusable(&path, "holds another Streamer than its path says", ADVICE));
                }
                streamers.insert(object, Arc::new(streamer));
            }
        }
        self.outline = outline;
        self.streamers = streamers;
        Ok(true)
    }

    /// Adds a Streamer; one that is there stays as it is.
    pub(super) fn add(&mut self, streamer: &StreamerId, about: &About, now: Now) -> Result<(), StateError> {
        let object = ObjectRef { namespace: streamer.namespace.clone(), name: streamer.name.clone() };
        if self.streamers.contains_key(&object) {
            return Ok(());
        }
        let made = make(&object, about, now.wall)
            .map_err(|why| StateError(format!("Streamer {streamer} cannot be registered: {why}")))?;
        let path = self.path(&object);
        let written = serde_json::to_vec(&made).map_err(Into::into).and_then(|text| {
            file::make_directory(path.parent().unwrap_or(&self.directory))?;
            file::replace(&path, &text)
        });
        written.map_err(|error| {
            file::unusable(
                &path,
                &format!("cannot be written ({error})"),
                "make room, or let the operator's user write it",
            )
        })?;
        self.streamers.insert(object, Arc::new(made));
        self.outline = None;
        Ok(())
    }

    fn path(&self, object: &ObjectRef) -> PathBuf {
        self.directory.join(&object.namespace).join(format!("{}.json", object.name))
    }
}

/// The Streamer that a sidecar describes, if a cluster would take it.
fn make(object: &ObjectRef, about: &About, wall: u64) -> Result<Streamer, String> {
    if !is_name(&object.namespace) || !is_name(&object.name) {
        return Err("its name is not one that Kubernetes takes".to_owned());
    }
    let hostname = Some(about.hostname.clone()).filter(|hostname| !hostname.is_empty() && *hostname != object.name);
    let spec = StreamerSpec { hostname, addresses: about.addresses.clone(), ..StreamerSpec::default() };
    let mut streamer = Streamer::new(&object.name, spec);
    let entry = Entry { first_seen: wall, generation: 1, file: String::new(), accepted: None };
    entry.stamp(&Key { kind: Kind::Streamer, object: object.clone() }, &mut streamer.metadata);
    streamer.metadata.creation_timestamp =
        i64::try_from(wall).ok().and_then(|wall| Timestamp::from_millisecond(wall).ok()).map(Time);
    let value = serde_json::to_value(&streamer).map_err(|error| error.to_string())?;
    let told =
        |problems: Vec<weir_crds::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    weir_crds::validate("Streamer", &value, None).map_err(told)?;
    Ok(streamer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { mono: 0, wall: 1_700_000_000_000 };

    fn id(name: &str) -> StreamerId {
        StreamerId { namespace: "media".into(), name: name.into() }
    }

    #[test]
    fn a_registered_streamer_survives_a_restart_and_goes_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut registered = Registered::open(dir.path()).unwrap();
        let about = About { hostname: "media-1.example.com".into(), addresses: vec!["10.0.0.7".into()] };
        registered.add(&id("s1"), &about, NOW).unwrap();
        registered.add(&id("s1"), &About::default(), NOW).unwrap();

        let mut again = Registered::open(dir.path()).unwrap();
        assert_eq!(again.streamers(), registered.streamers());
        let streamer = again.streamers().values().next().unwrap();
        assert_eq!((streamer.hostname(), streamer.spec.addresses.len()), ("media-1.example.com", 1));
        assert!(!again.refresh().unwrap());

        std::fs::remove_file(dir.path().join("streamers/media/s1.json")).unwrap();
        assert!(again.refresh().unwrap());
        assert!(again.streamers().is_empty());
    }

    #[test]
    fn what_a_cluster_would_refuse_is_not_registered() {
        let dir = tempfile::tempdir().unwrap();
        let mut registered = Registered::open(dir.path()).unwrap();
        let bad = About { hostname: "no host".into(), addresses: vec![] };
        let error = registered.add(&id("s1"), &bad, NOW).unwrap_err().0;
        assert!(error.contains("media/s1") && error.contains("hostname"), "{error}");
        assert!(registered.add(&id("../../s1"), &About::default(), NOW).is_err());
        assert!(registered.streamers().is_empty());
    }

    #[test]
    fn a_damaged_file_is_refused_at_start_and_later_leaves_what_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut registered = Registered::open(dir.path()).unwrap();
        registered.add(&id("s1"), &About::default(), NOW).unwrap();
        std::fs::write(dir.path().join("streamers/media/s1.json"), "{").unwrap();
        let error = registered.refresh().unwrap_err().0;
        assert!(error.contains("s1.json"), "{error}");
        assert_eq!(registered.streamers().len(), 1);
        assert!(Registered::open(dir.path()).is_err());
    }
}
