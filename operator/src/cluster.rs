//! The trait between the loop and the world: Kubernetes, or a directory of manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use weir_crds::stream::{Stream, StreamStatus};
use weir_crds::streamer::{Streamer, StreamerStatus};
use weir_feed::frames::About;
use weir_feed::grant::KeyRing;
use weir_feed::leader::step::{Outcome, Slice, SliceId};
use weir_feed::record::{Record, StreamerId};
use weir_feed::time::Now;

use crate::clock;

#[cfg(test)]
pub(crate) mod fake;
pub mod kubernetes;
pub mod manifests;
mod removals;

/// The only type of Secret that is read: otherwise a Stream could read any Secret of its namespace out to a URL.
const CREDENTIALS: &str = "weir.dev/credentials";

/// The annotation with the whole of the last `kubectl apply` once more, passwords included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The annotation of a Placement (value `true`) that confirms the removal which it holds.
pub const CONFIRM_REMOVAL: &str = "weir.dev/confirm-removal";

/// On a Streamer that its sidecar's registration made: the uid of the Pod with which it goes, because nobody brings a pod of
/// that name back. Without it the Streamer stays.
pub const GOES_WITH_POD: &str = "weir.dev/goes-with-pod";

/// Namespace and `metadata.name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    pub namespace: String,
    pub name: String,
}

/// An object of a list: readable, or set aside with the sentence that says why. Lean: managed fields are dropped.
#[derive(Debug, Clone)]
pub enum Object<T> {
    Readable(Arc<T>),
    /// `generation` and the status conditions' owner still need a condition written for it.
    Malformed {
        uid: String,
        generation: i64,
        message: String,
    },
}

/// The data of a Secret of type `weir.dev/credentials`, by key. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(pub BTreeMap<String, Vec<u8>>);

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A streamer's pod, as its API server and its kubelet tell of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pod {
    pub uid: String,
    /// It is being deleted, or its node has given it up.
    pub going: bool,
    /// Its kubelet says that all of its containers have ended for good. That is true for ever.
    pub ended: bool,
    /// Whoever made it brings a pod of the same name back, or may.
    pub returns: bool,
    /// Its streams are to leave it before it ends.
    pub drains: bool,
}

/// Everything observed of what users declare. `None`: that list is not known (never came, unreadable, not believed).
#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub streams: Option<BTreeMap<ObjectRef, Object<Stream>>>,
    pub streamers: Option<BTreeMap<ObjectRef, Object<Streamer>>>,
    pub secrets: Option<BTreeMap<ObjectRef, Credentials>>,
    /// Pods with a sidecar, and for a while those that have ended; `None` also where there are no pods.
    pub pods: Option<BTreeMap<ObjectRef, Pod>>,
    /// Namespaces that are being deleted.
    pub terminating: BTreeSet<String>,
    /// What is wrong with the observation itself, for `/readyz` and the log: one sentence each.
    pub problems: Vec<String>,
}

/// What the election says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseEvent {
    /// Ours until `deadline` (ms of the process's monotonic clock, [`crate::clock`]).
    Held { deadline: u64, highest_term: u64 },
    /// Not ours.
    Lost { leader: Option<String> },
    /// The storage went back in time: why the process must not go on with what it knows.
    WentBack { why: String },
}

/// What the watch saw of a Placement that may be somebody else's doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceSeen {
    pub id: SliceId,
    /// `None`: deleted.
    pub version: Option<u64>,
    pub term: Option<u64>,
}

/// Who a bearer token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub streamer: StreamerId,
    /// The pod's uid where the API server vouches for it.
    pub instance: Option<String>,
    /// When the token expires, ms since the Unix epoch.
    pub expires: Option<u64>,
}

/// Why a token is refused: a sentence without the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("{0}")]
    Refused(String),
    /// The API server could not be asked: the sidecar should try again.
    #[error("{0}")]
    Unavailable(String),
}

