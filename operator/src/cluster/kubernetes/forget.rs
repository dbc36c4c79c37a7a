//! The Streamer that was registered for a pod goes with it, where nobody brings a pod of that name back.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use weir_crds::streamer::Streamer;
use weir_feed::record::StreamerId;

use super::request::bounded;
use super::{Kubernetes, pod};
use crate::cluster::{ObjectRef, Trouble};

impl Kubernetes {
    /// Deletes it as it was last seen, and not if anybody has changed it since: what marks it may have been taken off.
    pub(super) async fn delete_streamer(&self, id: &StreamerId, uid: &str) -> Result<bool, Trouble> {
        // A list may be behind, and has only pods with the label.
        let pods = Api::<Pod>::namespaced(self.client.clone(), &id.namespace);
        match bounded(self.limit, pods.get(&id.name)).await {
            Ok(pod) if pod.metadata.uid.as_deref() == Some(uid) && !pod::facts(&pod).1.ended => return Ok(false),
            Ok(_) => {}
            Err(failure) if failure.is_absent() => {}
            Err(failure) => return Err(Trouble(format!("Pod {id} cannot be read: {failure}"))),
        }
        let object = ObjectRef { namespace: id.namespace.clone(), name: id.name.clone() };
        let seen = self.store().streamer(&object).map(|entry| (entry.uid.clone(), entry.version));
        let Some((uid, version)) = seen else {
            return Ok(false);
        };
        let preconditions = Preconditions { uid: Some(uid), resource_version: Some(version.to_string()) };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let streamers = Api::<Streamer>::namespaced(self.client.clone(), &id.namespace);
        match bounded(self.limit, streamers.delete(&id.name, &parameters)).await {
            Ok(_) => Ok(true),
            // Somebody else was quicker, or has changed it.
            Err(failure) if failure.is_absent() || failure.code() == Some(409) => Ok(false),
            Err(failure) => Err(Trouble(format!("Streamer {id} cannot be deleted: {failure}"))),
        }
    }
}
