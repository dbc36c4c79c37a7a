//! A sidecar: the real holder, its disk, and its search for the leader.

use std::collections::{BTreeMap, VecDeque};

use weir_feed::frames::{About, Down};
use weir_feed::holder::answer::{Answer, Request};
use weir_feed::holder::journal::{Changes, Entry, Meta};
use weir_feed::holder::link::Why;
use weir_feed::holder::rows::Rows;
use weir_feed::holder::step::{Effect, Holder, Input, Settings, Stored};
use weir_feed::holder::watch::Reading;

use crate::world::{self, NAMESPACE, Process, World};
use crate::{streamer, world::OPERATORS};

/// Between two ticks, in ms.
const TICK: u64 = 200;

/// What survives a crash.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    entries: BTreeMap<String, Entry>,
    meta: Meta,
}

/// One sidecar.
#[derive(Debug)]
pub(crate) struct Sidecar {
    pub(crate) process: Process,
    pub(crate) holder: Holder,
    pub(crate) disk: Disk,
    pub(crate) disk_fails_until: u64,
    pub(crate) instance: String,
    instances: u32,
    pub(crate) link: Option<u64>,
    linked_at: u64,
    dials: u64,
    targets: VecDeque<usize>,
    hints: u32,
    pause: u64,
}

/// What happens to it.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Tick,
    Dial(u64),
    /// The connection could not be made.
    Unreachable(u64),
    /// `None`: the connection's end.
    Fed(u64, Option<Down>),
    Asked {
        number: u64,
        request: Request,
    },
    /// The streamer's API is asked for its list, then for the end of that.
    ReadList,
    ReadEnd(Option<Reading>),
    Persisted(Changes),
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

    pub(crate) fn has_row(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.row.is_some())
    }
}

impl Sidecar {
    pub(crate) fn new() -> Self {
        let process = Process::default();
        Self {
            holder: Holder::new(Settings::default(), Stored::default(), process.now(0)),
            process,
            disk: Disk::default(),
            disk_fails_until: 0,
            instance: String::new(),
            instances: 0,
            link: None,
            linked_at: 0,
            dials: 0,
            targets: VecDeque::new(),
            hints: 0,
            pause: 200,
        }
    }

    /// Serves it, or would after a restart.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.disk.has_row(name) || (self.process.up && self.holder.rows().row(name).is_some())
    }
}

impl World {
    /// Starts a sidecar with what its disk has, or with nothing.
    pub(crate) fn start_sidecar(&mut self, at: usize, wiped: bool) {
        self.sim.say(|| format!("sidecar s{at} starts{}", if wiped { ", wiped" } else { "" }));
        let (now, has_api) = (self.sim.now, self.streamers[at].habits.has_api);
        let sidecar = &mut self.sidecars[at];
        let ended = self.wishes.ended.values().any(|instance| *instance == sidecar.instance);
        if wiped || ended || sidecar.instances == 0 {
            sidecar.disk = Disk::default();
            sidecar.instances += 1;
            sidecar.instance = format!("s{at}-{}", sidecar.instances);
            self.check.forget_told(at);
        }
        sidecar.process.start(now);
        self.check.asked[at] = 0;
        let settings = Settings {
            program: "together".into(),
            namespace: NAMESPACE.into(),
            streamer: format!("s{at}"),
            instance: sidecar.instance.clone(),
            about: About::default(),
            api: has_api,
        };
        sidecar.holder = Holder::new(settings, sidecar.disk.stored(), sidecar.process.now(now));
        (sidecar.link, sidecar.pause, sidecar.hints) = (None, 200, 0);
        sidecar.targets.clear();
        self.sidecar_after(at, TICK, Event::Tick);
        self.dial_in(at, 1);
    }

    pub(crate) fn kill_sidecar(&mut self, at: usize) {
        self.sim.say(|| format!("sidecar s{at} dies"));
        let sidecar = &self.sidecars[at];
        if sidecar.process.up && sidecar.holder.rows().all().keys().any(|name| !sidecar.disk.has_row(name)) {
            self.check.outdated.insert(at);
        }
        self.sidecars[at].process.stop();
        self.cut_all(|connection| connection.sidecar == at);
        let streamer = &self.streamers[at];
        let asking = streamer.asking_number();
        if let Some(number) = asking {
            let life = streamer.process.life;
            self.sim.after(1, world::Event::Streamer(at, life, streamer::Event::Answered(number, None)));
        }
    }

    fn sidecar_after(&mut self, at: usize, ms: u64, event: Event) {
        let life = self.sidecars[at].process.life;
        self.sim.after(ms, world::Event::Sidecar(at, life, event));
    }

