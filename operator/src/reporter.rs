//! Statuses and Events on their way to the API, behind Placements: the newest of each object, a few at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use weir_crds::Condition;
use weir_crds::stream::{Stream, StreamStatus};
use weir_crds::streamer::{Streamer, StreamerStatus};
use weir_feed::leader::Leader;
use weir_feed::leader::view::StreamerView;
use weir_feed::periods::Periods;
use weir_feed::record::{Record, StreamId, StreamerId};
use weir_feed::time::Now;
use weir_placement::plan::{HeldRemoval, Plan};

use self::backlog::Backlog;
use self::bucket::Bucket;
use self::news::News;
use crate::cluster::{Cluster, Credentials, Declared, Object, ObjectRef, Observed, Occurrence, Status, Trouble};
use crate::document;
use crate::metrics::{Counts, Metrics};
use crate::observe::Documents;
use crate::report::reason::{self, Reason};
use crate::report::{self, Redactor, StreamFacts, StreamerFacts};

mod backlog;
mod bucket;
mod news;

/// Status writes at one time.
const WRITERS: usize = 4;
/// Status writes a second, and at once: reports stand behind Placements and the Lease, and the API server has others to
/// serve. 2,000 streams are reported within a minute, those of a small site at once.
const STATUSES_A_SECOND: u64 = 50;
const STATUSES_AT_ONCE: u64 = 200;
/// Events a second, and at once: each is an object of its own in etcd for an hour.
const EVENTS_A_SECOND: u64 = 20;
const EVENTS_AT_ONCE: u64 = 100;
/// Events that wait; more are dropped and counted: they are news, not state, and those behind them would be old.
const EVENTS: usize = 1_000;
/// While so many statuses cannot be written, each is a warning; with more it is the API server, and said already.
const TOLD: usize = 20;
/// A writer that has nothing to do looks up after so many ms.
const IDLE: u64 = 1_000;

/// What kind of object a status is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Streamer,
    Stream,
}

type Key = (Kind, ObjectRef);

/// Statuses that wait to be written.
struct Queue {
    state: Mutex<State>,
    news: Notify,
}

struct State {
    backlog: Backlog<Key, Status>,
    bucket: Bucket,
}

/// Events that wait to be recorded.
struct Events {
    waiting: Mutex<News>,
    came: Notify,
}

/// Makes reports and sees them written.
pub struct Reporter<C> {
    queue: Arc<Queue>,
    events: Arc<Events>,
    /// More Events came than can be recorded.
    dropping: bool,
    metrics: Metrics,
    periods: Periods,
    /// What was reported last, by object, with its uid.
    streams: BTreeMap<ObjectRef, (String, StreamStatus)>,
    streamers: BTreeMap<ObjectRef, (String, StreamerStatus)>,
    /// Since when a Streamer's replica has been behind, monotonic ms.
    behind: BTreeMap<StreamerId, u64>,
    /// Namespaces whose removal in numbers is being held, and how many streams.
    held_removals: Counts,
    cluster: std::marker::PhantomData<C>,
}

impl<C: Cluster> Reporter<C> {
    /// Starts the writers; they end with the reporter.
    pub fn new(cluster: &Arc<C>, metrics: Metrics, periods: Periods) -> Self {
        let state = State { backlog: Backlog::new(), bucket: Bucket::new(STATUSES_A_SECOND, STATUSES_AT_ONCE) };
        let queue = Arc::new(Queue { state: Mutex::new(state), news: Notify::new() });
        for _ in 0..WRITERS {
            tokio::spawn(write_statuses(Arc::downgrade(&queue), Arc::clone(cluster)));
        }
        let events = Arc::new(Events { waiting: Mutex::new(News::new(EVENTS)), came: Notify::new() });
        tokio::spawn(record_events(Arc::downgrade(&events), Arc::clone(cluster)));
        Self {
            queue,
            events,
            dropping: false,
            metrics,
            periods,
            streams: BTreeMap::new(),
            streamers: BTreeMap::new(),
            behind: BTreeMap::new(),
            held_removals: Counts::new(),
            cluster: std::marker::PhantomData,
        }
    }

    /// Records an Event, when its turn comes.
    pub fn tell(&mut self, occurrence: Occurrence) {
        let (dropped, waiting) = {
            let mut news = self.events.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            (news.push(occurrence), news.len())
        };
        self.events.came.notify_one();
        if dropped {
            self.metrics.events_dropped();
            if !std::mem::replace(&mut self.dropping, true) {
                tracing::warn!(
                    "more Events come than are recorded: those that matter least are dropped, and counted in \
                     weir_events_dropped_total"
                );
            }
        } else if waiting < EVENTS / 2 {
            self.dropping = false;
        }
    }

