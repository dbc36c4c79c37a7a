//! Streamers that register themselves.

use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};

use super::*;

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";

fn id(place: &Place, name: &str) -> StreamerId {
    StreamerId { namespace: place.namespace.clone(), name: name.into() }
}

/// What a sidecar says of itself, of which only the hostname counts in a pod.
fn about(hostname: &str) -> About {
    About { hostname: hostname.into(), addresses: vec!["192.0.2.66".into()] }
}

/// The name of a node that nobody else has.
fn node_name(place: &Place) -> String {
    format!("node-of-{}", place.namespace)
}

/// Makes that node, in a zone. After its pods: the API server puts its labels on those that come later.
async fn make_node(place: &Place) {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": node_name(place), "labels": {ZONE: "b", REGION: "north", "kubernetes.io/os": "linux"}},
    }))
    .unwrap();
    Api::all(place.client.clone()).create(&PostParams::default(), &node).await.unwrap();
}

/// A pod on that node, whose kubelet has told its address; the answer is its uid.
async fn pod(place: &Place, name: &str, owner: Option<&str>) -> String {
    let controller = |kind| json!({"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "o", "controller": true});
    let owners: Vec<_> = owner.into_iter().map(controller).collect();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {
            "name": name, "labels": {"tier": "gold", "pod-template-hash": "abc", ZONE: "as-its-author-likes"},
            "annotations": {"weir.dev/capacity-streams": "200", "weir.dev/roles": "ingest,transcode"},
            "ownerReferences": owners,
        },
        "spec": {
            "serviceAccountName": "streamer", "nodeName": node_name(place), "hostname": name,
            "subdomain": if owner == Some("StatefulSet") { Some("streamers") } else { None },
            "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 8080}]}],
        },
    }))
    .unwrap();
    let account = ServiceAccount {
        metadata: ObjectMeta { name: Some("streamer".into()), ..ObjectMeta::default() },
        ..ServiceAccount::default()
    };
    // The second pod finds it there.
    drop(place.api::<ServiceAccount>().create(&PostParams::default(), &account).await);
    let made = place.api::<Pod>().create(&PostParams::default(), &pod).await.unwrap();
    let status = Patch::Merge(json!({"status": {"podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}]}}));
    place.api::<Pod>().patch_status(name, &PatchParams::default(), &status).await.unwrap();
    made.metadata.uid.unwrap()
}

fn labels<const N: usize>(labels: [(&str, &str); N]) -> BTreeMap<String, String> {
    labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into()
}

#[tokio::test]
async fn a_pods_streamer_is_what_its_pod_and_its_node_say_and_is_registered_once() {
    let place = Place::new("register").await;
    let operator = place.operator("a");
    let uid = pod(&place, "s1", None).await;
    let uid_of_set = pod(&place, "set-0", Some("StatefulSet")).await;
    make_node(&place).await;
    operator.register(&id(&place, "s1"), &about("s1.example.com"), Some(&uid)).await.unwrap();
    let streamers = place.api::<Streamer>();
    let made = streamers.get("s1").await.unwrap();
    assert_eq!(made.metadata.labels, Some(labels([("tier", "gold"), (ZONE, "b"), (REGION, "north")])));
    assert_eq!((made.spec.capacity.streams, made.spec.role_list().as_str()), (Some(200), "ingest,transcode"));
    assert_eq!(
        (made.spec.hostname.as_deref(), &made.spec.addresses[..]),
        (Some("s1.example.com"), &["10.0.0.7:8080".to_owned()][..])
    );
    assert_eq!(
        made.metadata.annotations.as_ref().unwrap()["weir.dev/goes-with-pod"],
        uid,
        "nobody brings that pod back"
    );

    operator.register(&id(&place, "s1"), &about("other.example.com"), Some(&uid)).await.unwrap();
    assert_eq!(streamers.get("s1").await.unwrap().spec, made.spec, "never overwritten");
    let trouble = operator.register(&id(&place, "s2"), &about(""), Some(&uid)).await.unwrap_err();
    assert!(trouble.0.contains("Pod") && streamers.get("s2").await.is_err(), "no pod, no Streamer: {trouble}");

    operator.register(&id(&place, "set-0"), &about(""), Some(&uid_of_set)).await.unwrap();
    let made = streamers.get("set-0").await.unwrap();
    let stable = format!("set-0.streamers.{}.svc:8080", place.namespace);
    assert_eq!((&made.spec.addresses[..], made.metadata.annotations), (&[stable][..], None));
}

#[tokio::test]
async fn a_streamer_outside_of_any_pod_is_what_its_sidecar_says() {
    let place = Place::new("register-bare").await;
    place.operator("a").register(&id(&place, "bare"), &about("bare.example.com"), None).await.unwrap();
    let made = place.api::<Streamer>().get("bare").await.unwrap();
    assert_eq!((made.metadata.labels, made.metadata.annotations), (None, None));
    assert_eq!(
        (made.spec.hostname.as_deref(), &made.spec.addresses[..]),
        (Some("bare.example.com"), &["192.0.2.66".to_owned()][..])
    );
}

#[tokio::test]
async fn without_the_right_to_read_nodes_a_streamer_is_registered_without_a_zone() {
    let place = Place::new("register-no-nodes").await;
    let uid = pod(&place, "s1", None).await;
    make_node(&place).await;
    let rules = json!({"metadata": {"name": "no-nodes"}, "rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": ["weir.dev"], "resources": ["streamers"], "verbs": ["create"]},
    ]});
    let binding = json!({"metadata": {"name": "no-nodes"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "no-nodes"},
        "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": place.namespace}]});
    let rules: Role = serde_json::from_value(rules).unwrap();
    let binding: RoleBinding = serde_json::from_value(binding).unwrap();
    place.api::<Role>().create(&PostParams::default(), &rules).await.unwrap();
    place.api::<RoleBinding>().create(&PostParams::default(), &binding).await.unwrap();
    let token = service_account_token(&place.client, &place.namespace, "operator", 600).await.unwrap();
    let mut config = ControlPlane::shared().await.unwrap().config();
    config.auth_info = kube::config::AuthInfo { token: Some(token.into()), ..kube::config::AuthInfo::default() };
    let operator = Kubernetes::new(client_of(config).unwrap(), place.config("a"));
    patient("its rights are known", async {
        while let Err(trouble) = operator.register(&id(&place, "s1"), &about(""), Some(&uid)).await {
            assert!(trouble.0.contains("403"), "{trouble}");
        }
    })
    .await;
    let made = place.api::<Streamer>().get("s1").await.unwrap();
    assert_eq!(made.metadata.labels, Some(labels([("tier", "gold"), (ZONE, "as-its-author-likes")])));
}
