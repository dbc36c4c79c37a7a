//! What is refused and what is taken, without an API server. `refused.yaml` is put to a real one in e2e.

use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;
use weir_crds::{Placement, Problem, Stream, Streamer, check_stream, crds, decode, validate};

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

fn text(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn every_kind_of_error_is_refused_with_a_sentence() {
    let cases: Vec<Case> = serde_yaml::from_str(include_str!("refused.yaml")).unwrap();
    for case in cases {
        let mut object = good(&case.kind);
        put(&mut object["spec"], &case.spec);
        put(&mut object, &case.object);
        let problems = validate(&case.kind, &object, None).expect_err(&case.title);
        let said = problems
            .iter()
            .any(|problem| problem.path.starts_with(&case.path) && problem.message.starts_with(&case.says));
        assert!(said, "{}: {:#?}", case.title, text(&problems));
        assert!(!format!("{problems:?}").contains("rule evaluation error"), "{}: {problems:?}", case.title);
    }
}

#[test]
fn all_errors_of_one_manifest_are_said_at_once() {
    let object = json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "Stream", "metadata": {"name": "bunny"},
        "spec": {
            "name": "a b", "inputs": [{"url": "nope"}, {"url": "rtsp://${x}"}], "typo": 1,
            "config": {"disabled": true, "dvr": {"root": "/x"}}, "failover": {"after": "soon", "back": "Return"},
        },
    });
    let problems = text(&validate("Stream", &object, None).unwrap_err());
    let paths: Vec<_> = problems.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
    let expected = [
        "spec.typo",
        "spec.name",
        "spec.inputs[0].url",
        "spec.inputs[1].url",
        "spec.config.disabled",
        "spec.config.dvr.root",
        "spec.failover.after",
        "spec.failover.back",
    ];
    for path in expected {
        assert!(paths.contains(&path), "{path} is not among {problems:#?}");
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
}

