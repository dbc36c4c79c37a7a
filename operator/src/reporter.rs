//! Statuses and Events on their way to the API, behind Placements: the newest of each object, a few at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};
use weir_crds::stream::{Stream, StreamStatus};
use weir_crds::streamer::{Streamer, StreamerStatus};
use weir_feed::leader::Leader;
use weir_feed::leader::view::StreamerView;
use weir_feed::record::{Record, StreamId, StreamerId};
use weir_feed::time::Now;
use weir_placement::plan::Plan;

use crate::cluster::{Cluster, Credentials, Object, ObjectRef, Observed, Occurrence, Status};
use crate::observe::Documents;
use crate::report::{self, Redactor, StreamFacts, StreamerFacts};

/// Status writes at one time.
const WRITERS: usize = 4;
/// Events that wait; more are dropped with a line of the log: they are news, not state.
const EVENTS: usize = 4_096;

/// What kind of object a status is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Streamer,
    Stream,
}

/// Statuses that wait to be written, the newest of each object.
#[derive(Default)]
struct Queue {
    waiting: Mutex<BTreeMap<(Kind, ObjectRef), Status>>,
    news: Notify,
}

/// Makes reports and sees them written.
pub struct Reporter<C> {
    queue: Arc<Queue>,
    events: mpsc::Sender<Occurrence>,
    /// What was reported last, by object, with its uid.
    streams: BTreeMap<ObjectRef, (String, StreamStatus)>,
    streamers: BTreeMap<ObjectRef, (String, StreamerStatus)>,
    /// Since when a Streamer's replica has been behind, monotonic ms.
    behind: BTreeMap<StreamerId, u64>,
    /// Namespaces whose removal in numbers is being held.
    held_removals: BTreeSet<String>,
    cluster: std::marker::PhantomData<C>,
}

impl<C: Cluster> Reporter<C> {
    /// Starts the writers; they end with the reporter.
    pub fn new(cluster: Arc<C>) -> Self {
        let queue = Arc::new(Queue::default());
        for _ in 0..WRITERS {
            tokio::spawn(write_statuses(Arc::downgrade(&queue), Arc::clone(&cluster)));
        }
        let (events, mut waiting) = mpsc::channel::<Occurrence>(EVENTS);
        tokio::spawn(async move {
            while let Some(occurrence) = waiting.recv().await {
                cluster.record_event(&occurrence).await;
            }
        });
        Self {
            queue,
            events,
            streams: BTreeMap::new(),
            streamers: BTreeMap::new(),
            behind: BTreeMap::new(),
            held_removals: BTreeSet::new(),
            cluster: std::marker::PhantomData,
        }
    }

