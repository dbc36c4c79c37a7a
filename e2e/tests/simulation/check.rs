//! What must hold after every step, and at the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use weir_e2e::streamer::configuration::{Kind, Reason};
use weir_feed::frames::{Down, Up};
use weir_feed::record::{Phase, Record};

use crate::api::short;
use crate::network::HostId;
use crate::users::NAMES;
use crate::wire::Seen;
use crate::world::{OPERATORS, PERIODS, STREAMERS, World, sidecar_of, streamer_of};

/// A record has stood for so long (ms) that everybody who can be reached acts upon it: an unanswered write, a silent
/// connection, another one, and a little.
const KNOWN: u64 = 8_000;
/// So long (ms) after a streamer can be reached again it captures nothing any more that it lost meanwhile: what a leader
/// waits for, a silent connection, another one, and two polls.
const HEALED: u64 = 16_000;
/// What a disk has refused is written and said to be applied within so many ms, when it takes writes again.
const WRITTEN: u64 = 1_000;
/// A leader that has said nothing for so long (ms) does not lead.
const LEADS: u64 = 1_000;
/// Processes run in steps of so many ms: nothing is known more exactly.
const ROUNDED: u64 = 100;
/// For so long (ms) a streamer's API must have been readable, and have shown a stream, for its sidecar to know.
const READ: u64 = 4_000;

/// What a sidecar has been told, and has at a mark.
#[derive(Debug, Default)]
struct Told {
    rows: BTreeSet<String>,
    /// Given by a batch that it has said it has applied, and not taken since: on its disk.
    kept: BTreeSet<String>,
    /// Taken from it by a frame that it has read, and not given since.
    taken: BTreeSet<String>,
    /// Taken from it, as it has said that it has applied.
    off: BTreeSet<String>,
    /// Not yet marked.
    batch: Vec<Down>,
    /// Marked, each up to this revision, and not yet on its disk.
    marked: VecDeque<(u64, Vec<Down>)>,
    /// The revision that it said it has applied.
    applied: u64,
    /// The connection of its last welcome.
    welcomed: Option<u64>,
}

/// What the invariants remember.
#[derive(Debug, Default)]
pub(crate) struct Check {
    pub(crate) failure: Option<String>,
    told: [Told; STREAMERS],
    /// When each operator last spoke as a leader.
    spoke: [u64; OPERATORS],
    /// When a leader last heard each sidecar, and of which request of its streamer.
    heard: [u64; STREAMERS],
    heard_of: [u64; STREAMERS],
    /// Hellos that are looked into, by connection: when its streamer asked, by each.
    knocks: BTreeMap<u64, Option<u64>>,
    /// Since when its API has been readable.
    readable: [Option<u64>; STREAMERS],
    /// Since when each runs what it runs.
    runs: BTreeMap<(usize, String), u64>,
    /// Since when nothing has stood between each streamer and the leader, connected or not.
    reachable: [Option<u64>; STREAMERS],
    /// Since when they have been connected, too.
    healthy: [Option<u64>; STREAMERS],
    /// Stream, a streamer that was lost when the stream was given away, and whom it was given to.
    excused: BTreeSet<(String, usize, usize)>,
    /// By stream: whose it is by an `Active` record and a wish, and since when.
    active: BTreeMap<String, (String, u64)>,
    /// When the API was restored, until a leader has taken over since and everybody knows what it has corrected.
    pub(crate) restored: Option<u64>,
    /// Sidecars that were started with less on disk than they served before, and have had no mark since.
    outdated: BTreeSet<usize>,
    /// Sidecars whose disk was wiped, put back, or took no writes when they said that they have applied something.
    pub(crate) disk_lost: [bool; STREAMERS],
    /// Names that an old disk brought back to a sidecar that no leader has welcomed since.
    revived: BTreeSet<(String, usize)>,
    /// What has come to leaders in this step, which they may not have looked at yet.
    words: Vec<(usize, Option<u64>)>,
    pub(crate) connections: [VecDeque<u64>; STREAMERS],
}

fn at_of(sidecar: HostId) -> usize {
    sidecar - OPERATORS
}

