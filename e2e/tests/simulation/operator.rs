//! An operator: the product's feed server, loop and campaign, on the simulated network and before the simulated API.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::core::Status as ApiStatus;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use weir_feed::frames::About;
use weir_feed::grant::KeyRing;
use weir_feed::leader::step::{Outcome, Slice, SliceId};
use weir_feed::periods::Periods;
use weir_feed::record::{Record, StreamerId};
use weir_feed::time::Now;
use weir_operator::cluster::kubernetes::campaign::{Campaigner, Leases, campaign};
use weir_operator::cluster::kubernetes::request::Failure;
use weir_operator::cluster::{
    Cluster, Declared, Identity, LeaseEvent, ObjectRef, Observed, Occurrence, SliceSeen, Status, TokenError, Trouble,
};
use weir_operator::feed::{Auth, FeedMetrics, FeedServer, Settings};
use weir_operator::http::Standing;
use weir_operator::metrics::Metrics;
use weir_operator::reconcile::{Reconciler, Sources};

use crate::api::{Api, Reply, Request};
use crate::host::Wall;
use crate::network::{FEED, HostId, Network, address};
use crate::world::NAMESPACE;

/// What an operator has in one of its lives.
pub(crate) struct Life {
    /// Which of the operators; as a process it has the same number.
    pub(crate) operator: HostId,
    pub(crate) name: String,
    pub(crate) periods: Periods,
    pub(crate) network: Network,
    pub(crate) api: Api,
    pub(crate) wall: Wall,
    pub(crate) random: StdRng,
    /// Sidecars show tokens, and their instances are vouched for.
    pub(crate) verified: bool,
}

/// Runs until the process must end; returns why.
pub(crate) async fn run(life: Life) -> String {
    let (inputs, feed) = mpsc::channel(16_384);
    let (_stop, shutdown) = watch::channel(false);
    let (standing, _stands) = watch::channel(Standing { missing: vec![], notes: vec![] });
    let (listener, periods, verified) = (life.network.listen(life.operator, FEED), life.periods, life.verified);
    let cluster = Arc::new(Stand::new(life));
    let auth = if verified { Auth::Tokens(Arc::clone(&cluster)) } else { Auth::Insecure };
    let server = FeedServer::start(listener, None, auth, inputs, Settings::default(), FeedMetrics::default()).unwrap();
    let ended = Reconciler::run(cluster, periods, Metrics::default(), Sources { feed, shutdown, standing }).await;
    drop(server);
    format!("{ended:?}")
}

/// The cluster as one operator reaches it.
struct Stand {
    reach: Reach,
    life: Life,
    observed: Mutex<Option<watch::Receiver<Arc<Observed>>>>,
    slices: Mutex<Option<mpsc::Receiver<SliceSeen>>>,
}

/// The way to the API, and the clocks.
#[derive(Clone)]
struct Reach {
    operator: usize,
    api: Api,
    started: Instant,
    wall: Wall,
    /// How long an answer may take.
    limit: Duration,
}

impl Reach {
    async fn ask(&self, request: Request) -> Result<Reply, Trouble> {
        let answer = tokio::time::timeout(self.limit, self.api.call(self.operator, request)).await;
        if let Ok(Ok(reply)) = answer {
            return Ok(reply);
        }
        if answer.is_ok() {
            // The call is lost: only the caller's own patience ends it.
            tokio::time::sleep(self.limit).await;
        }
        Err(Trouble("no answer".into()))
    }

    async fn write(&self, request: Request) -> Outcome {
        match self.ask(request).await {
            Ok(Reply::Written(outcome)) => outcome,
            Ok(other) => panic!("{other:?}"),
            Err(Trouble(message)) => Outcome::Unknown { message },
        }
    }

    fn now(&self) -> Now {
        let mono = u64::try_from(self.started.elapsed().as_millis()).unwrap();
        Now { mono: mono + 3_600_000, wall: self.wall.millis() }
    }
}

impl Stand {
    fn new(life: Life) -> Self {
        let (observed, slices) = life.api.watch(life.operator);
        let limit = Duration::from_millis((life.periods.lease / 2).max(2_000));
        let (operator, api, wall) = (life.operator, life.api.clone(), life.wall.clone());
        let reach = Reach { operator, api, started: Instant::now(), wall, limit };
        Self { reach, observed: Mutex::new(Some(observed)), slices: Mutex::new(Some(slices)), life }
    }
}

impl Cluster for Stand {
    const DECLARED: Declared = Declared::WithKubectl;