/// What an Event is about, which decides what is recorded first when there are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tells {
    /// Something that lasts: it waits, is held, frozen or disputed, or is well again.
    State,
    /// Something that has been done.
    Change,
}

/// An Event to record on an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// `Stream`, `Streamer` or `Placement` (whose `uid` may be empty).
    pub kind: &'static str,
    pub object: ObjectRef,
    pub uid: String,
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    pub tells: Tells,
    /// CamelCase.
    pub reason: String,
    pub message: String,
}

/// A status to write; the writer sends it only if it differs from what is there.
#[derive(Debug, Clone)]
pub enum Status {
    Stream(StreamStatus),
    Streamer(StreamerStatus),
}

/// A failure to talk to the world: a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(pub String);

/// How people declare what they want, which is how they are told to change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    WithKubectl,
    InManifests,
}

/// Where resources live and leadership is decided.
pub trait Cluster: Send + Sync + 'static {
    /// How people declare what they want here.
    const DECLARED: Declared;

    /// The clocks by which deadlines are told.
    fn now(&self) -> Now {
        clock::now()
    }
    /// Starts observing; the receiver always has the newest snapshot.
    fn observe(&self) -> watch::Receiver<Arc<Observed>>;
    /// Starts watching Placements for changes by others.
    fn watch_slices(&self) -> mpsc::Receiver<SliceSeen>;
    /// Starts campaigning for the Lease. `term` is published in the Lease with each renewal; each change of
    /// `resign` (a counter) gives the Lease back at once, after which the campaign goes on.
    fn campaign(&self, term: watch::Receiver<u64>, resign: watch::Receiver<u64>) -> mpsc::Receiver<LeaseEvent>;

    /// Every slice in scope and the version of the list, from a quorum.
    fn list_slices(&self) -> impl Future<Output = Result<(Vec<Slice>, u64), Trouble>> + Send;
    /// One slice, from a quorum; `None` where it does not exist.
    fn read_slice(&self, id: &SliceId) -> impl Future<Output = Result<Option<Slice>, Trouble>> + Send;
    /// Posts an empty slice.
    fn create_slice(&self, id: &SliceId, term: u64) -> impl Future<Output = Outcome> + Send;
    /// Writes `term` into a slice if it is at `version` with `old_term`.
    fn take_slice(&self, id: &SliceId, version: u64, old_term: u64, term: u64) -> impl Future<Output = Outcome> + Send;
    /// Replaces a slice's records if it is at `version` with `term`. Once no slice of the namespace holds a removal any
    /// more, [`CONFIRM_REMOVAL`] is taken off: the watch shows the slice that had it.
    fn write_slice(
        &self,
        id: &SliceId,
        version: u64,
        term: u64,
        records: &[Record],
        removal_until: Option<u64>,
    ) -> impl Future<Output = Outcome> + Send;

    /// The key ring, made if there is none yet. Only a leader asks.
    fn keys(&self) -> impl Future<Output = Result<KeyRing, Trouble>> + Send;
    /// Whose token this is.
    fn identify(&self, token: &str) -> impl Future<Output = Result<Identity, TokenError>> + Send;
    /// Creates the Streamer of a sidecar that nobody declared; one that exists is left as it is. `pod`: the uid of the pod
    /// that it is in, where that is vouched for.
    fn register(
        &self,
        streamer: &StreamerId,
        about: &About,
        pod: Option<&str>,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;
    /// Takes the Streamer of a pod away that nobody brings back, if that is gone or has ended; `false`: it stays for now.
    fn forget(&self, streamer: &StreamerId, pod: &str) -> impl Future<Output = Result<bool, Trouble>> + Send;
    /// Writes a status.
    fn write_status(&self, object: &ObjectRef, status: &Status) -> impl Future<Output = Result<(), Trouble>> + Send;
    /// Records an Event; failures are logged, not returned.
    fn record_event(&self, occurrence: &Occurrence) -> impl Future<Output = ()> + Send;
}
