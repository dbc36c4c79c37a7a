//! What a kubelet tells the API server of a streamer's pod. Here processes are not in pods, so a test tells it.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{Kind, Site, until};

/// Where every node of these tests is.
pub const ZONE: &str = "b";

impl Site {
    fn pods(&self) -> Result<Api<Pod>> {
        Ok(Api::namespaced(self.client()?, &self.namespace))
    }

    /// Makes a pod with a sidecar that a controller of that kind brings about, on a node of its own, and adds its streamer.
    pub async fn add_pod(&mut self, name: &str, controller: &str, annotations: Value) -> Result<()> {
        let node = format!("{}-{name}", self.namespace);
        let made: Node = serde_json::from_value(
            json!({"metadata": {"name": node, "labels": {"topology.kubernetes.io/zone": ZONE}}}),
        )?;
        Api::<Node>::all(self.client()?).create(&PostParams::default(), &made).await?;
        self.make_pod(name, controller, annotations, &node).await?;
        let entry = self.entry(name).await?;
        self.add_streamer(name, &entry, &[]).await
    }

    async fn make_pod(&self, name: &str, controller: &str, annotations: Value, node: &str) -> Result<()> {
        let owner = json!({"apiVersion": "apps/v1", "kind": controller, "name": "o", "uid": "o", "controller": true});
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": name, "labels": {"weir.dev/inject": "true"}, "annotations": annotations, "ownerReferences": [owner],
            },
            "spec": {
                "serviceAccountName": "streamer", "automountServiceAccountToken": false, "nodeName": node,
                "containers": [{"name": "streamer", "image": "i", "ports": [{"containerPort": 8080}]}],
            },
        }))?;
        self.pods()?.create(&PostParams::default(), &pod).await?;
        Ok(())
    }

    /// A pod of that name comes back, with its streamer and its sidecar, on the disk of before.
    pub async fn bring_back(&mut self, name: &str, controller: &str) -> Result<()> {
        let node = format!("{}-{name}", self.namespace);
        self.make_pod(name, controller, json!({}), &node).await?;
        let entry = self.entry(name).await?;
        let uid = entry.instance.context("no uid")?;
        let streamer = self.streamer_mut(name)?;
        // The token is in the same file.
        let args = &mut streamer.sidecar.args;
        let at = args.iter().position(|arg| arg == "--instance").context("a sidecar without an instance")?;
        args[at + 1] = uid.into();
        streamer.start()
    }

    /// As `kubectl delete pod`, whose kubelet has yet to do it.
    pub async fn delete_pod(&self, name: &str) -> Result<()> {
        let grace = DeleteParams { grace_period_seconds: Some(300), ..DeleteParams::default() };
        self.pods()?.delete(name, &grace).await?;
        Ok(())
    }

    /// The kubelet has ended all of the pod's containers, says so, and takes the pod away.
    pub async fn pod_has_ended(&self, name: &str) -> Result<()> {
        let container = json!({
            "name": "streamer", "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0}},
        });
        let condition = json!({"type": "ContainersReady", "status": "False", "reason": "PodCompleted"});
        let status = json!({"status": {
            "phase": "Succeeded", "conditions": [condition], "containerStatuses": [container],
        }});
        self.pods()?.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
        self.pods()?.delete(name, &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await?;
        Ok(())
    }

    /// Waits until there is no Streamer of that name any more.
    pub async fn await_forgotten(&self, name: &str) -> Result<()> {
        until(&format!("Streamer {name} is forgotten"), async || {
            let there = self.list(Kind::Streamer).await?.into_iter().find(|one| one["metadata"]["name"] == name);
            anyhow::ensure!(there.is_none(), "it is there: {}", there.unwrap_or_default());
            Ok(())
        })
        .await
    }
}
