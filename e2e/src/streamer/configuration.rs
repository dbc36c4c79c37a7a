//! What a streamer runs, and why: `(configuration, event) -> actions`, without clock, network or disk.
//!
//! Two sources name streams: its own configuration file, and the external configuration. The external version of a stream wins while it is
//! given; when an answer leaves it out, the file's version runs on, or nothing does.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::document::{Document, origin};
use super::request::{PART, parts};

/// Habits in which streamers differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Habits {
    /// The vendor's sample client: never asks `?name=`, and stops whatever the plain answer leaves out.
    pub never_asks_by_name: bool,
}

/// Who named a running stream, as its own API shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NamedBy {
    /// Its own configuration file.
    Config,
    /// The external configuration.
    External,
}

/// Something that happens to a streamer.
#[derive(Debug, Clone)]
pub enum Event {
    /// It came up; `running` are the streams of the saved configuration that ran.
    Booted { running: BTreeSet<String> },
    /// The plain `/streams` was answered.
    Listed(Vec<Document>),
    /// `?name=` was answered for running streams.
    Named { asked: Vec<String>, answered: Vec<Document> },
    /// A viewer asks for a name.
    Requested(String),
    /// `?name=` was answered for the name that a viewer asked for.
    Found { name: String, answered: Vec<Document> },
    /// A stream was written on its own API, into its own configuration.
    Written(Document),
    /// The source at an origin stops sending.
    SourceDown(String),
    /// It sends again.
    SourceUp(String),
}

/// Why a stream starts or stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    OwnConfiguration,
    SavedConfiguration,
    Listed,
    Requested,
    LeftOut,
    LeftOutOfList,
    BackToOwnConfiguration,
    InputsChanged,
    SourceDown,
    SourceUp,
}

impl Reason {
    /// For a person.
    pub fn text(self) -> &'static str {
        match self {
            Self::OwnConfiguration => "its own configuration has it",
            Self::SavedConfiguration => "the saved configuration has it",
            Self::Listed => "listed as static",
            Self::Requested => "a viewer asked for it",
            Self::LeftOut => "an answer by name left it out",
            Self::LeftOutOfList => "the plain answer left it out, and names are never asked for",
            Self::BackToOwnConfiguration => "left out; its own configuration's version runs on",
            Self::InputsChanged => "its inputs changed",
            Self::SourceDown => "its source is down",
            Self::SourceUp => "its source is back",
        }
    }
}

/// What happens to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Start,
    Stop,
    /// It runs before and after, on another source.
    Restart,
}

/// A change of one stream, and of what is read for it: first `closes`, then `opens`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub stream: String,
    pub kind: Kind,
    pub reason: Reason,
    /// It stops reading what it reads.
    pub closes: bool,
    /// It starts reading this URL.
    pub opens: Option<String>,
}

/// What an event leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Actions {
    pub changes: Vec<Change>,
    /// Names to ask for, one request for each part.
    pub ask: Vec<Vec<String>>,
    /// What would be saved is not what it was.
    pub save: bool,
}

/// A stream that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub document: Document,
    pub named_by: NamedBy,
    /// What it reads; `None` while it waits for a publisher or its sources are down.
    pub source: Option<String>,
}

/// Everything that a streamer knows of streams.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    habits: Habits,
    own: BTreeMap<String, Document>,
    external: BTreeMap<String, Document>,
    running: BTreeMap<String, Running>,
    /// Origins that do not send.
    down: BTreeSet<String>,
}

impl Configuration {
    /// A streamer that is off: [`Event::Booted`] starts it.
    pub fn new(
        habits: Habits,
        own: impl IntoIterator<Item = Document>,
        external: impl IntoIterator<Item = Document>,
    ) -> Self {
        let by_name = |document: Document| (document.name().to_owned(), document);
        Self {
            habits,
            own: own.into_iter().map(by_name).collect(),
            external: external.into_iter().map(by_name).collect(),
            ..Self::default()
        }
    }

    pub fn running(&self) -> &BTreeMap<String, Running> {
        &self.running
    }

    /// The external configuration as it was last given.
    pub fn external(&self) -> &BTreeMap<String, Document> {
        &self.external
    }

    /// Its own configuration.
    pub fn own(&self) -> &BTreeMap<String, Document> {
        &self.own
    }

    /// The version of a stream that counts, and who named it.
    pub fn known(&self, name: &str) -> Option<(&Document, NamedBy)> {
        let external = self.external.get(name).map(|d| (d, NamedBy::External));
        external.or_else(|| self.own.get(name).map(|d| (d, NamedBy::Config)))
    }

    /// Decides what an event leads to, and takes it in.
    pub fn step(&mut self, event: Event) -> Actions {
        let mut actions = Actions::default();
        match event {
            Event::Booted { running } => self.boot(&running, &mut actions),
            Event::Listed(streams) => self.listed(streams, &mut actions),
            Event::Named { asked, answered } => self.named(&asked, answered, &mut actions),
            Event::Requested(name) => self.requested(name, &mut actions),
            Event::Found { name, answered } => self.found(&name, answered, &mut actions),
            Event::Written(document) => self.written(document, &mut actions),
            Event::SourceDown(url) => {
                self.down.insert(origin(&url));
                self.look_at_sources(Reason::SourceDown, &mut actions);
            }
            Event::SourceUp(url) => {
                self.down.remove(&origin(&url));
                self.look_at_sources(Reason::SourceUp, &mut actions);
            }
        }
        actions
    }

