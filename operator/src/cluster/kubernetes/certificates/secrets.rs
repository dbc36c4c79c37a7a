//! The Secrets: everything that was made, in one; the webhook's pair for its pods in another.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};

use super::super::MANAGER;
use super::super::request::{Failure, bounded};
use super::at;
use crate::certificates::stored::{Leaf, Stored};

/// With everything that was made.
const CERTIFICATES: &str = "weir-certificates";
/// Its key.
const JSON: &str = "certificates.json";
/// With the webhook's pair, as its pods mount it.
const WEBHOOK: &str = "weir-webhook-tls";

/// Secrets of the operator's own namespace.
pub(super) struct Secrets {
    api: Api<Secret>,
    namespace: String,
    limit: Duration,
}

impl Secrets {
    pub(super) fn new(client: &Client, namespace: &str, limit: Duration) -> Self {
        Self { api: Api::namespaced(client.clone(), namespace), namespace: namespace.to_owned(), limit }
    }

    /// Where everything is.
    pub(super) fn place(&self) -> String {
        self.named(CERTIFICATES)
    }

    fn named(&self, name: &str) -> String {
        format!("Secret {}/{name}", self.namespace)
    }

    /// What is stored, at which version. One that cannot be read is not overwritten.
    pub(super) async fn read(&self) -> Result<Option<(Stored, String)>, String> {
        let secret = match bounded(self.limit, self.api.get(CERTIFICATES)).await {
            Ok(secret) => secret,
            Err(failure) if failure.is_absent() => return Ok(None),
            Err(failure) => return Err(at(&self.place(), "read", &failure)),
        };
        let version = secret.metadata.resource_version.clone().unwrap_or_default();
        let json = secret.data.unwrap_or_default().remove(JSON).unwrap_or_default();
        // The error's own words could quote a key.
        let stored = serde_json::from_slice(&json.0).map_err(|error| {
            format!(
                "{} cannot be read ({:?} error in {JSON} at column {}): restore it, or delete it to have everything made anew",
                self.place(),
                error.classify(),
                error.column()
            )
        })?;
        Ok(Some((stored, version)))
    }

    /// Stores everything in the place of `version`, or for the first time; the answer is the new version.
    pub(super) async fn write(&self, stored: &Stored, version: Option<&str>) -> Result<String, String> {
        let json = serde_json::to_vec(stored).map_err(|error| error.to_string())?;
        let data = BTreeMap::from([(JSON.to_owned(), ByteString(json))]);
        let secret = self.secret(CERTIFICATES, "Opaque", data, version);
        let written = self.put(CERTIFICATES, &secret).await;
        let written = written.map_err(|failure| at(&self.place(), "written", &failure))?;
        Ok(written.metadata.resource_version.unwrap_or_default())
    }

    /// The webhook's pair, as its pods mount it.
    pub(super) async fn pair(&self) -> Result<Option<Secret>, String> {
        match bounded(self.limit, self.api.get(WEBHOOK)).await {
            Ok(secret) => Ok(Some(secret)),
            Err(failure) if failure.is_absent() => Ok(None),
            Err(failure) => Err(at(&self.named(WEBHOOK), "read", &failure)),
        }
    }

    /// Puts the webhook's pair in the place of `old`, if it is another one.
    pub(super) async fn write_pair(&self, leaf: &Leaf, old: Option<Secret>) -> Result<(), String> {
        let data = BTreeMap::from([
            ("tls.crt".to_owned(), ByteString(leaf.certificate.clone().into_bytes())),
            ("tls.key".to_owned(), ByteString(leaf.key.0.clone().into_bytes())),
        ]);
        if old.as_ref().is_some_and(|old| old.data.as_ref() == Some(&data)) {
            return Ok(());
        }
        let version = old.and_then(|old| old.metadata.resource_version);
        let secret = self.secret(WEBHOOK, "kubernetes.io/tls", data, version.as_deref());
        let written = self.put(WEBHOOK, &secret).await;
        written.map(drop).map_err(|failure| at(&self.named(WEBHOOK), "written", &failure))
    }

    fn secret(&self, name: &str, kind: &str, data: BTreeMap<String, ByteString>, version: Option<&str>) -> Secret {
        Secret {
            metadata: ObjectMeta {
                namespace: Some(self.namespace.clone()),
                name: Some(name.to_owned()),
                labels: Some(super::labels()),
                resource_version: version.map(str::to_owned),
                ..ObjectMeta::default()
            },
            type_: Some(kind.to_owned()),
            data: Some(data),
            ..Secret::default()
        }
    }

    async fn put(&self, name: &str, secret: &Secret) -> Result<Secret, Failure> {
        let parameters = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        match secret.metadata.resource_version {
            Some(_) => bounded(self.limit, self.api.replace(name, &parameters, secret)).await,
            None => bounded(self.limit, self.api.create(&parameters, secret)).await,
        }
    }
}
