//! The campaign for the Lease: reads, decides, writes, says what came of it.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::{mpsc, watch};
use weir_feed::periods::Periods;
use weir_feed::time::Now;

use super::election::{Candidate, Claim, NAME, Step};
use super::request::{Failure, bounded};
use super::{Kubernetes, MANAGER};
use crate::clock;
use crate::cluster::LeaseEvent;

/// Where the Lease is, and by which clocks it is held.
pub trait Leases: Send + Sync + 'static {
    /// The Lease from a quorum, if there is one.
    fn get(&self) -> impl Future<Output = Result<Option<Lease>, Failure>> + Send;
    /// Posts it.
    fn create(&self, lease: &Lease) -> impl Future<Output = Result<Lease, Failure>> + Send;
    /// Replaces it at the version that it names.
    fn replace(&self, lease: &Lease) -> impl Future<Output = Result<Lease, Failure>> + Send;

    fn now(&self) -> Now {
        clock::now()
    }

    /// Hears what is said.
    fn told(&self, _: &LeaseEvent) {}
}

/// Who campaigns.
#[derive(Debug, Clone)]
pub struct Campaigner {
    /// No two processes have the same.
    pub holder: String,
    pub namespace: String,
    /// Where its feed is.
    pub feed: Option<String>,
    pub periods: Periods,
    /// Spreads candidates' looks at the Lease.
    pub random: StdRng,
}

/// One campaign, for as long as somebody listens.
struct Campaign<L> {
    leases: L,
    candidate: Candidate,
    namespace: String,
    feed: Option<String>,
    periods: Periods,
    random: StdRng,
    /// The Lease as we wrote it last, while it is ours.
    ours: Option<Lease>,
    /// Until when it is ours, ms of our clock.
    deadline: u64,
    term: watch::Receiver<u64>,
    resign: watch::Receiver<u64>,
    events: mpsc::Sender<LeaseEvent>,
    /// What was said last.
    said: Option<LeaseEvent>,
}

impl Kubernetes {
    /// Starts campaigning.
    pub(super) fn start_campaign(
        &self,
        term: watch::Receiver<u64>,
        resign: watch::Receiver<u64>,
    ) -> mpsc::Receiver<LeaseEvent> {
        let leases = InCluster {
            api: Api::namespaced(self.client.clone(), &self.config.own_namespace),
            // So that two requests fit in between a renewal and the deadline.
            limit: Duration::from_millis((self.config.periods.lease / 3).max(1_000)),
            leads: self.leads.clone(),
        };
        let campaigner = Campaigner {
            holder: self.holder.clone(),
            namespace: self.config.own_namespace.clone(),
            feed: self.config.advertise.clone(),
            periods: self.config.periods,
            random: StdRng::from_os_rng(),
        };
        campaign(leases, campaigner, term, resign)
    }
}

/// Starts a campaign, which ends when nobody listens any more. As in [`crate::cluster::Cluster::campaign`].
pub fn campaign<L: Leases>(
    leases: L,
    campaigner: Campaigner,
    term: watch::Receiver<u64>,
    mut resign: watch::Receiver<u64>,
) -> mpsc::Receiver<LeaseEvent> {
    let (events, receiver) = mpsc::channel(16);
    resign.mark_unchanged();
    let Campaigner { holder, namespace, feed, periods, random } = campaigner;
    let campaign = Campaign {
        leases,
        candidate: Candidate::new(holder, periods.lease),
        namespace,
        feed,
        periods,
        random,
        ours: None,
        deadline: 0,
        term,
        resign,
        events,
        said: None,
    };
    // Not cut off with the other tasks: it gives the Lease back when nobody listens any more.
    tokio::spawn(campaign.run());
    receiver
}

/// The Lease in the API server.
struct InCluster {
    api: Api<Lease>,
    limit: Duration,
    leads: watch::Sender<bool>,
}

