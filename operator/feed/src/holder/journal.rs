//! What is not on disk yet: one write at a time, everything again after one that failed.

use std::collections::{BTreeMap, BTreeSet};

use crate::grant::Seal;
use crate::holder::rows::{Row, Rows, Stopped};
use crate::periods::Periods;

/// Everything a replica keeps about one name; a name with nothing is forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    pub row: Option<Row>,
    /// Epoch of its hold.
    pub hold: Option<u64>,
    pub stopped: Option<Stopped>,
}

/// What a replica keeps beside the names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Meta {
    /// True once the replica was complete.
    pub synced: bool,
    /// Revision of the last mark.
    pub revision: u64,
    /// The term of the last welcome, with its seal.
    pub term: Option<(u64, Seal)>,
    /// The highest term ever heard of.
    pub highest_term: u64,
    /// The streamer has asked by name at least once.
    pub asks_by_name: bool,
    /// Of the last welcome.
    pub periods: Option<Periods>,
    /// When a leader was last heard, in milliseconds since the Unix epoch.
    pub heard: Option<u64>,
}

/// One transaction of the replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Changes {
    /// Everything else is forgotten: the replica is written anew.
    pub whole: bool,
    pub entries: BTreeMap<String, Entry>,
    pub meta: Meta,
}

/// Which of the state is on disk. Writes are numbered from 1; one is under way at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Journal {
    names: BTreeSet<String>,
    dirty: bool,
    whole: bool,
    under_way: bool,
    begun: u64,
    written: u64,
    error: Option<String>,
    retry_at: u64,
}

impl Journal {
    /// `names`, and the meta data, have changed. Returns the number of the write that will hold them.
    pub fn touch(&mut self, names: impl IntoIterator<Item = String>) -> u64 {
        self.names.extend(names);
        self.dirty = true;
        self.begun + 1
    }

    /// Whether write `number` is on disk.
    pub fn is_written(&self, number: u64) -> bool {
        self.written >= number
    }

    /// Whether nothing is gained by waiting for write `number` any longer: it is on disk, or the disk fails.
    pub fn is_settled(&self, number: u64) -> bool {
        self.is_written(number) || self.error.is_some()
    }

    /// Why the last write failed, until one succeeds.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// The next write, if one is due.
    pub fn next(&mut self, rows: &Rows, meta: &Meta, now: u64) -> Option<Changes> {
        let due = self.error.is_none() || now >= self.retry_at;
        if !self.dirty || self.under_way || !due {
            return None;
        }
        let names = if self.whole {
            let stopped = rows.stopped().keys();
            let named = rows.all().keys().chain(rows.holds().keys());
            named.chain(stopped).cloned().collect()
        } else {
            std::mem::take(&mut self.names)
        };
        let entry = |name: String| {
            let entry = Entry {
                row: rows.row(&name).cloned(),
                hold: rows.holds().get(&name).copied(),
                stopped: rows.stopped().get(&name).cloned(),
            };
            (name, entry)
        };
        self.names.clear();
        self.dirty = false;
        self.under_way = true;
        self.begun += 1;
        Some(Changes { whole: self.whole, entries: names.into_iter().map(entry).collect(), meta: meta.clone() })
    }

    /// The write that is under way ended. After a failure everything is written anew, at the earliest at `retry_at`.
    pub fn ended(&mut self, result: Result<(), String>, retry_at: u64) {
        self.under_way = false;
        match result {
            Ok(()) => {
                self.written = self.begun;
                self.whole = false;
                self.error = None;
            }
            Err(error) => {
                self.error = Some(error);
                self.whole = true;
                self.dirty = true;
                self.retry_at = retry_at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_is_followed_by_one_of_everything() {
        let (rows, meta) = (Rows::default(), Meta::default());
        let mut journal = Journal::default();
        let first = journal.touch(["a".to_owned()]);
        assert!(!journal.next(&rows, &meta, 0).unwrap().whole);
        let second = journal.touch(["b".to_owned()]);
        assert!(journal.next(&rows, &meta, 0).is_none(), "one at a time");
        journal.ended(Err("disk full".into()), 100);
        assert!(!journal.is_written(first));
        assert!(journal.is_settled(first), "memory serves on");
        assert!(journal.next(&rows, &meta, 99).is_none());
        assert!(journal.next(&rows, &meta, 100).unwrap().whole);
        journal.ended(Ok(()), 0);
        assert!(journal.is_written(first) && journal.is_written(second));
        assert_eq!(journal.error(), None);
    }
}
