//! Where a site's objects are: a real API server, or a directory of manifests whose operator tells of them.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::Value;

use super::kind::Kind;
use crate::control_plane::ControlPlane;

/// Who applies, in `managedFields`.
const FIELD_MANAGER: &str = "weir-e2e";

/// The control plane that a site stands on.
pub enum Cluster {
    /// The one that this process's sites share.
    Shared(&'static ControlPlane),
    /// One of its own, that may be taken down.
    Own(Box<ControlPlane>),
}

impl std::ops::Deref for Cluster {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        match self {
            Self::Shared(cluster) => cluster,
            Self::Own(cluster) => cluster,
        }
    }
}

/// Where objects are.
pub enum World {
    Kubernetes { cluster: Cluster, client: Client },
    Manifests { manifests: PathBuf, http: reqwest::Client, operator: SocketAddr },
}

impl World {
    fn api(client: &Client, namespace: &str, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(client.clone(), namespace, &kind.resource())
    }

    /// Makes new connections, in the run time of the caller: those there are belong to another one.
    pub(super) fn renew(&mut self) -> Result<()> {
        match self {
            Self::Kubernetes { cluster, client } => *client = cluster.client()?,
            Self::Manifests { http, .. } => *http = super::http_client()?,
        }
        Ok(())
    }

    /// As `kubectl apply --server-side`, or as a file of the object's own.
    pub async fn apply(&self, namespace: &str, object: &Value) -> Result<()> {
        let kind = Kind::of(object)?;
        let name = object["metadata"]["name"].as_str().context("an object without metadata.name")?;
        match self {
            Self::Kubernetes { client, .. } => {
                let parameters = PatchParams::apply(FIELD_MANAGER).force();
                let applied = Self::api(client, namespace, kind).patch(name, &parameters, &Patch::Apply(object)).await;
                applied.with_context(|| format!("{kind:?} {name} cannot be applied"))?;
            }
            Self::Manifests { manifests, .. } => {
                let mut object = object.clone();
                object["metadata"]["namespace"] = namespace.into();
                let path = manifests.join(file_name(kind, name));
                let text = serde_yaml::to_string(&object)?;
                std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
            }
        }
        Ok(())
    }

    /// As `kubectl patch --type merge`.
    pub async fn merge(&self, namespace: &str, kind: Kind, name: &str, patch: &Value) -> Result<()> {
        let Self::Kubernetes { client, .. } = self else {
            bail!("a directory of manifests is edited by applying the whole object");
        };
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patched = Self::api(client, namespace, kind).patch(name, &parameters, &Patch::Merge(patch)).await;
        patched.with_context(|| format!("{kind:?} {name} cannot be patched"))?;
        Ok(())
    }

    /// As `kubectl delete`, or `rm`.
    pub async fn delete(&self, namespace: &str, kind: Kind, name: &str) -> Result<()> {
        match self {
            Self::Kubernetes { client, .. } => {
                let deleted = Self::api(client, namespace, kind).delete(name, &DeleteParams::default()).await;
                deleted.with_context(|| format!("{kind:?} {name} cannot be deleted"))?;
            }
            Self::Manifests { manifests, .. } => std::fs::remove_file(manifests.join(file_name(kind, name)))?,
        }
        Ok(())
    }

    /// Every object of a kind in the namespace.
    pub async fn list(&self, namespace: &str, kind: Kind) -> Result<Vec<Value>> {
        match self {
            Self::Kubernetes { client, .. } => {
                let list = Self::api(client, namespace, kind).list(&ListParams::default()).await;
                let list = list.with_context(|| format!("{} cannot be listed", kind.plural()))?;
                list.items.iter().map(|object| Ok(serde_json::to_value(object)?)).collect()
            }
            Self::Manifests { http, operator, .. } => {
                let path = format!("apis/weir.dev/v1alpha1/namespaces/{namespace}/{}", kind.plural());
                let answer = http.get(format!("http://{operator}/{path}")).send().await?;
                let mut list: Value = answer.error_for_status()?.json().await?;
                let Value::Array(items) = list["items"].take() else {
                    bail!("the operator's list of {} has no items", kind.plural());
                };
                Ok(items)
            }
        }
    }

    /// One object; an error if it is not there.
    pub async fn get(&self, namespace: &str, kind: Kind, name: &str) -> Result<Value> {
        match self {
            Self::Kubernetes { client, .. } => {
                let object = Self::api(client, namespace, kind).get(name).await;
                let object = object.with_context(|| format!("{kind:?} {name} cannot be read"))?;
                Ok(serde_json::to_value(object)?)
            }
            Self::Manifests { .. } => {
                let list = self.list(namespace, kind).await?;
                let found = list.into_iter().find(|object| object["metadata"]["name"] == name);
                found.with_context(|| format!("there is no {kind:?} {name}"))
            }
        }
    }
}

fn file_name(kind: Kind, name: &str) -> String {
    format!("{}-{name}.yaml", kind.plural())
}