    fn boot(&mut self, running: &BTreeSet<String>, actions: &mut Actions) {
        let own = self.own.values().filter(|d| d.is_static());
        let own: BTreeSet<String> = own.map(|d| d.name().to_owned()).collect();
        for name in running.union(&own) {
            let reason = match self.known(name) {
                Some((_, NamedBy::Config)) => Reason::OwnConfiguration,
                _ => Reason::SavedConfiguration,
            };
            self.start(name, reason, actions);
        }
    }

    fn listed(&mut self, streams: Vec<Document>, actions: &mut Actions) {
        let mut listed = BTreeSet::new();
        for document in streams {
            let (name, is_static) = (document.name().to_owned(), document.is_static());
            self.take(document, actions);
            if is_static && !self.running.contains_key(&name) {
                self.start(&name, Reason::Listed, actions);
            }
            listed.insert(name);
        }
        let (running, before) = (&self.running, self.external.len());
        self.external.retain(|name, _| listed.contains(name) || running.contains_key(name));
        actions.save |= self.external.len() != before;
        let unlisted = running.keys().filter(|name| !listed.contains(*name));
        let unlisted: Vec<String> = unlisted.cloned().collect();
        if self.habits.never_asks_by_name {
            for name in unlisted {
                self.leave_out(&name, Reason::LeftOutOfList, actions);
            }
        } else {
            actions.ask = parts(unlisted, PART);
        }
    }

    fn named(&mut self, asked: &[String], answered: Vec<Document>, actions: &mut Actions) {
        let mut given: BTreeMap<String, Document> =
            answered.into_iter().map(|document| (document.name().to_owned(), document)).collect();
        for name in asked {
            // What has stopped since it was asked for is not started by the answer.
            if !self.running.contains_key(name) {
                continue;
            }
            match given.remove(name) {
                Some(document) => self.take(document, actions),
                None => self.leave_out(name, Reason::LeftOut, actions),
            }
        }
    }

    fn requested(&mut self, name: String, actions: &mut Actions) {
        if self.known(&name).is_none() {
            actions.ask = vec![vec![name]];
        } else if !self.running.contains_key(&name) {
            self.start(&name, Reason::Requested, actions);
        }
    }

    fn found(&mut self, name: &str, answered: Vec<Document>, actions: &mut Actions) {
        for document in answered.into_iter().filter(|d| d.name() == name) {
            self.take(document, actions);
            if !self.running.contains_key(name) {
                self.start(name, Reason::Requested, actions);
            }
        }
    }

    fn written(&mut self, document: Document, actions: &mut Actions) {
        let (name, is_static) = (document.name().to_owned(), document.is_static());
        actions.save |= self.own.get(&name) != Some(&document);
        self.own.insert(name.clone(), document);
        if self.running.contains_key(&name) {
            self.run_known(&name, Reason::InputsChanged, actions);
        } else if is_static {
            self.start(&name, Reason::OwnConfiguration, actions);
        }
    }

    /// Takes an external version in; a running stream goes on with it.
    fn take(&mut self, document: Document, actions: &mut Actions) {
        let name = document.name().to_owned();
        if self.external.get(&name) == Some(&document) {
            return;
        }
        actions.save = true;
        self.external.insert(name.clone(), document);
        self.run_known(&name, Reason::InputsChanged, actions);
    }

    /// An answer left a running stream out: it stops at once, unless its own configuration has it.
    fn leave_out(&mut self, name: &str, reason: Reason, actions: &mut Actions) {
        let was_external = self.external.remove(name).is_some();
        actions.save |= was_external;
        if self.own.contains_key(name) {
            self.run_known(name, Reason::BackToOwnConfiguration, actions);
            return;
        }
        if let Some(stopped) = self.running.remove(name) {
            actions.save = true;
            actions.changes.push(Change {
                stream: name.to_owned(),
                kind: Kind::Stop,
                reason,
                closes: stopped.source.is_some(),
                opens: None,
            });
        }
    }

    fn start(&mut self, name: &str, reason: Reason, actions: &mut Actions) {
        let Some((document, named_by)) = self.known(name) else {
            return;
        };
        let running = Running { document: document.clone(), named_by, source: source(document, &self.down) };
        actions.save = true;
        actions.changes.push(Change {
            stream: name.to_owned(),
            kind: Kind::Start,
            reason,
            closes: false,
            opens: running.source.clone(),
        });
        self.running.insert(name.to_owned(), running);
    }

    /// A running stream goes on with the version that counts now; its capture restarts only if its inputs differ.
    fn run_known(&mut self, name: &str, reason: Reason, actions: &mut Actions) {
        let Some((document, named_by)) = self.known(name) else {
            return;
        };
        let document = document.clone();
        let Some(running) = self.running.get_mut(name) else {
            return;
        };
        let same_inputs = running.document.inputs() == document.inputs();
        running.document = document;
        running.named_by = named_by;
        if !same_inputs {
            let opens = source(&running.document, &self.down);
            actions.changes.push(restart(name, running, opens, reason));
        }
    }

    /// Sources went down or came back: each running stream reads the first of its inputs that sends.
    fn look_at_sources(&mut self, reason: Reason, actions: &mut Actions) {
        for (name, running) in &mut self.running {
            let opens = source(&running.document, &self.down);
            if opens != running.source {
                actions.changes.push(restart(name, running, opens, reason));
            }
        }
    }
}

fn restart(name: &str, running: &mut Running, opens: Option<String>, reason: Reason) -> Change {
    let closes = running.source.is_some();
    running.source.clone_from(&opens);
    Change { stream: name.to_owned(), kind: Kind::Restart, reason, closes, opens }
}

fn source(document: &Document, down: &BTreeSet<String>) -> Option<String> {
    let mut urls = document.pulled();
    urls.find(|url| !down.contains(&origin(url))).map(str::to_owned)
}

#[cfg(test)]
mod tests;
