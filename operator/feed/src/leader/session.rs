//! Sidecars as the leader knows them: instances, what they hold, what their streamers run, who is lost.

use std::collections::{BTreeMap, BTreeSet};

use super::step::{Conn, Effect};
use super::{Leader, Role};
use crate::digest::SetDigest;
use crate::frames::{ApiState, ConfigStatus, Down, Hello, LeaseReport, Load, Run, Up, VERSION, digest_entry};
use crate::grant::Verdict;
use crate::periods::Periods;
use crate::record::{StreamId, StreamerId};
use crate::rule::{Rule, lacks};
use crate::time::Now;

/// In ms.
const DAY: u64 = 86_400_000;

/// A sidecar that has said hello and is not admitted yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Newcomer {
    pub(super) conn: Conn,
    pub(super) streamer: StreamerId,
    pub(super) verified: bool,
    pub(super) hello: Box<Hello>,
    /// When it came, and when it was last heard.
    pub(super) since: u64,
    pub(super) heard: u64,
    /// When its streamer last asked, if it has since the sidecar started.
    pub(super) polled_at: Option<u64>,
}

impl Newcomer {
    pub(super) fn new(conn: Conn, streamer: StreamerId, verified: bool, hello: Box<Hello>, observed: u64) -> Self {
        let polled_at = hello.polled.map(|ago| observed.saturating_sub(ago));
        Self { conn, streamer, verified, hello, since: observed, heard: observed, polled_at }
    }
}

/// What a sidecar's replica has for one name, as told by its hello and by what was sent since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Have {
    pub(super) row: Option<(u64, String)>,
    pub(super) hold: Option<u64>,
}

/// What is known of one Streamer under this leader, connected or not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Session {
    pub(super) conn: Option<Conn>,
    pub(super) instance: Option<String>,
    pub(super) waiting: Vec<Newcomer>,
    /// When the sidecar, or a newcomer that waits for its name, was last heard.
    pub(super) last_heard: u64,
    /// When the instance that holds the name was last heard.
    pub(super) holder_heard: u64,
    /// It has said hello under this leader.
    pub(super) reported: bool,
    /// It has said goodbye since: its name is free.
    pub(super) left: bool,
    pub(super) program: String,
    pub(super) synced: bool,
    pub(super) runs: Option<BTreeMap<String, Run>>,
    /// When the streamer last asked anything; the hello, until it has.
    pub(super) polled_at: u64,
    /// It has asked since its sidecar started.
    pub(super) has_polled: bool,
    /// Until when it has not had the time to say how its streamer is.
    pub(super) grace_until: u64,
    pub(super) api: ApiState,
    pub(super) config: ConfigStatus,
    pub(super) load: Load,
    pub(super) foreign_host: Option<String>,
    pub(super) replica_error: Option<String>,
    /// The last word about its lease; `None`: none on this connection, or it knows no leases.
    pub(super) lease: Option<LeaseReport>,
    /// When somebody last asked it whether its streamer may go on.
    pub(super) lease_asked_at: Option<u64>,
    /// The last ping carried a lease.
    pub(super) leasing: bool,
    /// Until when a former instance under this name may be serving under a lease.
    pub(super) former_until: u64,
    /// Documents that its streamer refuses, by media name: hash and message.
    pub(super) rejected: BTreeMap<String, (String, String)>,
    pub(super) have: BTreeMap<String, Have>,
    pub(super) digest: SetDigest,
    /// Deleted there, and not yet `released`: by media name, with the epoch of the delete.
    pub(super) deleting: BTreeMap<String, u64>,
    /// Deletes that this connection has been sent, by media name.
    pub(super) asked: BTreeMap<String, u64>,
    /// Names to look at before the next mark.
    pub(super) dirty: BTreeSet<String>,
    /// Names that are on hold there, to be looked at again and again.
    pub(super) held: BTreeSet<String>,
    /// The batch that is under way, or the last one that was applied.
    pub(super) revision: u64,
    pub(super) applied: u64,
    pub(super) marked: bool,
    pub(super) next_ping: u64,
    /// Grants shown that are proven ours, by media name: serving.
    pub(super) claims: BTreeMap<String, u64>,
    /// Grants shown that cannot be verified and that are above the record: `Disputed`.
    pub(super) disputed: BTreeMap<String, u64>,
    /// Epochs it has stopped serving, where the grant is ours.
    pub(super) stopped: BTreeMap<String, u64>,
}

