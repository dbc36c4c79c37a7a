//! `Kubernetes` against a real API server. The first run builds one and says so.

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

/// A candidate's operator, with periods that a test can wait for.
fn candidate(place: &Place, identity: &str) -> Kubernetes {
    let mut config = place.config(identity);
    config.periods.ping = 200;
    config.periods.lease = 6_500;
    Kubernetes::new(place.client.clone(), config)
}

fn record(name: &str, phase: Phase) -> Record {
    Record {
        name: name.into(),
        stream: name.into(),
        uid: "u1".into(),
        streamer: "s1".into(),
        epoch: 1_795_000_000_000,
        phase,
        to: (phase == Phase::Releasing).then(|| "s2".into()),
        previous: None,
        partition: Partition::KeepCapturing,
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

#[tokio::test]
async fn a_slice_is_written_by_compare_and_swap_on_version_and_term() {
    let place = Place::new("slices").await;
    let (operator, id) = (place.operator("a"), place.slice(7));
    assert_eq!(operator.read_slice(&id).await.unwrap(), None);

    let created = done(operator.create_slice(&id, 5).await);
    refused(&operator.create_slice(&id, 6).await);
    let taken = done(operator.take_slice(&id, created, 5, 6).await);
    refused(&operator.take_slice(&id, created, 6, 7).await);
    refused(&operator.take_slice(&id, taken, 5, 7).await);

    let records = [record("a", Phase::Active), record("b", Phase::Releasing)];
    let until = Some(1_795_000_000_123);
    refused(&operator.write_slice(&id, taken, 5, &records, until).await);
    let written = done(operator.write_slice(&id, taken, 6, &records, until).await);
    refused(&operator.write_slice(&id, taken, 6, &records, until).await);
    refused(&operator.write_slice(&place.slice(8), 1, 6, &records, None).await);

    let slice = operator.read_slice(&id).await.unwrap().unwrap();
    assert_eq!((slice.version, slice.term), (written, 6));
    assert_eq!(slice.records, records);
    assert_eq!((slice.removal_until, slice.removal_confirmed), (until, false));
    let placement = place.api::<Placement>().get(&id.object()).await.unwrap();
    let status = placement.status.unwrap();
    assert_eq!((status.streams, status.releasing), (2, 1));

    let confirm = json!({"metadata": {"annotations": {CONFIRM_REMOVAL: "true"}}});
    let confirmed = patched::<Placement>(&place, &id.object(), confirm).await;
    let version = confirmed.metadata.resource_version.unwrap();
    assert!(operator.read_slice(&id).await.unwrap().unwrap().removal_confirmed);
    let emptied = operator.write_slice(&id, version.parse().unwrap(), 6, &[], None).await;
    let emptied = done(emptied);

    let (slices, version) = operator.list_slices().await.unwrap();
    let [slice] = &slices[..] else {
        panic!("{slices:?}");
    };
    // The confirmation was for that removal, and was taken off behind it.
    assert!(version > emptied && slice.version > emptied);
    assert_eq!((slice.removal_until, slice.removal_confirmed), (None, false));
    assert!(slice.records.is_empty());
}

#[tokio::test]
async fn a_list_of_slices_is_whole_however_many_pages_it_has() {
    let place = Place::new("pages").await;
    let other = create_namespace(&place.client, "pages").await.unwrap();
    let mut config = place.config("a");
    config.namespaces.push(other.clone());
    let operator = Kubernetes::new(place.client.clone(), config);
    let mut expected = vec![];
    for namespace in [place.namespace.clone(), other] {
        for index in 0..16 {
            let id = SliceId { namespace: namespace.clone(), index };
            done(operator.create_slice(&id, 5).await);
            expected.push(id);
        }
    }
    expected.sort();
    let listed = |slices: Vec<weir_feed::leader::step::Slice>| {
        let mut ids: Vec<_> = slices.into_iter().map(|slice| slice.id).collect();
        ids.retain(|id| expected.contains(id));
        ids.sort();
        ids
    };
    assert_eq!(listed(operator.list_slices().await.unwrap().0), expected);
    let everywhere = Config { namespaces: vec![], ..place.config("a") };
    let everywhere = Kubernetes::new(place.client.clone(), everywhere);
    assert_eq!(listed(everywhere.list_slices().await.unwrap().0), expected);
}

#[tokio::test]
async fn what_others_do_to_slices_is_seen() {
    let place = Place::new("watched").await;
    let (operator, id) = (place.operator("a"), place.slice(3));
    let before = done(operator.create_slice(&id, 5).await);
    let mut seen = operator.watch_slices();
    let mut next = async || patient("a slice is seen", seen.recv()).await.unwrap();
    let first = next().await;
    assert_eq!((&first.id, first.version, first.term), (&id, Some(before), Some(5)));
    let taken = done(operator.take_slice(&id, before, 5, 6).await);
    let second = next().await;
    assert_eq!((second.version, second.term), (Some(taken), Some(6)));
    let placements = place.api::<Placement>();
    placements.delete(&id.object(), &DeleteParams::default()).await.unwrap();
    let third = next().await;
    assert_eq!((third.id, third.version), (id, None));
}

/// A candidate and what it is told.
struct Candidate {
    term: watch::Sender<u64>,
    resign: watch::Sender<u64>,
    events: mpsc::Receiver<LeaseEvent>,
}

impl Candidate {
    fn new(operator: &Kubernetes) -> Self {
        let ((term, terms), (resign, resigns)) = (watch::channel(0), watch::channel(0));
        let events = operator.campaign(terms, resigns);
        Self { term, resign, events }
    }

    async fn until(&mut self, what: &str, is_it: impl Fn(&LeaseEvent) -> bool) -> LeaseEvent {
        patient(what, async {
            loop {
                let event = self.events.recv().await.unwrap();
                if is_it(&event) {
                    return event;
                }
            }
        })
        .await
    }

    /// Until it leads; the answer is the highest term that was in the Lease.
    async fn leads(&mut self) -> u64 {
        match self.until("it leads", |event| matches!(event, LeaseEvent::Held { .. })).await {
            LeaseEvent::Held { highest_term, .. } => highest_term,
            LeaseEvent::Lost { .. } | LeaseEvent::WentBack { .. } => unreachable!(),
        }
    }

    async fn follows(&mut self, leader: &str) {
        let lost = LeaseEvent::Lost { leader: Some(format!("https://{leader}:9443")) };
        self.until("it follows", |event| *event == lost).await;
    }
}

#[tokio::test]
async fn one_leads_and_the_other_takes_over_when_it_resigns_or_ends() {
    let place = Place::new("election").await;
    let (a, b) = (candidate(&place, "a"), candidate(&place, "b"));
    let mut first = Candidate::new(&a);
    assert_eq!(first.leads().await, 0);
    first.term.send_replace(41);
    first
        .until("its term stands in the Lease", |event| matches!(event, LeaseEvent::Held { highest_term: 41, .. }))
        .await;
    let mut second = Candidate::new(&b);
    second.follows("a").await;

    first.resign.send_replace(1);
    first.until("it resigns", |event| matches!(event, LeaseEvent::Lost { .. })).await;
    assert_eq!(second.leads().await, 41, "the term outlives its leader");
    first.follows("b").await;

    drop(second);
    assert_eq!(first.leads().await, 41);
}

#[tokio::test]
async fn a_silent_holder_is_waited_out_and_never_longer_believed_than_that() {
    let place = Place::new("silent").await;
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {"name": "weir-operator", "annotations": {"weir.dev/term": "17", "weir.dev/feed": "https://x:9443"}},
        "spec": {"holderIdentity": "x", "leaseDurationSeconds": 2},
    }))
    .unwrap();
    let leases = place.api::<Lease>();
    leases.create(&PostParams::default(), &lease).await.unwrap();
    let started = Instant::now();
    let operator = candidate(&place, "a");
    let mut candidate = Candidate::new(&operator);
    candidate.follows("x").await;
    assert_eq!(candidate.leads().await, 17);
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
    let held = leases.get("weir-operator").await.unwrap().spec.unwrap();
    assert!(held.holder_identity.unwrap().starts_with("a_"));
    assert_eq!(held.lease_duration_seconds, Some(7), "6.5 s, rounded up for others");
}

