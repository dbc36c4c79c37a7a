//! What a replica holds: rows, holds and stopped epochs, and how a batch changes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::digest::SetDigest;
use crate::frames::{Held, Partition, Put, digest_entry};
use crate::grant::Seal;
use crate::rule::{Rule, lacks};

/// How many stopped epochs are remembered; the lowest goes first.
pub const MAX_STOPPED: usize = 10_000;

/// One document under its hash. Holds credentials: `Debug` shows the hash alone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Document {
    pub hash: String,
    /// One JSON object, byte for byte.
    pub text: Arc<str>,
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Document({})", self.hash)
    }
}

/// What the streamer made of a row's current document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Judged {
    /// Not told yet, or its version does not tell.
    Unseen,
    Accepted,
    /// Refused: the last accepted document is served in its place. Not `certain`: one of several that may be at fault.
    Refused {
        message: String,
        certain: bool,
    },
    /// Refused on suspicion, with that message, and served again to find out.
    Tried {
        message: String,
    },
}

/// One stream that the streamer is to capture.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    pub epoch: u64,
    pub grant: Seal,
    /// Listed by plain `/streams`.
    pub is_static: bool,
    pub partition: Partition,
    /// The newest document, as the leader sent it.
    pub current: Document,
    pub judged: Judged,
    /// The last document that the streamer accepted, while the current one is not accepted; where it has accepted none,
    /// the first that it may have.
    pub accepted: Option<Document>,
}

impl Row {
    /// The document that answers carry; `None` while the only one there ever was is refused.
    pub fn served(&self) -> Option<&Document> {
        match self.judged {
            Judged::Unseen | Judged::Accepted | Judged::Tried { .. } => Some(&self.current),
            Judged::Refused { .. } => self.accepted.as_ref(),
        }
    }

    fn replaced_by(old: Option<&Row>, put: Put) -> Row {
        let current = Document { hash: put.hash, text: put.document.into() };
        let (judged, accepted) = match old {
            None => (Judged::Unseen, None),
            Some(old) if old.current == current => (old.judged.clone(), old.accepted.clone()),
            Some(old) => {
                let fallback = match old.judged {
                    Judged::Accepted => Some(old.current.clone()),
                    // The streamer may have taken it, and run it, before anybody could hear of it.
                    Judged::Unseen if old.accepted.is_none() => Some(old.current.clone()),
                    _ => old.accepted.clone(),
                };
                // Another document clears a refusal.
                (Judged::Unseen, fallback)
            }
        };
        Row {
            epoch: put.epoch,
            grant: put.grant,
            is_static: put.is_static,
            partition: put.partition,
            current,
            judged,
            accepted,
        }
    }
}

/// An epoch that is served no more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stopped {
    /// Only a greater epoch is served again: the greater one of the row's and the delete's.
    pub epoch: u64,
    /// The row's own epoch, which `grant` proves.
    pub served: u64,
    pub grant: Seal,
}

/// A frame of a batch, until its mark.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Edit {
    Put(Put),
    Delete { name: String, epoch: u64 },
    Hold { name: String, epoch: u64 },
}

/// What a batch did, beside the new rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// Names of which anything changed.
    pub touched: BTreeSet<String>,
    /// Deletes that were carried out, with their epochs.
    pub deleted: BTreeMap<String, u64>,
    /// Names that were put.
    pub put: BTreeSet<String>,
}

/// Rows, holds and stopped epochs, with their digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[allow(clippy::struct_field_names, reason = "rows is their name")]
pub struct Rows {
    rows: BTreeMap<String, Row>,
    holds: BTreeMap<String, u64>,
    stopped: BTreeMap<String, Stopped>,
    digest: SetDigest,
}

