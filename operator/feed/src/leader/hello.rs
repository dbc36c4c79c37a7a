//! Hellos: who is admitted under a Streamer's name, who waits for it, and what of a hello counts.

use std::collections::BTreeMap;

use super::session::{Have, Session};
use super::step::{Conn, Effect};
use super::{Leader, Role};
use crate::frames::{ApiState, Down, Held, Hello, VERSION};
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

/// What the grants of a hello are worth, each by media name.
struct Worth {
    /// Serving, proven ours.
    claims: BTreeMap<String, u64>,
    /// Served no more, where the grant is ours.
    stopped: BTreeMap<String, u64>,
    /// Serving, above the record, and not to be verified.
    disputed: BTreeMap<String, u64>,
}

impl Leader {
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
        let (conn, streamer) = (newcomer.conn, newcomer.streamer.clone());
        // Who speaks no version of ours does not get here.
        let version = newcomer.hello.version.min(VERSION);
        let mut fresh = self.fresh(newcomer, now);
        let named = self
            .records()
            .filter(|(id, record)| id.namespace == streamer.namespace && record.streamer == streamer.name)
            .map(|(id, _)| id.name);
        fresh.dirty.extend(named);
        fresh.dirty.extend(fresh.have.keys().cloned());
        fresh.dirty.extend(fresh.runs.iter().flat_map(|runs| runs.keys().cloned()));
        let session = self.session_of(&streamer);
        fresh.revision = session.revision;
        fresh.waiting = std::mem::take(&mut session.waiting);
        // A delete that was never answered still waits for its answer, or a stale report would look like a clear one.
        fresh.deleting = std::mem::take(&mut session.deleting);
        fresh.dirty.extend(fresh.deleting.keys().cloned());
        *session = fresh;
        let welcome =
            Down::Welcome { version, term: self.term, seal: self.ring.term(self.term), periods: self.periods };
        effects.push(Effect::Send { conn, frame: welcome });
    }

    /// The session that a hello begins, but for what the one before it leaves behind.
    fn fresh(&self, newcomer: Newcomer, now: Now) -> Session {
        let Newcomer { conn, streamer, verified, hello, polled_at, .. } = newcomer;
        let observed = self.observed(now);
        let Worth { claims, stopped, disputed } = self.worth(&streamer, &hello, now);
        let former = self.sessions.get(&streamer).filter(|session| session.reported && !session.left);
        let mut fresh = Session {
            conn: Some(conn),
            last_heard: observed,
            holder_heard: observed,
            reported: true,
            synced: hello.synced,
            polled_at: polled_at.or(former.map(|former| former.polled_at)).unwrap_or(observed),
            has_polled: polled_at.is_some(),
            grace_until: self.grace(former, &hello, observed),
            former_until: self.former_until(&streamer, &hello.instance, verified),
            verified,
            ended: self.has_ended(&streamer, &hello.instance, verified),
            api: hello.api,
            claims,
            stopped,
            disputed,
            next_ping: observed,
            ..Session::default()
        };
        for held in &hello.held {
            fresh.set(&held.name, Have { row: Some((held.epoch, held.hash.clone())), hold: None });
        }
        for (name, epoch) in &hello.holds {
            let row = fresh.have.get(name).and_then(|have| have.row.clone());
            fresh.set(name, Have { row, hold: Some(*epoch) });
        }
        let Hello { instance, program, runs, .. } = *hello;
        Session { instance: Some(instance), program, runs, ..fresh }
    }

    fn worth(&self, streamer: &StreamerId, hello: &Hello, now: Now) -> Worth {
        let is_ours =
            |held: &Held| self.ring.verify_grant(&held.grant, streamer, &held.name, held.epoch) == Verdict::Ours;
        let above = |name: &String, epoch: u64| {
            let stream = StreamId { namespace: streamer.namespace.clone(), name: name.clone() };
            self.record(&stream).is_none_or(|record| record.epoch < epoch)
        };
        let (ours, foreign): (Vec<_>, Vec<_>) = hello.held.iter().partition(|held| is_ours(held));
        let disputed = foreign.into_iter().filter(|held| above(&held.name, held.epoch));
        // No grant proves the epoch of a delete; one far in the future is not believed, or it would use up all epochs.
        let believable = now.wall.saturating_add(DAY);
        let stopped = hello.stopped.iter().filter(|held| is_ours(held)).map(|held| {
            let deleted = held.deleted.filter(|deleted| *deleted <= believable).unwrap_or(0);
            (held.name.clone(), held.epoch.max(deleted))
        });
        let named = |held: &Held| (held.name.clone(), held.epoch);
        Worth {
            claims: ours.into_iter().map(named).collect(),
            stopped: stopped.collect(),
            disputed: disputed.map(named).collect(),
        }
    }

    /// Until when a sidecar has not had the time to say how its streamer is: while it was away nobody could hear the streamer, which has
    /// time for a poll now; but one that starts again and again must not make a dead one look alive.
    fn grace(&self, former: Option<&Session>, hello: &Hello, observed: u64) -> u64 {
        match former {
            // Its own first reading may show that the streamer runs.
            Some(former) if !former.has_polled && hello.api != ApiState::Absent && hello.runs.is_none() => {
                former.grace_until.max(observed + self.periods.ping * 2)
            }
            Some(former) if !former.has_polled => former.grace_until,
            _ => observed + self.periods.silence,
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