impl Session {
    /// The highest epoch that this sidecar proves to have been granted.
    pub(super) fn highest_epoch(&self, name: &str) -> Option<u64> {
        let deleted = self.deleting.get(name);
        [self.claims.get(name), self.stopped.get(name), deleted].into_iter().flatten().max().copied()
    }

    /// Replaces what the replica has for a name, and keeps the digest in step.
    pub(super) fn set(&mut self, name: &str, have: Have) {
        let old = self.have.remove(name).unwrap_or_default();
        for entry in [&old, &have] {
            let row = entry.row.as_ref().map(|(epoch, hash)| (*epoch, hash.as_str()));
            digest_entry(&mut self.digest, name, row, entry.hold);
        }
        if have != Have::default() {
            self.have.insert(name.to_owned(), have);
        }
    }

    /// Its streamer runs that stream, or may, and there is nothing to serve it: it is told to wait.
    pub(super) fn withholds(&self, name: &str) -> bool {
        let served = self.have.get(name).is_some_and(|have| have.row.is_some());
        !served && (self.runs.is_none() || self.captures(name))
    }

    /// The instance that holds the name was heard a moment ago, over a connection that stands.
    fn is_there(&self, observed: u64, ping: u64) -> bool {
        self.conn.is_some() && observed.saturating_sub(self.holder_heard) <= ping * 2
    }

    /// It has acknowledged everything that was sent over this connection.
    pub(super) fn has_applied_all(&self) -> bool {
        self.marked && self.applied == self.revision
    }

    pub(super) fn captures(&self, name: &str) -> bool {
        self.runs.as_ref().is_some_and(|runs| runs.get(name) == Some(&Run::Capture))
    }

    /// It has, runs or is letting go of a stream.
    pub(super) fn concerns(&self, name: &str) -> bool {
        self.have.contains_key(name) || self.deleting.contains_key(name) || self.captures(name)
    }

    /// **Gone**, the raw fact: how long the sidecar has been silent, or the streamer not alive with no API that shows
    /// it running `name`. `None`: it is there.
    pub(super) fn lost_for(&self, name: Option<&str>, silence: u64, alive: u64, observed: u64) -> Option<u64> {
        let holder_silent = self.conn.is_none() || observed.saturating_sub(self.holder_heard) > silence;
        // Nothing moves while a newcomer waits for the name of one that is heard no more.
        let succeeds = |newcomer: &Newcomer| {
            let heard = observed.saturating_sub(newcomer.heard) <= silence;
            heard && (holder_silent || self.holder_heard <= newcomer.since)
        };
        if self.waiting.iter().any(succeeds) {
            return None;
        }
        if holder_silent {
            return Some(observed.saturating_sub(self.last_heard));
        }
        if self.holder_heard < self.grace_until {
            return None;
        }
        let idle = observed.saturating_sub(self.polled_at);
        let shown = self.api == ApiState::Up && name.is_some_and(|name| self.captures(name));
        (idle > alive && !shown).then_some(idle)
    }

    /// The streamer does not poll, but its API still shows `name` running (`NotPolling`).
    /// One whose sidecar is silent shows nothing any more, even while nobody has noticed that its connection is dead.
    pub(super) fn not_polling(&self, name: &str, silence: u64, alive: u64, observed: u64) -> bool {
        let idle = observed.saturating_sub(self.polled_at);
        let heard = self.conn.is_some() && observed.saturating_sub(self.holder_heard) <= silence;
        heard && idle > alive && self.api == ApiState::Up && self.captures(name)
    }
}

impl Leader {
    /// The session of a Streamer; one that was never heard counts as lost since we began to lead.
    pub(super) fn session_of(&mut self, streamer: &StreamerId) -> &mut Session {
        let last_heard = self.led_since;
        self.sessions.entry(streamer.clone()).or_insert_with(|| Session {
            last_heard,
            polled_at: last_heard,
            ..Session::default()
        })
    }

