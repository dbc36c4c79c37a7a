//! The loop: observe, plan, write, feed, report. One task owns the leader; it makes no choices of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use weir_feed::frames::{Down, Up};
use weir_feed::leader::step::{Conn, Effect, Input, Outcome, SliceId};
use weir_feed::leader::{Leader, Role};
use weir_feed::periods::Periods;
use weir_feed::record::{Record, StreamId};
use weir_placement::plan::{Plan, Planned, plan};
use weir_placement::world::World;

use crate::clock;
use crate::cluster::{Cluster, LeaseEvent, Observed};
use crate::feed::{FeedEvent, Outgoing};
use crate::metrics::Metrics;
use crate::observe::{self, Documents};
use crate::report;
use crate::reporter::Reporter;
use crate::unregistered::Unregistered;

/// Changes that come within this time are planned together.
const DEBOUNCE: u64 = 50;

/// How long giving the Lease back may take at the end.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// What the loop shows to `/readyz`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    pub leading: bool,
    /// What is missing, one sentence each.
    pub missing: Vec<String>,
}

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
    connections: BTreeMap<Conn, Outgoing>,
    unregistered: Unregistered,
    /// Changes whose writes are under way, with the record before: they become Events once they are written.
    planned: Vec<(Planned, Option<Record>)>,
    reporter: Reporter<C>,
    answers: mpsc::UnboundedSender<Input>,
    term: watch::Sender<u64>,
    resign: watch::Sender<u64>,
    keys_known: bool,
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
        let mut this = Self {
            reporter: Reporter::new(Arc::clone(&cluster)),
            cluster,
            leader: Leader::new(periods),
            periods,
            documents: Documents::default(),
            owners: BTreeMap::new(),
            observed: Arc::default(),
            fingerprint: None,
            liveness: 0,
            plan_at: None,
            connections: BTreeMap::new(),
            unregistered: Unregistered::default(),
            planned: Vec::new(),
            answers,
            term,
            resign,
            keys_known: false,
            lease: None,
            metrics,
            role: (Role::Standby, false),
            exit: None,
        };
        let mut ticks = tokio::time::interval(Duration::from_millis((periods.ping / 2).max(10)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while this.exit.is_none() {
            let due = this.plan_at.map(|at| Duration::from_millis(at.saturating_sub(clock::now().mono)));
            tokio::select! {
                Some(event) = lease.recv() => this.lease(event),
                Some(input) = answered.recv() => this.answered(input),
                Some(event) = sources.feed.recv() => this.fed(event),
                Some(seen) = slices.recv() => {
                    this.step(Input::SliceSeen { id: seen.id, version: seen.version, term: seen.term });
                }
                Ok(()) = observed.changed() => {
                    let newest = observed.borrow_and_update().clone();
                    this.observe(newest);
                }
                _ = ticks.tick() => this.tick(),
                () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => this.reconcile(),
                _ = sources.shutdown.wait_for(|stop| *stop) => break,
            }
            sources.standing.send_if_modified(|standing| this.stand(standing));
        }
        // The campaign gives the Lease back, so that the next leader need not wait it out.
        lease.close();
        drop(tokio::time::timeout(GIVE_BACK, async { while lease.recv().await.is_some() {} }).await);
        this.exit.map_or(Ok(()), Err)
    }

    fn step(&mut self, input: Input) {
        for effect in self.leader.step(input, clock::now()) {
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
        let soon = clock::now().mono + DEBOUNCE;
        self.plan_at = Some(self.plan_at.map_or(soon, |at| at.min(soon)));
    }

    fn lease(&mut self, event: LeaseEvent) {
        self.lease = Some(event.clone());
        match event {
            LeaseEvent::Held { .. } if !self.keys_known => self.fetch_keys(),
            LeaseEvent::Held { deadline, highest_term } => self.step(Input::Lease { deadline, highest_term }),
            LeaseEvent::Lost { leader } => self.step(Input::NoLease { leader }),
        }
    }

    fn fetch_keys(&mut self) {
        let (cluster, answers) = (Arc::clone(&self.cluster), self.answers.clone());
        tokio::spawn(async move {
            match cluster.keys().await {
                // The loop is gone when nobody listens.
                Ok(ring) => drop(answers.send(Input::Keys { ring })),
                Err(trouble) => {
                    tracing::warn!(%trouble, "the grants' keys cannot be had; asked again at the next renewal")
                }
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
                self.unregistered.connected(conn, &streamer, &hello.about);
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
        for (streamer, about) in self.unregistered.due(&self.observed, clock::now().mono, self.periods.lease) {
            let cluster = Arc::clone(&self.cluster);
            tokio::spawn(async move {
                match cluster.register(&streamer, &about).await {
                    Ok(()) => tracing::info!(%streamer, "Streamer registered"),
                    Err(trouble) => {
                        tracing::warn!(%streamer, %trouble, "the Streamer cannot be registered; tried again")
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
        self.register();
        let liveness = self.leader.liveness(clock::now());
        if liveness != self.liveness {
            self.liveness = liveness;
            self.plan_soon();
        }
        self.metrics.leader(self.leader.role() == Role::Leading, self.leader.term());
    }

    /// **plan**, and what follows from it.
    fn reconcile(&mut self) {
        self.plan_at = None;
        if self.leader.role() != Role::Leading {
            return;
        }
        let now = clock::now();
        let world = observe::world(&self.observed, &self.leader, &self.periods, now);
        self.tell_what_is_wanted(&world);
        if !self.leader.may_plan(now) {
            return;
        }
        let started = Instant::now();
        let plan = plan(&world, now);
        self.metrics.planned(started.elapsed());
        self.write(&plan);
        if let Some(wake) = plan.wake_in {
            self.plan_at = Some(now.mono + wake.max(DEBOUNCE));
        }
        if !plan.changes.is_empty() && self.leader.busy() == 0 {
            self.plan_at = Some(now.mono + self.leader.budget_in(now).max(self.periods.ping));
        }
        // **report**: behind Placements; while they are being written there is nothing new that is true.
        if self.leader.busy() == 0 {
            self.reporter.report(&self.observed, &self.documents, &self.leader, &plan, now);
        }
        self.metrics.world(&world, &plan);
    }

    fn tell_what_is_wanted(&mut self, world: &World) {
        if self.observed.streams.is_none() || self.observed.secrets.is_none() {
            return;
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
        if owners != self.owners || owners.is_empty() {
            self.owners = owners;
            let wants = self.documents.wants(world);
            self.step(Input::Wants { wants });
        }
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
        for (planned, before) in written {
            self.metrics.change(&planned);
            if let Some(occurrence) = report::event::of_change(&planned, before.as_ref()) {
                self.reporter.tell(occurrence);
            }
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
                    tracing::warn!(%stream, streamer, "its record was older than what a sidecar proves: corrected");
                }
            }
            Effect::StepDown { why } => {
                tracing::warn!(why, "stepping down");
                self.planned.clear();
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
        let mut missing = self.observed.problems.clone();
        let lists = [
            (self.observed.streams.is_some(), "the list of Streams"),
            (self.observed.streamers.is_some(), "the list of Streamers"),
            (self.observed.secrets.is_some(), "the list of Secrets"),
        ];
        missing.extend(lists.iter().filter(|(known, _)| !known).map(|(_, what)| format!("{what} is not known")));
        if self.leader.role() == Role::Taking {
            missing.push("Placements are being taken over".to_owned());
        }
        if self.lease.is_none() {
            missing.push("the Lease has not been seen yet".to_owned());
        }
        let newest = Standing { leading: self.leader.role() == Role::Leading, missing };
        let changed = *standing != newest;
        *standing = newest;
        changed
    }
}

/// Carries out one call on the API.
async fn ask<C: Cluster>(cluster: &C, effect: Effect) -> Option<Input> {
    let written = |op, id: SliceId, outcome| Some(Input::Written { op, id, outcome });
    match effect {
        Effect::ListSlices { op } => Some(match cluster.list_slices().await {
            Ok((slices, version)) => Input::Listed { op, slices, version },
            Err(trouble) => Input::ListFailed { op, message: trouble.to_string() },
        }),
        Effect::ReadSlice { op, id } => Some(match cluster.read_slice(&id).await {
            Ok(slice) => Input::Read { op, id, slice },
            Err(trouble) => Input::ReadFailed { op, id, message: trouble.to_string() },
        }),
        Effect::CreateSlice { op, id, term } => {
            let outcome = cluster.create_slice(&id, term).await;
            written(op, id, outcome)
        }
        Effect::TakeSlice { op, id, version, old_term, term } => {
            let outcome = cluster.take_slice(&id, version, old_term, term).await;
            written(op, id, outcome)
        }
        Effect::WriteSlice { op, id, version, term, records, removal_until } => {
            let outcome = cluster.write_slice(&id, version, term, &records, removal_until).await;
            written(op, id, outcome)
        }
        _ => None,
    }
}
