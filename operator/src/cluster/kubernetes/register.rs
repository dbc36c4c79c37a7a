//! The Streamer of a sidecar that nobody declared. Of a pod's, what attracts streams (and with them passwords) is read
//! from the Pod and its Node, not believed from the sidecar: labels, roles, capacity, addresses.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::PostParams;
use kube::core::PartialObjectMeta;
use tokio::time::Instant;
use weir_crds::streamer::{Capacity, Streamer, StreamerSpec};
use weir_feed::frames::About;
use weir_feed::record::StreamerId;

use super::pod::{self, Address};
use super::request::{Failure, bounded};
use super::{Kubernetes, MANAGER};
use crate::cluster::{GOES_WITH_POD, Trouble};
use crate::inject::wishes::{CAPACITY, ROLES};

/// Where a node is, by the labels that every cloud gives it.
const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// Until a pod's address is asked for again: its kubelet says it about when the sidecar starts.
const AGAIN: Duration = Duration::from_millis(250);

type Labels = BTreeMap<String, String>;

/// Whether a Pod's label is its workload's bookkeeping: it changes with every rollout.
fn is_bookkeeping(label: &str) -> bool {
    let (prefix, name) = label.split_once('/').unwrap_or(("", label));
    match prefix {
        "" => matches!(
            name,
            "controller-revision-hash"
                | "controller-uid"
                | "job-name"
                | "pod-template-generation"
                | "pod-template-hash"
        ),
        "apps.kubernetes.io" | "batch.kubernetes.io" | "statefulset.kubernetes.io" | "weir.dev" => true,
        _ => false,
    }
}

/// The Streamer of a pod, on a node with these labels.
fn of_pod(id: &StreamerId, about: &About, pod: &Pod, topology: &Labels) -> Result<Streamer, Trouble> {
    let annotation = |name: &str| pod.metadata.annotations.as_ref()?.get(name).map(String::as_str);
    let streams = annotation(CAPACITY).map(|text| {
        text.trim().parse().map_err(|_| {
            Trouble(format!("Pod {id}: its annotation {CAPACITY} must be a number of streams, like \"200\""))
        })
    });
    let roles = annotation(ROLES).unwrap_or_default().split(',').map(str::trim).filter(|role| !role.is_empty());
    let address = match pod::address(pod) {
        Address::Known(address) => Some(address),
        Address::NotYet | Address::Unstable => None,
    };
    let spec = StreamerSpec {
        hostname: hostname(about),
        addresses: address.into_iter().collect(),
        roles: roles.map(str::to_owned).collect(),
        capacity: Capacity { streams: streams.transpose()? },
        ..StreamerSpec::default()
    };
    let mut streamer = Streamer::new(&id.name, spec);
    let own = pod.metadata.labels.iter().flatten().filter(|(label, _)| !is_bookkeeping(label));
    // What the node says of its place counts, not what a pod's author does.
    let labels: Labels = own.chain(topology).map(|(label, value)| (label.clone(), value.clone())).collect();
    streamer.metadata.labels = Some(labels).filter(|labels| !labels.is_empty());
    if !pod::returns(pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        streamer.metadata.annotations = Some([(GOES_WITH_POD.to_owned(), uid)].into());
    }
    Ok(streamer)
}

/// The Streamer of a sidecar with a token of its own, outside of any pod: there is nobody else to ask.
fn of_sidecar(id: &StreamerId, about: &About) -> Streamer {
    let spec =
        StreamerSpec { hostname: hostname(about), addresses: about.addresses.clone(), ..StreamerSpec::default() };
    Streamer::new(&id.name, spec)
}

/// How the streamer calls itself, which no Pod tells; nothing is decided by it.
fn hostname(about: &About) -> Option<String> {
    Some(about.hostname.clone()).filter(|hostname| !hostname.is_empty())
}

