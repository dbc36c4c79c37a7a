//! A streamer with the protocol's habits: polls, asks by name for what runs and was not listed, stops what is left out,
//! keeps on through 5xx, and comes back with its old configuration.

use std::collections::{BTreeMap, BTreeSet};

use weir_feed::frames::{Load, Run};
use weir_feed::holder::answer::{Answer, NotYet, Request};
use weir_feed::holder::step::{Effect, Input};
use weir_feed::holder::watch::{External, Reading};

use crate::sidecar;
use crate::world::{self, Process, World};

/// How long (ms) it waits for an answer.
const TIMEOUT: u64 = 5_000;

/// A liveness probe of Kubernetes: every so many ms, and after so many failures it kills.
const PROBE: u64 = 3_000;
const PROBES: u32 = 4;

/// Names in one request.
const PART: usize = 3;

/// In what streamers differ.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "habits")]
pub(crate) struct Habits {
    pub(crate) asks_by_name: bool,
    /// Over a restart.
    pub(crate) keeps_configuration: bool,
    pub(crate) has_api: bool,
    /// Its API says what it thinks of our answers.
    pub(crate) tells: bool,
}

/// One streamer.
#[derive(Debug)]
pub(crate) struct Streamer {
    pub(crate) process: Process,
    pub(crate) habits: Habits,
    pub(crate) running: BTreeSet<String>,
    /// The configuration as it was last given, static or not.
    pub(crate) saved: BTreeMap<String, bool>,
    /// Its API answers.
    pub(crate) api_up: bool,
    /// It polls.
    pub(crate) polls: bool,
    /// Times in a row that it was said not to be fit to live.
    pub(crate) unfit: u32,
    external: Option<External>,
    asking: Option<(u64, Request)>,
    to_ask: Vec<Request>,
    asked: u64,
}

/// What happens to it.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Poll,
    /// `None`: the connection broke.
    Answered(u64, Option<Answer>),
    TimedOut(u64),
    /// A viewer asks for a stream.
    Viewed(String),
}

impl Streamer {
    pub(crate) fn new(habits: Habits) -> Self {
        Self {
            process: Process::default(),
            habits,
            running: BTreeSet::new(),
            saved: BTreeMap::new(),
            api_up: true,
            polls: true,
            unfit: 0,
            external: None,
            asking: None,
            to_ask: vec![],
            asked: 0,
        }
    }

    /// It can be read.
    pub(crate) fn is_readable(&self) -> bool {
        self.process.up && self.habits.has_api && self.api_up
    }

    /// The request that is under way.
    pub(crate) fn asking_number(&self) -> Option<u64> {
        self.asking.as_ref().map(|(number, _)| *number)
    }

    /// Runs it, or would after a restart.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.running.contains(name) || (self.habits.keeps_configuration && self.saved.contains_key(name))
    }
}

impl World {
    pub(crate) fn boot_streamer(&mut self, at: usize) {
        let now = self.sim.now;
        let streamer = &mut self.streamers[at];
        streamer.process.start(now);
        if !streamer.habits.keeps_configuration {
            streamer.running.clear();
            streamer.saved.clear();
        }
        (streamer.external, streamer.asking) = (None, None);
        streamer.to_ask.clear();
        let running = streamer.running.clone();
        self.sim.say(|| format!("streamer s{at} boots, running {running:?}"));
        let first = self.sim.random.range(0, 3_000);
        self.streamer_after(at, first, Event::Poll);
    }

    /// As a liveness probe: what fails four times in a row is killed, and started again.
    pub(crate) fn supervise(&mut self, at: usize) {
        self.sim.after(PROBE, world::Event::Supervise(at));
        let sidecar = &mut self.sidecars[at];
        let answers = sidecar.process.up && !sidecar.process.frozen;
        let now = sidecar.process.now(self.sim.now);
        let effects = if answers { sidecar.holder.step(Input::LeaseAsked { number: 0 }, now) } else { vec![] };
        let lives = |effect: &Effect| matches!(effect, Effect::AnswerLease { answer: Ok(()), .. });
        let fit = effects.iter().any(lives);
        for effect in effects {
            self.carry_out(at, effect);
        }
        let streamer = &mut self.streamers[at];
        streamer.unfit = if fit || !streamer.process.up { 0 } else { streamer.unfit + 1 };
        if streamer.unfit == PROBES {
            streamer.unfit = 0;
            self.sim.say(|| format!("streamer s{at} is killed by its supervisor"));
            self.kill_streamer(at);
            let back = self.sim.random.range(500, 3_000);
            self.sim.after(back, world::Event::StartStreamer(at));
        }
    }

    pub(crate) fn kill_streamer(&mut self, at: usize) {
        self.sim.say(|| format!("streamer s{at} dies"));
        self.streamers[at].process.stop();
    }

    fn streamer_after(&mut self, at: usize, ms: u64, event: Event) {
        let life = self.streamers[at].process.life;
        self.sim.after(ms, world::Event::Streamer(at, life, event));
    }