    /// Reports on everything, as far as it has changed.
    pub fn report(&mut self, observed: &Observed, documents: &Documents, leader: &Leader, plan: &Plan, now: Now) {
        // Without the Secrets a document cannot be judged, nor a streamer's message be cleaned of passwords.
        if observed.secrets.is_none() {
            return;
        }
        self.report_held_removals(leader, plan);
        let views = leader.streamers(now);
        let streams = self.report_streams(observed, documents, leader, plan, &views, now);
        let streamers = self.report_streamers(observed, documents, leader, plan, &views, now);
        self.metrics.waiting(&streams, &streamers, &self.held_removals);
    }

    /// Shouts once for each namespace whose Streams vanished in numbers, and says once that this is over.
    fn report_held_removals(&mut self, leader: &Leader, plan: &Plan) {
        let key = |namespace: &String| (namespace.clone(), reason::placement::REMOVAL_HELD.name());
        for (namespace, held) in &plan.held_removals {
            if !self.held_removals.contains_key(&key(namespace))
                && let Some(slice) = leader.slice_in(namespace)
            {
                let occurrence = report::event::of_held_removal(&slice, held, C::DECLARED);
                tracing::error!(namespace, "{}", occurrence.message);
                self.tell(occurrence);
            }
        }
        let count = |held: &HeldRemoval| i64::try_from(held.orphans).unwrap_or(i64::MAX);
        let now = plan.held_removals.iter().map(|(namespace, held)| (key(namespace), count(held))).collect();
        for (namespace, _) in std::mem::replace(&mut self.held_removals, now).into_keys() {
            if !plan.held_removals.contains_key(&namespace)
                && let Some(slice) = leader.slice_in(&namespace)
            {
                self.tell(report::event::of_ended_removal(&slice));
            }
        }
    }

    fn report_streams(
        &mut self,
        observed: &Observed,
        documents: &Documents,
        leader: &Leader,
        plan: &Plan,
        views: &BTreeMap<StreamerId, StreamerView>,
        now: Now,
    ) -> Counts {
        let nothing = BTreeMap::new();
        let secrets = observed.secrets.as_ref().unwrap_or(&nothing);
        let by_object = records_by_object(leader);
        let (periods, mut seen, mut waiting) = (self.periods, BTreeSet::new(), Counts::new());
        for (object, stream) in observed.streams.iter().flatten() {
            seen.insert(object.clone());
            let (uid, old) = self.last_stream(object, stream);
            let new = match stream {
                Object::Readable(stream) => {
                    let declared = C::DECLARED;
                    let context = Context { documents, leader, plan, views, secrets, periods, declared, now };
                    context.stream_status(object, stream, &old)
                }
                Object::Malformed { generation, message, .. } => {
                    let record = by_object.get(object);
                    report::malformed_stream(object, &old, (*generation, message), record, C::DECLARED, now.wall)
                }
            };
            if new != old {
                for occurrence in report::event::of_stream(object, &uid, &old, &new) {
                    self.tell(occurrence);
                }
                let matters = is_waiting(new.reason.as_deref(), reason::stream::named);
                self.queue.push(Kind::Stream, object, Status::Stream(new.clone()), matters, now.mono);
            }
            count(&mut waiting, object, &new.conditions, reason::stream::named);
            self.streams.insert(object.clone(), (uid, new));
        }
        self.streams.retain(|object, _| seen.contains(object));
        waiting
    }

    fn last_stream(&self, object: &ObjectRef, stream: &Object<Stream>) -> (String, StreamStatus) {
        let (uid, shown) = match stream {
            Object::Readable(stream) => {
                (stream.metadata.uid.clone().unwrap_or_default(), stream.status.clone().unwrap_or_default())
            }
            Object::Malformed { uid, .. } => (uid.clone(), StreamStatus::default()),
        };
        match self.streams.get(object) {
            Some((known, last)) if *known == uid => (uid, last.clone()),
            _ => (uid, shown),
        }
    }

