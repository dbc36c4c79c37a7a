//! Last good documents: one that the streamer refuses must not freeze all others.
//!
//! A streamer refuses a whole answer for one stream in it, and names the stream by its place, counted from 0 or from 1.
//! What it names is served as last accepted. Where several may be at fault, all of them are, and once an answer is
//! accepted again they are tried out in ever smaller parts, so that the innocent come back.

use std::collections::{BTreeMap, BTreeSet};

use crate::frames::{ConfigStatus, Up};
use crate::holder::answer::{Item, Request};
use crate::holder::rows::Judged;
use crate::holder::step::{Effect, Holder};
use crate::holder::watch::External;

/// How many answers between two polls are remembered.
const MAX_ANSWERS: usize = 64;

/// For how many polls in a row it is waited until one document is at the place that is refused, while answers change.
const MAX_DOUBTS: u8 = 3;

/// An answer, as far as judging it needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Given {
    /// Name and hash of each document, in the answer's order.
    items: Vec<(String, String)>,
    /// It held a document that was set back since: nothing more follows from it.
    refused: bool,
}

/// The last answers, and what may be wrong with them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Answers {
    /// Given since the last plain poll: the streamer may not have read them yet.
    fresh: Vec<Given>,
    /// When that poll was.
    fresh_since: u64,
    /// Given before it: the streamer has read them.
    settled: Vec<Given>,
    /// Where this streamer begins to count, once it is known.
    pub(super) base: Option<usize>,
    /// Suspects on trial, with the hashes of their documents.
    trial: BTreeMap<String, String>,
    /// How many suspects are tried at once.
    width: usize,
    /// Polls in a row at which a place was refused that holds one document in one answer and another in the next; and
    /// when the last of them was.
    doubts: (u8, u64),
}

impl Answers {
    /// Remembers an answer.
    pub fn given(&mut self, request: &Request, items: &[Item], now: u64) {
        if *request == Request::All {
            self.settled = std::mem::take(&mut self.fresh);
            self.fresh_since = now;
        }
        let items: Vec<_> = items.iter().map(|item| (item.name.clone(), item.hash.clone())).collect();
        let known = self.fresh.iter().any(|given| given.items == items);
        if !items.is_empty() && self.fresh.len() < MAX_ANSWERS && !known {
            self.fresh.push(Given { items, refused: false });
        }
    }

    /// All documents of answers that may still be judged.
    fn open(&self) -> impl Iterator<Item = &(String, String)> {
        let answers = self.settled.iter().chain(&self.fresh);
        let open = answers.filter(|given| !given.refused);
        open.flat_map(|given| &given.items)
    }

    /// `names` are set back: the answers that held one are done with.
    fn close(&mut self, names: &BTreeSet<String>) {
        for given in self.settled.iter_mut().chain(&mut self.fresh) {
            given.refused |= given.items.iter().any(|(name, _)| names.contains(name));
        }
    }

    /// Whether to wait for the next poll before anybody is blamed: a reading cannot tell which of two answers is
    /// refused, and blaming the wrong one's document would stop a stream that runs.
    fn in_doubt(&mut self) -> bool {
        let (doubts, last) = self.doubts;
        if last != self.fresh_since {
            self.doubts = (doubts.saturating_add(1), self.fresh_since);
        }
        self.doubts.0 <= MAX_DOUBTS
    }

    /// The streamer was started anew: it has read none of them.
    pub fn forget(&mut self) {
        self.fresh.clear();
        self.settled.clear();
    }
}

impl Holder {
    /// Whether an answer was given that holds a document which the streamer has not judged.
    pub(super) fn awaits_judgement(&self) -> bool {
        self.watch.config != ConfigStatus::Unknown && self.answers.open().any(|given| self.is_unseen(given))
    }

