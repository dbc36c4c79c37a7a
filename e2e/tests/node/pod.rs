//! The bare node: a streamer's pod in a namespace that enforces the Pod Security level `restricted`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use axum::extract::Query;
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::routing::get;
use axum::{Json, Router};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use weir_e2e::control_plane::create_namespace;
use weir_e2e::node::{ADDRESS, NAME, Node};
use weir_e2e::registry::Registry;
use weir_e2e::tools::output;

/// Containers start in about a second; a machine may be busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// A namespace with a Service `backend`, whom streamers ask for their streams.
struct Site {
    client: Client,
    namespace: String,
    registry: Registry,
    /// Each request, as it came.
    asked: mpsc::UnboundedReceiver<Asked>,
}

#[derive(Debug)]
struct Asked {
    streamer: String,
    /// The name under which it found the backend.
    by: String,
}

pub(crate) async fn a_node_is_ready_and_helm_reaches_it(node: &'static Node) -> Result<()> {
    let nodes = output(node.tools().kubectl().args(["get", "nodes", "--no-headers"])).await?;
    ensure!(nodes.starts_with(NAME) && nodes.contains(" Ready "), "{nodes}");
    let releases = output(node.tools().helm().args(["list", "--all-namespaces", "--output", "json"])).await?;
    ensure!(releases.trim() == "[]", "{releases}");
    Ok(())
}

pub(crate) async fn a_restricted_pod_finds_a_service_by_its_name(node: &'static Node) -> Result<()> {
    let mut site = Site::make(node, "restricted").await?;
    let mut lax = site.pod("lax", "http://backend");
    lax["spec"]["containers"][0]["securityContext"] = json!({});
    let refused = site.create::<Pod>(&lax).await.err().context("a pod that asks for nothing was let in")?;
    ensure!(format!("{refused:#}").contains("violates PodSecurity \"restricted:"), "{refused:#}");

    let names = [
        "backend",
        &format!("backend.{}.svc", site.namespace),
        &format!("backend.{}.svc.cluster.local", site.namespace),
    ]
    .map(str::to_owned);
    for (number, name) in names.iter().enumerate() {
        let pod = site.run(&format!("streamer-{number}"), &format!("http://{name}")).await?;
        let asked = site.until_asked(&pod).await?;
        ensure!(&asked.by == name, "{asked:?}");
        site.stop(&pod).await?;
    }
    Ok(())
}

pub(crate) async fn a_pod_outlives_the_kubelet(node: &'static Node) -> Result<()> {
    let mut site = Site::make(node, "outlives").await?;
    let pod = site.run("streamer", "http://backend").await?;
    site.until_asked(&pod).await?;
    node.stop_kubelet().await?;
    while site.asked.try_recv().is_ok() {}
    site.until_asked(&pod).await?;
    node.start_kubelet().await?;
    let pods = Api::<Pod>::namespaced(site.client.clone(), &site.namespace);
    let status = pods.get(&pod).await?.status.context("no status")?;
    let restarts =
        status.container_statuses.unwrap_or_default().iter().map(|container| container.restart_count).sum::<i32>();
    ensure!(restarts == 0, "it was started again {restarts} times");
    site.stop(&pod).await
}

impl Site {
    async fn make(node: &Node, purpose: &str) -> Result<Self> {
        let client = node.client()?;
        let namespace = create_namespace(&client, purpose).await?;
        let restricted = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "restricted" } } });
        let namespaces = Api::<Namespace>::all(client.clone());
        namespaces.patch(&namespace, &PatchParams::default(), &Patch::Merge(restricted)).await?;
        let registry = Registry::start((ADDRESS, 0).into())?;
        let (backend, asked) = backend().await?;
        let site = Self { client, namespace, registry, asked };
        site.create::<Service>(&json!({
            "metadata": { "name": "backend" },
            "spec": { "ports": [{ "name": "http", "port": 80 }] },
        }))
        .await?;
        site.create::<EndpointSlice>(&json!({
            "metadata": { "name": "backend", "labels": { "kubernetes.io/service-name": "backend" } },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": backend.port() }],
            "endpoints": [{ "addresses": [ADDRESS], "conditions": { "ready": true } }],
        }))
        .await?;
        Ok(site)
    }

    async fn create<K>(&self, object: &Value) -> Result<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client.clone(), &self.namespace);
        Ok(api.create(&PostParams::default(), &serde_json::from_value(object.clone())?).await?)
    }

    fn pod(&self, name: &str, backend: &str) -> Value {
        json!({
            "metadata": { "name": name },
            "spec": {
                "automountServiceAccountToken": false,
                "containers": [{
                    "name": "streamer",
                    "image": format!("weir.dev/weir-streamer-sim:{}", env!("CARGO_PKG_VERSION")),
                    "imagePullPolicy": "Never",
                    "args": [
                        format!("--hostname={name}"), format!("--registry={}", self.registry.addr()),
                        format!("--config-external={backend}"), "--poll-min-ms=100", "--poll-max-ms=200",
                    ],
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "capabilities": { "drop": ["ALL"] },
                        "readOnlyRootFilesystem": true,
                        "runAsNonRoot": true,
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                }],
            },
        })
    }

    /// Makes a pod, and waits until it runs.
    async fn run(&self, name: &str, backend: &str) -> Result<String> {
        self.create::<Pod>(&self.pod(name, backend)).await?;
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        let running = await_condition(pods.clone(), name, conditions::is_pod_running());
        if let Ok(running) = tokio::time::timeout(PATIENCE, running).await {
            running?;
            return Ok(name.to_owned());
        }
        let status = pods.get(name).await?.status;
        bail!("the pod {name} does not run after {PATIENCE:?}: {}", serde_json::to_string(&status)?)
    }

    /// Deletes a pod, and sees that its program ends by itself.
    async fn stop(&self, name: &str) -> Result<()> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        let uid = pods.get(name).await?.metadata.uid.context("no uid")?;
        let grace = 20;
        pods.delete(name, &DeleteParams { grace_period_seconds: Some(grace), ..DeleteParams::default() }).await?;
        let deleted = await_condition(pods, name, conditions::is_deleted(&uid));
        let within = Duration::from_secs(grace.into());
        tokio::time::timeout(within, deleted).await.with_context(|| format!("{name} does not end on SIGTERM"))??;
        Ok(())
    }

    async fn until_asked(&mut self, streamer: &str) -> Result<Asked> {
        let asked = async {
            while let Some(asked) = self.asked.recv().await {
                if asked.streamer == streamer {
                    return Ok(asked);
                }
            }
            bail!("the backend is gone")
        };
        tokio::time::timeout(PATIENCE, asked)
            .await
            .with_context(|| format!("{streamer} has not asked for its streams"))?
    }
}

/// Answers that there are no streams, and tells who asked.
async fn backend() -> Result<(SocketAddr, mpsc::UnboundedReceiver<Asked>)> {
    let (tell, asked) = mpsc::unbounded_channel();
    let answer = move |Query(query): Query<HashMap<String, String>>, headers: HeaderMap| async move {
        let by = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
        // Nobody listens when the test is over.
        let _ = tell.send(Asked { streamer: query.get("host").cloned().unwrap_or_default(), by });
        Json(json!({ "streams": [] }))
    };
    let listener = TcpListener::bind((ADDRESS, 0)).await?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/streamer/api/v3/streams", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((address, asked))
}
