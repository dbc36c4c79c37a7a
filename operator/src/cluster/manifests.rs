//! A directory of manifests, and a state directory: one operator and no Kubernetes.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::spawn_blocking;
use weir_feed::frames::About;
use weir_feed::grant::KeyRing;
use weir_feed::leader::step::{Outcome, Slice, SliceId};
use weir_feed::record::{Record, StreamerId};

pub use self::file::StateError;
use self::known::Kind;
use self::lock::Lock;
use self::picture::{Picture, Refreshed};
use self::slices::Slices;
use self::status::Statuses;
use self::tokens::Tokens;
use super::{
    Cluster, Declared, Identity, LeaseEvent, ObjectRef, Observed, Occurrence, SliceSeen, Status, TokenError, Trouble,
};
use crate::http::{Objects, Resource};

mod admit;
mod campaign;
mod directory;
mod documents;
pub mod export;
mod file;
mod follow;
mod keys;
mod known;
mod lock;
mod picture;
mod scan;
mod slices;
mod status;
mod streamers;
mod tokens;

/// How many Events are kept for whoever asks.
const EVENTS: usize = 1_000;

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--manifests`.
    pub manifests: PathBuf,
    /// `--state`.
    pub state: PathBuf,
    /// `--namespace`; empty: all.
    pub namespaces: BTreeSet<String>,
    /// `--token-file`.
    pub token_file: Option<PathBuf>,
    /// `--identity`, for whoever waits for the lock.
    pub identity: String,
    /// `--feed-advertise`, for the sidecars of a standby.
    pub feed_advertise: Option<String>,
    /// Between two looks at files that tell nothing by themselves (network file systems), and two tries for the lock.
    pub poll: Duration,
    /// How long files must have been quiet before they are read.
    pub settle: Duration,
}

impl Options {
    /// Options with the usual times.
    pub fn new(manifests: &Path, state: &Path) -> Self {
        Self {
            manifests: manifests.to_owned(),
            state: state.to_owned(),
            namespaces: BTreeSet::new(),
            token_file: None,
            identity: String::new(),
            feed_advertise: None,
            poll: Duration::from_secs(2),
            settle: Duration::from_millis(300),
        }
    }
}

/// The world outside Kubernetes.
#[derive(Clone)]
pub struct Manifests {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    lock: Arc<Lock>,
    slices: Slices,
    picture: Mutex<Picture>,
    statuses: Mutex<Statuses>,
    tokens: Option<Mutex<Tokens>>,
    events: Mutex<VecDeque<Value>>,
    /// What is wrong with the state, if anything is.
    trouble: Mutex<Option<String>>,
    snapshot: watch::Sender<Arc<Observed>>,
    /// Files changed.
    look: Arc<Notify>,
    /// Statuses or registered Streamers changed.
    publish: Arc<Notify>,
}

impl Manifests {
    /// Opens both directories and reads them once. Refuses state that cannot be read, token files that cannot be
    /// understood, and a first start without the directory of manifests: a sentence each.
    pub fn open(options: Options) -> Result<Self, StateError> {
        let state = &options.state;
        file::make_directory(state).map_err(|error| {
            file::unusable(
                state,
                &format!("cannot be made ({error})"),
                "name a directory that the operator's user can write",
            )
        })?;
        let lock = Arc::new(Lock::new(state, &options.identity, options.feed_advertise.as_deref()));
        let slices = Slices::open(state, Arc::clone(&lock))?;
        keys::load(state)?;
        let mut picture = Picture::open(&options.manifests, state, options.namespaces.clone())?;
        if picture.admission.known.0.is_empty() && !options.manifests.is_dir() {
            let advice = "make it, or name another with --manifests";
            return Err(file::unusable(&options.manifests, "is not a directory", advice));
        }
        let statuses = Statuses::load(state)?;
        picture.refresh(true, SystemTime::now());
        let observed = picture.observed(&statuses);
        let tokens = options.token_file.as_deref().map(Tokens::open).transpose()?;
        let inner = Inner {
            lock,
            slices,
            picture: Mutex::new(picture),
            statuses: Mutex::new(statuses),
            tokens: tokens.map(Mutex::new),
            events: Mutex::default(),
            trouble: Mutex::default(),
            snapshot: watch::Sender::new(Arc::new(observed)),
            look: Arc::default(),
            publish: Arc::default(),
            options,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs something that reads or writes files where that disturbs nobody.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> T + Send + 'static) -> Result<T, Trouble> {
        let inner = Arc::clone(&self.inner);
        let done = spawn_blocking(move || work(&inner)).await;
        done.map_err(|error| Trouble(format!("work on the state directory ended early: {error}")))
    }

    async fn write(&self, work: impl FnOnce(&Slices) -> Outcome + Send + 'static) -> Outcome {
        let done = self.blocking(|inner| work(&inner.slices)).await;
        done.unwrap_or_else(|Trouble(message)| Outcome::Unknown { message })
    }
}

impl Inner {
    /// Looks at the files, and publishes and remembers what is new.
    fn refresh(&self, hurry: bool) -> Refreshed {
        let mut picture = self.picture();
        let refreshed = picture.refresh(hurry, SystemTime::now());
        if refreshed == Refreshed::New {
            self.publish(&mut picture);
        }
        self.remember(&mut picture);
        refreshed
    }

    /// Puts a new snapshot out.
    fn publish(&self, picture: &mut Picture) {
        let mut statuses = lock(&self.statuses);
        let mut observed = picture.observed(&statuses);
        if let (Some(streams), Some(streamers)) = (&observed.streams, &observed.streamers) {
            let retain =
                || statuses.retain(|stream| streams.contains_key(stream), |streamer| streamers.contains_key(streamer));
            let retained = self.lock.while_held(retain).unwrap_or(Ok(()));
            observed.problems.extend(retained.err().map(|error| error.0));
        }
        observed.problems.extend(lock(&self.trouble).clone());
        self.snapshot.send_replace(Arc::new(observed));
    }

    /// Says what is wrong with the state, or that nothing is.
    fn complain(&self, trouble: Option<&StateError>) {
        let trouble = trouble.map(ToString::to_string);
        let before = std::mem::replace(&mut *lock(&self.trouble), trouble.clone());
        if before != trouble {
            self.publish(&mut self.picture());
        }
    }

    /// Writes down what must survive a restart, if the state is ours.
    fn remember(&self, picture: &mut Picture) {
        if !picture.admission.news {
            return;
        }
        let store = || picture.admission.known.store(&self.options.state);
        let Some(stored) = self.lock.while_held(store) else { return };
        picture.admission.news = stored.is_err();
        let unwritten = stored.err().map(|error| {
            let path = self.options.state.join("objects.json");
            let advice = "make room, or let the operator's user write it; until then a restart forgets what changed";
            file::unusable(&path, &format!("cannot be written ({error})"), advice).0
        });
        if picture.unwritten != unwritten {
            picture.unwritten = unwritten;
            picture.tell();
            self.publish(picture);
        }
    }

    /// The key ring, made if there is none and the state is ours.
    fn keys(&self) -> Result<KeyRing, StateError> {
        let state = &self.options.state;
        let make = || match keys::load(state)? {
            Some(ring) => Ok(ring),
            None => keys::make(state, crate::clock::now().wall),
        };
        let not_ours = || Err(StateError("the lock of the state directory is not ours: no keys are made".to_owned()));
        self.lock.while_held(make).unwrap_or_else(not_ours)
    }

    fn register(&self, streamer: &StreamerId, about: &About) -> Result<(), StateError> {
        let object = ObjectRef { namespace: streamer.namespace.clone(), name: streamer.name.clone() };
        let declared =
            self.snapshot.borrow().streamers.as_ref().is_some_and(|streamers| streamers.contains_key(&object));
        if declared {
            return Ok(());
        }
        let mut picture = self.picture();
        let add = || picture.registered.add(streamer, about, crate::clock::now());
        let not_ours = || {
            Err(StateError(format!(
                "the lock of the state directory is not ours: Streamer {streamer} is not registered"
            )))
        };
        self.lock.while_held(add).unwrap_or_else(not_ours)?;
        self.publish(&mut picture);
        Ok(())
    }

    fn write_status(&self, object: &ObjectRef, status: &Status) -> Result<bool, StateError> {
        let mut statuses = lock(&self.statuses);
        let not_ours =
            || Err(StateError("the lock of the state directory is not ours: no status is written".to_owned()));
        self.lock.while_held(|| statuses.write(object, status)).unwrap_or_else(not_ours)
    }

    /// Every object of a kind. Only a leader knows statuses.
    fn list(&self, resource: Resource) -> Result<Vec<Value>, StateError> {
        if !self.lock.is_ours() {
            return Err(StateError(
                "this operator stands by: ask the one that has the lock of the state directory".to_owned(),
            ));
        }
        match resource {
            Resource::Streams => Ok(self.picture().objects(Kind::Stream, &lock(&self.statuses))),
            Resource::Streamers => Ok(self.picture().objects(Kind::Streamer, &lock(&self.statuses))),
            Resource::Placements => {
                self.slices.objects().map(|placements| placements.iter().map(|placement| json!(placement)).collect())
            }
            Resource::Events => Ok(lock(&self.events).iter().cloned().collect()),
        }
    }

    fn picture(&self) -> MutexGuard<'_, Picture> {
        lock(&self.picture)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<StateError> for Trouble {
    fn from(error: StateError) -> Self {
        Self(error.0)
    }
}

impl Cluster for Manifests {
    const DECLARED: Declared = Declared::InManifests;

    fn observe(&self) -> watch::Receiver<Arc<Observed>> {
        tokio::spawn(follow::follow(Arc::downgrade(&self.inner)));
        let mut snapshot = self.inner.snapshot.subscribe();
        // The first one was there before anybody asked, and is news all the same.
        snapshot.mark_changed();
        snapshot
    }

    fn watch_slices(&self) -> mpsc::Receiver<SliceSeen> {
        let (seen, receiver) = mpsc::channel(1_024);
        tokio::spawn(follow::slices(Arc::downgrade(&self.inner), seen));
        receiver
    }

    fn campaign(&self, term: watch::Receiver<u64>, resign: watch::Receiver<u64>) -> mpsc::Receiver<LeaseEvent> {
        let (events, receiver) = mpsc::channel(16);
        tokio::spawn(campaign::campaign(Arc::downgrade(&self.inner), term, resign, events));
        receiver
    }

    async fn list_slices(&self) -> Result<(Vec<Slice>, u64), Trouble> {
        Ok(self.blocking(|inner| inner.slices.list()).await??)
    }

    async fn read_slice(&self, id: &SliceId) -> Result<Option<Slice>, Trouble> {
        let id = id.clone();
        Ok(self.blocking(move |inner| inner.slices.read(&id)).await??)
    }

    async fn create_slice(&self, id: &SliceId, term: u64) -> Outcome {
        let id = id.clone();
        self.write(move |slices| slices.create(&id, term)).await
    }

    async fn take_slice(&self, id: &SliceId, version: u64, old_term: u64, term: u64) -> Outcome {
        let id = id.clone();
        self.write(move |slices| slices.take(&id, version, old_term, term)).await
    }

    async fn write_slice(
        &self,
        id: &SliceId,
        version: u64,
        term: u64,
        records: &[Record],
        removal_until: Option<u64>,
    ) -> Outcome {
        let (id, records) = (id.clone(), records.to_vec());
        self.write(move |slices| slices.write(&id, version, term, records, removal_until)).await
    }

    async fn keys(&self) -> Result<KeyRing, Trouble> {
        Ok(self.blocking(Inner::keys).await??)
    }

    async fn identify(&self, token: &str) -> Result<Identity, TokenError> {
        let token = token.to_owned();
        let identified = self.blocking(move |inner| match &inner.tokens {
            Some(tokens) => lock(tokens).identify(&token),
            None => Err(TokenError::Refused(
                "no token is known here: the operator was started without --token-file".to_owned(),
            )),
        });
        identified.await.map_err(|Trouble(why)| TokenError::Unavailable(why))?
    }

    async fn register(&self, streamer: &StreamerId, about: &About, _: Option<&str>) -> Result<(), Trouble> {
        let (streamer, about) = (streamer.clone(), about.clone());
        Ok(self.blocking(move |inner| inner.register(&streamer, &about)).await??)
    }

    async fn forget(&self, _: &StreamerId, _: &str) -> Result<bool, Trouble> {
        Ok(false)
    }

    async fn write_status(&self, object: &ObjectRef, status: &Status) -> Result<(), Trouble> {
        let (object, status) = (object.clone(), status.clone());
        let changed = self.blocking(move |inner| inner.write_status(&object, &status)).await??;
        if changed {
            self.inner.publish.notify_one();
        }
        Ok(())
    }

    async fn record_event(&self, occurrence: &Occurrence) {
        let Occurrence { kind, object, uid, warning, reason, message, tells: _ } = occurrence;
        let type_ = if *warning { "Warning" } else { "Normal" };
        tracing::info!(kind, namespace = object.namespace, name = object.name, r#type = type_, reason, "{message}");
        let mut events = lock(&self.inner.events);
        if events.len() == EVENTS {
            events.pop_front();
        }
        let now = jiff::Timestamp::now();
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
        events.push_back(json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": object.namespace, "name": format!("{}.{:x}", object.name, now.as_nanosecond()), "creationTimestamp": time},
            "involvedObject": {"apiVersion": "weir.dev/v1alpha1", "kind": kind, "namespace": object.namespace, "name": object.name, "uid": uid},
            "type": type_, "reason": reason, "message": message, "firstTimestamp": time, "lastTimestamp": time, "count": 1,
        }));
    }
}

impl Objects for Manifests {
    fn list(&self, resource: Resource) -> BoxFuture<'_, Result<Vec<Value>, String>> {
        let list = self.blocking(move |inner| inner.list(resource));
        Box::pin(async move { list.await.map_err(|error| error.0)?.map_err(|error| error.0) })
    }
}

#[cfg(test)]
#[path = "manifests/tests.rs"]
mod tests;
