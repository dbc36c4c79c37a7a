//! What must hold after every step, and at the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use weir_e2e::streamer::configuration::{Kind, Reason};
use weir_feed::frames::{Down, Up};
use weir_feed::record::{Phase, Record};

use crate::api::short;
use crate::excuses::Excuses;
use crate::network::HostId;
use crate::users::NAMES;
use crate::wire::Seen;
use crate::world::{OPERATORS, PERIODS, STREAMERS, World, streamer_of};

/// A record has stood for so long (ms) that everybody who can be reached acts upon it: an unanswered write, a silent
/// connection, another one, and a little.
const KNOWN: u64 = 8_000;
/// What a disk has refused is written and said to be applied within so many ms, when it takes writes again.
const WRITTEN: u64 = 1_000;
/// A leader that has said nothing for so long (ms) does not lead.
const LEADS: u64 = 1_000;
/// For so long (ms) a streamer's API must have been readable, and have shown a stream, for its sidecar to know.
const READ: u64 = 4_000;

/// What a sidecar has been told, and has at a mark.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) rows: BTreeSet<String>,
    /// Given by a batch that it has said it has applied, and not taken since: on its disk.
    kept: BTreeSet<String>,
    /// Taken from it by a frame that it has read, and not given since.
    taken: BTreeSet<String>,
    /// Taken from it, as it has said that it has applied.
    off: BTreeSet<String>,
    /// It is told not to answer for these for now.
    pub(crate) holds: BTreeSet<String>,
    /// Not yet marked.
    batch: Vec<Down>,
    /// Marked, each up to this revision, and not yet on its disk.
    marked: VecDeque<(u64, Vec<Down>)>,
    /// The revision that it said it has applied.
    applied: u64,
    /// The connection of its last welcome.
    pub(crate) welcomed: Option<u64>,
}

/// What the invariants remember.
#[derive(Debug, Default)]
pub(crate) struct Check {
    pub(crate) failure: Option<String>,
    pub(crate) told: [Told; STREAMERS],
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
    pub(crate) excuses: Excuses,
    /// By stream: whose it is by an `Active` record and a wish, and since when.
    active: BTreeMap<String, (String, u64)>,
    /// Sidecars that were started with less on disk than they served before, and have had no mark since.
    outdated: BTreeSet<usize>,
    /// Sidecars whose disk was wiped, put back, or took no writes when they said that they have applied something.
    pub(crate) disk_lost: [bool; STREAMERS],
    /// Names that an old disk brought back to a sidecar that no leader has welcomed since.
    pub(crate) revived: BTreeSet<(String, usize)>,
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
    pub(crate) fn starts_with(
        &mut self,
        at: usize,
        synced: bool,
        rows: Vec<String>,
        holds: Vec<String>,
    ) -> Result<(), String> {
        self.excuses.starts(at);
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
        told.holds = holds.into_iter().collect();
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
    pub(crate) fn lost_for(&self, at: usize, name: &str, now: u64) -> u64 {
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
                self.holds.remove(&put.name);
                self.rows.insert(put.name.clone());
            }
            Down::Delete { name, .. } => {
                self.kept.remove(name);
                self.holds.remove(name);
                self.taken.insert(name.clone());
            }
            Down::Hold { name, .. } => drop(self.holds.insert(name.clone())),
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
            let known = !self.wishes.unknown && self.check.excuses.is_decided(name);
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
            Seen::Told { conn, sidecar, frame, .. } => {
                if let Down::Ping { lease: Some(request), .. } = frame {
                    self.check.excuses.leased(at_of(sidecar), self.hosts[sidecar].started + request);
                }
                self.check.told(at_of(sidecar), conn, self.now, frame);
            }
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

    /// A leader says something to a sidecar.
    fn check_sent(&mut self, conn: u64, operator: HostId, to: usize, frame: &Down) {
        match frame {
            Down::Put(put) => {
                self.say(|_| {
                    format!("operator {operator} gives s{to} {} of epoch {}", put.name, put.epoch % 100_000_000)
                });
                self.excuse_the_lost(&put.name, to);
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
    pub(crate) fn has(&self, at: usize, name: &str) -> bool {
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
        if self.stops.contains(name) && !self.is_owed_a_lease(at) {
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
            let readable = self.streamers[at].view().is_readable() && self.hosts[streamer_of(at)].runs();
            let since = self.check.readable[at].unwrap_or(now);
            self.check.readable[at] = readable.then_some(since);
        }
        self.mind_excuses();
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

    pub(crate) fn leads(&self, operator: usize) -> bool {
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
        let excused = |lost, given| self.check.excuses.excuses(name, lost, given);
        if !self.stops.contains(name) && (excused(one, other) || excused(other, one)) {
            return;
        }
        let record = self.record(name).map_or_else(|| format!("{name}: no record"), |record| short(&record));
        self.fail(format!("s{one} and s{other} capture {name} ({record})"));
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
