//! The loop: observe, plan, write, feed, report. One task owns the leader; it makes no choices of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use weir_feed::frames::{Down, Up};
use weir_feed::leader::step::{Conn, Effect, Input, Outcome};
use weir_feed::leader::{Leader, Role};
use weir_feed::periods::Periods;
use weir_feed::record::{Change, Record, StreamId};
use weir_feed::time::Now;
use weir_placement::plan::{Plan, Planned, plan};
use weir_placement::world::World;

use self::ask::ask;
use self::pace::Pace;
use crate::cluster::{Cluster, LeaseEvent, Object, ObjectRef, Observed};
use crate::feed::{FeedEvent, Outgoing};
use crate::forgotten::Forgotten;
use crate::http::Standing;
use crate::metrics::Metrics;
use crate::observe::{self, Documents};
use crate::report;
use crate::reporter::Reporter;
use crate::unregistered::Unregistered;

mod ask;
mod pace;
mod standing;

/// Changes that come within this time are planned together.
const DEBOUNCE: u64 = 50;

/// How long giving the Lease back may take at the end.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// A report may take this share of the time, one in so many.
const SHARE: u64 = 20;

/// The inputs of the loop, each from its own task.
pub struct Sources {
    pub feed: mpsc::Receiver<FeedEvent>,
    pub shutdown: watch::Receiver<bool>,
    pub standing: watch::Sender<Standing>,
}

/// The loop's state.
pub struct Reconciler<C> {
    cluster: Arc<C>,
    leader: Leader,
    periods: Periods,
    documents: Documents,
    /// Which Stream object has which media name, as the wants were last made.
    owners: BTreeMap<StreamId, String>,
    observed: Arc<Observed>,
    fingerprint: Option<u64>,
    liveness: u64,
    /// When the next plan is due, monotonic ms.
    plan_at: Option<u64>,
    pace: Pace,
    /// The last plan, for reports in between; `None` while what it says is being written.
    plan: Option<Plan>,
    /// When the next report is due, monotonic ms.
    report_at: u64,
    connections: BTreeMap<Conn, Outgoing>,
    unregistered: Unregistered,
    forgotten: Forgotten,
    /// Changes whose writes are under way, with the record before: they become Events once they are written.
    planned: Vec<(Planned, Option<Record>)>,
    /// The leader's own corrections, each with who proves it and the record before.
    corrected: Vec<(StreamId, String, Option<Record>)>,
    reporter: Reporter<C>,
    answers: mpsc::UnboundedSender<Input>,
    term: watch::Sender<u64>,
    resign: watch::Sender<u64>,
    keys_known: bool,
    /// When the keys are asked for again, monotonic ms.
    keys_at: u64,
    lease: Option<LeaseEvent>,
    metrics: Metrics,
    /// As last told.
    role: (Role, bool),
    exit: Option<String>,
}

