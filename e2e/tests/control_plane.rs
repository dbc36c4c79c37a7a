//! The control plane that all scenarios stand on is a real one.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::runtime::wait::{await_condition, conditions::is_deleted};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use weir_e2e::control_plane::{
    ControlPlane, Options, apply_crds, create_namespace, pod_bound_token, service_account_token,
};

const AUDIENCE: &str = "weir.dev";

async fn put_config_map(client: &Client, namespace: &str, name: &str) {
    let object = serde_json::from_value(json!({
        "metadata": { "name": name }, "data": { "key": "value" },
    }));
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let params = PostParams::default();
    api.create(&params, &object.unwrap()).await.unwrap();
}

/// What the API server says of `token`; none when it does not vouch for it.
async fn review(client: &Client, token: &str, audience: &str) -> Option<UserInfo> {
    let review = TokenReview {
        spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![audience.to_owned()]) },
        ..TokenReview::default()
    };
    let api = Api::<TokenReview>::all(client.clone());
    let params = PostParams::default();
    let status = api.create(&params, &review).await.unwrap().status.unwrap();
    status.user.filter(|_| status.authenticated == Some(true))
}

#[tokio::test]
async fn a_namespace_is_made_and_read() {
    let client = ControlPlane::shared().await.unwrap().client().unwrap();
    let first = create_namespace(&client, "made").await.unwrap();
    let second = create_namespace(&client, "made").await.unwrap();
    assert_ne!(first, second);
    let read = Api::<Namespace>::all(client).get(&first).await.unwrap();
    assert!(read.name_any().starts_with("made-"));
}

#[tokio::test]
async fn a_pod_bound_token_tells_its_pod_to_its_audience_alone() {
    let client = ControlPlane::shared().await.unwrap().client().unwrap();
    let namespace = create_namespace(&client, "token").await.unwrap();
    let bound = pod_bound_token(&client, &namespace, "streamer-0", "streamer", AUDIENCE, 600).await.unwrap();

    let user = review(&client, &bound.token, AUDIENCE).await.unwrap();
    let account = format!("system:serviceaccount:{namespace}:streamer");
    assert_eq!(user.username.as_deref(), Some(account.as_str()));
    let extra = user.extra.unwrap();
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], ["streamer-0"]);
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], [bound.pod_uid.as_str()]);

    assert!(review(&client, &bound.token, "somebody.else").await.is_none());
    let again = pod_bound_token(&client, &namespace, "streamer-0", "streamer", AUDIENCE, 600);
    assert_eq!(again.await.unwrap().pod_uid, bound.pod_uid);
    assert!(!format!("{bound:?}").contains(&bound.token));
}

#[tokio::test]
async fn a_service_account_may_do_nothing_until_it_is_bound_to_a_role() {
    let cluster = ControlPlane::shared().await.unwrap();
    let client = cluster.client().unwrap();
    let namespace = create_namespace(&client, "rbac").await.unwrap();
    let token = service_account_token(&client, &namespace, "operator", 600).await.unwrap();
    let kubeconfig = cluster.kubeconfig_for(&token, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, kubeconfig).unwrap();
    let operator = ControlPlane::existing(&path).await.unwrap();

    let api = Api::<ConfigMap>::namespaced(operator.client().unwrap(), &namespace);
    let kube::Error::Api(refused) = api.list(&ListParams::default()).await.unwrap_err() else {
        panic!("not an answer of the API server");
    };
    assert_eq!(refused.code, 403);
    let user = format!("system:serviceaccount:{namespace}:operator");
    assert!(refused.message.contains(&user), "{}", refused.message);
    let error = operator.kill_api_server().await.unwrap_err().to_string();
    assert!(error.contains("existing cluster"), "{error}");
}

#[tokio::test]
async fn crds_are_served_once_they_are_applied() {
    let crd = |plural: &str, kind: &str| {
        format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
             metadata: {{name: {plural}.e2e.weir.dev}}\n\
             spec:\n  group: e2e.weir.dev\n  scope: Namespaced\n  names: {{plural: {plural}, kind: {kind}}}\n  \
             versions: [{{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object}}}}}}]\n"
        )
    };
    let client = ControlPlane::shared().await.unwrap().client().unwrap();
    let yaml = format!("---\n{}---\n{}", crd("weirs", "Weir"), crd("rivers", "River"));
    apply_crds(&client, &yaml).await.unwrap();
    apply_crds(&client, &yaml).await.unwrap();
    let served = client.list_api_group_resources("e2e.weir.dev/v1").await.unwrap();
    let mut kinds: Vec<_> = served.resources.iter().map(|r| r.kind.as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["River", "Weir"]);
    let error = apply_crds(&client, "a: b").await.unwrap_err().to_string();
    assert!(error.contains("other than CRDs"), "{error}");
}

