//! What goes wrong, and what users do meanwhile.

use crate::network::Way;
use crate::users::NAMES;
use crate::world::{Event, OPERATORS, STREAMERS, Who, World};

/// Kinds of faults and edits.
pub(crate) const FAULTS: usize = 21;

impl World {
    /// One fault or edit, and the appointment with the next.
    pub(crate) fn fault(&mut self) {
        if self.quiet {
            return;
        }
        let next = if self.sim.random.chance(30) {
            self.sim.random.range(50, 3_000)
        } else {
            self.sim.random.range(3_000, 20_000)
        };
        self.sim.after(next, Event::Fault);
        let at = self.sim.random.index(STREAMERS);
        let operator = self.sim.random.index(OPERATORS);
        // Each run has a fault of its own that comes again and again.
        let kind = if self.sim.random.chance(35) { self.favourite } else { self.sim.random.index(FAULTS) };
        match kind {
            0 | 1 => self.crash_sidecar(at),
            2 => self.crash_streamer(at),
            3 | 4 => self.crash_pod(at),
            5 => self.freeze(Who::Sidecar(at)),
            6 => self.freeze(Who::Operator(operator)),
            7 => self.crash_operator(operator),
            8 => self.break_connection(),
            9 | 10 => self.silence(at),
            11 => self.lose_api(operator),
            12 => self.break_streamer(at),
            13 => self.break_disk(at),
            14 if self.restores => self.copy_or_restore(),
            15 if self.verified && !self.restores => self.end_pod(at),
            _ => self.edit(at),
        }
    }

    /// Mostly short, sometimes longer than any bound.
    fn a_while(&mut self) -> u64 {
        match self.sim.random.index(4) {
            0 => self.sim.random.range(1, 1_000),
            1 => self.sim.random.range(1_000, 8_000),
            2 => self.sim.random.range(5_000, 35_000),
            _ => self.sim.random.range(20_000, 90_000),
        }
    }

    fn crash_sidecar(&mut self, at: usize) {
        self.kill_sidecar(at);
        let (back, wiped) = (self.a_while(), self.wipes(25));
        self.sim.after(back, Event::StartSidecar(at, wiped));
    }

    /// Whether a sidecar comes back with nothing. Not where records may go back too: then a streamer that cannot be read
    /// may run what nobody knows of any more.
    fn wipes(&mut self, percent: u64) -> bool {
        self.sim.random.chance(percent) && !self.restores
    }

    fn crash_streamer(&mut self, at: usize) {
        self.kill_streamer(at);
        let back = self.a_while();
        self.sim.after(back, Event::StartStreamer(at));
    }

    fn crash_pod(&mut self, at: usize) {
        self.kill_sidecar(at);
        self.kill_streamer(at);
        let (back, wiped) = (self.a_while(), self.wipes(40));
        let (first, second) = (self.sim.random.range(0, 2_000), self.sim.random.range(0, 6_000));
        self.sim.after(back + first, Event::StartSidecar(at, wiped));
        self.sim.after(back + second, Event::StartStreamer(at));
    }

    /// A pod ends for good, and its kubelet says so. A pod of that name comes all the same some day: with nothing.
    fn end_pod(&mut self, at: usize) {
        if !self.sidecars[at].process.up {
            return;
        }
        self.kill_sidecar(at);
        self.kill_streamer(at);
        let streamer = &mut self.streamers[at];
        (streamer.running, streamer.saved) = Default::default();
        self.sim.say(|| format!("the pod of s{at} has ended"));
        self.wishes.ended.insert(format!("s{at}"), self.sidecars[at].instance.clone());
        self.declared();
        let (back, later) = (self.a_while(), self.sim.random.range(0, 6_000));
        self.sim.after(back, Event::StartSidecar(at, true));
        self.sim.after(back + later, Event::StartStreamer(at));
    }

    fn freeze(&mut self, who: Who) {
        let process = self.process(who);
        if !process.up || process.frozen {
            return;
        }
        process.frozen = true;
        let thaws = self.a_while();
        self.sim.say(|| format!("{who:?} freezes for {thaws}"));
        self.sim.after(thaws, Event::Thaw(who));
    }

    fn crash_operator(&mut self, at: usize) {
        self.kill_operator(at);
        let back = self.a_while();
        self.sim.after(back, Event::StartOperator(at));
    }

    fn break_connection(&mut self) {
        let all: Vec<u64> = self.network.connections.keys().copied().collect();
        if !all.is_empty() {
            let conn = all[self.sim.random.index(all.len())];
            self.cut(conn);
        }
    }

