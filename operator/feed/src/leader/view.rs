//! What the leader shows: to the planner, to status reports, to metrics.

use std::collections::{BTreeMap, BTreeSet};

use super::known::Known;
use super::slice::Stage;
use super::step::SliceId;
use super::{Leader, Role};
use crate::frames::{ApiState, ConfigStatus, Load};
use crate::record::{Phase, Record, StreamId, StreamerId};
use crate::time::Now;

/// Whether the holder's streamer is known to run a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    Running,
    NotRunning,
    /// The streamer has not said, or is not there to say it.
    Unknown,
}

/// One Streamer, as its status shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamerView {
    pub connected: bool,
    /// It has said hello under this leader.
    pub reported: bool,
    pub instance: Option<String>,
    /// Other instances wait for this name.
    pub contested: bool,
    pub program: String,
    /// ms since the sidecar was last heard.
    pub silent_for: u64,
    /// ms since the streamer last asked; `None`: never since its sidecar started.
    pub polled_ago: Option<u64>,
    pub alive: bool,
    pub api: ApiState,
    pub config: ConfigStatus,
    pub load: Load,
    pub foreign_host: Option<String>,
    pub replica_error: Option<String>,
    /// What was last sent, and what the replica has of it.
    pub revision: u64,
    pub applied: u64,
    pub synced: bool,
    /// Rows that it serves.
    pub rows: usize,
    /// Its replica was complete once: until then its streamer is told to wait.
    pub complete: bool,
    /// Names on hold there.
    pub held: BTreeSet<String>,
    /// Somebody asks it whether its streamer may live, and would kill it.
    pub supervised: bool,
    /// It serves what `StopCapturing` stops.
    pub leased: bool,
    /// How many streams its streamer captured after a start before it was answered; `None`: no start was seen.
    pub boots_with: Option<u64>,
    /// Names on hold there without a row to serve, that its streamer runs or may run: it is told to wait for them.
    pub withheld: BTreeSet<String>,
    /// Rows that neither a record nor a Stream stands behind, while they are held because they are many.
    pub strays: usize,
    /// For how many ms more.
    pub strays_for: u64,
    /// Documents that the streamer refuses, by media name, with its message.
    pub rejected: BTreeMap<String, String>,
    /// Names it claims under a grant that cannot be verified.
    pub disputed: BTreeSet<String>,
}

/// Why the record of a stream is not what was decided, at a time when no write is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwritten {
    /// Its slice has no room for further streams.
    Full,
    /// The API refuses to write its slice: left alone for so many ms.
    Refused(u64),
    /// It is due, in its turn.
    Postponed,
}

/// What stands on the slices of a namespace about a removal in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemovalView {
    pub until: Option<u64>,
    pub confirmed: bool,
    pub recent: usize,
    /// For how many ms nothing is to be released for want of a Stream.
    pub wait: u64,
}

impl StreamerView {
    /// Its streamer would be killed when it goes on without a lease, and boots with nothing then.
    pub fn is_supervised(&self) -> bool {
        self.supervised && self.boots_with.is_none_or(|streams| streams == 0)
    }
}

impl Leader {
    pub fn role(&self) -> Role {
        self.role
    }

    /// The term we lead under, or the highest seen.
    pub fn term(&self) -> u64 {
        self.term.max(self.highest_term)
    }

    /// **Wait** is over: streamers can be called gone, and new streams placed.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// In how many ms **Wait** is over, whoever has reported by then; `None`: it is over, or nobody is expected.
    pub fn settles_in(&self, now: Now) -> Option<u64> {
        let waits = self.role == Role::Leading && !self.settled && !self.expected_streamers().is_empty();
        waits.then(|| (self.led_since + self.periods.period).saturating_sub(self.observed(now)))
    }

    /// Writes under way.
    pub fn busy(&self) -> usize {
        self.slices.values().filter(|slice| slice.keeps_waiting()).count()
    }

    /// The records, as last acknowledged.
    pub fn all_records(&self) -> BTreeMap<StreamId, Record> {
        self.records().map(|(stream, record)| (stream, record.clone())).collect()
    }

