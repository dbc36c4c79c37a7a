//! Streamers that register themselves.

use super::*;

#[tokio::test]
async fn a_streamer_is_registered_once_with_the_labels_of_its_pod() {
    let place = Place::new("register").await;
    let operator = place.operator("a");
    let id = |name: &str| StreamerId { namespace: place.namespace.clone(), name: name.into() };
    let about = About { hostname: "s1.example.com".into(), addresses: vec!["10.0.0.7:8080".into()] };
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {
            "name": "s1", "labels": {"zone": "west", "pod-template-hash": "abc"},
            "annotations": {"weir.dev/capacity-streams": "200"},
        },
        "spec": {"serviceAccountName": "streamer", "containers": [{"name": "c", "image": "i"}]},
    }))
    .unwrap();
    // Makes the ServiceAccount as well, and a Pod that is not asked about.
    pod_bound_token(&place.client, &place.namespace, "s0", "streamer", AUDIENCE, 600).await.unwrap();
    place.api::<Pod>().create(&PostParams::default(), &pod).await.unwrap();
    operator.register(&id("s1"), &about).await.unwrap();
    operator.register(&id("bare"), &about).await.unwrap();
    let streamers = place.api::<Streamer>();
    let made = streamers.get("s1").await.unwrap();
    let labels = BTreeMap::from([("zone".to_owned(), "west".to_owned())]);
    assert_eq!((made.metadata.labels.as_ref(), made.spec.capacity.streams), (Some(&labels), Some(200)));
    assert_eq!(made.spec.hostname.as_deref(), Some("s1.example.com"));

    let other = About { hostname: "other.example.com".into(), ..about };
    operator.register(&id("s1"), &other).await.unwrap();
    assert_eq!(streamers.get("s1").await.unwrap().spec, made.spec, "never overwritten");
    assert_eq!(streamers.get("bare").await.unwrap().metadata.labels, None);
}
