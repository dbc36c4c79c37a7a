//! What the operator counts, under the names of the field. The feed counts its own ([`crate::feed::FeedMetrics`]).

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use weir_feed::record::Change;
use weir_placement::plan::{Outlook, Plan, Planned};
use weir_placement::world::World;

use crate::report::reason::Reason;

/// The operator's metrics; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    streams: Family<Standing, Gauge>,
    streamers: Family<Standing, Gauge>,
    streams_waiting: Family<Waiting, Gauge>,
    streamers_waiting: Family<Waiting, Gauge>,
    placements_waiting: Family<Waiting, Gauge>,
    operator_waiting: Family<OperatorWaits, Gauge>,
    writes: Family<WriteResult, Counter>,
    changes: Family<ChangeKind, Counter>,
    plan: Histogram,
    failovers: Counter,
    events_dropped: Counter,
    leader: Gauge,
    term: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Standing {
    namespace: String,
    state: &'static str,
}

/// What waits, by a reason of [`crate::report::reason`]: as many as there are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Waiting {
    namespace: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperatorWaits {
    reason: &'static str,
}

/// How many wait, by namespace and reason.
pub type Counts = BTreeMap<(String, &'static str), i64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteResult {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeKind {
    change: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            streams: Family::default(),
            streamers: Family::default(),
            streams_waiting: Family::default(),
            streamers_waiting: Family::default(),
            placements_waiting: Family::default(),
            operator_waiting: Family::default(),
            writes: Family::default(),
            changes: Family::default(),
            plan: Histogram::new(exponential_buckets(0.000_1, 4.0, 9)),
            failovers: Counter::default(),
            events_dropped: Counter::default(),
            leader: Gauge::default(),
            term: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Metrics that a registry shows.
    pub fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        metrics.register(registry);
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        let build = Family::<Version, Gauge>::default();
        build.get_or_create(&Version { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("weir_build_info", "The operator's version; always 1", build);
        registry.register("weir_streams", "Streams by state; only a leader knows them", self.streams.clone());
        registry.register("weir_streamers", "Streamers by state; only a leader knows them", self.streamers.clone());
        registry.register(
            "weir_streams_waiting",
            "Streams that have a condition with this reason; one may have several. Only a leader knows them",
            self.streams_waiting.clone(),
        );
        registry.register(
            "weir_streamers_waiting",
            "Streamers that have a condition with this reason; one may have several. Only a leader knows them",
            self.streamers_waiting.clone(),
        );
        registry.register(
            "weir_placements_waiting",
            "Streams without a Stream whose removal is held. Only a leader knows them",
            self.placements_waiting.clone(),
        );
        registry.register(
            "weir_operator_waiting",
            "1 while this operator waits for this reason",
            self.operator_waiting.clone(),
        );
        registry.register(
            "weir_placement_writes",
            "Writes of Placements by result: done, refused or unknown",
            self.writes.clone(),
        );
        registry.register("weir_record_changes", "Changes of records by kind", self.changes.clone());
        registry.register_with_unit("weir_plan_duration", "Time that a plan took", Unit::Seconds, self.plan.clone());
        registry.register(
            "weir_failovers",
            "Streams that were moved away from a streamer that was gone",
            self.failovers.clone(),
        );
        registry.register(
            "weir_events_dropped",
            "Events that were not recorded, because too many came at once",
            self.events_dropped.clone(),
        );
        registry.register("weir_leader", "1 while this operator leads", self.leader.clone());
        registry.register(
            "weir_term",
            "The term of this operator's leadership, ms since the Unix epoch",
            self.term.clone(),
        );
    }

    /// How many Streams and Streamers of each namespace are in each state, in place of what was said before.
    pub fn world(&self, world: &World, plan: &Plan) {
        let mut streams: BTreeMap<(&str, &'static str), i64> = BTreeMap::new();
        for (stream, outlook) in &plan.streams {
            *streams.entry((&stream.namespace, state(outlook))).or_default() += 1;
        }
        let mut streamers: BTreeMap<(&str, &'static str), i64> = BTreeMap::new();
        for (name, namespace) in &world.namespaces {
            let unreadable = i64::try_from(namespace.unreadable.len()).unwrap_or(i64::MAX);
            if unreadable > 0 {
                *streams.entry((name, "malformed")).or_default() += unreadable;
            }
            for streamer in namespace.streamers.values() {
                let state = if streamer.not_ready.is_none() { "ready" } else { "not_ready" };
                *streamers.entry((name, state)).or_default() += 1;
            }
        }
        set(&self.streams, &streams);
        set(&self.streamers, &streamers);
    }

    /// What waits, in place of what was said before.
    pub fn waiting(&self, streams: &Counts, streamers: &Counts, placements: &Counts) {
        let families = [&self.streams_waiting, &self.streamers_waiting, &self.placements_waiting];
        for (family, counts) in families.into_iter().zip([streams, streamers, placements]) {
            family.clear();
            for ((namespace, reason), count) in counts {
                family.get_or_create(&Waiting { namespace: namespace.clone(), reason }).set(*count);
            }
        }
    }

    /// What this operator itself waits for.
    pub fn operator(&self, reasons: &[Reason]) {
        self.operator_waiting.clear();
        for reason in reasons {
            self.operator_waiting.get_or_create(&OperatorWaits { reason: reason.name() }).set(1);
        }
    }

    /// A write of a Placement ended: `done`, `refused` or `unknown`.
    pub fn placement_write(&self, result: &'static str) {
        self.writes.get_or_create(&WriteResult { result }).inc();
    }

    /// A record was changed, and the API has acknowledged it.
    pub fn change(&self, planned: &Planned) {
        let change = match &planned.change {
            Change::Place { .. } => "place",
            Change::Release { .. } => "release",
            Change::Move { .. } => "move",
            Change::Keep => "keep",
            Change::Remove => "remove",
            Change::Clear => "clear",
            Change::Rename { .. } => "rename",
            Change::Policy { .. } => "policy",
            Change::Correct { .. } => "correct",
        };
        self.changes.get_or_create(&ChangeKind { change }).inc();
        // Without `previous` the streamer let go of it: it was moved by hand, or drained.
        if let Change::Move { previous: Some(_), .. } = planned.change {
            self.failovers.inc();
        }
    }

    /// A record was corrected by what a sidecar proves.
    pub fn corrected(&self) {
        self.changes.get_or_create(&ChangeKind { change: "correct" }).inc();
    }

    /// Events were not recorded, because there were more than the API server is asked to take.
    pub fn events_dropped(&self) {
        self.events_dropped.inc();
    }

    /// A plan was made.
    pub fn planned(&self, took: Duration) {
        self.plan.observe(took.as_secs_f64());
    }

    /// Whether this operator leads, and its term (ms). What only a leader knows is not said by anybody else.
    pub fn leader(&self, leads: bool, term: u64) {
        self.leader.set(i64::from(leads));
        if leads {
            self.term.set(i64::try_from(term).unwrap_or(i64::MAX));
        } else {
            self.streams.clear();
            self.streamers.clear();
            self.waiting(&Counts::new(), &Counts::new(), &Counts::new());
        }
    }
}

/// A stream's state in one word.
fn state(outlook: &Outlook) -> &'static str {
    match outlook {
        Outlook::Placed { .. } => "placed",
        Outlook::Releasing { .. } => "releasing",
        Outlook::Disabled => "disabled",
        Outlook::Conflict { .. } => "conflict",
        Outlook::Pending(_) => "pending",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Version {
    version: &'static str,
}

fn set(family: &Family<Standing, Gauge>, counts: &BTreeMap<(&str, &'static str), i64>) {
    // A state that nothing is in any more must not keep its old number.
    family.clear();
    for ((namespace, state), count) in counts {
        let standing = Standing { namespace: (*namespace).to_owned(), state };
        family.get_or_create(&standing).set(*count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_feed::record::StreamId;
    use weir_placement::plan::Note;
    use weir_placement::world::{Namespace, Streamer};

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn the_names_are_the_field_s_and_old_numbers_do_not_stay() {
        let mut registry = Registry::default();
        let metrics = Metrics::registered(&mut registry);
        let stream = StreamId { namespace: "media".into(), name: "bunny".into() };
        let streamers = [("s1".to_owned(), Streamer::default())].into();
        let namespace = Namespace { streamers, unreadable: ["bad".to_owned()].into(), ..Namespace::default() };
        let world = World { namespaces: [("media".to_owned(), namespace)].into(), ..World::default() };
        let plan = |outlook| Plan { streams: [(stream.clone(), outlook)].into(), ..Plan::default() };
        let pending = Outlook::Pending(Note::new(weir_placement::reason::UNSCHEDULABLE, ""));
        metrics.leader(true, 7);
        metrics.world(&world, &plan(pending));
        metrics.world(&world, &plan(Outlook::Placed { streamer: "s1".into(), note: None }));
        metrics.placement_write("refused");
        metrics.planned(Duration::from_millis(1));
        for previous in [None, Some("s1".to_owned())] {
            let change = Change::Move { streamer: "s2".into(), previous };
            metrics.change(&Planned { stream: stream.clone(), change, urgent: true, why: String::new() });
        }
        metrics.corrected();
        let shown = text(&registry);
        for line in [
            "weir_streams{namespace=\"media\",state=\"placed\"} 1",
            "weir_streams{namespace=\"media\",state=\"malformed\"} 1",
            "weir_streamers{namespace=\"media\",state=\"ready\"} 1",
            "weir_placement_writes_total{result=\"refused\"} 1",
            "weir_record_changes_total{change=\"move\"} 2",
            "weir_record_changes_total{change=\"correct\"} 1",
            "weir_plan_duration_seconds_count 1",
            "weir_failovers_total 1",
            "weir_leader 1",
            "weir_term 7",
        ] {
            assert!(shown.contains(line), "{line} in\n{shown}");
        }
        assert!(!shown.contains("pending"), "{shown}");
        metrics.leader(false, 7);
        let shown = text(&registry);
        assert!(shown.contains("weir_leader 0") && !shown.contains("placed\""), "{shown}");
    }
}