    /// By namespace and media name: what a plan has to know of each stream that has a record or may be running.
    pub fn known(&self, now: Now) -> BTreeMap<String, BTreeMap<String, Known>> {
        let observed = self.observed(now);
        let mut concerned: BTreeMap<StreamId, BTreeSet<&StreamerId>> = BTreeMap::new();
        for (stream, _) in self.records() {
            concerned.entry(stream).or_default();
        }
        for (id, session) in &self.sessions {
            let told = session.have.keys().chain(session.runs.iter().flat_map(BTreeMap::keys));
            for name in told.chain(session.deleting.keys()) {
                let stream = StreamId { namespace: id.namespace.clone(), name: name.clone() };
                concerned.entry(stream).or_default().insert(id);
            }
        }
        let mut known: BTreeMap<String, BTreeMap<String, Known>> = BTreeMap::new();
        for (stream, streamers) in concerned {
            let facts = self.known_of(&stream, &streamers, now, observed);
            known.entry(stream.namespace).or_default().insert(stream.name, facts);
        }
        known
    }

    fn known_of(&self, stream: &StreamId, concerned: &BTreeSet<&StreamerId>, now: Now, observed: u64) -> Known {
        let record = self.record(stream).cloned();
        let since = |map: &BTreeMap<StreamId, u64>| map.get(stream).map(|at| observed.saturating_sub(*at));
        let holder = record.as_ref().and_then(|record| {
            self.sessions.get(&StreamerId { namespace: stream.namespace.clone(), name: record.streamer.clone() })
        });
        let (silence, alive) = (self.periods.silence, self.periods.alive);
        let disputed = concerned
            .iter()
            .find(|id| self.sessions.get(**id).is_some_and(|session| session.disputed.contains_key(&stream.name)))
            .map(|id| id.name.clone());
        let named: Vec<StreamerId> = record
            .iter()
            .flat_map(Record::streamers)
            .map(|name| StreamerId { namespace: stream.namespace.clone(), name })
            .collect();
        let may_run = self.may_run_among(stream, concerned.iter().copied().chain(&named), now);
        Known {
            holder_lost: match (&record, holder) {
                (Some(_), None) => Some(observed.saturating_sub(self.led_since)),
                (_, holder) => holder.and_then(|holder| holder.lost_for(Some(&stream.name), silence, alive, observed)),
            },
            not_polling: holder.is_some_and(|holder| holder.not_polling(&stream.name, silence, alive, observed)),
            ended: holder.is_some_and(|holder| holder.ended),
            released: record.as_ref().is_some_and(|record| self.released.get(stream) == Some(&record.epoch)),
            releasing_for: since(&self.releasing_since)
                .filter(|_| record.as_ref().is_some_and(|record| record.phase == Phase::Releasing)),
            called_off: since(&self.called_off),
            may_run,
            disputed,
            record,
        }
    }

    /// A slice of `namespace` that holds records, to tell people something about the namespace on.
    pub fn slice_in(&self, namespace: &str) -> Option<SliceId> {
        let mut slices =
            self.slices.iter().filter(|(id, slice)| id.namespace == namespace && !slice.records.is_empty());
        slices.next().map(|(id, _)| id.clone())
    }

    /// What stands about a removal in numbers in `namespace`.
    pub fn removal(&self, namespace: &str, now: Now) -> RemovalView {
        let slices = self.slices.iter().filter(|(id, _)| id.namespace == namespace);
        let observed = self.observed(now);
        let mut view = RemovalView::default();
        for (_, slice) in slices {
            view.until = view.until.max(slice.removal_until);
            view.confirmed |= slice.removal_confirmed;
        }
        view.wait = self.vanishing_for(namespace, observed);
        let recent = self.removals.get(namespace).into_iter().flatten();
        view.recent = recent.filter(|at| observed.saturating_sub(**at) < super::write::MINUTE).count();
        view
    }

    /// Every Streamer that was heard, or that a record names.
    pub fn streamers(&self, now: Now) -> BTreeMap<StreamerId, StreamerView> {
        self.sessions.keys().map(|id| (id.clone(), self.streamer(id, now).unwrap_or_default())).collect()
    }

