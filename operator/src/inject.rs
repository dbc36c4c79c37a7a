//! A pod gets Weir's sidecar beside its streamer: a function of the pod and of what is the same for all.
//!
//! Nothing of the pod that was there is changed, but for the streamer's `config_external`; what was done stands in an annotation.

mod lease_probe;
pub mod offline;
mod sidecar;
#[cfg(test)]
pub(crate) mod tests;
pub mod wishes;

use json_patch::Patch;
use k8s_openapi::api::core::v1::{Container, EnvVar, LifecycleHandler, Pod};
use serde_json::Value;
use weir_crds::Duration;

use self::sidecar::{PROJECTED, REPLICA};
use self::wishes::Wishes;

/// The label of pods that are injected: [`YES`].
pub const INJECT: &str = "weir.dev/inject";
/// The label's value.
pub const YES: &str = "true";
/// What was done: the streamer's container and the sidecar's image.
pub const INJECTED: &str = "weir.dev/injected";
/// The sidecar's container.
pub const SIDECAR: &str = "weir-sidecar";

/// Where a streamer reads its `config_external`: today's images, and older ones.
const CONFIG_EXTERNAL: [&str; 2] = ["STREAMER_CONFIG_EXTERNAL", "FLUSSONIC_CONFIG_EXTERNAL"];

/// What is the same for all pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The sidecar's image.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; the cluster's own default without.
    pub image_pull_policy: Option<String>,
    /// The feed's URLs.
    pub feed: Vec<String>,
    /// The audience of the sidecar's token.
    pub audience: String,
    /// The ConfigMap of the pod's namespace that has the feed's certificates in `ca.crt`.
    pub ca_config_map: String,
    /// The operator's `--period-kill`: a streamer without a lease is dead by then.
    pub kill: Duration,
}

/// Why a pod cannot be injected: a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

fn refuse<T>(sentence: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(sentence.into()))
}

/// Whether the pod asks to be injected.
pub fn is_wanted(pod: &Pod) -> bool {
    pod.metadata.labels.as_ref().is_some_and(|labels| labels.get(INJECT).is_some_and(|value| value == YES))
}

/// What is to be changed in `pod`; nothing where it has its sidecar already.
pub fn patch(pod: &Value, settings: &Settings) -> Result<Patch, Refusal> {
    let typed: Pod = match serde_json::from_value(pod.clone()) {
        Ok(pod) => pod,
        Err(error) => return refuse(format!("this is no Pod: {error}")),
    };
    let injected = inject(typed.clone(), settings)?;
    // Between what is typed on both sides: fields that are newer than we are stay as they are.
    let json = |pod: &Pod| serde_json::to_value(pod).unwrap_or_default();
    Ok(json_patch::diff(&json(&typed), &json(&injected)))
}

fn inject(mut pod: Pod, settings: &Settings) -> Result<Pod, Refusal> {
    let annotations = pod.metadata.annotations.get_or_insert_default();
    let was_injected = annotations.contains_key(INJECTED);
    let wishes = Wishes::of(annotations)?;
    let Some(spec) = pod.spec.as_mut() else {
        return refuse("the pod has no spec");
    };
    let has_sidecar = spec.init_containers.iter().flatten().chain(&spec.containers).any(|of| of.name == SIDECAR);
    if has_sidecar && was_injected {
        return Ok(pod);
    }
    if has_sidecar {
        return refuse(format!(
            "the pod has a container {SIDECAR} that Weir did not put there: rename it, or remove the label {INJECT}"
        ));
    }
    if spec.host_network == Some(true) && wishes.listen_key.is_none() {
        return refuse(format!(
            "the pod uses its host's network, where everybody could ask its sidecar for passwords: name the Secret that holds a key \
             for it, as {}: NAME/KEY",
            wishes::LISTEN_KEY
        ));
    }
    let volumes = spec.volumes.get_or_insert_default();
    if let Some(taken) = [REPLICA, PROJECTED].iter().find(|name| volumes.iter().any(|volume| volume.name == **name)) {
        return refuse(format!(
            "the pod has a volume {taken} of its own, which is the name of one of Weir's: rename it"
        ));
    }
    if let Some(own) = &wishes.replica_volume
        && !volumes.iter().any(|volume| volume.name == *own)
    {
        return refuse(format!("{}: the pod has no volume {own}", wishes::REPLICA_VOLUME));
    }
    volumes.extend(sidecar::volumes(&wishes, settings));
    let streamer = streamer(&mut spec.containers, &wishes)?;
    config_external(streamer, &wishes)?;
    if wishes.lease_probe {
        lease_probe::check_grace_period(spec.termination_grace_period_seconds, settings.kill)?;
        lease_probe::put(streamer, &wishes)?;
    }
    if wishes.drain_on_stop {
        drain_on_stop(streamer, &wishes)?;
    }
    let name = streamer.name.clone();
    // Last, so that what gives the pod its network is there before it.
    spec.init_containers.get_or_insert_default().push(sidecar::container(&wishes, settings));
    let said = format!("container {name}, sidecar {}", settings.image);
    pod.metadata.annotations.get_or_insert_default().insert(INJECTED.to_owned(), said);
    Ok(pod)
}

