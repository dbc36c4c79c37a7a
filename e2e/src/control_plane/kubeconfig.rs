//! Kubeconfig files. They are written as JSON, which is YAML too.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::certificates::Certificates;

/// The only context of a kubeconfig for a client.
pub(crate) const CONTEXT: &str = "weir-e2e";

/// For the administrator of the API server at `127.0.0.1:port`.
pub(super) fn of_administrator(port: u16, certificates: &Certificates) -> Value {
    let administrator = (&*certificates.admin_certificate, &*certificates.admin_key);
    of_client("kubernetes-admin", administrator, port, certificates)
}

/// For a client that calls itself `user` here, with its certificate and key.
pub(super) fn of_client(user: &str, shows: (&str, &str), port: u16, certificates: &Certificates) -> Value {
    let (certificate, key) = shows;
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
            "name": user,
            "user": {
                "client-certificate-data": BASE64_STANDARD.encode(certificate),
                "client-key-data": BASE64_STANDARD.encode(key),
            },
        }],
        "contexts": [{
            "name": CONTEXT,
            "context": { "cluster": "weir-e2e", "user": user },
        }],
        "current-context": CONTEXT,
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