    /// One Streamer; `None`: not heard, and in no record.
    pub fn streamer(&self, id: &StreamerId, now: Now) -> Option<StreamerView> {
        let session = self.sessions.get(id)?;
        let observed = self.observed(now);
        let silent_for = observed.saturating_sub(session.last_heard);
        let idle = observed.saturating_sub(session.polled_at);
        let strays_for = self.strays_held_for(&id.namespace, now);
        Some(StreamerView {
            connected: session.conn.is_some() && silent_for <= self.periods.silence,
            reported: session.reported,
            instance: session.instance.clone(),
            contested: !session.waiting.is_empty(),
            program: session.program.clone(),
            silent_for,
            polled_ago: session.has_polled.then_some(idle),
            alive: session.has_polled && idle <= self.periods.alive,
            api: session.api,
            config: session.config.clone(),
            load: session.load.clone(),
            foreign_host: session.foreign_host.clone(),
            replica_error: session.replica_error.clone(),
            revision: session.revision,
            applied: session.applied,
            synced: session.synced && session.has_applied_all(),
            rows: session.have.values().filter(|have| have.row.is_some()).count(),
            complete: session.synced,
            held: session.held.clone(),
            supervised: session.lease_asked_at.is_some_and(|at| observed.saturating_sub(at) <= self.periods.kill),
            leased: session.conn.is_some() && session.lease.is_some_and(|lease| lease.runs),
            boots_with: session.lease.and_then(|lease| lease.boots_with),
            withheld: session.held.iter().filter(|name| session.withholds(name)).cloned().collect(),
            strays: strays_for.map_or(0, |_| self.strays(id, session)),
            strays_for: strays_for.unwrap_or(0),
            rejected: session.rejections(),
            disputed: session.disputed.keys().cloned().collect(),
        })
    }

    /// What a session says of its streamer is of now: neither is lost, and an API that told it still answers.
    fn is_heard(&self, session: &super::session::Session, name: &str, now: Now) -> bool {
        let (silence, alive) = (self.periods.silence, self.periods.alive);
        session.conn.is_some()
            && session.api != ApiState::Down
            && session.lost_for(Some(name), silence, alive, self.observed(now)).is_none()
    }

    /// Changes whenever somebody becomes lost or is there again, which is when a plan may come out otherwise.
    pub fn liveness(&self, now: Now) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let observed = self.observed(now);
        let (silence, alive) = (self.periods.silence, self.periods.alive);
        let mut hash = DefaultHasher::new();
        (self.role, self.settled, &self.unheard).hash(&mut hash);
        for (id, session) in &self.sessions {
            let lost = session.lost_for(None, silence, alive, observed).is_some();
            // One that does not poll blocks a move while it is heard, and no longer.
            let silent = observed.saturating_sub(session.holder_heard) > silence;
            let supervised = session.lease_asked_at.is_some_and(|at| observed.saturating_sub(at) <= self.periods.kill);
            let supervised = (supervised, session.lease.and_then(|lease| lease.boots_with));
            let held = (session.reported, session.ended);
            (id, lost, silent, held, session.has_polled, session.waiting.is_empty(), supervised).hash(&mut hash);
        }
        hash.finish()
    }

    /// Whether a stream's holder is known to run it.
    pub fn capture(&self, stream: &StreamId, now: Now) -> Capture {
        let holder = self.record(stream).and_then(|record| {
            self.sessions.get(&StreamerId { namespace: stream.namespace.clone(), name: record.streamer.clone() })
        });
        match holder {
            Some(session) if session.runs.is_some() && self.is_heard(session, &stream.name, now) => {
                if session.captures(&stream.name) { Capture::Running } else { Capture::NotRunning }
            }
            _ => Capture::Unknown,
        }
    }

    /// Why a change of `stream` that was decided is not written, if it is not.
    pub fn unwritten(&self, stream: &StreamId, now: Now) -> Unwritten {
        let slice = SliceId::of(stream);
        match self.slices.get(&slice).map(|state| &state.stage) {
            Some(Stage::Blocked { until }) => Unwritten::Refused(until.saturating_sub(self.observed(now))),
            _ if self.record(stream).is_none() && self.is_full(&slice) => Unwritten::Full,
            _ => Unwritten::Postponed,
        }
    }

    fn strays(&self, id: &StreamerId, session: &super::session::Session) -> usize {
        let rows = session.have.iter().filter(|(_, have)| have.row.is_some());
        let streams = rows.map(|(name, _)| StreamId { namespace: id.namespace.clone(), name: name.clone() });
        streams.filter(|stream| self.is_stray(stream)).count()
    }

    /// The record of one stream.
    pub fn record_of(&self, stream: &StreamId) -> Option<&Record> {
        self.record(stream)
    }

    /// Connections that are admitted, or wait for a name.
    pub fn connections(&self) -> usize {
        self.conns.len() + self.early.len()
    }
}
