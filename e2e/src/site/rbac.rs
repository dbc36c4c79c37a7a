//! The operator's ServiceAccount and what it may do: `rbac.yaml`, bound to one namespace.

use anyhow::{Result, ensure};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::wait::until;
use crate::control_plane::service_account_token;

/// The ServiceAccount.
const ACCOUNT: &str = "weir-operator";
/// What it may do.
const RULES: &str = include_str!("../../rbac.yaml");
/// How long its token is good.
const EXPIRY_S: i64 = 3_600;

/// Applies the roles of `rbac.yaml`.
pub async fn apply_roles(client: &Client) -> Result<()> {
    let api = Api::<ClusterRole>::all(client.clone());
    for document in serde_yaml::Deserializer::from_str(RULES) {
        let role = ClusterRole::deserialize(document)?;
        let parameters = PatchParams::apply(ACCOUNT).force();
        api.patch(&role.name_any(), &parameters, &Patch::Apply(with_type(&role)?)).await?;
    }
    Ok(())
}

/// Makes the ServiceAccount in `namespace`, binds it to that namespace alone, and returns a token of it once the API server knows of all.
pub async fn operator_token(client: &Client, namespace: &str) -> Result<String> {
    let token = service_account_token(client, namespace, ACCOUNT, EXPIRY_S).await?;
    let cluster = binding(namespace, "weir-operator", &format!("weir-operator-{namespace}"));
    let cluster: ClusterRoleBinding = serde_json::from_value(cluster)?;
    Api::all(client.clone()).create(&PostParams::default(), &cluster).await?;
    for role in ["weir-operator-media", "weir-operator-own"] {
        bind(client, namespace, namespace, role).await?;
    }
    for asked in [
        ("authentication.k8s.io", "tokenreviews", ""),
        ("weir.dev", "placements", namespace),
        ("coordination.k8s.io", "leases", namespace),
    ] {
        until("the operator's rights", async || may_create(client, namespace, asked).await).await?;
    }
    Ok(token)
}

/// Gives the operator of `account_of` the rights that it needs in another namespace to look after it, and returns once it has them.
pub(super) async fn let_look_after(client: &Client, account_of: &str, namespace: &str) -> Result<()> {
    bind(client, account_of, namespace, "weir-operator-media").await?;
    let asked = ("weir.dev", "placements", namespace);
    until("the operator's rights", async || may_create(client, account_of, asked).await).await
}

fn binding(account_of: &str, role: &str, name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": account_of}],
    })
}

async fn bind(client: &Client, account_of: &str, namespace: &str, role: &str) -> Result<()> {
    let binding: RoleBinding = serde_json::from_value(binding(account_of, role, role))?;
    Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &binding).await?;
    Ok(())
}

async fn may_create(client: &Client, account_of: &str, (group, resource, namespace): (&str, &str, &str)) -> Result<()> {
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        namespace: Some(namespace.to_owned()),
        verb: Some("create".to_owned()),
        ..ResourceAttributes::default()
    };
    let user = format!("system:serviceaccount:{account_of}:{ACCOUNT}");
    let spec = SubjectAccessReviewSpec {
        user: Some(user),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    let status: Option<SubjectAccessReviewStatus> = answer.status;
    ensure!(status.is_some_and(|status| status.allowed), "{ACCOUNT} may not create {resource} yet");
    Ok(())
}

/// Server-side apply wants the type in the object.
fn with_type(role: &ClusterRole) -> Result<Value> {
    let mut value = serde_json::to_value(role)?;
    value["apiVersion"] = "rbac.authorization.k8s.io/v1".into();
    value["kind"] = "ClusterRole".into();
    Ok(value)
}
