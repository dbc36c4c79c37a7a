//! Time, processes, and everything that is together in one run.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use weir_feed::time::Now;

use crate::api::{Api, Call};
use crate::check::Check;
use crate::faults::FAULTS;
use crate::network::Network;
use crate::operator::{self, Operator};
use crate::random::Random;
use crate::sidecar::{self, Sidecar};
use crate::streamer::{self, Habits, Streamer};
use crate::users::Wishes;

pub(crate) const OPERATORS: usize = 2;
pub(crate) const STREAMERS: usize = 3;
pub(crate) const NAMESPACE: &str = "media";

/// ms since the Unix epoch at which a run begins.
const BEGIN: u64 = 1_700_000_000_000;
/// Lines of trace that are kept.
const TRACE: usize = 40_000;

/// Something that happens, to a process in one of its lives.
#[derive(Debug)]
pub(crate) enum Event {
    Operator(usize, u32, operator::Event),
    Sidecar(usize, u32, sidecar::Event),
    Streamer(usize, u32, streamer::Event),
    Arrives {
        operator: usize,
        life: u32,
        call: Call,
        answered: bool,
    },
    Deliver(u64),
    /// A silence has ended.
    Heard,
    StartOperator(usize),
    StartSidecar(usize, bool),
    StartStreamer(usize),
    /// Whoever supervises a streamer asks its sidecar whether it may live.
    Supervise(usize),
    Thaw(Who),
    PollsAgain(usize),
    ApiUp(usize),
    SecretThere(String),
    ListKnown,
    Fault,
}

/// A process.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who {
    Operator(usize),
    Sidecar(usize),
}

/// What every process has.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// How often it was started: what belongs to an earlier life is lost.
    pub(crate) life: u32,
    pub(crate) up: bool,
    pub(crate) frozen: bool,
    /// What happened to it while it was frozen.
    pub(crate) stash: Vec<Event>,
    pub(crate) started: u64,
    /// Of its wall clock, and where its monotonic one begins.
    pub(crate) skew: u64,
    pub(crate) offset: u64,
}

impl Process {
    pub(crate) fn start(&mut self, now: u64) {
        self.life += 1;
        self.up = true;
        self.frozen = false;
        self.stash.clear();
        self.started = now;
    }

    pub(crate) fn stop(&mut self) {
        self.up = false;
        self.frozen = false;
        self.stash.clear();
    }

    /// Its clocks.
    pub(crate) fn now(&self, now: u64) -> Now {
        Now { mono: now.saturating_sub(self.started) + self.offset + 1, wall: BEGIN + now + self.skew }
    }
}

/// Time, chance and the trace.
#[derive(Debug)]
pub(crate) struct Sim {
    pub(crate) now: u64,
    pub(crate) random: Random,
    queue: BTreeMap<(u64, u64), Event>,
    numbers: u64,
    trace: Option<VecDeque<String>>,
}

impl Sim {
    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.numbers += 1;
        self.queue.insert((self.now + ms, self.numbers), event);
    }

    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE {
                trace.pop_front();
            }
            trace.push_back(format!("{:>4}.{:03} {}", now / 1_000, now % 1_000, line()));
        }
    }
}