/// The streamer's container: the one that the pod names, or its first.
fn streamer<'a>(containers: &'a mut [Container], wishes: &Wishes) -> Result<&'a mut Container, Refusal> {
    let names: Vec<String> = containers.iter().map(|container| container.name.clone()).collect();
    let found = match &wishes.container {
        Some(name) => containers.iter_mut().find(|container| container.name == *name),
        None => containers.first_mut(),
    };
    let wanted = wishes.container.as_deref().unwrap_or_default();
    found.ok_or_else(|| {
        Refusal(format!("{}: the pod has no container {wanted}, it has {}", wishes::CONTAINER, names.join(", ")))
    })
}

/// Tells the streamer whom to ask.
fn config_external(streamer: &mut Container, wishes: &Wishes) -> Result<(), Refusal> {
    let env = streamer.env.get_or_insert_default();
    let own = env.iter().find(|var| CONFIG_EXTERNAL.contains(&var.name.as_str()));
    if let Some(own) = own
        && !wishes.overrides
    {
        return refuse(format!(
            "the container {} has its own {}: remove it (the vendor's operator sets it from configExternalUrl), or override it with \
             the annotation {}: {}",
            streamer.name,
            own.name,
            wishes::CONFIG,
            wishes::OVERRIDE
        ));
    }
    env.retain(|var| !CONFIG_EXTERNAL.contains(&var.name.as_str()));
    let mut variables = Vec::new();
    let key = wishes.listen_key.as_ref().map(|key| {
        variables.push(EnvVar { name: LISTEN_KEY.into(), value_from: Some(key.source()), ..EnvVar::default() });
        // Kubernetes fills it in; the pod shows the name alone.
        format!("$({LISTEN_KEY})@")
    });
    let url = format!("http://{}127.0.0.1:{}", key.unwrap_or_default(), wishes.listen_port);
    let told = |name: &&str| EnvVar { name: (*name).to_owned(), value: Some(url.clone()), ..EnvVar::default() };
    variables.extend(CONFIG_EXTERNAL.iter().map(told));
    // Before the container's own, which may refer to them.
    env.splice(0..0, variables);
    Ok(())
}

/// What the streamer shows its sidecar where others could ask it too.
const LISTEN_KEY: &str = "WEIR_LISTEN_KEY";

/// The kubelet ends the streamer when its streams have moved, or the pod's grace period is over.
fn drain_on_stop(streamer: &mut Container, wishes: &Wishes) -> Result<(), Refusal> {
    let lifecycle = streamer.lifecycle.get_or_insert_default();
    if lifecycle.pre_stop.is_some() {
        return refuse(format!(
            "{}: the container {} has a preStop hook of its own, and Kubernetes knows one: remove it, or have it wait for the answer of \
             http://127.0.0.1:{}/drained as well",
            wishes::DRAIN_ON_STOP,
            streamer.name,
            wishes.http_port
        ));
    }
    let wait = sidecar::get("/drained", wishes.http_port);
    lifecycle.pre_stop = Some(LifecycleHandler { http_get: Some(wait), ..LifecycleHandler::default() });
    Ok(())
}
