//! What must hold in every state, and at rest.

use weir_feed::frames::{Down, Partition};
use weir_feed::record::{Phase, Record};

use crate::clock::UNIT;
use crate::world::{AFTER, World};

/// Everybody who can be reached acts upon what has stood for so long: a lost answer, a silent connection, and a unit.
const KNOWN: u64 = 6 * UNIT;

/// So long after a process can be reached again it has found a leader: a silent connection, and two units.
const FOUND: u64 = 5 * UNIT;

/// So long after a streamer can be reached again it captures nothing any more that it lost meanwhile: what a new leader
/// waits, what an old one's silence takes, and a release.
const HEALED: u64 = 16 * UNIT;

/// What is left of a lease, at least, when nobody leads any more: a poll and two pings have passed since the request that
/// it counts from, and the next leader has to be found.
const LEASED: u64 = 6 * UNIT;

/// A leader counts from the last it heard, or from when it began to lead; this much less may have passed since.
const SLACK: u64 = 2 * UNIT;

/// What the invariants remember.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Check {
    pub(crate) failure: Option<String>,
    /// The record with the greatest epoch that was ever written, and since when it stands.
    truth: Option<Record>,
    truth_since: u64,
    /// Everybody whom it concerns knows that it is this streamer's.
    known: [bool; 2],
    /// Since when each streamer has been within reach of a leader that has the Lease.
    reachable_since: [Option<u64>; 2],
    /// Since when it has not been, but for moments too short to be found again.
    lost_since: [Option<u64>; 2],
    /// When an operator that leads last heard of it, or nobody led.
    heard_of: [u64; 2],
    /// Under `StopCapturing`: since when nobody has led, and since when somebody does again who may not be found yet.
    unled: Option<(u64, Option<u64>)>,
    /// The write that lands now has not been given up for long.
    pub(crate) forgives: bool,
    /// It was truly unreachable when its stream moved.
    excused: [bool; 2],
}

impl World {
    fn fail(&mut self, why: String) {
        self.say(|| format!("VIOLATED: {why}"));
        self.check.failure.get_or_insert(why);
    }

    fn lasts(&self, since: Option<u64>, at_least: u64) -> bool {
        since.is_some_and(|since| self.mono() >= since + at_least)
    }

    /// Whether the stream is `at`'s, by what was last written and what users want.
    fn is_holder(&self, at: usize) -> bool {
        let holds = |record: &Record| record.phase == Phase::Active && record.streamer == format!("s{at}");
        self.api.stored.wishes.wanted() && self.check.truth.as_ref().is_some_and(holds)
    }

    /// Whether a streamer is truly lost: it cannot be reached, or not for long enough to have been found again, and has
    /// not been heard of for about as long as a move from it takes.
    fn is_lost(&self, at: usize) -> bool {
        self.check.lost_since[at].is_some() && self.lasts(Some(self.check.heard_of[at]), AFTER - SLACK)
    }

    /// Whether an operator hears a sidecar, and this one its streamer.
    fn is_known(&self, at: usize, operator: usize) -> bool {
        let link = self.sidecars[at].link;
        let connects = |c: &crate::network::Connection| Some(c.id) == link && c.operator == operator;
        // It has polled since, and its sidecar has said so.
        self.lasts(self.check.reachable_since[at], 2 * UNIT)
            && self.operators[operator].leads(self.mono())
            && self.network.connections.iter().any(connects)
            && self.sidecars[at].holder.is_connected()
            && !self.network.is_cut(at, operator)
            && self.sidecars[at].runs()
            && self.streamers[at].up
    }

    /// A record was written.
    pub(crate) fn record_written(&mut self) {
        let new = self.api.stored.record().cloned();
        self.say(|| format!("written: {}", new.as_ref().map_or_else(|| "no record".into(), crate::story::record)));
        let holder = |record: &Record| usize::from(record.streamer == "s1");
        let to = new.as_ref().map_or("nobody", |new| &new.streamer);
        if let Some(old) = &self.check.truth
            && old.streamer != to
        {
            let (from, in_order) = (holder(old), old.phase == Phase::Releasing);
            self.check.excused[from] |= self.is_lost(from);
            let wrong = self.streamers[from].captures() && self.check.known[from] && !self.is_lost(from);
            if wrong && !in_order && !self.check.forgives {
                self.fail(format!("the stream of s{from}, which captures it and is not gone, is given to {to}"));
            }
        }
        let newer = new.as_ref().is_none_or(|new| self.check.truth.as_ref().is_none_or(|old| old.epoch < new.epoch));
        if newer {
            self.check.truth = new;
            self.truth_changed();
        }
    }

    /// Records or wishes have changed: what holders are to do is known to nobody yet.
    pub(crate) fn truth_changed(&mut self) {
        self.check.truth_since = self.mono();
        self.check.known = [false; 2];
    }

