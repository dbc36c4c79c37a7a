//! What each process of the node is told, in its own words.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::images::SANDBOX;
use super::world::ADDRESS;
use super::{NAME, POD_ADDRESSES, POD_LOGS};

/// The files of a node, all in its own folder.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) folder: PathBuf,
}

impl Files {
    pub(super) fn containerd_socket(&self) -> PathBuf {
        self.folder.join("containerd.sock")
    }

    pub(super) fn cni(&self) -> PathBuf {
        self.folder.join("cni")
    }

    fn path(&self, name: &str) -> Value {
        json!(self.folder.join(name))
    }
}

/// containerd's, version 2 of its format, which later containerds translate.
pub(super) fn containerd(files: &Files, plugins: &Path) -> String {
    // A TOML string with these characters is a JSON string.
    let (root, state, opt) =
        (files.path("containerd/root"), files.path("containerd/state"), files.path("containerd/opt"));
    let (socket, cni, plugins) = (json!(files.containerd_socket()), json!(files.cni()), json!(plugins));
    format!(
        r#"version = 2
root = {root}
state = {state}

[grpc]
address = {socket}

[plugins."io.containerd.internal.v1.opt"]
path = {opt}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{SANDBOX}"
# Who is not root everywhere may not lower the score that they have, and runc would die without a word.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {plugins}
conf_dir = {cni}

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#
    )
}

/// Pods' network: each is routed by itself. On a bridge the answers of a neighbour behind a Service would not pass by
/// the rules that translate its address.
pub(super) fn cni(files: &Files) -> Value {
    let addresses = json!({
        "type": "host-local",
        "dataDir": files.path("cni-addresses"),
        "ranges": [[{ "subnet": POD_ADDRESSES }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    json!({
        "cniVersion": "1.0.0",
        "name": "weir",
        "plugins": [{ "type": "ptp", "ipMasq": false, "ipam": addresses }],
    })
}

pub(super) fn kubelet(files: &Files, ca: &Path) -> Value {
    let socket = files.containerd_socket();
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": ca },
        },
        "authorization": { "mode": "Webhook" },
        "containerRuntimeEndpoint": format!("unix://{}", socket.display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", super::cgroup(&files.folder)),
        // Machines that still have the first version run it too.
        "failCgroupV1": false,
        "failSwapOn": false,
        "clusterDNS": [ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": files.path("resolv.conf"),
        "podLogsDir": files.path(POD_LOGS),
        "volumePluginDir": files.path("volume-plugins"),
        // The disk is the machine's: how full it is is not the node's business.
        "evictionHard": { "memory.available": "50Mi", "nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%" },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    })
}

pub(super) fn kube_proxy(kubeconfig: &Path) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": { "kubeconfig": kubeconfig },
        "clusterCIDR": POD_ADDRESSES,
        "hostnameOverride": NAME,
        // These limits are the whole machine's, and not ours to change.
        "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
    })
}

/// Knows the cluster's names, and that there are no others: nothing leaves the node.
pub(super) fn coredns(kubeconfig: &Path, context: &str) -> String {
    let kubeconfig = kubeconfig.display();
    format!(
        r"cluster.local in-addr.arpa {{
    bind {ADDRESS}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig} {context}
        ttl 1
    }}
}}
. {{
    bind {ADDRESS}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"
    )
}
