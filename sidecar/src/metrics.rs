//! What the sidecar counts.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use weir_feed::frames::ApiState;
use weir_feed::holder::step::Holder;
use weir_feed::time::Now;

use crate::waiting::Waiting;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Asked {
    All,
    Named,
    Other,
}

impl EncodeLabelValue for Asked {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let text = match self {
            Self::All => "all",
            Self::Named => "named",
            Self::Other => "other",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    asked: Asked,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Waits {
    reason: &'static str,
}

type Seconds = Gauge<f64, AtomicU64>;

/// All metrics; clones share their values.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    answers: Family<AnswerLabels, Counter>,
    waiting: Family<Waits, Gauge>,
    age: Seconds,
    streams: Gauge,
    holds: Gauge,
    refused: Gauge,
    synced: Gauge,
    connected: Gauge,
    api_up: Gauge,
    term: Gauge,
    revision: Gauge,
    foreign_host: Gauge,
    replica_error: Gauge,
    leased: Gauge,
    unleased: Gauge,
    pub connections: Counter,
    pub persist_errors: Counter,
    pub api_errors: Counter,
    pub foreign_hosts: Counter,
    pub lease_refusals: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            answers: Family::default(),
            waiting: Family::default(),
            age: Seconds::default(),
            streams: Gauge::default(),
            holds: Gauge::default(),
            refused: Gauge::default(),
            synced: Gauge::default(),
            connected: Gauge::default(),
            api_up: Gauge::default(),
            term: Gauge::default(),
            revision: Gauge::default(),
            foreign_host: Gauge::default(),
            replica_error: Gauge::default(),
            leased: Gauge::default(),
            unleased: Gauge::default(),
            connections: Counter::default(),
            persist_errors: Counter::default(),
            api_errors: Counter::default(),
            foreign_hosts: Counter::default(),
            lease_refusals: Counter::default(),
        };
        metrics.registry = Arc::new(metrics.register());
        metrics
    }
}

impl Metrics {
    fn register(&self) -> Registry {
        let mut registry = Registry::with_prefix("weir_sidecar");
        let r = &mut registry;
        r.register("answers", "Answers to the streamer, by what was asked and status code", self.answers.clone());
        r.register("waiting", "1 while the sidecar or its streamer waits for this reason", self.waiting.clone());
        r.register_with_unit("replica_age", "Time since an operator was last heard", Unit::Seconds, self.age.clone());
        for (name, help, gauge) in [
            ("streams", "Streams in the replica", &self.streams),
            ("held_streams", "Streams that the operator holds back", &self.holds),
            ("refused_documents", "Streams whose newest document the streamer refuses", &self.refused),
            ("synced", "1 once the replica was complete", &self.synced),
            ("feed_connected", "1 while an operator listens", &self.connected),
            ("streamer_api_up", "1 while the streamer's own API answers", &self.api_up),
            ("feed_term", "Highest term heard of", &self.term),
            ("replica_revision", "Revision of the last mark", &self.revision),
            (
                "foreign_host",
                "1 while the streamer sends another host than its Streamer's hostname",
                &self.foreign_host,
            ),
            ("replica_error", "1 while the replica cannot be written", &self.replica_error),
            ("leased", "1 while streams with StopCapturing may be served", &self.leased),
            ("unleased_streams", "Streams that are not served because the lease has run out", &self.unleased),
        ] {
            r.register(name, help, gauge.clone());
        }
        for (name, help, counter) in [
            ("feed_connections", "Connections to the feed that were begun", &self.connections),
            ("persist_errors", "Writes of the replica that failed", &self.persist_errors),
            ("streamer_api_errors", "Readings of the streamer's own API that failed", &self.api_errors),
            ("lease_refusals", "Times that GET /lease said that the streamer is to be killed", &self.lease_refusals),
            ("foreign_host_requests", "Requests with another host than the Streamer's hostname", &self.foreign_hosts),
        ] {
            r.register(name, help, counter.clone());
        }
        registry
    }

    /// Counts an answer.
    pub fn answered(&self, asked: Asked, code: u16) {
        self.answers.get_or_create(&AnswerLabels { asked, code }).inc();
    }

    /// What is waited for, in place of what was said before.
    pub fn wait(&self, reasons: &[Waiting]) {
        for reason in Waiting::ALL {
            let waits = i64::from(reasons.contains(reason));
            self.waiting.get_or_create(&Waits { reason: reason.name() }).set(waits);
        }
    }

    /// Takes over what the state machine knows.
    pub fn show(&self, holder: &Holder, now: Now) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let rows = holder.rows();
        self.streams.set(number(rows.all().len() as u64));
        self.holds.set(number(rows.holds().len() as u64));
        self.refused.set(number(rows.refused()));
        self.synced.set(holder.meta().synced.into());
        self.connected.set(holder.is_connected().into());
        self.api_up.set((holder.watch().api == ApiState::Up).into());
        self.term.set(number(holder.meta().highest_term));
        self.revision.set(number(holder.meta().revision));
        self.foreign_host.set(holder.watch().foreign_host.is_some().into());
        self.replica_error.set(holder.replica_error().is_some().into());
        self.leased.set(holder.is_leased(now).into());
        self.unleased.set(number(holder.unleased(now) as u64));
        let seconds = |age| std::time::Duration::from_millis(age).as_secs_f64();
        self.age.set(holder.age(now).map_or(f64::NAN, seconds));
    }

    /// The metrics as text.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
