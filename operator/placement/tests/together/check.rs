//! What must hold after every step, and at the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use weir_feed::frames::{Down, Partition, Up};
use weir_feed::record::Phase;

use crate::api::short;
use crate::network::Way;
use crate::operator::{Feed, Operator};
use crate::users::NAMES;
use crate::world::{STREAMERS, World};

/// A record has stood for so long (ms) that everybody who can be reached acts upon it: an unanswered write (5 s), a
/// silent connection (5 s), and a little.
const KNOWN: u64 = 12_000;
/// So long (ms) after a streamer can be reached again it captures nothing any more that it lost meanwhile: what a leader
/// waits for (15 s), a silent connection (5 s), and two polls.
const HEALED: u64 = 26_000;
/// Batches in a minute that do not fit a replica.
const MISMATCHES: usize = 5;

/// What the invariants remember.
#[derive(Debug, Default)]
pub(crate) struct Check {
    pub(crate) failure: Option<String>,
    /// When each streamer last asked its sidecar.
    pub(crate) asked: [u64; STREAMERS],
    /// When a leader last heard each sidecar, and of which request of its streamer.
    heard: [u64; STREAMERS],
    heard_of: [u64; STREAMERS],
    /// Since when its API has been readable.
    readable: [Option<u64>; STREAMERS],
    /// Since when each runs what it runs.
    runs: BTreeMap<(usize, String), u64>,
    /// Since when nothing has stood between each streamer and a leader.
    healthy: [Option<u64>; STREAMERS],
    /// Stream, a streamer that was lost when the stream was given away, and whom it was given to.
    excused: BTreeSet<(String, usize, usize)>,
    /// By stream: whose it is by an `Active` record and a wish, and since when.
    active: BTreeMap<String, (String, u64)>,
    /// Sidecars that were told to let go of a stream, and were not given it since.
    told_off: BTreeSet<(usize, String)>,
    /// When the API was restored, until a leader has taken over since and everybody knows what it has corrected.
    pub(crate) restored: Option<u64>,
    /// Sidecars that were started with less on disk than they served before, and have had no mark since.
    pub(crate) outdated: BTreeSet<usize>,
    mismatches: [VecDeque<u64>; STREAMERS],
    pub(crate) connections: [VecDeque<u64>; STREAMERS],
}

impl Check {
    /// A sidecar hears a leader.
    pub(crate) fn told(&mut self, at: usize, frame: &Down) {
        match frame {
            Down::Put(put) => {
                self.told_off.remove(&(at, put.name.clone()));
            }
            Down::Delete { name, .. } => {
                self.told_off.insert((at, name.clone()));
            }
            Down::Mark { .. } => {
                self.outdated.remove(&at);
            }
            _ => {}
        }
    }

    /// A sidecar knows nothing any more.
    pub(crate) fn forget_told(&mut self, at: usize) {
        self.told_off.retain(|(sidecar, _)| *sidecar != at);
    }
}

impl World {
    pub(crate) fn fail(&mut self, why: String) {
        self.sim.say(|| format!("FAILED: {why}"));
        self.check.failure.get_or_insert(why);
    }

    /// Records or wishes have changed.
    pub(crate) fn truth_changed(&mut self) {
        let now = self.sim.now;
        for name in NAMES {
            let known = !self.wishes.unknown && self.check.restored.is_none();
            let wanted = known && self.wishes.of(name).any(|(_, wish)| !wish.disabled);
            let holder = self.record(name).filter(|record| wanted && record.phase == Phase::Active);
            match holder.map(|record| record.streamer.clone()) {
                None => drop(self.check.active.remove(name)),
                Some(holder) => {
                    let active = self.check.active.entry(name.to_owned()).or_insert_with(|| (holder.clone(), now));
                    if active.0 != holder {
                        *active = (holder, now);
                    }
                }
            }
        }
    }

    /// Whether `name` has been `streamer`'s for so long that everybody knows.
    fn is_known_to_be_of(&self, name: &str, at: usize) -> bool {
        let active = self.check.active.get(name);
        active.is_some_and(|(holder, since)| *holder == format!("s{at}") && self.sim.now >= since + KNOWN)
    }

