//! The control plane's processes: how each is called, and a place for one that comes and goes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};

use super::binaries::Program;
use super::certificates::Certificates;
use crate::child::Child;

/// The addresses of Services, and the first of them: that of the Service `kubernetes`.
const SERVICE_ADDRESSES: &str = "10.0.0.0/24";
pub(super) const FIRST_SERVICE_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 0, 1);

/// The only member of etcd's cluster, and the URL that it says its peers would find it at: nobody asks.
pub(super) const ETCD_NAME: &str = "weir";
pub(super) const ETCD_PEER: &str = "http://localhost:2380";

/// A process that can be ended and started again with the same arguments.
pub(super) struct Part {
    program: Program,
    file: PathBuf,
    args: Vec<OsString>,
    log_file: PathBuf,
    child: Mutex<Option<Arc<Child>>>,
}

impl Part {
    /// `binaries` is the folder of the programs, `folder` takes the log.
    pub(super) fn new(program: Program, binaries: &Path, folder: &Path, args: Vec<OsString>) -> Self {
        Self {
            program,
            file: binaries.join(program.file_name()),
            args,
            log_file: folder.join(format!("{program}.log")),
            child: Mutex::default(),
        }
    }

    /// Starts it; what it printed before stays in the log. It is an error if it runs already.
    pub(super) fn start(&self) -> Result<Arc<Child>> {
        let mut slot = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let running = slot.as_ref().is_some_and(|child| child.is_running());
        ensure!(!running, "{} is running already", self.program);
        let name = self.program.file_name();
        let no_env = std::iter::empty::<(&str, &str)>();
        let child = Child::spawn(name, &self.file, &self.args, no_env, &self.log_file)?;
        let child = Arc::new(child);
        *slot = Some(Arc::clone(&child));
        Ok(child)
    }

    /// The process as it was started last.
    pub(super) fn child(&self) -> Result<Arc<Child>> {
        let slot = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let child = slot.clone();
        child.with_context(|| format!("{} was never started", self.program))
    }

    pub(super) fn is_running(&self) -> bool {
        self.child().is_ok_and(|child| child.is_running())
    }
}

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

pub(super) fn api_server_args(folder: &Path, port: u16, certificates: &Certificates) -> Vec<OsString> {
    vec![
        with_path("--etcd-servers=unix://", &etcd_socket(folder)),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={port}").into(),
        // We keep the port bound ourselves, so that it is still ours after a restart.
        "--permit-port-sharing".into(),
        "--advertise-address=127.0.0.1".into(),
        // A loopback address is refused in the endpoints of the Service `kubernetes`.
        "--endpoint-reconciler-type=none".into(),
        format!("--service-cluster-ip-range={SERVICE_ADDRESSES}").into(),
        "--authorization-mode=Node,RBAC".into(),
        with_path("--client-ca-file=", &certificates.ca_file()),
        with_path("--tls-cert-file=", &certificates.server_certificate_file()),
        with_path("--tls-private-key-file=", &certificates.server_key_file()),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        with_path("--service-account-key-file=", &certificates.service_account_public_key_file()),
        with_path("--service-account-signing-key-file=", &certificates.service_account_key_file()),
    ]
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
