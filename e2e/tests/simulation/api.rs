//! The API server: objects, slices and a Lease, written by compare-and-swap; calls that get lost or land late, watches
//! that lag, and a storage that can be put back to a copy.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::coordination::v1::Lease;
use tokio::sync::{mpsc, oneshot, watch};
use weir_crds::stream::Stream;
use weir_crds::streamer::{Streamer, StreamerSpec};
use weir_feed::frames::About;
use weir_feed::leader::step::{Outcome, Slice, SliceId};
use weir_feed::record::{Record, StreamerId};
use weir_operator::cluster::{Credentials, Object, ObjectRef, Observed, SliceSeen, Status};

use crate::random::Random;

/// What is asked of it.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    ListSlices,
    ReadSlice(SliceId),
    CreateSlice {
        id: SliceId,
        term: u64,
    },
    TakeSlice {
        id: SliceId,
        version: u64,
        old_term: u64,
        term: u64,
    },
    WriteSlice {
        id: SliceId,
        version: u64,
        term: u64,
        records: Vec<Record>,
        removal_until: Option<u64>,
    },
    GetLease,
    CreateLease(Box<Lease>),
    ReplaceLease(Box<Lease>),
    /// Something that every operator is answered alike.
    Other,
    Register(StreamerId, About),
    WriteStatus(ObjectRef, Box<Status>),
}

/// What it answers.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Slices(Vec<Slice>, u64),
    Slice(Option<Slice>),
    Written(Outcome),
    Lease(Option<Box<Lease>>),
    /// Somebody else was faster.
    Conflict,
    Done,
}

/// What is stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Storage {
    pub(crate) version: u64,
    pub(crate) slices: BTreeMap<SliceId, Slice>,
    pub(crate) lease: Option<Lease>,
}

/// What users have declared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Declared {
    pub(crate) streams: BTreeMap<ObjectRef, Arc<Stream>>,
    pub(crate) streamers: BTreeMap<ObjectRef, Arc<Streamer>>,
    pub(crate) secrets: BTreeMap<ObjectRef, Credentials>,
    /// The list of Streams cannot be had.
    pub(crate) unknown: bool,
}

impl Storage {
    /// The record of a stream.
    pub(crate) fn record(&self, name: &str) -> Option<&Record> {
        self.slices.values().flat_map(|slice| &slice.records).find(|record| record.name == name)
    }
}

enum Shown {
    Observed(Arc<Observed>),
    Slice(SliceSeen),
}

/// What one operator, in one of its lives, watches.
struct Watcher {
    observed: watch::Sender<Arc<Observed>>,
    slices: mpsc::Sender<SliceSeen>,
    queue: VecDeque<(u64, Shown)>,
}

struct Call {
    operator: usize,
    request: Request,
    reply: Option<oneshot::Sender<Reply>>,
}

/// A record was written: what stood there before, and what stands there now.
#[derive(Debug)]
pub(crate) struct Wrote {
    pub(crate) by: usize,
    pub(crate) before: Option<Record>,
    pub(crate) after: Option<Record>,
}

pub(crate) struct State {
    now: u64,
    random: Random,
    pub(crate) storage: Storage,
    pub(crate) copy: Option<Storage>,
    pub(crate) declared: Declared,
    /// Nobody reaches it until then.
    pub(crate) down_until: u64,
    /// Calls get lost or land late until then.
    pub(crate) flaky_until: u64,
    /// By operator.
    pub(crate) cut_off_until: Vec<u64>,
    calls: BTreeMap<(u64, u64), Call>,
    replies: BTreeMap<(u64, u64), (usize, oneshot::Sender<Reply>, Reply)>,
    numbers: u64,
    watchers: Vec<Option<Watcher>>,
    pub(crate) wrote: Vec<Wrote>,
    /// Slices or declared objects have changed since it was last looked at.
    pub(crate) changed: bool,
}

/// The one API server; clones are the same.
#[derive(Clone)]
pub(crate) struct Api(Arc<Mutex<State>>);

impl Api {
    pub(crate) fn new(operators: usize, random: Random) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: 0,
            random,
            storage: Storage::default(),
            copy: None,
            declared: Declared::default(),
            down_until: 0,
            flaky_until: 0,
            cut_off_until: vec![0; operators],
            calls: BTreeMap::new(),
            replies: BTreeMap::new(),
            numbers: 0,
            watchers: (0..operators).map(|_| None).collect(),
            wrote: Vec::new(),
            changed: false,
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request; no answer comes of one that is lost.
    pub(crate) fn call(&self, operator: usize, request: Request) -> oneshot::Receiver<Reply> {
        let (reply, answer) = oneshot::channel();
        self.state().send(operator, request, reply);
        answer
    }

