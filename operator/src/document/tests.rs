use super::*;
use serde_json::json;

const CANARY: &str = "c4n@ry/p w%d:?#";

fn stream(spec: &Value) -> Stream {
    serde_json::from_value(json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "Stream",
        "metadata": {"namespace": "media", "name": "bunny", "uid": "u-1"},
        "spec": spec,
    }))
    .unwrap()
}

fn secrets(values: &[(&str, &str, &[u8])]) -> BTreeMap<ObjectRef, Credentials> {
    let mut secrets: BTreeMap<ObjectRef, Credentials> = BTreeMap::new();
    for (name, key, value) in values {
        let object = ObjectRef { namespace: "media".into(), name: (*name).into() };
        let secret = secrets.entry(object).or_insert(Credentials(BTreeMap::new()));
        secret.0.insert((*key).into(), value.to_vec());
    }
    secrets
}

fn document(spec: &Value, values: &[(&str, &str, &[u8])]) -> Document {
    let rendered = want(&stream(spec), &secrets(values));
    assert_eq!(rendered.problem, None);
    rendered.want.document.unwrap()
}

fn reason(spec: &Value, values: &[(&str, &str, &[u8])]) -> Problem {
    let rendered = want(&stream(spec), &secrets(values));
    assert_eq!(rendered.want.document, None);
    rendered.problem.unwrap()
}

#[test]
fn a_stream_becomes_one_object_with_its_name_first() {
    let spec = json!({
        "name": "mylive/bunny", "inputs": [{"url": "fake://a"}, {"url": "fake://b"}], "static": false,
        "failover": {"after": "45s"}, "config": {"title": "Bunny", "dvr": {"reference": "main", "expiration": 3600}},
    });
    let Rendered { want, .. } = want(&stream(&spec), &BTreeMap::new());
    assert_eq!((want.stream.as_str(), want.uid.as_str()), ("bunny", "u-1"));
    assert_eq!((want.after, want.is_static), (45_000, false));
    assert_eq!(
        want.document.unwrap().text,
        r#"{"name":"mylive/bunny","inputs":[{"url":"fake://a"},{"url":"fake://b"}],"static":false,"dvr":{"expiration":3600,"reference":"main"},"title":"Bunny"}"#
    );
}

#[test]
fn the_text_does_not_depend_on_the_order_in_which_keys_were_written() {
    let one = r#"{"inputs":[{"url":"fake://a"}],"config":{"a":{"y":1,"x":[{"d":1,"c":2}]},"b":2}}"#;
    let other = r#"{"config":{"b":2,"a":{"x":[{"c":2,"d":1}],"y":1}},"inputs":[{"url":"fake://a"}]}"#;
    let [one, other] = [one, other].map(|spec| document(&serde_json::from_str(spec).unwrap(), &[]));
    assert_eq!(one.text, other.text);
    assert_eq!(one.hash, other.hash);
}

#[test]
fn the_hash_changes_with_static_too() {
    let spec = |is_static| json!({"inputs": [{"url": "fake://a"}], "static": is_static});
    assert_ne!(document(&spec(true), &[]).hash, document(&spec(false), &[]).hash);
}

#[test]
fn a_password_cannot_break_a_url_and_stands_as_it_is_in_config() {
    let spec = json!({
        "inputs": [{"url": "rtsp://admin:${secret:cam/password}@10.0.0.1/live?k=${secret:cam/password}&s=$${x}"}],
        "config": {"srt_publish": {"passphrase": "${secret:cam/password}"}, "list": ["$${secret:cam/password}"]},
    });
    let document = document(&spec, &[("cam", "password", CANARY.as_bytes())]);
    let value: Value = serde_json::from_str(&document.text).unwrap();
    let encoded = "c4n%40ry%2Fp%20w%25d%3A%3F%23";
    assert_eq!(value["inputs"][0]["url"], format!("rtsp://admin:{encoded}@10.0.0.1/live?k={encoded}&s=${{x}}"));
    assert_eq!(value["srt_publish"]["passphrase"], CANARY);
    assert_eq!(value["list"][0], "${secret:cam/password}");
}

#[test]
fn a_url_that_comes_from_a_secret_as_a_whole_is_left_as_it_is() {
    let spec = json!({"inputs": [{"url": "${secret:cam/url}/live/${secret:cam/id}"}]});
    let values: &[(&str, &str, &[u8])] = &[("cam", "url", b"rtsp://u:p%40@10.0.0.1:554"), ("cam", "id", b"a/b")];
    let value: Value = serde_json::from_str(&document(&spec, values).text).unwrap();
    assert_eq!(value["inputs"][0]["url"], "rtsp://u:p%40@10.0.0.1:554/live/a%2Fb");
    let values: &[(&str, &str, &[u8])] = &[("cam", "url", b"10.0.0.1"), ("cam", "id", b"a")];
    assert_eq!(reason(&spec, values).reason, "InvalidSecretValue");
}

