//! What is counted of the feed.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The feed's metrics; clones count together.
#[derive(Debug, Clone, Default)]
pub struct FeedMetrics {
    connections: Gauge,
    refused: Family<Reason, Counter>,
    closed: Family<Reason, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl FeedMetrics {
    /// Puts them into a registry, under their full names.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("weir_feed_connections", "Sidecars connected to the feed", self.connections.clone());
        registry.register("weir_feed_refused", "Sidecars that were refused", self.refused.clone());
        registry.register("weir_feed_closed", "Connections that were closed from this side", self.closed.clone());
    }

    /// Sidecars connected now.
    pub fn connected(&self) -> i64 {
        self.connections.get()
    }

    /// How many were refused for `reason` (`token`, `unavailable`, `identity`, `version`, `malformed` …).
    pub fn refused(&self, reason: &'static str) -> u64 {
        self.refused.get_or_create(&Reason { reason }).get()
    }

    /// How many connections were closed for `reason` (`slow`, `expired`, `token` …).
    pub fn closed(&self, reason: &'static str) -> u64 {
        self.closed.get_or_create(&Reason { reason }).get()
    }

    pub(super) fn count_refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    pub(super) fn count_closed(&self, reason: &'static str) {
        self.closed.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a connection until the result is dropped.
    pub(super) fn connection(&self) -> Connected {
        self.connections.inc();
        Connected(self.connections.clone())
    }
}

pub(super) struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}
