use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::inject::tests::settings;

/// What a streamer's pod is before it has a name.
fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "streamer-", "labels": {"weir.dev/inject": "true"}},
        "spec": {"containers": [{"name": "streamer", "image": "flussonic:25"}]},
    })
}

fn review(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
            "namespace": "media", "object": pod, "oldObject": null, "dryRun": false,
        },
    })
}

/// Posts it; the status and the body that came back, and what was counted.
async fn post(body: String) -> (u16, String, WebhookMetrics) {
    let metrics = WebhookMetrics::default();
    let request = Request::post(PATH).body(Body::from(body)).unwrap();
    let response = router(settings(), metrics.clone()).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), MAX_BODY).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap(), metrics)
}

/// What is answered to a review, and what was counted.
async fn answered(review: &Value) -> (Value, WebhookMetrics) {
    let (status, body, metrics) = post(review.to_string()).await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&answer["kind"], &answer["response"]["uid"]), (&json!("AdmissionReview"), &json!("u-1")));
    (answer["response"].clone(), metrics)
}

fn patched(mut pod: Value, response: &Value) -> Value {
    assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

#[tokio::test]
async fn a_labelled_pod_gets_its_sidecar_and_nothing_when_it_is_reviewed_again() {
    let (response, metrics) = answered(&review(&pod())).await;
    let injected = patched(pod(), &response);
    assert_eq!(injected["spec"]["initContainers"][0]["name"], "weir-sidecar");
    assert_eq!(metrics.counted(Outcome::Injected), 1);
    let (response, metrics) = answered(&review(&injected)).await;
    assert_eq!(response, json!({"uid": "u-1", "allowed": true}));
    assert_eq!(metrics.counted(Outcome::Untouched), 1);
}

#[tokio::test]
async fn what_does_not_ask_for_it_is_allowed_as_it_is() {
    let mut unlabelled = review(&pod());
    unlabelled["request"]["object"]["metadata"]["labels"] = json!({"weir.dev/inject": "false"});
    let mut update = review(&pod());
    update["request"]["operation"] = json!("UPDATE");
    let mut status = review(&pod());
    status["request"]["subResource"] = json!("status");
    let mut deletion = review(&Value::Null);
    deletion["request"]["operation"] = json!("DELETE");
    let mut other = review(&pod());
    other["request"]["kind"] = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    for review in [unlabelled, update, status, deletion, other] {
        let (response, metrics) = answered(&review).await;
        assert_eq!(response, json!({"uid": "u-1", "allowed": true}), "{review}");
        assert_eq!(metrics.counted(Outcome::Untouched), 1);
    }
}

#[tokio::test]
async fn a_pod_that_cannot_be_injected_is_refused_with_the_sentence() {
    let mut own = pod();
    own["spec"]["containers"][0]["env"] = json!([{"name": "STREAMER_CONFIG_EXTERNAL", "value": "http://central"}]);
    let (response, metrics) = answered(&review(&own)).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(422)));
    let sentence = response["status"]["message"].as_str().unwrap();
    assert!(sentence.contains("has its own STREAMER_CONFIG_EXTERNAL: remove it"), "{sentence}");
    assert_eq!(metrics.counted(Outcome::Refused), 1);
}

#[tokio::test]
async fn rubbish_is_a_bad_request() {
    let mut old = review(&pod());
    old["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut nameless = review(&pod());
    nameless["request"]["uid"] = json!("");
    let mut unasked = review(&pod());
    unasked["request"] = json!(null);
    for rubbish in [
        String::new(),
        "{".into(),
        "null".into(),
        "[[]]".into(),
        old.to_string(),
        nameless.to_string(),
        unasked.to_string(),
    ] {
        let (status, body, metrics) = post(rubbish.clone()).await;
        assert_eq!(status, 400, "{rubbish}: {body}");
        assert!(body.contains("this is no AdmissionReview of admission.k8s.io/v1"), "{body}");
        assert_eq!(metrics.counted(Outcome::Malformed), 1);
    }
}

#[tokio::test]
async fn a_labelled_object_that_is_no_pod_is_refused_whatever_its_shape() {
    for (field, value) in
        [("spec", json!(7)), ("spec", json!(null)), ("spec", json!({"containers": []})), ("kind", json!("Node"))]
    {
        let mut odd = pod();
        odd[field] = value;
        let (response, _) = answered(&review(&odd)).await;
        assert_eq!(response["allowed"], false, "{odd}");
    }
    // Not even that: then it has no label.
    for odd in [json!([1]), json!("pod"), json!({"metadata": []}), json!({"metadata": {"labels": "x"}})] {
        let (response, _) = answered(&review(&odd)).await;
        assert_eq!(response["allowed"], true, "{odd}");
    }
}
