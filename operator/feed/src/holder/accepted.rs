//! Last good documents: one that the streamer refuses must not freeze all others.
//!
//! A streamer refuses a whole answer for one stream in it, and names the stream by its place, counted from 0 or from 1.
//! What it names is served as last accepted. Where several may be at fault, all of them are, and once an answer is
//! accepted again they are tried out in ever smaller parts, so that the innocent come back.
//!
//! Where nothing was accepted before (the replica was wiped), a refused document leaves its stream without any, and the
//! streamer may be running an earlier one. Such a stream is *at stake*: an answer without it would stop it. So those that
//! are not at stake are tried first; the name of one that is gets 503; and a streamer that never asks by name, which
//! stops whatever its list leaves out, has all suspects at stake listed, or gets 503 for a certain one: it refuses the
//! whole answer, and keeps what it has.

use std::collections::{BTreeMap, BTreeSet};

use crate::frames::{ConfigStatus, Run, Up};
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
    /// It answered a plain poll.
    plain: bool,
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
    /// Remembers an answer. True when the streamer was not given it before.
    pub fn given(&mut self, request: &Request, items: &[Item], now: u64) -> bool {
        let plain = *request == Request::All;
        if plain {
            self.settled = std::mem::take(&mut self.fresh);
            self.fresh_since = now;
        }
        let items: Vec<_> = items.iter().map(|item| (item.name.clone(), item.hash.clone())).collect();
        let is_it = |given: &Given| given.items == items;
        let known = self.fresh.iter().any(is_it);
        let news = !items.is_empty() && !known && !self.settled.iter().any(is_it);
        if !items.is_empty() && self.fresh.len() < MAX_ANSWERS && !known {
            self.fresh.push(Given { plain, items, refused: false });
        }
        news
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
            External::Loaded if settled => {
                let settled = self.answers.settled.clone();
                self.accept(&settled, out);
            }
            External::Error { message, index } => self.refuse(message, *index, settled, out),
            External::Loaded | External::Untold | External::NotFetched { .. } => {}
        }
        self.list_what_is_at_stake();
    }

    /// The streamer asks by name for what it runs and was not listed: it has taken the list. (What it is told then, 503
    /// for a stream at stake, is all that its own API shows afterwards.)
    pub(super) fn has_taken_the_list(&mut self, request: &Request, out: &mut Vec<Effect>) {
        let Request::Named(names) = request else {
            return;
        };
        if !names.iter().any(|name| self.is_kept(name)) {
            return;
        }
        let list: Vec<Given> = self.answers.fresh.iter().filter(|given| given.plain).cloned().collect();
        let asked_for = |given: &Given| given.items.iter().any(|(name, _)| names.contains(name));
        if !list.iter().any(|given| given.refused || asked_for(given)) {
            self.accept(&list, out);
        }
    }

    /// Every document of `answers` that is still current is accepted.
    fn accept(&mut self, answers: &[Given], out: &mut Vec<Effect>) {
        let accepted: BTreeSet<String> = answers
            .iter()
            .filter(|given| !given.refused)
            .flat_map(|given| &given.items)
            .filter(|given| self.is_unseen(given))
            .map(|(name, _)| name.clone())
            .collect();
        let mut tried = false;
        for name in accepted {
            self.set_judged(&name, Judged::Accepted);
            if self.answers.trial.remove(&name).is_some() {
                self.say_judged(&name, out);
                tried = true;
            }
        }
        if tried {
            self.answers.width = self.answers.width.saturating_mul(2);
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
        let mut suspects = self.uncertain();
        if !suspects.iter().all(|name| self.is_at_stake(name)) {
            suspects.retain(|name| !self.is_at_stake(name));
        }
        if self.answers.width == 0 {
            self.answers.width = (suspects.len() / 2).max(1);
        }
        let width = self.answers.width;
        if suspects.is_empty() {
            self.answers.width = 0;
        }
        for name in suspects.into_iter().take(width) {
            self.put_on_trial(name);
        }
    }

    /// A streamer that never asks by name would stop what its list leaves out.
    fn list_what_is_at_stake(&mut self) {
        if self.watch.asks_by_name {
            return;
        }
        for name in self.uncertain() {
            if self.is_kept(&name) {
                self.put_on_trial(name);
            }
        }
    }

    /// Rows that were set back on suspicion alone.
    fn uncertain(&self) -> Vec<String> {
        let rows = self.rows.all().iter();
        let uncertain = rows.filter(|(_, row)| matches!(row.judged, Judged::Refused { certain: false, .. }));
        uncertain.map(|(name, _)| name.clone()).collect()
    }

    fn put_on_trial(&mut self, name: String) {
        if let Some(row) = self.rows.row(&name)
            && let Judged::Refused { message, .. } = row.judged.clone()
        {
            let hash = row.current.hash.clone();
            self.set_judged(&name, Judged::Tried { message });
            self.answers.trial.insert(name, hash);
        }
    }

    /// Nothing but its current document is there to answer with, and the streamer may be running an earlier one, which
    /// an answer without the stream would stop. Without an API nothing is ever judged.
    fn is_at_stake(&self, name: &str) -> bool {
        let runs = |runs: &BTreeMap<String, Run>| runs.get(name).is_some_and(|run| *run != Run::Own);
        self.settings.api
            && self.rows.row(name).is_some_and(|row| row.accepted.is_none())
            && self.watch.runs.as_ref().is_none_or(runs)
    }

    /// At stake, and its document is refused: the streamer is told to keep what it has.
    pub(super) fn is_kept(&self, name: &str) -> bool {
        self.rows.row(name).is_some_and(|row| row.served().is_none()) && self.is_at_stake(name)
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
            if self.may_be_blamed(name) {
                self.answers.base = Some(*base);
                let name = name.clone();
                self.set_back([name], message, true, out);
            }
        } else if !suspects.is_empty() {
            self.blame(suspects.into_keys().collect(), message, out);
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
            self.blame(unseen, message, out);
        }
    }

    /// One of `names` is at fault, or several: the ones at stake are blamed when it can be nobody else.
    fn blame(&mut self, mut names: BTreeSet<String>, message: &str, out: &mut Vec<Effect>) {
        let at_stake: BTreeSet<String> = names.iter().filter(|name| self.is_at_stake(name)).cloned().collect();
        let certain = names.len() == 1;
        if at_stake.len() < names.len() {
            names.retain(|name| !at_stake.contains(name));
        } else if !names.iter().all(|name| self.may_be_blamed(name)) || (!certain && self.must_list(&names)) {
            return;
        }
        self.set_back(names, message, certain, out);
    }

    /// All of `names` are on trial already, and the streamer would stop what is not listed: nothing can be told apart.
    fn must_list(&self, names: &BTreeSet<String>) -> bool {
        !self.watch.asks_by_name && names.iter().all(|name| self.on_trial(name) && self.is_at_stake(name))
    }

    /// One at stake is blamed when the streamer has polled again since it was given, with documents that are all served
    /// still: otherwise the error may be about an older answer, even one that another replica gave.
    fn may_be_blamed(&self, name: &str) -> bool {
        let is_it = |item: &(String, String)| item.0 == name && self.is_unseen(item);
        let is_proof = |given: &&Given| !given.refused && given.items.iter().any(is_it);
        let mut proofs = self.answers.settled.iter().filter(is_proof);
        !self.is_at_stake(name) || proofs.any(|given| !given.items.iter().any(|item| self.is_replaced(item)))
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
        let tried: BTreeSet<String> = self.answers.trial.keys().cloned().collect();
        let certain = tried.len() == 1;
        if !tried.iter().all(|name| self.may_be_blamed(name)) || (!certain && self.must_list(&tried)) {
            return;
        }
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

    /// Whether `index` may mean a document that is set back or replaced already: an error that is older than that.
    fn is_explained(&self, index: usize) -> bool {
        let mut answers = self.answers.settled.iter().chain(&self.answers.fresh);
        answers.any(|given| self.places(given, index).any(|(_, item)| self.is_replaced(item)))
    }

    /// It is refused, or gone; what is fallen back on is neither.
    fn is_replaced(&self, (name, hash): &(String, String)) -> bool {
        self.rows.row(name).is_none_or(|row| match &row.judged {
            Judged::Refused { .. } if row.current.hash == *hash => true,
            _ => row.current.hash != *hash && row.accepted.as_ref().is_none_or(|accepted| accepted.hash != *hash),
        })
    }

    /// The documents that `index` may mean in an answer, each with the base by which it does.
    fn places<'a>(&self, given: &'a Given, index: usize) -> impl Iterator<Item = (usize, &'a (String, String))> {
        let bases = self.answers.base.map_or(0..=1, |base| base..=base);
        bases.filter_map(move |base| Some((base, given.items.get(index.checked_sub(base)?)?)))
    }

    /// It is served, and not judged yet.
    fn is_unseen(&self, (name, hash): &(String, String)) -> bool {
        let unseen = |judged: &Judged| matches!(judged, Judged::Unseen | Judged::Tried { .. });
        self.rows.row(name).is_some_and(|row| row.current.hash == *hash && unseen(&row.judged))
    }

    fn on_trial(&self, name: &str) -> bool {
        self.answers.trial.contains_key(name)
    }

    fn drop_stale_trials(&mut self) {
        let rows = &self.rows;
        self.answers.trial.retain(|name, hash| {
            rows.row(name).is_some_and(|row| row.current.hash == *hash && matches!(row.judged, Judged::Tried { .. }))
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
            Judged::Refused { message, .. } if self.is_kept(name) => {
                Some(format!("{message} ({})", self.kept_because()))
            }
            Judged::Refused { message, .. } | Judged::Tried { message } => Some(message.clone()),
            Judged::Unseen | Judged::Accepted => None,
        };
        out.push(Effect::Send(Up::Rejected { name: name.to_owned(), hash: row.current.hash.clone(), message }));
    }

    /// What a refusal of a stream at stake means, for a person.
    fn kept_because(&self) -> &'static str {
        if self.watch.asks_by_name {
            "the streamer may run an earlier document of it, and goes on with that: the sidecar has none to give it"
        } else {
            "the streamer may run an earlier document of it, and goes on with that: the sidecar has none to give it, \
             and until this one is corrected the streamer takes nothing new"
        }
    }
}
