//! A streamer with the protocol's habits: polls, asks by name for what runs and was not listed, stops what is left out,
//! keeps on through 5xx, and boots with its old configuration.

use std::collections::{BTreeMap, BTreeSet};

use weir_feed::frames::{Load, Run};
use weir_feed::holder::answer::{Answer, Request};
use weir_feed::holder::step::Input;
use weir_feed::holder::watch::{External, Reading};

use crate::world::{NAME, World};

/// In what streamers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Habits {
    pub(crate) asks_by_name: bool,
    pub(crate) has_api: bool,
    /// Over a restart.
    pub(crate) keeps_configuration: bool,
    /// It polls in the second half of each unit.
    pub(crate) polls_late: bool,
}

/// One streamer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Streamer {
    pub(crate) habits: Habits,
    pub(crate) up: bool,
    /// It captures the stream, or will when it is up again.
    pub(crate) running: bool,
    /// Its API does not answer.
    pub(crate) mute: bool,
    /// It captures, and does not poll.
    pub(crate) stalled: bool,
    boots: u8,
    /// Times in a row that its supervisor heard that it may not live.
    unfit: u8,
}

impl Streamer {
    pub(crate) fn new(habits: Habits) -> Self {
        Self { habits, up: false, running: false, mute: false, stalled: false, boots: 0, unfit: 0 }
    }

    pub(crate) fn captures(self) -> bool {
        self.up && self.running
    }
}

impl World {
    pub(crate) fn boot_streamer(&mut self, at: usize) {
        let streamer = &mut self.streamers[at];
        (streamer.up, streamer.stalled) = (true, false);
        streamer.boots += 1;
        streamer.running &= streamer.habits.keeps_configuration;
        let running = streamer.running;
        self.say(|| format!("streamer s{at} boots{}", if running { ", and captures" } else { "" }));
    }

    pub(crate) fn crash_streamer(&mut self, at: usize) {
        self.say(|| format!("streamer s{at} dies"));
        self.streamers[at].up = false;
    }

    /// Its supervisor asks once a unit, when the streamer polls, and kills it for the third "no" in a row: as late as
    /// `kill` permits, to the phase.
    pub(crate) fn supervise(&mut self, at: usize) {
        if self.streamers[at].habits.polls_late != (self.phase >= 3) {
            return;
        }
        let fit = self.ask_lease(at);
        let streamer = &mut self.streamers[at];
        streamer.unfit = if fit || !streamer.up { 0 } else { streamer.unfit + 1 };
        if streamer.unfit == 3 {
            streamer.unfit = 0;
            self.say(|| format!("the supervisor kills streamer s{at}"));
            self.crash_streamer(at);
            self.ends_in(1, crate::fault::End::BootStreamer(at));
        }
    }

    /// The reading that its sidecar has begun ends.
    pub(crate) fn show_api(&mut self, at: usize) {
        if !self.sidecars[at].runs() || !self.sidecars[at].reading {
            return;
        }
        self.sidecar(at).reading = false;
        let streamer = self.streamers[at];
        let reading = Reading {
            id: format!("boot-{}", streamer.boots),
            runs: BTreeMap::from_iter(streamer.running.then(|| (NAME.to_owned(), Run::Capture))),
            external: External::Untold,
            load: Load::default(),
        };
        let readable = streamer.up && streamer.habits.has_api && !streamer.mute;
        let result = if readable { Ok(reading) } else { Err("no answer".to_owned()) };
        self.sidecar_step(at, Input::ApiRead(result));
    }

    pub(crate) fn poll(&mut self, at: usize) {
        let Streamer { up, stalled, habits, .. } = self.streamers[at];
        if !up || stalled || habits.polls_late != (self.phase >= 3) {
            return;
        }
        let Some(listed) = self.is_given(at, Request::All) else {
            return;
        };
        if listed {
            return self.begin(at);
        }
        if !self.streamers[at].running {
            return;
        }
        if !self.streamers[at].habits.asks_by_name {
            return self.stop(at);
        }
        match self.is_given(at, Request::Named(BTreeSet::from([NAME.to_owned()]))) {
            Some(true) => self.begin(at),
            Some(false) => self.stop(at),
            None => {}
        }
    }

    /// Whether an answer has the stream; `None`: it keeps what it has.
    fn is_given(&mut self, at: usize, request: Request) -> Option<bool> {
        match self.ask(at, request)? {
            Answer::Streams(items) => Some(items.iter().any(|item| item.name == NAME)),
            Answer::NotYet(_) => None,
        }
    }

    fn begin(&mut self, at: usize) {
        if !std::mem::replace(&mut self.streamers[at].running, true) {
            self.say(|| format!("s{at} captures"));
            // Who is asked later in this phase has not let go yet.
            self.check_captures();
        }
    }

    fn stop(&mut self, at: usize) {
        if std::mem::replace(&mut self.streamers[at].running, false) {
            self.say(|| format!("s{at} stops: it was left out of an answer"));
            self.was_stopped(at);
        }
    }
}
