//! What a directory of manifests refuses and takes, the API server refuses and takes, in the same words.

use std::path::Path;

use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use weir_crds::{crds_yaml, validate};
use weir_e2e::control_plane::{ControlPlane, apply_crds, create_namespace};
use weir_e2e::demo::EXAMPLES;
use weir_e2e::demo::declared::objects;

#[derive(Deserialize)]
struct Case {
    kind: String,
    title: String,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    object: Value,
    path: String,
    says: String,
}

/// A good object of the kind.
fn good(kind: &str) -> Value {
    let spec = match kind {
        "Stream" => json!({"inputs": [{"url": "udp://239.0.0.1:1234"}]}),
        "Streamer" => json!({}),
        _ => json!({"term": 1}),
    };
    json!({"apiVersion": "weir.dev/v1alpha1", "kind": kind, "metadata": {"name": "bunny"}, "spec": spec})
}

/// `value` with the fields of `patch` put in.
fn put(value: &mut Value, patch: &Value) {
    for (key, field) in patch.as_object().into_iter().flatten() {
        value[key] = field.clone();
    }
}

/// Sends an object as `kubectl apply` does, without keeping it: the object as it would be stored, or the refusal.
async fn send(client: &Client, method: &str, namespace: &str, object: &Value, keep: bool) -> Result<Value, String> {
    let kind = object["kind"].as_str().unwrap().to_lowercase();
    let dry_run = if keep { "" } else { "&dryRun=All" };
    let name = if method == "PUT" { "/bunny" } else { "" };
    let group = object["apiVersion"].as_str().unwrap();
    let api = if group.contains('/') { "apis" } else { "api" };
    let uri = format!("/{api}/{group}/namespaces/{namespace}/{kind}s{name}?fieldValidation=Strict{dry_run}");
    let request = axum::http::Request::builder().method(method).uri(uri);
    let request = request.header("content-type", "application/json");
    let request = request.body(serde_json::to_vec(object).unwrap());
    let answer = client.request::<Value>(request.unwrap()).await;
    answer.map_err(|error| match error {
        kube::Error::Api(status) => status.message.clone(),
        other => panic!("the API server did not answer: {other}"),
    })
}

async fn cluster() -> (Client, String) {
    let client = ControlPlane::shared().await.unwrap().client().unwrap();
    apply_crds(&client, &crds_yaml()).await.unwrap();
    let namespace = create_namespace(&client, "validation").await.unwrap();
    (client, namespace)
}

#[tokio::test]
async fn every_kind_of_error_is_refused_by_both() {
    let (client, namespace) = cluster().await;
    // Where the sentence is ours, it is the same one; these are the API server's own words.
    let its_own = ["", "is required", "unknown field"];
    let cases = include_str!("../../crds/tests/refused.yaml");
    for case in serde_yaml::from_str::<Vec<Case>>(cases).unwrap() {
        let mut object = good(&case.kind);
        put(&mut object["spec"], &case.spec);
        put(&mut object, &case.object);
        validate(&case.kind, &object, None).expect_err(&case.title);
        let refusal = send(&client, "POST", &namespace, &object, false).await;
        let refusal = refusal.expect_err(&case.title);
        assert!(refusal.contains(&case.path), "{}: {refusal}", case.title);
        if !its_own.contains(&case.says.as_str()) {
            assert!(refusal.contains(&case.says), "{}: {refusal}", case.title);
        }
    }
}

