//! The sidecar's decisions as one function: `(state, input, now) -> effects`. No I/O, no clock, no chance.

use std::collections::BTreeMap;

use crate::frames::{About, ApiState, Down, Up};
use crate::holder::accepted::Answers;
use crate::holder::answer::{Answer, Request};
use crate::holder::boot::Waiting;
use crate::holder::evidence::Pending;
use crate::holder::journal::{Changes, Journal, Meta};
use crate::holder::lease::{Disobeys, Lease};
use crate::holder::link::{Session, Why};
use crate::holder::rows::Rows;
use crate::holder::watch::{Reading, Watch};
use crate::periods::Periods;
use crate::rule::{Rule, lacks};
use crate::time::Now;

/// Who this sidecar is; never changes while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Version of the program, for people.
    pub program: String,
    pub namespace: String,
    pub streamer: String,
    pub instance: String,
    pub about: About,
    /// The streamer's own API can be asked.
    pub api: bool,
}

/// What happens to a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Input {
    /// A connection is being made: what is sent from now on goes out on it.
    Connected,
    /// The connection ended, or could not be made.
    Disconnected,
    Frame(Down),
    /// The streamer asks; [`Effect::Answer`] with the same number answers it.
    Asked {
        number: u64,
        request: Request,
        /// `host`, where it sends one.
        host: Option<String>,
    },
    /// `GET /lease`: somebody asks whether the streamer may live; [`Effect::AnswerLease`] answers.
    LeaseAsked {
        number: u64,
    },
    /// The reading that [`Effect::ReadApi`] began has ended.
    ApiRead(Result<Reading, String>),
    /// The write that [`Effect::Persist`] began has ended.
    Persisted(Result<(), String>),
    /// Time has passed; comes several times a `ping`.
    Tick,
    /// The process is told to end.
    Shutdown,
}

/// What is to be done about it, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    Send(Up),
    /// Leave the connection; no [`Input::Disconnected`] need follow.
    Drop(Why),
    /// Read the streamer's API; one reading is under way at a time.
    ReadApi,
    /// Write the replica, in one transaction; one write is under way at a time.
    Persist(Changes),
    Answer {
        number: u64,
        answer: Answer,
    },
    AnswerLease {
        number: u64,
        answer: Result<(), Disobeys>,
    },
    /// Superseded: the process has nothing more to do.
    Exit,
}

/// What a replica kept over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Stored {
    pub rows: Rows,
    pub meta: Meta,
}

/// The sidecar's whole state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holder {
    pub(super) settings: Settings,
    pub(super) rows: Rows,
    pub(super) meta: Meta,
    pub(super) journal: Journal,
    pub(super) watch: Watch,
    pub(super) answers: Answers,
    pub(super) waiting: Waiting,
    /// Deleted streams of which the streamer may not have let go.
    pub(super) pending: BTreeMap<String, Pending>,
    pub(super) lease: Lease,
    pub(super) session: Option<Session>,
    /// By when the hello is said, which waits for the first reading of the streamer.
    pub(super) greets_by: Option<u64>,
    pub(super) started: u64,
    /// The last step, monotonic ms.
    pub(super) last_step: u64,
    /// For how long in all this process was not running since the streamer last asked, in ms.
    pub(super) stalled: u64,
    /// A mark was applied since the start.
    pub(super) marked: bool,
    /// When a leader was last heard.
    pub(super) heard: Option<u64>,
    pub(super) superseded: bool,
    /// Told to wait for its name, and not welcomed since.
    pub(super) contested: bool,
    pub(super) runs_changed: bool,
}

