//! The definitions of a later release: with one more field, then another version, then that as the one that is stored. Whatever is stored
//! stays, and an operator that knows nothing of it takes nothing away.

use serde_json::Value;

use super::*;

/// The field that a later release adds.
const FIELD: &str = "addedLater";
/// The version that it adds.
const NEXT: &str = "v1beta1";

/// What a release does to the definitions of this one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Release {
    /// A field more in the `spec` of every kind.
    Field,
    /// A second version that is served.
    Version,
    /// It is also the one that is stored.
    Storage,
    /// It is the only one.
    Last,
}

/// Today's definitions as that release has them.
fn definitions(release: Release) -> String {
    let changed = weir_crds::crds().into_iter().map(|crd| {
        let mut crd = serde_json::to_value(&crd).unwrap();
        let mut version = crd["spec"]["versions"][0].take();
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][FIELD] =
            json!({"type": "string", "maxLength": 64});
        let mut versions = vec![version.clone()];
        if release != Release::Field {
            versions.push(version);
            versions[1]["name"] = json!(NEXT);
            versions[1]["storage"] = json!(release == Release::Storage);
            versions[0]["storage"] = json!(release != Release::Storage);
        }
        if release == Release::Last {
            versions.remove(0);
            versions[0]["storage"] = json!(true);
        }
        crd["spec"]["versions"] = versions.into();
        serde_yaml::to_string(&crd).unwrap()
    });
    changed.collect::<Vec<_>>().join("---\n")
}

/// An API server of its own: what it serves is nobody else's.
async fn place(control_plane: &ControlPlane) -> Place {
    let client = client_of(control_plane.config()).unwrap();
    apply_crds(&client, &weir_crds::crds_yaml()).await.unwrap();
    let namespace = create_namespace(&client, "upgrade").await.unwrap();
    Place { client, namespace }
}

/// A kind under a version.
fn resource(place: &Place, kind: &str, version: &str) -> Api<DynamicObject> {
    let plural = format!("{}s", kind.to_lowercase());
    let resource = ApiResource {
        group: "weir.dev".into(),
        version: version.into(),
        api_version: format!("weir.dev/{version}"),
        kind: kind.into(),
        plural,
    };
    Api::namespaced_with(place.client.clone(), &place.namespace, &resource)
}

