use prometheus_client::registry::Registry;

use super::*;
use crate::cluster::Tells;
use crate::cluster::fake::fake;

#[tokio::test]
async fn events_beyond_the_queue_are_dropped_and_counted() {
    let (cluster, _strings) = fake();
    let mut registry = Registry::default();
    let metrics = Metrics::registered(&mut registry);
    let mut reporter = Reporter::new(&cluster, metrics, Periods::default());
    let occurrence = Occurrence {
        kind: "Stream",
        object: ObjectRef { namespace: "media".into(), name: "bunny".into() },
        uid: "u-1".into(),
        warning: true,
        tells: Tells::Change,
        reason: "FailedOver".into(),
        message: String::new(),
    };
    // Nobody else runs meanwhile.
    for _ in 0..EVENTS + 7 {
        reporter.tell(occurrence.clone());
    }
    let mut shown = String::new();
    prometheus_client::encoding::text::encode(&mut shown, &registry).unwrap();
    assert!(shown.contains("weir_events_dropped_total 7\n"), "{shown}");
}
