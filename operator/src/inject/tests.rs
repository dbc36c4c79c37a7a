use serde_json::{Value, json};

use super::*;

pub(crate) fn settings() -> Settings {
    Settings {
        image: "weir.dev/weir-sidecar:1.2.3".into(),
        image_pull_policy: None,
        feed: vec!["https://weir-feed.weir-system.svc:9443".into()],
        audience: "weir.dev".into(),
        ca_config_map: "weir-ca".into(),
        kill: weir_crds::Duration::from_ms(20_000),
    }
}

/// A pod as the vendor's operator makes them, with these annotations.
fn pod(annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "streamer-0", "labels": {"weir.dev/inject": "true"}, "annotations": annotations},
        "spec": {
            "containers": [
                {"name": "streamer", "image": "flussonic:25", "env": [{"name": "LICENSE_KEY", "value": "x"}]},
                {"name": "exporter", "image": "exporter:1"},
            ],
            "initContainers": [{"name": "istio-proxy", "image": "istio:1", "restartPolicy": "Always"}],
            "volumes": [{"name": "archive", "emptyDir": {}}],
            "terminationGracePeriodSeconds": 7,
        },
    })
}

fn injected(mut pod: Value) -> Value {
    let patch = patch(&pod, &settings()).unwrap();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

fn refused(pod: &Value) -> String {
    patch(pod, &settings()).unwrap_err().to_string()
}

fn env(container: &Value) -> Vec<(&str, Option<&str>)> {
    let vars = container["env"].as_array().unwrap();
    vars.iter().map(|var| (var["name"].as_str().unwrap(), var["value"].as_str())).collect()
}

#[test]
fn the_sidecar_is_there_before_the_streamer_which_asks_it() {
    let pod = injected(pod(&json!({})));
    let streamer = &pod["spec"]["containers"][0];
    let url = Some("http://127.0.0.1:9980");
    assert_eq!(
        env(streamer),
        [("STREAMER_CONFIG_EXTERNAL", url), ("FLUSSONIC_CONFIG_EXTERNAL", url), ("LICENSE_KEY", Some("x"))]
    );
    let sidecar = &pod["spec"]["initContainers"][1];
    assert_eq!((&sidecar["name"], &sidecar["restartPolicy"]), (&json!("weir-sidecar"), &json!("Always")));
    assert_eq!(sidecar["image"], "weir.dev/weir-sidecar:1.2.3");
    assert_eq!(sidecar["startupProbe"]["httpGet"]["path"], "/healthz");
    assert!(sidecar["readinessProbe"].is_null(), "the pod's readiness is its streamer's");
    let args: Vec<&str> = sidecar["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for arg in ["--feed=https://weir-feed.weir-system.svc:9443", "--listen=127.0.0.1:9980", "--data=/var/lib/weir"] {
        assert!(args.contains(&arg), "{args:?}");
    }
    assert_eq!(pod["metadata"]["annotations"][INJECTED], "container streamer, sidecar weir.dev/weir-sidecar:1.2.3");
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let token = &volumes[1]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!((&token["audience"], &token["path"]), (&json!("weir.dev"), &json!("token")));
    assert_eq!(volumes[2], json!({"name": "weir-replica", "emptyDir": {}}));
}

#[test]
fn nothing_else_of_the_pod_is_changed() {
    let mut before = pod(&json!({"other.example/key": "kept"}));
    // Newer than we are.
    before["spec"]["containers"][1]["fieldOfTomorrow"] = json!({"a": [1]});
    let mut after = injected(before.clone());
    after["metadata"]["annotations"].as_object_mut().unwrap().remove(INJECTED);
    let spec = after["spec"].as_object_mut().unwrap();
    spec["initContainers"].as_array_mut().unwrap().pop();
    spec["volumes"].as_array_mut().unwrap().truncate(1);
    spec["containers"][0]["env"].as_array_mut().unwrap().drain(..2);
    assert_eq!(after, before);
}

#[test]
fn a_pod_that_has_its_sidecar_is_left_alone_whatever_others_did_to_it_since() {
    let mut pod = injected(pod(&json!({})));
    pod["spec"]["initContainers"][1]["env"].as_array_mut().unwrap().push(json!({"name": "HTTP_PROXY", "value": "x"}));
    let patch = patch(&pod, &settings()).unwrap();
    assert!(patch.0.is_empty(), "{patch}");
}

#[test]
fn annotations_set_what_one_may_set() {
    let mut with_volume = pod(&json!({
        "weir.dev/container": "exporter",
        "weir.dev/resources": r#"{"limits": {"memory": "64Mi"}}"#,
        "weir.dev/listen-port": "8001",
        "weir.dev/http-port": "8002",
        "weir.dev/replica-volume": "archive",
        "weir.dev/streamer-api": "http://127.0.0.1:8080",
        "weir.dev/lease-probe": "true",
        "weir.dev/drain-on-stop": "true",
        "weir.dev/roles": "ingest",
        "weir.dev/capacity-streams": "200",
    }));
    with_volume["spec"]["containers"][1]["env"] = json!([]);
    let pod = injected(with_volume);
    let (streamer, sidecar) = (&pod["spec"]["containers"][1], &pod["spec"]["initContainers"][1]);
    assert_eq!(env(streamer)[0], ("STREAMER_CONFIG_EXTERNAL", Some("http://127.0.0.1:8001")));
    assert_eq!(sidecar["resources"], json!({"limits": {"memory": "64Mi"}}));
    assert_eq!(sidecar["volumeMounts"][0], json!({"name": "archive", "mountPath": "/var/lib/weir", "readOnly": false}));
    assert!(sidecar["args"].as_array().unwrap().contains(&json!("--streamer-api=http://127.0.0.1:8080")));
    assert_eq!(sidecar["startupProbe"]["httpGet"]["port"], 8002);
    assert_eq!(streamer["livenessProbe"]["httpGet"], json!({"path": "/lease", "port": 8002}));
    assert_eq!(streamer["lifecycle"], json!({"preStop": {"httpGet": {"path": "/drained", "port": 8002}}}));
    assert_eq!(pod["spec"]["volumes"].as_array().unwrap().len(), 2, "no emptyDir beside its own");
}

/// As README has them: four times in a row, every three seconds, and it is dead three seconds later.
#[test]
fn the_kubelet_kills_within_what_the_operator_waits_for() {
    let pod = injected(pod(&json!({"weir.dev/lease-probe": "true"})));
    let probe = &pod["spec"]["containers"][0]["livenessProbe"];
    let of = |field: &str| probe[field].as_u64().unwrap();
    let dead =
        of("periodSeconds") * of("failureThreshold") + of("timeoutSeconds") + of("terminationGracePeriodSeconds");
    assert!(dead * 1_000 < weir_feed::periods::Periods::default().kill, "{probe}");
}

/// Nobody probes a pod that is being deleted: if that happens when its probe is about to fail, it has its grace period over and above.
#[test]
fn a_pod_that_could_outlive_its_lease_while_it_is_deleted_is_refused() {
    let with = |grace: &Value, kill: u64| {
        let mut pod = pod(&json!({"weir.dev/lease-probe": "true"}));
        pod["spec"]["terminationGracePeriodSeconds"] = grace.clone();
        let settings = Settings { kill: Duration::from_ms(kill), ..settings() };
        patch(&pod, &settings).map(drop).map_err(|refusal| refusal.to_string())
    };
    for (grace, kill) in [(json!(7), 20_000), (json!(0), 20_000), (json!(null), 43_000), (json!(60), 73_999)] {
        assert_eq!(with(&grace, kill), Ok(()), "{grace} {kill}");
    }
    let sentence = with(&json!(8), 20_000).unwrap_err();
    assert!(sentence.contains("to 7 or less, or make the operator's --period-kill at least 21s"), "{sentence}");
    let sentence = with(&json!(null), 20_000).unwrap_err();
    assert!(sentence.contains("of 30 s, Kubernetes' default,") && sentence.contains("at least 43s"), "{sentence}");
    assert!(with(&json!(20), 20_999).is_err() && with(&json!(60), 72_999).is_err());
    let sentence = with(&json!(1), 15_999).unwrap_err();
    assert!(sentence.contains("up to 16 s") && sentence.contains("is 15s999ms: make that longer"), "{sentence}");
    // Who asks for no probe may have any.
    let mut without = pod(&json!({}));
    without["spec"]["terminationGracePeriodSeconds"] = json!(3_600);
    injected(without);
}

#[test]
fn on_the_hosts_network_the_streamer_shows_a_key_that_no_pod_shows() {
    let mut shared = pod(&json!({}));
    shared["spec"]["hostNetwork"] = json!(true);
    assert!(refused(&shared).contains("weir.dev/listen-key-secret"), "{}", refused(&shared));
    shared["metadata"]["annotations"] = json!({"weir.dev/listen-key-secret": "weir-key/key"});
    let pod = injected(shared);
    let streamer = &pod["spec"]["containers"][0];
    let from = json!({"secretKeyRef": {"name": "weir-key", "key": "key"}});
    assert_eq!(streamer["env"][0]["valueFrom"], from);
    assert_eq!(streamer["env"][1]["value"], "http://$(WEIR_LISTEN_KEY)@127.0.0.1:9980");
    let args = pod["spec"]["initContainers"][1]["args"].as_array().unwrap();
    assert!(args.contains(&json!("--listen-key-file=/var/run/weir/listen-key")), "{args:?}");
    let file = json!({"secret": {"name": "weir-key", "items": [{"key": "key", "path": "listen-key"}]}});
    assert_eq!(pod["spec"]["volumes"][1]["projected"]["sources"][2], file);
}

#[test]
fn a_streamer_that_has_a_backend_is_refused_or_overridden() {
    let mut own = pod(&json!({}));
    own["spec"]["containers"][0]["env"] = json!([{"name": "STREAMER_CONFIG_EXTERNAL", "value": "http://central"}]);
    let sentence = refused(&own);
    assert!(
        sentence.contains("configExternalUrl") && sentence.contains("weir.dev/config-external: override"),
        "{sentence}"
    );
    own["metadata"]["annotations"] = json!({"weir.dev/config-external": "override"});
    let pod = injected(own);
    assert_eq!(env(&pod["spec"]["containers"][0])[0].1, Some("http://127.0.0.1:9980"));
    assert_eq!(env(&pod["spec"]["containers"][0]).len(), 2);
}

#[test]
fn what_cannot_be_done_is_refused_with_a_sentence() {
    for (annotation, value, sentence) in [
        ("weir.dev/contaner", "streamer", "knows no annotation weir.dev/contaner"),
        ("weir.dev/container", "nginx", "the pod has no container nginx, it has streamer, exporter"),
        ("weir.dev/listen-port", "http", "is no port"),
        ("weir.dev/listen-port", "0", "is no port"),
        ("weir.dev/listen-port", "9981", "give them two ports"),
        ("weir.dev/resources", "cpu=1", "is JSON like"),
        ("weir.dev/replica-volume", "data", "the pod has no volume data"),
        ("weir.dev/streamer-api", "127.0.0.1", "is a URL like"),
        ("weir.dev/streamer-api", "http://admin:Sesame@127.0.0.1", "put the URL into a Secret"),
        ("weir.dev/streamer-api-secret", "name", "as NAME/KEY"),
        ("weir.dev/config-external", "yes", "is override, or is not there"),
    ] {
        let said = refused(&pod(&json!({annotation: value})));
        assert!(said.contains(sentence) && !said.contains("Sesame"), "{annotation}={value}: {said}");
    }
    let mut own = pod(&json!({}));
    own["spec"]["initContainers"][0]["name"] = json!("weir-sidecar");
    assert!(refused(&own).contains("did not put there"), "{}", refused(&own));
    let mut own = pod(&json!({}));
    own["spec"]["volumes"][0]["name"] = json!("weir-replica");
    assert!(refused(&own).contains("rename it"), "{}", refused(&own));
    let mut own = pod(&json!({"weir.dev/drain-on-stop": "true"}));
    own["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 5}}});
    assert!(refused(&own).contains("a preStop hook of its own"), "{}", refused(&own));
    let mut own = pod(&json!({"weir.dev/lease-probe": "true"}));
    own["spec"]["containers"][0]["livenessProbe"] = json!({"tcpSocket": {"port": 80}});
    assert!(refused(&own).contains("a liveness probe of its own"), "{}", refused(&own));
}

#[test]
fn only_pods_with_the_label_ask_for_it() {
    let typed = |pod: Value| serde_json::from_value::<Pod>(pod).unwrap();
    assert!(is_wanted(&typed(pod(&json!({})))));
    let mut other = pod(&json!({}));
    other["metadata"]["labels"]["weir.dev/inject"] = json!("false");
    assert!(!is_wanted(&typed(other)));
}