#[tokio::test]
async fn a_lease_that_is_taken_or_deleted_by_hand_is_not_fought_for() {
    let place = Place::new("hand").await;
    let operator = candidate(&place, "a");
    let mut candidate = Candidate::new(&operator);
    candidate.leads().await;
    let leases = place.api::<Lease>();
    let uid = async || leases.get_opt("weir-operator").await.unwrap()?.metadata.uid;
    let old = uid().await;
    leases.delete("weir-operator", &DeleteParams::default()).await.unwrap();
    patient("the Lease is posted again", async {
        while matches!(uid().await, now if now.is_none() || now == old) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    candidate.leads().await;

    let theirs = json!({
        "metadata": {"annotations": {"weir.dev/feed": "https://x:9443", "weir.dev/term": "99"}},
        "spec": {"holderIdentity": "x"},
    });
    let patch = Patch::Merge(theirs);
    leases.patch("weir-operator", &PatchParams::default(), &patch).await.unwrap();
    candidate.follows("x").await;
}

#[tokio::test]
async fn two_who_make_the_keys_at_once_end_with_the_same() {
    let place = Place::new("keys").await;
    let (a, b) = (place.operator("a"), place.operator("b"));
    let (a, b) = tokio::join!(a.keys(), b.keys());
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(b.verify_term(&a.term(7), 7), weir_feed::grant::Verdict::Ours);
    let secret = place.api::<Secret>().get("weir-grants").await.unwrap();
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
}

#[tokio::test]
async fn a_token_belongs_to_the_pod_that_it_is_bound_to() {
    let place = Place::new("tokens").await;
    let (client, namespace) = (&place.client, &place.namespace);
    let operator = place.operator("a");
    let bound = pod_bound_token(client, namespace, "s1", "streamer", AUDIENCE, 600).await.unwrap();
    let identity = operator.identify(&bound.token).await.unwrap();
    assert_eq!(identity.streamer.to_string(), format!("{namespace}/s1"));
    assert_eq!(identity.instance.as_deref(), Some(bound.pod_uid.as_str()));
    let left = identity.expires.unwrap() - weir_operator::clock::now().wall;
    assert!((300_000..=600_000).contains(&left), "{left}");

    let elsewhere = pod_bound_token(client, namespace, "s1", "streamer", "other", 600).await.unwrap();
    let podless = service_account_token(client, namespace, "streamer", 600).await.unwrap();
    let mut forged = bound.token.clone();
    forged.replace_range(forged.len() - 6.., "AAAAAA");
    for token in [elsewhere.token.as_str(), &podless, &forged, "hunter2"] {
        let Err(TokenError::Refused(why)) = operator.identify(token).await else {
            panic!("a token was taken that should be refused");
        };
        assert!(why.contains("mount a projected token with audience weir.dev"), "{why}");
        assert!(!why.contains(token));
    }
    let other = create_namespace(client, "tokens").await.unwrap();
    let outside = pod_bound_token(client, &other, "s1", "streamer", AUDIENCE, 600).await.unwrap();
    let Err(TokenError::Refused(why)) = operator.identify(&outside.token).await else {
        panic!("a token of another namespace was taken");
    };
    assert!(why.contains(&other), "{why}");
}

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

#[tokio::test]
async fn a_status_is_written_whole_and_only_when_it_differs() {
    let place = Place::new("status").await;
    let streams = place.api::<Stream>();
    streams.create(&PostParams::default(), &stream("bunny")).await.unwrap();
    let operator = place.operator("a");
    let mut observed = operator.observe();
    let bunny = place.object("bunny");
    patient("the Stream is seen", observed.wait_for(|observed| has(observed, &bunny))).await.unwrap();

    let placed = StreamStatus { streamer: Some("s1".into()), epoch: Some(7), ..StreamStatus::default() };
    let write = async |status: &StreamStatus| {
        operator.write_status(&bunny, &Status::Stream(status.clone())).await.unwrap();
        let stream = streams.get("bunny").await.unwrap();
        (stream.status.unwrap_or_default(), stream.metadata.resource_version)
    };
    let (status, version) = write(&placed).await;
    assert_eq!(status, placed);
    assert_eq!(write(&placed).await.1, version, "nothing to write");
    let unplaced = StreamStatus { epoch: Some(8), ..StreamStatus::default() };
    assert_eq!(write(&unplaced).await.0, unplaced, "what is not said any more is gone");

    let by_hand = Patch::Merge(json!({"status": {"streamer": "s9"}}));
    streams.patch_status("bunny", &PatchParams::default(), &by_hand).await.unwrap();
    let is_seen = |observed: &Arc<Observed>| match observed.streams.as_ref().and_then(|all| all.get(&bunny)) {
        Some(Object::Readable(stream)) => {
            stream.status.as_ref().is_some_and(|status| status.streamer.as_deref() == Some("s9"))
        }
        _ => false,
    };
    patient("what was done by hand is seen", observed.wait_for(is_seen)).await.unwrap();
    assert_eq!(write(&unplaced).await.0, unplaced, "set right again");

    let gone = place.object("gone");
    operator.write_status(&gone, &Status::Stream(placed)).await.unwrap();
}

fn has(observed: &Observed, object: &ObjectRef) -> bool {
    let streams = observed.streams.as_ref();
    streams.is_some_and(|streams| streams.contains_key(object))
}

#[tokio::test]
async fn equal_events_are_one_series_and_others_are_not() {
    let place = Place::new("events").await;
    let made = place.api::<Stream>().create(&PostParams::default(), &stream("bunny")).await.unwrap();
    let operator = place.operator("a");
    for streamer in ["s1", "s2", "s2"] {
        let occurrence = Occurrence {
            kind: "Stream",
            object: place.object("bunny"),
            uid: made.metadata.uid.clone().unwrap(),
            warning: false,
            tells: weir_operator::cluster::Tells::State,
            reason: "Placed".into(),
            message: format!("on {streamer}"),
        };
        operator.record_event(&occurrence).await;
    }
    let events = place.api::<Event>().list(&ListParams::default()).await.unwrap();
    let mut told: Vec<_> =
        events.into_iter().map(|event| (event.note.unwrap(), event.series.map_or(1, |series| series.count))).collect();
    told.sort();
    assert_eq!(told, [("on s1".to_owned(), 1), ("on s2".to_owned(), 2)]);
}

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

#[tokio::test]
async fn an_api_server_that_does_not_answer_leaves_a_write_unknown() {
    // A listener that nobody accepts from: connections stand, answers never come.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let client = client_of(kube::Config::new(address.parse().unwrap())).unwrap();
    let place = Place { client, namespace: "media".into() };
    let operator = candidate(&place, "a");
    let outcome = operator.take_slice(&place.slice(0), 1, 1, 2).await;
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
    drop(silent);
    let outcome = operator.take_slice(&place.slice(0), 1, 1, 2).await;
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
}
