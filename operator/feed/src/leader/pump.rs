//! What each sidecar is told: for every name a target, and the frames that lead there, ended by a mark.

use std::collections::BTreeMap;

use super::session::{Have, Session};
use super::step::{Effect, Want};
use super::{Leader, Role};
use crate::frames::{Down, Put};
use crate::record::{Phase, StreamId, StreamerId};
use crate::rule::{Rule, lacks};
use crate::time::Now;

/// How long rows without record and Stream are held when they are many, in ms.
const STRAYS_HELD: u64 = 600_000;

/// What a sidecar should have for a name.
enum Target {
    /// The document, under the record's epoch.
    Put(u64),
    /// Nothing, and it should say when the streamer has let go.
    Delete(u64),
    /// What it has; where it has nothing, "not now".
    Hold(u64),
    /// Nothing; and it has nothing.
    Nothing,
}

impl Leader {
    /// Pings, and every batch that can go out now: one at a time a connection, so a slow sidecar gets only the newest.
    pub(super) fn pump(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.role != Role::Leading {
            return;
        }
        let ready: Vec<StreamerId> = self.sessions.keys().cloned().collect();
        for id in ready {
            self.ping(&id, now, effects);
            let Some(session) = self.sessions.get_mut(&id) else {
                continue;
            };
            let Some(conn) = session.conn else { continue };
            let idle = session.revision == session.applied || !session.marked;
            if idle && (!session.dirty.is_empty() || !session.marked) {
                self.batch(&id, conn, now, effects);
            }
        }
    }

    fn ping(&mut self, id: &StreamerId, now: Now, effects: &mut Vec<Effect>) {
        let observed = self.observed(now);
        let due = |session: &Session| {
            observed >= session.next_ping || (session.conn.is_some() && session.lease.is_some() && !session.leasing)
        };
        if !self.sessions.get(id).is_some_and(due) {
            return;
        }
        let lease = self.lease_for(id, now);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        // A lease that can be given is not kept waiting.
        let first = lease.is_some() && !session.leasing;
        if observed < session.next_ping && !first {
            return;
        }
        session.leasing = lease.is_some();
        session.next_ping = observed + self.periods.ping;
        let (term, may_speak) = (self.term, self.deadline.saturating_sub(now.mono));
        for newcomer in &session.waiting {
            let frame = Down::Ping { term, may_speak, lease: None };
            effects.push(Effect::Send { conn: newcomer.conn, frame });
        }
        if let Some(conn) = session.conn {
            effects.push(Effect::Send { conn, frame: Down::Ping { term, may_speak, lease } });
        }
    }

    /// What is on hold may be given or taken now.
    pub(super) fn look_again_at_what_is_held(&mut self) {
        for session in self.sessions.values_mut().filter(|session| session.conn.is_some()) {
            session.dirty.extend(session.held.iter().cloned());
        }
    }

    fn batch(&mut self, id: &StreamerId, conn: u64, now: Now, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let names = std::mem::take(&mut session.dirty);
        let mut frames = Vec::new();
        for name in names {
            let target = self.target(id, &name, now);
            let put = match target {
                Target::Put(epoch) => self.put(id, &name, epoch),
                _ => None,
            };
            if let Some(session) = self.sessions.get_mut(id) {
                frames.extend(session.towards(&name, &target, put));
            }
        }
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if frames.is_empty() && session.marked {
            return;
        }
        session.marked = true;
        session.revision = (session.revision + 1).max(now.wall);
        let count =
            session.have.values().map(|have| u64::from(have.row.is_some()) + u64::from(have.hold.is_some())).sum();
        frames.push(Down::Mark { revision: session.revision, count, digest: session.digest.text() });
        effects.extend(frames.into_iter().map(|frame| Effect::Send { conn, frame }));
    }