impl Kubernetes {
    /// Creates it; one that exists is left as it is. `pod`: the uid of its Pod, where the API server vouches for one.
    pub(super) async fn create_streamer(
        &self,
        id: &StreamerId,
        about: &About,
        pod: Option<&str>,
    ) -> Result<(), Trouble> {
        let streamer = match pod {
            Some(uid) => {
                let pod = self.pod_of(id, uid).await?;
                let topology = self.topology(id, &pod).await?;
                of_pod(id, about, &pod, &topology)?
            }
            None => of_sidecar(id, about),
        };
        let api = Api::<Streamer>::namespaced(self.client.clone(), &id.namespace);
        let parameters = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        match bounded(self.limit, api.create(&parameters, &streamer)).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_already_there() => Ok(()),
            Err(failure) => Err(Trouble(format!("Streamer {id} cannot be made: {failure}"))),
        }
    }

    /// The Pod, once its address is known. Without it the Streamer would attract other streams, and it is not made twice.
    async fn pod_of(&self, id: &StreamerId, uid: &str) -> Result<Pod, Trouble> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &id.namespace);
        let until = Instant::now() + self.limit;
        loop {
            let pod = bounded(self.limit, pods.get(&id.name)).await;
            let pod = pod.map_err(|failure| Trouble(format!("Pod {id} cannot be read: {failure}")))?;
            if pod.metadata.uid.as_deref() != Some(uid) {
                return Err(Trouble(format!("Pod {id} has been replaced since its sidecar connected")));
            }
            match pod::address(&pod) {
                Address::NotYet if Instant::now() < until => tokio::time::sleep(AGAIN).await,
                Address::NotYet => return Err(Trouble(format!("Pod {id} has no address yet"))),
                Address::Unstable => {
                    tracing::warn!(streamer = %id, "its Pod has no name in the DNS that the next one of its name keeps: the Streamer \
                        gets no address; give its StatefulSet a serviceName, or set spec.addresses");
                    return Ok(pod);
                }
                Address::Known(_) => return Ok(pod),
            }
        }
    }

    /// Zone and region of the Pod's node.
    async fn topology(&self, id: &StreamerId, pod: &Pod) -> Result<Labels, Trouble> {
        let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else {
            return Ok(Labels::new());
        };
        let nodes = Api::<PartialObjectMeta<Node>>::all(self.client.clone());
        match bounded(self.limit, nodes.get(&node)).await {
            Ok(node) => {
                let labels = node.metadata.labels.unwrap_or_default().into_iter();
                Ok(labels.filter(|(label, _)| TOPOLOGY.contains(&label.as_str())).collect())
            }
            Err(failure) if is_final(&failure) => {
                tracing::warn!(streamer = %id, node, "its Node cannot be read, so the Streamer gets no zone and no region of it: let the \
                    operator `get` nodes, or label the Streamer: {failure}");
                Ok(Labels::new())
            }
            Err(failure) => Err(Trouble(format!("Node {node} of Pod {id} cannot be read: {failure}"))),
        }
    }
}

/// Asking again would bring nothing else.
fn is_final(failure: &Failure) -> bool {
    failure.is_absent() || failure.code() == Some(403)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn made(change: impl FnOnce(&mut Value)) -> Result<Streamer, Trouble> {
        let id = StreamerId { namespace: "media".into(), name: "s1".into() };
        let about = About { hostname: "s1.example.com".into(), addresses: vec!["192.0.2.66".into()] };
        let mut pod = json!({
            "metadata": {"namespace": "media", "name": "s1", "uid": "u1", "labels": {}, "annotations": {}},
            "spec": {"containers": [{"name": "streamer", "ports": [{"containerPort": 8080}]}]},
            "status": {"podIP": "10.0.0.7"},
        });
        change(&mut pod);
        let topology = [("topology.kubernetes.io/zone".to_owned(), "b".to_owned())].into();
        of_pod(&id, &about, &serde_json::from_value(pod).unwrap(), &topology)
    }

    #[test]
    fn a_streamer_has_the_labels_of_its_pod_without_the_bookkeeping_and_the_place_of_its_node() {
        let labels = [
            "app",
            "topology.kubernetes.io/zone",
            "pod-template-hash",
            "controller-revision-hash",
            "statefulset.kubernetes.io/pod-name",
            "apps.kubernetes.io/pod-index",
            "weir.dev/inject",
        ];
        let streamer = made(|pod| {
            for label in labels {
                pod["metadata"]["labels"][label] = json!("x");
            }
        });
        let labels = streamer.unwrap().metadata.labels.unwrap();
        let labels: Vec<_> = labels.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect();
        assert_eq!(labels, [("app", "x"), ("topology.kubernetes.io/zone", "b")]);
    }

    #[test]
    fn a_streamer_is_what_its_pod_says_and_only_its_hostname_is_the_sidecars_word() {
        let streamer = made(|pod| {
            pod["metadata"]["annotations"] = json!({CAPACITY: "200", ROLES: "ingest, transcode"});
        });
        let spec = streamer.unwrap().spec;
        assert_eq!((spec.capacity.streams, spec.role_list().as_str()), (Some(200), "ingest,transcode"));
        assert_eq!((spec.hostname.as_deref(), spec.addresses), (Some("s1.example.com"), vec!["10.0.0.7:8080".into()]));
    }

    #[test]
    fn a_streamer_whose_pod_nobody_brings_back_goes_with_it() {
        let goes_with = |streamer: Streamer| streamer.metadata.annotations?.get(GOES_WITH_POD).cloned();
        assert_eq!(goes_with(made(|_| {}).unwrap()).as_deref(), Some("u1"));
        let owner =
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "s", "uid": "o", "controller": true});
        let streamer = made(|pod| pod["metadata"]["ownerReferences"] = json!([owner])).unwrap();
        assert_eq!((streamer.spec.addresses.len(), goes_with(streamer)), (0, None));
    }

    #[test]
    fn a_capacity_that_is_no_number_is_said_and_not_guessed() {
        let trouble = made(|pod| pod["metadata"]["annotations"][CAPACITY] = json!("many")).unwrap_err();
        assert!(trouble.0.contains(CAPACITY), "{trouble}");
        assert_eq!(made(|_| {}).unwrap().spec.capacity.streams, None);
    }
}