#[test]
fn what_is_missing_is_named() {
    let spec = json!({"inputs": [{"url": "rtsp://u:${secret:cam-1/password}@h/"}]});
    let missing = reason(&spec, &[]);
    assert_eq!(missing.reason, "SecretNotFound");
    assert_eq!(
        missing.message,
        "there is no Secret cam-1 of type weir.dev/credentials, which needs the key password, in the Stream's namespace"
    );
    let missing = reason(&spec, &[("cam-1", "user", b"x")]);
    assert_eq!(missing.reason, "SecretKeyNotFound");
    assert!(missing.message.contains("Secret cam-1 has no key password"));
    let spec = json!({"inputs": [{"url": "fake://a"}], "config": {"title": "${secret:cam/x}"}});
    assert_eq!(reason(&spec, &[]).reason, "SecretNotFound");
}

#[test]
fn another_namespaces_secret_is_not_there() {
    let mut secrets = secrets(&[]);
    let elsewhere = ObjectRef { namespace: "other".into(), name: "cam".into() };
    secrets.insert(elsewhere, Credentials(BTreeMap::from([("p".into(), b"x".to_vec())])));
    let spec = json!({"inputs": [{"url": "rtsp://u:${secret:cam/p}@h/"}]});
    assert_eq!(want(&stream(&spec), &secrets).problem.unwrap().reason, "SecretNotFound");
}

#[test]
fn what_is_no_reference_is_located() {
    let spec = json!({"inputs": [{"url": "fake://a"}, {"url": "rtsp://u:${oops}@h/"}]});
    let problem = reason(&spec, &[]);
    assert_eq!(problem.reason, "InvalidReference");
    assert!(problem.message.starts_with("inputs[1].url: '${' at character 10"), "{problem:?}");
    let spec = json!({"inputs": [{"url": "fake://a"}], "config": {"title": "${oops}"}});
    assert!(reason(&spec, &[]).message.starts_with("config.title: "));
}

#[test]
fn what_the_streamer_would_not_take_is_refused_where_no_rule_saw_it() {
    let spec = json!({"inputs": [{"url": "fake://a"}], "config": {"dvr": {"replication_port": 1, "reference": "d"}}});
    let problem = reason(&spec, &[]);
    assert_eq!(problem.reason, "InvalidConfig");
    assert_eq!(
        problem.message,
        "spec.config.dvr.replication_port: config.dvr.replication_* is not taken from a Stream's config: remove it"
    );
}

#[test]
fn values_that_no_url_can_have_are_refused() {
    let spec = json!({"inputs": [{"url": "rtsp://u:${secret:cam/p}@h/"}]});
    for value in [&b"hunter2\n"[..], b"\xff\xfe"] {
        let problem = reason(&spec, &[("cam", "p", value)]);
        assert_eq!(problem.reason, "InvalidSecretValue");
        assert!(problem.message.contains("key p of Secret cam"), "{problem:?}");
        assert!(!problem.message.contains("hunter2"));
    }
}

#[test]
fn a_large_secret_named_many_times_is_refused_before_it_fills_memory() {
    let large = vec![b'a'; 600 << 10];
    let spec = json!({"inputs": [{"url": "fake://a"}], "config": {"list": vec!["${secret:cam/p}"; 3000]}});
    assert_eq!(reason(&spec, &[("cam", "p", &large)]).reason, "DocumentTooLarge");
    // Written as JSON it grows: a control character becomes six bytes.
    let control = vec![1; 300 << 10];
    let spec = json!({"inputs": [{"url": "fake://a"}], "config": {"title": "${secret:cam/p}"}});
    assert_eq!(reason(&spec, &[("cam", "p", &control)]).reason, "DocumentTooLarge");
}

#[test]
fn a_canary_shows_nowhere() {
    let values = secrets(&[("cam", "p", CANARY.as_bytes()), ("cam", "bad", format!("{CANARY}\n").as_bytes())]);
    let specs = [
        json!({"inputs": [{"url": "rtsp://u:${secret:cam/p}@h/"}], "config": {"title": "${secret:cam/p}"}}),
        json!({"inputs": [{"url": "rtsp://u:${secret:cam/bad}@h/"}]}),
        json!({"inputs": [{"url": "${secret:cam/p}"}]}),
        json!({"inputs": [{"url": "rtsp://${secret:cam/p}:${secret:cam/none}@h/"}]}),
        json!({"inputs": [{"url": "fake://a"}], "config": {"a": "${secret:cam/p}${"}}),
    ];
    for spec in specs {
        let rendered = want(&stream(&spec), &values);
        let shown = format!("{rendered:?} {values:?}");
        for part in ["c4n", "ry/p", "ry%2Fp"] {
            assert!(!shown.contains(part), "{shown}");
        }
    }
}
