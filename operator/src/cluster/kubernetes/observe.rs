//! Watching what users declare. Lists that fail are listed again: after a restored etcd, going on where a watch
//! ended would hear nothing and get no error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc, watch};
use weir_crds::stream::Stream;
use weir_crds::streamer::Streamer;

use super::lean::{Lean, entry, object_ref};
use super::request::Failure;
use super::store::{Listing, Store};
use super::{Kubernetes, Scope, Shared, pod};
use crate::clock::now;
use crate::cluster::{CREDENTIALS, Credentials, ObjectRef, Observed};
use crate::inject::{INJECT, YES};
use crate::token::{Kept, secret};

/// How long one watch lasts before it is begun anew, in seconds: a connection that has died silently is noticed then.
pub(super) const WATCH: u32 = 45;

/// Changes that come together are published together.
const PAUSE: Duration = Duration::from_millis(20);

/// A watch that has held for so long was in order.
const HELD: Duration = Duration::from_secs(10);

/// What a watch tells.
pub(super) enum Told<K> {
    Event(Event<K>),
    /// It has failed, and is begun again. `forget`: its kind is not there any more.
    Failed {
        why: String,
        forget: bool,
    },
}

/// A watch that goes on for as long as somebody listens.
pub(super) struct Watched<K> {
    pub(super) told: mpsc::Receiver<Told<K>>,
    /// Told, it lists anew.
    again: Arc<Notify>,
}

/// Watches for as long as somebody listens.
pub(super) fn watched<K>(api: Api<K>, config: watcher::Config) -> Watched<K>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let (sender, told) = mpsc::channel(256);
    let again = Arc::new(Notify::new());
    let asked = Arc::clone(&again);
    tokio::spawn(async move {
        let listener = sender.clone();
        tokio::select! {
            () = listener.closed() => {}
            () = tell(api, config.timeout(WATCH), sender, &asked) => {}
        }
    });
    Watched { told, again }
}

async fn tell<K>(api: Api<K>, config: watcher::Config, sender: mpsc::Sender<Told<K>>, again: &Notify)
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let mut pauses = pauses();
    loop {
        let mut events = std::pin::pin!(watcher(api.clone(), config.clone()));
        let (begun, mut failed) = (Instant::now(), None);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = again.notified() => break,
            };
            match event {
                Some(Ok(event)) => {
                    if sender.send(Told::Event(event)).await.is_err() {
                        return;
                    }
                }
                Some(Err(error)) => {
                    failed = Some(error);
                    break;
                }
                None => return,
            }
        }
        // Expired: the list is only too old to go on from.
        if let Some((why, code)) = failed.map(sentence).filter(|(_, code)| *code != Some(410)) {
            let forget = code == Some(404);
            if sender.send(Told::Failed { why, forget }).await.is_err() {
                return;
            }
        }
        // A list that comes does not make a watch that holds.
        if begun.elapsed() > HELD {
            pauses = self::pauses();
        }
        tokio::time::sleep(pauses.next().unwrap_or(PAUSE)).await;
    }
}

/// Between two attempts: not client-go's 30 s, because there are few watches and much waits for them.
fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_jitter()
        .build()
}

fn sentence(error: watcher::Error) -> (String, Option<u16>) {
    let failure = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Failure::from(error),
        watcher::Error::WatchError(status) => Failure::Answered(status),
        error @ watcher::Error::NoResourceVersion => return (error.to_string(), None),
    };
    (failure.to_string(), failure.code())
}

/// One list of the store: which, and what it is called.
struct Target<V> {
    what: &'static str,
    listing: fn(&mut Store, usize) -> Option<&mut Listing<V>>,
}

impl Kubernetes {
    /// Starts every watch, and publishes what they see.
    pub(super) fn start_observing(&self) -> watch::Receiver<Arc<Observed>> {
        let (sender, receiver) = watch::channel(Arc::default());
        for (index, scope) in self.scopes().into_iter().enumerate() {
            self.watch_reported(index, &scope);
            self.watch_secrets(index, &scope);
            self.watch_tokens(index, &scope);
            self.watch_namespaces(index, &scope);
            self.watch_pods(index, &scope);
        }
        let publishing = publish(self.shared.clone(), sender);
        self.spawn(publishing);
        receiver
    }

    fn watch_reported(&self, index: usize, scope: &Scope) {
        let config = watcher::Config::default();
        let streams = Target { what: "Streams", listing: |store, index| store.streams.get_mut(index) };
        let api = scope.api::<Lean<Stream>>(&self.client);
        self.follow(index, watched(api, config.clone()), &streams, entry, scope);
        let streamers = Target { what: "Streamers", listing: |store, index| store.streamers.get_mut(index) };
        let api = scope.api::<Lean<Streamer>>(&self.client);
        self.follow(index, watched(api, config), &streamers, entry, scope);
    }

    fn watch_secrets(&self, index: usize, scope: &Scope) {
        let config = watcher::Config::default().fields(&format!("type={CREDENTIALS}"));
        let target = Target { what: "Secrets", listing: |store, index| store.secrets.get_mut(index) };
        let api = scope.api::<Secret>(&self.client);
        self.follow(index, watched(api, config), &target, credentials, scope);
    }

    fn watch_tokens(&self, index: usize, scope: &Scope) {
        let config = watcher::Config::default().fields(&format!("type={}", secret::TYPE));
        let target = Target { what: "Streamers' tokens", listing: |store, index| store.tokens.get_mut(index) };
        let api = scope.api::<Secret>(&self.client);
        self.follow(index, watched(api, config), &target, kept, scope);
    }

