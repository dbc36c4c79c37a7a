//! Sidecars as the leader knows them: instances, what they hold, what their streamers run, who is lost.

use std::collections::{BTreeMap, BTreeSet};

use super::Leader;
use super::hello::Newcomer;
use super::step::Conn;
use crate::digest::SetDigest;
use crate::frames::{ApiState, ConfigStatus, LeaseReport, Load, Run, Up, digest_entry};
use crate::record::{StreamId, StreamerId};
use crate::rule::{Rule, lacks};
use crate::time::Now;

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
    /// That instance is vouched for.
    pub(super) verified: bool,
    /// It has ended for good, and runs nothing any more.
    pub(super) ended: bool,
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
    pub(super) fn is_there(&self, observed: u64, ping: u64) -> bool {
        self.conn.is_some() && observed.saturating_sub(self.holder_heard) <= ping * 2
    }

    /// How its streamer is now.
    fn alive(&mut self, frame: Up, observed: u64) {
        let Up::Alive { polled, api, config, load, foreign_host, replica_error, lease } = frame else {
            return;
        };
        if let Some(polled) = polled {
            self.polled_at = observed.saturating_sub(polled);
            self.has_polled = true;
        }
        self.lease_asked_at = lease.and_then(|lease| Some(observed.saturating_sub(lease.asked?)));
        (self.api, self.config, self.load, self.lease) = (api, config, load, lease);
        (self.foreign_host, self.replica_error) = (foreign_host, replica_error);
    }

    /// A frame of one that waits for the name; `is_there`: the holder of the name is.
    fn waiting_frame(&mut self, conn: Conn, frame: &Up, is_there: bool, observed: u64) {
        let Some(newcomer) = self.waiting.iter_mut().find(|newcomer| newcomer.conn == conn) else {
            return;
        };
        newcomer.heard = observed;
        if let Up::Alive { polled: Some(ago), .. } = frame {
            let at = observed.saturating_sub(*ago);
            newcomer.polled_at = Some(at);
            // Should it go before its turn comes, the streamer has been heard all the same.
            if !is_there {
                self.polled_at = self.polled_at.max(at);
            }
        }
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
            return session.waiting_frame(conn, &frame, is_there, observed);
        }
        session.holder_heard = observed;
        match frame {
            Up::Hello(_) | Up::Unknown => {}
            alive @ Up::Alive { .. } => session.alive(alive, observed),
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
            // Its name is free. What its streamer runs is no matter of that: it may live on without its sidecar.
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
}
