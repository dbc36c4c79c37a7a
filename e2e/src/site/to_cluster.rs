//! From a directory of manifests to a cluster, as an administrator does it: with what `weir-operator` prints.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde::Deserialize as _;
use tokio::process::Command;

use super::certificates::Certificates;
use super::operator::Operator;
use super::streamer::Entry;
use super::world::{Cluster, World};
use super::{Site, feed_url, rbac, start};
use crate::control_plane::{ControlPlane, Options};
use crate::programs::Programs;

/// A cluster with Weir's definitions and one operator that is not started, for a site that is still elsewhere.
pub struct Destination {
    pub operator: Operator,
    cluster: Box<ControlPlane>,
    client: Client,
    authority: PathBuf,
}

impl Site {
    /// Makes a cluster for a site over manifests. Its operator is to look after the site's namespace, and lives there.
    pub async fn prepare_cluster(&self) -> Result<Destination> {
        let cluster = Box::new(ControlPlane::start(Options::default()).await?);
        let client = cluster.client()?;
        start::apply_definitions(&client).await?;
        let metadata = ObjectMeta { name: Some(self.namespace.clone()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        let token = rbac::operator_token(&client, &self.namespace).await?;
        let kubeconfig = self.folder().join("operator-cluster.kubeconfig");
        std::fs::write(&kubeconfig, cluster.kubeconfig_for(&token, None)?)?;
        let tls = Certificates::make(&self.folder().join("tls"))?;
        let program = Programs::get().await?.operator();
        let more = |process: &mut super::Process, feed| {
            process.flag("own-namespace", &self.namespace);
            process.flag("kubeconfig", &kubeconfig);
            process.flag("tls-cert", &tls.certificate);
            process.flag("tls-key", &tls.key);
            process.flag("feed-advertise", feed_url("https", feed));
        };
        let operator =
            Operator::new("operator-cluster", &program, &self.namespace, self.folder(), self.periods(), more)?;
        Ok(Destination { operator, cluster, client, authority: tls.authority })
    }

    /// What `weir-operator export` prints of the site's directories, with the keys for that operator's namespace.
    pub async fn export(&self) -> Result<String> {
        let path = |name: &str| self.folder().join(name).display().to_string();
        let (manifests, state) = (path("manifests"), path("state"));
        weir_operator(&["export", "--manifests", &manifests, "--state", &state, "--own-namespace", &self.namespace])
            .await
    }

    /// Goes on in that cluster: its operator is the site's only one from now on.
    pub fn move_to(&mut self, destination: Destination) {
        let Destination { operator, cluster, client, .. } = destination;
        self.world = World::Kubernetes { cluster: Cluster::Own(cluster), client };
        self.operators = vec![operator];
    }
}

impl Destination {
    /// As `kubectl apply --server-side`, of every object in its order.
    pub async fn apply(&self, manifests: &str) -> Result<()> {
        for document in serde_yaml::Deserializer::from_str(manifests) {
            let object = DynamicObject::deserialize(document)?;
            let types = object.types.as_ref().context("an object without a kind")?;
            let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
            let name = object.metadata.name.clone().context("an object without a name")?;
            let api = match &object.metadata.namespace {
                Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
                None => Api::<DynamicObject>::all_with(self.client.clone(), &resource),
            };
            let applied = api.patch(&name, &PatchParams::apply("kubectl"), &Patch::Apply(&object)).await;
            applied.with_context(|| format!("{} {name} cannot be applied", types.kind))?;
        }
        Ok(())
    }

    /// How a sidecar outside the cluster reaches its feed, with a token that `weir-operator token create` has made.
    pub async fn entry(&self, site: &Site, streamer: &str) -> Result<Entry> {
        let kubeconfig = self.cluster.kubeconfig_path().display().to_string();
        let place = ["--namespace", &site.namespace, "--kubeconfig", &kubeconfig];
        let token = weir_operator(&[&["token", "create", streamer][..], &place].concat()).await?;
        let file = site.folder().join(format!("{streamer}.token"));
        std::fs::write(&file, token)?;
        Ok(Entry {
            feeds: vec![feed_url("https", self.operator.feed)],
            namespace: site.namespace.clone(),
            streamer: streamer.to_owned(),
            authority: Some(self.authority.clone()),
            token: Some(file),
            instance: None,
        })
    }
}

/// What `weir-operator` prints.
async fn weir_operator(words: &[&str]) -> Result<String> {
    let output = Command::new(Programs::get().await?.operator()).args(words).output().await?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "weir-operator {words:?}: {}: {told}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