    /// Begins to watch; whoever watched before as this operator does no more.
    pub(crate) fn watch(&self, operator: usize) -> (watch::Receiver<Arc<Observed>>, mpsc::Receiver<SliceSeen>) {
        let (observed, snapshots) = watch::channel(Arc::default());
        let (slices, seen) = mpsc::channel(10_000);
        let mut state = self.state();
        state.watchers[operator] = Some(Watcher { observed, slices, queue: VecDeque::new() });
        let snapshot = state.declared.observed();
        state.show(operator, Shown::Observed(snapshot));
        let known: Vec<SliceSeen> = state.storage.slices.values().map(seen_of).collect();
        for slice in known {
            state.show(operator, Shown::Slice(slice));
        }
        (snapshots, seen)
    }

    pub(crate) fn stop_watching(&self, operator: usize) {
        self.state().watchers[operator] = None;
    }

    /// Time has come; returns the operators to which something was shown or answered.
    pub(crate) fn advance(&self, now: u64) -> Vec<usize> {
        let mut state = self.state();
        state.now = now;
        state.execute_due();
        state.deliver_due()
    }
}

fn seen_of(slice: &Slice) -> SliceSeen {
    SliceSeen { id: slice.id.clone(), version: Some(slice.version), term: Some(slice.term) }
}

impl Declared {
    fn observed(&self) -> Arc<Observed> {
        fn readable<T>(objects: &BTreeMap<ObjectRef, Arc<T>>) -> BTreeMap<ObjectRef, Object<T>> {
            objects.iter().map(|(id, object)| (id.clone(), Object::Readable(Arc::clone(object)))).collect()
        }
        Arc::new(Observed {
            streams: (!self.unknown).then(|| readable(&self.streams)),
            streamers: Some(readable(&self.streamers)),
            secrets: Some(self.secrets.clone()),
            ..Observed::default()
        })
    }
}

impl State {
    fn blind_until(&self, operator: usize) -> u64 {
        self.down_until.max(self.cut_off_until[operator])
    }

    fn send(&mut self, operator: usize, request: Request, reply: oneshot::Sender<Reply>) {
        if self.now < self.blind_until(operator) {
            return;
        }
        let latency = self.random.range(1, 30);
        let flaky = self.now < self.flaky_until && self.random.chance(40);
        let (after, reply) = match if flaky { self.random.index(3) } else { 3 } {
            0 => return,
            1 => (latency, None),
            2 => (self.random.range(2_000, 12_000), None),
            _ => (latency, Some(reply)),
        };
        self.numbers += 1;
        let key = (self.now + after, self.numbers);
        self.calls.insert(key, Call { operator, request, reply });
    }

