//! What a streamer's Pod says: who brings it back, how its streamer is reached, and whether that has ended.

use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};

use super::lean::object_ref;
use crate::cluster::{self, ObjectRef};
use crate::inject::wishes::{CONTAINER, DRAIN_ON_STOP};

/// Reasons of the condition `ContainersReady` by which a kubelet says that nothing of a pod runs any more, or will. The
/// phase alone is also written by those who give a lost node's pods up.
const OVER: [&str; 2] = ["PodCompleted", "PodFailed"];

/// The name of a container's port at which others pull.
const PORT: &str = "http";

/// What is kept of a pod.
pub(super) fn facts(pod: &Pod) -> (ObjectRef, cluster::Pod) {
    let annotations = pod.metadata.annotations.as_ref();
    let facts = cluster::Pod {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        going: pod.metadata.deletion_timestamp.is_some() || is_terminal(pod),
        ended: has_ended(pod),
        returns: returns(pod),
        drains: annotations.and_then(|all| all.get(DRAIN_ON_STOP)).is_some_and(|value| value == "true"),
    };
    (object_ref(&pod.metadata), facts)
}

fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The kubelet says that every container has ended for good. A container that has ended is not enough: it may be
/// started again by a kubelet that has not heard yet that its pod is deleted.
fn has_ended(pod: &Pod) -> bool {
    let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else {
        return false;
    };
    let says_so = |status: &PodStatus| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.any(|one| {
            one.type_ == "ContainersReady" && OVER.iter().any(|reason| one.reason.as_deref() == Some(reason))
        })
    };
    let terminated = |container: &Container| {
        let mut statuses = status.container_statuses.iter().flatten();
        let of = statuses.find(|status| status.name == container.name);
        of.and_then(|status| status.state.as_ref()).is_some_and(|state| state.terminated.is_some())
    };
    is_terminal(pod) && says_so(status) && spec.containers.iter().all(terminated)
}

/// Whether a pod of the same name comes when this one is gone. Those that are known give each pod a name of its own;
/// of others it is not known, and they are waited for.
pub(super) fn returns(pod: &Pod) -> bool {
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let controller = owners.find(|owner| owner.controller == Some(true));
    controller.is_some_and(|owner| {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        !matches!(
            (group, owner.kind.as_str()),
            ("apps", "ReplicaSet" | "DaemonSet") | ("batch", "Job") | ("", "ReplicationController")
        )
    })
}

/// Where others reach its streamer: by the name that it keeps, or by its address where nobody comes after it.
pub(super) fn address(pod: &Pod) -> Address {
    let spec = pod.spec.clone().unwrap_or_default();
    let port = port(&spec.containers, pod);
    let host = match (&spec.hostname, &spec.subdomain) {
        (Some(hostname), Some(subdomain)) if !hostname.is_empty() && !subdomain.is_empty() => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            format!("{hostname}.{subdomain}.{namespace}.svc")
        }
        // The next one of its name has another.
        _ if returns(pod) => return Address::Unstable,
        _ => match pod.status.as_ref().and_then(|status| status.pod_ip.clone()) {
            Some(ip) if ip.contains(':') && port.is_some() => format!("[{ip}]"),
            Some(ip) => ip,
            None => return Address::NotYet,
        },
    };
    Address::Known(port.map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
}

/// Where others reach a pod's streamer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Known(String),
    /// The kubelet has not said it yet.
    NotYet,
    /// It has none that it keeps.
    Unstable,
}

