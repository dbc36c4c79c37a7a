//! Keys and tokens: who a sidecar is.

use super::*;

#[tokio::test]
async fn two_who_make_the_keys_at_once_end_with_the_same() {
    let place = Place::new("keys").await;
    let (a, b) = (place.operator("a"), place.operator("b"));
    let (a, b) = tokio::join!(a.keys(), b.keys());
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(b.verify_term(&a.term(7), 7), weir_feed::grant::Verdict::Ours);
    let secret = place.api::<Secret>().get("weir-grants").await.unwrap();
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
}

#[tokio::test]
async fn a_token_belongs_to_the_pod_that_it_is_bound_to() {
    let place = Place::new("tokens").await;
    let (client, namespace) = (&place.client, &place.namespace);
    let operator = place.operator("a");
    let bound = pod_bound_token(client, namespace, "s1", "streamer", AUDIENCE, 600).await.unwrap();
    let identity = operator.identify(&bound.token).await.unwrap();
    assert_eq!(identity.streamer.to_string(), format!("{namespace}/s1"));
    assert_eq!(identity.instance.as_deref(), Some(bound.pod_uid.as_str()));
    let left = identity.expires.unwrap() - weir_operator::clock::now().wall;
    assert!((300_000..=600_000).contains(&left), "{left}");

    let elsewhere = pod_bound_token(client, namespace, "s1", "streamer", "other", 600).await.unwrap();
    let podless = service_account_token(client, namespace, "streamer", 600).await.unwrap();
    let mut forged = bound.token.clone();
    forged.replace_range(forged.len() - 6.., "AAAAAA");
    for token in [elsewhere.token.as_str(), &podless, &forged, "hunter2"] {
        let Err(TokenError::Refused(why)) = operator.identify(token).await else {
            panic!("a token was taken that should be refused");
        };
        assert!(why.contains("mount a projected token with audience weir.dev"), "{why}");
        assert!(!why.contains(token));
    }
    let other = create_namespace(client, "tokens").await.unwrap();
    let outside = pod_bound_token(client, &other, "s1", "streamer", AUDIENCE, 600).await.unwrap();
    let Err(TokenError::Refused(why)) = operator.identify(&outside.token).await else {
        panic!("a token of another namespace was taken");
    };
    assert!(why.contains(&other), "{why}");
}