    pub(super) fn connected(&mut self, newcomer: Newcomer, now: Now, effects: &mut Vec<Effect>) {
        let conn = newcomer.conn;
        match self.role {
            Role::Standby => {
                effects.push(Effect::Send { conn, frame: Down::NotLeader { leader: self.hint.clone() } });
                effects.push(Effect::Close { conn });
                return;
            }
            // **Fence**: no sidecar is accepted before our term is in every slice.
            Role::Taking => return self.early.push(newcomer),
            Role::Leading => {}
        }
        // **Term**: who has listened to a higher one will not listen to ours.
        if let Some((term, seal)) = &newcomer.hello.term
            && *term > self.term
            && !lacks(Rule::TermOfHello)
            && self.ring.verify_term(seal, *term) == Verdict::Ours
        {
            self.highest_term = self.highest_term.max(*term);
            let why =
                format!("the sidecar of {} has listened to term {term}, ours is {}", newcomer.streamer, self.term);
            return self.step_down(&why, effects);
        }
        self.conns.insert(conn, newcomer.streamer.clone());
        let observed = self.observed(now);
        let Periods { period, ping, .. } = self.periods;
        let session = self.session_of(&newcomer.streamer);
        let same = session.instance.as_ref() == Some(&newcomer.hello.instance);
        let silent = observed.saturating_sub(session.holder_heard) >= period;
        let free = session.instance.is_none() || session.left || silent;
        // A copy of a data directory has its id too: for as long as the first is heard, the second is not the same.
        let again = same && !session.is_there(observed, ping);
        if again || free || newcomer.verified {
            if let Some(old) = session.conn.take() {
                let frame = if same { None } else { Some(Down::Superseded {}) };
                effects.extend(frame.map(|frame| Effect::Send { conn: old, frame }));
                effects.push(Effect::Close { conn: old });
                self.conns.remove(&old);
            }
            self.admit(newcomer, now, effects);
        } else {
            // Its waiting counts as contact, so that nothing moves meanwhile.
            session.last_heard = observed;
            let again = |other: &Newcomer| other.hello.instance == newcomer.hello.instance;
            let replaced: Vec<Conn> =
                session.waiting.extract_if(.., |other| again(other)).map(|old| old.conn).collect();
            session.waiting.push(newcomer);
            effects.push(Effect::Send { conn, frame: Down::Wait {} });
            self.turn_away(replaced, effects);
        }
    }

