//! **Boot**: what a streamer captures when it has started, before it was answered.

use crate::frames::{ApiState, Run};
use crate::holder::answer::Request;
use crate::holder::step::{Effect, Holder};
use crate::holder::watch::{Reading, Watch};
use crate::rule::{Rule, lacks};
use crate::time::Now;

/// Requests that wait until a streamer that was not there has been read: what it boots with shows only until it is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Waiting {
    requests: Vec<(u64, Request, Option<String>)>,
    /// When the first of them came, monotonic ms.
    since: u64,
    /// They have waited since the streamer was last read or was away; the next are answered at once, whether it can be read or not.
    done: bool,
}

impl Watch {
    /// The first reading of a start, before any answer to it, shows what it boots with.
    pub(super) fn booted(&mut self, reading: &Reading) {
        // Another one, or the first after readings that failed; one that ran before this sidecar started tells nothing.
        let started = self.id.as_ref() != Some(&reading.id) && self.read.is_some();
        // A 503 changes nothing on a streamer. One that was never read may be the one that was answered long ago.
        let since = if self.id.is_some() { self.read } else { None };
        let answered = self.last_answer.is_some_and(|last| since.is_none_or(|read| last > read));
        // One that was answered between two readings has hidden it: what was found before stands.
        if started && !answered && !lacks(Rule::Boot) {
            self.boots_with = Some(reading.runs.values().filter(|run| **run == Run::Capture).count() as u64);
        }
    }
}

impl Holder {
    /// Whether the request waits for a reading, which is begun now unless one is under way.
    pub(super) fn waits_for_boot(
        &mut self,
        number: u64,
        request: &Request,
        host: Option<&String>,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> bool {
        // One that could not be read and asks has been started since, or cannot be read at all.
        let is_back = self.watch.api == ApiState::Down && self.watch.read.is_some();
        let alive = self.periods().alive;
        if self.watch.last_request.is_none_or(|last| now.mono.saturating_sub(last) > alive) {
            self.waiting.done = false;
        }
        if !is_back || self.waiting.done || lacks(Rule::Boot) {
            return false;
        }
        if self.waiting.requests.is_empty() {
            self.waiting.since = now.mono;
        }
        self.waiting.requests.push((number, request.clone(), host.cloned()));
        self.read_now(now, out);
        true
    }

    /// A reading that was begun at `begun` has ended: what waited for it is answered.
    pub(super) fn boot_read(&mut self, begun: u64, now: Now, out: &mut Vec<Effect>) {
        let is_up = self.watch.api == ApiState::Up;
        if is_up {
            self.waiting.done = false;
        }
        if self.waiting.requests.is_empty() {
            return;
        }
        // It was begun before the streamer was there.
        if !is_up && begun < self.waiting.since {
            return self.read_now(now, out);
        }
        self.end_waiting(now, out);
    }

    /// A reading that takes long keeps nobody waiting: a streamer that is not answered captures on as it booted.
    pub(super) fn mind_waiting(&mut self, now: Now, out: &mut Vec<Effect>) {
        let until = self.waiting.since.saturating_add(self.periods().poll / 5);
        if !self.waiting.requests.is_empty() && now.mono >= until {
            self.end_waiting(now, out);
        }
    }

    fn end_waiting(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.waiting.done = self.watch.api == ApiState::Down;
        for (number, request, host) in std::mem::take(&mut self.waiting.requests) {
            self.reply(number, &request, host, now, out);
        }
    }
}
