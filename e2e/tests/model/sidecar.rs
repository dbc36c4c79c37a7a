//! A sidecar: the real holder, its disk, and its search for the leader.

use std::collections::BTreeMap;

use weir_feed::frames::{About, Up};
use weir_feed::holder::answer::{Answer, Request};
use weir_feed::holder::journal::{Changes, Entry, Meta};
use weir_feed::holder::link::Why;
use weir_feed::holder::rows::Rows;
use weir_feed::holder::step::{Effect, Holder, Input, Settings, Stored};

use crate::clock::{UNIT, now};
use crate::world::{NAME, NAMESPACE, World};

/// What survives a crash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Disk {
    entries: BTreeMap<String, Entry>,
    meta: Meta,
}

/// How its next write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    /// The sidecar dies before it.
    DiesBefore,
    /// It dies after it, before it can tell anybody.
    DiesAfter,
    /// It takes a unit.
    Slow,
}

/// One sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sidecar {
    pub(crate) up: bool,
    pub(crate) frozen: bool,
    pub(crate) holder: Holder,
    pub(crate) disk: Disk,
    /// Counts wiped databases: without one there is a new instance.
    instance: u8,
    pub(crate) link: Option<u64>,
    /// The operator that it asks next, and when (monotonic ms).
    target: usize,
    next_dial: u64,
    /// A reading of the streamer's API is under way.
    pub(crate) reading: bool,
    pub(crate) next_write: Option<Fate>,
    /// A write that is under way, and when (monotonic ms) it ends.
    writing: Option<(u64, Changes)>,
}

impl Disk {
    fn write(&mut self, changes: &Changes) {
        if changes.whole {
            self.entries.clear();
        }
        for (name, entry) in &changes.entries {
            if *entry == Entry::default() {
                self.entries.remove(name);
            } else {
                self.entries.insert(name.clone(), entry.clone());
            }
        }
        self.meta = changes.meta.clone();
    }

    fn stored(&self) -> Stored {
        let entries = || self.entries.iter();
        let rows = entries().filter_map(|(name, entry)| Some((name.clone(), entry.row.clone()?)));
        let holds = entries().filter_map(|(name, entry)| Some((name.clone(), entry.hold?)));
        let stopped = entries().filter_map(|(name, entry)| Some((name.clone(), entry.stopped.clone()?)));
        let rows = Rows::new(rows.collect(), holds.collect(), stopped.collect());
        Stored { rows, meta: self.meta.clone() }
    }
}

impl Sidecar {
    pub(crate) fn new() -> Self {
        Self {
            up: false,
            frozen: false,
            holder: Holder::new(Settings::default(), Stored::default(), now(0)),
            disk: Disk::default(),
            instance: 0,
            link: None,
            target: 0,
            next_dial: 0,
            reading: false,
            next_write: None,
            writing: None,
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.up && !self.frozen
    }

    /// Serves the stream, or would after a restart.
    pub(crate) fn has_row(&self) -> bool {
        let on_disk = self.disk.entries.get(NAME).is_some_and(|entry| entry.row.is_some());
        on_disk || (self.up && self.holder.rows().row(NAME).is_some())
    }
}

impl World {
    /// Starts a sidecar with what its disk has.
    pub(crate) fn start_sidecar(&mut self, at: usize) {
        self.say(|| format!("sidecar s{at} starts"));
        let (now, api) = (now(self.time), self.streamers[at].habits.has_api);
        let sidecar = self.sidecar(at);
        let settings = Settings {
            program: "model".into(),
            namespace: NAMESPACE.into(),
            streamer: format!("s{at}"),
            instance: format!("s{at}-{}", sidecar.instance),
            about: About::default(),
            api,
        };
        sidecar.holder = Holder::new(settings, sidecar.disk.stored(), now);
        (sidecar.up, sidecar.frozen, sidecar.link, sidecar.reading) = (true, false, None, false);
        sidecar.next_dial = now.mono;
    }

    /// The process ends; `told`: its machine is there to tell the leader.
    pub(crate) fn crash_sidecar(&mut self, at: usize, told: bool) {
        self.say(|| format!("sidecar s{at} dies"));
        let sidecar = self.sidecar(at);
        (sidecar.up, sidecar.frozen, sidecar.link, sidecar.reading) = (false, false, None, false);
        (sidecar.next_write, sidecar.writing) = (None, None);
        self.end_connections(|connection| connection.sidecar == at, told);
    }

    /// Its database is gone: it has nothing, and is a new instance.
    pub(crate) fn wipe(&mut self, at: usize) {
        self.say(|| format!("the database of sidecar s{at} is wiped"));
        let sidecar = self.sidecar(at);
        sidecar.disk = Disk::default();
        sidecar.instance += 1;
    }