    fn report_streamers(
        &mut self,
        observed: &Observed,
        documents: &Documents,
        leader: &Leader,
        plan: &Plan,
        views: &BTreeMap<StreamerId, StreamerView>,
        now: Now,
    ) -> Counts {
        let nothing = BTreeMap::new();
        let secrets = observed.secrets.as_ref().unwrap_or(&nothing);
        let (mut seen, mut waiting) = (BTreeSet::new(), Counts::new());
        for (object, streamer) in observed.streamers.iter().flatten() {
            seen.insert(object.clone());
            let (uid, old) = self.last_streamer(object, streamer);
            let new = match streamer {
                Object::Readable(streamer) => {
                    let id = StreamerId { namespace: object.namespace.clone(), name: object.name.clone() };
                    let view = views.get(&id);
                    let withheld = withheld(documents, leader, &id, view);
                    let facts = StreamerFacts {
                        streamer,
                        old: &old,
                        view,
                        outlook: plan.streamers.get(&id),
                        settling: !leader.is_settled(),
                        going: crate::observe::going(observed, object, view),
                        withheld: &withheld,
                        behind_for: self.behind_for(&id, view, now),
                        redactor: Redactor::new(&object.namespace, secrets),
                        declared: C::DECLARED,
                        now: now.wall,
                    };
                    report::streamer_status(&facts)
                }
                Object::Malformed { generation, message, .. } => {
                    report::malformed_streamer(object, &old, (*generation, message), C::DECLARED, now.wall)
                }
            };
            if new != old {
                for occurrence in report::event::of_streamer(object, &uid, &old, &new) {
                    self.tell(occurrence);
                }
                self.queue.push(Kind::Streamer, object, Status::Streamer(new.clone()), true, now.mono);
            }
            count(&mut waiting, object, &new.conditions, reason::streamer::named);
            self.streamers.insert(object.clone(), (uid, new));
        }
        self.streamers.retain(|object, _| seen.contains(object));
        waiting
    }

    fn last_streamer(&self, object: &ObjectRef, streamer: &Object<Streamer>) -> (String, StreamerStatus) {
        let (uid, shown) = match streamer {
            Object::Readable(streamer) => {
                (streamer.metadata.uid.clone().unwrap_or_default(), streamer.status.clone().unwrap_or_default())
            }
            Object::Malformed { uid, .. } => (uid.clone(), StreamerStatus::default()),
        };
        match self.streamers.get(object) {
            Some((known, last)) if *known == uid => (uid, last.clone()),
            _ => (uid, shown),
        }
    }

    fn behind_for(&mut self, id: &StreamerId, view: Option<&StreamerView>, now: Now) -> u64 {
        if view.is_none_or(|view| view.synced) {
            self.behind.remove(id);
            return 0;
        }
        let since = *self.behind.entry(id.clone()).or_insert(now.mono);
        now.mono.saturating_sub(since)
    }
}

/// What the reports of one round are made from.
struct Context<'a> {
    documents: &'a Documents,
    leader: &'a Leader,
    plan: &'a Plan,
    views: &'a BTreeMap<StreamerId, StreamerView>,
    secrets: &'a BTreeMap<ObjectRef, Credentials>,
    periods: Periods,
    declared: Declared,
    now: Now,
}

impl Context<'_> {
    fn stream_status(&self, object: &ObjectRef, stream: &Stream, old: &StreamStatus) -> StreamStatus {
        let name = StreamId { namespace: object.namespace.clone(), name: stream.media_name().to_owned() };
        let record = self.leader.record_of(&name);
        let holder = record.and_then(|record| {
            self.views.get(&StreamerId { namespace: object.namespace.clone(), name: record.streamer.clone() })
        });
        let planned = StreamId { namespace: object.namespace.clone(), name: object.name.clone() };
        let partition = document::partition(stream);
        report::stream_status(&StreamFacts {
            stream,
            old,
            outlook: self.plan.streams.get(&planned),
            record,
            problem: self.documents.get(object).and_then(|rendered| rendered.problem.as_ref()),
            capture: self.leader.capture(&name, self.now),
            rejected: holder.and_then(|holder| holder.rejected.get(&name.name)).map(String::as_str),
            held: holder.is_some_and(|holder| holder.held.contains(&name.name)),
            leased: holder.is_some_and(|holder| holder.leased),
            withheld: holder.is_some_and(|holder| holder.withheld.contains(&name.name)),
            unwritten: self.leader.unwritten(&name, self.now),
            release: self.periods.release,
            shortest_failover: partition.gone_after(Some(partition), 0, &self.periods),
            redactor: Redactor::new(&object.namespace, self.secrets),
            declared: self.declared,
            now: self.now.wall,
        })
    }
}

