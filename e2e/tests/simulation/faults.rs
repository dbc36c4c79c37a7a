//! What goes wrong, and what users do meanwhile.

use std::sync::atomic::Ordering;

use crate::network::HostId;
use crate::users::NAMES;
use crate::world::{Event, MACHINES, OPERATORS, STREAMERS, World, sidecar_of, streamer_of, supervisor_of};

/// Kinds of faults and edits.
pub(crate) const FAULTS: usize = 28;

/// How far a restore may put versions up, as `etcdutl snapshot restore --bump-revision` does.
const BUMP: u64 = 1_000_000_000;

impl World {
    /// One fault or edit, and the appointment with the next.
    pub(crate) fn fault(&mut self) {
        if self.quiet {
            return;
        }
        let next = if self.random.chance(30) { self.random.range(50, 700) } else { self.random.range(700, 4_500) };
        self.after(next, Event::Fault);
        let at = self.random.index(STREAMERS);
        let operator = self.random.index(OPERATORS);
        // Each run has a fault of its own that comes again and again.
        let kind = if self.random.chance(35) { self.favourite } else { self.random.index(FAULTS) };
        match kind {
            0 | 1 => self.crash_sidecar(at),
            2 => self.crash_streamer(at),
            3 | 4 => self.crash_node(at),
            5 => self.freeze(sidecar_of(at)),
            6 | 7 => self.freeze(operator),
            8 => self.crash_operator(operator),
            9 => self.reset_connection(),
            10..=12 => self.partition(),
            13 => self.lose_api(operator),
            14 => self.break_streamer(at),
            15 => self.break_disk(at),
            16 if self.restores => self.copy_or_restore(),
            17 => self.step_clock(),
            18 => self.freeze(streamer_of(at)),
            _ => self.edit(at),
        }
    }

    /// Mostly short, sometimes longer than any bound.
    fn a_while(&mut self) -> u64 {
        match self.random.index(4) {
            0 => self.random.range(1, 400),
            1 => self.random.range(400, 3_000),
            2 => self.random.range(2_000, 12_000),
            // Where leases have to run out, longer.
            _ if self.stops.is_empty() => self.random.range(8_000, 30_000),
            _ => self.random.range(15_000, 40_000),
        }
    }

    fn crash_sidecar(&mut self, at: usize) {
        self.kill_sidecar(at);
        let back = self.a_while();
        self.lose_disk(at, 25);
        self.after(back, Event::Start(sidecar_of(at)));
    }

    /// Whether a sidecar comes back with nothing, or with what it had a while ago. Not while records may be old: then
    /// nobody knows what it ran.
    fn lose_disk(&mut self, at: usize, percent: u32) {
        if !self.may_lose_a_disk() {
            return;
        }
        if self.random.chance(percent) {
            self.wipe_disk(at);
        } else if self.copies {
            if self.random.chance(50) {
                self.disks[at].keep_copy();
            } else if self.random.chance(60) {
                self.put_disk_back(at);
            }
        }
    }

    fn crash_streamer(&mut self, at: usize) {
        self.kill_streamer(at);
        let back = self.a_while();
        self.after(back, Event::Start(streamer_of(at)));
    }

    /// The machine loses its power: nobody is told.
    fn crash_node(&mut self, at: usize) {
        if self.random.chance(50) {
            self.network.power(sidecar_of(at), false);
        }
        self.kill(supervisor_of(at));
        self.kill_sidecar(at);
        self.kill_streamer(at);
        self.lose_disk(at, 40);
        let back = self.a_while();
        let (first, second) = (self.random.range(0, 700), self.random.range(0, 2_000));
        self.after(back + first, Event::Start(sidecar_of(at)));
        self.after(back + second, Event::Start(streamer_of(at)));
        self.after(back, Event::Start(supervisor_of(at)));
    }

    fn freeze(&mut self, host: HostId) {
        let lasts = self.a_while();
        if self.hosts[host].runs() {
            self.hosts[host].frozen = true;
            self.say(|world| format!("{} freezes for {lasts}", world.hosts[host].name));
            self.after(lasts, Event::Thaw(host));
        }
    }

    fn crash_operator(&mut self, operator: usize) {
        if self.random.chance(30) {
            self.network.power(operator, false);
        }
        self.kill(operator);
        let back = self.a_while();
        self.after(back, Event::Start(operator));
    }

    fn reset_connection(&mut self) {
        if let Some(conn) = self.network.cut_one() {
            self.say(|_| format!("connection {conn} breaks"));
        }
    }

    /// Between sidecars and operators, one way or both.
    fn partition(&mut self) {
        let lasts = self.a_while();
        let (one, all) = (self.random.index(STREAMERS), self.random.chance(25));
        let (other, every) = (self.random.index(OPERATORS), self.random.chance(60));
        let (up, down) = match self.random.index(3) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        let mut ways = Vec::new();
        for sidecar in (0..STREAMERS).filter(|at| all || *at == one).map(sidecar_of) {
            for operator in (0..OPERATORS).filter(|operator| every || *operator == other) {
                ways.extend(up.then_some((sidecar, operator)));
                ways.extend(down.then_some((operator, sidecar)));
            }
        }
        self.say(|_| format!("blocked for {lasts}: {ways:?}"));
        for (from, to) in &ways {
            self.network.block(*from, *to);
        }
        self.after(lasts, Event::Unblock(ways));
    }

