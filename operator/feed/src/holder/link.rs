//! The connection to a leader: hello, terms, silence, batches.

use std::collections::{BTreeMap, VecDeque};

use crate::frames::{Down, Hello, OLDEST, Run, Up, VERSION};
use crate::grant::Seal;
use crate::holder::rows::{Edit, Judged, Outcome};
use crate::holder::step::{Effect, Holder};
use crate::periods::Periods;
use crate::rule::{Rule, lacks};
use crate::time::Now;

/// Why a connection is left.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Why {
    #[error("no frame for {0} ms")]
    Silent(u64),
    #[error("by its own last ping it may not speak for a leader any more, since {0} ms")]
    SpokenOut(u64),
    #[error("its term {theirs} is below {ours}, the highest ever heard")]
    LowerTerm { theirs: u64, ours: u64 },
    #[error("after revision {revision} the replica would not be what the leader says it is")]
    Mismatch { revision: u64 },
    #[error("it is not the leader")]
    NotLeader { leader: Option<String> },
    #[error("it speaks version {0} of the feed, and this sidecar version {VERSION}")]
    Version(u32),
    #[error("it sent {0} before its welcome")]
    Unwelcome(&'static str),
    #[error("another instance has this Streamer's name now")]
    Superseded,
    #[error("it refuses this sidecar: {0}")]
    Refused(String),
    #[error("the sidecar shuts down")]
    Shutdown,
}

/// A connection, from the hello on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Session {
    /// The leader has accepted the hello.
    pub welcome: bool,
    /// The leader has it wait for the name that another instance holds.
    waits: bool,
    /// When the last frame came.
    heard: u64,
    /// Until when the leader may speak, by its last ping.
    speaks_until: Option<u64>,
    /// When `alive` was said last.
    alive: Option<u64>,
    /// Frames since the last mark.
    batch: Vec<Edit>,
    /// The write that puts the welcome's term on disk.
    term_write: u64,
    /// Frames that wait for that write.
    deferred: VecDeque<Down>,
    /// Marks whose rows are not on disk yet: number of the write, and revision.
    marks: VecDeque<(u64, u64)>,
    /// What the leader was told that the streamer runs.
    told: Option<BTreeMap<String, Run>>,
}

impl Holder {
    /// A connection stands. The hello of an empty replica waits for the first reading of its streamer, which is
    /// under way, if that does not take long: nobody else may know what runs there.
    pub(super) fn connected(&mut self, now: Now, out: &mut Vec<Effect>) {
        let unread = self.watch.read.is_none() && self.watch.reading.is_some();
        if unread && !self.meta.synced && !lacks(Rule::ReportOfRuns) {
            self.greets_by = Some(now.mono.saturating_add(self.periods().ping * 2));
        } else {
            self.greet(now, out);
        }
    }

    /// The hello that has waited.
    pub(super) fn mind_hello(&mut self, now: Now, out: &mut Vec<Effect>) {
        let due = |by: &mut u64| self.watch.read.is_some() || now.mono >= *by;
        if self.greets_by.take_if(due).is_some() {
            self.greet(now, out);
        }
    }

    /// **Report**: the hello says everything that is held, and what runs.
    pub(super) fn greet(&mut self, now: Now, out: &mut Vec<Effect>) {
        let told = if lacks(Rule::ReportOfRuns) { Some(BTreeMap::new()) } else { self.runs() };
        out.push(Effect::Send(Up::Hello(Box::new(Hello {
            version: VERSION,
            oldest: Some(OLDEST),
            program: self.settings.program.clone(),
            namespace: self.settings.namespace.clone(),
            streamer: self.settings.streamer.clone(),
            instance: self.settings.instance.clone(),
            term: self.meta.term.clone(),
            synced: self.meta.synced,
            held: if lacks(Rule::ReportOfRows) { Vec::new() } else { self.rows.held() },
            holds: self.rows.holds().clone(),
            stopped: self.rows.held_no_more(),
            runs: told.clone(),
            polled: self.polled(now),
            api: self.watch.api,
            about: self.settings.about.clone(),
        }))));
        self.session = Some(Session { heard: now.mono, told, ..Session::default() });
    }

    /// The connection is gone, and with it what it brought and no mark followed.
    pub(super) fn part(&mut self) {
        self.session = None;
        for pending in self.pending.values_mut() {
            pending.asked = None;
        }
    }

