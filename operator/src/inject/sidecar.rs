//! The sidecar's container, and what it has to have beside it.

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapProjection, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource,
    HTTPGetAction, KeyToPath, ObjectFieldSelector, Probe, ProjectedVolumeSource, ResourceRequirements, SeccompProfile,
    SecurityContext, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::wishes::Wishes;
use super::{SIDECAR, Settings};

/// The volume of the replica, unless the pod names one of its own.
pub(super) const REPLICA: &str = "weir-replica";
/// The volume with the token and the feed's certificates.
pub(super) const PROJECTED: &str = "weir-feed";

const DATA: &str = "/var/lib/weir";
const FEED: &str = "/var/run/weir";
const LISTEN_KEY: &str = "listen-key";
/// Of a token, in seconds; the kubelet renews it when four fifths are over.
const EXPIRY: i64 = 3_600;
/// `nobody` of images without a shell.
const USER: i64 = 65_532;
/// Measured: 14 to 16 MiB for 200 to 2,000 streams (README).
const MEMORY: &str = "32Mi";
const CPU: &str = "10m";

pub(super) fn get(path: &str, port: u16) -> HTTPGetAction {
    HTTPGetAction { path: Some(path.to_owned()), port: IntOrString::Int(port.into()), ..HTTPGetAction::default() }
}

pub(super) fn volumes(wishes: &Wishes, settings: &Settings) -> Vec<Volume> {
    let token = ServiceAccountTokenProjection {
        audience: Some(settings.audience.clone()),
        expiration_seconds: Some(EXPIRY),
        path: "token".into(),
    };
    let authority = ConfigMapProjection {
        name: settings.ca_config_map.clone(),
        items: Some(vec![KeyToPath { key: "ca.crt".into(), path: "ca.crt".into(), mode: None }]),
        // A streamer starts from its replica before anybody has made it.
        optional: Some(true),
    };
    let mut sources = vec![
        VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
        VolumeProjection { config_map: Some(authority), ..VolumeProjection::default() },
    ];
    let key = wishes.listen_key.as_ref().map(|key| key.projection(LISTEN_KEY));
    sources.extend(key.map(|key| VolumeProjection { secret: Some(key), ..VolumeProjection::default() }));
    let projected = ProjectedVolumeSource { sources: Some(sources), default_mode: None };
    let mut volumes = vec![Volume { name: PROJECTED.into(), projected: Some(projected), ..Volume::default() }];
    if wishes.replica_volume.is_none() {
        let empty_dir = Some(EmptyDirVolumeSource::default());
        volumes.push(Volume { name: REPLICA.into(), empty_dir, ..Volume::default() });
    }
    volumes
}

/// A native sidecar: it is there before the streamer is started, and until it has ended.
pub(super) fn container(wishes: &Wishes, settings: &Settings) -> Container {
    let mut args = vec![
        format!("--feed={}", settings.feed.join(",")),
        format!("--data={DATA}"),
        format!("--listen=127.0.0.1:{}", wishes.listen_port),
        format!("--http-listen=0.0.0.0:{}", wishes.http_port),
        format!("--ca-file={FEED}/ca.crt"),
        format!("--token-file={FEED}/token"),
        "--log-format=json".to_owned(),
    ];
    args.extend(wishes.listen_key.iter().map(|_| format!("--listen-key-file={FEED}/{LISTEN_KEY}")));
    args.extend(wishes.streamer_api.iter().map(|url| format!("--streamer-api={url}")));
    let from_pod =
        [("POD_NAMESPACE", "metadata.namespace"), ("POD_NAME", "metadata.name"), ("POD_UID", "metadata.uid")];
    let mut env: Vec<EnvVar> = from_pod.iter().map(|(name, path)| variable(name, field(path))).collect();
    env.extend(wishes.streamer_api_secret.iter().map(|secret| variable("STREAMER_API", secret.source())));
    let replica = wishes.replica_volume.as_deref().unwrap_or(REPLICA);
    let mount = |name: &str, path: &str, read_only| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    };
    let probe = |failures| Probe {
        http_get: Some(get("/healthz", wishes.http_port)),
        period_seconds: Some(1),
        timeout_seconds: Some(1),
        failure_threshold: Some(failures),
        ..Probe::default()
    };
    Container {
        name: SIDECAR.into(),
        image: Some(settings.image.clone()),
        image_pull_policy: settings.image_pull_policy.clone(),
        restart_policy: Some("Always".into()),
        args: Some(args),
        env: Some(env),
        ports: Some(vec![ContainerPort {
            name: Some("weir-http".into()),
            container_port: wishes.http_port.into(),
            ..ContainerPort::default()
        }]),
        resources: Some(wishes.resources.clone().unwrap_or_else(resources)),
        security_context: Some(restricted()),
        volume_mounts: Some(vec![mount(replica, DATA, false), mount(PROJECTED, FEED, true)]),
        // The streamer is started when this has passed: its first request is answered.
        startup_probe: Some(probe(60)),
        liveness_probe: Some(Probe { period_seconds: Some(10), ..probe(3) }),
        ..Container::default()
    }
}

fn variable(name: &str, source: EnvVarSource) -> EnvVar {
    EnvVar { name: name.to_owned(), value_from: Some(source), ..EnvVar::default() }
}

fn field(path: &str) -> EnvVarSource {
    let field = ObjectFieldSelector { field_path: path.to_owned(), api_version: None };
    EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }
}

fn resources() -> ResourceRequirements {
    let of = |name: &str, value: &str| (name.to_owned(), Quantity(value.to_owned()));
    ResourceRequirements {
        requests: Some([of("cpu", CPU), of("memory", MEMORY)].into()),
        ..ResourceRequirements::default()
    }
}

/// What Pod Security's `restricted` asks for.
fn restricted() -> SecurityContext {
    let all = Capabilities { drop: Some(vec!["ALL".into()]), add: None };
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(all),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
        ..SecurityContext::default()
    }
}