impl Holder {
    /// A sidecar that starts now, with what its replica kept.
    pub fn new(settings: Settings, stored: Stored, now: Now) -> Self {
        let api = if settings.api { ApiState::Down } else { ApiState::Absent };
        let watch = Watch { api, asks_by_name: stored.meta.asks_by_name, ..Watch::default() };
        Self {
            settings,
            rows: stored.rows,
            meta: stored.meta,
            journal: Journal::default(),
            watch,
            answers: Answers::default(),
            waiting: Waiting::default(),
            pending: BTreeMap::new(),
            lease: Lease::default(),
            session: None,
            greets_by: None,
            started: now.mono,
            last_step: now.mono,
            stalled: 0,
            marked: false,
            heard: None,
            superseded: false,
            contested: false,
            runs_changed: false,
        }
    }

    /// Takes one input in.
    pub fn step(&mut self, input: Input, now: Now) -> Vec<Effect> {
        let mut out = Vec::new();
        self.count_stall(now);
        // These two end the connection before them anyway.
        if !matches!(input, Input::Connected | Input::Disconnected) {
            self.mind_silence(now, &mut out);
        }
        self.mind_lease(now);
        match input {
            Input::Connected => self.connected(now, &mut out),
            Input::Disconnected => {
                self.greets_by = None;
                self.part();
            }
            Input::Frame(frame) => self.hear(frame, now, &mut out),
            Input::Asked { number, request, host } => {
                if !self.waits_for_boot(number, &request, host.as_ref(), now, &mut out) {
                    self.reply(number, &request, host, now, &mut out);
                }
            }
            Input::LeaseAsked { number } => {
                self.lease.asked = Some(now.mono);
                out.push(Effect::AnswerLease { number, answer: self.obeys(now) });
            }
            Input::ApiRead(result) => self.api_read(result, now, &mut out),
            Input::Persisted(result) => self.persisted(result, now, &mut out),
            Input::Tick => {
                self.mind_link(now, &mut out);
                self.mind_waiting(now, &mut out);
                self.mind_api(now, &mut out);
            }
            Input::Shutdown => {
                if self.session.is_some() {
                    out.push(Effect::Send(Up::Goodbye {}));
                    self.leave(Why::Shutdown, &mut out);
                }
            }
        }
        self.mind_hello(now, &mut out);
        self.follow_up(now, &mut out);
        out
    }

    /// For as long as this process stood still it took no request: that is not the streamer's silence.
    fn count_stall(&mut self, now: Now) {
        let gap = now.mono.saturating_sub(self.last_step);
        self.last_step = now.mono;
        if gap > self.periods().ping * 2 {
            self.stalled = self.stalled.saturating_add(gap);
        }
    }

    /// The periods of the last welcome.
    pub fn periods(&self) -> Periods {
        self.meta.periods.unwrap_or_default()
    }

    /// Milliseconds since a leader was last heard, over restarts too; `None` if there never was one.
    pub fn age(&self, now: Now) -> Option<u64> {
        match self.heard {
            Some(heard) => Some(now.mono.saturating_sub(heard)),
            None => Some(now.wall.saturating_sub(self.meta.heard?)),
        }
    }

    /// Rows, holds and stopped epochs.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Terms, revision, and whether the replica was ever complete.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// What is known of the streamer.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Why the replica cannot be written, if so.
    pub fn replica_error(&self) -> Option<&str> {
        self.journal.error()
    }

    /// A leader has welcomed this sidecar, and the connection stands.
    pub fn is_connected(&self) -> bool {
        self.is_welcome()
    }

    /// Milliseconds since the streamer last asked, less the time for which nobody was there to hear it.
    pub(super) fn polled(&self, now: Now) -> Option<u64> {
        let last = self.watch.last_request?;
        Some(now.mono.saturating_sub(last).saturating_sub(self.stalled))
    }

