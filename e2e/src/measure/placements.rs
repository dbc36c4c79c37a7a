//! Watches what the API server has of a namespace's Placements and Leases, as any client can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Result;
use futures::TryStreamExt as _;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, WatchEvent, WatchParams};
use kube::core::GroupVersionKind;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a watch may last, in seconds; the API server takes no more than 294 from a client of ours.
const LONGEST: u32 = 290;

/// What was seen of the API server's objects since the watch began.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// When a Placement first named another streamer for a stream, by media name.
    pub moved: BTreeMap<String, SystemTime>,
    /// How often the namespace's Leases were written.
    pub leases: u64,
    /// Why the watch is not whole, if so.
    pub failed: Option<String>,
}

/// A watch. Dropped, it ends.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    _stop: DropGuard,
}

impl Watch {
    /// Begins to watch for `streams` to be moved away from the streamer `from`.
    pub async fn begin(client: &kube::Client, namespace: &str, from: &str, streams: &BTreeSet<String>) -> Result<Self> {
        let stop = CancellationToken::new();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (from, streams) = (from.to_owned(), streams.clone());
        let moved = move |object: &DynamicObject, seen: &mut Seen| {
            let now = SystemTime::now();
            for record in object.data["spec"]["records"].as_array().into_iter().flatten() {
                let (Some(name), Some(streamer)) = (record["name"].as_str(), record["streamer"].as_str()) else {
                    continue;
                };
                if streamer != from && streams.contains(name) {
                    seen.moved.entry(name.to_owned()).or_insert(now);
                }
            }
        };
        let count = |_: &DynamicObject, seen: &mut Seen| seen.leases += 1;
        let placements = api(client, namespace, "weir.dev", "v1alpha1", "Placement", "placements");
        let leases = api(client, namespace, "coordination.k8s.io", "v1", "Lease", "leases");
        follow(placements, &seen, &stop, moved).await?;
        follow(leases, &seen, &stop, count).await?;
        Ok(Self { seen, _stop: stop.drop_guard() })
    }

    /// What was seen until now.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn api(
    client: &kube::Client,
    namespace: &str,
    group: &str,
    version: &str,
    kind: &str,
    plural: &str,
) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Tells `take` of every change from now on.
async fn follow(
    api: Api<DynamicObject>,
    seen: &Arc<Mutex<Seen>>,
    stop: &CancellationToken,
    mut take: impl FnMut(&DynamicObject, &mut Seen) + Send + 'static,
) -> Result<()> {
    let list = api.list(&kube::api::ListParams::default()).await?;
    let version = list.metadata.resource_version.unwrap_or_default();
    let (seen, stop) = (Arc::clone(seen), stop.clone());
    let parameters = WatchParams { timeout: Some(LONGEST), ..WatchParams::default() };
    let changes = api.watch(&parameters, &version).await?;
    tokio::spawn(async move {
        let mut changes = std::pin::pin!(changes);
        let ended = loop {
            let event = tokio::select! {
                event = changes.try_next() => event,
                () = stop.cancelled() => return,
            };
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object))) => take(&object, &mut seen),
                Ok(Some(WatchEvent::Error(status))) => break format!("{status:?}"),
                Ok(Some(_)) => {}
                Ok(None) => break format!("it ended; it lasts {LONGEST} s at most"),
                Err(error) => break error.to_string(),
            }
        };
        seen.lock().unwrap_or_else(PoisonError::into_inner).failed = Some(ended);
    });
    Ok(())
}
