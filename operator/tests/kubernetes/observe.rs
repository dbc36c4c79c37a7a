//! What users declare, as it is observed.

use super::*;

/// The definition of Streams, with a schema that takes anything.
fn lax() -> CustomResourceDefinition {
    let mut crds = weir_crds::crds().into_iter();
    let streams = crds.find(|crd| crd.spec.names.kind == "Stream").unwrap();
    let mut streams = serde_json::to_value(streams).unwrap();
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    streams["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = anything;
    streams["spec"]["versions"][0]["additionalPrinterColumns"] = json!([]);
    serde_json::from_value(streams).unwrap()
}

/// What is observed of Streams: the names of those that can be read, and the sentences of the others.
fn streams(observed: &Observed) -> Option<(Vec<&str>, Vec<&str>)> {
    let (mut readable, mut malformed) = (vec![], vec![]);
    for (reference, object) in observed.streams.as_ref()? {
        match object {
            Object::Readable(_) => readable.push(reference.name.as_str()),
            Object::Malformed { message, .. } => malformed.push(message.as_str()),
        }
    }
    Some((readable, malformed))
}

#[tokio::test]
async fn what_users_declare_is_observed_through_malformed_objects_outages_and_a_wiped_definition() {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    let client = client_of(control_plane.config()).unwrap();
    let definitions = weir_crds::crds_yaml();
    apply_crds(&client, &definitions).await.unwrap();
    apply_crds(&client, &weir_crds::crds::crd_yaml(&lax())).await.unwrap();
    let namespace = create_namespace(&client, "observed").await.unwrap();
    let place = Place { client, namespace };
    let untyped = ApiResource::erase::<Stream>(&());
    let untyped = Api::<DynamicObject>::namespaced_with(place.client.clone(), &place.namespace, &untyped);
    let broken: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "Stream", "metadata": {"name": "broken"},
        "spec": {"inputs": "rtsp://u:hunter2@camera/1"},
    }))
    .unwrap();
    untyped.create(&PostParams::default(), &broken).await.unwrap();
    apply_crds(&place.client, &definitions).await.unwrap();

    let operator = place.operator("a");
    let mut observed = operator.observe();
    let mut until = async |what: &str, is_so: fn(&Observed) -> bool| {
        patient(what, observed.wait_for(|observed| is_so(observed))).await.unwrap().clone()
    };
    let now = until("the lists are there", |observed| {
        observed.streams.is_some() && observed.streamers.is_some() && observed.secrets.is_some()
    });
    let now = now.await;
    let (readable, malformed) = streams(&now).unwrap();
    assert_eq!(readable, [""; 0]);
    assert!(malformed.len() == 1 && malformed[0].contains("spec.inputs"), "{malformed:?}");
    assert!(!format!("{now:?}").contains("hunter2"));

    // Beside a malformed one, others come and go.
    let api = place.api::<Stream>();
    api.create(&PostParams::default(), &stream("bunny")).await.unwrap();
    until("a Stream is seen", |now| streams(now).unwrap().0 == ["bunny"]).await;
    secrets(&place).await;
    let now = until("a Secret is seen", |now| now.secrets.as_ref().unwrap().len() == 1).await;
    let (reference, credentials) = now.secrets.as_ref().unwrap().first_key_value().unwrap();
    assert_eq!(reference.name, "camera");
    assert_eq!(credentials.0["password"], b"hunter2");

    // The API server is away: what was known stays, and it is said.
    control_plane.kill_api_server().await.unwrap();
    let now = until("the outage is said", |now| now.problems.len() >= 3).await;
    assert_eq!(streams(&now).unwrap().0, ["bunny"]);
    control_plane.start_api_server().await.unwrap();
    until("the outage is over", |now| now.problems.is_empty()).await;

    // Without their definition Streams are not known; the others are.
    let crds = Api::<CustomResourceDefinition>::all(place.client.clone());
    crds.delete("streams.weir.dev", &DeleteParams::default()).await.unwrap();
    let now = until("the wiped definition is noticed", |now| now.streams.is_none()).await;
    assert!(now.problems.iter().any(|problem| problem.contains("Streams")), "{:?}", now.problems);
    assert!(now.streamers.is_some() && now.secrets.is_some());
    patient("the definition is gone", async {
        while crds.get_opt("streams.weir.dev").await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    apply_crds(&place.client, &definitions).await.unwrap();
    let now = until("Streams are known again", |now| now.streams.is_some()).await;
    assert_eq!(streams(&now).unwrap(), (vec![], vec![]));
}

/// One Secret that is for us and one that is not.
async fn secrets(place: &Place) {
    let secret = |name: &str, type_: &str| Secret {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        type_: Some(type_.into()),
        string_data: Some(BTreeMap::from([("password".into(), "hunter2".into())])),
        ..Secret::default()
    };
    let api = place.api::<Secret>();
    for secret in [secret("other", "Opaque"), secret("camera", "weir.dev/credentials")] {
        api.create(&PostParams::default(), &secret).await.unwrap();
    }
}

#[tokio::test]
async fn a_namespace_that_is_being_deleted_is_known_as_such() {
    let place = Place::new("terminating").await;
    let operator = place.operator("a");
    let mut observed = operator.observe();
    let is_known = |observed: &Arc<Observed>| observed.streams.is_some();
    patient("the lists are there", observed.wait_for(is_known)).await.unwrap();
    assert!(observed.borrow().terminating.is_empty());
    let namespaces = Api::<k8s_openapi::api::core::v1::Namespace>::all(place.client.clone());
    // Nobody finishes the deletion here: that would be the controller manager's.
    namespaces.delete(&place.namespace, &DeleteParams::default()).await.unwrap();
    let is_terminating = |observed: &Arc<Observed>| observed.terminating.contains(&place.namespace);
    patient("it is known to be deleted", observed.wait_for(is_terminating)).await.unwrap();
    refused(&operator.create_slice(&place.slice(0), 1).await);
}
