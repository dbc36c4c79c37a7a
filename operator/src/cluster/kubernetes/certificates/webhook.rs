//! The MutatingWebhookConfiguration, which is told whom the API server trusts.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::super::MANAGER;
use super::super::request::bounded;
use super::at;

/// The one of a name.
pub(super) struct Webhook {
    api: Api<MutatingWebhookConfiguration>,
    name: String,
    limit: Duration,
}

impl Webhook {
    pub(super) fn new(client: &Client, name: String, limit: Duration) -> Self {
        Self { api: Api::all(client.clone()), name, limit }
    }

    fn place(&self) -> String {
        format!("MutatingWebhookConfiguration {}", self.name)
    }

    /// As it is.
    pub(super) async fn read(&self) -> Result<MutatingWebhookConfiguration, String> {
        let read = bounded(self.limit, self.api.get(&self.name)).await;
        read.map_err(|failure| at(&self.place(), "read", &failure))
    }

    /// Has every webhook in it trust the bundle.
    pub(super) async fn trust(&self, configuration: MutatingWebhookConfiguration, bundle: &str) -> Result<(), String> {
        let bundle = ByteString(bundle.as_bytes().to_vec());
        let webhooks = configuration.webhooks.unwrap_or_default();
        let others = webhooks
            .iter()
            .enumerate()
            .filter(|(_, webhook)| webhook.client_config.ca_bundle.as_ref() != Some(&bundle));
        let mut operations: Vec<_> = others
            .map(|(index, _)| json!({"op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": bundle}))
            .collect();
        if operations.is_empty() {
            return Ok(());
        }
        // As it was read: its webhooks might stand in another order, and a newer bundle there.
        let version = configuration.metadata.resource_version;
        operations.insert(0, json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
        let patch = serde_json::from_value(json!(operations)).map_err(|error| error.to_string())?;
        let parameters = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let patched = bounded(self.limit, self.api.patch(&self.name, &parameters, &Patch::<()>::Json(patch))).await;
        patched.map(drop).map_err(|failure| at(&self.place(), "patched", &failure))
    }
}