    fn admit(&mut self, newcomer: Newcomer, now: Now, effects: &mut Vec<Effect>) {
        self.news = true;
        self.rows_changed = true;
        let Newcomer { conn, streamer, verified, hello, polled_at, .. } = newcomer;
        let former_until = self.former_until(&streamer, &hello.instance, verified);
        let observed = self.observed(now);
        let verdicts: Vec<_> = hello
            .held
            .iter()
            .chain(&hello.stopped)
            .map(|held| self.ring.verify_grant(&held.grant, &streamer, &held.name, held.epoch))
            .collect();
        let (of_held, of_stopped) = verdicts.split_at(hello.held.len());
        let above = |name: &String, epoch: u64| {
            let stream = StreamId { namespace: streamer.namespace.clone(), name: name.clone() };
            self.record(&stream).is_none_or(|record| record.epoch < epoch)
        };
        let disputed = hello
            .held
            .iter()
            .zip(of_held)
            .filter(|(held, verdict)| **verdict != Verdict::Ours && above(&held.name, held.epoch));
        let ours = |(held, verdict): (&crate::frames::Held, &Verdict)| {
            (*verdict == Verdict::Ours).then(|| (held.name.clone(), held.epoch))
        };
        // No grant proves the epoch of a delete; one far in the future is not believed, or it would use up all epochs.
        let believable = now.wall.saturating_add(DAY);
        let ours_no_more = |(held, verdict): (&crate::frames::Held, &Verdict)| {
            let deleted = held.deleted.filter(|deleted| *deleted <= believable).unwrap_or(0);
            (*verdict == Verdict::Ours).then(|| (held.name.clone(), held.epoch.max(deleted)))
        };
        // While a sidecar was away nobody could hear its streamer, which has time for a poll now; but one that starts again
        // and again must not make a dead one look alive.
        let former = self.sessions.get(&streamer).filter(|session| session.reported && !session.left);
        let grace_until = match former {
            // Its own first reading may show that the streamer runs.
            Some(former) if !former.has_polled && hello.api != ApiState::Absent && hello.runs.is_none() => {
                former.grace_until.max(observed + self.periods.ping * 2)
            }
            Some(former) if !former.has_polled => former.grace_until,
            _ => observed + self.periods.silence,
        };
        let has_polled = polled_at.is_some();
        let polled_at = polled_at.or(former.map(|former| former.polled_at)).unwrap_or(observed);
        let mut fresh = Session {
            conn: Some(conn),
            instance: Some(hello.instance.clone()),
            last_heard: observed,
            holder_heard: observed,
            reported: true,
            program: hello.program.clone(),
            synced: hello.synced,
            runs: hello.runs.clone(),
            polled_at,
            has_polled,
            grace_until,
            api: hello.api,
            disputed: disputed.map(|(held, _)| (held.name.clone(), held.epoch)).collect(),
            claims: hello.held.iter().zip(of_held).filter_map(ours).collect(),
            stopped: hello.stopped.iter().zip(of_stopped).filter_map(ours_no_more).collect(),
            next_ping: observed,
            former_until,
            ..Session::default()
        };
        for held in &hello.held {
            fresh.set(&held.name, Have { row: Some((held.epoch, held.hash.clone())), hold: None });
        }
        for (name, epoch) in &hello.holds {
            let row = fresh.have.get(name).and_then(|have| have.row.clone());
            fresh.set(name, Have { row, hold: Some(*epoch) });
        }
        let named: BTreeSet<String> = self
            .records()
            .filter(|(id, record)| id.namespace == streamer.namespace && record.streamer == streamer.name)
            .map(|(id, _)| id.name)
            .collect();
        fresh.dirty = fresh.have.keys().cloned().chain(named).collect();
        fresh.dirty.extend(fresh.runs.iter().flat_map(|runs| runs.keys().cloned()));
        let session = self.session_of(&streamer);
        fresh.revision = session.revision;
        fresh.waiting = std::mem::take(&mut session.waiting);
        // A delete that was never answered still waits for its answer, or a stale report would look like a clear one.
        fresh.deleting = std::mem::take(&mut session.deleting);
        fresh.dirty.extend(fresh.deleting.keys().cloned());
        *session = fresh;
        let welcome =
            Down::Welcome { version: VERSION, term: self.term, seal: self.ring.term(self.term), periods: self.periods };
        effects.push(Effect::Send { conn, frame: welcome });
    }

    /// A frame of an admitted sidecar.
    pub(super) fn frame(&mut self, conn: Conn, frame: Up, now: Now) {
        let observed = self.observed(now);
        let Some(streamer) = self.conns.get(&conn).cloned() else {
            return;
        };
        let ping = self.periods.ping;
        let Some(session) = self.sessions.get_mut(&streamer) else {
            return;
        };
        let is_there = session.is_there(observed, ping);
        session.last_heard = observed;
        if session.conn != Some(conn) {
            if let Some(newcomer) = session.waiting.iter_mut().find(|newcomer| newcomer.conn == conn) {
                newcomer.heard = observed;
                if let Up::Alive { polled: Some(ago), .. } = frame {
                    let at = observed.saturating_sub(ago);
                    newcomer.polled_at = Some(at);
                    // Should it go before its turn comes, the streamer has been heard all the same.
                    if !is_there {
                        session.polled_at = session.polled_at.max(at);
                    }
                }
            }
            return;
        }
        session.holder_heard = observed;
        match frame {
            Up::Hello(_) | Up::Unknown => {}
            Up::Alive { polled, api, config, load, foreign_host, replica_error, lease } => {
                if let Some(polled) = polled {
                    session.polled_at = observed.saturating_sub(polled);
                    session.has_polled = true;
                }
                session.api = api;
                session.config = config;
                session.load = load;
                session.foreign_host = foreign_host;
                session.replica_error = replica_error;
                session.lease = lease;
                session.lease_asked_at = lease.and_then(|lease| Some(observed.saturating_sub(lease.asked?)));
            }
            Up::Runs { set, gone } => {
                let runs = session.runs.get_or_insert_default();
                runs.extend(set);
                for name in gone {
                    runs.remove(&name);
                }
            }
            Up::Applied { revision } => {
                session.applied = session.applied.max(revision);
                session.synced = true;
                self.policies_changed = true;
            }
            Up::Released { name, epoch } => self.has_released(&streamer, name, epoch),
            Up::Rejected { name, hash, message } => {
                match message {
                    Some(message) => session.rejected.insert(name, (hash, message)),
                    None => session.rejected.remove(&name),
                };
            }
            Up::Goodbye {} => session.left = true,
        }
    }

