//! Certificates that Weir makes: kept in Secrets, given out to every namespace, rotated under clients that connect.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weir_e2e::site::rbac;
use weir_operator::certificates::stored::Stored;
use weir_operator::certificates::{CertificateMetrics, Lifetimes, Names, Pair, Served, Settings, bring_up_to_date};
use weir_operator::http::Standing;

use super::*;

/// The name that `e2e/rbac.yaml` lets the operator read and patch.
const CONFIGURATION: &str = "weir-webhook";

fn wishes(lifetimes: Lifetimes, configuration: Option<&str>) -> Settings {
    let names = |name: &str| Names::new(&[name.to_owned()]).unwrap();
    Settings {
        feed: names("localhost"),
        webhook: names("weir-webhook.weir-system.svc"),
        webhook_configuration: configuration.map(str::to_owned),
        lifetimes,
    }
}

/// An operator that campaigns, keeps certificates and shows the feed's.
struct Keeper {
    standing: watch::Receiver<Standing>,
    resign: watch::Sender<u64>,
    address: SocketAddr,
    _term: watch::Sender<u64>,
    _operator: Kubernetes,
}

impl Keeper {
    async fn start(operator: Kubernetes, settings: Settings) -> Self {
        let ((term, terms), (resign, resigns)) = (watch::channel(0), watch::channel(0));
        let mut events = operator.campaign(terms, resigns);
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        let served = Served::default();
        let standing = operator.keep_certificates(settings, served.clone(), CertificateMetrics::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(served.server(&[b"h2"]).unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let accepting = acceptor.accept(stream);
                tokio::spawn(async move { drop(accepting.await) });
            }
        });
        Self { standing, resign, address, _term: term, _operator: operator }
    }

    async fn is_well(&mut self) {
        let is_well = |standing: &Standing| standing.missing.is_empty() && standing.notes.is_empty();
        let waited = tokio::time::timeout(PATIENCE, self.standing.wait_for(is_well)).await.map(drop);
        assert!(waited.is_ok(), "{:?}", self.standing.borrow());
    }

    async fn notes(&mut self, what: &str) {
        let notes = |standing: &Standing| standing.notes.iter().any(|note| note.contains(what));
        let waited = tokio::time::timeout(PATIENCE, self.standing.wait_for(notes)).await.map(drop);
        assert!(waited.is_ok(), "no note says {what}: {:?}", self.standing.borrow());
    }
}

/// Asks until there is an answer.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    patient(what, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// The bundle of a namespace.
async fn bundle(client: &Client, namespace: &str) -> Option<String> {
    let config_map = Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt("weir-ca").await.unwrap()?;
    config_map.data?.remove("ca.crt")
}

async fn stored(place: &Place) -> Option<Stored> {
    let secret = place.api::<Secret>().get_opt("weir-certificates").await.unwrap()?;
    serde_json::from_slice(&secret.data?.remove("certificates.json")?.0).ok()
}

/// Connects as a sidecar does.
async fn connect(bundle: &str, address: SocketAddr) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream);
    connected.await.map(drop).map_err(|error| error.to_string())
}