/// Everything together.
pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) api: Api,
    pub(crate) network: Network,
    pub(crate) operators: Vec<Operator>,
    pub(crate) sidecars: Vec<Sidecar>,
    pub(crate) streamers: Vec<Streamer>,
    pub(crate) wishes: Wishes,
    pub(crate) uids: u64,
    /// Instances are pods' uids that the API server vouches for.
    pub(crate) verified: bool,
    /// The API may be restored from a copy.
    pub(crate) restores: bool,
    /// Somebody kills streamers that go on without a lease, and they boot with an empty configuration.
    pub(crate) supervised: bool,
    /// The kind of fault that this run has most of.
    pub(crate) favourite: usize,
    pub(crate) check: Check,
    /// No more faults.
    pub(crate) quiet: bool,
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let supervised = random.chance(50);
        let habits = |random: &mut Random| Habits {
            asks_by_name: random.chance(70),
            keeps_configuration: random.chance(70) && !supervised,
            has_api: random.chance(60),
            tells: random.chance(50),
        };
        let streamers = (0..STREAMERS).map(|_| Streamer::new(habits(&mut random))).collect();
        let verified = random.chance(50);
        let restores = random.chance(40);
        let favourite = random.index(FAULTS);
        let trace = trace.then(VecDeque::new);
        let mut world = Self {
            sim: Sim { now: 0, random, queue: BTreeMap::new(), numbers: 0, trace },
            api: Api::default(),
            network: Network::default(),
            operators: (0..OPERATORS).map(|_| Operator::new()).collect(),
            sidecars: (0..STREAMERS).map(|_| Sidecar::new()).collect(),
            streamers,
            wishes: Wishes::default(),
            uids: 0,
            verified,
            restores,
            supervised,
            favourite,
            check: Check::default(),
            quiet: false,
        };
        world.declare();
        for at in 0..OPERATORS {
            world.operators[at].process.skew = world.sim.random.range(0, 2_000);
            let when = world.sim.random.range(0, 2_000);
            world.sim.after(when, Event::StartOperator(at));
        }
        for at in 0..STREAMERS {
            world.sidecars[at].process.skew = world.sim.random.range(0, 2_000);
            let habits = world.streamers[at].habits;
            world.sim.say(|| format!("streamer s{at}: {habits:?}, verified {verified}"));
            let (soon, later) = (world.sim.random.range(0, 5_000), world.sim.random.range(0, 5_000));
            world.sim.after(soon, Event::StartSidecar(at, false));
            world.sim.after(later, Event::StartStreamer(at));
            if supervised {
                world.sim.after(later, Event::Supervise(at));
            }
        }
        world
    }

    /// Carries everything out that happens until `until`, checking after each.
    pub(crate) fn run(&mut self, until: u64) {
        while self.check.failure.is_none() {
            let Some(((at, _), event)) = self.sim.queue.pop_first() else {
                break;
            };
            if at > until {
                self.sim.numbers += 1;
                self.sim.queue.insert((at, 0), event);
                break;
            }
            self.sim.now = at;
            self.dispatch(event);
            self.check_everything();
        }
        self.sim.now = until;
    }

    pub(crate) fn trace(&self) -> impl Iterator<Item = &String> {
        self.sim.trace.iter().flatten()
    }

    fn process_of(&mut self, event: &Event) -> Option<(&mut Process, u32)> {
        match event {
            Event::Operator(at, life, _) => Some((&mut self.operators[*at].process, *life)),
            Event::Sidecar(at, life, _) => Some((&mut self.sidecars[*at].process, *life)),
            Event::Streamer(at, life, _) => Some((&mut self.streamers[*at].process, *life)),
            _ => None,
        }
    }

    pub(crate) fn dispatch(&mut self, event: Event) {
        if let Some((process, life)) = self.process_of(&event) {
            if !process.up || process.life != life {
                return;
            }
            if process.frozen {
                return process.stash.push(event);
            }
        }
        match event {
            Event::Operator(at, _, event) => self.operator_event(at, event),
            Event::Sidecar(at, _, event) => self.sidecar_event(at, event),
            Event::Streamer(at, _, event) => self.streamer_event(at, event),
            Event::Arrives { operator, life, call, answered } => self.arrives(operator, life, &call, answered),
            Event::Deliver(conn) => self.deliver(conn),
            Event::Heard => self.deliver_all(),
            Event::StartOperator(at) if !self.operators[at].process.up => self.start_operator(at),
            Event::StartSidecar(at, wiped) if !self.sidecars[at].process.up => self.start_sidecar(at, wiped),
            Event::StartStreamer(at) if !self.streamers[at].process.up => self.boot_streamer(at),
            Event::StartOperator(_) | Event::StartSidecar(..) | Event::StartStreamer(_) => {}
            Event::Supervise(at) => self.supervise(at),
            Event::Thaw(who) => self.thaw(who),
            Event::PollsAgain(at) => self.streamers[at].polls = true,
            Event::ApiUp(at) => self.streamers[at].api_up = true,
            Event::SecretThere(object) => {
                if let Some(wish) = self.wishes.streams.get_mut(&object) {
                    wish.secret = true;
                    self.declared();
                }
            }
            Event::ListKnown => {
                self.wishes.unknown = false;
                self.declared();
            }
            Event::Fault => self.fault(),
        }
    }

    pub(crate) fn process(&mut self, who: Who) -> &mut Process {
        match who {
            Who::Operator(at) => &mut self.operators[at].process,
            Who::Sidecar(at) => &mut self.sidecars[at].process,
        }
    }

    /// It goes on with everything that happened meanwhile, in order.
    pub(crate) fn thaw(&mut self, who: Who) {
        let process = self.process(who);
        if !std::mem::take(&mut process.frozen) {
            return;
        }
        let stash = std::mem::take(&mut process.stash);
        self.sim.say(|| format!("{who:?} thaws"));
        for event in stash {
            self.sim.after(0, event);
        }
    }
}