    /// A leader says something to a sidecar.
    pub(crate) fn check_sent(&mut self, operator: usize, conn: u64, frame: &Down) {
        let Some(connection) = self.network.connections.get(&conn) else {
            return;
        };
        let to = connection.sidecar;
        match frame {
            Down::Put(put) => {
                self.sim.say(|| format!("operator {operator} gives s{to} {put:?}"));
                let bound = self.wishes.of(&put.name).map(|(_, wish)| wish.after).min().unwrap_or(9_000);
                for lost in (0..STREAMERS).filter(|at| *at != to) {
                    let has = self.streamers[lost].has(&put.name) || self.sidecars[lost].has(&put.name);
                    if has && self.lost_for(lost, &put.name) >= bound {
                        self.check.excused.insert((put.name.clone(), lost, to));
                    }
                }
            }
            Down::Delete { name, epoch } => {
                let epoch = epoch % 100_000_000;
                self.sim.say(|| format!("operator {operator} takes {name} from s{to}, epoch {epoch}"));
                if self.is_known_to_be_of(name, to) {
                    self.fail(format!("s{to} is told to let go of {name}, which is its own"));
                }
            }
            Down::Hold { name, .. } => self.sim.say(|| format!("operator {operator} holds {name} at s{to}")),
            Down::Ping { .. } => {}
            Down::Welcome { term, .. } => {
                self.sim.say(|| format!("operator {operator} welcomes s{to} on {conn}: {term}"));
            }
            other => self.sim.say(|| format!("operator {operator} to s{to} on {conn}: {other:?}")),
        }
    }

    /// For how long a streamer has truly been lost, as far as word of it has come to a leader: its sidecar unheard, or
    /// itself neither asking nor to be read as running the
    /// stream.
    fn lost_for(&self, at: usize, name: &str) -> u64 {
        let now = self.sim.now;
        let readable = self.check.readable[at].is_some_and(|since| now >= since + 5_000);
        let shown = readable && self.check.runs.get(&(at, name.to_owned())).is_some_and(|since| now >= since + 5_000);
        let idle = if shown { 0 } else { now - self.check.heard_of[at] };
        idle.max(now - self.check.heard[at])
    }

    /// An operator hears something.
    pub(crate) fn check_fed(&mut self, operator: usize, feed: &Feed) {
        let (Feed::Hello(conn, _, asked) | Feed::Frame(conn, _, asked)) = feed else {
            return;
        };
        let tells = matches!(feed, Feed::Hello(..) | Feed::Frame(_, Up::Alive { .. }, _));
        let Some(connection) = self.network.connections.get(conn) else {
            return;
        };
        // One that has thawed hears what waited for it before it sees that it leads no more.
        let held = self.operator_now(operator).mono < self.operators[operator].campaign.deadline;
        if held && self.operators[operator].leads() {
            let at = connection.sidecar;
            if self.sim.now > self.check.heard[at] + 5_000 {
                self.sim.say(|| format!("s{at} is heard again on {conn}"));
            }
            self.check.heard[at] = self.sim.now;
            if tells {
                self.check.heard_of[at] = self.check.heard_of[at].max(*asked);
            }
        }
    }

    /// A streamer stopped a stream because an answer left it out.
    pub(crate) fn check_stop(&mut self, at: usize, name: &str) {
        // Without a lease it stops by its policy.
        let sidecar = &self.sidecars[at];
        let leased = sidecar.holder.is_leased(sidecar.process.now(self.sim.now));
        if self.policy(name) == Partition::StopCapturing && !leased {
            return;
        }
        let told = self.check.told_off.contains(&(at, name.to_owned()));
        if !told && !self.is_excused_by_its_disk(at) && self.is_known_to_be_of(name, at) {
            self.fail(format!("s{at} stops {name}, which is its own, for an answer of one who does not know"));
        }
    }

    /// One that never asks by name and shows nothing of what it runs cannot be told apart from one that runs nothing.
    fn is_excused_by_its_disk(&self, at: usize) -> bool {
        let habits = self.streamers[at].habits;
        self.check.outdated.contains(&at) && !habits.asks_by_name && !self.streamers[at].is_readable()
    }

    pub(crate) fn check_mismatch(&mut self, at: usize) {
        let now = self.sim.now;
        let mismatches = &mut self.check.mismatches[at];
        mismatches.push_back(now);
        mismatches.retain(|mismatch| mismatch + 60_000 > now);
        if mismatches.len() > MISMATCHES {
            self.fail(format!("s{at} has left its connection for a mismatch {MISMATCHES} times within a minute"));
        }
    }

    /// After every step.
    pub(crate) fn check_everything(&mut self) {
        for at in 0..STREAMERS {
            let now = self.sim.now;
            let healthy = self.is_healthy(at);
            let readable = self.streamers[at].is_readable();
            let since = |known: Option<u64>, holds: bool| if holds { known.or(Some(now)) } else { None };
            self.check.healthy[at] = since(self.check.healthy[at], healthy);
            self.check.readable[at] = since(self.check.readable[at], readable);
        }
        self.notice_restoration();
        self.forget_excuses();
        for name in NAMES {
            let running: Vec<usize> = (0..STREAMERS).filter(|at| self.captures(*at, name)).collect();
            self.remember_runs(name, &running);
            for (place, one) in running.iter().enumerate() {
                for other in &running[place + 1..] {
                    self.check_overlap(name, *one, *other);
                }
            }
        }
    }