/// Every object of ours under that version, by kind and name: its spec.
async fn specs(place: &Place, version: &str) -> BTreeMap<String, Value> {
    let mut specs = BTreeMap::new();
    for kind in ["Stream", "Streamer", "Placement"] {
        let api = resource(place, kind, version);
        let listed = patient("a new version is served", async {
            loop {
                // Established, and a moment later served.
                if let Ok(listed) = api.list(&ListParams::default()).await {
                    return listed;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        for object in listed.await {
            specs.insert(format!("{kind} {}", object.metadata.name.unwrap()), object.data["spec"].clone());
        }
    }
    specs
}

/// A client of the later release fills its field in.
async fn fill(place: &Place, version: &str) {
    for (kind, name) in [("Stream", "bunny"), ("Streamer", "s1"), ("Placement", "placement-7")] {
        let patch = Patch::Merge(json!({"spec": {FIELD: "kept"}}));
        patient("the field is known", async {
            loop {
                let filled = resource(place, kind, version).patch(name, &PatchParams::default(), &patch).await.unwrap();
                if filled.data["spec"][FIELD] == "kept" {
                    return;
                }
                // Pruned: the definition is not in force everywhere yet.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }
}

fn kept(specs: &BTreeMap<String, Value>) {
    assert_eq!(specs.len(), 3, "{specs:?}");
    for (object, spec) in specs {
        assert_eq!(spec[FIELD], "kept", "{object} has lost it: {spec}");
    }
}

/// Everything that this release's operator writes, over objects of a later one.
async fn write(place: &Place, operator: &Kubernetes, records: &[Record]) {
    let id = place.slice(7);
    let slice = operator.read_slice(&id).await.unwrap().unwrap();
    let taken = done(operator.take_slice(&id, slice.version, slice.term, slice.term + 1).await);
    done(operator.write_slice(&id, taken, slice.term + 1, records, None).await);
    let epoch = Some(slice.term);
    let status = Status::Stream(StreamStatus { streamer: Some("s1".into()), epoch, ..StreamStatus::default() });
    operator.write_status(&place.object("bunny"), &status).await.unwrap();
    let status = weir_crds::StreamerStatus { streams: Some(u32::try_from(slice.term).unwrap()), ..Default::default() };
    operator.write_status(&place.object("s1"), &Status::Streamer(status)).await.unwrap();
    let read = operator.read_slice(&id).await.unwrap().unwrap();
    assert_eq!((read.term, &read.records[..]), (slice.term + 1, records));
}

#[tokio::test]
async fn stored_objects_outlive_a_new_field_and_a_new_version_and_the_operator_before_takes_nothing_away() {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    let place = place(&control_plane).await;
    place.api::<Stream>().create(&PostParams::default(), &stream("bunny")).await.unwrap();
    let streamer = json!({"apiVersion": "weir.dev/v1alpha1", "kind": "Streamer", "metadata": {"name": "s1"}, "spec": {"roles": ["ingest"]}});
    let streamer: Streamer = serde_json::from_value(streamer).unwrap();
    place.api::<Streamer>().create(&PostParams::default(), &streamer).await.unwrap();
    let operator = place.operator("a");
    done(operator.create_slice(&place.slice(7), 1).await);
    let record = slices::record("bunny", Phase::Active);
    write(&place, &operator, std::slice::from_ref(&record)).await;
    let stored = specs(&place, "v1alpha1").await;

    apply_crds(&place.client, &definitions(Release::Field)).await.unwrap();
    assert_eq!(specs(&place, "v1alpha1").await, stored, "nothing is lost by a new field");
    fill(&place, "v1alpha1").await;
    write(&place, &operator, &[]).await;
    kept(&specs(&place, "v1alpha1").await);
    let mut observed = operator.observe();
    patient(
        "the Stream is read all the same",
        observed.wait_for(|seen| {
            let stream = seen.streams.as_ref().and_then(|streams| streams.get(&place.object("bunny")));
            matches!(stream, Some(Object::Readable(_)))
        }),
    )
    .await
    .unwrap();

    apply_crds(&place.client, &definitions(Release::Version)).await.unwrap();
    let (before, after) = (specs(&place, "v1alpha1").await, specs(&place, NEXT).await);
    assert_eq!(before, after, "the same objects under both versions");
    fill(&place, NEXT).await;
    write(&place, &operator, std::slice::from_ref(&record)).await;
    kept(&specs(&place, NEXT).await);

    apply_crds(&place.client, &definitions(Release::Storage)).await.unwrap();
    assert_eq!(specs(&place, NEXT).await, specs(&place, "v1alpha1").await);
    // Each is written once more, as `kubectl storage-version` tools do: then none is stored as it was.
    fill(&place, NEXT).await;
    write(&place, &operator, &[]).await;
    kept(&specs(&place, "v1alpha1").await);
    for crd in weir_crds::crds() {
        let definitions = Api::<CustomResourceDefinition>::all(place.client.clone());
        let name = crd.metadata.name.unwrap();
        let stored = definitions.get(&name).await.unwrap().status.unwrap().stored_versions.unwrap();
        assert_eq!(stored, ["v1alpha1", NEXT], "of {name}");
        // Nothing is stored under the first any more.
        let stored = Patch::Merge(json!({"status": {"storedVersions": [NEXT]}}));
        definitions.patch_status(&name, &PatchParams::default(), &stored).await.unwrap();
    }
    let stored = specs(&place, NEXT).await;
    apply_crds(&place.client, &definitions(Release::Last)).await.unwrap();
    let gone = resource(&place, "Stream", "v1alpha1");
    patient("the first version is gone", async {
        while gone.list(&ListParams::default()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(specs(&place, NEXT).await, stored, "nothing is lost with the first version");
}