    fn lose_api(&mut self, operator: usize) {
        let until = self.now + self.a_while();
        let kind = self.random.index(3);
        self.say(|_| format!("API trouble {kind} (0 down, 1 flaky, 2 cut off {operator}) until {until}"));
        let mut api = self.api.state();
        match kind {
            0 => api.down_until = until,
            1 => api.flaky_until = until,
            _ => api.cut_off_until[operator] = until,
        }
    }

    fn break_streamer(&mut self, at: usize) {
        let back = self.a_while();
        if self.random.chance(50) {
            self.say(|_| format!("streamer s{at} does not poll for {back}"));
            self.streamers[at].view().polls = false;
            self.after(back, Event::PollsAgain(at));
        } else {
            self.say(|_| format!("streamer s{at}'s API is down for {back}"));
            self.streamers[at].view().api_up = false;
            self.after(back, Event::ApiUp(at));
        }
    }

    /// The storage goes back in time, and numbers its versions from there on, or far above. No watch says so.
    fn copy_or_restore(&mut self) {
        let (restores, bumped) = (self.random.chance(60), self.random.chance(50));
        let may = self.may_be_restored();
        let mut api = self.api.state();
        if let Some(copy) = api.copy.clone().filter(|_| restores) {
            if !may {
                return;
            }
            let before = std::mem::replace(&mut api.storage, copy);
            api.storage.version += if bumped { BUMP } else { 0 };
            api.changed = true;
            drop(api);
            self.is_restored(&before);
            self.say(|_| format!("the API is restored from its copy, versions bumped: {bumped}"));
        } else {
            api.copy = Some(api.storage.clone());
            drop(api);
            self.say(|_| "the API is copied".to_owned());
        }
    }

    fn break_disk(&mut self, at: usize) {
        let until = self.now + self.a_while();
        self.say(|_| format!("s{at}'s disk is full until {until}"));
        self.disks[at].full_until.store(until, Ordering::Relaxed);
    }

    /// An hour forward or back, on one machine.
    fn step_clock(&mut self) {
        let machine = self.random.index(MACHINES);
        let step = if self.random.chance(50) { 3_600_000 } else { -3_600_000 };
        self.say(|_| format!("the wall clock of machine {machine} steps by {step}"));
        self.walls[machine].step(step);
    }

    fn edit(&mut self, at: usize) {
        let name = NAMES[self.random.index(NAMES.len())];
        let kind = self.random.index(12);
        self.say(|_| format!("a user's edit {kind} of {name} or s{at}"));
        let object = format!("s{at}");
        let server = self.wishes.streamers.get_mut(&object).unwrap();
        match kind {
            0..=4 => server.drain = !server.drain,
            5 => server.unschedulable = !server.unschedulable,
            6 => server.capacity = if server.capacity.is_some() { None } else { Some(2) },
            7 => self.view(name),
            _ => self.edit_stream(kind, name),
        }
        self.server_changed(&object);
        self.declared();
    }

    fn edit_stream(&mut self, kind: usize, name: &str) {
        let back = self.a_while();
        let Some(wish) = self.wishes.streams.get_mut(name) else {
            return self.create(name, name.to_owned());
        };
        wish.edit += 1;
        match kind {
            8 => {
                if wish.edit.is_multiple_of(3) {
                    wish.secret = false;
                    self.after(back, Event::SecretThere(name.to_owned()));
                }
            }
            9 => wish.disabled = !wish.disabled,
            10 if self.random.chance(20) => {
                self.wishes.unknown = true;
                self.after(back, Event::ListKnown);
            }
            _ => {
                self.wishes.streams.remove(name);
                if self.random.chance(30) {
                    self.create(name, name.to_owned());
                }
            }
        }
    }

    /// Viewers ask every streamer for a stream.
    pub(crate) fn view(&mut self, name: &str) {
        for viewers in &self.viewers {
            // One that is down has no viewers.
            let _ = viewers.send(name.to_owned());
        }
    }

    /// No more faults: what was broken is mended at once, and what was down comes back.
    pub(crate) fn mend(&mut self) {
        self.quiet = true;
        self.say(|_| "no more faults".to_owned());
        {
            let mut api = self.api.state();
            (api.down_until, api.flaky_until) = (0, 0);
            api.cut_off_until.fill(0);
        }
        for (from, to) in self.network.blocked() {
            self.network.unblock(from, to);
        }
        for operator in 0..OPERATORS {
            self.thaw(operator);
            self.after(400, Event::Start(operator));
        }
        for at in 0..STREAMERS {
            self.thaw(sidecar_of(at));
            self.thaw(streamer_of(at));
            let full_until = self.now.min(self.disks[at].full_until.load(Ordering::Relaxed));
            self.disks[at].full_until.store(full_until, Ordering::Relaxed);
            let mut view = self.streamers[at].view();
            (view.polls, view.api_up) = (true, true);
            drop(view);
            self.after(400, Event::Start(sidecar_of(at)));
            self.after(700, Event::Start(streamer_of(at)));
            self.after(700, Event::Start(supervisor_of(at)));
        }
        for wish in self.wishes.streams.values_mut() {
            wish.secret = true;
        }
        self.wishes.unknown = false;
        // Somebody has to be able to take everything.
        let last = self.wishes.streamers.get_mut("s0").unwrap();
        (last.drain, last.unschedulable, last.capacity) = (false, false, None);
        self.server_changed("s0");
        self.declared();
    }
}
