//! Events on Streams and Streamers. kube's own Recorder folds all Events of one reason into the first, so that a
//! second failover would show the first one's message; here only those with the same message are one series.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use serde_json::json;
use weir_crds::{GROUP, VERSION};

use super::request::{Failure, bounded};
use super::{Kubernetes, MANAGER};
use crate::cluster::Occurrence;
use crate::text::shortened;

/// Equal Events that come sooner after each other than this are a series, as in client-go.
const SERIES: SignedDuration = SignedDuration::from_mins(6);

// Bounds of the API server (k8s.io/kubernetes/pkg/apis/core/validation/events.go).
const MAX_NOTE: usize = 1024;
const MAX_REASON: usize = 128;
const MAX_NAME: usize = 253;

/// An Event that was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Recorded {
    name: String,
    count: i32,
    last: Timestamp,
}

/// What was recorded lately, by a hash of what makes two of them equal.
#[derive(Debug, Default)]
pub(super) struct Series(Mutex<Lately>);

#[derive(Debug, Default)]
struct Lately {
    recorded: BTreeMap<u64, Recorded>,
    /// How many there were after the old ones were dropped last.
    kept: usize,
}

/// So many are kept without looking whether they are old.
const FEW: usize = 256;

impl Series {
    /// The series that goes on with this one, with this one in it.
    fn next(&self, key: u64, now: Timestamp) -> Option<Recorded> {
        let mut series = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recorded = series.recorded.get_mut(&key).filter(|recorded| is_lately(recorded, now))?;
        recorded.count = recorded.count.saturating_add(1);
        recorded.last = now;
        Some(recorded.clone())
    }

    fn begin(&self, key: u64, recorded: Recorded) {
        let mut series = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = recorded.last;
        series.recorded.insert(key, recorded);
        // A look at all of them is worth it only when there are many more than at the last.
        if series.recorded.len() > FEW.max(series.kept * 2) {
            series.recorded.retain(|_, recorded| is_lately(recorded, now));
            series.kept = series.recorded.len();
        }
    }

    fn forget(&self, key: u64) {
        let mut series = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        series.recorded.remove(&key);
    }
}

fn is_lately(recorded: &Recorded, now: Timestamp) -> bool {
    now.duration_since(recorded.last) < SERIES
}

fn key(occurrence: &Occurrence) -> u64 {
    let Occurrence { kind, object, uid, warning, reason, message, tells: _ } = occurrence;
    let mut hasher = DefaultHasher::new();
    (kind, object, uid, warning, reason, message).hash(&mut hasher);
    hasher.finish()
}

fn event(occurrence: &Occurrence, instance: &str, now: Timestamp) -> Event {
    let suffix = format!(".{:x}", now.as_nanosecond());
    let name = shortened(&occurrence.object.name, MAX_NAME - suffix.len());
    // What a name is cut to must not end in a dot or a dash.
    let name = name.trim_end_matches(['.', '-']);
    let reason = shortened(&occurrence.reason, MAX_REASON);
    Event {
        metadata: ObjectMeta {
            namespace: Some(occurrence.object.namespace.clone()),
            name: Some(format!("{name}{suffix}")),
            ..ObjectMeta::default()
        },
        action: Some(reason.to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(shortened(&occurrence.message, MAX_NOTE).to_owned()),
        reason: Some(reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some(occurrence.kind.to_owned()),
            namespace: Some(occurrence.object.namespace.clone()),
            name: Some(occurrence.object.name.clone()),
            uid: Some(occurrence.uid.clone()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(MANAGER.to_owned()),
        reporting_instance: Some(shortened(instance, 128).to_owned()),
        type_: Some(if occurrence.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

impl Kubernetes {
    /// Records it; a failure is logged.
    pub(super) async fn record(&self, occurrence: &Occurrence) {
        let (key, now) = (key(occurrence), Timestamp::now());
        let recorded = match self.series.next(key, now) {
            Some(recorded) => self.go_on(occurrence, &recorded).await,
            None => self.begin(occurrence, key, now).await,
        };
        if let Err(failure) = recorded {
            self.series.forget(key);
            let (kind, reason) = (occurrence.kind, &occurrence.reason);
            let object = &occurrence.object;
            tracing::warn!(
                kind,
                namespace = object.namespace,
                name = object.name,
                reason,
                "an Event was not recorded: {failure}"
            );
        }
    }

    async fn begin(&self, occurrence: &Occurrence, key: u64, now: Timestamp) -> Result<(), Failure> {
        let event = event(occurrence, &self.config.identity, now);
        let name = event.metadata.name.clone().unwrap_or_default();
        bounded(self.limit, self.events(occurrence).create(&PostParams::default(), &event)).await?;
        let (count, last) = (1, now);
        self.series.begin(key, Recorded { name, count, last });
        Ok(())
    }

    async fn go_on(&self, occurrence: &Occurrence, recorded: &Recorded) -> Result<(), Failure> {
        let series = EventSeries { count: recorded.count, last_observed_time: MicroTime(recorded.last) };
        let patch = Patch::Merge(json!({"series": series}));
        let (events, parameters) = (self.events(occurrence), PatchParams::apply(MANAGER));
        bounded(self.limit, events.patch(&recorded.name, &parameters, &patch)).await?;
        Ok(())
    }

    fn events(&self, occurrence: &Occurrence) -> Api<Event> {
        Api::namespaced(self.client.clone(), &occurrence.object.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ObjectRef;

    fn occurrence(message: &str) -> Occurrence {
        Occurrence {
            kind: "Stream",
            object: ObjectRef { namespace: "media".into(), name: "bunny".into() },
            uid: "u1".into(),
            warning: false,
            tells: crate::cluster::Tells::State,
            reason: "Placed".into(),
            message: message.into(),
        }
    }

    #[test]
    fn only_events_with_the_same_message_are_a_series() {
        let (series, now) = (Series::default(), Timestamp::UNIX_EPOCH);
        let (name, count, last) = ("bunny.1".to_owned(), 1, now);
        let first = key(&occurrence("on s1"));
        series.begin(first, Recorded { name, count, last });
        assert_eq!(series.next(key(&occurrence("on s2")), now), None);
        assert_eq!(series.next(first, now).unwrap().count, 2);
        assert_eq!(series.next(first, now + SERIES), None);
    }

    #[test]
    fn old_series_do_not_pile_up() {
        let (series, start) = (Series::default(), Timestamp::UNIX_EPOCH);
        for at in 0..10_000u32 {
            let last = start + SignedDuration::from_secs(i64::from(at));
            series.begin(u64::from(at), Recorded { name: "bunny.1".into(), count: 1, last });
        }
        let kept = series.0.lock().unwrap().recorded.len();
        assert!(kept <= 2 * 360 + FEW, "{kept}");
    }

    #[test]
    fn an_event_keeps_the_bounds_of_the_api_server() {
        let mut long = occurrence(&"ö".repeat(5_000));
        long.object.name = "a.".repeat(126) + "a";
        long.reason = "R".repeat(300);
        let event = event(&long, "operator-0", Timestamp::now());
        let name = event.metadata.name.unwrap();
        assert!(name.len() <= MAX_NAME && !name.contains(".."), "{name}");
        assert!(event.note.unwrap().len() <= MAX_NOTE);
        assert!(event.action.unwrap().len() <= MAX_REASON);
        assert_eq!(event.regarding.unwrap().name.unwrap(), long.object.name);
    }
}