    fn put(&self, id: &StreamerId, name: &str, epoch: u64) -> Option<Put> {
        let stream = StreamId { namespace: id.namespace.clone(), name: name.to_owned() };
        let want = self.want(&stream)?;
        let document = want.document.as_ref()?;
        Some(Put {
            name: name.to_owned(),
            epoch,
            grant: self.ring.grant(id, name, epoch),
            is_static: want.is_static,
            partition: want.partition,
            hash: document.hash.clone(),
            document: document.text.clone(),
        })
    }

    /// What `id` should have for `name`, by the record, by what users want, and by who may be running it.
    fn target(&self, id: &StreamerId, name: &str, now: Now) -> Target {
        let stream = StreamId { namespace: id.namespace.clone(), name: name.to_owned() };
        let Some(session) = self.sessions.get(id) else {
            return Target::Nothing;
        };
        let row = session.have.get(name).and_then(|have| have.row.as_ref()).map(|(epoch, _)| *epoch);
        let Some(record) = self.record(&stream) else {
            return self.target_without_record(&stream, session, row, now);
        };
        // **Keep**: a row above the record proves the record old, or is disputed: nothing is taken away until that is settled.
        if row.is_some_and(|epoch| epoch > record.epoch) && !lacks(Rule::Keep) {
            return Target::Hold(record.epoch);
        }
        match record.phase {
            Phase::Active if record.streamer == id.name => {
                // **Final** has it take no epoch that it has stopped: a record that shows one is old, and is corrected.
                let stopped = session.stopped.get(name).is_some_and(|stopped| *stopped >= record.epoch);
                let stopped = stopped && !lacks(Rule::Final);
                // Who is thought to stop when it is cut off is given nothing else before the record says so.
                let told = |want: &Want| want.partition >= record.partition;
                let ready = !stopped && self.want(&stream).is_some_and(|want| want.document.is_some() && told(want));
                // A row that is being served goes on being served; anyone else has to pass the gate.
                if ready && (row.is_some() || self.gate_open(&stream, &id.name, now)) {
                    Target::Put(record.epoch)
                } else {
                    Target::Hold(record.epoch)
                }
            }
            Phase::Releasing if record.streamer == id.name && !self.released.contains_key(&stream) => {
                Target::Delete(record.epoch)
            }
            _ if session.has_anything(name) => Target::Delete(record.epoch),
            _ => Target::Nothing,
        }
    }

    fn target_without_record(&self, stream: &StreamId, session: &Session, row: Option<u64>, now: Now) -> Target {
        let stopping = session.deleting.get(&stream.name).copied();
        let capturing = session.captures(&stream.name);
        if row.is_none() && stopping.is_none() && !capturing {
            return if session.has_anything(&stream.name) {
                Target::Delete(self.next_epoch(stream, now))
            } else {
                Target::Nothing
            };
        }
        let held = row.or(stopping).unwrap_or(0);
        // Somebody wants it, or we do not know yet: it will be adopted, or placed once it is clear.
        let wanted = self.want(stream).is_some_and(|want| !want.disabled);
        if !self.settled || self.wants.is_none() || wanted || self.stray_is_held(stream, now) {
            return match stopping {
                Some(epoch) if row.is_none() => Target::Delete(epoch),
                _ => Target::Hold(held),
            };
        }
        match stopping {
            Some(epoch) if row.is_none() => Target::Delete(epoch),
            // Without a Stream the grant's epoch is what the delete must exceed.
            _ if row.is_some() => Target::Delete(self.next_epoch(stream, now).max(held + 1)),
            // A hold from before would go on telling its streamer "not now" for ever.
            _ if session.has_anything(&stream.name) => Target::Delete(self.next_epoch(stream, now)),
            _ => Target::Nothing,
        }
    }

    /// What neither a record nor a Stream stands behind is, among many, that of a lost API rather than a wish; and how many there
    /// are is not known before everybody has had a period to come.
    fn stray_is_held(&self, stream: &StreamId, now: Now) -> bool {
        let heard_since = self.first_ready.unwrap_or_default().max(self.led_since);
        self.strays_held_for(&stream.namespace, now).is_some()
            || self.is_stray(stream) && self.observed(now) < heard_since + self.periods.period
    }