#[tokio::test]
async fn what_is_stored_is_what_a_directory_reads() {
    let (client, namespace) = cluster().await;
    let mut stream = good("Stream");
    stream["spec"] = json!({
        "name": null,
        "inputs": [{"url": "rtsp://admin:${secret:cam-1/password}@10.0.0.1/live"}, {"url": "publish://"}],
        "config": {"dvr": {"reference": "main"}, "anything": [1, {"x": null}], "title": "$${x}"},
        "placement": {"streamerSelector": {"matchLabels": {"zone": "a"}}},
        "failover": {"after": "1m30s"},
    });
    let mut streamer = good("Streamer");
    streamer["spec"] = json!({"capacity": {"streams": 200}, "roles": ["ingest"], "addresses": ["[fd00::7]:8080"]});
    let mut placement = good("Placement");
    placement["status"] = json!({"streams": 1, "releasing": 0});
    placement["spec"]["records"] =
        json!([{"name": "a", "stream": "a", "uid": "u", "streamer": "s", "epoch": 5, "phase": "Active", "to": null}]);
    for object in [good("Stream"), stream, good("Streamer"), streamer, good("Placement"), placement] {
        let kind = object["kind"].as_str().unwrap();
        let read = validate(kind, &object, None).unwrap();
        let stored = send(&client, "POST", &namespace, &object, false).await.unwrap();
        for half in ["spec", "status"] {
            assert_eq!(stored.get(half), read.get(half), "{half} of {object}");
        }
    }
}

#[tokio::test]
async fn every_example_is_taken() {
    let (client, namespace) = cluster().await;
    let examples = objects(Path::new(EXAMPLES)).unwrap();
    for (place, object) in &examples {
        let taken = send(&client, "POST", &namespace, object, false).await;
        assert!(taken.is_ok(), "{place}: {taken:?}");
    }
    assert!(examples.iter().any(|(_, object)| object["kind"] == "Secret"));
}

#[tokio::test]
async fn a_name_cannot_be_changed_whichever_way() {
    let names = [json!(null), json!("a"), json!("b")];
    let (client, _) = cluster().await;
    for old in &names {
        let namespace = create_namespace(&client, "rename").await.unwrap();
        let mut object = good("Stream");
        object["spec"]["name"] = old.clone();
        let stored = send(&client, "POST", &namespace, &object, true).await.unwrap();
        for new in &names {
            let mut object = stored.clone();
            object["spec"]["name"] = new.clone();
            let here = validate("Stream", &object, Some(&stored)).is_ok();
            let there = send(&client, "PUT", &namespace, &object, false).await.is_ok();
            assert_eq!((here, there), (old == new, old == new), "from {old} to {new}");
        }
    }
}

#[tokio::test]
async fn a_refusal_repeats_no_url() {
    let (client, namespace) = cluster().await;
    for url in ["hunter2", "rtsp://a:hunter2@h/${x}", "rtsp://a:hunter2@h/a b", "publish://hunter2"] {
        let mut object = good("Stream");
        object["spec"]["inputs"][0]["url"] = json!(url);
        let refusal = send(&client, "POST", &namespace, &object, false).await.unwrap_err();
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
}

#[tokio::test]
async fn the_largest_objects_that_the_bounds_allow_cost_no_rule_too_much() {
    let (client, namespace) = cluster().await;
    let labels = (0..32).map(|i| (format!("{}/{}{i}", "a".repeat(250), "k".repeat(60)), json!("v".repeat(63))));
    let expression =
        json!({"key": format!("{}/k", "a".repeat(253)), "operator": "In", "values": vec!["v".repeat(63); 32]});
    let selector =
        json!({"matchLabels": labels.collect::<serde_json::Map<_, _>>(), "matchExpressions": vec![expression; 32]});
    let mut stream = good("Stream");
    stream["spec"] = json!({
        "name": "n".repeat(253),
        "inputs": vec![json!({"url": format!("rtsp://{}", "${secret:a/k}".repeat(157))}); 32],
        "placement": {"streamerSelector": selector},
        "failover": {"after": "1h1m1s1ms"},
    });
    let mut streamer = good("Streamer");
    streamer["spec"] = json!({
        "hostname": "h".repeat(253), "addresses": vec!["a".repeat(261); 16], "roles": vec!["r".repeat(63); 16], "streamSelector": selector,
    });
    for object in [stream, streamer] {
        validate(object["kind"].as_str().unwrap(), &object, None).unwrap();
        send(&client, "POST", &namespace, &object, false).await.unwrap();
    }
}
