//! How each of the control plane's processes is called.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::certificates::Certificates;

/// The addresses of Services, and the first of them: that of the Service `kubernetes`.
const SERVICE_ADDRESSES: &str = "10.0.0.0/24";
pub(super) const FIRST_SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// The only member of etcd's cluster, and the URL that it says its peers would find it at: nobody asks.
pub(super) const ETCD_NAME: &str = "weir";
pub(super) const ETCD_PEER: &str = "http://localhost:2380";

/// etcd listens on a socket file: no port to clash, and nobody else can read it.
pub(super) fn etcd_socket(folder: &Path) -> PathBuf {
    folder.join("etcd.sock")
}

pub(super) fn etcd_data(folder: &Path) -> PathBuf {
    folder.join("etcd")
}

pub(super) fn etcd_args(folder: &Path) -> Vec<OsString> {
    vec![
        format!("--name={ETCD_NAME}").into(),
        with_path("--data-dir=", &etcd_data(folder)),
        with_path("--listen-client-urls=unix://", &etcd_socket(folder)),
        // Nobody asks the only member for its address, but etcd insists on one with a port.
        "--advertise-client-urls=http://localhost:2379".into(),
        format!("--initial-advertise-peer-urls={ETCD_PEER}").into(),
        format!("--initial-cluster={ETCD_NAME}={ETCD_PEER}").into(),
        with_path("--listen-peer-urls=unix://", &folder.join("etcd-peer.sock")),
        // The data need not outlive this machine.
        "--unsafe-no-fsync".into(),
    ]
}

/// `node`: the address under which kubelets and pods reach it.
pub(super) fn api_server_args(
    folder: &Path,
    port: u16,
    certificates: &Certificates,
    node: Option<Ipv4Addr>,
) -> Vec<OsString> {
    let mut args = vec![
        with_path("--etcd-servers=unix://", &etcd_socket(folder)),
        format!("--secure-port={port}").into(),
        // We keep the port bound ourselves, so that it is still ours after a restart.
        "--permit-port-sharing".into(),
        format!("--service-cluster-ip-range={SERVICE_ADDRESSES}").into(),
        "--authorization-mode=Node,RBAC".into(),
        with_path("--client-ca-file=", &certificates.ca_file()),
        with_path("--tls-cert-file=", &certificates.server_certificate_file()),
        with_path("--tls-private-key-file=", &certificates.server_key_file()),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        with_path("--service-account-key-file=", &certificates.service_account_public_key_file()),
        with_path("--service-account-signing-key-file=", &certificates.service_account_key_file()),
    ];
    let (certificate, key) = certificates.kubelets_client_files();
    match node {
        None => args.extend([
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            // A loopback address is refused in the endpoints of the Service `kubernetes`.
            "--endpoint-reconciler-type=none".into(),
        ]),
        Some(address) => args.extend([
            "--bind-address=0.0.0.0".into(),
            format!("--advertise-address={address}").into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            "--kubelet-preferred-address-types=InternalIP".into(),
            with_path("--kubelet-client-certificate=", &certificate),
            with_path("--kubelet-client-key=", &key),
        ]),
    }
    args
}

pub(super) fn controller_manager_args(kubeconfig: &Path, certificates: &Certificates) -> Vec<OsString> {
    vec![
        with_path("--kubeconfig=", kubeconfig),
        // It is the only one, and a test should not wait for a lease.
        "--leader-elect=false".into(),
        // It serves nothing: no port to clash.
        "--secure-port=0".into(),
        with_path("--root-ca-file=", &certificates.ca_file()),
        with_path("--service-account-private-key-file=", &certificates.service_account_key_file()),
    ]
}

fn with_path(flag: &str, path: &Path) -> OsString {
    let mut arg = OsString::from(flag);
    arg.push(path);
    arg
}