impl Check {
    /// A sidecar starts with this on its disk, of which it may know that it is not complete. The error is what it has acknowledged
    /// and is lost.
    pub(crate) fn starts_with(&mut self, at: usize, synced: bool, rows: Vec<String>) -> Result<(), String> {
        let told = &mut self.told[at];
        let rows: BTreeSet<String> = rows.into_iter().collect();
        let lost: Vec<String> = told.kept.difference(&rows).chain(told.off.intersection(&rows)).cloned().collect();
        told.kept.clone_from(&rows);
        self.outdated.remove(&at);
        if synced && !told.rows.is_subset(&rows) {
            self.outdated.insert(at);
        }
        self.revived.retain(|(_, whose)| *whose != at);
        self.revived.extend(rows.difference(&told.rows).map(|name| (name.clone(), at)));
        told.off.retain(|name| !rows.contains(name));
        told.taken.retain(|name| !rows.contains(name));
        told.rows = rows;
        told.batch.clear();
        told.marked.clear();
        (told.welcomed, told.applied) = (None, 0);
        if std::mem::take(&mut self.disk_lost[at]) || lost.is_empty() {
            return Ok(());
        }
        Err(format!("s{at} starts without what it has acknowledged of {lost:?}"))
    }

    /// A sidecar hears a leader.
    fn told(&mut self, at: usize, conn: u64, now: u64, frame: Down) {
        let told = &mut self.told[at];
        match frame {
            Down::Welcome { .. } => {
                told.batch.clear();
                told.marked.clear();
                (told.welcomed, told.applied) = (Some(conn), 0);
                self.revived.retain(|(_, whose)| *whose != at);
                self.connections[at].push_back(now);
            }
            Down::Put(_) | Down::Delete { .. } | Down::Hold { .. } => told.read(frame),
            Down::Mark { revision, .. } => {
                let batch = std::mem::take(&mut told.batch);
                told.marked.push_back((revision, batch));
            }
            _ => {}
        }
    }

    /// A sidecar says something.
    fn said(&mut self, at: usize, disk_full: bool, frame: &Up) {
        if let Up::Applied { revision } = frame {
            self.outdated.remove(&at);
            self.disk_lost[at] |= disk_full;
            self.told[at].applied = *revision;
        }
    }

    /// For how long a streamer has truly been lost, as far as word of it has come to a leader: its sidecar unheard, or
    /// itself neither asking nor to be read as running the stream.
    fn lost_for(&self, at: usize, name: &str, now: u64) -> u64 {
        let readable = self.readable[at].is_some_and(|since| now >= since + READ);
        let shown = readable && self.runs.get(&(at, name.to_owned())).is_some_and(|since| now >= since + READ);
        let idle = if shown { 0 } else { now.saturating_sub(self.heard_of[at]) };
        idle.max(now - self.heard[at])
    }
}

impl Told {
    /// From here on it may serve, or let go.
    fn read(&mut self, frame: Down) {
        match &frame {
            Down::Put(put) => {
                self.off.remove(&put.name);
                self.taken.remove(&put.name);
                self.rows.insert(put.name.clone());
            }
            Down::Delete { name, .. } => {
                self.kept.remove(name);
                self.taken.insert(name.clone());
            }
            _ => {}
        }
        self.batch.push(frame);
    }

    /// What it has applied is on its disk, which takes writes: it may not be back after a restart.
    fn is_written(&mut self) {
        while let Some((_, batch)) = self.marked.pop_front_if(|(marked, _)| *marked <= self.applied) {
            for frame in batch {
                self.apply(frame);
            }
        }
    }

    /// From here on it must.
    fn apply(&mut self, frame: Down) {
        match frame {
            Down::Put(put) if !self.taken.contains(&put.name) => drop(self.kept.insert(put.name)),
            Down::Delete { name, .. } if self.taken.contains(&name) => {
                self.rows.remove(&name);
                self.off.insert(name);
            }
            _ => {}
        }
    }
}

impl World {
    pub(crate) fn fail(&mut self, why: String) {
        self.say(|_| format!("FAILED: {why}"));
        self.check.failure.get_or_insert(why);
    }

