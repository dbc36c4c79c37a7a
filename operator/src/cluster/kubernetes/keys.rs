//! The keys that grants and terms are sealed with, in a Secret. Never logged.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use rand::Rng as _;
use weir_feed::grant::KeyRing;

use super::request::bounded;
use super::{Kubernetes, MANAGER};
use crate::cluster::Trouble;

/// `metadata.name` of the Secret.
pub(super) const NAME: &str = "weir-grants";
/// The name of the first key.
const FIRST: &str = "k1";

/// A new Secret with one key.
fn fresh(namespace: &str, key: [u8; 32]) -> Secret {
    Secret {
        metadata: ObjectMeta { namespace: Some(namespace.into()), name: Some(NAME.into()), ..ObjectMeta::default() },
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from([(FIRST.into(), ByteString(key.into()))])),
        ..Secret::default()
    }
}

/// The ring that a Secret holds. One that holds none is not filled: sealing anew would dispute every grant there is.
fn ring(namespace: &str, secret: Secret) -> Result<KeyRing, Trouble> {
    let keys = secret.data.unwrap_or_default();
    let keys = keys.into_iter().map(|(name, key)| (name, key.0));
    KeyRing::new(keys.collect()).ok_or_else(|| {
        Trouble(format!(
            "Secret {namespace}/{NAME} holds no usable keys: each value must have at least 32 bytes; restore it, or delete it to have a new key made"
        ))
    })
}

impl Kubernetes {
    /// The ring, made if there is none. Two who make it at once end with the same one.
    pub(super) async fn key_ring(&self) -> Result<KeyRing, Trouble> {
        let namespace = &self.config.own_namespace;
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let at = |what: &str, failure| Trouble(format!("Secret {namespace}/{NAME} cannot be {what}: {failure}"));
        match bounded(self.limit, api.get(NAME)).await {
            Ok(secret) => return ring(namespace, secret),
            Err(failure) if failure.is_absent() => {}
            Err(failure) => return Err(at("read", failure)),
        }
        let mut key = [0; 32];
        rand::rng().fill(&mut key);
        let parameters = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        let secret = fresh(namespace, key);
        match bounded(self.limit, api.create(&parameters, &secret)).await {
            Ok(secret) => ring(namespace, secret),
            Err(failure) if failure.is_already_there() => {
                let secret = bounded(self.limit, api.get(NAME)).await;
                ring(namespace, secret.map_err(|failure| at("read", failure))?)
            }
            Err(failure) => Err(at("made", failure)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_secret_holds_a_ring_with_one_key() {
        let ring = ring("weir-system", fresh("weir-system", [7; 32])).unwrap();
        assert_eq!(format!("{ring:?}"), "[\"k1\"]");
    }

    #[test]
    fn a_secret_without_a_usable_key_is_trouble_that_does_not_show_it() {
        let mut secret = fresh("weir-system", [7; 32]);
        secret.data = Some(BTreeMap::from([("k1".into(), ByteString(b"hunter2".into()))]));
        let trouble = ring("weir-system", secret).unwrap_err();
        assert!(trouble.0.contains("weir-system/weir-grants"), "{trouble}");
        assert!(!trouble.0.contains("hunter2"), "{trouble}");
        ring("weir-system", Secret::default()).unwrap_err();
    }
}