    fn execute_due(&mut self) {
        while let Some(entry) = self.calls.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let Call { operator, request, reply } = entry.remove();
            if self.now < self.down_until {
                continue;
            }
            let answer = self.execute(operator, request);
            if let Some(reply) = reply {
                self.numbers += 1;
                let key = (self.now + self.random.range(1, 30), self.numbers);
                self.replies.insert(key, (operator, reply, answer));
            }
        }
    }

    fn deliver_due(&mut self) -> Vec<usize> {
        let mut woken = Vec::new();
        while let Some(entry) = self.replies.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (operator, reply, answer) = entry.remove();
            // A way that is cut off takes answers with it.
            if self.now >= self.cut_off_until[operator] {
                // Who asked may be dead.
                let _ = reply.send(answer);
                woken.push(operator);
            }
        }
        for (operator, watcher) in self.watchers.iter_mut().enumerate() {
            let Some(watcher) = watcher else { continue };
            while let Some((_, shown)) = watcher.queue.pop_front_if(|(due, _)| *due <= self.now) {
                match shown {
                    Shown::Observed(observed) => drop(watcher.observed.send_replace(observed)),
                    Shown::Slice(slice) => drop(watcher.slices.try_send(slice)),
                }
                woken.push(operator);
            }
        }
        woken
    }

    fn show(&mut self, operator: usize, shown: Shown) {
        let lag = self.random.range(5, 300);
        let due = (self.now + lag).max(self.blind_until(operator) + lag);
        if let Some(watcher) = &mut self.watchers[operator] {
            let due = watcher.queue.back().map_or(due, |(last, _)| due.max(*last));
            watcher.queue.push_back((due, shown));
        }
    }

    /// What is declared has changed.
    pub(crate) fn declared_changed(&mut self) {
        self.changed = true;
        let observed = self.declared.observed();
        for operator in 0..self.watchers.len() {
            self.show(operator, Shown::Observed(Arc::clone(&observed)));
        }
    }

    fn execute(&mut self, operator: usize, request: Request) -> Reply {
        match request {
            Request::ListSlices => Reply::Slices(self.storage.slices.values().cloned().collect(), self.storage.version),
            Request::ReadSlice(id) => Reply::Slice(self.storage.slices.get(&id).cloned()),
            Request::CreateSlice { id, term } => self.write(operator, &id, None, 0, |slice| slice.term = term),
            Request::TakeSlice { id, version, old_term, term } => {
                self.write(operator, &id, Some(version), old_term, |slice| slice.term = term)
            }
            Request::WriteSlice { id, version, term, records, removal_until } => {
                self.write(operator, &id, Some(version), term, |slice| {
                    slice.records = records;
                    slice.removal_until = removal_until;
                })
            }
            Request::GetLease => Reply::Lease(self.storage.lease.clone().map(Box::new)),
            Request::CreateLease(lease) => self.write_lease(lease, true),
            Request::ReplaceLease(lease) => self.write_lease(lease, false),
            Request::Other => Reply::Done,
            Request::Register(streamer, about) => self.register(&streamer, &about),
            Request::WriteStatus(object, status) => self.write_status(&object, *status),
        }
    }

    fn write(
        &mut self,
        by: usize,
        id: &SliceId,
        version: Option<u64>,
        term: u64,
        change: impl FnOnce(&mut Slice),
    ) -> Reply {
        let fits = match (self.storage.slices.get(id), version) {
            (None, None) => true,
            (Some(slice), Some(version)) => slice.version == version && slice.term == term,
            _ => false,
        };
        if !fits {
            return Reply::Written(Outcome::Refused { message: "a test failed".into() });
        }
        self.storage.version += 1;
        let version = self.storage.version;
        let empty =
            Slice { id: id.clone(), version, term, records: vec![], removal_until: None, removal_confirmed: false };
        let slice = self.storage.slices.entry(id.clone()).or_insert(empty);
        let before = slice.records.clone();
        change(slice);
        slice.version = version;
        let (after, seen) = (slice.records.clone(), seen_of(slice));
        self.compare(by, &before, &after);
        for operator in 0..self.watchers.len() {
            self.show(operator, Shown::Slice(seen.clone()));
        }
        self.changed = true;
        Reply::Written(Outcome::Done { version })
    }

    fn compare(&mut self, by: usize, before: &[Record], after: &[Record]) {
        for new in after.iter().filter(|new| !before.contains(new)) {
            let old = before.iter().find(|old| old.name == new.name).cloned();
            self.wrote.push(Wrote { by, before: old, after: Some(new.clone()) });
        }
        for old in before.iter().filter(|old| after.iter().all(|new| new.name != old.name)) {
            self.wrote.push(Wrote { by, before: Some(old.clone()), after: None });
        }
    }

    fn write_lease(&mut self, mut lease: Box<Lease>, new: bool) -> Reply {
        let stored = self.storage.lease.as_ref();
        let fits = if new {
            stored.is_none()
        } else {
            stored.is_some_and(|stored| stored.metadata.resource_version == lease.metadata.resource_version)
        };
        if !fits {
            return Reply::Conflict;
        }
        self.storage.version += 1;
        lease.metadata.resource_version = Some(self.storage.version.to_string());
        self.storage.lease = Some(Lease::clone(&lease));
        Reply::Lease(Some(lease))
    }

    fn register(&mut self, streamer: &StreamerId, about: &About) -> Reply {
        let id = ObjectRef { namespace: streamer.namespace.clone(), name: streamer.name.clone() };
        if let Entry::Vacant(place) = self.declared.streamers.entry(id) {
            let mut made = Streamer::new(&streamer.name, StreamerSpec::default());
            made.metadata.namespace = Some(streamer.namespace.clone());
            made.metadata.uid = Some(format!("streamer-{}", streamer.name));
            made.metadata.generation = Some(1);
            made.spec.addresses.clone_from(&about.addresses);
            place.insert(Arc::new(made));
            self.declared_changed();
        }
        Reply::Done
    }

    fn write_status(&mut self, object: &ObjectRef, status: Status) -> Reply {
        match status {
            Status::Stream(status) => {
                if let Some(stream) = self.declared.streams.get_mut(object) {
                    Arc::make_mut(stream).status = Some(status);
                }
            }
            Status::Streamer(status) => {
                if let Some(streamer) = self.declared.streamers.get_mut(object) {
                    Arc::make_mut(streamer).status = Some(status);
                }
            }
        }
        let observed = self.declared.observed();
        for operator in 0..self.watchers.len() {
            self.show(operator, Shown::Observed(Arc::clone(&observed)));
        }
        Reply::Done
    }

    /// Who holds the Lease.
    pub(crate) fn lease_holder(&self) -> Option<&str> {
        self.storage.lease.as_ref()?.spec.as_ref()?.holder_identity.as_deref()
    }

    /// The record of a stream, as it stands.
    pub(crate) fn record(&self, name: &str) -> Option<&Record> {
        self.storage.record(name)
    }
}

/// A record on one line.
pub(crate) fn short(record: &Record) -> String {
    let Record { name, streamer, epoch, phase, to, previous, .. } = record;
    format!("{name}: {phase:?} {streamer} to {to:?} previous {previous:?} epoch {}", epoch % 100_000_000)
}