    /// Records or wishes have changed.
    pub(crate) fn truth_changed(&mut self) {
        let now = self.now;
        for name in NAMES {
            let known = !self.wishes.unknown && self.check.restored.is_none();
            let wanted = known && self.wishes.of(name).any(|(_, wish)| !wish.disabled);
            let holder = self.record(name).filter(|record| wanted && record.phase == Phase::Active);
            match holder.map(|record| record.streamer) {
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

    fn record(&self, name: &str) -> Option<Record> {
        self.api.state().record(name).cloned()
    }

    /// Whether `name` has been `streamer`'s for so long that everybody knows.
    fn is_known_to_be_of(&self, name: &str, at: usize) -> bool {
        let active = self.check.active.get(name);
        active.is_some_and(|(holder, since)| *holder == format!("s{at}") && self.now >= since + KNOWN)
    }

    /// Something was said or read.
    pub(crate) fn check_seen(&mut self, seen: Seen) {
        match seen {
            Seen::Sent { conn, operator, sidecar, frame } => self.check_sent(conn, operator, at_of(sidecar), &frame),
            Seen::Told { conn, sidecar, frame, .. } => self.check.told(at_of(sidecar), conn, self.now, frame),
            Seen::Said { sidecar, frame } => {
                let at = at_of(sidecar);
                self.check.said(at, self.disks[at].was_full(self.now, WRITTEN), &frame);
            }
            Seen::Heard { conn, operator, sidecar, frame } => self.check_heard(conn, operator, at_of(sidecar), &frame),
            Seen::Answered { sidecar, names } => {
                let at = at_of(sidecar);
                self.excuse_the_revived(at, &names);
                if let Some(name) = names.iter().find(|name| self.check.told[at].off.contains(*name)) {
                    self.fail(format!("sidecar s{at} serves {name}, which it was told to let go of"));
                }
            }
        }
    }

    /// Without a leader an old disk is all that a sidecar knows.
    fn excuse_the_revived(&mut self, at: usize, names: &[String]) {
        for name in names.iter().filter(|name| self.check.revived.contains(&((*name).clone(), at))) {
            let others = (0..STREAMERS).filter(|other| *other != at);
            self.check.excused.extend(others.map(|other| (name.clone(), at, other)));
        }
    }

    /// A leader says something to a sidecar.
    fn check_sent(&mut self, conn: u64, operator: HostId, to: usize, frame: &Down) {
        match frame {
            Down::Put(put) => {
                self.say(|_| {
                    format!("operator {operator} gives s{to} {} of epoch {}", put.name, put.epoch % 100_000_000)
                });
                let bound = self.wishes.of(&put.name).map(|(_, wish)| wish.after).min().unwrap_or(3_000);
                for lost in (0..STREAMERS).filter(|at| *at != to) {
                    let lost_for = self.check.lost_for(lost, &put.name, self.now);
                    if self.has(lost, &put.name) {
                        self.say(|_| format!("s{lost} has been lost for {lost_for}, the bound is {bound}"));
                    }
                    if self.has(lost, &put.name) && lost_for + ROUNDED >= bound {
                        self.check.excused.insert((put.name.clone(), lost, to));
                    }
                }
            }
            Down::Delete { name, epoch } => {
                self.say(|_| format!("operator {operator} takes {name} from s{to}, epoch {}", epoch % 100_000_000));
                if self.is_known_to_be_of(name, to) {
                    self.fail(format!("s{to} is told to let go of {name}, which is its own"));
                }
            }
            Down::Ping { .. } => self.check.spoke[operator] = self.now,
            other => {
                if matches!(other, Down::Welcome { .. } | Down::Wait {}) {
                    self.check.spoke[operator] = self.now;
                    // Whose hello that was is known from here on.
                    if let Some(asked) = self.check.knocks.remove(&conn) {
                        self.hear(conn, to, asked);
                    }
                }
                self.say(|_| format!("operator {operator} to s{to} on {conn}: {other:?}"));
            }
        }
    }

    /// An operator hears something.
    fn check_heard(&mut self, conn: u64, operator: HostId, at: usize, frame: &Up) {
        let now = self.now;
        let asked = match frame {
            Up::Alive { polled, .. } => *polled,
            Up::Hello(hello) => hello.polled,
            _ => None,
        };
        let asked = asked.map(|ago| now.saturating_sub(ago));
        if !matches!(frame, Up::Alive { .. } | Up::Applied { .. }) {
            self.say(|_| format!("operator {operator} hears s{at} on {conn}: {frame:?}"));
        }
        // One that has thawed hears what waited for it before it sees that it leads no more.
        if matches!(frame, Up::Hello(_)) {
            self.check.knocks.insert(conn, asked);
        } else if now < self.check.spoke[operator] + LEADS {
            self.hear(conn, at, asked);
        }
    }

    /// Word of a sidecar, and of when its streamer asked, has come to a leader.
    fn hear(&mut self, conn: u64, at: usize, asked: Option<u64>) {
        if self.now > self.check.heard[at] + 1_500 {
            self.say(|_| format!("s{at} is heard again on {conn}"));
        }
        self.check.words.push((at, asked));
    }

    /// Serves it, runs it, or would after a restart.
    fn has(&self, at: usize, name: &str) -> bool {
        self.streamers[at].view().has(name) || self.check.told[at].rows.contains(name)
    }

    /// What streamers have started and stopped.
    pub(crate) fn check_changes(&mut self) {
        for at in 0..STREAMERS {
            let changes = std::mem::take(&mut self.streamers[at].view().changes);
            for (name, kind, reason) in changes {
                self.say(|_| format!("s{at}: {name}: {kind:?}: {}", reason.text()));
                let left_out = matches!(reason, Reason::LeftOut | Reason::LeftOutOfList);
                if kind == Kind::Stop && left_out && self.stops_for_ignorance(at, &name) {
                    self.fail(format!("s{at} stops {name}, which is its own, for an answer of one who does not know"));
                }
            }
        }
    }

    fn stops_for_ignorance(&self, at: usize, name: &str) -> bool {
        let told = self.check.told[at].taken.contains(name);
        // Out of a leader's reach for long enough, it has to.
        let reached = self.check.healthy[at].is_some_and(|since| self.now >= since + HEALED);
        if self.stops.contains(name) && !reached {
            return false;
        }
        !told && !self.check.outdated.contains(&at) && self.is_known_to_be_of(name, at)
    }

    /// After every step.
    pub(crate) fn check_everything(&mut self) {
        for (at, asked) in std::mem::take(&mut self.check.words) {
            self.check.heard[at] = self.now;
            self.check.heard_of[at] = asked.unwrap_or(self.check.heard_of[at]);
        }
        for at in 0..STREAMERS {
            let now = self.now;
            if !self.disks[at].is_full(now) {
                self.check.told[at].is_written();
            }
            let healthy = self.is_healthy(at);
            let readable = self.streamers[at].view().is_readable() && self.hosts[streamer_of(at)].runs();
            let since = |known: Option<u64>, holds: bool| if holds { known.or(Some(now)) } else { None };
            self.check.healthy[at] = since(self.check.healthy[at], healthy);
            self.check.reachable[at] = since(self.check.reachable[at], self.is_reachable(at));
            self.check.readable[at] = since(self.check.readable[at], readable);
        }
        self.notice_restoration();
        self.forget_excuses();
        let captured: Vec<BTreeSet<String>> =
            self.streamers.iter().map(|streamer| streamer.view().running().cloned().collect()).collect();
        for name in NAMES {
            let running: Vec<usize> = (0..STREAMERS).filter(|at| captured[*at].contains(name)).collect();
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
        let now = self.now;
        let knows = |operator: usize| self.leads(operator) && self.hosts[operator].started > restored;
        let healthy = |at: usize| self.check.healthy[at].is_some_and(|since| now >= since + HEALED);
        if (0..STREAMERS).all(healthy) && (0..OPERATORS).any(knows) {
            self.check.restored = None;
            self.truth_changed();
        }
    }

    fn leads(&self, operator: usize) -> bool {
        self.hosts[operator].runs() && self.now < self.check.spoke[operator] + LEADS
    }

    fn remember_runs(&mut self, name: &str, running: &[usize]) {
        for at in 0..STREAMERS {
            let run = (at, name.to_owned());
            if running.contains(&at) {
                self.check.runs.entry(run).or_insert(self.now);
            } else {
                self.check.runs.remove(&run);
            }
        }
    }

    fn check_overlap(&mut self, name: &str, one: usize, other: usize) {
        let excused = |lost, given| self.check.excused.contains(&(name.to_owned(), lost, given));
        if !self.stops.contains(name) && (excused(one, other) || excused(other, one)) {
            return;
        }
        let record = self.record(name).map_or_else(|| format!("{name}: no record"), |record| short(&record));
        self.fail(format!("s{one} and s{other} capture {name} ({record})"));
    }

    /// An excuse ends when the lost one has let go, or has been in reach for long enough to have.
    fn forget_excuses(&mut self) {
        let mut excused = std::mem::take(&mut self.check.excused);
        excused.retain(|(name, lost, _)| {
            let healed = self.check.reachable[*lost].is_some_and(|since| self.now >= since + HEALED);
            self.has(*lost, name) && !healed
        });
        self.check.excused = excused;
    }

    /// Nothing stands between a streamer and a leader.
    fn is_healthy(&self, at: usize) -> bool {
        let Some(conn) = self.check.told[at].welcomed.filter(|conn| self.network.stands(*conn)) else {
            return false;
        };
        let sidecar = sidecar_of(at);
        let Some(operator) = (0..OPERATORS).find(|operator| self.network.is_between(conn, sidecar, *operator)) else {
            return false;
        };
        self.leads(operator) && self.can_be_reached(at, operator)
    }

    /// Nothing stands between a streamer and who holds the Lease.
    fn is_reachable(&self, at: usize) -> bool {
        let holder = self.api.state().lease_holder().map(str::to_owned);
        let holds =
            |operator: &usize| holder.as_ref().is_some_and(|holder| *holder == self.hosts[*operator].identity());
        let leader = (0..OPERATORS).find(|operator| self.hosts[*operator].runs() && holds(operator));
        leader.is_some_and(|operator| self.can_be_reached(at, operator))
    }

    fn can_be_reached(&self, at: usize, operator: HostId) -> bool {
        let sidecar = sidecar_of(at);
        let reached = !self.network.is_blocked(sidecar, operator) && !self.network.is_blocked(operator, sidecar);
        let api = {
            let api = self.api.state();
            self.now >= api.down_until.max(api.flaky_until).max(api.cut_off_until[operator])
        };
        let running =
            self.hosts[sidecar].runs() && self.hosts[streamer_of(at)].runs() && self.streamers[at].view().polls;
        // What cannot be given is held, and a request that names it among others gets 503 for them all.
        let given = self.wishes.streams.values().all(|wish| wish.secret);
        reached && api && running && given
    }

    /// What is not yet as it should be once everything is quiet.
    pub(crate) fn unsettled(&self) -> Option<String> {
        if let Some(at) = (0..STREAMERS).find(|at| !self.is_healthy(*at)) {
            return Some(format!("s{at} has no leader"));
        }
        for name in NAMES {
            let wanted = self.wishes.of(name).any(|(_, wish)| !wish.disabled);
            let runs = |at: &usize| self.streamers[*at].view().running().any(|running| running == name);
            let running: Vec<String> = (0..STREAMERS).filter(runs).map(|at| format!("s{at}")).collect();
            match self.record(name) {
                None if wanted => return Some(format!("{name} is wanted and has no record; {running:?} run it")),
                None if !running.is_empty() => return Some(format!("{name} is unwanted, and {running:?} run it")),
                Some(record) if !wanted || record.phase != Phase::Active || record.previous.is_some() => {
                    return Some(format!("{} (wanted: {wanted})", short(&record)));
                }
                Some(record) if running != [record.streamer.clone()] => {
                    return Some(format!("{}, and {running:?} run it", short(&record)));
                }
                None | Some(_) => {}
            }
        }
        // As it is on their disks.
        let held = (0..STREAMERS).map(|at| (at, self.disks[at].holds())).find(|(_, holds)| !holds.is_empty());
        held.map(|(at, holds)| format!("s{at} still holds {holds:?}"))
    }

    /// Before the end all was quiet: nobody connected anew.
    pub(crate) fn check_quiet(&mut self) {
        let before = self.now.saturating_sub(PERIODS.period * 2);
        for at in 0..STREAMERS {
            let again = self.check.connections[at].iter().filter(|when| **when > before).count();
            if again > 0 {
                self.fail(format!("s{at} has connected {again} times although all was quiet"));
            }
        }
    }
}
