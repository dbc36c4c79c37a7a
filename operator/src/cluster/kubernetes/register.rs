//! The Streamer of a sidecar that nobody declared. Its labels are read from its Pod, not believed from the sidecar:
//! they attract streams, and with them passwords.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use kube::core::PartialObjectMeta;
use weir_crds::streamer::{Capacity, Streamer, StreamerSpec};
use weir_feed::frames::About;
use weir_feed::record::StreamerId;

use super::request::bounded;
use super::{Kubernetes, MANAGER};
use crate::cluster::Trouble;

/// On a Pod: how many streams its streamer can take.
const CAPACITY: &str = "weir.dev/capacity-streams";

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
        "apps.kubernetes.io" | "batch.kubernetes.io" | "statefulset.kubernetes.io" => true,
        _ => false,
    }
}

/// The Streamer of this sidecar, with what its Pod says of it.
fn streamer(
    id: &StreamerId,
    about: &About,
    labels: BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> Result<Streamer, Trouble> {
    let streams = annotations.get(CAPACITY).map(|text| {
        text.parse().map_err(|_| {
            Trouble(format!("Pod {id}: its annotation {CAPACITY} must be a number of streams, like \"200\""))
        })
    });
    let spec = StreamerSpec {
        hostname: Some(about.hostname.clone()).filter(|hostname| !hostname.is_empty()),
        addresses: about.addresses.clone(),
        capacity: Capacity { streams: streams.transpose()? },
        ..StreamerSpec::default()
    };
    let mut streamer = Streamer::new(&id.name, spec);
    let labels: BTreeMap<_, _> = labels.into_iter().filter(|(label, _)| !is_bookkeeping(label)).collect();
    streamer.metadata.labels = Some(labels).filter(|labels| !labels.is_empty());
    Ok(streamer)
}

impl Kubernetes {
    /// Creates it; one that exists is left as it is.
    pub(super) async fn create_streamer(&self, id: &StreamerId, about: &About) -> Result<(), Trouble> {
        let pods = Api::<PartialObjectMeta<Pod>>::namespaced(self.client.clone(), &id.namespace);
        let pod = match bounded(self.limit, pods.get(&id.name)).await {
            Ok(pod) => pod.metadata,
            Err(failure) if failure.is_absent() => kube::core::ObjectMeta::default(),
            Err(failure) if failure.code() == Some(403) => {
                tracing::warn!(streamer = %id, "its Pod may not be read, so it gets no labels: {failure}");
                kube::core::ObjectMeta::default()
            }
            // Without the labels it would attract other streams, and it is not made twice.
            Err(failure) => return Err(Trouble(format!("Pod {id} cannot be read: {failure}"))),
        };
        let (labels, annotations) = (pod.labels.unwrap_or_default(), pod.annotations);
        let streamer = streamer(id, about, labels, &annotations.unwrap_or_default())?;
        let api = Api::<Streamer>::namespaced(self.client.clone(), &id.namespace);
        let parameters = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        match bounded(self.limit, api.create(&parameters, &streamer)).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_already_there() => Ok(()),
            Err(failure) => Err(Trouble(format!("Streamer {id} cannot be made: {failure}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(labels: &[&str], capacity: Option<&str>) -> Result<Streamer, Trouble> {
        let id = StreamerId { namespace: "media".into(), name: "s1".into() };
        let about = About { hostname: "s1.example.com".into(), addresses: vec!["10.0.0.7:8080".into()] };
        let labels = labels.iter().map(|label| ((*label).to_owned(), "x".to_owned()));
        let capacity = capacity.map(|text| (CAPACITY.to_owned(), text.to_owned()));
        streamer(&id, &about, labels.collect(), &capacity.into_iter().collect())
    }

    #[test]
    fn a_streamer_has_the_labels_of_its_pod_without_the_bookkeeping() {
        let labels = [
            "app",
            "topology.kubernetes.io/zone",
            "pod-template-hash",
            "controller-revision-hash",
            "statefulset.kubernetes.io/pod-name",
            "apps.kubernetes.io/pod-index",
        ];
        let streamer = made(&labels, Some("200")).unwrap();
        let labels = streamer.metadata.labels.unwrap();
        assert_eq!(labels.into_keys().collect::<Vec<_>>(), ["app", "topology.kubernetes.io/zone"]);
        assert_eq!(streamer.spec.capacity.streams, Some(200));
        assert_eq!(streamer.spec.hostname.as_deref(), Some("s1.example.com"));
        assert_eq!(streamer.spec.addresses, ["10.0.0.7:8080"]);
    }

    #[test]
    fn a_capacity_that_is_no_number_is_said_and_not_guessed() {
        let trouble = made(&[], Some("many")).unwrap_err();
        assert!(trouble.0.contains(CAPACITY), "{trouble}");
        assert_eq!(made(&[], None).unwrap().spec.capacity.streams, None);
    }
}
