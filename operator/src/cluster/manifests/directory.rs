//! What the files of a directory of manifests declare, with one rule above all: what cannot be read is unknown, and what
//! is unknown stays as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::documents::{self, Document};
use super::known::Known;
use super::scan::{self, Files, Outline};

/// How many looks in a row may find the directory changing before it is read all the same.
const PATIENCE: u32 = 20;

/// What a look at the directory gave.
#[derive(Debug)]
pub(super) enum Look {
    /// Nothing changed since the last reading.
    Unchanged,
    /// It is changing now: look again in a moment, or half a file would be taken for a whole one.
    Changing,
    /// What is declared is not known: the sentence that says why.
    Unknown(String),
    /// It was read: every object, whether it is only remembered, and what is wrong with the files.
    Read { documents: Vec<(Document, bool)>, problems: Vec<String> },
}

/// A directory of manifests, and what was read from it.
pub(super) struct Directory {
    path: PathBuf,
    files: BTreeMap<String, Content>,
    /// What was read last, and when.
    read: Option<(Outline, SystemTime)>,
    /// What was seen last, and how often in a row it was something new.
    looked: (Option<Outline>, u32),
}

/// One file as it was read last.
#[derive(Default)]
struct Content {
    hash: [u8; 32],
    documents: Vec<Document>,
    /// Why the file's newer text is not what `documents` holds.
    problem: Option<String>,
}

impl Directory {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), files: BTreeMap::new(), read: None, looked: (None, 0) }
    }

    /// Reads the directory whatever was read before.
    pub(super) fn forget(&mut self) {
        self.read = None;
    }

    /// Looks whether the directory changed, and reads it if it did and two looks in a row found the same
    /// (at once with `hurry`). `known` is what was accepted from it before, perhaps by another process.
    pub(super) fn look(&mut self, known: &Known, hurry: bool, now: SystemTime) -> Look {
        let outline = match scan::outline(&self.path) {
            Ok(outline) => outline,
            Err(error) => return self.unknown(&format!("cannot be read ({error})")),
        };
        if let Some((read, at)) = &self.read
            && *read == outline
            && read.is_settled(*at)
        {
            return Look::Unchanged;
        }
        let (before, news) = std::mem::take(&mut self.looked);
        let same = before.as_ref() == Some(&outline);
        self.looked = (Some(outline), if same { 0 } else { news + 1 });
        if !same && !hurry && news < PATIENCE {
            return Look::Changing;
        }
        match scan::read(&self.path) {
            Ok(None) => Look::Changing,
            Ok(Some((outline, files))) => self.take(outline, files, known, now),
            Err(error) => self.unknown(&format!("cannot be read ({error})")),
        }
    }

    fn take(&mut self, outline: Outline, files: Files, known: &Known, now: SystemTime) -> Look {
        if files.is_empty() && !known.0.is_empty() {
            return self.unknown(&format!(
                "has no manifest any more and had {} objects; if all of them are to go, leave one file with a comment in it",
                known.0.len()
            ));
        }
        let first = self.read.is_none();
        self.read = Some((outline, now));
        let mut changed = self.files.keys().any(|file| !files.contains_key(file));
        self.files.retain(|file, _| files.contains_key(file));
        for (file, bytes) in files {
            changed |= self.take_file(&file, bytes, known);
        }
        if !changed && !first {
            return Look::Unchanged;
        }
        let remembered = |content: &Content| content.problem.is_some();
        let documents = self.files.values().flat_map(|content| {
            let kept = remembered(content);
            content.documents.iter().map(move |document| (document.clone(), kept))
        });
        Look::Read {
            documents: documents.collect(),
            problems: self.files.values().filter_map(|content| content.problem.clone()).collect(),
        }
    }

    /// Takes one file's new text; `false` where it is the old one.
    fn take_file(&mut self, file: &str, bytes: Result<Vec<u8>, String>, known: &Known) -> bool {
        let hash = match &bytes {
            Ok(bytes) => Sha256::digest(bytes).into(),
            Err(why) => Sha256::digest(why).into(),
        };
        if self.files.get(file).is_some_and(|content| content.hash == hash) {
            return false;
        }
        let before = self.files.remove(file).map(|content| content.documents);
        let before = before.unwrap_or_else(|| remembered(file, known));
        let parsed = bytes.and_then(|bytes| {
            if bytes.trim_ascii().is_empty() && !before.is_empty() {
                return Err("is empty now; delete it if its objects are to go".to_owned());
            }
            documents::parse(file, &bytes)
        });
        let content = match parsed {
            Ok(documents) => Content { hash, documents, problem: None },
            Err(why) => {
                let kept = match before.len() {
                    0 => "nothing of what it declares is known".to_owned(),
                    1 => "the object read from it before stays".to_owned(),
                    count => format!("the {count} objects read from it before stay"),
                };
                let problem = Some(format!("{}: {why}: {kept}", self.path.join(file).display()));
                Content { hash, documents: before, problem }
            }
        };
        self.files.insert(file.to_owned(), content);
        true
    }

    fn unknown(&mut self, why: &str) -> Look {
        // Whatever comes back is read anew.
        self.read = None;
        Look::Unknown(format!(
            "{} {why}: what it declares is not known, and everything stays as it is",
            self.path.display()
        ))
    }
}

/// The objects that a file declared when it was last readable.
fn remembered(file: &str, known: &Known) -> Vec<Document> {
    let entries = known.0.values().filter(|entry| entry.file == file);
    let document = |value: &serde_json::Value| Document {
        file: file.to_owned(),
        place: "as it was accepted before".to_owned(),
        value: value.clone(),
    };
    entries.filter_map(|entry| entry.accepted.as_ref()).map(document).collect()
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