impl Rows {
    /// Rows as a replica kept them.
    pub fn new(rows: BTreeMap<String, Row>, holds: BTreeMap<String, u64>, stopped: BTreeMap<String, Stopped>) -> Self {
        let mut digest = SetDigest::default();
        for (name, row) in &rows {
            digest_entry(&mut digest, name, Some((row.epoch, &row.current.hash)), None);
        }
        for (name, epoch) in &holds {
            digest_entry(&mut digest, name, None, Some(*epoch));
        }
        Self { rows, holds, stopped, digest }
    }

    /// All rows, by media name.
    pub fn all(&self) -> &BTreeMap<String, Row> {
        &self.rows
    }

    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.get(name)
    }

    /// All holds, by media name, with their epochs.
    pub fn holds(&self) -> &BTreeMap<String, u64> {
        &self.holds
    }

    /// All stopped epochs, by media name.
    pub fn stopped(&self) -> &BTreeMap<String, Stopped> {
        &self.stopped
    }

    /// Rows and holds, counted as a mark counts them.
    pub fn count(&self) -> u64 {
        (self.rows.len() + self.holds.len()) as u64
    }

    /// Rows whose current document is refused, counted.
    pub fn refused(&self) -> u64 {
        let refused = |row: &&Row| matches!(row.judged, Judged::Refused { .. } | Judged::Tried { .. });
        self.rows.values().filter(refused).count() as u64
    }

    /// The digest, as a mark carries it.
    pub fn digest(&self) -> String {
        self.digest.text()
    }

    /// The rows as a hello names them.
    pub fn held(&self) -> Vec<Held> {
        let held = |(name, row): (&String, &Row)| Held {
            name: name.clone(),
            epoch: row.epoch,
            grant: row.grant.clone(),
            hash: row.current.hash.clone(),
            deleted: None,
        };
        self.rows.iter().map(held).collect()
    }

    /// The stopped epochs as a hello names them.
    pub fn held_no_more(&self) -> Vec<Held> {
        let held = |(name, stopped): (&String, &Stopped)| Held {
            name: name.clone(),
            epoch: stopped.served,
            grant: stopped.grant.clone(),
            hash: String::new(),
            deleted: Some(stopped.epoch),
        };
        self.stopped.iter().map(held).collect()
    }

    /// What the streamer made of `name`'s current document.
    pub fn judge(&mut self, name: &str, judged: Judged) {
        if let Some(row) = self.rows.get_mut(name) {
            if judged == Judged::Accepted {
                row.accepted = None;
            }
            row.judged = judged;
        }
    }

    /// `name` has nothing to be served in the place of its refused document any more.
    pub fn forget_fallback(&mut self, name: &str) {
        if let Some(row) = self.rows.get_mut(name) {
            row.accepted = None;
        }
    }

    /// Carries one frame of a batch out.
    pub fn apply(&mut self, edit: Edit, outcome: &mut Outcome) {
        match edit {
            Edit::Put(put) => self.put(put, outcome),
            Edit::Delete { name, epoch } => self.delete(name, epoch, outcome),
            Edit::Hold { name, epoch } => {
                self.set_hold(&name, Some(epoch));
                outcome.touched.insert(name);
            }
        }
    }

    fn put(&mut self, put: Put, outcome: &mut Outcome) {
        let stopped = self.stopped.get(&put.name).map(|stopped| stopped.epoch);
        // **Final**: an epoch that was stopped is never served again, only a greater one.
        let stopped = stopped.is_some_and(|stopped| put.epoch <= stopped) && !lacks(Rule::Final);
        if stopped || self.keeps(&put.name, put.epoch) {
            return;
        }
        let name = put.name.clone();
        let row = Row::replaced_by(self.rows.get(&name), put);
        self.set_hold(&name, None);
        self.set_row(&name, Some(row));
        outcome.deleted.remove(&name);
        outcome.put.insert(name.clone());
        outcome.touched.insert(name);
    }

    fn delete(&mut self, name: String, epoch: u64, outcome: &mut Outcome) {
        if self.keeps(&name, epoch) {
            return;
        }
        self.set_hold(&name, None);
        if let Some(row) = self.set_row(&name, None) {
            let stopped = Stopped { epoch: row.epoch.max(epoch), served: row.epoch, grant: row.grant };
            self.stopped.insert(name.clone(), stopped);
        }
        outcome.put.remove(&name);
        outcome.touched.insert(name.clone());
        outcome.deleted.insert(name, epoch);
    }

    /// **Keep**: nothing is dropped or replaced for a record below the row's own epoch.
    fn keeps(&self, name: &str, epoch: u64) -> bool {
        self.rows.get(name).is_some_and(|row| epoch < row.epoch) && !lacks(Rule::Keep)
    }

    /// Forgets the lowest stopped epochs, down to [`MAX_STOPPED`]: once per batch, for each search goes through all.
    pub fn forget_lowest(&mut self, outcome: &mut Outcome) {
        let excess = self.stopped.len().saturating_sub(MAX_STOPPED);
        if excess == 0 {
            return;
        }
        let mut lowest: Vec<(u64, String)> =
            self.stopped.iter().map(|(name, stopped)| (stopped.epoch, name.clone())).collect();
        lowest.sort_unstable();
        for (_, name) in lowest.into_iter().take(excess) {
            self.stopped.remove(&name);
            outcome.touched.insert(name);
        }
    }

    fn set_row(&mut self, name: &str, row: Option<Row>) -> Option<Row> {
        let entry = |digest: &mut SetDigest, row: &Row| {
            digest_entry(digest, name, Some((row.epoch, &row.current.hash)), None);
        };
        if let Some(new) = &row {
            entry(&mut self.digest, new);
        }
        let old = match row {
            Some(row) => self.rows.insert(name.to_owned(), row),
            None => self.rows.remove(name),
        };
        if let Some(old) = &old {
            entry(&mut self.digest, old);
        }
        old
    }

    fn set_hold(&mut self, name: &str, hold: Option<u64>) {
        digest_entry(&mut self.digest, name, None, hold);
        let old = match hold {
            Some(epoch) => self.holds.insert(name.to_owned(), epoch),
            None => self.holds.remove(name),
        };
        digest_entry(&mut self.digest, name, None, old);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn put(name: &str, epoch: u64, text: &str) -> Edit {
        Edit::Put(Put {
            name: name.into(),
            epoch,
            grant: Seal(format!("k:{epoch}")),
            is_static: true,
            partition: Partition::KeepCapturing,
            hash: crate::digest::document_hash(&[text]),
            document: text.into(),
        })
    }

    fn delete(name: &str, epoch: u64) -> Edit {
        Edit::Delete { name: name.into(), epoch }
    }

    fn after(edits: impl IntoIterator<Item = Edit>) -> Rows {
        let mut rows = Rows::default();
        for edit in edits {
            rows.apply(edit, &mut Outcome::default());
        }
        rows
    }

    #[test]
    pub(crate) fn final_an_epoch_that_was_stopped_is_never_served_again_only_a_greater_one() {
        let stopped = [put("a", 5, "one"), delete("a", 7)];
        for epoch in [4, 5, 6, 7] {
            let rows = after(stopped.clone().into_iter().chain([put("a", epoch, "two")]));
            assert!(rows.row("a").is_none(), "epoch {epoch}");
        }
        let rows = after(stopped.into_iter().chain([put("a", 8, "two")]));
        assert_eq!(rows.row("a").unwrap().epoch, 8);
    }

    #[test]
    fn final_a_hello_names_the_epoch_that_its_grant_proves() {
        let rows = after([put("a", 5, "one"), delete("a", 7), delete("b", 9)]);
        let told = rows.held_no_more();
        assert_eq!(told.len(), 1, "what was never held was never stopped");
        assert_eq!((told[0].epoch, told[0].grant.0.as_str()), (5, "k:5"));
    }

    #[test]
    fn final_is_bounded_and_forgets_the_lowest_epoch_first() {
        let mut rows = Rows::default();
        let mut outcome = Outcome::default();
        for epoch in 0..=MAX_STOPPED as u64 {
            let name = format!("s{epoch}");
            rows.apply(put(&name, epoch + 10, "d"), &mut outcome);
            rows.apply(delete(&name, epoch + 10), &mut outcome);
        }
        rows.forget_lowest(&mut outcome);
        assert_eq!(rows.stopped().len(), MAX_STOPPED);
        assert!(!rows.stopped().contains_key("s0"));
    }

    #[test]
    pub(crate) fn keep_nothing_is_dropped_or_replaced_for_a_record_below_the_rows_epoch() {
        let rows = after([put("a", 5, "one"), delete("a", 4), put("a", 4, "two")]);
        let row = rows.row("a").unwrap();
        assert_eq!((row.epoch, &*row.current.text), (5, "one"));
        assert!(after([put("a", 5, "one"), delete("a", 5)]).row("a").is_none());
    }

    #[test]
    fn a_hold_leaves_the_row_and_goes_with_the_next_put_or_delete() {
        let hold = Edit::Hold { name: "a".into(), epoch: 6 };
        let rows = after([put("a", 5, "one"), hold.clone()]);
        assert!(rows.row("a").is_some());
        assert_eq!(rows.count(), 2);
        let again = after([put("a", 5, "one"), hold.clone(), put("a", 6, "two")]);
        assert!(again.holds().is_empty());
        assert!(after([hold, delete("a", 6)]).holds().is_empty());
    }

    #[test]
    fn the_digest_is_that_of_a_replica_read_afresh() {
        let rows = after([
            put("a", 5, "one"),
            put("a", 6, "two"),
            put("b", 5, "one"),
            delete("b", 5),
            Edit::Hold { name: "c".into(), epoch: 1 },
        ]);
        let afresh = Rows::new(rows.all().clone(), rows.holds().clone(), rows.stopped().clone());
        assert_eq!(rows, afresh);
    }

    #[test]
    fn a_document_that_follows_an_accepted_one_leaves_that_one_to_fall_back_on() {
        let mut rows = after([put("a", 5, "good")]);
        rows.judge("a", Judged::Accepted);
        rows.apply(put("a", 5, "bad"), &mut Outcome::default());
        rows.judge("a", Judged::Refused { message: "no".into(), certain: true });
        assert_eq!(&*rows.row("a").unwrap().served().unwrap().text, "good");
        rows.apply(put("a", 6, "bad"), &mut Outcome::default());
        assert_eq!(
            &*rows.row("a").unwrap().served().unwrap().text,
            "good",
            "the same document under another epoch stays refused"
        );
        rows.apply(put("a", 6, "better"), &mut Outcome::default());
        assert_eq!(&*rows.row("a").unwrap().served().unwrap().text, "better");
        rows.judge("a", Judged::Refused { message: "no".into(), certain: true });
        assert_eq!(&*rows.row("a").unwrap().served().unwrap().text, "good");
    }

    #[test]
    fn a_first_document_that_nobody_judged_is_fallen_back_on_until_it_is_refused_itself() {
        let mut rows = after([put("a", 5, "first"), put("a", 5, "second")]);
        rows.judge("a", Judged::Refused { message: "no".into(), certain: true });
        assert_eq!(&*rows.row("a").unwrap().served().unwrap().text, "first");
        rows.apply(put("a", 5, "third"), &mut Outcome::default());
        rows.judge("a", Judged::Refused { message: "no".into(), certain: true });
        assert_eq!(&*rows.row("a").unwrap().served().unwrap().text, "first");
        rows.forget_fallback("a");
        assert_eq!(rows.row("a").unwrap().served(), None);
    }

    #[test]
    fn no_debug_output_shows_a_document() {
        let rows = after([put("a", 5, "rtsp://user:hunter2@camera")]);
        assert!(!format!("{rows:?}").contains("hunter2"));
    }
}