    fn silence(&mut self, at: usize) {
        let lasts = self.a_while();
        let until = self.sim.now + lasts;
        let ways: &[Way] = match self.sim.random.index(3) {
            0 => &[Way::Up],
            1 => &[Way::Down],
            _ => &[Way::Up, Way::Down],
        };
        let one = self.sim.random.index(OPERATORS);
        let all = self.sim.random.chance(60);
        self.sim.say(|| format!("s{at} is silent for {lasts}: {ways:?}, all operators {all}, or {one}"));
        for operator in (0..OPERATORS).filter(|operator| all || *operator == one) {
            for way in ways {
                self.network.silent.insert((at, operator, *way), until);
            }
        }
        self.sim.after(lasts, Event::Heard);
    }

    fn lose_api(&mut self, operator: usize) {
        let until = self.sim.now + self.a_while();
        let kind = self.sim.random.index(3);
        self.sim.say(|| format!("API trouble {kind} (0 down, 1 flaky, 2 cut off {operator}) until {until}"));
        match kind {
            0 => self.api.down_until = until,
            1 => self.api.flaky_until = until,
            _ => self.operators[operator].cut_off_until = until,
        }
    }

    fn break_streamer(&mut self, at: usize) {
        let back = self.a_while();
        if self.sim.random.chance(50) {
            self.sim.say(|| format!("streamer s{at} does not poll for {back}"));
            self.streamers[at].polls = false;
            self.sim.after(back, Event::PollsAgain(at));
        } else {
            self.sim.say(|| format!("streamer s{at}'s API is down for {back}"));
            self.streamers[at].api_up = false;
            self.sim.after(back, Event::ApiUp(at));
        }
    }

    fn copy_or_restore(&mut self) {
        if self.api.has_copy() && self.sim.random.chance(60) {
            self.restore_api();
        } else {
            self.copy_api();
        }
    }

    fn break_disk(&mut self, at: usize) {
        self.sidecars[at].disk_fails_until = self.sim.now + self.a_while();
    }

    fn edit(&mut self, at: usize) {
        let name = NAMES[self.sim.random.index(NAMES.len())];
        let kind = self.sim.random.index(9);
        self.sim.say(|| format!("a user's edit {kind} of {name} or s{at}"));
        let streamer = self.wishes.streamers.get_mut(&format!("s{at}")).unwrap();
        match kind {
            0 | 1 => streamer.drain = !streamer.drain,
            2 => streamer.unschedulable = !streamer.unschedulable,
            3 => streamer.capacity = if streamer.capacity.is_some() { None } else { Some(2) },
            4 => self.view(name),
            _ => self.edit_stream(kind, name),
        }
        self.declared();
    }

    fn edit_stream(&mut self, kind: usize, name: &str) {
        let back = self.a_while();
        let Some(wish) = self.wishes.streams.get_mut(name) else {
            return self.create(name, name.to_owned());
        };
        match kind {
            5 => {
                wish.edit += 1;
                if wish.edit.is_multiple_of(3) {
                    wish.secret = false;
                    self.sim.after(back, Event::SecretThere(name.to_owned()));
                }
            }
            6 => wish.disabled = !wish.disabled,
            7 if self.sim.random.chance(20) => {
                self.wishes.unknown = true;
                self.sim.after(back, Event::ListKnown);
            }
            _ => {
                self.wishes.streams.remove(name);
                if self.sim.random.chance(30) {
                    self.create(name, name.to_owned());
                }
            }
        }
    }

    /// Viewers ask every streamer for a stream.
    pub(crate) fn view(&mut self, name: &str) {
        for at in 0..STREAMERS {
            let life = self.streamers[at].process.life;
            let when = self.sim.random.range(1, 3_000);
            let viewed = crate::streamer::Event::Viewed(name.to_owned());
            self.sim.after(when, Event::Streamer(at, life, viewed));
        }
    }

    /// No more faults: what was broken is mended at once, and what was down comes back.
    pub(crate) fn mend(&mut self) {
        self.quiet = true;
        self.sim.say(|| "no more faults".to_owned());
        (self.api.down_until, self.api.flaky_until) = (0, 0);
        self.network.silent.clear();
        for at in 0..OPERATORS {
            self.operators[at].cut_off_until = 0;
            self.thaw(Who::Operator(at));
            // A leader that has no reason to write does not notice that the storage went back.
            if self.check.restored.is_some() {
                self.kill_operator(at);
            }
            self.sim.after(1_000, Event::StartOperator(at));
        }
        for at in 0..STREAMERS {
            self.thaw(Who::Sidecar(at));
            self.sidecars[at].disk_fails_until = 0;
            (self.streamers[at].polls, self.streamers[at].api_up) = (true, true);
            self.sim.after(1_000, Event::StartSidecar(at, false));
            self.sim.after(2_000, Event::StartStreamer(at));
        }
        for wish in self.wishes.streams.values_mut() {
            wish.secret = true;
        }
        self.wishes.unknown = false;
        // Somebody has to be able to take everything.
        let last = self.wishes.streamers.get_mut("s0").unwrap();
        (last.drain, last.unschedulable, last.capacity) = (false, false, None);
        self.declared();
        self.deliver_all();
    }
}
