//! What is known of the streamer: from its requests, and from its own API.

use std::collections::{BTreeMap, BTreeSet};

use crate::frames::{ApiState, ConfigStatus, Load, Run};
use crate::holder::answer::{Item, Request};
use crate::holder::evidence::POLLS;
use crate::holder::step::Holder;

/// What the streamer thinks of our answers, with the place of the fault.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum External {
    /// Its version does not tell.
    Untold,
    Loaded,
    /// It could not fetch an answer at all; `ours`: because we said 503. No document is at fault.
    NotFetched {
        message: String,
        ours: bool,
    },
    /// It refuses an answer. `index`: the stream's place in the answer, counted from 0 or from 1.
    Error {
        message: String,
        index: Option<usize>,
    },
}

/// One reading of the streamer's own API, all of it from one and the same start of the streamer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reading {
    /// New at each start of the streamer.
    pub id: String,
    /// Streams that it runs.
    pub runs: BTreeMap<String, Run>,
    pub external: External,
    pub load: Load,
}

/// The streamer, as seen from beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Watch {
    /// When it last asked anything.
    pub last_request: Option<u64>,
    /// When it was last given an answer, 503 aside.
    pub last_answer: Option<u64>,
    /// It has asked by name at least once.
    pub asks_by_name: bool,
    /// Plain polls answered in a row, up to a whole cycle.
    pub polls: u8,
    /// Names given to it in answers, and not proven gone since.
    pub served: BTreeSet<String>,
    pub api: ApiState,
    /// Of the last reading.
    pub id: Option<String>,
    /// The start of the streamer that was answered last, and when that was first.
    pub answered: Option<(String, u64)>,
    /// The last reading was of a streamer that had been answered before it: what it does not show is not running, and
    /// not about to.
    pub proven: bool,
    /// What the last reading showed.
    pub runs: Option<BTreeMap<String, Run>>,
    /// When the reading under way was begun.
    pub reading: Option<u64>,
    /// When the last reading was begun.
    pub last_reading: Option<u64>,
    /// When something happened of which a reading may show the effect.
    pub stirred: u64,
    /// When the last reading that ended was begun.
    pub read: Option<u64>,
    /// How many streams the streamer captured when it was first read after its last start, before any answer; `None`:
    /// no start was seen.
    pub boots_with: Option<u64>,
    pub config: ConfigStatus,
    pub load: Load,
    /// The last `host` that is not the Streamer's hostname.
    pub foreign_host: Option<String>,
}

impl Watch {
    /// It asked something.
    pub fn asked(&mut self, request: &Request, now: u64) {
        self.last_request = Some(now);
        self.asks_by_name |= matches!(request, Request::Named(_));
    }

    /// It was answered with `items`. True when what it runs became known, or changed, by that.
    pub fn answer_given(&mut self, request: &Request, items: &[Item], now: u64) -> bool {
        self.last_answer = Some(now);
        if let (ApiState::Up, Some(id)) = (self.api, &self.id)
            && self.answered.as_ref().is_none_or(|(answered, _)| answered != id)
        {
            self.answered = Some((id.clone(), now));
        }
        let before = self.polls;
        if *request == Request::All {
            self.polls = (self.polls + 1).min(POLLS);
        }
        let mut changed = before != self.polls && self.polls == POLLS;
        for item in items {
            if !self.served.contains(&item.name) {
                changed |= self.served.insert(item.name.clone());
            }
        }
        changed
    }

    /// The last reading succeeded and was begun after the last request.
    pub fn is_read_since_it_asked(&self) -> bool {
        self.api == ApiState::Up && self.last_request.is_none_or(|last| self.read.is_some_and(|read| read > last))
    }

    /// It was told "I don't know": a cycle that has not ended begins again.
    pub fn refused(&mut self) {
        if self.polls < POLLS {
            self.polls = 0;
        }
    }
}

impl Holder {
    /// Whether [`Self::runs`] has anything to say.
    pub(super) fn runs_known(&self) -> bool {
        self.watch.runs.is_some() || self.watch.polls >= POLLS
    }

    /// **Report**: what the streamer runs, by its own API; where that has never answered, by what it was given, once it
    /// has gone through one whole cycle. `None` while it is not known.
    pub fn runs(&self) -> Option<BTreeMap<String, Run>> {
        if let Some(runs) = &self.watch.runs {
            return Some(runs.clone());
        }
        let capture = |name: &String| (name.clone(), Run::Capture);
        self.runs_known().then(|| self.watch.served.iter().map(capture).collect())
    }

    /// Whether [`Self::runs`] has `name`, or has nothing to say.
    pub(super) fn may_be_running(&self, name: &str) -> bool {
        match &self.watch.runs {
            Some(runs) => runs.contains_key(name),
            None => !self.runs_known() || self.watch.served.contains(name),
        }
    }
}