    pub(super) fn leave(&mut self, why: Why, out: &mut Vec<Effect>) {
        self.part();
        out.push(Effect::Drop(why));
    }

    /// A frame came.
    pub(super) fn hear(&mut self, frame: Down, now: Now, out: &mut Vec<Effect>) {
        let Some(session) = &mut self.session else {
            return;
        };
        session.heard = now.mono;
        match frame {
            Down::Welcome { version, term, seal, periods } => {
                if !(OLDEST..=VERSION).contains(&version) {
                    return self.leave(Why::Version(version), out);
                }
                self.welcomed(term, seal, periods, now, out);
            }
            Down::Ping { term, may_speak, lease } => {
                session.speaks_until = Some(now.mono.saturating_add(may_speak));
                self.pinged(term, lease, now, out);
            }
            Down::NotLeader { leader } => self.leave(Why::NotLeader { leader }, out),
            Down::Superseded {} => {
                self.superseded = true;
                self.leave(Why::Superseded, out);
                out.push(Effect::Exit);
            }
            Down::Wait {} => {
                session.waits = true;
                self.contested = true;
            }
            Down::Refused { message } => self.leave(Why::Refused(message), out),
            Down::Unknown => {}
            edit @ (Down::Put(_) | Down::Delete { .. } | Down::Hold { .. } | Down::Mark { .. }) => {
                session.deferred.push_back(edit);
            }
        }
    }

    fn welcomed(&mut self, term: u64, seal: Seal, periods: Periods, now: Now, out: &mut Vec<Effect>) {
        if !self.listens_to(term, out) {
            return;
        }
        self.meta.term = Some((term, seal));
        self.meta.periods = Some(periods);
        self.contested = false;
        self.heard(now);
        let write = self.journal.touch([]);
        if let Some(session) = &mut self.session {
            session.welcome = true;
            session.term_write = write;
        }
        self.say_alive(now, out);
        self.runs_changed = true;
        let refused = |judged: &Judged| matches!(judged, Judged::Refused { .. } | Judged::Tried { .. });
        let rows = self.rows.all().iter();
        for (name, _) in rows.filter(|(_, row)| refused(&row.judged)) {
            self.say_judged(name, out);
        }
    }

    fn pinged(&mut self, term: u64, lease: Option<u64>, now: Now, out: &mut Vec<Effect>) {
        let known = self.meta.highest_term;
        if !self.listens_to(term, out) {
            return;
        }
        if term > known {
            self.journal.touch([]);
        }
        if self.is_welcome() {
            self.heard(now);
            if let Some(at) = lease {
                self.lease(at, now);
            }
        }
    }

    /// **Term**: it never listens to a lower one than it has stored.
    fn listens_to(&mut self, theirs: u64, out: &mut Vec<Effect>) -> bool {
        let ours = self.meta.highest_term;
        if theirs < ours && !lacks(Rule::TermOfSidecar) {
            self.leave(Why::LowerTerm { theirs, ours }, out);
            return false;
        }
        self.meta.highest_term = theirs.max(ours);
        true
    }

    fn heard(&mut self, now: Now) {
        self.heard = Some(now.mono);
        let minute = |wall: u64| wall / 60_000;
        // Kept to the minute: it only says how old the replica is after a restart.
        if self.meta.heard.map(minute) != Some(minute(now.wall)) {
            self.journal.touch([]);
        }
        self.meta.heard = Some(now.wall);
    }

    /// Carries out the frames that waited for the term to be on disk: nothing of a term is applied before.
    pub(super) fn carry_out(&mut self, now: Now, out: &mut Vec<Effect>) {
        loop {
            let journal = &self.journal;
            let Some(session) = &mut self.session else {
                return;
            };
            // A disk that fails stops nothing: memory serves on.
            if session.welcome && !journal.is_settled(session.term_write) {
                return;
            }
            let Some(frame) = session.deferred.pop_front() else {
                return;
            };
            let edit = match frame {
                _ if !session.welcome => {
                    return self.leave(Why::Unwelcome("a change"), out);
                }
                Down::Put(put) => Edit::Put(put),
                Down::Delete { name, epoch } => Edit::Delete { name, epoch },
                Down::Hold { name, epoch } => Edit::Hold { name, epoch },
                Down::Mark { revision, count, digest } => {
                    self.mark(revision, count, &digest, now, out);
                    continue;
                }
                _ => continue,
            };
            session.batch.push(edit);
        }
    }