    /// Records an Event.
    pub fn tell(&self, occurrence: Occurrence) {
        if self.events.try_send(occurrence).is_err() {
            tracing::warn!("an Event is dropped: {EVENTS} are waiting already");
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
        self.report_streams(observed, documents, leader, plan, &views, now);
        self.report_streamers(observed, plan, &views, now);
    }

    /// Shouts once for each namespace whose Streams vanished in numbers.
    fn report_held_removals(&mut self, leader: &Leader, plan: &Plan) {
        for (namespace, held) in &plan.held_removals {
            if !self.held_removals.contains(namespace)
                && let Some(slice) = leader.slice_in(namespace)
            {
                let occurrence = report::event::of_held_removal(&slice, held);
                tracing::error!(namespace, "{}", occurrence.message);
                self.tell(occurrence);
            }
        }
        self.held_removals = plan.held_removals.keys().cloned().collect();
    }

    fn report_streams(
        &mut self,
        observed: &Observed,
        documents: &Documents,
        leader: &Leader,
        plan: &Plan,
        views: &BTreeMap<StreamerId, StreamerView>,
        now: Now,
    ) {
        let nothing = BTreeMap::new();
        let secrets = observed.secrets.as_ref().unwrap_or(&nothing);
        let by_object = records_by_object(leader);
        let mut seen = BTreeSet::new();
        for (object, stream) in observed.streams.iter().flatten() {
            seen.insert(object.clone());
            let (uid, old) = self.last_stream(object, stream);
            let new = match stream {
                Object::Readable(stream) => {
                    let context = Context { documents, leader, plan, views, secrets, now };
                    context.stream_status(object, stream, &old)
                }
                Object::Malformed { generation, message, .. } => {
                    report::malformed_stream(&old, *generation, message, by_object.get(object), now.wall)
                }
            };
            if new != old {
                for occurrence in report::event::of_stream(object, &uid, &old, &new) {
                    self.tell(occurrence);
                }
                self.queue.push(Kind::Stream, object, Status::Stream(new.clone()));
            }
            self.streams.insert(object.clone(), (uid, new));
        }
        self.streams.retain(|object, _| seen.contains(object));
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
        plan: &Plan,
        views: &BTreeMap<StreamerId, StreamerView>,
        now: Now,
    ) {
        let nothing = BTreeMap::new();
        let secrets = observed.secrets.as_ref().unwrap_or(&nothing);
        let mut seen = BTreeSet::new();
        for (object, streamer) in observed.streamers.iter().flatten() {
            seen.insert(object.clone());
            let (uid, old) = self.last_streamer(object, streamer);
            let new = match streamer {
                Object::Readable(streamer) => {
                    let id = StreamerId { namespace: object.namespace.clone(), name: object.name.clone() };
                    let view = views.get(&id);
                    let facts = StreamerFacts {
                        streamer,
                        old: &old,
                        view,
                        outlook: plan.streamers.get(&id),
                        behind_for: self.behind_for(&id, view, now),
                        redactor: Redactor::new(&object.namespace, secrets),
                        now: now.wall,
                    };
                    report::streamer_status(&facts)
                }
                Object::Malformed { generation, message, .. } => {
                    report::malformed_streamer(&old, *generation, message, now.wall)
                }
            };
            if new != old {
                for occurrence in report::event::of_streamer(object, &uid, &old, &new) {
                    self.tell(occurrence);
                }
                self.queue.push(Kind::Streamer, object, Status::Streamer(new.clone()));
            }
            self.streamers.insert(object.clone(), (uid, new));
        }
        self.streamers.retain(|object, _| seen.contains(object));
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
        report::stream_status(&StreamFacts {
            stream,
            old,
            outlook: self.plan.streams.get(&planned),
            record,
            problem: self.documents.get(object).and_then(|rendered| rendered.problem.as_ref()),
            capture: self.leader.capture(&name, self.now),
            rejected: holder.and_then(|holder| holder.rejected.get(&name.name)).map(String::as_str),
            held: holder.is_some_and(|holder| holder.held.contains(&name.name)),
            redactor: Redactor::new(&object.namespace, self.secrets),
            now: self.now.wall,
        })
    }
}

fn records_by_object(leader: &Leader) -> BTreeMap<ObjectRef, Record> {
    let records = leader.all_records().into_iter();
    records.map(|(id, record)| (ObjectRef { namespace: id.namespace, name: record.stream.clone() }, record)).collect()
}

impl Queue {
    fn push(&self, kind: Kind, object: &ObjectRef, status: Status) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert((kind, object.clone()), status);
        self.news.notify_one();
    }

    fn pop(&self) -> Option<((Kind, ObjectRef), Status)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let next = waiting.pop_first();
        if !waiting.is_empty() {
            self.news.notify_one();
        }
        next
    }

    /// Puts back what could not be written, unless something newer waits.
    fn put_back(&self, key: (Kind, ObjectRef), status: Status) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert(status);
    }
}

async fn write_statuses<C: Cluster>(queue: std::sync::Weak<Queue>, cluster: Arc<C>) {
    const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
    loop {
        let Some(strong) = queue.upgrade() else { return };
        if let Some((key, status)) = strong.pop() {
            if let Err(trouble) = cluster.write_status(&key.1, &status).await {
                tracing::debug!(object = key.1.name, %trouble, "a status could not be written; it is tried again");
                strong.put_back(key, status);
                tokio::time::sleep(PAUSE).await;
            }
            continue;
        }
        // Woken by news, or now and then to see whether the reporter still lives.
        drop(tokio::time::timeout(PAUSE, strong.news.notified()).await);
    }
}
