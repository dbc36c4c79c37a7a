//! Time, processes, and everything that is together in one run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::mpsc;
use weir_feed::periods::Periods;

use crate::api::{Api, short};
use crate::check::Check;
use crate::faults::FAULTS;
use crate::host::{Host, Wall};
use crate::network::{HostId, Network};
use crate::random::Random;
use crate::sidecar::{self, Disk};
use crate::streamer::{self, Habits, Streamer};
use crate::supervisor::{self, Orders};
use crate::users::{NAMES, Wishes};
use crate::{operator, panics};

pub(crate) const OPERATORS: usize = 2;
pub(crate) const STREAMERS: usize = 3;
pub(crate) const NAMESPACE: &str = "media";
/// Operators' and streamers' nodes.
pub(crate) const MACHINES: usize = OPERATORS + STREAMERS;

/// A third of what is usual: a run takes less of the machine.
pub(crate) const PERIODS: Periods = Periods {
    poll: 1_000,
    ping: 300,
    silence: 1_500,
    alive: 3_000,
    lease: 5_000,
    period: 5_000,
    release: 10_000,
    stream_lease: 12_000,
    kill: 5_000,
};

/// The network's step, in ms.
const TICK: u64 = 10;
/// A process to which nothing comes runs at least so often, in ms.
const SLICE: u64 = 40;
/// Lines of trace that are kept.
const TRACE: usize = 100_000;

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    Start(HostId),
    Thaw(HostId),
    Unblock(Vec<(HostId, HostId)>),
    PollsAgain(usize),
    ApiUp(usize),
    SecretThere(String),
    ListKnown,
    Fault,
}

pub(crate) fn sidecar_of(at: usize) -> HostId {
    OPERATORS + at
}

pub(crate) fn streamer_of(at: usize) -> HostId {
    OPERATORS + STREAMERS + at
}

pub(crate) fn supervisor_of(at: usize) -> HostId {
    OPERATORS + 2 * STREAMERS + at
}

/// Everything together.
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) random: Random,
    queue: BTreeMap<(u64, u64), Event>,
    numbers: u64,
    trace: Option<VecDeque<String>>,
    pub(crate) network: Network,
    pub(crate) api: Api,
    /// Operators, sidecars, streamers, supervisors.
    pub(crate) hosts: Vec<Host>,
    pub(crate) walls: Vec<Wall>,
    pub(crate) streamers: Vec<Streamer>,
    pub(crate) viewers: Vec<mpsc::UnboundedSender<String>>,
    pub(crate) disks: Vec<Disk>,
    /// By sidecar: how many instances there have been.
    pub(crate) instances: [u32; STREAMERS],
    pub(crate) wishes: Wishes,
    /// Instances are pods' uids that the API server vouches for.
    pub(crate) verified: bool,
    /// The API may be restored from a copy.
    pub(crate) restores: bool,
    /// Disks may be put back to a copy.
    pub(crate) copies: bool,
    /// Media names of streams with `StopCapturing`.
    pub(crate) stops: BTreeSet<String>,
    orders: Orders,
    /// The kind of fault that this run has most of.
    pub(crate) favourite: usize,
    pub(crate) check: Check,
    /// No more faults.
    pub(crate) quiet: bool,
    /// Holds the disks.
    _folder: tempfile::TempDir,
}

