//! `Kubernetes` against a real API server. The first run builds one and says so.

mod campaign;
mod certificates;
mod observe;
mod register;
mod slices;
mod status;
mod tokens;
mod upgrade;
mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, ObjectMeta};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use weir_crds::placement::Placement;
use weir_crds::stream::{Stream, StreamStatus};
use weir_crds::streamer::Streamer;
use weir_e2e::control_plane::{
    ControlPlane, Options, apply_crds, create_namespace, pod_bound_token, service_account_token,
};
use weir_feed::frames::{About, Partition};
use weir_feed::leader::step::{Outcome, SliceId};
use weir_feed::periods::Periods;
use weir_feed::record::{Phase, Record, StreamerId};
use weir_operator::cluster::kubernetes::{AUDIENCE, Config, Kubernetes, client_of};
use weir_operator::cluster::{
    CONFIRM_REMOVAL, Cluster, LeaseEvent, Object, ObjectRef, Observed, Occurrence, Status, TokenError,
};

/// Longer than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_mins(1);

/// A namespace of the shared API server.
struct Place {
    client: Client,
    namespace: String,
}

impl Place {
    async fn new(name: &str) -> Self {
        let control_plane = ControlPlane::shared().await.unwrap();
        let client = client_of(control_plane.config()).unwrap();
        apply_crds(&client, &weir_crds::crds_yaml()).await.unwrap();
        let namespace = create_namespace(&client, name).await.unwrap();
        Self { client, namespace }
    }

    /// An operator that looks after this namespace.
    fn operator(&self, identity: &str) -> Kubernetes {
        Kubernetes::new(self.client.clone(), self.config(identity))
    }

    fn config(&self, identity: &str) -> Config {
        Config {
            namespaces: vec![self.namespace.clone()],
            own_namespace: self.namespace.clone(),
            identity: identity.into(),
            audience: AUDIENCE.into(),
            advertise: Some(format!("https://{identity}:9443")),
            // Requests may take half of it: the machine may be busy.
            periods: Periods { lease: 60_000, ..Periods::default() },
        }
    }

    fn slice(&self, index: u8) -> SliceId {
        SliceId { namespace: self.namespace.clone(), index }
    }

    fn object(&self, name: &str) -> ObjectRef {
        ObjectRef { namespace: self.namespace.clone(), name: name.into() }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

fn stream(name: &str) -> Stream {
    serde_json::from_value(json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "Stream", "metadata": {"name": name},
        "spec": {"inputs": [{"url": "rtsp://camera/1"}]},
    }))
    .unwrap()
}

fn done(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Done { version } => version,
        other => panic!("{other:?}"),
    }
}

fn refused(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
}

/// An object after a merge patch.
async fn patched<K>(place: &Place, name: &str, patch: serde_json::Value) -> K
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let (api, patch) = (place.api::<K>(), Patch::Merge(patch));
    api.patch(name, &PatchParams::default(), &patch).await.unwrap()
}

async fn patient<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

/// A candidate's operator, with periods that a test can wait for.
fn candidate(place: &Place, identity: &str) -> Kubernetes {
    let mut config = place.config(identity);
    config.periods.ping = 200;
    config.periods.lease = 6_500;
    Kubernetes::new(place.client.clone(), config)
}

fn has(observed: &Observed, object: &ObjectRef) -> bool {
    let streams = observed.streams.as_ref();
    streams.is_some_and(|streams| streams.contains_key(object))
}
