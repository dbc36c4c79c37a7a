//! What excuses two captures, or a stop: who was truly out of reach, for which of its streams, and for how long after.
//! Each bound is made of the system's Periods and of what the network and the feed's client take.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::Storage;
use crate::network::{AGAIN, HOP, HostId};
use crate::users::NAMES;
use crate::world::{OPERATORS, PERIODS, STREAMERS, World, sidecar_of, streamer_of};

/// The longest that the feed's client waits between two rounds over all operators.
const PAUSE: u64 = 2_000;
/// Processes run in steps of so many ms: nothing is known more exactly.
const ROUNDED: u64 = 100;
/// A leader has its Placements, has heard everybody that is there, and has written what that corrects: its longest wait, the time that a
/// request to the API may take, and a little.
const RULES: u64 = PERIODS.period + PERIODS.lease / 2 + ROUNDED;
/// A sidecar that nothing is in the way of is welcomed by the leader: it leaves a silent connection, asks the other operator twice, waits
/// once, and asks the leader.
const CONNECTS: u64 = PERIODS.silence + 2 * (PERIODS.silence + 2 * PERIODS.ping) + PAUSE + AGAIN;
/// What was told on a connection that stands is carried out: a way, a poll, and the two requests that it may consist of.
const LETS_GO: u64 = HOP + PERIODS.poll + 5 * ROUNDED;
/// Who is cut off may still be given something until that is noticed: an answer that was under way comes that late too.
const NOTICED: u64 = PERIODS.alive + HOP;
/// A connection that stands renews a lease so often: three pings and a way.
const RENEWS: u64 = PERIODS.ping * 3 + HOP;

/// What is remembered of faults.
#[derive(Debug, Default)]
pub(crate) struct Excuses {
    /// Stream, a streamer that was lost when the stream was given away, and whom it was given to.
    twice: BTreeSet<(String, usize, usize)>,
    /// Since when each has what it has: serves or runs it, or would after a restart.
    has: BTreeMap<(usize, String), u64>,
    /// Who rules, and since when.
    ruler: Option<(String, u64)>,
    /// Since when nothing has stood between each streamer and who rules, connected or not.
    reachable: [Option<u64>; STREAMERS],
    /// Since when they have been connected, too.
    healthy: [Option<u64>; STREAMERS],
    /// Since when each streamer polls a sidecar that runs.
    well: [Option<u64>; STREAMERS],
    /// Until when each must be served what stops when it is cut off.
    owed: [Option<u64>; STREAMERS],
    /// When the API was restored, until a leader that came since has corrected its records.
    restored: Option<u64>,
    /// Records that went back then, and that nobody has written since.
    undecided: BTreeSet<String>,
    /// When each was decided again.
    decided: BTreeMap<String, u64>,
    /// Sidecars whose disks were lost, and which have not been healthy since.
    refilling: [bool; STREAMERS],
}

impl Excuses {
    pub(crate) fn excuses(&self, name: &str, lost: usize, given: usize) -> bool {
        self.twice.contains(&(name.to_owned(), lost, given))
    }

    /// What the record of a stream says counts.
    pub(crate) fn is_decided(&self, name: &str) -> bool {
        !self.undecided.contains(name)
    }

    /// A sidecar starts, and knows of no lease.
    pub(crate) fn starts(&mut self, at: usize) {
        self.owed[at] = None;
    }

    /// A sidecar is told of a lease that counts from a request of its streamer.
    pub(crate) fn leased(&mut self, at: usize, request: u64) {
        self.owed[at] = self.owed[at].max(Some(request + PERIODS.stream_lease));
    }

    pub(crate) fn disk_is_lost(&mut self, at: usize) {
        self.refilling[at] = true;
    }
}

impl World {
    /// The API is put back to a copy.
    pub(crate) fn is_restored(&mut self, before: &Storage) {
        let now = self.now;
        let differs = |name: &&str| before.record(name) != self.api.state().storage.record(name);
        let back: Vec<String> = NAMES.iter().filter(|name| differs(name)).map(|name| (*name).to_owned()).collect();
        self.check.excuses.restored = Some(now);
        self.check.excuses.undecided.extend(back);
    }

    /// A record was written: it counts.
    pub(crate) fn is_written(&mut self, name: &str) {
        if self.check.excuses.undecided.remove(name) {
            self.check.excuses.decided.insert(name.to_owned(), self.now);
        }
    }

    /// Nothing is lost that may be needed to tell which records are old.
    pub(crate) fn may_be_restored(&self) -> bool {
        !self.check.excuses.refilling.contains(&true)
    }