impl<C: Cluster> Reconciler<C> {
    /// Runs until told to stop, or until the process must not go on: the error says why.
    pub async fn run(cluster: Arc<C>, periods: Periods, metrics: Metrics, mut sources: Sources) -> Result<(), String> {
        let (answers, mut answered) = mpsc::unbounded_channel();
        let (term, terms) = watch::channel(0);
        let (resign, resigns) = watch::channel(0);
        let mut observed = cluster.observe();
        let mut slices = cluster.watch_slices();
        let mut lease = cluster.campaign(terms, resigns);
        let mut this = Self::new(cluster, periods, metrics, answers, (term, resign));
        let mut ticks = tokio::time::interval(Duration::from_millis((periods.ping / 2).max(10)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while this.exit.is_none() {
            let due = this.plan_at.map(|at| Duration::from_millis(at.saturating_sub(this.now().mono)));
            // What there is most of comes last: a flood of frames keeps nothing else waiting.
            tokio::select! {
                biased;
                _ = sources.shutdown.wait_for(|stop| *stop) => break,
                event = lease.recv() => this.take(event, "the campaign for the Lease", Self::lease),
                _ = ticks.tick() => this.tick(),
                () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => this.reconcile(),
                Some(input) = answered.recv() => this.answered(input),
                seen = slices.recv() => this.take(seen, "the watch of Placements", |this, seen| {
                    this.step(Input::SliceSeen { id: seen.id, version: seen.version, term: seen.term });
                }),
                changed = observed.changed() => {
                    let newest = changed.ok().map(|()| observed.borrow_and_update().clone());
                    this.take(newest, "the observation of what users declare", Self::observe);
                }
                event = sources.feed.recv() => this.take(event, "the feed's server", Self::fed),
            }
            sources.standing.send_if_modified(|standing| this.stand(standing));
        }
        // The campaign gives the Lease back, so that the next leader need not wait it out.
        lease.close();
        drop(tokio::time::timeout(GIVE_BACK, async { while lease.recv().await.is_some() {} }).await);
        this.exit.map_or(Ok(()), Err)
    }

    /// Before anything was heard. Operations on the API answer to `answers`; the campaign listens to the two of `campaign`.
    fn new(
        cluster: Arc<C>,
        periods: Periods,
        metrics: Metrics,
        answers: mpsc::UnboundedSender<Input>,
        campaign: (watch::Sender<u64>, watch::Sender<u64>),
    ) -> Self {
        let (term, resign) = campaign;
        Self {
            reporter: Reporter::new(&cluster, metrics.clone(), periods),
            cluster,
            leader: Leader::new(periods),
            periods,
            documents: Documents::default(),
            owners: BTreeMap::new(),
            observed: Arc::default(),
            fingerprint: None,
            liveness: 0,
            plan_at: None,
            pace: Pace::default(),
            plan: None,
            report_at: 0,
            connections: BTreeMap::new(),
            unregistered: Unregistered::default(),
            forgotten: Forgotten::default(),
            planned: Vec::new(),
            corrected: Vec::new(),
            answers,
            term,
            resign,
            keys_known: false,
            keys_at: 0,
            lease: None,
            metrics,
            role: (Role::Standby, false),
            exit: None,
        }
    }

    /// What a source gave. One that ends by itself ends the process: it would go on deaf.
    fn take<T>(&mut self, given: Option<T>, source: &str, then: impl FnOnce(&mut Self, T)) {
        match given {
            Some(given) => then(self, given),
            None => self.exit = Some(format!("{source} ended by itself")),
        }
    }

    fn now(&self) -> Now {
        self.cluster.now()
    }

    fn step(&mut self, input: Input) {
        for effect in self.leader.step(input, self.now()) {
            self.perform(effect);
        }
        self.tell_role();
        let newest = self.leader.term();
        self.term.send_if_modified(|term| std::mem::replace(term, newest) != newest);
    }

    /// A line of the log whenever this operator begins or ends to decide.
    fn tell_role(&mut self) {
        let role = (self.leader.role(), self.leader.is_settled());
        if role == self.role {
            return;
        }
        let term = self.leader.term();
        match role {
            (Role::Standby, _) => tracing::info!("standing by"),
            (Role::Taking, _) => tracing::info!(term, "the Lease is ours: taking over every Placement"),
            (Role::Leading, false) => tracing::info!(term, "leading: hearing the streamers out before anything moves"),
            (Role::Leading, true) => tracing::info!(term, "leading: settled, planning"),
        }
        self.role = role;
    }

    fn plan_soon(&mut self) {
        let soon = self.now().mono + DEBOUNCE;
        self.plan_at = Some(self.plan_at.map_or(soon, |at| at.min(soon)));
    }

    fn lease(&mut self, event: LeaseEvent) {
        self.lease = Some(event.clone());
        match event {
            // Nothing is taken before the keys are there: `tick` asks for them.
            LeaseEvent::Held { .. } if !self.keys_known => {}
            LeaseEvent::Held { deadline, highest_term } => self.step(Input::Lease { deadline, highest_term }),
            LeaseEvent::Lost { leader } => self.step(Input::NoLease { leader }),
            LeaseEvent::WentBack { why } => self.exit = Some(why),
        }
    }

    /// Asks for the keys while the Lease is ours and they are not known, a few pings apart.
    fn fetch_keys(&mut self, now: u64) {
        if self.keys_known || now < self.keys_at || !matches!(self.lease, Some(LeaseEvent::Held { .. })) {
            return;
        }
        self.keys_at = now + self.periods.ping * 5;
        let (cluster, answers) = (Arc::clone(&self.cluster), self.answers.clone());
        tokio::spawn(async move {
            match cluster.keys().await {
                // The loop is gone when nobody listens.
                Ok(ring) => drop(answers.send(Input::Keys { ring })),
                Err(trouble) => tracing::warn!(%trouble, "the grants' keys cannot be had; asked for again"),
            }
        });
    }

    /// What the API answered, or the keys.
    fn answered(&mut self, input: Input) {
        let keys = matches!(input, Input::Keys { .. });
        if let Input::Written { outcome, .. } = &input {
            self.metrics.placement_write(match outcome {
                Outcome::Done { .. } => "done",
                Outcome::Refused { .. } => "refused",
                Outcome::Unknown { .. } => "unknown",
            });
        }
        self.step(input);
        if keys && !self.keys_known {
            self.keys_known = true;
            if let Some(held @ LeaseEvent::Held { .. }) = self.lease.clone() {
                self.lease(held);
            }
        }
        if self.leader.busy() == 0 {
            self.tell_what_was_written();
            self.plan_soon();
        }
    }

    fn fed(&mut self, event: FeedEvent) {
        match event {
            FeedEvent::Connected { conn, streamer, verified, hello, outgoing } => {
                self.connections.insert(conn, outgoing);
                let pod = verified.then_some(hello.instance.as_str());
                self.unregistered.connected(conn, &streamer, &hello.about, pod);
                self.step(Input::Connected { conn, streamer, verified, hello });
                self.plan_soon();
            }
            FeedEvent::Frame { conn, frame } => {
                let matters =
                    matches!(frame, Up::Runs { .. } | Up::Released { .. } | Up::Rejected { .. } | Up::Goodbye {});
                self.step(Input::Frame { conn, frame });
                if matters {
                    self.plan_soon();
                }
            }
            FeedEvent::Disconnected { conn } => {
                self.connections.remove(&conn);
                self.unregistered.disconnected(conn);
                self.step(Input::Disconnected { conn });
                self.plan_soon();
            }
        }
    }

    /// Makes the Streamers that nobody declared.
    fn register(&mut self) {
        if self.leader.role() != Role::Leading {
            return;
        }
        // Longer than one request may take: no two for one Streamer.
        for (streamer, (about, pod)) in self.unregistered.due(&self.observed, self.now().mono, self.periods.lease) {
            let cluster = Arc::clone(&self.cluster);
            tokio::spawn(async move {
                match cluster.register(&streamer, &about, pod.as_deref()).await {
                    Ok(()) => tracing::info!(%streamer, "Streamer registered"),
                    Err(trouble) => {
                        tracing::warn!(%streamer, %trouble, "the Streamer cannot be registered; tried again");
                    }
                }
            });
        }
    }

    /// Takes Streamers away that were registered for pods that are gone.
    fn forget(&mut self) {
        if self.leader.role() != Role::Leading || !self.leader.is_settled() || self.leader.busy() > 0 {
            return;
        }
        let now = self.now();
        for (streamer, pod) in self.forgotten.due(&self.observed, &self.leader, now, self.periods.lease) {
            let cluster = Arc::clone(&self.cluster);
            tokio::spawn(async move {
                match cluster.forget(&streamer, &pod).await {
                    Ok(true) => tracing::info!(%streamer, pod, "Streamer forgotten with its pod"),
                    Ok(false) => {}
                    Err(trouble) => {
                        tracing::warn!(%streamer, %trouble, "the Streamer of a pod that is gone stays; tried again");
                    }
                }
            });
        }
    }

    /// **observe**: what users declare has changed, or only what we report of it.
    fn observe(&mut self, newest: Arc<Observed>) {
        self.observed = newest;
        if let Some(streamers) = observe::expected(&self.observed) {
            self.step(Input::Expected { streamers });
        }
        self.step(Input::Ended { instances: observe::ended(&self.observed) });
        if self.observed.streams.is_none() {
            self.owners.clear();
            self.step(Input::WantsUnknown);
        }
        let fingerprint = Some(observe::fingerprint(&self.observed));
        let documents = self.observed.secrets.is_some() && self.documents.update(&self.observed);
        if documents {
            self.owners.clear();
        }
        if documents || fingerprint != self.fingerprint {
            self.fingerprint = fingerprint;
            self.plan_soon();
        }
    }

    fn tick(&mut self) {
        self.step(Input::Tick);
        let now = self.now();
        self.fetch_keys(now.mono);
        self.register();
        self.forget();
        let liveness = self.leader.liveness(now);
        if liveness != self.liveness {
            self.liveness = liveness;
            self.plan_soon();
        }
        let leads = self.leader.role() == Role::Leading;
        self.metrics.leader(leads, self.leader.term());
        if !leads {
            self.plan = None;
        }
        // What nobody plans for moves too: load, revision, configuration. A plan that is about to come reports itself.
        let planning = self.plan_at.is_some_and(|at| at <= now.mono + DEBOUNCE);
        if now.mono >= self.report_at && !planning {
            self.report(now);
        }
    }

    /// **report**: behind Placements; while they are being written there is nothing new that is true.
    fn report(&mut self, now: Now) {
        let Some(plan) = self.plan.as_ref().filter(|_| self.leader.busy() == 0) else { return };
        let started = Instant::now();
        self.reporter.report(&self.observed, &self.documents, &self.leader, plan, now);
        let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.report_at = now.mono + (self.periods.ping * 5).max(took.saturating_mul(SHARE));
    }

    /// **plan**, and what follows from it.
    fn reconcile(&mut self) {
        self.plan_at = None;
        if self.leader.role() != Role::Leading {
            return;
        }
        let now = self.now();
        let mut world = observe::world(&self.observed, &self.leader, &self.periods, now);
        if self.tell_what_is_wanted(&world) {
            // Streams may have vanished: the leader says for how long nothing is released.
            observe::look_at_removals(&mut world, &self.observed, &self.leader, now);
        }
        if !self.leader.may_plan(now) {
            return;
        }
        let started = Instant::now();
        let plan = plan(&world, now);
        self.metrics.planned(started.elapsed());
        self.write(&plan);
        let (writing, budget) = (self.leader.busy() > 0, self.leader.budget_in(now));
        self.plan_at = self.pace.after(&plan, writing, budget, self.periods.ping).map(|pause| now.mono + pause);
        self.metrics.world(&world, &plan);
        self.plan = (!writing).then_some(plan);
        self.report(now);
    }

    /// True when that is something else than before.
    fn tell_what_is_wanted(&mut self, world: &World) -> bool {
        if self.observed.streams.is_none() || self.observed.secrets.is_none() {
            return false;
        }
        let owners: BTreeMap<StreamId, String> = world
            .namespaces
            .iter()
            .flat_map(|(namespace, facts)| {
                weir_placement::owners(facts).into_iter().map(|(name, owner)| {
                    let stream = StreamId { namespace: namespace.clone(), name: name.to_owned() };
                    (stream, owner.object.clone())
                })
            })
            .collect();
        let news = owners != self.owners || owners.is_empty();
        if news {
            self.owners = owners;
            let wants = self.documents.wants(world);
            self.step(Input::Wants { wants });
        }
        news
    }

    /// **write**: Placements first; what the API has acknowledged is fed by the leader itself.
    fn write(&mut self, plan: &Plan) {
        for planned in &plan.changes {
            tracing::debug!(stream = %planned.stream, change = ?planned.change, why = planned.why, "planned");
            let before = self.leader.record_of(&planned.stream).cloned();
            self.planned.push((planned.clone(), before));
        }
        let urgent = plan.changes.iter().filter(|planned| planned.urgent).count();
        if let Some(first) = plan.changes.first() {
            tracing::info!(changes = plan.changes.len(), urgent, first = %first.stream, why = first.why, "planned");
        }
        let changes = plan
            .changes
            .iter()
            .map(|planned| (planned.stream.clone(), planned.change.clone(), planned.urgent))
            .collect();
        let held_removals =
            plan.held_removals.iter().map(|(namespace, held)| (namespace.clone(), held.until)).collect();
        self.step(Input::Plan { changes, held_removals });
        if self.leader.busy() == 0 {
            self.planned.clear();
        }
    }

    /// Events of what is now true: a change that was thrown away is none.
    fn tell_what_was_written(&mut self) {
        let planned = std::mem::take(&mut self.planned);
        let (written, dropped): (Vec<_>, Vec<_>) = planned
            .into_iter()
            .partition(|(planned, before)| self.leader.record_of(&planned.stream) != before.as_ref());
        if !written.is_empty() {
            tracing::info!(changes = written.len(), left_for_later = dropped.len(), "written");
        }
        self.tell_of_the_gone(&written);
        for (planned, before) in written {
            self.metrics.change(&planned);
            if let Some(occurrence) = report::event::of_change(&planned, before.as_ref()) {
                self.reporter.tell(occurrence);
            }
        }
        for (stream, streamer, before) in std::mem::take(&mut self.corrected) {
            let Some(record) = self.leader.record_of(&stream).filter(|record| Some(*record) != before.as_ref()) else {
                continue;
            };
            self.metrics.corrected();
            self.reporter.tell(report::event::of_correction(&stream, &record.stream, &record.uid, &streamer));
        }
    }

    /// One Event for each Streamer whose streams failed over, before those on the Streams, which may be too many.
    fn tell_of_the_gone(&mut self, written: &[(Planned, Option<Record>)]) {
        let mut gone: BTreeMap<ObjectRef, BTreeMap<String, usize>> = BTreeMap::new();
        for (planned, _) in written {
            if let Change::Move { streamer, previous: Some(previous) } = &planned.change {
                let from = ObjectRef { namespace: planned.stream.namespace.clone(), name: previous.clone() };
                *gone.entry(from).or_default().entry(streamer.clone()).or_default() += 1;
            }
        }
        for (streamer, to) in gone {
            let object = self.observed.streamers.as_ref().and_then(|streamers| streamers.get(&streamer));
            let uid = match object {
                Some(Object::Readable(object)) => object.metadata.uid.clone().unwrap_or_default(),
                Some(Object::Malformed { uid, .. }) => uid.clone(),
                None => String::new(),
            };
            self.reporter.tell(report::event::of_failover(&streamer, &uid, &to));
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send { conn, frame } => self.send(conn, frame),
            Effect::Close { conn } => {
                if let Some(outgoing) = self.connections.remove(&conn) {
                    outgoing.close();
                }
            }
            Effect::Abort { conn } => {
                if let Some(outgoing) = self.connections.remove(&conn) {
                    outgoing.abort();
                }
            }
            Effect::Corrected { streams } => {
                for (stream, streamer) in streams {
                    tracing::warn!(%stream, streamer, "its record is older than what a sidecar proves: it is corrected");
                    let before = self.leader.record_of(&stream).cloned();
                    self.corrected.push((stream, streamer, before));
                }
            }
            Effect::StepDown { why } => {
                tracing::warn!(why, "stepping down");
                self.planned.clear();
                self.corrected.clear();
                self.resign.send_modify(|times| *times += 1);
            }
            Effect::Exit { why } => self.exit = Some(why),
            Effect::Warn { message } => tracing::warn!("{message}"),
            call => self.call(call),
        }
    }

    fn send(&mut self, conn: Conn, frame: Down) {
        // A connection that cannot take it ends by itself, and its sidecar asks anew.
        if let Some(outgoing) = self.connections.get(&conn) {
            outgoing.send(frame);
        }
    }

    /// Asks the API, each call in a task of its own; the answer comes back as an input.
    fn call(&self, effect: Effect) {
        let (cluster, answers) = (Arc::clone(&self.cluster), self.answers.clone());
        tokio::spawn(async move {
            if let Some(input) = ask(cluster.as_ref(), effect).await {
                // The loop is gone when nobody listens.
                drop(answers.send(input));
            }
        });
    }

    /// What `/readyz` says; `true` if that has changed.
    fn stand(&self, standing: &mut Standing) -> bool {
        let facts = standing::Facts {
            streams: self.observed.streams.is_some(),
            streamers: self.observed.streamers.is_some(),
            secrets: self.observed.secrets.is_some(),
            role: self.leader.role(),
            settled: self.leader.is_settled(),
            lease: self.lease.as_ref(),
            keys: self.keys_known,
            problems: &self.observed.problems,
        };
        let reasons = standing::reasons(&facts);
        let newest = standing::standing(&reasons, facts.problems, C::DECLARED);
        let changed = *standing != newest;
        if changed {
            self.metrics.operator(&reasons);
            for missing in newest.missing.iter().filter(|missing| !standing.missing.contains(missing)) {
                tracing::warn!("{missing}");
            }
        }
        *standing = newest;
        changed
    }
}

#[cfg(test)]
mod tests;