/// Connects again and again to both with a bundle that is a little old; the answer is what refused one.
async fn refused(
    client: Client,
    namespace: String,
    addresses: [SocketAddr; 2],
    overlap: Duration,
    well: Arc<AtomicUsize>,
) -> String {
    loop {
        let (read, mounted) = (Instant::now(), bundle(&client, &namespace).await.unwrap_or_default());
        tokio::time::sleep(overlap / 4).await;
        for address in addresses {
            let shown = connect(&mounted, address).await;
            // One whose bundle is older was promised nothing: the machine was busy.
            match shown {
                Err(why) if read.elapsed() < overlap => return format!("{address}: {why}"),
                Err(_) => {}
                Ok(()) => drop(well.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }
}

async fn make_namespace(client: &Client, prefix: &str) -> String {
    create_namespace(client, prefix).await.unwrap()
}

#[tokio::test]
async fn what_is_made_is_given_out_to_every_namespace_put_right_and_rotated_under_clients_that_connect() {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    let client = client_of(control_plane.config()).unwrap();
    apply_crds(&client, &weir_crds::crds_yaml()).await.unwrap();
    let place = Place { namespace: make_namespace(&client, "system").await, client };
    let client = &place.client;
    let (early, ending) = (make_namespace(client, "early").await, make_namespace(client, "ending").await);
    let lifetimes = Lifetimes::new(30, 120).unwrap();
    let keeper = async |name: &str| {
        let mut config = place.config(name);
        config.namespaces = vec![];
        (config.periods.ping, config.periods.lease) = (200, 6_500);
        Keeper::start(Kubernetes::new(client.clone(), config), wishes(lifetimes, None)).await
    };

    // What cannot be read is not overwritten: it may be all that there is of the authority.
    let secrets = place.api::<Secret>();
    let unreadable =
        json!({"metadata": {"name": "weir-certificates"}, "stringData": {"certificates.json": "{\"hunter2\""}});
    secrets.create(&PostParams::default(), &serde_json::from_value(unreadable).unwrap()).await.unwrap();
    let mut a = keeper("a").await;
    a.notes("weir-certificates cannot be read").await;
    assert!(a.standing.borrow().missing.iter().any(|missing| missing.starts_with("CertificateMissing")));
    assert!(!format!("{:?}", a.standing.borrow()).contains("hunter2"));
    // Restored, with an authority that is nearly two thirds old.
    let (settings, now) = (wishes(lifetimes, None), weir_operator::clock::now().wall / 1_000);
    let aged = bring_up_to_date(Stored::default(), &settings, now - 79).unwrap().published(now - 79);
    let aged = bring_up_to_date(aged, &settings, now).unwrap();
    let restored = json!({"stringData": {"certificates.json": serde_json::to_string(&aged).unwrap()}});
    secrets.patch("weir-certificates", &PatchParams::default(), &Patch::Merge(restored)).await.unwrap();
    a.is_well().await;
    let mut b = keeper("b").await;
    b.is_well().await;

    let given = async |namespace: &str| until("the bundle is there", async || bundle(client, namespace).await).await;
    given(&early).await;
    let first = aged.bundle();
    let well = Arc::new(AtomicUsize::new(0));
    let overlap = Duration::from_secs(lifetimes.overlap());
    // Nobody touches what these have mounted.
    let mounted = place.namespace.clone();
    given(&mounted).await;
    let both = [a.address, b.address];
    let mut refusals = tokio::spawn(refused(client.clone(), mounted, both, overlap, Arc::clone(&well)));

    let webhook = secrets.get("weir-webhook-tls").await.unwrap();
    assert_eq!(webhook.type_.as_deref(), Some("kubernetes.io/tls"));
    let webhook = webhook.data.unwrap();
    Pair::from_pem(&webhook["tls.crt"].0, &webhook["tls.key"].0).unwrap();

    // Namespaces come and go, and people touch things.
    let late = make_namespace(client, "late").await;
    assert!(given(&late).await.starts_with(&first));
    let config_maps = Api::<ConfigMap>::namespaced(client.clone(), &early);
    config_maps.delete("weir-ca", &DeleteParams::default()).await.unwrap();
    given(&early).await;
    let edit = Patch::Merge(json!({"data": {"ca.crt": "mine"}}));
    config_maps.patch("weir-ca", &PatchParams::default(), &edit).await.unwrap();
    until("the edit is undone", async || bundle(client, &early).await.filter(|text| text != "mine")).await;
    given(&ending).await;
    // Nobody finishes the deletion here: nothing can be made in it, and nobody is told that it cannot.
    Api::<Namespace>::all(client.clone()).delete(&ending, &DeleteParams::default()).await.unwrap();
    let ended = Api::<ConfigMap>::namespaced(client.clone(), &ending);
    ended.delete("weir-ca", &DeleteParams::default()).await.unwrap();

    a.resign.send_replace(1);
    let rotated = until("the second authority's alone is trusted", async || {
        let stored = stored(&place).await?;
        let is_second = |stored: &Stored| stored.authorities.first().is_some_and(|authority| authority.id == 2);
        Some(stored.bundle()).filter(|_| is_second(&stored))
    });
    let rotated = tokio::select! {
        refusal = &mut refusals => panic!("{}", refusal.unwrap()),
        rotated = rotated => rotated,
    };
    assert!(!rotated.contains(&first));
    for namespace in [&early, &late] {
        until("the bundle is rotated", async || bundle(client, namespace).await.filter(|text| *text == rotated)).await;
    }
    for address in [a.address, b.address] {
        connect(&rotated, address).await.unwrap();
        connect(&first, address).await.unwrap_err();
    }
    assert!(!refusals.is_finished() && well.load(Ordering::Relaxed) > 20, "{well:?}");
    for keeper in [&mut a, &mut b] {
        keeper.is_well().await;
    }
    assert_eq!(bundle(client, &ending).await, None);
}

#[tokio::test]
async fn with_the_rights_of_rbac_yaml_it_works_and_without_them_it_says_which_is_missing() {
    let place = Place::new("rights").await;
    let control_plane = ControlPlane::shared().await.unwrap();
    rbac::apply_roles(&place.client).await.unwrap();
    let configurations = Api::<MutatingWebhookConfiguration>::all(place.client.clone());
    drop(configurations.delete(CONFIGURATION, &DeleteParams::default()).await);
    let token = service_account_token(&place.client, &place.namespace, "weir-operator", 3_600).await.unwrap();
    let kubeconfig = Kubeconfig::from_yaml(&control_plane.kubeconfig_for(&token, None).unwrap()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let mut periods = place.config("a");
    (periods.periods.ping, periods.periods.lease) = (200, 6_500);
    let operator = Kubernetes::new(client_of(config).unwrap(), periods);
    let elsewhere = make_namespace(&place.client, "elsewhere").await;
    let mut keeper = Keeper::start(operator, wishes(Lifetimes::new(100, 1_000).unwrap(), Some(CONFIGURATION))).await;
    keeper.notes("cannot get resource \"secrets\"").await;

    rbac::operator_token(&place.client, &place.namespace).await.unwrap();
    keeper.notes("MutatingWebhookConfiguration weir-webhook cannot be read: the API server answered 404").await;
    let webhook = |name: &str| {
        json!({
            "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"url": "https://127.0.0.1:1/mutate"},
        })
    };
    let configuration = json!({
        "metadata": {"name": CONFIGURATION}, "webhooks": [webhook("a.weir.dev"), webhook("b.weir.dev")],
    });
    let configuration: MutatingWebhookConfiguration = serde_json::from_value(configuration).unwrap();
    configurations.create(&PostParams::default(), &configuration).await.unwrap();
    let trusted = async || {
        let webhooks = configurations.get(CONFIGURATION).await.unwrap().webhooks.unwrap();
        let bundles: Vec<_> = webhooks.into_iter().map(|webhook| webhook.client_config.ca_bundle).collect();
        let bundle = bundle(&place.client, &place.namespace).await?.into_bytes();
        bundles.iter().all(|trusted| trusted.as_ref().is_some_and(|trusted| trusted.0 == bundle)).then_some(())
    };
    until("every webhook trusts the bundle", trusted).await;
    keeper.is_well().await;
    // As a chart does that leaves it to the operator.
    let wiped = Patch::Merge(serde_json::to_value(&configuration).unwrap());
    configurations.patch(CONFIGURATION, &PatchParams::default(), &wiped).await.unwrap();
    until("every webhook trusts the bundle again", trusted).await;
    configurations.delete(CONFIGURATION, &DeleteParams::default()).await.unwrap();
    connect(&bundle(&place.client, &place.namespace).await.unwrap(), keeper.address).await.unwrap();
    assert_eq!(bundle(&place.client, &elsewhere).await, None, "nobody looks after that namespace");
}
