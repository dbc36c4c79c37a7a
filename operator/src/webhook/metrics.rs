//! What is counted of the webhook.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// What came of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Injected,
    Refused,
    Untouched,
    /// It was no review.
    Malformed,
}

/// The webhook's metrics; clones count together.
#[derive(Debug, Clone, Default)]
pub struct WebhookMetrics {
    reviews: Family<Labels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

impl WebhookMetrics {
    /// Puts them into a registry, under their full names: all at 0, so that a webhook that is there is seen to be.
    pub fn register(&self, registry: &mut Registry) {
        for outcome in [Outcome::Injected, Outcome::Refused, Outcome::Untouched, Outcome::Malformed] {
            self.counted(outcome);
        }
        registry.register(
            "weir_webhook_reviews",
            "Reviews of pods by outcome: injected, refused, untouched or malformed",
            self.reviews.clone(),
        );
    }

    /// A review has been answered.
    pub fn count(&self, outcome: Outcome) {
        self.reviews.get_or_create(&labels(outcome)).inc();
    }

    /// How many had that outcome.
    pub fn counted(&self, outcome: Outcome) -> u64 {
        self.reviews.get_or_create(&labels(outcome)).get()
    }
}

fn labels(outcome: Outcome) -> Labels {
    let outcome = match outcome {
        Outcome::Injected => "injected",
        Outcome::Refused => "refused",
        Outcome::Untouched => "untouched",
        Outcome::Malformed => "malformed",
    };
    Labels { outcome }
}