    /// No records are old that what is on a disk may be needed to tell.
    pub(crate) fn may_lose_a_disk(&self) -> bool {
        self.check.excuses.restored.is_none()
    }

    /// A stream is given to somebody: who had it, and was lost by then for as long as it takes, is excused.
    pub(crate) fn excuse_the_lost(&mut self, name: &str, to: usize) {
        let bound = self.wishes.of(name).map(|(_, wish)| wish.after).min().unwrap_or(PERIODS.alive);
        let others: Vec<usize> = (0..STREAMERS).filter(|at| *at != to && self.has(*at, name)).collect();
        for lost in others {
            let lost_for = self.check.lost_for(lost, name, self.now);
            let since = self.check.excuses.has.get(&(lost, name.to_owned())).copied().unwrap_or(self.now);
            let had = since <= self.now.saturating_sub(lost_for) + NOTICED;
            self.say(|_| format!("s{lost} has been lost for {lost_for}, the bound is {bound}; it had {name}: {had}"));
            if had && lost_for + ROUNDED >= bound {
                self.check.excuses.twice.insert((name.to_owned(), lost, to));
            }
        }
    }

    /// Without a leader an old disk is all that a sidecar knows.
    pub(crate) fn excuse_the_revived(&mut self, at: usize, names: &[String]) {
        for name in names.iter().filter(|name| self.check.revived.contains(&((*name).clone(), at))) {
            let others = (0..STREAMERS).filter(|other| *other != at);
            self.check.excuses.twice.extend(others.map(|other| (name.clone(), at, other)));
        }
    }

    /// After every step.
    pub(crate) fn mind_excuses(&mut self) {
        let now = self.now;
        let since = |known: Option<u64>, holds: bool| if holds { known.or(Some(now)) } else { None };
        self.mind_ruler();
        for at in 0..STREAMERS {
            let answers = !self.withholds(at);
            let healthy = self.is_healthy(at) && answers;
            let reachable = self.is_reachable(at) && answers;
            let well = self.serves(at);
            let excuses = &mut self.check.excuses;
            excuses.healthy[at] = since(excuses.healthy[at], healthy);
            excuses.reachable[at] = since(excuses.reachable[at], reachable);
            excuses.well[at] = since(excuses.well[at], well);
            excuses.refilling[at] &= excuses.healthy[at].is_none_or(|since| now < since + LETS_GO);
            for name in NAMES {
                let (key, has) = ((at, name.to_owned()), self.has(at, name));
                let known = self.check.excuses.has.remove(&key);
                self.check.excuses.has.extend(since(known, has).map(|since| (key, since)));
            }
        }
        self.mind_leases();
        self.mind_restoration();
        let mut twice = std::mem::take(&mut self.check.excuses.twice);
        twice.retain(|(name, lost, _)| self.has(*lost, name) && !self.is_healed(*lost, name));
        self.check.excuses.twice = twice;
    }

    /// Who is connected has a lease for ever, and gets one where a leader has heard everybody.
    fn mind_leases(&mut self) {
        let now = self.now;
        let healthy_for =
            |world: &Self, at: usize, ms| world.check.excuses.healthy[at].is_some_and(|since| now >= since + ms);
        let decided = self.check.excuses.restored.is_none() && self.has_ruled_for(RULES);
        let heard = decided && (0..STREAMERS).all(|at| healthy_for(self, at, LETS_GO + RENEWS));
        for at in 0..STREAMERS {
            let runs = self.check.excuses.owed[at].is_some_and(|until| now < until);
            // Where nobody vouches for instances, what another one may have had under the last leader ends first.
            let gets = heard && self.verified;
            if healthy_for(self, at, RENEWS) && (runs || gets) {
                // Of a request that was, then, a poll and a way ago.
                self.check.excuses.leased(at, now.saturating_sub(RENEWS + PERIODS.poll));
            }
        }
    }

    /// Who holds the Lease and can be relied on, and since when.
    fn mind_ruler(&mut self) {
        let ruler = self.ruler().map(|operator| self.hosts[operator].identity());
        let known = self.check.excuses.ruler.take();
        self.check.excuses.ruler =
            ruler.map(|ruler| known.filter(|(name, _)| *name == ruler).unwrap_or((ruler, self.now)));
    }