fn records_by_object(leader: &Leader) -> BTreeMap<ObjectRef, Record> {
    let records = leader.all_records().into_iter();
    records.map(|(id, record)| (ObjectRef { namespace: id.namespace, name: record.stream.clone() }, record)).collect()
}

/// What keeps a Streamer waiting, and why its documents cannot be made.
fn withheld<'a>(
    documents: &'a Documents,
    leader: &'a Leader,
    streamer: &StreamerId,
    view: Option<&'a StreamerView>,
) -> Vec<(&'a str, Option<&'a str>)> {
    let names = view.into_iter().flat_map(|view| &view.withheld);
    let problem = |name: &str| {
        let stream = StreamId { namespace: streamer.namespace.clone(), name: name.to_owned() };
        let name = leader.record_of(&stream)?.stream.clone();
        let rendered = documents.get(&ObjectRef { namespace: stream.namespace, name })?;
        rendered.problem.as_ref().map(|problem| problem.message.as_str())
    };
    names.map(|name| (name.as_str(), problem(name))).collect()
}

fn is_waiting(name: Option<&str>, named: fn(&str) -> Option<&'static Reason>) -> bool {
    name.and_then(named).is_some_and(|reason| reason.waiting().is_some())
}

/// Counts an object under each reason for which it waits, once.
pub(crate) fn count(
    counts: &mut Counts,
    object: &ObjectRef,
    conditions: &[Condition],
    named: fn(&str) -> Option<&'static Reason>,
) {
    let reasons = conditions.iter().filter_map(|condition| named(&condition.reason));
    let waiting: BTreeSet<_> = reasons.filter(|reason| reason.waiting().is_some()).map(Reason::name).collect();
    for reason in waiting {
        *counts.entry((object.namespace.clone(), reason)).or_default() += 1;
    }
}

impl Queue {
    fn push(&self, kind: Kind, object: &ObjectRef, status: Status, matters: bool, now: u64) {
        self.state().backlog.push((kind, object.clone()), status, matters, now);
        self.news.notify_one();
    }

    fn next(&self, now: u64) -> Next {
        let state = &mut *self.state();
        match state.backlog.due_in(now) {
            None => return Next::In(IDLE),
            Some(0) => {}
            Some(wait) => return Next::In(wait),
        }
        if let Err(wait) = state.bucket.take(now) {
            return Next::In(wait);
        }
        let next = state.backlog.pop(now);
        if state.backlog.due_in(now) == Some(0) {
            self.news.notify_one();
        }
        next.map_or(Next::In(IDLE), |(key, status)| Next::Status(key, Box::new(status)))
    }

    fn ended(&self, key: &Key, status: Status, written: Result<(), Trouble>, now: u64) {
        let backlog = &mut self.state().backlog;
        let Err(trouble) = written else { return backlog.done(key, now) };
        match backlog.failed(key, status, now) {
            Some(failing) if failing <= TOLD => tracing::warn!("{trouble}: tried again until it can be written"),
            _ => tracing::debug!("{trouble}: tried again"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a writer does next.
enum Next {
    Status(Key, Box<Status>),
    /// Nothing for so many ms.
    In(u64),
}

async fn write_statuses<C: Cluster>(queue: Weak<Queue>, cluster: Arc<C>) {
    while let Some(strong) = queue.upgrade() {
        match strong.next(cluster.now().mono) {
            Next::Status(key, status) => {
                let written = cluster.write_status(&key.1, &status).await;
                strong.ended(&key, *status, written, cluster.now().mono);
            }
            // Woken by news, or now and then to see whether the reporter still lives.
            Next::In(wait) => {
                let wait = Duration::from_millis(wait.min(IDLE));
                drop(tokio::time::timeout(wait, strong.news.notified()).await);
            }
        }
    }
}

async fn record_events<C: Cluster>(events: Weak<Events>, cluster: Arc<C>) {
    let mut bucket = Bucket::new(EVENTS_A_SECOND, EVENTS_AT_ONCE);
    while let Some(strong) = events.upgrade() {
        let waiting = || strong.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting().len() == 0 {
            // Woken by news, or now and then to see whether the reporter still lives.
            drop(tokio::time::timeout(Duration::from_millis(IDLE), strong.came.notified()).await);
        } else if let Err(wait) = bucket.take(cluster.now().mono) {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        } else if let Some(occurrence) = { waiting().pop() } {
            cluster.record_event(&occurrence).await;
        }
    }
}

#[cfg(test)]
mod tests;