    pub(crate) fn sidecar_event(&mut self, at: usize, event: Event) {
        match event {
            Event::Tick => {
                self.sidecar_after(at, TICK, Event::Tick);
                self.sidecar_step(at, Input::Tick);
            }
            Event::Dial(dial) if dial == self.sidecars[at].dials => self.dial(at),
            Event::Dial(_) => {}
            Event::Unreachable(conn) => {
                if self.sidecars[at].link.take_if(|link| *link == conn).is_some() {
                    self.sidecar_step(at, Input::Disconnected);
                    self.dial_in(at, 1);
                }
            }
            Event::Fed(conn, parcel) => {
                if self.sidecars[at].link != Some(conn) {
                    return;
                }
                if let Some(frame) = parcel {
                    self.check.told(at, &frame);
                    self.sidecar_step(at, Input::Frame(frame));
                } else {
                    self.sidecars[at].link = None;
                    self.sidecar_step(at, Input::Disconnected);
                    self.dial_in(at, 1);
                }
            }
            Event::Asked { number, request } => {
                self.check.asked[at] = self.sim.now;
                self.sidecar_step(at, Input::Asked { number, request, host: None });
            }
            Event::ReadList => {
                let shown = self.show_api(at);
                let rest = self.sim.random.range(1, 200);
                self.sidecar_after(at, rest, Event::ReadEnd(shown));
            }
            Event::ReadEnd(shown) => {
                let id = self.show_api(at).map(|reading| reading.id);
                let whole = shown.filter(|reading| Some(&reading.id) == id.as_ref());
                self.sidecar_step(at, Input::ApiRead(whole.ok_or_else(|| "no answer".into())));
            }
            Event::Persisted(changes) => {
                let fails = self.sim.now < self.sidecars[at].disk_fails_until;
                if !fails {
                    self.sidecars[at].disk.write(&changes);
                }
                let result = if fails { Err("disk full".into()) } else { Ok(()) };
                self.sidecar_step(at, Input::Persisted(result));
            }
        }
    }

    fn sidecar_step(&mut self, at: usize, input: Input) {
        let sidecar = &mut self.sidecars[at];
        let now = sidecar.process.now(self.sim.now);
        let marks = matches!(input, Input::Frame(Down::Mark { .. }));
        let before = if marks { sidecar.holder.rows().all().keys().cloned().collect() } else { vec![] };
        let effects = sidecar.holder.step(input, now);
        for name in before {
            if self.sidecars[at].holder.rows().row(&name).is_none() {
                self.sim.say(|| format!("sidecar s{at} drops {name}"));
            }
        }
        for effect in effects {
            self.carry_out(at, effect);
        }
    }

    pub(crate) fn carry_out(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::AnswerLease { .. } => {}
            Effect::Send(frame) => {
                if let Some(link) = self.sidecars[at].link {
                    self.send_up(link, Some(frame));
                }
            }
            Effect::Drop(why) => self.leave(at, &why),
            Effect::ReadApi => {
                let first = self.sim.random.range(1, 300);
                self.sidecar_after(at, first, Event::ReadList);
            }
            Effect::Persist(changes) => {
                // A crash may come before the write, or before its answer.
                let sidecar = &mut self.sidecars[at];
                if self.sim.now >= sidecar.disk_fails_until && self.sim.random.chance(50) {
                    sidecar.disk.write(&changes);
                }
                let latency = self.sim.random.range(1, 50);
                self.sidecar_after(at, latency, Event::Persisted(changes));
            }
            Effect::Answer { number, answer } => {
                let latency = self.sim.random.range(1, 10);
                let life = u32::try_from(number >> 32).unwrap();
                let streams = matches!(answer, Answer::Streams(_));
                if !streams {
                    self.sim.say(|| format!("sidecar s{at}: {answer:?}"));
                }
                let answered = streamer::Event::Answered(number, Some(answer));
                self.sim.after(latency, world::Event::Streamer(at, life, answered));
            }
            Effect::Exit => {
                self.kill_sidecar(at);
                self.sim.after(1_000, world::Event::StartSidecar(at, false));
            }
        }
    }

    fn leave(&mut self, at: usize, why: &Why) {
        self.sim.say(|| format!("sidecar s{at} leaves: {why}"));
        if matches!(why, Why::Mismatch { .. }) {
            self.check_mismatch(at);
        }
        let Some(link) = self.sidecars[at].link.take() else {
            return;
        };
        self.send_up(link, None);
        let sidecar = &mut self.sidecars[at];
        if let Why::NotLeader { leader: Some(hint) } = why
            && sidecar.hints < 3
        {
            let hinted = hint.parse().unwrap();
            sidecar.hints += 1;
            sidecar.targets.retain(|target| *target != hinted);
            sidecar.targets.push_front(hinted);
        }
        self.dial_in(at, 1);
    }

    /// Dials the next address; after a round over all, with a pause.
    fn dial_in(&mut self, at: usize, ms: u64) {
        let now = self.sim.now;
        let jitter = self.sim.random.range(50, 101);
        let sidecar = &mut self.sidecars[at];
        sidecar.dials += 1;
        let mut wait = ms;
        if sidecar.targets.is_empty() {
            if now > sidecar.linked_at + 2_000 {
                sidecar.pause = 200;
            }
            wait += sidecar.pause * jitter / 100;
            sidecar.pause = (sidecar.pause * 2).min(2_000);
        }
        let dial = Event::Dial(sidecar.dials);
        self.sidecar_after(at, wait, dial);
    }

    fn dial(&mut self, at: usize) {
        let first = self.sim.random.index(OPERATORS);
        let sidecar = &mut self.sidecars[at];
        if sidecar.targets.is_empty() {
            sidecar.targets = (0..OPERATORS).map(|operator| (first + operator) % OPERATORS).collect();
            sidecar.hints = 0;
        }
        let Some(target) = sidecar.targets.pop_front() else {
            return;
        };
        sidecar.linked_at = self.sim.now;
        let made = self.connect(at, target);
        // One that is not made is known to the sidecar all the same, until it has failed.
        let conn = made.unwrap_or(u64::MAX - self.sidecars[at].dials);
        self.sidecars[at].link = Some(conn);
        if made.is_none() {
            let fails = self.sim.random.range(1, 2_000);
            self.sidecar_after(at, fails, Event::Unreachable(conn));
        }
        self.check.connections[at].push_back(self.sim.now);
        self.sidecar_step(at, Input::Connected);
    }
}