    /// What the streamer, read from `begun` on, says of our answers.
    pub(super) fn judge(&mut self, external: &External, begun: u64, out: &mut Vec<Effect>) {
        self.watch.config = match external {
            External::Untold | External::NotFetched { ours: true, .. } => ConfigStatus::Unknown,
            External::Loaded => ConfigStatus::Loaded,
            External::NotFetched { message, .. } | External::Error { message, .. } => {
                ConfigStatus::Error { message: message.clone() }
            }
        };
        let settled = begun > self.answers.fresh_since;
        match external {
            External::Loaded if settled => self.accept(out),
            External::Error { message, index } => self.refuse(message, *index, settled, out),
            External::Loaded | External::Untold | External::NotFetched { .. } => {}
        }
    }

    /// Every document of the settled answers that is still current is accepted.
    fn accept(&mut self, out: &mut Vec<Effect>) {
        let accepted: BTreeSet<String> = self
            .answers
            .settled
            .iter()
            .filter(|given| !given.refused)
            .flat_map(|given| &given.items)
            .filter(|given| self.is_unseen(given))
            .map(|(name, _)| name.clone())
            .collect();
        for name in accepted {
            self.set_judged(&name, Judged::Accepted);
            if self.answers.trial.remove(&name).is_some() {
                self.say_judged(&name, out);
            }
        }
        self.try_suspects();
    }

    /// Serves some of the documents again that were set back on suspicion alone.
    fn try_suspects(&mut self) {
        self.drop_stale_trials();
        // What else is new is judged first, so that an error means the trial.
        if !self.answers.trial.is_empty() || self.awaits_judgement() {
            return;
        }
        let suspects: Vec<(String, String)> = self
            .rows
            .all()
            .iter()
            .filter(|(_, row)| matches!(row.judged, Judged::Refused { certain: false, .. }))
            .map(|(name, row)| (name.clone(), row.current.hash.clone()))
            .collect();
        if self.answers.width == 0 {
            self.answers.width = (suspects.len() / 2).max(1);
        }
        let width = self.answers.width;
        if suspects.is_empty() {
            self.answers.width = 0;
        }
        for (name, hash) in suspects.into_iter().take(width) {
            self.set_judged(&name, Judged::Unseen);

            self.answers.trial.insert(name, hash);
        }
    }

    /// The streamer refuses an answer.
    fn refuse(&mut self, message: &str, index: Option<usize>, settled: bool, out: &mut Vec<Effect>) {
        self.drop_stale_trials();
        if index.is_some_and(|index| self.is_explained(index)) {
            return;
        }
        let (older, newer) = index.map_or_else(Default::default, |index| self.suspects(index));
        let differ = !older.is_empty() && !newer.is_empty() && older != newer;
        if differ && self.answers.trial.is_empty() && self.answers.in_doubt() {
            return;
        }
        self.answers.doubts.0 = 0;
        let mut suspects = older;
        suspects.extend(newer);
        if suspects.len() > 1 && suspects.keys().any(|name| self.on_trial(name)) {
            suspects.retain(|name, _| self.answers.trial.contains_key(name));
        }
        if let (1, Some((name, base))) = (suspects.len(), suspects.first_key_value()) {
            self.answers.base = Some(*base);
            let name = name.clone();
            self.set_back([name], message, true, out);
        } else if !suspects.is_empty() {
            self.set_back(suspects.into_keys(), message, false, out);
        } else if !self.answers.trial.is_empty() {
            self.trial_failed(message, out);
        } else if settled {
            // Nothing fits the place: whatever is new may be at fault.
            self.answers.base = None;
            let unseen: BTreeSet<String> =
                self.answers.open().filter(|given| self.is_unseen(given)).map(|(name, _)| name.clone()).collect();
            if let Some(index) = index.filter(|_| unseen.is_empty()) {
                self.drop_fallbacks(index);
            }
            let certain = unseen.len() == 1;
            self.set_back(unseen, message, certain, out);
        }
    }

    /// What is served in the place of a refused document was never judged, and is refused too: nothing is left of it.
    fn drop_fallbacks(&mut self, index: usize) {
        let settled = self.answers.settled.iter();
        let at = settled.flat_map(|given| self.places(given, index));
        let refused = at.filter(|(_, (name, hash))| {
            let row = self.rows.row(name);
            row.is_some_and(|row| row.served().is_some_and(|served| served.hash == *hash && *served != row.current))
        });
        let names: BTreeSet<String> = refused.map(|(_, (name, _))| name.clone()).collect();
        for name in names {
            self.rows.forget_fallback(&name);
            self.journal.touch([name]);
        }
    }