#[test]
fn a_small_stream_gets_its_defaults() {
    let mut object = good("Stream");
    object["spec"]["failover"] = json!({"after": "10s"});
    object["spec"]["name"] = Value::Null; // as good as absent, as on the API server
    let taken = validate("Stream", &object, None).unwrap();
    assert_eq!(
        taken["spec"],
        json!({
            "inputs": [{"url": "udp://239.0.0.1:1234"}], "static": true, "disabled": false, "placement": {},
            "failover": {"after": "10s", "back": "Stay", "partition": "KeepCapturing"},
        })
    );
    let stream: Stream = decode(&taken).unwrap();
    assert_eq!(
        (stream.media_name(), stream.spec.failover.after.as_ms(), stream.spec.r#static),
        ("bunny", 10_000, true)
    );
    // Rust and the schema agree on the defaults.
    let undefaulted: Stream = decode(&object).unwrap();
    assert_eq!(undefaulted, stream);
}

#[test]
fn good_objects_are_taken() {
    let urls = [
        "publish://",
        "rtsp://admin:${secret:cam-1/password}@10.0.0.1/live",
        "${secret:cam-1/url}",
        "rtsp-udp://10.0.0.1",
        "hlss2://h/a.m3u8",
        "mpts-udp://239.0.0.1:1234?program=1",
        "m4fs://origin/mylive/bunny",
        "udp3://239.0.0.1:1234",
        "v4l2://",
        "fake://fake",
        "tshttps://h/a.ts",
        "https://h/a.m3u8?price=$5&x=$${literal}",
        "srt://:9999?mode=listener",
        "playlist:///etc/list.txt",
        "mosaic2://a,b",
    ];
    let mut stream = good("Stream");
    stream["spec"] = json!({
        "name": "mylive/bunny.HD_1-a",
        "inputs": urls.iter().map(|url| json!({"url": url})).collect::<Vec<_>>(),
        "static": false,
        "config": {"title": "Bunny", "dvr": {"reference": "main", "expiration": 3600}, "srt_publish": {"port": 9000, "passphrase": "${secret:srt/key}"}, "anything": [1, {"x": null}]},
        "placement": {"streamerSelector": {"matchLabels": {"example.com/zone": "a", "empty": ""}, "matchExpressions": [{"key": "gpu", "operator": "In", "values": ["yes"]}]}},
        "failover": {"after": "1m30s"},
    });
    let taken = validate("Stream", &stream, None).map_err(|problems| text(&problems)).unwrap();
    assert_eq!(taken["spec"]["config"], stream["spec"]["config"], "config is passed through untouched");
    assert_eq!(check_stream(&decode::<Stream>(&taken).unwrap().spec), []);

    let mut streamer = good("Streamer");
    streamer["spec"] = json!({
        "hostname": "media-1.example.com", "addresses": ["10.0.0.7", "media-1:8080", "[fd00::7]:8080", "fd00::7"], "roles": ["ingest"],
        "capacity": {"streams": 200}, "streamSelector": {"matchLabels": {"tier": "gold"}}, "unschedulable": true, "drain": true,
    });
    let taken = validate("Streamer", &streamer, None).map_err(|problems| text(&problems)).unwrap();
    assert_eq!(decode::<Streamer>(&taken).unwrap().spec.capacity.streams, Some(200));

    let record = json!({"name": "mylive/bunny", "stream": "bunny", "uid": "u", "streamer": "media-1", "epoch": 1_800_000_000_000_u64, "phase": "Releasing", "to": "media-2"});
    let mut placement = good("Placement");
    placement["spec"] =
        json!({"term": 1_800_000_000_000_u64, "records": [record], "removal": {"until": "2026-11-21T05:00:00Z"}});
    placement["status"] = json!({"streams": 1, "releasing": 1});
    let taken = validate("Placement", &placement, None).map_err(|problems| text(&problems)).unwrap();
    let placement: Placement = decode(&taken).unwrap();
    assert_eq!((placement.spec.records.len(), placement.status.unwrap().releasing), (1, 1));
}

#[test]
fn a_name_cannot_be_changed_whichever_way() {
    let named = |name: Value| {
        let mut object = good("Stream");
        object["spec"]["name"] = name;
        object
    };
    let sentence = "spec.name: a stream's name cannot be changed, set or unset later: make a new Stream with the new name and delete this one";
    for (old, new, taken) in [
        (json!("a"), json!("a"), true),
        (json!(null), json!(null), true),
        (json!("a"), json!("b"), false),
        (json!("a"), json!(null), false),
        (json!(null), json!("b"), false),
    ] {
        let said =
            validate("Stream", &named(new.clone()), Some(&named(old.clone()))).err().map(|problems| text(&problems));
        assert_eq!(said, (!taken).then(|| vec![sentence.to_owned()]), "from {old} to {new}");
    }
}

#[test]
fn an_unreadable_object_is_an_error_of_its_own_and_repeats_no_value() {
    let mut object = good("Stream");
    object["spec"]["inputs"] = json!("rtsp://admin:hunter2@10.0.0.1/live");
    object["spec"]["failover"] = json!({"back": "hunter2"});
    let problems = text(&decode::<Stream>(&object).unwrap_err());
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(!problems.concat().contains("hunter2"), "{problems:#?}");
    let said = text(&validate("Stream", &object, None).unwrap_err()).concat();
    assert!(!said.contains("hunter2"), "{said}");
    let mut object = good("Stream");
    object["spec"]["inputs"][0]["url"] = json!("hunter2 ${hunter2}");
    object["spec"]["name"] = json!("hunter2 ");
    let said = text(&validate("Stream", &object, None).unwrap_err()).concat();
    assert!(!said.contains("hunter2"), "{said}");
    assert!(!format!("{:?}", decode::<Stream>(&object).unwrap().spec.inputs).contains("hunter2"));
}

#[test]
fn an_object_of_another_kind_is_refused() {
    assert_eq!(
        text(&validate("Pod", &json!({}), None).unwrap_err()),
        ["kind: must be one of Placement, Stream, Streamer"]
    );
    let mut object = good("Stream");
    object["apiVersion"] = json!("streamers.media.flussonic.com/v1");
    assert_eq!(
        text(&validate("Stream", &object, None).unwrap_err()),
        ["apiVersion: \"weir.dev/v1alpha1\" was expected"]
    );
    for nonsense in [json!(null), json!([]), json!("x"), json!({"spec": {"inputs": [[]]}, "metadata": 5})] {
        validate("Stream", &nonsense, None).unwrap_err();
    }
}

#[test]
fn every_string_list_and_map_has_a_bound() {
    fn walk(path: &str, schema: &Value, unbounded: &mut Vec<String>) {
        let has = |key: &str| schema.get(key).is_some();
        let bounded = match schema["type"].as_str() {
            Some("string") => has("maxLength") || has("enum"),
            Some("array") => has("maxItems"),
            Some("object") if has("additionalProperties") => has("maxProperties"),
            // A stream's config keeps what it does not know, and what is declared there is refused.
            Some("object") => has("properties") || path.contains(".spec.config"),
            Some("integer" | "boolean") => true,
            _ => false,
        };
        if !bounded {
            unbounded.push(path.to_owned());
        }
        for (name, child) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), child, unbounded);
        }
        for key in ["items", "additionalProperties"] {
            if let Some(child) = schema.get(key) {
                walk(&format!("{path}[]"), child, unbounded);
            }
        }
    }
    let mut unbounded = vec![];
    for crd in crds() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema).unwrap();
        for half in ["spec", "status"] {
            walk(&format!("{}.{half}", crd.spec.names.kind), &schema["properties"][half], &mut unbounded);
        }
    }
    assert_eq!(unbounded, [""; 0]);
}

#[test]
fn the_committed_yaml_is_what_is_generated() {
    for crd in crds() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml").join(weir_crds::crds::file_name(&crd));
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        let generated = weir_crds::crds::crd_yaml(&crd);
        assert!(
            committed == generated,
            "{} is not what the types say: run `cargo run -p weir-crds --example generate`",
            file.display()
        );
    }
}
