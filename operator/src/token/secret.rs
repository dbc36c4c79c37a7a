//! Tokens as Secrets: one each, of a type of its own, in the Streamer's namespace. Whoever may make Secrets there may let
//! streamers join it. The operator sees them by the right that it has for credentials.

use k8s_openapi::api::core::v1::Secret;
use kube::core::ObjectMeta;
use weir_feed::record::StreamerId;

use super::{Hash, Kept};
use crate::text::is_name;

/// The type of these Secrets.
pub(crate) const TYPE: &str = "weir.dev/streamer-token";

/// The keys of its data.
const STREAMER: &str = "streamer";
const SHA256: &str = "sha256";

/// `metadata.name` of a token's Secret.
pub(crate) fn name(id: &str) -> String {
    format!("weir-token-{id}")
}

/// The Secret of a token. It is immutable: a token is revoked and made anew, never changed.
pub(crate) fn secret(hash: Hash, streamer: &StreamerId) -> Secret {
    let data = [(STREAMER, streamer.name.clone()), (SHA256, hash.to_string())];
    Secret {
        metadata: ObjectMeta {
            namespace: Some(streamer.namespace.clone()),
            name: Some(name(&hash.id())),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        immutable: Some(true),
        string_data: Some(data.map(|(key, value)| (key.to_owned(), value)).into()),
        ..Secret::default()
    }
}

/// The token of a Secret; `None` where it holds none.
pub(crate) fn kept(secret: Secret) -> Option<Kept> {
    let data = secret.data?;
    let text = |key: &str| data.get(key).and_then(|value| std::str::from_utf8(&value.0).ok()).map(str::trim);
    let name = text(STREAMER).filter(|name| is_name(name))?.to_owned();
    Some(Kept {
        hash: Hash::parse(text(SHA256)?)?,
        streamer: StreamerId { namespace: secret.metadata.namespace?, name },
        made: secret.metadata.creation_timestamp.map(|time| time.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    /// As the API server gives it back.
    fn stored(mut secret: Secret) -> Secret {
        let data = secret.string_data.take().unwrap_or_default();
        secret.data = Some(data.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect());
        secret
    }

    #[test]
    fn a_secret_holds_the_hash_and_never_the_token() {
        let streamer = StreamerId { namespace: "media".into(), name: "s1".into() };
        let secret = secret(Hash::of("weir_hunter2"), &streamer);
        assert!(!format!("{secret:?}").contains("hunter2"));
        let kept = kept(stored(secret)).unwrap();
        assert_eq!((kept.hash, kept.streamer), (Hash::of("weir_hunter2"), streamer));
    }

    #[test]
    fn a_secret_that_holds_no_token_is_none() {
        let streamer = StreamerId { namespace: "media".into(), name: "s1".into() };
        let whole = stored(secret(Hash::of("weir_x"), &streamer));
        for (key, value) in [(STREAMER, "../s1"), (SHA256, "abc"), (SHA256, "")] {
            let mut broken = whole.clone();
            broken.data.as_mut().unwrap().insert(key.to_owned(), ByteString(value.into()));
            assert_eq!(kept(broken), None, "{key}: {value}");
        }
        assert_eq!(kept(Secret { data: None, ..whole }), None);
    }
}