    pub(crate) fn streamer_event(&mut self, at: usize, event: Event) {
        match event {
            Event::Poll => {
                let next = self.sim.random.range(2_000, 3_000);
                self.streamer_after(at, next, Event::Poll);
                if self.streamers[at].polls && self.streamers[at].asking.is_none() {
                    self.ask(at, Request::All);
                }
            }
            Event::Answered(number, answer) => self.answered(at, number, answer),
            Event::TimedOut(number) => self.answered(at, number, None),
            Event::Viewed(name) => {
                let streamer = &mut self.streamers[at];
                if streamer.saved.contains_key(&name) {
                    self.start(at, &name, "viewed");
                } else if streamer.habits.asks_by_name && streamer.polls && streamer.asking.is_none() {
                    self.ask(at, Request::Named(BTreeSet::from([name])));
                }
            }
        }
    }

    fn ask(&mut self, at: usize, request: Request) {
        let streamer = &mut self.streamers[at];
        streamer.asked += 1;
        let number = (u64::from(streamer.process.life) << 32) | streamer.asked;
        streamer.asking = Some((number, request.clone()));
        self.streamer_after(at, TIMEOUT, Event::TimedOut(number));
        let sidecar = &self.sidecars[at].process;
        let (up, life) = (sidecar.up, sidecar.life);
        let latency = self.sim.random.range(1, 10);
        if up {
            let asked = sidecar::Event::Asked { number, request };
            self.sim.after(latency, world::Event::Sidecar(at, life, asked));
        } else {
            self.streamer_after(at, latency, Event::Answered(number, None));
        }
    }

    fn answered(&mut self, at: usize, number: u64, answer: Option<Answer>) {
        let streamer = &mut self.streamers[at];
        let Some((_, request)) = streamer.asking.take_if(|(asking, _)| *asking == number) else {
            return;
        };
        let streams = match answer {
            Some(Answer::Streams(items)) => items,
            other => {
                let ours = matches!(other, Some(Answer::NotYet(_)));
                if let Some(Answer::NotYet(NotYet::Held(name))) = &other {
                    self.sim.say(|| format!("s{at} is told 503 for {name}"));
                }
                let streamer = &mut self.streamers[at];
                streamer.external = Some(External::NotFetched { message: "no answer".into(), ours });
                streamer.to_ask.clear();
                return;
            }
        };
        streamer.external = Some(External::Loaded);
        let given = streams.iter().map(|item| (item.name.clone(), item.document.contains("\"static\":true")));
        let given: BTreeMap<String, bool> = given.collect();
        match request {
            Request::All => self.listed(at, &given),
            Request::Named(names) => self.named(at, &names, given),
        }
        if let Some(next) = self.streamers[at].to_ask.pop() {
            self.ask(at, next);
        }
    }

    fn listed(&mut self, at: usize, given: &BTreeMap<String, bool>) {
        for (name, is_static) in given {
            self.streamers[at].saved.insert(name.clone(), *is_static);
            if *is_static {
                self.start(at, name, "listed");
            }
        }
        let streamer = &mut self.streamers[at];
        let running = streamer.running.clone();
        streamer.saved.retain(|name, _| given.contains_key(name) || running.contains(name));
        let unlisted: Vec<String> = running.into_iter().filter(|name| !given.contains_key(name)).collect();
        if streamer.habits.asks_by_name {
            let parts = unlisted.chunks(PART).map(|part| Request::Named(part.iter().cloned().collect()));
            streamer.to_ask = parts.collect();
        } else {
            for name in unlisted {
                self.leave_out(at, &name);
            }
        }
    }

    fn named(&mut self, at: usize, names: &BTreeSet<String>, given: BTreeMap<String, bool>) {
        for name in names.iter().filter(|name| !given.contains_key(*name)) {
            self.leave_out(at, name);
        }
        for (name, is_static) in given {
            self.streamers[at].saved.insert(name.clone(), is_static);
            self.start(at, &name, "asked for by name");
        }
    }

    fn start(&mut self, at: usize, name: &str, why: &str) {
        if self.streamers[at].running.insert(name.to_owned()) {
            self.sim.say(|| format!("s{at} starts {name}: {why}"));
        }
    }

    fn leave_out(&mut self, at: usize, name: &str) {
        let streamer = &mut self.streamers[at];
        streamer.saved.remove(name);
        if streamer.running.remove(name) {
            self.sim.say(|| format!("s{at} stops {name}: left out"));
            self.check_stop(at, name);
        }
    }

    /// What its API shows at this moment, and which start of it that is.
    pub(crate) fn show_api(&self, at: usize) -> Option<Reading> {
        let streamer = &self.streamers[at];
        if !streamer.is_readable() {
            return None;
        }
        let external = streamer.external.clone().filter(|_| streamer.habits.tells);
        Some(Reading {
            id: format!("start-{}", streamer.process.life),
            runs: streamer.running.iter().map(|name| (name.clone(), Run::Capture)).collect(),
            external: external.unwrap_or(External::Untold),
            load: Load::default(),
        })
    }
}
