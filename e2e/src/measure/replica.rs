//! Looks at sidecars' replicas: when a stream stands in one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OpenFlags};

/// Between two looks, which is as exact as the times are.
const PAUSE: Duration = Duration::from_millis(5);

/// A thread that looks at replicas.
#[derive(Debug)]
pub struct Lookout {
    stop: Sender<()>,
    thread: JoinHandle<Result<BTreeMap<String, SystemTime>>>,
}

impl Lookout {
    /// Begins to look for `streams` in each of the files.
    pub fn begin(files: &[PathBuf], streams: BTreeSet<String>) -> Result<Self> {
        let open = |path: &PathBuf| {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags);
            connection.with_context(|| format!("{} cannot be opened", path.display()))
        };
        let replicas: Vec<Connection> = files.iter().map(open).collect::<Result<_>>()?;
        let (stop, stopped) = channel();
        Ok(Self { stop, thread: std::thread::spawn(move || look(&replicas, &streams, &stopped)) })
    }

    /// Looks once more; when each stream was first seen in one of them.
    pub fn end(self) -> Result<BTreeMap<String, SystemTime>> {
        drop(self.stop);
        self.thread.join().ok().context("looking at the replicas has failed")?
    }
}

fn look(
    replicas: &[Connection],
    streams: &BTreeSet<String>,
    stopped: &Receiver<()>,
) -> Result<BTreeMap<String, SystemTime>> {
    let mut seen = BTreeMap::new();
    let mut versions = vec![None; replicas.len()];
    loop {
        let ends = matches!(stopped.recv_timeout(PAUSE), Err(RecvTimeoutError::Disconnected));
        for (replica, last) in replicas.iter().zip(&mut versions) {
            // It differs from before when somebody else has committed: reading the rows each time would be work that is measured.
            let version: i64 = replica.pragma_query_value(None, "data_version", |row| row.get(0))?;
            if last.replace(version) == Some(version) {
                continue;
            }
            let mut query = replica.prepare_cached("SELECT name FROM streams")?;
            let names = query.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
            let now = SystemTime::now();
            for name in names.into_iter().filter(|name| streams.contains(name)) {
                seen.entry(name).or_insert(now);
            }
        }
        if ends {
            return Ok(seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_seen_once_it_is_committed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replica.sqlite3");
        let mut writer = Connection::open(&path).unwrap();
        writer.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        writer.execute_batch("CREATE TABLE streams (name TEXT)").unwrap();
        let lookout = Lookout::begin(&[path], ["a", "b"].map(str::to_owned).into()).unwrap();
        let before = SystemTime::now();
        let transaction = writer.transaction().unwrap();
        transaction.execute_batch("INSERT INTO streams VALUES ('a'), ('other')").unwrap();
        transaction.commit().unwrap();
        let uncommitted = writer.transaction().unwrap();
        uncommitted.execute_batch("INSERT INTO streams VALUES ('b')").unwrap();
        let seen = lookout.end().unwrap();
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["a"]);
        assert!(seen["a"] >= before);
    }
}
