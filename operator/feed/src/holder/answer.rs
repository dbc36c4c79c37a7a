//! What each request of the streamer gets.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::frames::Run;
use crate::holder::step::Holder;
use crate::rule::{Rule, lacks};
use crate::time::Now;

/// What the streamer asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Request {
    /// Plain `/streams`: its static streams.
    All,
    /// `/streams?name=`: what these names are to it.
    Named(BTreeSet<String>),
}

/// One stream of an answer. Holds credentials: `Debug` shows name and hash alone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Item {
    pub name: String,
    /// Hash of the document that is served, which may be an older one than the row's.
    pub hash: String,
    pub document: Arc<str>,
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Item({} hash {})", self.name, self.hash)
    }
}

/// Why the streamer is told "I don't know", and so keeps what it has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NotYet {
    /// No leader has filled the replica yet.
    NeverSynced,
    /// Just started: a leader may know better than the replica.
    NoMarkYet,
    /// A stream that is this streamer's, or may be, cannot be given now.
    Held(String),
    /// The streamer refuses the only document there is of a stream that it may be running.
    Refused(String),
    /// Just started, and the replica has never heard of a stream that the streamer may be running.
    NotKnown(String),
    /// A stream that is served under a lease, and no leader has given one since the start.
    NoLeaseYet(String),
    /// Another instance has this Streamer's name.
    Superseded,
    /// Another instance has it, and this one waits for it: what it has may be a copy of what that one serves.
    Contested,
}

impl std::fmt::Display for NotYet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NeverSynced => write!(f, "no operator has filled this replica yet"),
            Self::NoMarkYet => write!(f, "just started, and no operator has been heard yet"),
            Self::Held(name) => write!(f, "stream {name} is held back by the operator for now"),
            Self::Refused(name) => {
                write!(f, "the streamer refuses what there is of stream {name}, and is to keep what it has of it")
            }
            Self::NotKnown(name) => {
                write!(
                    f,
                    "this replica has never heard of stream {name}, and no operator was heard since it was opened"
                )
            }
            Self::NoLeaseYet(name) => {
                write!(
                    f,
                    "just started, and no operator has given a lease yet, without which stream {name} is not served"
                )
            }
            Self::Contested => {
                write!(f, "another instance has this Streamer's name, and this one waits until it is gone")
            }
            Self::Superseded => write!(f, "another instance serves this streamer now"),
        }
    }
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    /// `200`: these streams, ordered by media name, and no others.
    Streams(Vec<Item>),
    /// `503`: keep what you have.
    NotYet(NotYet),
}

impl Answer {
    /// The body of a `200`; the same bytes while nothing changes.
    pub fn body(items: &[Item]) -> String {
        let length: usize = items.iter().map(|item| item.document.len() + 1).sum();
        let mut body = String::with_capacity(length + 16);
        body.push_str("{\"streams\":[");
        for (position, item) in items.iter().enumerate() {
            if position > 0 {
                body.push(',');
            }
            body.push_str(&item.document);
        }
        body.push_str("]}");
        body
    }
}

impl Holder {
    /// What `request` gets now. Changes nothing: that it was asked is an input of its own.
    pub fn answer(&self, request: &Request, now: Now) -> Answer {
        if let Some(reason) = self.not_yet(now) {
            return Answer::NotYet(reason);
        }
        let held_back = |name: &&String| self.rows.row(name).is_none();
        let held = match request {
            Request::All => self.rows.holds().keys().filter(held_back).find(|name| self.would_be_stopped(name)),
            Request::Named(names) => self.rows.holds().keys().filter(held_back).find(|name| names.contains(*name)),
        };
        if let Some(name) = held {
            return Answer::NotYet(NotYet::Held(name.clone()));
        }
        if let Some(name) = self.not_known(request) {
            return Answer::NotYet(NotYet::NotKnown(name.clone()));
        }
        if let Some(name) = self.awaits_lease(request, now) {
            return Answer::NotYet(NotYet::NoLeaseYet(name.clone()));
        }
        if let Some(name) = self.kept(request, now) {
            return Answer::NotYet(NotYet::Refused(name.clone()));
        }
        Answer::Streams(self.items(request, now))
    }

    /// **503 until synced**: it never says "no streams" when it means "I don't know".
    pub fn not_yet(&self, now: Now) -> Option<NotYet> {
        if self.superseded {
            return Some(NotYet::Superseded);
        }
        if self.contested {
            return Some(NotYet::Contested);
        }
        if lacks(Rule::UnsyncedIs503) {
            return None;
        }
        if !self.meta.synced {
            return Some(NotYet::NeverSynced);
        }
        let patience = self.periods().first_mark();
        let waiting = now.mono < self.started.saturating_add(patience);
        (!self.marked && waiting).then_some(NotYet::NoMarkYet)
    }

    /// Of what an older replica than it should be has not heard it says nothing, until a leader has: a disk that failed
    /// before a crash, or one that was put back.
    fn not_known<'a>(&'a self, request: &'a Request) -> Option<&'a String> {
        if self.marked || lacks(Rule::UnsyncedIs503) {
            return None;
        }
        let known = |name: &&String| self.rows.row(name).is_some() || self.rows.stopped().contains_key(*name);
        match request {
            Request::Named(names) => names.iter().find(|name| !known(name)),
            // What it runs and was not listed it asks for.
            Request::All if self.watch.asks_by_name => None,
            Request::All => {
                let runs = self.watch.runs.iter().flatten().filter(|(_, run)| **run == Run::Capture);
                runs.map(|(name, _)| name).find(|name| !known(name))
            }
        }
    }

    /// Its streamer runs what it cannot be given now, or may, and is told to wait when it asks for it.
    pub fn withholds(&self) -> bool {
        self.rows.holds().keys().any(|name| self.rows.row(name).is_none() && self.may_be_running(name))
    }

    /// Whether leaving a held name out of the plain answer could stop it: a streamer that asks by name would ask first.
    fn would_be_stopped(&self, name: &str) -> bool {
        !self.watch.asks_by_name && self.may_be_running(name)
    }

    /// A stream that this answer would leave out, and so stop, for want of a document that the streamer takes.
    fn kept<'a>(&'a self, request: &'a Request, now: Now) -> Option<&'a String> {
        let goes_on = |name: &String| self.rows.row(name).is_some_and(|row| self.may_serve(row, now));
        match request {
            // What it runs and was not listed it asks for, before it stops it.
            Request::All if self.watch.asks_by_name => None,
            Request::All => {
                let mut listed = self.rows.all().iter().filter(|(_, row)| row.is_static);
                listed.find(|(name, _)| self.is_kept(name) && goes_on(name)).map(|(name, _)| name)
            }
            Request::Named(names) => names.iter().find(|name| self.is_kept(name) && goes_on(name)),
        }
    }

    fn items(&self, request: &Request, now: Now) -> Vec<Item> {
        let wanted = |name: &String, is_static: bool| match request {
            Request::All => is_static,
            Request::Named(names) => names.contains(name),
        };
        let rows = self.rows.all().iter();
        rows.filter(|(name, row)| wanted(name, row.is_static))
            .filter(|(_, row)| self.may_serve(row, now))
            .filter_map(|(name, row)| {
                let document = row.served()?;
                Some(Item { name: name.clone(), hash: document.hash.clone(), document: document.text.clone() })
            })
            .collect()
    }
}