/// The streamer's port: the one that is called `http`, or the only one.
fn port(containers: &[Container], pod: &Pod) -> Option<i32> {
    let named = pod.metadata.annotations.as_ref().and_then(|all| all.get(CONTAINER));
    let streamer = match named {
        Some(name) => containers.iter().find(|container| container.name == *name),
        None => containers.first(),
    };
    let ports = streamer?.ports.as_deref().unwrap_or_default();
    let called = ports.iter().find(|port| port.name.as_deref() == Some(PORT));
    let only = if let [only] = ports { Some(only) } else { None };
    called.or(only).map(|port| port.container_port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A pod whose node's kubelet says that it is over.
    fn over() -> Value {
        json!({
            "metadata": {"namespace": "media", "name": "s1", "uid": "u1"},
            "spec": {"containers": [{"name": "streamer"}, {"name": "exporter"}]},
            "status": {
                "phase": "Succeeded", "podIP": "10.0.0.7",
                "conditions": [{"type": "ContainersReady", "status": "False", "reason": "PodCompleted"}],
                "containerStatuses": [
                    {"name": "streamer", "state": {"terminated": {"exitCode": 0}}},
                    {"name": "exporter", "state": {"terminated": {"exitCode": 137}}},
                ],
            },
        })
    }

    /// Fills in what the API server always has.
    fn typed(mut pod: Value) -> Pod {
        for status in pod["status"]["containerStatuses"].as_array_mut().into_iter().flatten() {
            for (field, value) in
                [("image", json!("i")), ("imageID", json!("i")), ("ready", json!(false)), ("restartCount", json!(0))]
            {
                status[field] = value;
            }
        }
        serde_json::from_value(pod).unwrap()
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Pod {
        let mut pod = over();
        change(&mut pod);
        typed(pod)
    }

    fn owned(api_version: &str, kind: &str) -> Pod {
        changed(|pod| {
            let owner = json!({"apiVersion": api_version, "kind": kind, "name": "o", "uid": "o", "controller": true});
            pod["metadata"]["ownerReferences"] = json!([owner]);
        })
    }

    #[test]
    fn a_pod_has_ended_when_its_kubelet_says_so_and_not_when_anybody_else_does() {
        type Change = fn(&mut Value);
        assert!(facts(&typed(over())).1.ended);
        let not: [(Change, &str); 5] = [
            (|pod| pod["status"]["phase"] = json!("Running"), "it may be started again"),
            (
                |pod| pod["status"]["conditions"][0]["reason"] = json!("ContainersNotReady"),
                "a lost node's pod, given up by a controller",
            ),
            (
                |pod| pod["status"]["containerStatuses"][1]["state"] = json!({"running": {}}),
                "another container runs: it may be the streamer's",
            ),
            (|pod| pod["status"]["containerStatuses"] = json!([]), "no container is told of"),
            (|pod| pod["status"] = Value::Null, "nothing is told"),
        ];
        for (change, why) in not {
            let pod = changed(|pod| {
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                change(pod);
            });
            let (_, facts) = facts(&pod);
            assert!(!facts.ended && facts.going, "{why}");
        }
    }

    #[test]
    fn only_of_those_that_name_their_pods_anew_nobody_comes_back() {
        assert!(!returns(&typed(over())), "a bare pod");
        for (api_version, kind, comes_back) in [
            ("apps/v1", "ReplicaSet", false),
            ("apps/v1", "DaemonSet", false),
            ("batch/v1", "Job", false),
            ("v1", "ReplicationController", false),
            ("apps/v1", "StatefulSet", true),
            ("media.flussonic.com/v1alpha1", "Streamer", true),
            ("example.com/v1", "ReplicaSet", true),
        ] {
            assert_eq!(returns(&owned(api_version, kind)), comes_back, "{api_version} {kind}");
        }
    }

    #[test]
    fn an_address_is_the_name_that_a_pod_keeps_or_the_address_that_nobody_has_after_it() {
        let known = |text: &str| Address::Known(text.to_owned());
        assert_eq!(address(&typed(over())), known("10.0.0.7"));
        let ports = |pod: &mut Value, ports: Value| pod["spec"]["containers"][0]["ports"] = ports;
        let one = json!([{"containerPort": 8080}]);
        assert_eq!(address(&changed(|pod| ports(pod, one.clone()))), known("10.0.0.7:8080"));
        let two = json!([{"containerPort": 1935, "name": "rtmp"}, {"containerPort": 80, "name": "http"}]);
        assert_eq!(address(&changed(|pod| ports(pod, two))), known("10.0.0.7:80"));
        let six = changed(|pod| {
            pod["status"]["podIP"] = json!("fd00::7");
            ports(pod, one);
        });
        assert_eq!(address(&six), known("[fd00::7]:8080"));
        let named = changed(|pod| {
            pod["spec"]["hostname"] = json!("s1");
            pod["spec"]["subdomain"] = json!("streamers");
        });
        assert_eq!(address(&named), known("s1.streamers.media.svc"));
        assert_eq!(address(&owned("apps/v1", "StatefulSet")), Address::Unstable);
        assert_eq!(address(&changed(|pod| pod["status"]["podIP"] = Value::Null)), Address::NotYet);
    }
}