    /// An operator says something to a sidecar.
    pub(crate) fn frame_sent(&mut self, operator: usize, conn: u64, frame: &Down) {
        let Some(to) = self.network.connections.iter().find(|c| c.id == conn).map(|c| c.sidecar) else {
            return;
        };
        match frame {
            Down::Put(_) => {
                self.say(|| format!("operator {operator} gives it to s{to}"));
                let other = 1 - to;
                if !self.sidecars[to].has_row() && self.is_known(other, operator) {
                    self.check.excused[other] = false;
                }
            }
            Down::Delete { .. } => {
                self.say(|| format!("operator {operator} takes it from s{to}"));
                if self.sidecars[to].has_row() && self.check.known[to] {
                    self.fail(format!("s{to} is told to let go of a stream that is its own"));
                }
            }
            Down::Hold { .. } => self.say(|| format!("operator {operator} holds it at s{to}")),
            _ => {}
        }
    }

    /// A streamer stopped the stream because an answer left it out.
    pub(crate) fn was_stopped(&mut self, at: usize) {
        // One that stops when it is cut off does so.
        let means_to = self.partition == Partition::StopCapturing
            && (self.check.lost_since[at].is_some() || self.was_unled_for(LEASED));
        if self.check.known[at] && !means_to {
            self.fail(format!("s{at} stops a stream that is its own, for an answer of one who does not know"));
        }
    }

    fn was_unled_for(&self, units: u64) -> bool {
        self.check.unled.is_some_and(|(since, until)| until.unwrap_or(self.mono()) >= since + units)
    }

    fn look_for_a_leader(&mut self) {
        let mono = self.mono();
        let led = (0..2).any(|operator| self.operators[operator].leads(mono));
        self.check.unled = match self.check.unled {
            None if led => None,
            Some((_, Some(until))) if led && mono >= until + FOUND => None,
            Some((since, until)) if led => Some((since, Some(until.unwrap_or(mono)))),
            unled => Some((unled.map_or(mono, |(since, _)| since), None)),
        };
    }

    /// After every phase.
    pub(crate) fn check_everything(&mut self) {
        for at in 0..2 {
            self.look_for(at);
        }
        if self.partition == Partition::StopCapturing {
            self.look_for_a_leader();
        }
        self.check_captures();
    }

    /// Whenever a streamer begins to capture.
    pub(crate) fn check_captures(&mut self) {
        if self.streamers[0].captures() && self.streamers[1].captures() {
            let excused = self.partition == Partition::KeepCapturing && self.check.excused != [false, false];
            if !excused {
                self.fail("s0 and s1 both capture the stream".to_owned());
            }
        }
    }

    fn look_for(&mut self, at: usize) {
        let mono = self.mono();
        let led = (0..2).any(|operator| self.operators[operator].leads(mono));
        if !led || (0..2).any(|operator| self.is_known(at, operator)) {
            self.check.heard_of[at] = mono;
        }
        let leader = (0..2).find(|operator| self.operators[*operator].leads(mono));
        let cut = leader.is_some_and(|leader| self.network.is_cut(at, leader));
        // A lease goes on only while somebody leads.
        let waits = self.partition == Partition::StopCapturing && !led && self.check.lost_since[at].is_some();
        if !self.sidecars[at].runs() || !self.streamers[at].up || cut || waits {
            self.check.reachable_since[at] = None;
            self.check.lost_since[at].get_or_insert(mono);
        } else {
            self.check.reachable_since[at].get_or_insert(mono);
            if self.lasts(self.check.reachable_since[at], FOUND) {
                self.check.lost_since[at] = None;
            }
        }
        let stands = self.lasts(Some(self.check.truth_since), KNOWN);
        self.check.known[at] |= stands
            && self.lasts(self.check.reachable_since[at], KNOWN)
            && self.is_holder(at)
            && self.streamers[at].running;
        let healed = self.lasts(self.check.reachable_since[at], HEALED);
        if healed || (!self.streamers[at].running && !self.sidecars[at].has_row()) {
            self.check.excused[at] = false;
        }
    }

    /// What is not yet as it should be once everything is quiet.
    pub(crate) fn unrest(&self) -> Option<String> {
        let mono = self.mono();
        let Some(leader) = (0..2).find(|at| self.operators[*at].leads(mono)) else {
            return Some("nobody leads".to_owned());
        };
        if !self.operators[leader].leader.is_settled() {
            return Some(format!("operator {leader} still waits for sidecars"));
        }
        for at in 0..2 {
            if !self.sidecars[at].holder.is_connected() || !self.streamers[at].up {
                return Some(format!("s{at} has no leader"));
            }
            if !self.sidecars[at].holder.rows().holds().is_empty() {
                return Some(format!("s{at} has the stream on hold"));
            }
        }
        let running = self.streamers.map(crate::streamer::Streamer::captures);
        let wishes = self.api.stored.wishes;
        match self.api.stored.record() {
            None if wishes.wanted() => Some("the stream is wanted and has no record".to_owned()),
            None if running != [false, false] => Some(format!("nobody wants the stream, and captured is {running:?}")),
            None => None,
            Some(record) => {
                let unfinished = record.phase != Phase::Active || record.previous.is_some() || !wishes.wanted();
                let drained = wishes.drained.is_some_and(|at| record.streamer == format!("s{at}"));
                let rightly = running == [record.streamer == "s0", record.streamer == "s1"];
                let what = || format!("the record says \"{}\"", crate::story::record(record));
                if unfinished || drained {
                    return Some(what());
                }
                (!rightly).then(|| format!("{}, and captured is {running:?}", what()))
            }
        }
    }
}
