//! The admission webhook, a process of its own, as a real API server asks it.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::ServiceAccount;
use weir_e2e::child::Child;
use weir_e2e::site::{free_address, until};

use super::*;

/// A webhook's process and what the API server knows of it.
struct Webhook {
    arguments: Vec<String>,
    http: String,
    folder: tempfile::TempDir,
    configurations: Api<MutatingWebhookConfiguration>,
    name: String,
}

impl Webhook {
    /// Configured for the pods of one namespace, and not started yet.
    async fn new(place: &Place) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let (listen, http) = (free_address().unwrap(), free_address().unwrap());
        let (cert, key) = (cert.display(), key.display());
        let arguments = format!(
            "webhook --listen {listen} --http-listen {http} --tls-cert {cert} --tls-key {key} \
             --sidecar-image weir.dev/weir-sidecar:1.2.3 --feed https://weir-feed.weir-system.svc:9443"
        );
        let arguments = arguments.split(' ').map(str::to_owned).collect();
        let name = format!("weir-{}", place.namespace);
        let configuration = json!({
            "metadata": {"name": name},
            "webhooks": [{
                "name": "inject.weir.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded", "timeoutSeconds": 5,
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}},
                "objectSelector": {"matchLabels": {"weir.dev/inject": "true"}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
                "clientConfig": {
                    "url": format!("https://{listen}/mutate"),
                    "caBundle": k8s_openapi::ByteString(made.cert.pem().into_bytes()),
                },
            }],
        });
        let configurations = Api::all(place.client.clone());
        let configuration = serde_json::from_value(configuration).unwrap();
        configurations.create(&PostParams::default(), &configuration).await.unwrap();
        Self { arguments, http: http.to_string(), folder, configurations, name }
    }

    async fn start(&self) -> Child {
        let program = env!("CARGO_BIN_EXE_weir-operator");
        let none: [(&str, &str); 0] = [];
        let child = Child::spawn("webhook", program, &self.arguments, none, self.folder.path().join("log")).unwrap();
        until("the webhook listens", async || {
            anyhow::ensure!(self.metrics().await.is_some(), "{}", child.log_tail(5));
            Ok(())
        })
        .await
        .unwrap();
        child
    }

    async fn metrics(&self) -> Option<String> {
        reqwest::get(format!("http://{}/metrics", self.http)).await.ok()?.text().await.ok()
    }
}

fn pod(name: &str, labelled: bool, env: &serde_json::Value) -> Pod {
    let labels = if labelled { json!({"weir.dev/inject": "true"}) } else { json!({}) };
    serde_json::from_value(json!({
        "metadata": {"generateName": name, "labels": labels},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "streamer", "image": "flussonic:25", "env": env}],
        },
    }))
    .unwrap()
}

#[tokio::test]
async fn labelled_pods_get_their_sidecar_or_wait_for_the_webhook_and_others_never_do() {
    let place = Place::new("webhook").await;
    let accounts = place.api::<ServiceAccount>();
    let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let webhook = Webhook::new(&place).await;
    let pods = place.api::<Pod>();
    let create = async |pod: Pod| pods.create(&PostParams::default(), &pod).await;
    let none = json!([]);

    // It is down. The API server begins to ask a moment after it was told to.
    let refused = until("a labelled pod is refused", async || match create(pod("early-", true, &none)).await {
        Ok(pod) => anyhow::bail!("{:?} was made without its sidecar", pod.metadata.name),
        Err(error) => Ok(error.to_string()),
    });
    let refused = refused.await.unwrap();
    assert!(refused.contains("failed calling webhook \"inject.weir.dev\""), "{refused}");
    let other = create(pod("other-", false, &none)).await.unwrap();
    assert!(other.spec.unwrap().init_containers.is_none());

    let child = webhook.start().await;
    let made = create(pod("streamer-", true, &none)).await.unwrap();
    let spec = made.spec.unwrap();
    let sidecar = &spec.init_containers.unwrap()[0];
    assert_eq!((sidecar.name.as_str(), sidecar.restart_policy.as_deref()), ("weir-sidecar", Some("Always")));
    let env = spec.containers[0].env.as_ref().unwrap();
    assert!(env.iter().any(|var| var.name == "STREAMER_CONFIG_EXTERNAL"), "{env:?}");
    let done = "container streamer, sidecar weir.dev/weir-sidecar:1.2.3";
    assert_eq!(made.metadata.annotations.unwrap()["weir.dev/injected"], done);

    let own = json!([{"name": "STREAMER_CONFIG_EXTERNAL", "value": "http://hunter2@central"}]);
    let sentence = create(pod("own-", true, &own)).await.unwrap_err().to_string();
    assert!(sentence.contains("the container streamer has its own STREAMER_CONFIG_EXTERNAL: remove it"), "{sentence}");
    let metrics = webhook.metrics().await.unwrap();
    for line in ["{outcome=\"injected\"} 1\n", "{outcome=\"refused\"} 1\n"] {
        assert!(metrics.contains(&format!("weir_webhook_reviews_total{line}")), "{metrics}");
    }
    assert!(metrics.contains("weir_certificate_expiry_timestamp_seconds{certificate=\"webhook\"}"), "{metrics}");
    assert!(child.stop().await.unwrap().success(), "{}", child.log());
    let log = child.log();
    assert!(log.contains("streamer-") && log.contains(&place.namespace) && !log.contains("hunter2"), "{log}");

    create(pod("late-", true, &none)).await.unwrap_err();
    create(pod("other-", false, &none)).await.unwrap();
    webhook.configurations.delete(&webhook.name, &DeleteParams::default()).await.unwrap();
}
