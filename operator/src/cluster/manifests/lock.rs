//! The lease without Kubernetes: an exclusive lock on a file in the state directory. The kernel gives it back when the
//! process ends, however it ends, and never before: it needs no renewal and no clock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// What the holder writes into the lock file, for whoever waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Holder {
    /// `--identity`.
    pub(super) identity: String,
    pub(super) pid: u32,
    /// Where sidecars find its feed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) feed: Option<String>,
    /// Its term.
    pub(super) term: u64,
}

/// How an attempt to take the lock ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It is ours; the highest term that a holder ever wrote into it.
    Ours { term: u64 },
    /// Another process has it.
    Theirs(Holder),
}

/// The lock file, and whether we hold it.
pub(super) struct Lock {
    path: PathBuf,
    me: Holder,
    held: Mutex<Option<File>>,
}

impl Lock {
    pub(super) fn new(state: &Path, identity: &str, feed: Option<&str>) -> Self {
        let me =
            Holder { identity: identity.to_owned(), pid: std::process::id(), feed: feed.map(str::to_owned), term: 0 };
        Self { path: state.join("lock"), me, held: Mutex::new(None) }
    }

    /// Takes the lock if nobody has it.
    pub(super) fn attempt(&self) -> io::Result<Attempt> {
        let mut held = self.held();
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
        let locked = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        let last = read_holder(&mut file);
        // A lock on a file that was removed meanwhile excludes nobody.
        if !locked || !self.is_at_path(&file) {
            return Ok(Attempt::Theirs(last));
        }
        write_holder(&mut file, &Holder { term: last.term, ..self.me.clone() })?;
        *held = Some(file);
        Ok(Attempt::Ours { term: last.term })
    }

    /// Gives the lock back, once no write is under way.
    pub(super) fn release(&self) {
        *self.held() = None;
    }

    /// Runs `work` while the lock is certainly ours; `None` where it is not. One at a time.
    pub(super) fn while_held<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let held = self.held();
        let ours = held.as_ref().is_some_and(|file| self.is_at_path(file));
        ours.then(work)
    }

    /// Whether the lock is ours. It is not when somebody removed the state directory under us.
    pub(super) fn is_ours(&self) -> bool {
        self.while_held(|| ()).is_some()
    }

    /// Writes our term into the lock file; it only grows.
    pub(super) fn publish(&self, term: u64) -> io::Result<()> {
        let mut held = self.held();
        let Some(file) = held.as_mut() else { return Ok(()) };
        if read_holder(file).term >= term {
            return Ok(());
        }
        write_holder(file, &Holder { term, ..self.me.clone() })
    }

    fn is_at_path(&self, file: &File) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let (ours, there) = (file.metadata().map(identity), fs::metadata(&self.path).map(identity));
        matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
    }

    fn held(&self) -> MutexGuard<'_, Option<File>> {
        // A panic under the lock leaves the file locked, which is the safe side.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands in the lock file. It is written in place, so a reader may find half of it: then nothing is known.
fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn write_holder(file: &mut File, holder: &Holder) -> io::Result<()> {
    let text = serde_json::to_string(holder)?;
    file.rewind()?;
    file.set_len(0)?;
    writeln!(file, "{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_waits_and_hears_who_has_it_and_where_its_feed_is() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) =
            (Lock::new(dir.path(), "one", Some("https://one:9443")), Lock::new(dir.path(), "other", None));
        assert_eq!(one.attempt().unwrap(), Attempt::Ours { term: 0 });
        one.publish(7).unwrap();
        one.publish(6).unwrap();
        let Attempt::Theirs(holder) = other.attempt().unwrap() else { panic!() };
        assert_eq!(
            (holder.identity.as_str(), holder.feed.as_deref(), holder.term),
            ("one", Some("https://one:9443"), 7)
        );
        assert!(one.is_ours() && !other.is_ours());
        assert_eq!(other.while_held(|| ()), None);

        one.release();
        assert_eq!(other.attempt().unwrap(), Attempt::Ours { term: 7 });
        assert!(!one.is_ours() && other.is_ours());
    }

    #[test]
    fn a_lock_on_a_removed_file_is_not_ours_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::new(dir.path(), "one", None);
        lock.attempt().unwrap();
        fs::remove_file(dir.path().join("lock")).unwrap();
        assert!(!lock.is_ours());
        let other = Lock::new(dir.path(), "other", None);
        assert!(matches!(other.attempt().unwrap(), Attempt::Ours { .. }));
        assert!(!lock.is_ours(), "the new file is the other's");
    }

    #[test]
    fn half_written_words_in_the_lock_file_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("lock"), "{\"identity\": \"on").unwrap();
        let lock = Lock::new(dir.path(), "one", None);
        assert_eq!(lock.attempt().unwrap(), Attempt::Ours { term: 0 });
    }
}
