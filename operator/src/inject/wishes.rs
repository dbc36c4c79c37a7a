//! What a pod's annotations wish for its sidecar.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVarSource, KeyToPath, ResourceRequirements, SecretKeySelector, SecretProjection};

use super::{INJECTED, Refusal, refuse};

/// The streamer's container; the pod's first without.
pub const CONTAINER: &str = "weir.dev/container";
/// The sidecar's resources, as JSON: `{"requests": {"cpu": "20m"}}`.
pub const RESOURCES: &str = "weir.dev/resources";
/// Where the streamer asks its sidecar, on loopback.
pub const LISTEN_PORT: &str = "weir.dev/listen-port";
/// Where the sidecar's health, metrics and `/lease` are.
pub const HTTP_PORT: &str = "weir.dev/http-port";
/// A volume of the pod that keeps the replica; an emptyDir without.
pub const REPLICA_VOLUME: &str = "weir.dev/replica-volume";
/// The streamer's own API, like `http://127.0.0.1:8080`.
pub const STREAMER_API: &str = "weir.dev/streamer-api";
/// The same with user and password, from a Secret: `NAME/KEY`.
pub const STREAMER_API_SECRET: &str = "weir.dev/streamer-api-secret";
/// A Secret with the key that the streamer shows its sidecar: `NAME/KEY`. For pods on their host's network.
pub const LISTEN_KEY: &str = "weir.dev/listen-key-secret";
/// [`OVERRIDE`]: a `config_external` that the container has is replaced.
pub const CONFIG: &str = "weir.dev/config-external";
/// The value of [`CONFIG`].
pub const OVERRIDE: &str = "override";
/// `true`: the kubelet kills the streamer when it goes on without a lease, which streams with `StopCapturing` need.
pub const LEASE_PROBE: &str = "weir.dev/lease-probe";
/// `true`: the streams move before the pod goes, within its grace period.
pub const DRAIN_ON_STOP: &str = "weir.dev/drain-on-stop";
/// How many streams its streamer can take: read by the operator when it registers.
pub const CAPACITY: &str = "weir.dev/capacity-streams";
/// What its streamer is for, like `ingest,transcode`: read by the operator when it registers.
pub const ROLES: &str = "weir.dev/roles";

/// Of others, which do not concern the sidecar.
const OTHERS: [&str; 3] = [INJECTED, CAPACITY, ROLES];
const PREFIX: &str = "weir.dev/";

/// The annotations, read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wishes {
    pub(super) container: Option<String>,
    pub(super) resources: Option<ResourceRequirements>,
    pub(super) listen_port: u16,
    pub(super) http_port: u16,
    pub(super) replica_volume: Option<String>,
    pub(super) streamer_api: Option<String>,
    pub(super) streamer_api_secret: Option<SecretKey>,
    pub(super) listen_key: Option<SecretKey>,
    pub(super) overrides: bool,
    pub(super) lease_probe: bool,
    pub(super) drain_on_stop: bool,
}

/// `NAME/KEY`: a value of a Secret of the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecretKey {
    name: String,
    key: String,
}

impl SecretKey {
    pub(super) fn source(&self) -> EnvVarSource {
        let selector = SecretKeySelector { name: self.name.clone(), key: self.key.clone(), optional: None };
        EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() }
    }

    /// As a file of that name.
    pub(super) fn projection(&self, file: &str) -> SecretProjection {
        let item = KeyToPath { key: self.key.clone(), path: file.to_owned(), mode: None };
        SecretProjection { name: self.name.clone(), items: Some(vec![item]), optional: None }
    }
}