#[tokio::test]
async fn objects_outlive_an_api_server_and_an_etcd_that_are_killed() {
    let cluster = ControlPlane::start(Options::default()).await.unwrap();
    let client = cluster.client().unwrap();
    let namespace = create_namespace(&client, "survivor").await.unwrap();
    put_config_map(&client, &namespace, "kept").await;
    let maps = Api::<ConfigMap>::namespaced(client, &namespace);

    cluster.kill_api_server().await.unwrap();
    assert!(maps.get("kept").await.is_err());
    cluster.start_api_server().await.unwrap();
    assert_eq!(maps.get("kept").await.unwrap().data.unwrap()["key"], "value");

    cluster.kill_etcd().await.unwrap();
    cluster.start_etcd().await.unwrap();
    assert_eq!(maps.get("kept").await.unwrap().data.unwrap()["key"], "value");
    assert!(cluster.etcd_data_dir().unwrap().join("member/wal").is_dir());

    cluster.stop_api_server().await.unwrap();
    cluster.stop_etcd().await.unwrap();
    cluster.start_etcd().await.unwrap();
    cluster.start_api_server().await.unwrap();
    assert_eq!(maps.get("kept").await.unwrap().data.unwrap()["key"], "value");
}

/// The processes whose command line names `folder`.
fn processes_of(folder: &Path) -> Vec<String> {
    let output = Command::new("ps").args(["-eo", "stat=,args="]).output();
    let output = String::from_utf8(output.unwrap().stdout).unwrap();
    let folder = folder.to_str().unwrap();
    let lines = output.lines().filter(|line| !line.starts_with('Z'));
    lines.filter(|line| line.contains(folder)).map(str::to_owned).collect()
}

#[tokio::test]
async fn nothing_is_left_of_a_control_plane_whose_owner_is_killed() {
    use tokio::io::{AsyncBufReadExt as _, BufReader};

    let mut owner = tokio::process::Command::new(env!("CARGO_BIN_EXE_control-plane"))
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let path = loop {
        let line = lines.next_line().await.unwrap().expect("it ended early");
        if let Some((_, path)) = line.split_once("export KUBECONFIG=") {
            break path.to_owned();
        }
    };
    let folder = Path::new(&path).parent().unwrap();
    let running = processes_of(folder);
    for program in ["/etcd ", "/kube-apiserver "] {
        assert!(running.iter().any(|line| line.contains(program)), "{running:?}");
    }

    owner.kill().await.unwrap();
    let gone = async {
        while folder.exists() || !processes_of(folder).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(30), gone).await;
    gone.unwrap_or_else(|_| panic!("left: {:?}", processes_of(folder)));
}

#[tokio::test]
async fn the_controller_manager_deletes_what_lost_its_owner_and_whole_namespaces() {
    let options = Options { controller_manager: true, ..Options::default() };
    let cluster = ControlPlane::start(options).await.unwrap();
    let client = cluster.client().unwrap();
    let namespace = create_namespace(&client, "collected").await.unwrap();
    let maps = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
    put_config_map(&client, &namespace, "owner").await;
    let owner = maps.get("owner").await.unwrap();
    let dependent = serde_json::from_value(json!({
        "metadata": { "name": "dependent", "ownerReferences": [{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid(),
        }] },
    }));
    let params = PostParams::default();
    let dependent = maps.create(&params, &dependent.unwrap()).await.unwrap();
    let dependent_uid = dependent.uid().unwrap();

    let within = Duration::from_mins(1);
    let delete = DeleteParams::default();
    maps.delete("owner", &delete).await.unwrap();
    let gone = await_condition(maps, "dependent", is_deleted(&dependent_uid));
    tokio::time::timeout(within, gone).await.unwrap().unwrap();

    let namespaces = Api::<Namespace>::all(client);
    let uid = namespaces.get(&namespace).await.unwrap().uid().unwrap();
    namespaces.delete(&namespace, &delete).await.unwrap();
    let gone = await_condition(namespaces, &namespace, is_deleted(&uid));
    tokio::time::timeout(within, gone).await.unwrap().unwrap();
}
