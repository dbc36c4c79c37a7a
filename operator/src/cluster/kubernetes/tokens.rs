//! Whose token this is: by its hash, where it is one of ours; else TokenReview with an audience of our own, and only tokens
//! that are bound to a pod.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::Api;
use kube::api::PostParams;
use weir_feed::record::StreamerId;

use super::Kubernetes;
use super::request::bounded;
use crate::cluster::{Identity, TokenError};
use crate::token::Hash;

// The names under which the API server vouches for the pod that a token is bound to
// (k8s.io/apiserver/pkg/authentication/serviceaccount).
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Who a review says the token belongs to.
fn judge(status: TokenReviewStatus, audience: &str) -> Result<(StreamerId, String), TokenError> {
    let refused = |why: String| Err(TokenError::Refused(why));
    if status.authenticated != Some(true) {
        let why = status.error.filter(|why| !why.is_empty());
        let why = why.map_or_else(String::new, |why| format!(" ({why})"));
        return refused(format!(
            "the API server does not know this token{why}: mount a projected token with audience {audience}"
        ));
    }
    if !status.audiences.iter().flatten().any(|one| one == audience) {
        return refused(format!("this token is not meant for Weir: mount a projected token with audience {audience}"));
    }
    let user = status.user.unwrap_or_default();
    let username = user.username.unwrap_or_default();
    let account = username.strip_prefix("system:serviceaccount:");
    let Some((namespace, _)) = account.and_then(|account| account.split_once(':')) else {
        return refused(format!(
            "{username} is not a ServiceAccount: mount a projected token with audience {audience}"
        ));
    };
    let extra = user.extra.unwrap_or_default();
    let (Some(name), Some(uid)) = (only(&extra, POD_NAME), only(&extra, POD_UID)) else {
        return refused(format!("this token is not bound to a pod: mount a projected token with audience {audience}"));
    };
    let streamer = StreamerId { namespace: namespace.to_owned(), name: name.to_owned() };
    Ok((streamer, uid.to_owned()))
}

/// The value of a key that has exactly one.
fn only<'a>(extra: &'a BTreeMap<String, Vec<String>>, key: &str) -> Option<&'a str> {
    match extra.get(key).map(Vec::as_slice) {
        Some([value]) if !value.is_empty() => Some(value),
        _ => None,
    }
}

/// When a token expires, ms since the Unix epoch (RFC 7519, `exp`). To be asked only of a token that was vouched for.
fn expires(token: &str) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Claims {
        exp: serde_json::Number,
    }
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    claims.exp.as_u64()?.checked_mul(1_000)
}

impl Kubernetes {
    /// Looks a token of ours up.
    pub(super) fn look_up(&self, token: &str) -> Result<Identity, TokenError> {
        let owners = self.store().owners(Hash::of(token));
        let owners = owners.ok_or_else(|| {
            TokenError::Unavailable("Streamers' tokens have not been listed yet: try again".to_owned())
        })?;
        let mut owners = owners.into_iter();
        // Whoever put another's hash into a Secret of his own gets nothing by it.
        let (Some(streamer), None) = (owners.next(), owners.next()) else {
            let why = "this token is not known, or was revoked: make one with weir-operator token create";
            return Err(TokenError::Refused(why.to_owned()));
        };
        Ok(Identity { streamer, instance: None, expires: None })
    }

    /// Asks the API server about a token.
    pub(super) async fn review(&self, token: &str) -> Result<Identity, TokenError> {
        let audience = &self.config.audience;
        let review = TokenReview {
            spec: TokenReviewSpec { audiences: Some(vec![audience.clone()]), token: Some(token.to_owned()) },
            ..TokenReview::default()
        };
        let api = Api::<TokenReview>::all(self.client.clone());
        let answer = bounded(self.limit, api.create(&PostParams::default(), &review)).await;
        let answer = answer.map_err(|failure| {
            let sentence = format!("the token cannot be checked now: {failure}");
            TokenError::Unavailable(sentence.replace(token, "…"))
        })?;
        let mut status = answer.status.unwrap_or_default();
        status.error = status.error.map(|error| error.replace(token, "…"));
        let (streamer, uid) = judge(status, audience)?;
        if !self.is_in_scope(&streamer.namespace) {
            let namespace = &streamer.namespace;
            return Err(TokenError::Refused(format!("this operator does not look after namespace {namespace}")));
        }
        Ok(Identity { streamer, instance: Some(uid), expires: expires(token) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn judged(change: impl FnOnce(&mut Value)) -> Result<(StreamerId, String), TokenError> {
        let mut status = json!({
            "authenticated": true, "audiences": ["weir.dev"],
            "user": {
                "username": "system:serviceaccount:media:streamer",
                "extra": {POD_NAME: ["s1"], POD_UID: ["u1"], "authentication.kubernetes.io/node-name": ["n1"]},
            },
        });
        change(&mut status);
        judge(serde_json::from_value(status).unwrap(), "weir.dev")
    }

    #[test]
    fn a_pod_may_only_be_the_streamer_of_its_own_name() {
        let (streamer, uid) = judged(|_| {}).unwrap();
        assert_eq!((streamer.to_string().as_str(), uid.as_str()), ("media/s1", "u1"));
    }

    #[test]
    fn every_part_that_the_api_server_does_not_vouch_for_refuses_the_token() {
        type Change = fn(&mut Value);
        let changes: [(Change, &str); 7] = [
            (|status| status["authenticated"] = json!(false), "does not know"),
            (|status| status["audiences"] = json!(["https://kubernetes"]), "not meant for Weir"),
            (|status| status["audiences"] = Value::Null, "not meant for Weir"),
            (|status| status["user"]["username"] = json!("jane"), "not a ServiceAccount"),
            (|status| status["user"]["extra"] = Value::Null, "not bound to a pod"),
            (|status| status["user"]["extra"][POD_UID] = Value::Null, "not bound to a pod"),
            (|status| status["user"]["extra"][POD_NAME] = json!(["s1", "s2"]), "not bound to a pod"),
        ];
        for (change, why) in changes {
            // A null in a map of lists is no value that the API server sends.
            let change = |status: &mut Value| {
                change(status);
                if let Some(extra) = status["user"]["extra"].as_object_mut() {
                    extra.retain(|_, value| !value.is_null());
                }
            };
            let Err(TokenError::Refused(sentence)) = judged(change) else {
                panic!("{why}");
            };
            assert!(sentence.contains(why), "{sentence}");
        }
    }

    #[test]
    fn a_token_says_when_it_expires() {
        let token = |claims: &Value| {
            let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
            format!("e30.{payload}.c2lnbmF0dXJl")
        };
        assert_eq!(expires(&token(&json!({"exp": 1_795_000_000}))), Some(1_795_000_000_000));
        assert_eq!(expires(&token(&json!({"sub": "x"}))), None);
        assert_eq!(expires(&token(&json!({"exp": "soon"}))), None);
        for nonsense in ["", "opaque", "a.%%%.c", "..", "a.e30.c"] {
            assert_eq!(expires(nonsense), None, "{nonsense}");
        }
    }
}
