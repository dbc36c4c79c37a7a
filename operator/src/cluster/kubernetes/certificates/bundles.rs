//! The ConfigMap of each namespace with whom its sidecars trust.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::json;

use super::super::observe::{Told, read_event, watched};
use super::super::request::{Failure, bounded};
use super::super::store::Listing;
use super::super::{Kubernetes, MANAGER};
use super::{Problems, at, lock};
use crate::cluster::ObjectRef;

/// `metadata.name` of the ConfigMaps.
const NAME: &str = "weir-ca";
/// Their key.
const KEY: &str = "ca.crt";
/// Writes at one time.
const AT_ONCE: usize = 8;
/// Of so many namespaces at most it is said what is wrong.
const SAID: usize = 3;

/// A ConfigMap's bundle at its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bundle {
    version: String,
    text: Option<String>,
}

/// All of them.
pub(super) struct Bundles {
    client: Client,
    limit: Duration,
    /// One list for each scope.
    listings: Arc<Mutex<Vec<Listed>>>,
}

#[derive(Default)]
struct Listed {
    listing: Listing<Bundle>,
    problem: Option<String>,
}

impl Bundles {
    /// Those of the namespaces that the operator looks after, watched from now on.
    pub(super) fn watching(kubernetes: &Kubernetes) -> Self {
        let scopes = kubernetes.scopes();
        let listings = std::iter::repeat_with(Listed::default).take(scopes.len()).collect();
        let listings = Arc::new(Mutex::new(listings));
        for (index, scope) in scopes.into_iter().enumerate() {
            let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
            let mut told = watched(scope.api::<ConfigMap>(&kubernetes.client), config).told;
            let listings: Arc<Mutex<Vec<Listed>>> = Arc::clone(&listings);
            let shared = Arc::clone(&kubernetes.shared);
            kubernetes.spawn(async move {
                while let Some(told) = told.recv().await {
                    let told = read_event(told, read);
                    if let Some(listed) = lock(&listings).get_mut(index) {
                        listed.take(told, &format!("ConfigMaps {NAME}{scope} cannot be watched"));
                    }
                    shared.published.notify_one();
                }
            });
        }
        Self { client: kubernetes.client.clone(), limit: kubernetes.limit, listings }
    }

    /// By namespace; `None` while a list is not known.
    pub(super) fn seen(&self) -> Option<BTreeMap<String, Bundle>> {
        let listings = lock(&self.listings);
        let mut seen = BTreeMap::new();
        for listed in listings.iter() {
            let known = listed.listing.known()?.iter();
            seen.extend(known.map(|(reference, bundle)| (reference.namespace.clone(), bundle.clone())));
        }
        Some(seen)
    }

    /// Why they are not seen; nothing where they only have not come yet.
    pub(super) fn unseen(&self) -> Problems {
        lock(&self.listings).iter().filter_map(|listed| listed.problem.clone()).collect()
    }

    /// Writes the bundle wherever it is not yet.
    pub(super) async fn write(
        &self,
        bundle: &str,
        namespaces: &BTreeSet<String>,
        seen: &BTreeMap<String, Bundle>,
    ) -> Problems {
        let mut writes = Vec::new();
        for namespace in namespaces {
            let old = seen.get(namespace);
            if old.and_then(|old| old.text.as_deref()) != Some(bundle) {
                writes.push(self.write_one(bundle, namespace, old));
            }
        }
        let problems = stream::iter(writes).buffer_unordered(AT_ONCE).filter_map(|result| async { result.err() });
        let mut problems: Problems = problems.collect().await;
        problems.sort();
        let more = problems.len().saturating_sub(SAID);
        problems.truncate(SAID);
        if more > 0 {
            problems.push(format!("… and so in {more} more namespaces"));
        }
        problems
    }

    async fn write_one(&self, bundle: &str, namespace: &str, old: Option<&Bundle>) -> Result<(), String> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let written = match old {
            None => {
                let parameters = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
                let config_map = ConfigMap {
                    metadata: ObjectMeta {
                        name: Some(NAME.into()),
                        labels: Some(super::labels()),
                        ..ObjectMeta::default()
                    },
                    data: Some(BTreeMap::from([(KEY.to_owned(), bundle.to_owned())])),
                    ..ConfigMap::default()
                };
                bounded(self.limit, api.create(&parameters, &config_map)).await
            }
            // The version: an older leader's bundle must not come over a newer one's.
            Some(old) => {
                let patch = json!({"metadata": {"resourceVersion": old.version}, "data": {KEY: bundle}});
                let parameters = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
                bounded(self.limit, api.patch(NAME, &parameters, &Patch::Merge(patch))).await
            }
        };
        match written {
            Ok(_) => Ok(()),
            Err(failure) if is_over(&failure) => Ok(()),
            Err(failure) => Err(at(&format!("ConfigMap {namespace}/{NAME}"), "written", &failure)),
        }
    }
}

impl Listed {
    fn take(&mut self, told: Told<(ObjectRef, Bundle)>, what: &str) {
        match told {
            Told::Event(event) => {
                self.problem = None;
                self.listing.take(event);
            }
            Told::Failed { why, forget } => {
                self.problem = Some(format!("{what}: {why}"));
                self.listing.fail(why, forget);
            }
        }
    }
}

fn read(config_map: ConfigMap) -> (ObjectRef, Bundle) {
    let metadata = config_map.metadata;
    let reference = super::super::lean::object_ref(&metadata);
    let text = config_map.data.and_then(|mut data| data.remove(KEY));
    (reference, Bundle { version: metadata.resource_version.unwrap_or_default(), text })
}

/// The namespace is being deleted, or was: nobody waits for a bundle there.
fn is_over(failure: &Failure) -> bool {
    let Failure::Answered(status) = failure else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let is_terminating = causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating");
    let has_gone = status.details.as_ref().is_some_and(|details| details.kind == "namespaces");
    is_terminating || (status.code == 404 && has_gone)
}
