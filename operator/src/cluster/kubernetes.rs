//! Kubernetes as the world: the API server holds resources and decides about leadership.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use rand::Rng as _;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use weir_feed::frames::About;
use weir_feed::grant::KeyRing;
use weir_feed::leader::step::{Outcome, Slice, SliceId};
use weir_feed::periods::Periods;
use weir_feed::record::{Record, StreamerId};

use self::events::Series;
use self::request::Failure;
use self::status::Written;
use self::store::Store;
use super::removals::Removals;
use super::{
    Cluster, Declared, Identity, LeaseEvent, ObjectRef, Observed, Occurrence, SliceSeen, Status, TokenError, Trouble,
};
use crate::token;

pub mod campaign;
mod certificates;
mod election;
mod events;
mod forget;
mod keys;
mod lean;
mod observe;
mod pod;
mod register;
pub mod request;
mod slices;
mod status;
mod store;
mod tokens;

/// The name under which we write: field manager, and reporter of Events.
const MANAGER: &str = "weir-operator";

/// The Secret with the keys of grants and terms, in the operator's own namespace.
pub const GRANTS: &str = keys::NAME;

/// The audience of tokens that are meant for us.
pub const AUDIENCE: &str = "weir.dev";

/// How the operator sees its cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// The namespaces that are looked after; empty: all.
    pub namespaces: Vec<String>,
    /// Where the Lease `weir-operator` and the Secret `weir-grants` are.
    pub own_namespace: String,
    /// This operator's name, its Pod's: in the Lease (made unique there) and in Events.
    pub identity: String,
    /// The audience that tokens must have, usually [`AUDIENCE`].
    pub audience: String,
    /// Where this operator's feed is, for sidecars that ask a standby.
    pub advertise: Option<String>,
    pub periods: Periods,
}

/// A client for [`Kubernetes`], from the Pod's ServiceAccount or a kubeconfig. It does not repeat requests by itself (a
/// repeated write looks like a refused one), and notices a connection that has died.
pub async fn client() -> Result<Client, Trouble> {
    let config = kube::Config::infer().await;
    let config = config.map_err(|error| {
        Trouble(format!("there is neither a Pod's ServiceAccount nor a kubeconfig that can be used: {error}"))
    })?;
    client_of(config)
}

/// As [`client`], from a configuration.
pub fn client_of(mut config: kube::Config) -> Result<Client, Trouble> {
    config.default_retry = false;
    // Longer than a watch without events lasts.
    config.read_timeout = Some(Duration::from_secs(u64::from(observe::WATCH) + 15));
    config.reset_reader_on_write = true;
    Client::try_from(config).map_err(|error| Failure::from(error).into())
}

/// A cluster.
pub struct Kubernetes {
    client: Client,
    config: Config,
    /// How long one request may take.
    limit: Duration,
    /// `spec.holderIdentity`: no two processes have the same, or a restarted one would speak under the other's Lease.
    holder: String,
    shared: Arc<Shared>,
    observed: OnceLock<watch::Receiver<Arc<Observed>>>,
    written: Written,
    removals: Removals,
    series: Series,
    /// Whether the Lease was ours when it was last looked at.
    leads: watch::Sender<bool>,
    /// Ends the watches.
    stop: CancellationToken,
    _stop: DropGuard,
}

/// What the watches fill and others read.
struct Shared {
    store: Mutex<Store>,
    changed: Notify,
    /// Namespaces have changed, or what of ours is in them.
    published: Notify,
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_slices_problem(&self, index: usize, problem: Option<String>) {
        if let Some(old) = self.store().slices.get_mut(index) {
            *old = problem;
        }
        self.changed.notify_one();
    }
}

/// A part of the cluster that one watch sees.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    All,
    Namespace(String),
}

impl Scope {
    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Self::All => Api::all(client.clone()),
            Self::Namespace(name) => Api::namespaced(client.clone(), name),
        }
    }
}

/// As it stands behind a kind in the plural.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::Namespace(name) => write!(f, " of namespace {name}"),
        }
    }
}

impl Kubernetes {
    /// The cluster behind `client`, best one made by [`client`].
    pub fn new(client: Client, mut config: Config) -> Self {
        config.namespaces.sort();
        config.namespaces.dedup();
        let stop = CancellationToken::new();
        let unique: u32 = rand::rng().random();
        Self {
            limit: Duration::from_millis((config.periods.lease / 2).max(2_000)),
            holder: format!("{}_{unique:08x}", config.identity),
            shared: Arc::new(Shared {
                store: Mutex::new(Store::new(config.namespaces.len().max(1))),
                changed: Notify::new(),
                published: Notify::new(),
            }),
            observed: OnceLock::new(),
            written: Written::default(),
            removals: Removals::default(),
            series: Series::default(),
            leads: watch::Sender::new(false),
            _stop: stop.clone().drop_guard(),
            stop,
            client,
            config,
        }
    }

    fn scopes(&self) -> Vec<Scope> {
        if self.config.namespaces.is_empty() {
            return vec![Scope::All];
        }
        let namespaces = self.config.namespaces.iter().cloned();
        namespaces.map(Scope::Namespace).collect()
    }

    fn is_in_scope(&self, namespace: &str) -> bool {
        let namespaces = &self.config.namespaces;
        namespaces.is_empty() || namespaces.iter().any(|one| one == namespace)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.shared.store()
    }

    /// Runs a task until it ends or this value is dropped.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        tokio::spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }
}

impl Cluster for Kubernetes {
    const DECLARED: Declared = Declared::WithKubectl;

    fn observe(&self) -> watch::Receiver<Arc<Observed>> {
        self.observed.get_or_init(|| self.start_observing()).clone()
    }

    fn watch_slices(&self) -> mpsc::Receiver<SliceSeen> {
        self.start_watching_slices()
    }

    fn campaign(&self, term: watch::Receiver<u64>, resign: watch::Receiver<u64>) -> mpsc::Receiver<LeaseEvent> {
        self.start_campaign(term, resign)
    }

    async fn list_slices(&self) -> Result<(Vec<Slice>, u64), Trouble> {
        self.list().await
    }

    async fn read_slice(&self, id: &SliceId) -> Result<Option<Slice>, Trouble> {
        self.read(id).await
    }

    async fn create_slice(&self, id: &SliceId, term: u64) -> Outcome {
        self.create(id, term).await
    }

    async fn take_slice(&self, id: &SliceId, version: u64, old_term: u64, term: u64) -> Outcome {
        self.take(id, version, old_term, term).await
    }

    async fn write_slice(
        &self,
        id: &SliceId,
        version: u64,
        term: u64,
        records: &[Record],
        removal_until: Option<u64>,
    ) -> Outcome {
        self.write(id, version, term, records, removal_until).await
    }

    async fn keys(&self) -> Result<KeyRing, Trouble> {
        self.key_ring().await
    }

    async fn identify(&self, token: &str) -> Result<Identity, TokenError> {
        if token::is_ours(token) { self.look_up(token) } else { self.review(token).await }
    }

    async fn register(&self, streamer: &StreamerId, about: &About, pod: Option<&str>) -> Result<(), Trouble> {
        self.create_streamer(streamer, about, pod).await
    }

    async fn forget(&self, streamer: &StreamerId, pod: &str) -> Result<bool, Trouble> {
        self.delete_streamer(streamer, pod).await
    }

    async fn write_status(&self, object: &ObjectRef, status: &Status) -> Result<(), Trouble> {
        self.put_status(object, status).await
    }

    async fn record_event(&self, occurrence: &Occurrence) {
        self.record(occurrence).await;
    }
}