impl Leases for InCluster {
    async fn get(&self) -> Result<Option<Lease>, Failure> {
        match bounded(self.limit, self.api.get(NAME)).await {
            Ok(lease) => Ok(Some(lease)),
            Err(failure) if failure.is_absent() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn create(&self, lease: &Lease) -> Result<Lease, Failure> {
        bounded(self.limit, self.api.create(&parameters(), lease)).await
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, Failure> {
        bounded(self.limit, self.api.replace(NAME, &parameters(), lease)).await
    }

    fn told(&self, event: &LeaseEvent) {
        let leads = matches!(event, LeaseEvent::Held { .. });
        self.leads.send_if_modified(|led| std::mem::replace(led, leads) != leads);
    }
}

impl<L: Leases> Campaign<L> {
    async fn run(mut self) {
        let listener = self.events.clone();
        loop {
            let pause = self.round().await;
            tokio::select! {
                biased;
                () = listener.closed() => break,
                () = changed(&mut self.resign) => {
                    self.resign().await;
                    tokio::select! {
                        biased;
                        () = listener.closed() => break,
                        () = tokio::time::sleep(Duration::from_millis(self.periods.lease / 2)) => {}
                    }
                }
                // A new leader's term stands in the Lease at once.
                () = changed(&mut self.term) => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.give_back().await;
    }

    /// One look at the Lease and what follows from it; the answer is when to look again.
    async fn round(&mut self) -> Duration {
        // A new term is published by this round, if the Lease is ours.
        self.term.mark_unchanged();
        match self.try_round().await {
            Ok(pause) => pause,
            Err(failure) => {
                tracing::warn!("the election goes on without an answer: {failure}");
                self.ours = None;
                if self.deadline <= self.leases.now().mono {
                    self.lost(None).await;
                }
                self.retry()
            }
        }
    }

    async fn try_round(&mut self) -> Result<Duration, Failure> {
        let lease = match self.ours.take() {
            Some(lease) => Some(lease),
            None => self.leases.get().await?,
        };
        match self.candidate.decide(lease.as_ref(), self.leases.now().mono) {
            Step::Wait { leader } => {
                self.lost(leader).await;
                Ok(self.retry())
            }
            Step::Leave { why } => {
                self.say(LeaseEvent::WentBack { why }).await;
                Ok(self.retry())
            }
            Step::Create | Step::Take | Step::Renew => self.claim(lease).await,
        }
    }

    /// Writes our name into the Lease. Somebody else's write in between is no failure.
    async fn claim(&mut self, old: Option<Lease>) -> Result<Duration, Failure> {
        let lease = self.candidate.claim(old.as_ref(), &self.says());
        // Before sending: the time until the answer is not ours.
        let (sent, replaces) = (self.leases.now().mono, old.is_some());
        let written = match old {
            Some(_) => self.leases.replace(&lease).await,
            None => self.leases.create(&lease).await,
        };
        match written {
            Ok(lease) => {
                // What was written is what counts from now on, whoever deletes it.
                if let Step::Leave { why } = self.candidate.decide(Some(&lease), self.leases.now().mono) {
                    self.say(LeaseEvent::WentBack { why }).await;
                    return Ok(self.retry());
                }
                self.ours = Some(lease);
                self.deadline = self.candidate.deadline(sent);
                self.say(LeaseEvent::Held { deadline: self.deadline, highest_term: self.candidate.highest_term() })
                    .await;
                Ok(Duration::from_millis(self.periods.lease / 3))
            }
            // Changed or deleted: look again at once, but not in a circle without a pause.
            Err(failure) if failure.code() == Some(409) || (replaces && failure.is_absent()) => {
                Ok(Duration::from_millis(self.periods.ping / 10))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn resign(&mut self) {
        if self.deadline > self.leases.now().mono {
            // First of all, nobody speaks any more.
            self.deadline = 0;
            self.lost(None).await;
        }
        self.give_back().await;
    }

    /// Empties the Lease if it is ours, as well as it can be done: otherwise it runs out.
    async fn give_back(&mut self) {
        for _ in 0..2 {
            let lease = match self.ours.take() {
                Some(lease) => Some(lease),
                None => self.leases.get().await.ok().flatten(),
            };
            let Some(lease) = lease else { return };
            if self.candidate.decide(Some(&lease), self.leases.now().mono) != Step::Renew {
                return;
            }
            let released = self.candidate.release(&lease, &self.says());
            match self.leases.replace(&released).await {
                Ok(_) => return,
                Err(failure) => tracing::warn!("the Lease was not given back: {failure}"),
            }
        }
    }

    fn says(&self) -> Claim<'_> {
        Claim {
            namespace: &self.namespace,
            term: *self.term.borrow(),
            feed: self.feed.as_deref(),
            now: Timestamp::from_millisecond(i64::try_from(self.leases.now().wall).unwrap_or(0)).unwrap_or_default(),
        }
    }

    /// Says that the Lease is not ours, once for each leader.
    async fn lost(&mut self, leader: Option<String>) {
        let lost = LeaseEvent::Lost { leader };
        if self.said.as_ref() != Some(&lost) {
            self.say(lost).await;
        }
    }

    async fn say(&mut self, event: LeaseEvent) {
        self.said = Some(event.clone());
        self.leases.told(&event);
        // Nobody listens any more: `run` sees that.
        let _ = self.events.send(event).await;
    }

    /// About a ping, never all candidates at once.
    fn retry(&mut self) -> Duration {
        let ping = self.periods.ping;
        Duration::from_millis(self.random.random_range(ping - ping / 5..=ping + ping / 5))
    }
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() }
}

/// Waits for a new value; for ever when none can come any more.
async fn changed(receiver: &mut watch::Receiver<u64>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
