//! **Evidence**: when the streamer is known to have let go of a stream.

use crate::frames::{ApiState, Run, Up};
use crate::holder::answer::{Item, Request};
use crate::holder::step::{Effect, Holder};
use crate::holder::watch::Reading;
use crate::rule::{Rule, lacks};
use crate::time::Now;

/// Plain polls that prove something of a streamer that never asks by name: the first answer that left a stream out,
/// and two more.
pub const POLLS: u8 = 3;

/// Plain polls that prove as much of a streamer that asks by name: what it runs and was not listed it asks for at once,
/// so one that polls on and does not ask does not run it.
pub const POLLS_WITHOUT_ASKING: u8 = 2 * POLLS;

/// How far the proof has come. A `503` in between, or a restart of the streamer, begins it again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Proof {
    Nothing,
    /// With an API: `streamer`, known to run before, was answered at `at` without the stream.
    Answered {
        at: u64,
        streamer: String,
    },
    /// Without one: plain answers that left it out, and whether an answer to its own name did.
    LeftOut {
        polls: u8,
        named: bool,
    },
    /// It has let go.
    Done,
}

/// A stream that was deleted and that the streamer may still run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pending {
    /// Epoch of the delete that `released` answers; `None` once its connection ended.
    pub asked: Option<u64>,
    /// The write that puts the deletion on disk.
    pub write: u64,
    pub proof: Proof,
}

impl Holder {
    /// A delete was applied; `write` puts it on disk.
    pub(super) fn release(&mut self, name: String, epoch: u64, write: u64, now: Now) {
        let proof = if lacks(Rule::Evidence) || self.is_clear_of(&name, now) { Proof::Done } else { Proof::Nothing };
        let pending = Pending { asked: Some(epoch), write, proof };
        self.watch.stirred = now.mono;
        self.pending.insert(name, pending);
    }

    /// Whether the proof was there before it was asked for: the streamer is known not to run `name`, polls, and was not
    /// given it since that is known.
    fn is_clear_of(&self, name: &str, now: Now) -> bool {
        let alive = self.periods().alive;
        let polls = self.watch.last_request.is_some_and(|last| now.mono <= last.saturating_add(alive));
        let proven = !self.settings.api || (self.watch.api == ApiState::Up && self.watch.proven);
        polls && proven && !self.may_be_running(name) && !self.watch.served.contains(name)
    }

    /// Nothing is captured here any more, and nothing is served: the streamer may end without a stream going dark.
    pub fn has_let_go(&self) -> bool {
        let runs = self.watch.runs.as_ref();
        let captures = runs.is_some_and(|runs| runs.values().any(|run| *run == Run::Capture));
        let known = self.meta.synced || runs.is_some();
        known && !captures && self.rows.all().is_empty() && self.pending.is_empty() && !self.withholds()
    }

    /// What the streamer runs became known: deletes that came before may have their proof by that.
    pub(super) fn prove_by_cycle(&mut self, now: Now) {
        let names: Vec<String> = self.pending.keys().cloned().collect();
        for name in names {
            let clear = self.is_clear_of(&name, now);
            if let Some(pending) = self.pending.get_mut(&name).filter(|_| clear) {
                pending.proof = Proof::Done;
            }
        }
    }

    /// The streamer was answered with `items`, ordered by name. True when a reading may now prove what none did before.
    pub(super) fn prove_by_answer(&mut self, request: &Request, items: &[Item], now: Now) -> bool {
        let asks_by_name = self.watch.asks_by_name;
        let mut told = false;
        for (name, pending) in &mut self.pending {
            let about_it = match request {
                Request::All => true,
                Request::Named(names) => names.contains(name),
            };
            if !about_it || items.binary_search_by(|item| item.name.cmp(name)).is_ok() {
                continue;
            }
            if self.settings.api {
                let streamer = match (&self.watch.id, self.watch.api) {
                    (Some(id), ApiState::Up) => id.clone(),
                    _ => continue,
                };
                if pending.proof == Proof::Nothing {
                    pending.proof = Proof::Answered { at: now.mono, streamer };
                    told = true;
                }
            } else {
                pending.proof = left_out(&pending.proof, request, asks_by_name);
            }
        }
        told
    }

    /// The streamer was told "I don't know": what it fetched before proves nothing any more.
    pub(super) fn prove_nothing(&mut self) {
        for pending in self.pending.values_mut() {
            if pending.proof != Proof::Done {
                pending.proof = Proof::Nothing;
            }
        }
    }

    /// The streamer's API was read, beginning at `begun`.
    pub(super) fn prove_by_reading(&mut self, reading: &Reading, begun: u64) {
        for (name, pending) in &mut self.pending {
            let listed = reading.runs.contains_key(name);
            pending.proof = match &pending.proof {
                Proof::Answered { streamer, .. } if *streamer != reading.id => Proof::Nothing,
                Proof::Answered { at, .. } if begun > *at && !listed => Proof::Done,
                Proof::Done if listed => Proof::Nothing,
                proof => proof.clone(),
            };
        }
    }

    /// Takes for proven what is not, where [`Rule::EvidenceOfApi`] is taken out.
    pub(super) fn prove_all(&mut self) {
        self.pending.values_mut().for_each(|pending| pending.proof = Proof::Done);
    }

    /// **Released** names the epoch of the delete; it is said once per delete, after the deletion is on disk.
    pub(super) fn say_released(&mut self, out: &mut Vec<Effect>) {
        let done =
            |pending: &super::evidence::Pending| pending.proof == Proof::Done && self.journal.is_written(pending.write);
        let names: Vec<String> =
            self.pending.iter().filter(|(_, pending)| done(pending)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(pending) = self.pending.remove(&name) else {
                continue;
            };
            self.runs_changed |= self.watch.served.remove(&name);
            if let Some(epoch) = pending.asked {
                out.push(Effect::Send(Up::Released { name, epoch }));
            }
        }
    }
}

/// The next step of a proof without an API, after an answer that left the stream out.
fn left_out(proof: &Proof, request: &Request, asks_by_name: bool) -> Proof {
    let (polls, named) = match proof {
        Proof::Done => return Proof::Done,
        Proof::LeftOut { polls, named } => (*polls, *named),
        Proof::Nothing | Proof::Answered { .. } => (0, false),
    };
    if matches!(request, Request::Named(_)) {
        return Proof::LeftOut { polls, named: true };
    }
    let enough = if asks_by_name { POLLS_WITHOUT_ASKING } else { POLLS };
    let polls = (polls + 1).min(enough);
    if named || polls == enough {
        return Proof::Done;
    }
    Proof::LeftOut { polls, named }
}
