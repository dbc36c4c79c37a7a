//! What is exported, from real files that a real leader has written.

use std::fs;

use tokio::sync::watch;
use weir_feed::digest::slice_of;
use weir_feed::frames::{About, Partition};
use weir_feed::leader::step::{Outcome, SliceId};
use weir_feed::record::{Phase, Record, StreamerId};

use super::*;
use crate::cluster::manifests::Manifests;
use crate::cluster::{Cluster as _, LeaseEvent};

const TERM: u64 = 1_800_000_000_000;

const DECLARED: &str = "\
apiVersion: weir.dev/v1alpha1
kind: Stream
metadata: {namespace: media, name: one, labels: {app: 'yes'}}
spec: {inputs: [{url: 'rtsp://u:${secret:camera/password}@h/1'}], config: {title: 'off', comment: '0x10'}}
---
apiVersion: v1
kind: Secret
type: weir.dev/credentials
metadata: {namespace: media, name: camera}
stringData: {password: hunter2}
---
apiVersion: weir.dev/v1alpha1
kind: Streamer
metadata: {namespace: media, name: s1}
spec: {capacity: {streams: 20}}
";

fn record() -> Record {
    Record {
        name: "one".into(),
        stream: "one".into(),
        uid: "u1".into(),
        streamer: "s1".into(),
        epoch: TERM + 5,
        phase: Phase::Active,
        to: None,
        previous: Some("s2".into()),
        partition: Partition::KeepCapturing,
    }
}

/// A site that was led: a record, a Streamer that registered itself, keys.
async fn led() -> (tempfile::TempDir, Options) {
    let dir = tempfile::tempdir().unwrap();
    let (manifests, state) = (dir.path().join("manifests"), dir.path().join("state"));
    fs::create_dir(&manifests).unwrap();
    fs::write(manifests.join("a.yaml"), DECLARED).unwrap();
    let cluster = Manifests::open(crate::cluster::manifests::Options::new(&manifests, &state)).unwrap();
    let (term, resign) = (watch::Sender::new(0), watch::Sender::new(0));
    let mut events = cluster.campaign(term.subscribe(), resign.subscribe());
    assert!(matches!(events.recv().await, Some(LeaseEvent::Held { .. })));
    cluster.keys().await.unwrap();
    let id = SliceId { namespace: "media".into(), index: slice_of("one") };
    let Outcome::Done { version } = cluster.create_slice(&id, TERM).await else { panic!() };
    let written = cluster.write_slice(&id, version, TERM, &[record()], None).await;
    assert!(matches!(written, Outcome::Done { .. }), "{written:?}");
    let s2 = StreamerId { namespace: "media".into(), name: "s2".into() };
    cluster.register(&s2, &About { hostname: "s2.example.com".into(), addresses: vec![] }, None).await.unwrap();
    let options = Options {
        manifests,
        state,
        namespaces: BTreeSet::new(),
        own_namespace: "weir-system".into(),
        token_file: None,
    };
    (dir, options)
}

fn named(export: &Export) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let name = |object: &Value| {
        format!(
            "{} {}/{}",
            text(&object["kind"]),
            text(&object["metadata"]["namespace"]),
            text(&object["metadata"]["name"])
        )
    };
    export.objects.iter().map(name).collect()
}

#[tokio::test]
async fn everything_comes_out_and_records_come_before_their_streams() {
    let (dir, mut options) = led().await;
    let tokens = dir.path().join("tokens");
    let hash = token::Hash::of("weir_x");
    fs::write(&tokens, format!("media/s1 sha256:{hash}\nmedia/s2 plain\n")).unwrap();
    options.token_file = Some(tokens);
    let export = export(&options).unwrap();
    let slice = format!("Placement media/placement-{:x}", slice_of("one"));
    let token = format!("Secret media/weir-token-{}", hash.id());
    let expected = [
        "Namespace -/media",
        "Namespace -/weir-system",
        "Secret weir-system/weir-grants",
        "Secret media/camera",
        &token,
        &slice,
        "Streamer media/s2",
        "Streamer media/s1",
        "Stream media/one",
    ];
    assert_eq!(named(&export), expected);
    assert!(export.warnings.len() == 1 && export.warnings[0].contains("media/s2"), "{:?}", export.warnings);

    let placement = &export.objects[5];
    assert_eq!((&placement["spec"]["term"], &placement["spec"]["records"]), (&json!(TERM), &json!([record()])));
    assert_eq!(placement["status"]["streams"], 1);
    let ring = weir_feed::grant::KeyRing::new(
        export.objects[2]["data"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, key)| (name.clone(), STANDARD.decode(key.as_str().unwrap()).unwrap()))
            .collect(),
    );
    assert_eq!(ring, keys::load(&options.state).unwrap());
    for object in &export.objects {
        let metadata = object["metadata"].as_object().unwrap();
        for field in ["uid", "generation", "creationTimestamp", "resourceVersion"] {
            assert!(!metadata.contains_key(field), "{field}: {object}");
        }
        let kind = object["kind"].as_str().unwrap();
        if ["Stream", "Streamer", "Placement"].contains(&kind) {
            weir_crds::validate(kind, object, None).unwrap();
        }
    }
}

#[tokio::test]
async fn kubectl_reads_what_is_meant() {
    let (_dir, options) = led().await;
    let export = export(&options).unwrap();
    for object in &export.objects {
        let text = crate::text::yaml(object).unwrap();
        // As YAML 1.1 has it, which takes more words for booleans and more digits for numbers.
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), *object, "{text}");
    }
}

#[tokio::test]
async fn a_stream_that_was_spoilt_since_is_exported_as_it_was_accepted() {
    let (_dir, options) = led().await;
    // Remembered by the operator that accepted it.
    let mut picture = Picture::open(&options.manifests, &options.state, BTreeSet::new()).unwrap();
    picture.refresh(true, SystemTime::now());
    picture.admission.known.store(&options.state).unwrap();
    let spoilt = DECLARED.replace("inputs: [{url:", "inputs: [{uri:");
    fs::write(options.manifests.join("a.yaml"), spoilt).unwrap();
    let export = export(&options).unwrap();
    let stream = export.objects.last().unwrap();
    assert_eq!(stream["spec"]["inputs"][0]["url"], "rtsp://u:${secret:camera/password}@h/1");
    assert!(export.warnings.iter().any(|why| why.contains("accepted last") && why.contains("media/one")));
}

#[tokio::test]
async fn half_of_it_is_not_exported() {
    let (dir, options) = led().await;
    let elsewhere = Options { state: dir.path().join("none"), ..options.clone() };
    assert!(export(&elsewhere).unwrap_err().0.contains("holds no keys"));
    fs::remove_dir_all(&options.manifests).unwrap();
    assert!(export(&options).unwrap_err().0.contains("not known"));
}