    /// For how many ms more they are held.
    pub(super) fn strays_held_for(&self, namespace: &str, now: Now) -> Option<u64> {
        let until = self.strays_since.get(namespace)? + STRAYS_HELD;
        until.checked_sub(self.observed(now)).filter(|left| *left > 0)
    }

    /// Neither a record nor a Stream stands behind it.
    pub(super) fn is_stray(&self, stream: &StreamId) -> bool {
        self.record(stream).is_none() && self.want(stream).is_none()
    }

    /// Counts rows without record and Stream by namespace; more than max(10, 20%) of the rows are held for ten minutes, to the last of
    /// them: whoever applies their Streams again does so one after the other.
    pub(super) fn count_strays(&mut self, now: Now) {
        let observed = self.observed(now);
        let mut counts: BTreeMap<&String, (usize, usize)> = BTreeMap::new();
        for (id, session) in &self.sessions {
            for name in session.have.iter().filter(|(_, have)| have.row.is_some()).map(|(name, _)| name) {
                let stream = StreamId { namespace: id.namespace.clone(), name: name.clone() };
                let count = counts.entry(&id.namespace).or_default();
                count.0 += usize::from(self.is_stray(&stream));
                count.1 += 1;
            }
        }
        let of = |(namespace, (strays, rows)): (&String, (usize, usize))| {
            (strays > 0).then(|| (namespace.clone(), strays > 10.max(rows / 5)))
        };
        let any: BTreeMap<String, bool> = counts.into_iter().filter_map(of).collect();
        self.strays_since.retain(|namespace, _| any.contains_key(namespace));
        for (namespace, _) in any.into_iter().filter(|(_, many)| *many) {
            self.strays_since.entry(namespace).or_insert(observed);
        }
    }
}

impl Session {
    fn has_anything(&self, name: &str) -> bool {
        self.have.contains_key(name) || self.deleting.contains_key(name)
    }

    /// What its streamer refuses of what it has: a newer document is not refused yet.
    pub(super) fn rejections(&self) -> BTreeMap<String, String> {
        let of_row = |name: &String| self.have.get(name).and_then(|have| have.row.as_ref()).map(|(_, hash)| hash);
        let current = self.rejected.iter().filter(|(name, (hash, _))| of_row(name) == Some(hash));
        current.map(|(name, (_, message))| (name.clone(), message.clone())).collect()
    }

    /// The frame that leads to `target`, if one is needed; the mirror of the replica is kept in step.
    fn towards(&mut self, name: &str, target: &Target, put: Option<Put>) -> Option<Down> {
        let have = self.have.get(name).cloned().unwrap_or_default();
        if matches!(target, Target::Hold(_)) {
            self.held.insert(name.to_owned());
        } else {
            self.held.remove(name);
        }
        match (target, put) {
            (Target::Put(_), Some(put)) => {
                let row = Some((put.epoch, put.hash.clone()));
                if have.row == row && have.hold.is_none() {
                    return None;
                }
                self.deleting.remove(name);
                self.set(name, Have { row, hold: None });
                Some(Down::Put(put))
            }
            (Target::Hold(epoch) | Target::Put(epoch), _) => {
                if have.hold.is_some() {
                    return None;
                }
                self.set(name, Have { hold: Some(*epoch), ..have });
                Some(Down::Hold { name: name.to_owned(), epoch: *epoch })
            }
            (Target::Delete(epoch), _) => {
                if have == Have::default() && self.asked.get(name).is_some_and(|asked| asked >= epoch) {
                    return None;
                }
                self.set(name, Have::default());
                self.asked.insert(name.to_owned(), *epoch);
                self.deleting.insert(name.to_owned(), *epoch);
                Some(Down::Delete { name: name.to_owned(), epoch: *epoch })
            }
            (Target::Nothing, _) => None,
        }
    }
}
