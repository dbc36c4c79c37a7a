//! A cluster for tests of the loop: it shows what it is told to, and keeps what is written.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, watch};
use weir_feed::frames::About;
use weir_feed::grant::KeyRing;
use weir_feed::leader::step::{Outcome, Slice, SliceId};
use weir_feed::record::{Record, StreamerId};

use super::{
    Cluster, Declared, Identity, LeaseEvent, ObjectRef, Observed, Occurrence, SliceSeen, Status, TokenError, Trouble,
};

/// The cluster; what a test holds of it is in [`Strings`].
pub(crate) struct Fake {
    observed: Mutex<Option<watch::Receiver<Arc<Observed>>>>,
    slices: Mutex<Option<mpsc::Receiver<SliceSeen>>>,
    lease: Mutex<Option<mpsc::Receiver<LeaseEvent>>>,
    statuses: mpsc::UnboundedSender<(ObjectRef, Status)>,
    /// How often the keys cannot be had.
    pub(crate) keyless: AtomicUsize,
}

/// What a test pulls, and what it sees.
pub(crate) struct Strings {
    pub(crate) observed: Option<watch::Sender<Arc<Observed>>>,
    pub(crate) slices: Option<mpsc::Sender<SliceSeen>>,
    pub(crate) lease: Option<mpsc::Sender<LeaseEvent>>,
    pub(crate) statuses: mpsc::UnboundedReceiver<(ObjectRef, Status)>,
}

/// A cluster of which every list is known and empty.
pub(crate) fn fake() -> (Arc<Fake>, Strings) {
    let known = Observed {
        streams: Some(BTreeMap::new()),
        streamers: Some(BTreeMap::new()),
        secrets: Some(BTreeMap::new()),
        ..Observed::default()
    };
    let (observed, snapshots) = watch::channel(Arc::new(known));
    let (slices, seen) = mpsc::channel(16);
    let (lease, events) = mpsc::channel(16);
    let (written, statuses) = mpsc::unbounded_channel();
    let cluster = Fake {
        observed: Mutex::new(Some(snapshots)),
        slices: Mutex::new(Some(seen)),
        lease: Mutex::new(Some(events)),
        statuses: written,
        keyless: AtomicUsize::new(0),
    };
    let strings = Strings { observed: Some(observed), slices: Some(slices), lease: Some(lease), statuses };
    (Arc::new(cluster), strings)
}

impl Cluster for Fake {
    const DECLARED: Declared = Declared::WithKubectl;

    fn observe(&self) -> watch::Receiver<Arc<Observed>> {
        let mut observed = self.observed.lock().unwrap().take().unwrap();
        observed.mark_changed();
        observed
    }

    fn watch_slices(&self) -> mpsc::Receiver<SliceSeen> {
        self.slices.lock().unwrap().take().unwrap()
    }

    fn campaign(&self, _: watch::Receiver<u64>, _: watch::Receiver<u64>) -> mpsc::Receiver<LeaseEvent> {
        self.lease.lock().unwrap().take().unwrap()
    }

    async fn list_slices(&self) -> Result<(Vec<Slice>, u64), Trouble> {
        Ok((vec![], 1))
    }

    async fn read_slice(&self, _: &SliceId) -> Result<Option<Slice>, Trouble> {
        Ok(None)
    }

    async fn create_slice(&self, _: &SliceId, _: u64) -> Outcome {
        Outcome::Refused { message: "nothing is written here".into() }
    }

    async fn take_slice(&self, _: &SliceId, _: u64, _: u64, _: u64) -> Outcome {
        Outcome::Refused { message: "nothing is written here".into() }
    }

    async fn write_slice(&self, _: &SliceId, _: u64, _: u64, _: &[Record], _: Option<u64>) -> Outcome {
        Outcome::Refused { message: "nothing is written here".into() }
    }

    async fn keys(&self) -> Result<KeyRing, Trouble> {
        let fails = self.keyless.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if fails {
            return Err(Trouble("not now".into()));
        }
        Ok(KeyRing::new([("k1".to_owned(), vec![7; 32])].into()).unwrap())
    }

    async fn identify(&self, _: &str) -> Result<Identity, TokenError> {
        Err(TokenError::Refused("nobody's".into()))
    }

    async fn register(&self, _: &StreamerId, _: &About, _: Option<&str>) -> Result<(), Trouble> {
        Ok(())
    }

    async fn forget(&self, _: &StreamerId, _: &str) -> Result<bool, Trouble> {
        Ok(false)
    }

    async fn write_status(&self, object: &ObjectRef, status: &Status) -> Result<(), Trouble> {
        drop(self.statuses.send((object.clone(), status.clone())));
        Ok(())
    }

    fn record_event(&self, _: &Occurrence) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}