    /// What the records say counts again.
    fn notice_restoration(&mut self) {
        let Some(restored) = self.check.restored else {
            return;
        };
        let now = self.sim.now;
        let knows = |operator: &Operator| {
            operator.leads() && operator.leader.is_settled() && operator.process.started > restored
        };
        if (0..STREAMERS).all(|at| self.check.healthy[at].is_some_and(|since| now >= since + KNOWN))
            && self.operators.iter().any(knows)
        {
            self.check.restored = None;
            self.truth_changed();
        }
    }

    fn remember_runs(&mut self, name: &str, running: &[usize]) {
        for at in 0..STREAMERS {
            let run = (at, name.to_owned());
            if running.contains(&at) {
                self.check.runs.entry(run).or_insert(self.sim.now);
            } else {
                self.check.runs.remove(&run);
            }
        }
    }

    fn captures(&self, at: usize, name: &str) -> bool {
        self.streamers[at].process.up && self.streamers[at].running.contains(name)
    }

    fn check_overlap(&mut self, name: &str, one: usize, other: usize) {
        let excused = |lost, given| self.check.excused.contains(&(name.to_owned(), lost, given));
        let may_overlap = self.policy(name) == Partition::KeepCapturing;
        if may_overlap && (excused(one, other) || excused(other, one)) {
            return;
        }
        let record = self.record(name).map_or_else(|| format!("{name}: no record"), short);
        self.fail(format!("s{one} and s{other} capture {name} ({record})"));
    }

    /// An excuse ends when the lost one has let go, or has been in reach for long enough to have.
    fn forget_excuses(&mut self) {
        let mut excused = std::mem::take(&mut self.check.excused);
        excused.retain(|(name, lost, _)| {
            let streamer = &self.streamers[*lost];
            // An answer may be on its way to it.
            let asks = streamer.process.up && streamer.asking_number().is_some();
            let has = asks || streamer.has(name) || self.sidecars[*lost].has(name);
            let healed = self.check.healthy[*lost].is_some_and(|since| self.sim.now >= since + HEALED);
            has && !healed
        });
        self.check.excused = excused;
    }

    /// Nothing stands between a streamer and a leader that knows what it does.
    fn is_healthy(&self, at: usize) -> bool {
        let (sidecar, streamer, now) = (&self.sidecars[at], &self.streamers[at], self.sim.now);
        let connection = sidecar.link.and_then(|link| self.network.connections.get(&link));
        let Some(connection) = connection else {
            return false;
        };
        let operator = &self.operators[connection.operator];
        let reached = ![Way::Up, Way::Down].iter().any(|way| self.is_silent(at, connection.operator, *way));
        let api = now >= self.api.down_until.max(self.api.flaky_until).max(operator.cut_off_until);
        let running = sidecar.process.up && !sidecar.process.frozen && streamer.process.up && streamer.polls;
        let led = operator.leads() && !operator.process.frozen && operator.leader.is_settled();
        // What cannot be given is held, and a request that names it among others gets 503 for them all.
        let given = self.wishes.streams.values().all(|wish| wish.secret);
        reached && api && running && led && given && sidecar.holder.is_connected()
    }

    /// What is not yet as it should be once everything is quiet.
    pub(crate) fn unsettled(&self) -> Option<String> {
        if !(0..STREAMERS).all(|at| self.is_healthy(at)) {
            return Some("not every streamer has a leader".to_owned());
        }
        for name in NAMES {
            let wanted = self.wishes.of(name).any(|(_, wish)| !wish.disabled);
            let running: Vec<String> =
                (0..STREAMERS).filter(|at| self.captures(*at, name)).map(|at| format!("s{at}")).collect();
            match self.record(name) {
                None if wanted => return Some(format!("{name} is wanted and has no record; {running:?} run it")),
                None if !running.is_empty() => return Some(format!("{name} is unwanted, and {running:?} run it")),
                Some(record) if !wanted || record.phase != Phase::Active || record.previous.is_some() => {
                    return Some(format!("{} (wanted: {wanted})", short(record)));
                }
                Some(record) if running != [record.streamer.clone()] => {
                    return Some(format!("{}, and {running:?} run it", short(record)));
                }
                None | Some(_) => {}
            }
        }
        let held = self.sidecars.iter().find(|sidecar| !sidecar.holder.rows().holds().is_empty());
        held.map(|sidecar| format!("{} still holds {:?}", sidecar.instance, sidecar.holder.rows().holds()))
    }

    /// The last minute was quiet: nobody connected anew.
    pub(crate) fn check_quiet(&mut self) {
        let before = self.sim.now.saturating_sub(30_000);
        for at in 0..STREAMERS {
            let again = self.check.connections[at].iter().filter(|when| **when > before).count();
            if again > 0 {
                self.fail(format!("s{at} has connected {again} times although all was quiet"));
            }
        }
    }
}