    /// Answers the streamer.
    pub(super) fn reply(
        &mut self,
        number: u64,
        request: &Request,
        host: Option<String>,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        self.watch.asked(request, now.mono);
        if self.watch.asks_by_name && !self.meta.asks_by_name {
            self.meta.asks_by_name = true;
            self.journal.touch([]);
        }
        self.stalled = 0;
        if let Some(host) = host {
            let ours = host == self.settings.about.hostname;
            self.watch.foreign_host = Some(host).filter(|_| !ours);
        }
        if self.unleased(now) > 0 {
            // The lease counts from this request.
            self.say_alive(now, out);
        }
        let answer = self.answer(request, now);
        match &answer {
            Answer::Streams(items) => {
                let known = self.runs_known();
                self.runs_changed |= self.watch.answer_given(request, items, now.mono);
                let news = self.answers.given(request, items, now.mono);
                if self.prove_by_answer(request, items, now) || news {
                    self.watch.stirred = now.mono;
                }
                if !known && self.runs_known() {
                    self.prove_by_cycle(now);
                }
            }
            Answer::NotYet(_) => {
                self.watch.refused();
                self.prove_nothing();
            }
        }
        out.push(Effect::Answer { number, answer });
        self.has_taken_the_list(request, out);
    }

    fn api_read(&mut self, result: Result<Reading, String>, now: Now, out: &mut Vec<Effect>) {
        let begun = self.watch.reading.take().unwrap_or(now.mono);
        let Ok(reading) = result else {
            // **Evidence**: unknown is none, so what was known stands, and nothing is concluded.
            self.watch.api = ApiState::Down;
            self.watch.read = Some(begun);
            if lacks(Rule::EvidenceOfApi) {
                self.prove_all();
            }
            return self.boot_read(begun, now, out);
        };
        self.watch.api = ApiState::Up;
        self.watch.booted(&reading);
        self.watch.read = Some(begun);
        if self.watch.id.as_ref().is_some_and(|id| *id != reading.id) {
            self.answers.forget();
        }
        self.prove_by_reading(&reading, begun);
        let before = |(id, at): &(String, u64)| *id == reading.id && begun > *at;
        self.watch.proven = self.watch.answered.as_ref().is_some_and(before);
        self.watch.id = Some(reading.id);
        self.watch.load = reading.load;
        if self.watch.runs.as_ref() != Some(&reading.runs) {
            self.watch.runs = Some(reading.runs);
            self.runs_changed = true;
        }
        self.judge(&reading.external, begun, out);
        self.boot_read(begun, now, out);
    }

    fn persisted(&mut self, result: Result<(), String>, now: Now, out: &mut Vec<Effect>) {
        let before = self.journal.error().map(str::to_owned);
        let retry_at = now.mono.saturating_add(self.periods().silence);
        self.journal.ended(result, retry_at);
        if self.journal.error() != before.as_deref() {
            self.say_alive(now, out);
        }
    }

    /// Begins a reading when one is due: every `poll`, and sooner for two of them after anything that one may answer.
    fn mind_api(&mut self, now: Now, out: &mut Vec<Effect>) {
        if !self.settings.api {
            return;
        }
        let poll = self.periods().poll;
        let waits = !self.pending.is_empty() || self.awaits_judgement();
        // One that is down is seen as soon as it is there: what it boots with shows until its first poll.
        let eager = self.watch.api == ApiState::Down
            || waits && now.mono < self.watch.stirred.saturating_add(poll.saturating_mul(2));
        let wait = if eager { poll / 5 } else { poll };
        let due = |last: u64| now.mono >= last.saturating_add(wait);
        if self.watch.last_reading.is_none_or(due) {
            self.read_now(now, out);
        }
    }

    /// Begins a reading, unless one is under way.
    pub(super) fn read_now(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.watch.reading.is_none() {
            self.watch.reading = Some(now.mono);
            self.watch.last_reading = Some(now.mono);
            out.push(Effect::ReadApi);
        }
    }

    /// What any input may have made possible.
    fn follow_up(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.carry_out(now, out);
        self.say_applied(out);
        self.say_released(out);
        self.say_runs(out);
        if let Some(changes) = self.journal.next(&self.rows, &self.meta, now.mono) {
            out.push(Effect::Persist(changes));
        }
    }
}