    /// One phase of a sidecar's life.
    pub(crate) fn run_sidecar(&mut self, at: usize) {
        if !self.sidecars[at].runs() {
            return;
        }
        let mono = self.mono();
        if let Some((_, changes)) = self.sidecar(at).writing.take_if(|(due, _)| *due <= mono) {
            self.sidecar(at).disk.write(&changes);
            self.sidecar_step(at, Input::Persisted(Ok(())));
        }
        self.sidecar_step(at, Input::Tick);
        let sidecar = &self.sidecars[at];
        if !sidecar.runs() || sidecar.link.is_some() || mono < sidecar.next_dial {
            return;
        }
        let target = sidecar.target;
        match self.connect(at, target) {
            Some(link) => {
                self.sidecar(at).link = Some(link);
                self.sidecar_step(at, Input::Connected);
            }
            None => self.try_another(at, None),
        }
    }

    fn try_another(&mut self, at: usize, hint: Option<usize>) {
        let mono = self.mono();
        let sidecar = self.sidecar(at);
        sidecar.target = hint.unwrap_or(1 - sidecar.target);
        sidecar.next_dial = mono + if hint.is_some() { 0 } else { UNIT / 2 };
    }

    pub(crate) fn link_is_lost(&mut self, at: usize) {
        self.sidecar(at).link = None;
        self.sidecar_step(at, Input::Disconnected);
        self.try_another(at, None);
    }

    pub(crate) fn sidecar_step(&mut self, at: usize, input: Input) {
        if !self.sidecars[at].runs() {
            return;
        }
        let now = now(self.time);
        let had = self.trace.is_some() && self.sidecars[at].has_row();
        let effects = self.sidecar(at).holder.step(input, now);
        let has = self.trace.is_some() && self.sidecars[at].holder.rows().row(NAME).is_some();
        if had != has {
            self.say(|| format!("sidecar s{at} {}", if has { "serves the stream" } else { "serves it no more" }));
        }
        for effect in effects {
            self.carry_out(at, effect);
            if !self.sidecars[at].up {
                return;
            }
        }
    }

    fn carry_out(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Send(frame) => {
                if let Up::Released { .. } = &frame {
                    self.say(|| format!("sidecar s{at} says released"));
                }
                if let Some(link) = self.sidecars[at].link {
                    self.send_up(link, Some(frame));
                }
            }
            Effect::Drop(why) => self.leave(at, &why),
            Effect::ReadApi => self.sidecar(at).reading = true,
            Effect::Persist(changes) => self.persist(at, &changes),
            Effect::AnswerLease { answer, .. } => self.fit = answer.is_ok(),
            Effect::Answer { answer, .. } => self.asked_for = Some(answer),
            // Superseded: it is started again, and waits its turn.
            Effect::Exit => {
                self.crash_sidecar(at, true);
                self.start_sidecar(at);
            }
        }
    }

    fn persist(&mut self, at: usize, changes: &Changes) {
        let due = self.mono() + UNIT;
        match self.sidecar(at).next_write.take() {
            Some(Fate::DiesBefore) => return self.crash_sidecar(at, true),
            Some(Fate::DiesAfter) => {
                self.sidecar(at).disk.write(changes);
                return self.crash_sidecar(at, true);
            }
            Some(Fate::Slow) => {
                self.sidecar(at).writing = Some((due, changes.clone()));
                return;
            }
            None => self.sidecar(at).disk.write(changes),
        }
        self.sidecar_step(at, Input::Persisted(Ok(())));
    }

    fn leave(&mut self, at: usize, why: &Why) {
        self.say(|| format!("sidecar s{at} leaves its connection: {why}"));
        if let Some(link) = self.sidecar(at).link.take() {
            self.send_up(link, None);
        }
        let hint = match why {
            Why::NotLeader { leader } => leader.as_ref().and_then(|leader| leader.parse().ok()),
            _ => None,
        };
        self.try_another(at, hint);
    }

    /// Whoever supervises the streamer asks whether it may live.
    pub(crate) fn ask_lease(&mut self, at: usize) -> bool {
        self.fit = false;
        self.sidecar_step(at, Input::LeaseAsked { number: 1 });
        self.fit
    }

    /// The streamer asks; `None`: no answer.
    pub(crate) fn ask(&mut self, at: usize, request: Request) -> Option<Answer> {
        self.asked_for = None;
        self.sidecar_step(at, Input::Asked { number: 1, request, host: None });
        // It may wait until a reading that was begun before it and one that was begun for it have ended.
        for _ in 0..2 {
            if self.asked_for.is_none() {
                self.show_api(at);
            }
        }
        self.asked_for.take()
    }
}