    fn ruler(&self) -> Option<HostId> {
        let api = self.api.state();
        let holder = api.lease_holder()?;
        let holds = |operator: &usize| self.hosts[*operator].runs() && *holder == self.hosts[*operator].identity();
        let answered =
            |operator: &usize| self.now >= api.down_until.max(api.flaky_until).max(api.cut_off_until[*operator]);
        (0..OPERATORS).find(|operator| holds(operator) && answered(operator))
    }

    /// For how long who rules has had to know everything there is to know.
    fn has_ruled_for(&self, ms: u64) -> bool {
        self.check.excuses.ruler.as_ref().is_some_and(|(_, since)| self.now >= since + ms)
    }

    /// After a restore the records count again.
    fn mind_restoration(&mut self) {
        let Some(restored) = self.check.excuses.restored else {
            return;
        };
        let came = self.ruler().is_some_and(|operator| self.hosts[operator].started > restored);
        if came && self.has_ruled_for(RULES) {
            self.check.excuses.restored = None;
            for name in std::mem::take(&mut self.check.excuses.undecided) {
                self.check.excuses.decided.insert(name, self.now);
            }
            self.truth_changed();
        }
    }

    /// A streamer has been in reach for so long that it captures nothing any more that was given away meanwhile.
    fn is_healed(&self, at: usize, name: &str) -> bool {
        let excuses = &self.check.excuses;
        let connected = excuses.reachable[at].map(|since| since + self.connects(at));
        let connected = connected.into_iter().chain(excuses.healthy[at]).min();
        let decided = excuses.is_decided(name).then(|| excuses.decided.get(name).copied().unwrap_or(0));
        let ruled = excuses.ruler.as_ref().map(|(_, since)| since + RULES);
        match (connected, decided, ruled) {
            (Some(connected), Some(decided), Some(ruled)) => self.now >= connected.max(decided).max(ruled) + LETS_GO,
            _ => false,
        }
    }

    /// Another instance that nobody vouches for waits for its name.
    fn connects(&self, at: usize) -> u64 {
        let waits = !self.verified && self.instances[at] > 1;
        CONNECTS + if waits { PERIODS.period } else { 0 }
    }

    /// It may serve what stops when it is cut off: nobody can say that no leader has heard of its streamer for so long.
    pub(crate) fn is_owed_a_lease(&self, at: usize) -> bool {
        self.check.excuses.owed[at].is_some_and(|until| self.now + ROUNDED < until)
    }

    /// A supervisor kills a streamer: only one that is not served, or is served nothing.
    pub(crate) fn check_killed(&mut self, at: usize) {
        let well = self.check.excuses.well[at].is_some_and(|since| self.now >= since + PERIODS.alive + PERIODS.kill);
        if well && self.is_owed_a_lease(at) {
            self.fail(format!("s{at} is killed, although it polls and has a lease"));
        }
    }

    /// A streamer polls a sidecar that runs.
    fn serves(&self, at: usize) -> bool {
        self.hosts[sidecar_of(at)].runs() && self.hosts[streamer_of(at)].runs() && self.streamers[at].view().polls
    }

    /// Its streamer asks for something that it is not given now, and keeps everything that it asks for with it.
    fn withholds(&self, at: usize) -> bool {
        let told = &self.check.told[at];
        told.holds.difference(&told.rows).any(|name| self.streamers[at].view().has(name))
    }

    /// Nothing stands between a streamer and a leader that it is connected to.
    pub(crate) fn is_healthy(&self, at: usize) -> bool {
        let Some(conn) = self.check.told[at].welcomed.filter(|conn| self.network.stands(*conn)) else {
            return false;
        };
        let sidecar = sidecar_of(at);
        let Some(operator) = (0..OPERATORS).find(|operator| self.network.is_between(conn, sidecar, *operator)) else {
            return false;
        };
        self.leads(operator) && self.can_be_reached(at, operator)
    }

    /// Nothing stands between a streamer and who rules.
    fn is_reachable(&self, at: usize) -> bool {
        self.ruler().is_some_and(|operator| self.can_be_reached(at, operator))
    }

    fn can_be_reached(&self, at: usize, operator: HostId) -> bool {
        let sidecar = sidecar_of(at);
        let reached = !self.network.is_blocked(sidecar, operator) && !self.network.is_blocked(operator, sidecar);
        let api = {
            let api = self.api.state();
            self.now >= api.down_until.max(api.flaky_until).max(api.cut_off_until[operator])
        };
        // What cannot be given is held, and a request that names it among others gets 503 for them all.
        let given = self.wishes.streams.values().all(|wish| wish.secret);
        reached && api && self.serves(at) && given
    }
}