impl Wishes {
    /// Reads them; one that is misspelt is refused, not overlooked.
    pub(super) fn of(annotations: &BTreeMap<String, String>) -> Result<Self, Refusal> {
        let known = [
            CONTAINER,
            RESOURCES,
            LISTEN_PORT,
            HTTP_PORT,
            REPLICA_VOLUME,
            STREAMER_API,
            STREAMER_API_SECRET,
            LISTEN_KEY,
            CONFIG,
            LEASE_PROBE,
            DRAIN_ON_STOP,
        ];
        let ours = annotations.keys().filter(|name| name.starts_with(PREFIX));
        let unknown = ours.map(String::as_str).find(|name| !known.contains(name) && !OTHERS.contains(name));
        if let Some(unknown) = unknown {
            return refuse(format!("Weir knows no annotation {unknown}: it knows {}", known.join(", ")));
        }
        let text = |name: &str| annotations.get(name).cloned();
        let wishes = Self {
            container: text(CONTAINER),
            resources: text(RESOURCES).map(|text| resources(&text)).transpose()?,
            listen_port: port(annotations, LISTEN_PORT, 9980)?,
            http_port: port(annotations, HTTP_PORT, 9981)?,
            replica_volume: text(REPLICA_VOLUME),
            streamer_api: text(STREAMER_API).map(without_password).transpose()?,
            streamer_api_secret: secret_key(annotations, STREAMER_API_SECRET)?,
            listen_key: secret_key(annotations, LISTEN_KEY)?,
            overrides: is(annotations, CONFIG, OVERRIDE)?,
            lease_probe: is(annotations, LEASE_PROBE, "true")?,
            drain_on_stop: is(annotations, DRAIN_ON_STOP, "true")?,
        };
        if wishes.streamer_api.is_some() && wishes.streamer_api_secret.is_some() {
            return refuse(format!("{STREAMER_API} and {STREAMER_API_SECRET} say the same: leave one out"));
        }
        if wishes.listen_port == wishes.http_port {
            return refuse(format!("{LISTEN_PORT} and {HTTP_PORT} are both {}: give them two ports", wishes.http_port));
        }
        Ok(wishes)
    }
}

fn resources(text: &str) -> Result<ResourceRequirements, Refusal> {
    let read = serde_json::from_str(text);
    read.map_err(|error| Refusal(format!(r#"{RESOURCES} is JSON like {{"requests": {{"cpu": "20m"}}}}: {error}"#)))
}

fn port(annotations: &BTreeMap<String, String>, name: &str, default: u16) -> Result<u16, Refusal> {
    let Some(text) = annotations.get(name) else {
        return Ok(default);
    };
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => refuse(format!("{name}: {text:?} is no port, which is a number from 1 to 65535")),
    }
}

/// An annotation is read by everybody who may read pods.
fn without_password(url: String) -> Result<String, Refusal> {
    let authority = url.split("://").nth(1).map(|rest| rest.split('/').next().unwrap_or_default());
    match authority {
        None => refuse(format!("{STREAMER_API} is a URL like http://127.0.0.1:8080")),
        Some(authority) if authority.contains('@') => refuse(format!(
            "{STREAMER_API} has a password, and everybody who may read pods may read it: put the URL into a Secret, and name that as \
             {STREAMER_API_SECRET}: NAME/KEY"
        )),
        Some(_) => Ok(url),
    }
}

fn secret_key(annotations: &BTreeMap<String, String>, name: &str) -> Result<Option<SecretKey>, Refusal> {
    let Some(text) = annotations.get(name) else {
        return Ok(None);
    };
    match text.split_once('/') {
        Some((secret, key)) if !secret.is_empty() && !key.is_empty() => {
            Ok(Some(SecretKey { name: secret.to_owned(), key: key.to_owned() }))
        }
        _ => refuse(format!("{name} names a Secret of the pod's namespace and a key in it, as NAME/KEY")),
    }
}

fn is(annotations: &BTreeMap<String, String>, name: &str, value: &str) -> Result<bool, Refusal> {
    match annotations.get(name).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some(text) if text == value => Ok(true),
        Some(text) => refuse(format!("{name} is {value}, or is not there; it is {text:?}")),
    }
}