    /// One of the suspects on trial is at fault; if it is the only one, it is certain.
    fn trial_failed(&mut self, message: &str, out: &mut Vec<Effect>) {
        // An error that is older than the trial says nothing about it.
        if !self.answers.trial.keys().any(|name| self.was_given(name)) {
            return;
        }
        let tried: Vec<String> = self.answers.trial.keys().cloned().collect();
        let certain = tried.len() == 1;
        self.answers.width = (tried.len() / 2).max(1);
        self.set_back(tried, message, certain, out);
    }

    /// Whether `name`'s current document was in one of the last answers.
    fn was_given(&self, name: &str) -> bool {
        let mut open = self.answers.open();
        open.any(|given| given.0 == name && self.is_unseen(given))
    }

    fn set_back(
        &mut self,
        names: impl IntoIterator<Item = String>,
        message: &str,
        certain: bool,
        out: &mut Vec<Effect>,
    ) {
        let names: BTreeSet<String> = names.into_iter().collect();
        self.answers.close(&names);
        for name in names {
            let message = message.to_owned();
            self.set_judged(&name, Judged::Refused { message, certain });
            self.answers.trial.remove(&name);
            self.say_judged(&name, out);
        }
    }

    /// The streams that `index` may mean, each with the base by which it does: in the answers that the streamer has
    /// read, and in those that it may have read.
    fn suspects(&self, index: usize) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
        let at = |answers: &[Given]| {
            let mut found = BTreeMap::new();
            for given in answers.iter().filter(|given| !given.refused) {
                for (base, item) in self.places(given, index) {
                    if self.is_unseen(item) {
                        found.insert(item.0.clone(), base);
                    }
                }
            }
            found
        };
        (at(&self.answers.settled), at(&self.answers.fresh))
    }

    /// Whether `index` may mean a document that is set back already: an error that is older than that.
    fn is_explained(&self, index: usize) -> bool {
        let mut answers = self.answers.settled.iter().chain(&self.answers.fresh);
        answers.any(|given| {
            self.places(given, index).any(|(_, (name, hash))| {
                self.rows
                    .row(name)
                    .is_some_and(|row| row.current.hash == *hash && matches!(row.judged, Judged::Refused { .. }))
            })
        })
    }

    /// The documents that `index` may mean in an answer, each with the base by which it does.
    fn places<'a>(&self, given: &'a Given, index: usize) -> impl Iterator<Item = (usize, &'a (String, String))> {
        let bases = self.answers.base.map_or(0..=1, |base| base..=base);
        bases.filter_map(move |base| Some((base, given.items.get(index.checked_sub(base)?)?)))
    }

    fn is_unseen(&self, (name, hash): &(String, String)) -> bool {
        self.rows.row(name).is_some_and(|row| row.current.hash == *hash && row.judged == Judged::Unseen)
    }

    fn on_trial(&self, name: &str) -> bool {
        self.answers.trial.contains_key(name)
    }

    fn drop_stale_trials(&mut self) {
        let rows = &self.rows;
        self.answers.trial.retain(|name, hash| {
            rows.row(name).is_some_and(|row| row.current.hash == *hash && row.judged == Judged::Unseen)
        });
    }

    fn set_judged(&mut self, name: &str, judged: Judged) {
        self.rows.judge(name, judged);
        self.journal.touch([name.to_owned()]);
    }

    /// Tells the leader what became of a document that was refused.
    pub(super) fn say_judged(&self, name: &str, out: &mut Vec<Effect>) {
        let Some(row) = self.rows.row(name).filter(|_| self.is_welcome()) else {
            return;
        };
        let message = match &row.judged {
            Judged::Refused { message, .. } => Some(message.clone()),
            Judged::Unseen | Judged::Accepted => None,
        };
        out.push(Effect::Send(Up::Rejected { name: name.to_owned(), hash: row.current.hash.clone(), message }));
    }
}