    /// **Released** names the epoch: only that of the record counts.
    fn has_released(&mut self, streamer: &StreamerId, name: String, epoch: u64) {
        if let Some(session) = self.sessions.get_mut(streamer)
            && session.deleting.get(&name).is_some_and(|deleted| *deleted <= epoch)
        {
            session.deleting.remove(&name);
        }
        // What it has let go of it claims no more: **Final**.
        if let Some(session) = self.sessions.get_mut(streamer)
            && session.claims.get(&name).is_some_and(|claim| *claim <= epoch)
        {
            session.claims.remove(&name);
            session.stopped.insert(name.clone(), epoch);
        }
        let stream = StreamId { namespace: streamer.namespace.clone(), name };
        if self
            .record(&stream)
            .is_some_and(|record| record.streamer == streamer.name && (record.epoch == epoch || lacks(Rule::Released)))
        {
            let named =
                if lacks(Rule::Released) { self.record(&stream).map_or(epoch, |record| record.epoch) } else { epoch };
            self.released.insert(stream, named);
        }
    }

    pub(super) fn disconnected(&mut self, conn: Conn) {
        self.early.retain(|newcomer| newcomer.conn != conn);
        let Some(streamer) = self.conns.remove(&conn) else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(&streamer) {
            session.waiting.retain(|newcomer| newcomer.conn != conn);
            if session.conn == Some(conn) {
                session.conn = None;
            }
        }
    }

    /// Admits newcomers whose name has become free: its holder said goodbye, or has been silent for one period.
    pub(super) fn admit_waiting(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let observed = self.observed(now);
        let Periods { period, silence, ping, .. } = self.periods;
        let (mut free, mut gone) = (Vec::new(), Vec::new());
        for session in self.sessions.values_mut().filter(|session| !session.waiting.is_empty()) {
            let silent = observed.saturating_sub(session.holder_heard) >= period;
            // One that has died meanwhile would only make the next one wait as long again.
            let dead = |newcomer: &Newcomer| observed.saturating_sub(newcomer.heard) > silence;
            gone.extend(session.waiting.extract_if(.., |newcomer| dead(newcomer)).map(|newcomer| newcomer.conn));
            // The same one again, of whose old connection the end came late; a copy has waited for longer.
            let again = |newcomer: &Newcomer| {
                let late = observed.saturating_sub(newcomer.since) <= ping * 3;
                late && !session.is_there(observed, ping) && session.instance.as_ref() == Some(&newcomer.hello.instance)
            };
            let free_for = |newcomer: &Newcomer| session.left || silent || again(newcomer);
            if session.waiting.first().is_some_and(free_for) {
                free.push(session.waiting.remove(0));
            }
        }
        self.turn_away(gone, effects);
        for newcomer in free {
            self.connected(newcomer, now, effects);
        }
    }

    /// Ends connections that waited for a name.
    fn turn_away(&mut self, conns: Vec<Conn>, effects: &mut Vec<Effect>) {
        for conn in conns {
            self.conns.remove(&conn);
            effects.push(Effect::Close { conn });
        }
    }
}
