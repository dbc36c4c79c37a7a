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

/// What `weir-operator token …` prints.
async fn token(place: &Place, command: &[&str]) -> anyhow::Result<String> {
    use clap::Parser as _;
    use weir_operator::cli::{Cli, Command};
    let kubeconfig = ControlPlane::shared().await?.kubeconfig_path().to_owned();
    let kubeconfig = kubeconfig.to_str().unwrap();
    let always = ["--namespace", place.namespace.as_str(), "--kubeconfig", kubeconfig];
    let words = ["weir-operator", "token"].iter().chain(command).chain(&always);
    let Command::Token(args) = Cli::parse_from(words).command else { panic!() };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    weir_operator::token::run(args.command, &mut out, &mut err).await?;
    let out = String::from_utf8(out).unwrap();
    assert!(!String::from_utf8(err).unwrap().contains(out.trim()) || out.is_empty(), "it is shown once");
    Ok(out)
}

async fn identified(
    operator: &Kubernetes,
    token: &str,
    known: bool,
) -> Result<weir_operator::cluster::Identity, TokenError> {
    patient("the operator has heard of the token", async {
        loop {
            let identity = operator.identify(token).await;
            if identity.is_ok() == known {
                return identity;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_token_that_was_made_lets_its_streamer_in_until_it_is_revoked() {
    let place = Place::new("made").await;
    let operator = place.operator("a");
    let Err(TokenError::Unavailable(_)) = operator.identify("weir_x").await else {
        panic!("nothing was listed yet");
    };
    let _observed = operator.observe();
    let made = token(&place, &["create", "media-1"]).await.unwrap();
    let made = made.trim();
    let identity = identified(&operator, made, true).await.unwrap();
    assert_eq!(identity.streamer.to_string(), format!("{}/media-1", place.namespace));
    assert_eq!((identity.instance, identity.expires), (None, None));

    // Nobody who reads the Secret has the token.
    let ours = ListParams::default().fields("type=weir.dev/streamer-token");
    let secrets = place.api::<Secret>().list(&ours).await.unwrap().items;
    let [secret] = secrets.as_slice() else { panic!("{}", secrets.len()) };
    assert!(!serde_json::to_string(secret).unwrap().contains(made));
    assert!(secret.data.iter().flat_map(BTreeMap::values).all(|value| value.0 != made.as_bytes()));
    let hash = String::from_utf8(secret.data.as_ref().unwrap()["sha256"].0.clone()).unwrap();
    for wrong in [&hash, &format!("weir_{hash}"), &made.replace("weir_", "weir_A")] {
        let Err(TokenError::Refused(why)) = operator.identify(wrong).await else { panic!("{wrong} was taken") };
        assert!(!why.contains(wrong.as_str()), "{why}");
    }

    let listed = token(&place, &["list"]).await.unwrap();
    let row: Vec<&str> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[1..3], [place.namespace.as_str(), "media-1"], "{listed}");
    assert!(token(&place, &["revoke", "0123456789ab"]).await.unwrap_err().to_string().contains("no token"));
    token(&place, &["revoke", row[0]]).await.unwrap();
    let Err(TokenError::Refused(why)) = identified(&operator, made, false).await else { panic!() };
    assert!(why.contains("revoked"), "{why}");
}

#[tokio::test]
async fn a_hash_that_somebody_copied_into_his_own_namespace_gets_him_nothing() {
    let (place, other) = (Place::new("made").await, Place::new("copied").await);
    let mut config = place.config("a");
    config.namespaces.push(other.namespace.clone());
    let operator = Kubernetes::new(place.client.clone(), config);
    let _observed = operator.observe();
    let made = token(&place, &["create", "media-1"]).await.unwrap();
    identified(&operator, made.trim(), true).await.unwrap();
    let secrets = place.api::<Secret>();
    let listed = secrets.list(&ListParams::default().fields("type=weir.dev/streamer-token")).await.unwrap();
    let mut copy = listed.items.into_iter().next().unwrap();
    copy.metadata = ObjectMeta { name: copy.metadata.name, ..ObjectMeta::default() };
    other.api::<Secret>().create(&PostParams::default(), &copy).await.unwrap();
    // Nor does it let anybody else be taken for its owner: who made the token sees to it.
    assert!(matches!(identified(&operator, made.trim(), false).await, Err(TokenError::Refused(_))));
}