    fn now(&self) -> Now {
        self.reach.now()
    }

    fn observe(&self) -> watch::Receiver<Arc<Observed>> {
        let mut observed = self.observed.lock().unwrap().take().unwrap();
        observed.mark_changed();
        observed
    }

    fn watch_slices(&self) -> mpsc::Receiver<SliceSeen> {
        self.slices.lock().unwrap().take().unwrap()
    }

    fn campaign(&self, term: watch::Receiver<u64>, resign: watch::Receiver<u64>) -> mpsc::Receiver<LeaseEvent> {
        let campaigner = Campaigner {
            holder: self.life.name.clone(),
            namespace: "weir-system".into(),
            feed: Some(address(self.life.operator, FEED).to_string()),
            periods: self.life.periods,
            random: self.life.random.clone(),
        };
        let limit = Duration::from_millis((self.life.periods.lease / 3).max(1_000));
        campaign(Reach { limit, ..self.reach.clone() }, campaigner, term, resign)
    }

    async fn list_slices(&self) -> Result<(Vec<Slice>, u64), Trouble> {
        match self.reach.ask(Request::ListSlices).await? {
            Reply::Slices(slices, version) => Ok((slices, version)),
            other => panic!("{other:?}"),
        }
    }

    async fn read_slice(&self, id: &SliceId) -> Result<Option<Slice>, Trouble> {
        match self.reach.ask(Request::ReadSlice(id.clone())).await? {
            Reply::Slice(slice) => Ok(slice),
            other => panic!("{other:?}"),
        }
    }

    async fn create_slice(&self, id: &SliceId, term: u64) -> Outcome {
        self.reach.write(Request::CreateSlice { id: id.clone(), term }).await
    }

    async fn take_slice(&self, id: &SliceId, version: u64, old_term: u64, term: u64) -> Outcome {
        self.reach.write(Request::TakeSlice { id: id.clone(), version, old_term, term }).await
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
        self.reach.write(Request::WriteSlice { id, version, term, records, removal_until }).await
    }

    async fn keys(&self) -> Result<KeyRing, Trouble> {
        self.reach.ask(Request::Other).await?;
        Ok(KeyRing::new([("k1".to_owned(), vec![7; 32])].into()).unwrap())
    }

    /// A token is the streamer's name and the pod's uid.
    async fn identify(&self, token: &str) -> Result<Identity, TokenError> {
        self.reach.ask(Request::Other).await.map_err(|Trouble(why)| TokenError::Unavailable(why))?;
        let (name, uid) = token.split_once('/').unwrap();
        let streamer = StreamerId { namespace: NAMESPACE.into(), name: name.into() };
        Ok(Identity { streamer, instance: Some(uid.to_owned()), expires: None })
    }

    async fn register(&self, streamer: &StreamerId, about: &About, _: Option<&str>) -> Result<(), Trouble> {
        self.reach.ask(Request::Register(streamer.clone(), about.clone())).await.map(drop)
    }

    async fn forget(&self, _: &StreamerId, _: &str) -> Result<bool, Trouble> {
        Ok(false)
    }

    async fn write_status(&self, object: &ObjectRef, status: &Status) -> Result<(), Trouble> {
        self.reach.ask(Request::WriteStatus(object.clone(), Box::new(status.clone()))).await.map(drop)
    }

    async fn record_event(&self, _: &Occurrence) {}
}

impl Leases for Reach {
    async fn get(&self) -> Result<Option<Lease>, Failure> {
        match self.lease(Request::GetLease).await? {
            Reply::Lease(lease) => Ok(lease.map(|lease| *lease)),
            other => panic!("{other:?}"),
        }
    }

    async fn create(&self, lease: &Lease) -> Result<Lease, Failure> {
        self.lease_written(Request::CreateLease(Box::new(lease.clone()))).await
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, Failure> {
        self.lease_written(Request::ReplaceLease(Box::new(lease.clone()))).await
    }

    fn now(&self) -> Now {
        Reach::now(self)
    }
}

impl Reach {
    async fn lease(&self, request: Request) -> Result<Reply, Failure> {
        self.ask(request).await.map_err(|_| Failure::Late(self.limit))
    }

    async fn lease_written(&self, request: Request) -> Result<Lease, Failure> {
        if let Reply::Lease(Some(lease)) = self.lease(request).await? {
            return Ok(*lease);
        }
        let conflict = ApiStatus::failure("somebody else was faster", "Conflict").with_code(409);
        Err(Failure::Answered(Box::new(conflict)))
    }
}
