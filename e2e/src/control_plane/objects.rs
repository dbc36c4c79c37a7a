//! What tests put into a cluster before they begin.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec, TokenRequestStatus};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions::is_crd_established};
use kube::{Client, ResourceExt as _};
use serde::{Deserialize as _, de::DeserializeOwned};
use serde_json::json;

/// How long the API server may take to serve a new CRD.
const ESTABLISHED_WITHIN: Duration = Duration::from_mins(1);

/// Of every pod, which nobody reaches (RFC 5737).
const ADDRESS: &str = "192.0.2.1";

/// Who applies, in `managedFields`.
const FIELD_MANAGER: &str = "weir-e2e";

/// The label of namespaces that were made here.
pub const MADE_HERE: &str = "app.kubernetes.io/managed-by=weir-e2e";

/// Makes a namespace whose unique name starts with `prefix` and a hyphen, and returns its name.
pub async fn create_namespace(client: &Client, prefix: &str) -> Result<String> {
    let labels = MADE_HERE.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let namespace = Namespace {
        metadata: ObjectMeta {
            generate_name: Some(format!("{prefix}-")),
            labels: Some(labels.into_iter().collect()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let api = Api::<Namespace>::all(client.clone());
    let created = api.create(&PostParams::default(), &namespace).await;
    Ok(created.context("cannot make a namespace")?.name_any())
}

/// Applies every CustomResourceDefinition of a YAML text (server-side, over whoever set them
/// before) and returns once the API server serves them.
pub async fn apply_crds(client: &Client, yaml: &str) -> Result<()> {
    let mut crds = Vec::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let document = serde_yaml::Value::deserialize(document)?;
        if document.is_null() {
            continue;
        }
        let kind = document.get("kind").and_then(|kind| kind.as_str());
        ensure!(
            kind == Some("CustomResourceDefinition"),
            "this YAML holds something other than CRDs: {}",
            kind.unwrap_or("an object without a kind")
        );
        crds.push(serde_yaml::from_value::<CustomResourceDefinition>(document)?);
    }
    ensure!(!crds.is_empty(), "there is no CRD in this YAML");
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    for crd in &crds {
        let name = crd.name_any();
        api.patch(&name, &params, &Patch::Apply(crd)).await.with_context(|| format!("the CRD {name} was refused"))?;
    }
    for crd in &crds {
        let name = crd.name_any();
        let established = await_condition(api.clone(), &name, is_crd_established());
        tokio::time::timeout(ESTABLISHED_WITHIN, established)
            .await
            .with_context(|| format!("the CRD {name} is not served after {ESTABLISHED_WITHIN:?}"))?
            .with_context(|| format!("cannot watch the CRD {name}"))?;
    }
    Ok(())
}

/// A token that says which pod it belongs to.
#[derive(Clone)]
pub struct PodToken {
    /// The signed token: a secret.
    pub token: String,
    /// `metadata.uid` of the pod.
    pub pod_uid: String,
}

impl fmt::Debug for PodToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodToken").field("pod_uid", &self.pod_uid).finish_non_exhaustive()
    }
}

/// A token as the kubelet would mount it into the pod `pod`: for one `audience`, valid for
/// `expiry_s` seconds (at least 600, says the API server) or until the pod is deleted.
///
/// The ServiceAccount and the Pod are made if they are not there; without a kubelet the pod
/// stays `Pending`, with an address that nobody reaches, which is enough for a token. Make the Pod first if its labels matter.
pub async fn pod_bound_token(
    client: &Client,
    namespace: &str,
    pod: &str,
    service_account: &str,
    audience: &str,
    expiry_s: i64,
) -> Result<PodToken> {
    create_service_account(client, namespace, service_account).await?;
    let made: Pod = serde_json::from_value(json!({
        "metadata": { "name": pod },
        "spec": {
            "serviceAccountName": service_account,
            // The only token is the one that is asked for below.
            "automountServiceAccountToken": false,
            "containers": [{ "name": "pause", "image": "registry.k8s.io/pause:3.10" }],
        },
    }))?;
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    let made = create_if_missing(&api, &made).await?;
    if made.status.as_ref().is_none_or(|status| status.pod_ip.is_none()) {
        // As its kubelet tells it about when its containers start.
        let status = json!({ "status": { "podIP": ADDRESS, "podIPs": [{ "ip": ADDRESS }] } });
        api.patch_status(pod, &PatchParams::default(), &Patch::Merge(status)).await?;
    }
    let uid = made.uid().context("the API server gave the pod no uid")?;
    let bound_to = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.to_owned()),
        uid: Some(uid.clone()),
    };
    let spec = TokenRequestSpec {
        audiences: vec![audience.to_owned()],
        bound_object_ref: Some(bound_to),
        expiration_seconds: Some(expiry_s),
    };
    Ok(PodToken { token: request_token(client, namespace, service_account, spec).await?, pod_uid: uid })
}

/// A token of a ServiceAccount for the API server itself, as an operator uses it. The
/// ServiceAccount is made if it is not there.
pub async fn service_account_token(
    client: &Client,
    namespace: &str,
    service_account: &str,
    expiry_s: i64,
) -> Result<String> {
    create_service_account(client, namespace, service_account).await?;
    let spec = TokenRequestSpec { expiration_seconds: Some(expiry_s), ..TokenRequestSpec::default() };
    request_token(client, namespace, service_account, spec).await
}

async fn create_service_account(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let account = ServiceAccount {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..ServiceAccount::default()
    };
    let api = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    create_if_missing(&api, &account).await?;
    Ok(())
}

async fn request_token(
    client: &Client,
    namespace: &str,
    service_account: &str,
    spec: TokenRequestSpec,
) -> Result<String> {
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let api = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let params = PostParams::default();
    let answer: TokenRequest = api
        .create_subresource("token", service_account, &params, &request)
        .await
        .with_context(|| format!("no token for the ServiceAccount {service_account}"))?;
    let status: Option<TokenRequestStatus> = answer.status;
    Ok(status.context("the API server sent no token")?.token)
}

/// Makes `object` and returns it as the API server has it, or returns the one that is there.
async fn create_if_missing<K>(api: &Api<K>, object: &K) -> Result<K>
where
    K: kube::Resource + Clone + fmt::Debug + DeserializeOwned + serde::Serialize,
{
    let name = object.meta().name.clone().unwrap_or_default();
    match api.create(&PostParams::default(), object).await {
        Ok(created) => Ok(created),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(api.get(&name).await?),
        Err(error) => Err(error).with_context(|| format!("cannot make {name}")),
    }
}