    /// Takes everything that a watch tells into its list.
    fn follow<K, V>(
        &self,
        index: usize,
        watched: Watched<K>,
        target: &Target<V>,
        read: fn(K) -> (ObjectRef, V),
        scope: &Scope,
    ) where
        K: Send + 'static,
        V: Send + 'static,
    {
        let name = format!("{}{scope}", target.what);
        let (shared, listing) = (self.shared.clone(), target.listing);
        let Watched { mut told, again } = watched;
        self.spawn(async move {
            while let Some(told) = told.recv().await {
                // Reading comes before the lock: it is the long part.
                let told = read_event(told, read);
                let mut store = shared.store();
                let Some(listing) = listing(&mut store, index) else {
                    return;
                };
                let doubt = if let Told::Event(event) = &told { listing.doubt(event, now().mono) } else { None };
                let changed = match (doubt, told) {
                    (Some(why), _) => {
                        tracing::warn!("{name}: {why}");
                        listing.fail(format!("{name}: {why}"), false);
                        again.notify_one();
                        true
                    }
                    (None, Told::Event(event)) => listing.take(event),
                    (None, Told::Failed { why, forget }) => {
                        listing.fail(format!("{name} cannot be watched: {why}"), forget);
                        true
                    }
                };
                drop(store);
                if changed {
                    shared.changed.notify_one();
                }
            }
        });
    }

    fn watch_namespaces(&self, index: usize, scope: &Scope) {
        let config = match scope {
            Scope::All => watcher::Config::default(),
            Scope::Namespace(name) => watcher::Config::default().fields(&format!("metadata.name={name}")),
        };
        let mut told = watched(Api::<Lean<Namespace>>::all(self.client.clone()), config).told;
        let shared = self.shared.clone();
        self.spawn(async move {
            while let Some(told) = told.recv().await {
                let told = read_event(told, |namespace| terminating(&namespace));
                let mut store = shared.store();
                let Some(namespaces) = store.namespaces.get_mut(index) else {
                    return;
                };
                let changed = match told {
                    Told::Event(event) => namespaces.take(event),
                    Told::Failed { why, .. } => {
                        namespaces.fail(&format!("Namespaces cannot be watched: {why}"));
                        true
                    }
                };
                drop(store);
                if changed {
                    shared.published.notify_one();
                    shared.changed.notify_one();
                }
            }
        });
    }
}

impl Kubernetes {
    /// Pods with a sidecar, by their label: each that is deleted or ends.
    fn watch_pods(&self, index: usize, scope: &Scope) {
        let config = watcher::Config::default().labels(&format!("{INJECT}={YES}"));
        let mut told = watched(scope.api::<Pod>(&self.client), config).told;
        let (shared, name) = (self.shared.clone(), format!("Pods{scope}"));
        self.spawn(async move {
            while let Some(told) = told.recv().await {
                let told = read_event(told, |pod| pod::facts(&pod));
                let mut store = shared.store();
                let Some(pods) = store.pods.get_mut(index) else {
                    return;
                };
                let changed = match told {
                    Told::Event(event) => pods.take(event),
                    Told::Failed { why, .. } => {
                        pods.fail(&format!("{name} cannot be watched: {why}"));
                        true
                    }
                };
                drop(store);
                if changed {
                    shared.changed.notify_one();
                }
            }
        });
    }
}

pub(super) fn read_event<K, V>(told: Told<K>, read: fn(K) -> V) -> Told<V> {
    match told {
        Told::Event(Event::Init) => Told::Event(Event::Init),
        Told::Event(Event::InitDone) => Told::Event(Event::InitDone),
        Told::Event(Event::InitApply(object)) => Told::Event(Event::InitApply(read(object))),
        Told::Event(Event::Apply(object)) => Told::Event(Event::Apply(read(object))),
        Told::Event(Event::Delete(object)) => Told::Event(Event::Delete(read(object))),
        Told::Failed { why, forget } => Told::Failed { why, forget },
    }
}

fn credentials(secret: Secret) -> (ObjectRef, Credentials) {
    let data = secret.data.unwrap_or_default();
    let data = data.into_iter().map(|(key, value)| (key, value.0));
    (object_ref(&secret.metadata), Credentials(data.collect()))
}

fn kept(secret: Secret) -> (ObjectRef, Option<Kept>) {
    let (reference, kept) = (object_ref(&secret.metadata), secret::kept(secret));
    if kept.is_none() {
        let (namespace, name) = (&reference.namespace, &reference.name);
        tracing::warn!(
            namespace,
            name,
            "a Secret of type {} holds no token: see weir-operator token create",
            secret::TYPE
        );
    }
    (reference, kept)
}

fn terminating(namespace: &Lean<Namespace>) -> (ObjectRef, bool) {
    let metadata = namespace.meta();
    (object_ref(metadata), metadata.deletion_timestamp.is_some())
}

/// Publishes what is known, soon after it has changed. A large snapshot takes its time, and is made less often.
async fn publish(shared: Arc<Shared>, sender: watch::Sender<Arc<Observed>>) {
    let mut pause = PAUSE;
    loop {
        shared.changed.notified().await;
        tokio::time::sleep(pause).await;
        let begun = Instant::now();
        let observed = Arc::new(shared.store().observed());
        sender.send_replace(observed);
        pause = (begun.elapsed() * 10).clamp(PAUSE, Duration::from_secs(1));
    }
}
