//! Looks at the disks while a failover goes on: when a decision stood in the state directory, and when in a replica.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

/// Between two looks, which is how exact the times are.
const PAUSE: Duration = Duration::from_millis(5);

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Lookout {
    /// The streams, by media name.
    pub streams: BTreeSet<String>,
    /// The streamer that they leave.
    pub leave: String,
    /// The operator's folder of Placements.
    pub placements: PathBuf,
    /// The replicas of the other streamers.
    pub replicas: Vec<PathBuf>,
}

/// When each stream was first seen there, by media name. (By the look, not by the files' own times: those are of a coarser clock.)
#[derive(Debug, Default)]
pub struct Seen {
    /// A Placement names another streamer.
    pub persisted: BTreeMap<String, SystemTime>,
    /// The replica of another streamer has it.
    pub replicated: BTreeMap<String, SystemTime>,
}

/// A thread that looks.
#[derive(Debug)]
pub struct Witness {
    stop: Sender<()>,
    thread: JoinHandle<Seen>,
}

impl Witness {
    /// Begins to look.
    pub fn begin(lookout: Lookout) -> Self {
        let (stop, stopped) = channel();
        Self { stop, thread: std::thread::spawn(move || look(&lookout, &stopped)) }
    }

    /// Looks once more, and tells what was seen.
    pub fn end(self) -> Seen {
        drop(self.stop);
        self.thread.join().unwrap_or_default()
    }
}

fn look(lookout: &Lookout, stopped: &Receiver<()>) -> Seen {
    let mut seen = Seen::default();
    let mut known = BTreeMap::new();
    loop {
        let ends = matches!(stopped.recv_timeout(PAUSE), Err(RecvTimeoutError::Disconnected));
        look_at_placements(lookout, &mut known, &mut seen);
        if seen.replicated.len() < lookout.streams.len() {
            lookout.replicas.iter().for_each(|replica| look_at_replica(lookout, replica, &mut seen));
        }
        if ends {
            return seen;
        }
    }
}

fn look_at_placements(lookout: &Lookout, known: &mut BTreeMap<PathBuf, Stamp>, seen: &mut Seen) {
    for path in files(&lookout.placements) {
        let Some((stamp, placement)) = read(&path, known.get(&path).copied()) else { continue };
        let now = SystemTime::now();
        for record in placement["spec"]["records"].as_array().into_iter().flatten() {
            let (Some(name), Some(streamer)) = (record["name"].as_str(), record["streamer"].as_str()) else { continue };
            if streamer != lookout.leave && lookout.streams.contains(name) {
                seen.persisted.entry(name.to_owned()).or_insert(now);
            }
        }
        known.insert(path, stamp);
    }
}

/// `FOLDER/NAMESPACE/*.json`
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = entries(folder).flat_map(|namespace| entries(&namespace).collect::<Vec<_>>());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
}

/// What tells a file from the one that replaced it: its inode, and when that was changed.
type Stamp = (u64, SystemTime);

/// The file's stamp and content, unless the stamp is `known`.
fn read(path: &Path, known: Option<Stamp>) -> Option<(Stamp, Value)> {
    let stamp = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        let (s, ns) = (u64::try_from(metadata.ctime()).ok()?, u32::try_from(metadata.ctime_nsec()).ok()?);
        Some((metadata.ino(), SystemTime::UNIX_EPOCH + Duration::new(s, ns)))
    };
    let before = stamp(path).filter(|before| Some(*before) != known)?;
    let content = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    // One that was replaced meanwhile is read at the next look.
    (stamp(path) == Some(before)).then_some((before, content))
}

fn look_at_replica(lookout: &Lookout, replica: &Path, seen: &mut Seen) {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let names = Connection::open_with_flags(replica, flags).and_then(|replica| {
        let mut query = replica.prepare("SELECT name FROM streams")?;
        query.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()
    });
    let now = SystemTime::now();
    // A replica that cannot be read now is read at the next look.
    for name in names.into_iter().flatten().filter(|name| lookout.streams.contains(name)) {
        seen.replicated.entry(name).or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_stream_is_seen_in_the_placement_and_in_the_replica() {
        let folder = tempfile::tempdir().unwrap();
        let placements = folder.path().join("placements");
        std::fs::create_dir_all(placements.join("default")).unwrap();
        let file = placements.join("default/placement-0.json");
        let write = |streamer: &str| {
            let records = serde_json::json!([{"name": "a", "streamer": streamer}, {"name": "b", "streamer": "m2"}]);
            let beside = placements.join(streamer);
            std::fs::write(&beside, serde_json::json!({"spec": {"records": records}}).to_string()).unwrap();
            std::fs::rename(beside, &file).unwrap();
        };
        write("m2");
        let replica = folder.path().join("replica.sqlite3");
        let connection = Connection::open(&replica).unwrap();
        connection.execute_batch("CREATE TABLE streams (name TEXT)").unwrap();
        let lookout = Lookout {
            streams: ["a", "b"].map(str::to_owned).into(),
            leave: "m2".to_owned(),
            placements: placements.clone(),
            replicas: vec![replica],
        };
        let witness = Witness::begin(lookout.clone());
        write("m1");
        connection.execute_batch("INSERT INTO streams VALUES ('a'), ('other')").unwrap();
        let seen = witness.end();
        assert_eq!(seen.persisted.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(seen.replicated.keys().collect::<Vec<_>>(), ["a"]);
        assert!(Witness::begin(Lookout { leave: "m9".to_owned(), ..lookout }).end().persisted.len() == 2);
    }
}
