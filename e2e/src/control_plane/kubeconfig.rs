//! Kubeconfig files. They are written as JSON, which is YAML too.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::certificates::Certificates;

/// For the administrator of the API server at `127.0.0.1:port`.
pub(super) fn of_administrator(port: u16, certificates: &Certificates) -> Value {
    let certificate = BASE64_STANDARD.encode(&certificates.admin_certificate);
    let key = BASE64_STANDARD.encode(&certificates.admin_key);
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "weir-e2e",
            "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority-data": BASE64_STANDARD.encode(&certificates.ca),
            },
        }],
        "users": [{
            "name": "kubernetes-admin",
            "user": { "client-certificate-data": certificate, "client-key-data": key },
        }],
        "contexts": [{
            "name": "weir-e2e",
            "context": { "cluster": "weir-e2e", "user": "kubernetes-admin" },
        }],
        "current-context": "weir-e2e",
    })
}

/// The same cluster for the owner of `token`, and nobody else in it.
pub(super) fn of_token(kubeconfig: &Value, token: &str) -> Result<Value> {
    let current = &kubeconfig["current-context"];
    let named = |list: &str, name: &Value| {
        let entries = kubeconfig[list].as_array()?;
        entries.iter().find(|entry| &entry["name"] == name).cloned()
    };
    let context = named("contexts", current).context("the kubeconfig has no current context")?;
    let cluster = named("clusters", &context["context"]["cluster"])
        .context("the kubeconfig has no cluster for its current context")?;
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "users": [{ "name": "token", "user": { "token": token } }],
        "contexts": [{
            "name": "token",
            "context": { "cluster": context["context"]["cluster"], "user": "token" },
        }],
        "current-context": "token",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_replaces_the_administrator() {
        let admin = json!({
            "clusters": [
                { "name": "other", "cluster": { "server": "https://other" } },
                { "name": "mine", "cluster": { "server": "https://mine" } },
            ],
            "users": [{ "name": "admin", "user": { "client-key-data": "secret" } }],
            "contexts": [{ "name": "c", "context": { "cluster": "mine", "user": "admin" } }],
            "current-context": "c",
        });
        let kubeconfig = of_token(&admin, "abc").unwrap();
        assert_eq!(kubeconfig["clusters"], json!([admin["clusters"][1]]));
        assert_eq!(kubeconfig["users"][0]["user"], json!({ "token": "abc" }));
        assert!(!kubeconfig.to_string().contains("secret"));
        assert!(of_token(&json!({}), "abc").is_err());
    }
}