    /// The batch becomes visible at once, or not at all.
    fn mark(&mut self, revision: u64, count: u64, digest: &str, now: Now, out: &mut Vec<Effect>) {
        let Some(session) = &mut self.session else {
            return;
        };
        let mut rows = self.rows.clone();
        let mut outcome = Outcome::default();
        for edit in std::mem::take(&mut session.batch) {
            rows.apply(edit, &mut outcome);
        }
        rows.forget_lowest(&mut outcome);
        if (rows.count(), rows.digest().as_str()) != (count, digest) {
            return self.leave(Why::Mismatch { revision }, out);
        }
        self.rows = rows;
        self.meta.synced = true;
        self.meta.revision = revision;
        self.marked = true;
        self.heard(now);
        let write = self.journal.touch(outcome.touched);
        if let Some(session) = &mut self.session {
            session.marks.push_back((write, revision));
        }
        for name in outcome.put {
            self.pending.remove(&name);
        }
        for (name, epoch) in outcome.deleted {
            self.release(name, epoch, write, now);
        }
    }

    /// Says `applied` for every mark that is on disk, or that a failing disk will not take.
    pub(super) fn say_applied(&mut self, out: &mut Vec<Effect>) {
        let Some(session) = &mut self.session else {
            return;
        };
        while let Some((write, revision)) = session.marks.front().copied() {
            if !self.journal.is_settled(write) {
                return;
            }
            session.marks.pop_front();
            out.push(Effect::Send(Up::Applied { revision }));
        }
    }

    /// Says what the streamer runs, where that is not what the leader was told.
    pub(super) fn say_runs(&mut self, out: &mut Vec<Effect>) {
        if !std::mem::take(&mut self.runs_changed) {
            return;
        }
        let runs = self.runs();
        let (Some(session), Some(runs)) = (&mut self.session, runs) else {
            return;
        };
        if !session.welcome || session.told.as_ref() == Some(&runs) {
            return;
        }
        let known = session.told.take().unwrap_or_default();
        let gone = known.keys().filter(|name| !runs.contains_key(*name));
        let gone = gone.cloned().collect();
        let set = runs.iter().filter(|(name, run)| known.get(*name) != Some(run));
        let set = set.map(|(name, run)| (name.clone(), *run)).collect();
        session.told = Some(runs);
        out.push(Effect::Send(Up::Runs { set, gone }));
    }

    /// **Silence**: a connection that says nothing is left, with what it brought and no mark followed; so is one whose
    /// leader has outlived its lease. This comes before any input: what a thawed sidecar finds waiting is an old leader's.
    pub(super) fn mind_silence(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(session) = &self.session else {
            return;
        };
        let silent = now.mono.saturating_sub(session.heard);
        if silent >= self.periods().silence && !lacks(Rule::Silence) {
            return self.leave(Why::Silent(silent), out);
        }
        if let Some(until) = session.speaks_until.filter(|until| now.mono >= *until && !lacks(Rule::SpokenOut)) {
            self.leave(Why::SpokenOut(now.mono - until), out);
        }
    }

    /// Says `alive` when it is due.
    pub(super) fn mind_link(&mut self, now: Now, out: &mut Vec<Effect>) {
        let periods = self.periods();
        let Some(session) = &self.session else {
            return;
        };
        let due = |last: u64| now.mono >= last.saturating_add(periods.ping);
        if (session.welcome || session.waits) && session.alive.is_none_or(due) {
            self.say_alive(now, out);
        }
    }

    pub(super) fn say_alive(&mut self, now: Now, out: &mut Vec<Effect>) {
        let (polled, report) = (self.polled(now), self.lease_report(now));
        let Some(session) = self.session.as_mut().filter(|session| session.welcome || session.waits) else {
            return;
        };
        session.alive = Some(now.mono);
        out.push(Effect::Send(Up::Alive {
            polled,
            api: self.watch.api,
            config: self.watch.config.clone(),
            load: self.watch.load.clone(),
            foreign_host: self.watch.foreign_host.clone(),
            replica_error: self.journal.error().map(str::to_owned),
            lease: Some(report),
        }));
    }

    /// The last word of a leader was that another instance holds its name.
    pub fn waits(&self) -> bool {
        self.contested
    }

    pub(super) fn is_welcome(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.welcome)
    }
}