/// Where disks are: in memory where that can be had.
fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let builder = tempfile::Builder::new().prefix("weir-simulation-").to_owned();
    builder.tempdir_in(memory).or_else(|_| builder.tempdir()).unwrap()
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let machines: Vec<usize> = (0..OPERATORS).chain((0..3).flat_map(|_| OPERATORS..MACHINES)).collect();
        let network = Network::new(machines.clone(), TICK, Random::from(random.fork()));
        let walls: Vec<Wall> = (0..MACHINES).map(|_| Wall::new(network.clone())).collect();
        let name = |host: HostId| match host {
            0..OPERATORS => format!("operator {host}"),
            host if host < OPERATORS + STREAMERS => format!("sidecar s{}", host - OPERATORS),
            host if host < OPERATORS + 2 * STREAMERS => format!("streamer s{}", host - OPERATORS - STREAMERS),
            host => format!("supervisor s{}", host - OPERATORS - 2 * STREAMERS),
        };
        let hosts = machines.iter().enumerate().map(|(host, machine)| Host::new(name(host), walls[*machine].clone()));
        // All streams, some, or most often none are to stop when they are cut off.
        let share = [0, 0, 50, 100][random.index(4)];
        let stops: BTreeSet<String> =
            NAMES.iter().filter(|_| random.chance(share)).map(|name| (*name).to_owned()).collect();
        let habits = |random: &mut Random| Habits {
            asks_by_name: random.chance(70),
            // Such streams have to be on streamers that boot with nothing.
            keeps_configuration: random.chance(70) && stops.is_empty(),
            has_api: random.chance(60),
            tells: random.chance(50),
        };
        let streamers = (0..STREAMERS).map(|_| Streamer::new(habits(&mut random))).collect();
        let folder = folder();
        let disk = |at| Disk { folder: folder.path().join(format!("s{at}")), full_until: Arc::default() };
        let mut world = Self {
            now: 0,
            queue: BTreeMap::new(),
            numbers: 0,
            trace: trace.then(VecDeque::new),
            api: Api::new(OPERATORS, Random::from(random.fork())),
            network,
            hosts: hosts.collect(),
            walls,
            streamers,
            viewers: (0..STREAMERS).map(|_| mpsc::unbounded_channel().0).collect(),
            disks: (0..STREAMERS).map(disk).collect(),
            instances: [0; STREAMERS],
            wishes: Wishes::default(),
            verified: random.chance(50),
            restores: random.chance(40),
            copies: random.chance(50),
            stops,
            orders: Orders::default(),
            favourite: random.index(FAULTS),
            check: Check::default(),
            quiet: false,
            random,
            _folder: folder,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.declare();
        for machine in 0..MACHINES {
            let skew = self.random.range(0, 2_000);
            self.walls[machine].step(i64::try_from(skew).unwrap());
        }
        for operator in 0..OPERATORS {
            let when = self.random.range(0, 700);
            self.after(when, Event::Start(operator));
        }
        for at in 0..STREAMERS {
            self.wipe_disk(at);
            let habits = self.streamers[at].view().habits;
            self.say(|world| format!("streamer s{at}: {habits:?}, verified {}", world.verified));
            let (soon, later) = (self.random.range(0, 1_700), self.random.range(0, 1_700));
            self.after(soon, Event::Start(sidecar_of(at)));
            self.after(later, Event::Start(streamer_of(at)));
            self.after(later, Event::Start(supervisor_of(at)));
        }
    }

    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.numbers += 1;
        self.queue.insert((self.now + ms, self.numbers), event);
    }

    pub(crate) fn say(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_none() {
            return;
        }
        let line = format!("{:>4}.{:03} {}", self.now / 1_000, self.now % 1_000, line(self));
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE {
                trace.pop_front();
            }
            trace.push_back(line);
        }
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.trace.iter().flatten().cloned().collect()
    }

    /// Lets everything happen until `until`, checking after each step.
    pub(crate) fn run(&mut self, until: u64) {
        while self.now < until && self.check.failure.is_none() {
            self.now += TICK;
            self.step();
        }
    }

    fn step(&mut self) {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let event = entry.remove();
            self.dispatch(event);
        }
        let mut woken: BTreeSet<HostId> = self.network.advance(self.now);
        woken.extend(self.api.advance(self.now));
        self.tell_writes();
        let mut ran = false;
        let first = self.random.index(self.hosts.len());
        for place in 0..self.hosts.len() {
            let host = (first + place) % self.hosts.len();
            if self.hosts[host].runs() && (woken.contains(&host) || self.hosts[host].behind(self.now) >= SLICE) {
                ran = true;
                self.let_run(host);
            }
        }
        self.carry_orders_out();
        if ran {
            self.check_changes();
            self.check_everything();
        }
    }

    /// Lets a process run until now.
    fn let_run(&mut self, host: HostId) {
        let now = self.now;
        let process = &mut self.hosts[host];
        let ended = catch_unwind(AssertUnwindSafe(|| process.run(now)));
        for seen in self.network.seen() {
            self.check_seen(seen);
        }
        if let Some(panic) = panics::take() {
            self.fail(format!("{} panics: {panic}", self.hosts[host].name));
        }
        if let Ok(Some(why)) = ended {
            self.say(|world| format!("{} ends: {why}", world.hosts[host].name));
            if host < OPERATORS {
                self.kill(host);
            } else {
                self.kill_sidecar(host - OPERATORS);
            }
            self.after(700, Event::Start(host));
        }
    }

    fn tell_writes(&mut self) {
        let (wrote, changed) = {
            let mut api = self.api.state();
            (std::mem::take(&mut api.wrote), std::mem::take(&mut api.changed))
        };
        for write in wrote {
            if let Some(record) = write.after.as_ref().or(write.before.as_ref()) {
                self.is_written(&record.name);
            }
            let record = |record: &Option<_>| record.as_ref().map_or_else(|| "nothing".to_owned(), short);
            self.say(|_| {
                format!("operator {} writes {} over {}", write.by, record(&write.after), record(&write.before))
            });
        }
        if changed {
            self.truth_changed();
        }
    }

    pub(crate) fn dispatch(&mut self, event: Event) {
        match event {
            Event::Start(host) if !self.hosts[host].is_up() => self.start(host),
            Event::Start(_) => {}
            Event::Thaw(host) => self.thaw(host),
            Event::Unblock(ways) => {
                self.say(|_| format!("open again: {ways:?}"));
                for (from, to) in ways {
                    self.network.unblock(from, to);
                }
            }
            Event::PollsAgain(at) => self.streamers[at].view().polls = true,
            Event::ApiUp(at) => self.streamers[at].view().api_up = true,
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

    fn start(&mut self, host: HostId) {
        self.network.power(host, true);
        self.hosts[host].lives += 1;
        self.say(|world| format!("{} starts", world.hosts[host].name));
        match host {
            0..OPERATORS => self.start_operator(host),
            host if host < OPERATORS + STREAMERS => self.start_sidecar(host - OPERATORS),
            host if host < OPERATORS + 2 * STREAMERS => self.start_streamer(host - OPERATORS - STREAMERS),
            host => self.start_supervisor(host - OPERATORS - 2 * STREAMERS),
        }
    }

    fn start_operator(&mut self, host: HostId) {
        let life = operator::Life {
            operator: host,
            name: self.hosts[host].identity(),
            periods: PERIODS,
            network: self.network.clone(),
            api: self.api.clone(),
            wall: self.hosts[host].wall.clone(),
            random: self.random.fork(),
            verified: self.verified,
        };
        self.hosts[host].start(self.now, operator::run(life));
    }

    fn start_sidecar(&mut self, at: usize) {
        let host = sidecar_of(at);
        let rows = self.disks[at].rows();
        if let Err(lost) = self.check.starts_with(at, self.disks[at].synced(), rows, self.disks[at].holds()) {
            self.fail(lost);
        }
        let life = sidecar::Life {
            host,
            streamer: streamer_of(at),
            name: format!("s{at}"),
            instance: format!("s{at}-{}", self.instances[at]),
            disk: self.disks[at].clone(),
            has_api: self.streamers[at].view().habits.has_api,
            verified: self.verified,
            network: self.network.clone(),
            wall: self.hosts[host].wall.clone(),
            random: self.random.fork(),
        };
        self.hosts[host].start(self.now, sidecar::run(life));
    }

    fn start_streamer(&mut self, at: usize) {
        let host = streamer_of(at);
        let (sender, viewers) = mpsc::unbounded_channel();
        self.viewers[at] = sender;
        let life = streamer::Life {
            host,
            sidecar: sidecar_of(at),
            name: format!("s{at}"),
            streamer: self.streamers[at].clone(),
            network: self.network.clone(),
            random: self.random.fork(),
            poll: PERIODS.poll,
            viewers,
        };
        self.hosts[host].start(self.now, streamer::run(life));
    }

    fn start_supervisor(&mut self, at: usize) {
        if self.stops.is_empty() {
            return;
        }
        let (host, sidecar) = (supervisor_of(at), sidecar_of(at));
        let (network, orders) = (self.network.clone(), Arc::clone(&self.orders));
        let life = supervisor::Life { host, sidecar, at, network, orders };
        self.hosts[host].start(self.now, supervisor::run(life));
    }

    /// Kills what supervisors want killed; it is started again at once, as a kubelet does.
    fn carry_orders_out(&mut self) {
        let orders = std::mem::take(&mut *self.orders.lock().unwrap());
        for at in orders {
            self.say(|_| format!("the supervisor of s{at} kills its streamer"));
            self.check_killed(at);
            self.kill_streamer(at);
            let back = self.random.range(300, 1_500);
            self.after(back, Event::Start(streamer_of(at)));
        }
    }

    /// A process is gone.
    pub(crate) fn kill(&mut self, host: HostId) {
        if self.hosts[host].is_up() {
            self.say(|world| format!("{} dies", world.hosts[host].name));
        }
        self.hosts[host].kill();
        if host < OPERATORS {
            self.api.stop_watching(host);
        }
    }

    pub(crate) fn kill_sidecar(&mut self, at: usize) {
        self.kill(sidecar_of(at));
    }

    pub(crate) fn kill_streamer(&mut self, at: usize) {
        self.kill(streamer_of(at));
        self.streamers[at].view().stop();
    }

    /// It goes on, with everything that waited for it.
    pub(crate) fn thaw(&mut self, host: HostId) {
        if self.hosts[host].frozen {
            self.say(|world| format!("{} thaws", world.hosts[host].name));
            self.hosts[host].thaw(self.now);
        }
    }

    /// The disk of a sidecar that is down has nothing any more: it will be another instance.
    pub(crate) fn wipe_disk(&mut self, at: usize) {
        self.say(|_| format!("the disk of s{at} is wiped"));
        self.disks[at].wipe();
        self.check.disk_lost[at] = true;
        self.check.excuses.disk_is_lost(at);
        self.instances[at] += 1;
    }

    /// The disk of a sidecar that is down has what it had when it was copied.
    pub(crate) fn put_disk_back(&mut self, at: usize) {
        if self.disks[at].put_back() {
            self.check.disk_lost[at] = true;
            self.check.excuses.disk_is_lost(at);
            self.say(|_| format!("the disk of s{at} is put back to its copy"));
        }
    }
}
