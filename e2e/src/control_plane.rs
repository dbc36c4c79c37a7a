//! A real Kubernetes control plane: etcd and kube-apiserver, and kube-controller-manager for
//! those who need it, on loopback, with certificates of their own.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use weir_e2e::control_plane::{ControlPlane, create_namespace};
//!
//! let cluster = ControlPlane::shared().await?;
//! let client = cluster.client()?;
//! let namespace = create_namespace(&client, "failover").await?;
//! # Ok(())
//! # }
//! ```

mod binaries;
mod certificates;
mod kubeconfig;
mod objects;
mod processes;
mod restore;
mod token;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use axum::http::Request;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::Value;
use tokio::net::{TcpSocket, UnixStream};
use tokio::sync::OnceCell;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

pub use self::binaries::{Program, binaries, pinned, sources};
use self::certificates::Certificates;
pub(crate) use self::kubeconfig::CONTEXT;
pub use self::objects::{MADE_HERE, PodToken, apply_crds, create_namespace, pod_bound_token, service_account_token};
use crate::child::Child;
use crate::part::Part;
use crate::scratch_folder::ScratchFolder;

/// The kubeconfig of a cluster to run the tests in, instead of a control plane of our own.
const EXISTING: &str = "WEIR_E2E_KUBECONFIG";

/// How long a part may take to be ready. It takes seconds, but several may start at once.
const READY_WITHIN: Duration = Duration::from_mins(2);

/// How often a part that starts is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// What [`ControlPlane::start`] starts.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Also kube-controller-manager: garbage collection by owner reference, deletion of
    /// namespaces, default ServiceAccounts, workloads.
    pub controller_manager: bool,
    /// The address under which kubelets and pods reach the API server. Without one nobody but this machine does, and
    /// `KUBEBUILDER_ASSETS` is honoured.
    pub node: Option<Ipv4Addr>,
}

/// A running control plane. Its processes end and its data goes when it is dropped, or when this
/// process dies.
pub struct ControlPlane {
    config: Config,
    kubeconfig: Value,
    kubeconfig_path: PathBuf,
    own: Option<Own>,
}

/// What runs when the cluster is ours. The order is that of their end.
struct Own {
    controller_manager: Part,
    api_server: Part,
    etcd: Part,
    binaries: PathBuf,
    certificates: Certificates,
    port: u16,
    /// Holds the port, so that nobody takes it while the API server is down.
    _port: TcpSocket,
    folder: ScratchFolder,
}

impl ControlPlane {
    /// Starts one, and returns when it is ready. The first run builds its programs.
    pub async fn start(options: Options) -> Result<Self> {
        let mut programs = vec![Program::Etcd, Program::KubeApiserver];
        if options.controller_manager {
            programs.push(Program::KubeControllerManager);
        }
        let binaries = match options.node {
            None => binaries(&programs).await?,
            Some(_) => folder_of(&pinned(&programs).await?)?,
        };
        let control_plane = Self::prepare(binaries, options.node).await?;
        control_plane.start_etcd().await?;
        control_plane.start_api_server().await?;
        if options.controller_manager {
            control_plane.start_controller_manager().await?;
        }
        Ok(control_plane)
    }

    /// The one that the tests of this process share: it is started by the first who asks. If
    /// `WEIR_E2E_KUBECONFIG` is set, it is the cluster of that kubeconfig.
    pub async fn shared() -> Result<&'static Self> {
        // Nothing in it belongs to the runtime of the test that came first; nobody drops
        // a static, but the watchdogs see this process end.
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        let start = || async {
            match existing_kubeconfig() {
                Some(path) => Self::existing(&path).await,
                None => Self::start(Options::default()).await,
            }
        };
        SHARED.get_or_try_init(start).await
    }

    /// A cluster that is there already, and that is not ours to stop.
    pub async fn existing(kubeconfig_path: &Path) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig_path)
            .with_context(|| format!("cannot read {}", kubeconfig_path.display()))?;
        let kubeconfig = serde_json::to_value(kubeconfig)?;
        Ok(Self {
            config: config_of(&kubeconfig).await?,
            kubeconfig,
            kubeconfig_path: std::path::absolute(kubeconfig_path)?,
            own: None,
        })
    }

    /// Everything but the processes.
    async fn prepare(binaries: PathBuf, node: Option<Ipv4Addr>) -> Result<Self> {
        let scratch = ScratchFolder::new("control-plane")?;
        let folder = scratch.path();
        let (held_port, port) = hold_port().context("cannot find a free port on 127.0.0.1")?;
        let addresses: Vec<_> = node.into_iter().chain([processes::FIRST_SERVICE_ADDRESS]).collect();
        let certificates = Certificates::make(&folder.join("certificates"), &addresses)?;
        let kubeconfig = kubeconfig::of_administrator(port, &certificates);
        let kubeconfig_path = folder.join("kubeconfig");
        std::fs::write(&kubeconfig_path, format!("{kubeconfig:#}\n"))?;

        let etcd = processes::etcd_args(folder);
        let api_server = processes::api_server_args(folder, port, &certificates, node);
        let manager = processes::controller_manager_args(&kubeconfig_path, &certificates);
        let new = |program: Program, args| Part::new(&binaries.join(program.file_name()), folder, args);
        let own = Own {
            controller_manager: new(Program::KubeControllerManager, manager),
            api_server: new(Program::KubeApiserver, api_server),
            etcd: new(Program::Etcd, etcd),
            binaries,
            certificates,
            port,
            _port: held_port,
            folder: scratch,
        };
        Ok(Self { config: config_of(&kubeconfig).await?, kubeconfig, kubeconfig_path, own: Some(own) })
    }

    /// The administrator's kubeconfig file.
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig_path
    }

    /// The content of the administrator's kubeconfig.
    pub fn kubeconfig(&self) -> String {
        format!("{:#}\n", self.kubeconfig)
    }

    /// The content of a kubeconfig for the owner of `token`, such as an operator with its own
    /// ServiceAccount ([`service_account_token`]); `through`: the URL of a proxy before the API server.
    pub fn kubeconfig_for(&self, token: &str, through: Option<&str>) -> Result<String> {
        let mut kubeconfig = kubeconfig::of_token(&self.kubeconfig, token)?;
        if let Some(server) = through {
            kubeconfig["clusters"][0]["cluster"] = serde_json::json!({ "server": server });
        }
        Ok(format!("{kubeconfig:#}\n"))
    }

    /// The administrator's configuration for [`Client`]s.
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// A client of the administrator. It lives as long as the runtime it is made in, so each test
    /// makes its own.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::try_from(self.config())?)
    }

    /// The folder of the programs: `kubectl` is there once [`binaries`] was asked for it.
    pub fn binaries(&self) -> Result<&Path> {
        Ok(&self.own("its programs are not here")?.binaries)
    }

    /// etcd's data, to be copied while etcd is down or by a snapshot.
    pub fn etcd_data_dir(&self) -> Result<PathBuf> {
        let own = self.own("its etcd is not here")?;
        Ok(processes::etcd_data(own.folder.path()))
    }

    /// The API server's process: to pause it, to read its log.
    pub fn api_server(&self) -> Result<Arc<Child>> {
        self.own("its API server is not ours")?.api_server.child()
    }

    /// etcd's process.
    pub fn etcd(&self) -> Result<Arc<Child>> {
        self.own("its etcd is not ours")?.etcd.child()
    }

    /// Starts the API server, again after it was stopped or killed, at the same address and with
    /// the same data, and returns when it is ready.
    pub async fn start_api_server(&self) -> Result<()> {
        let own = self.own("its API server is not ours to start")?;
        let child = own.api_server.start()?;
        self.await_api_server(&child).await
    }

    /// Ends the API server as a shut-down does: it lets requests finish.
    pub async fn stop_api_server(&self) -> Result<()> {
        let own = self.own("its API server is not ours to stop")?;
        own.api_server.child()?.stop().await?;
        Ok(())
    }

    /// Kills the API server (SIGKILL).
    pub async fn kill_api_server(&self) -> Result<()> {
        let own = self.own("its API server is not ours to kill")?;
        own.api_server.child()?.kill9().await
    }

    /// Starts etcd, again after it was stopped or killed, with the same data, and returns when it
    /// answers and the API server, if it runs, is ready again.
    pub async fn start_etcd(&self) -> Result<()> {
        let own = self.own("its etcd is not ours to start")?;
        let child = own.etcd.start()?;
        let socket = processes::etcd_socket(own.folder.path());
        let connect = async || {
            UnixStream::connect(&socket).await?;
            Ok(())
        };
        until_ready(&child, connect).await?;
        if own.api_server.is_running() {
            self.await_api_server(&*own.api_server.child()?).await?;
        }
        Ok(())
    }

    /// Ends etcd as a shut-down does.
    pub async fn stop_etcd(&self) -> Result<()> {
        let own = self.own("its etcd is not ours to stop")?;
        own.etcd.child()?.stop().await?;
        Ok(())
    }

    /// Kills etcd (SIGKILL).
    pub async fn kill_etcd(&self) -> Result<()> {
        let own = self.own("its etcd is not ours to kill")?;
        own.etcd.child()?.kill9().await
    }

    /// Starts kube-controller-manager, which [`Options`] leave out by default.
    pub async fn start_controller_manager(&self) -> Result<()> {
        let own = self.own("its controller manager is not ours to start")?;
        if !own.binaries.join(Program::KubeControllerManager.file_name()).is_file() {
            binaries(&[Program::KubeControllerManager]).await?;
        }
        let child = own.controller_manager.start()?;
        // The first thing that only the controller manager makes.
        let accounts = Api::<ServiceAccount>::default_namespaced(self.client()?);
        let ask = async || {
            accounts.get("default").await?;
            Ok(())
        };
        until_ready(&child, ask).await
    }

    /// A kubeconfig file beside the administrator's, for a `user` of `group`: a part of a node.
    pub(crate) fn kubeconfig_of(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let own = self.own("its certificates are not ours to make")?;
        let (certificate, key) = own.certificates.client(user, group)?;
        let kubeconfig = kubeconfig::of_client(user, (&certificate, &key), own.port, &own.certificates);
        let path = own.folder.path().join(format!("kubeconfig-{}", user.replace(':', "-")));
        std::fs::write(&path, format!("{kubeconfig:#}\n"))?;
        Ok(path)
    }

    /// A ServiceAccount's token with other claims, as the API server itself would have signed it.
    pub fn sign_again(&self, token: &str, change: impl FnOnce(&mut Value)) -> Result<String> {
        let own = self.own("its key is not here")?;
        let key = std::fs::read_to_string(own.certificates.service_account_key_file())?;
        token::sign_again(token, &key, change)
    }

    /// What clients' certificates are checked with.
    pub(crate) fn ca_file(&self) -> Result<PathBuf> {
        Ok(self.own("its certificates are not here")?.certificates.ca_file())
    }

    fn own(&self, why: &str) -> Result<&Own> {
        let Some(own) = &self.own else {
            bail!("{EXISTING} names an existing cluster, and {why}: unset it to have one started");
        };
        Ok(own)
    }

    async fn await_api_server(&self, child: &Child) -> Result<()> {
        let mut config = self.config();
        // A probe tells what it sees.
        config.default_retry = false;
        let client = Client::try_from(config)?;
        let namespaces = Api::<Namespace>::all(client.clone());
        let ask = async || {
            let readyz = Request::get("/readyz?verbose").body(Vec::new())?;
            client.request_text(readyz).await?;
            // It is made a moment after that.
            namespaces.get("default").await?;
            Ok(())
        };
        until_ready(child, ask).await
    }
}

/// `WEIR_E2E_KUBECONFIG`, if it is set: the kubeconfig of a cluster that is there.
pub(crate) fn existing_kubeconfig() -> Option<PathBuf> {
    std::env::var_os(EXISTING).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Asks until the answer is yes, the process has ended, or the time is up.
pub(crate) async fn until_ready(child: &Child, ask: impl AsyncFn() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    let poll = async {
        loop {
            // Otherwise kube logs each answer that is not yet a yes as an error.
            match ask().with_subscriber(NoSubscriber::new()).await {
                Ok(()) => return,
                Err(error) => tracing::trace!(%error, "{} is not ready", child.name()),
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    let what = tokio::select! {
        () = poll => {
            tracing::debug!("{} is ready after {:?}", child.name(), started.elapsed());
            return Ok(());
        }
        status = child.wait() => format!("ended while it started ({status})"),
        () = tokio::time::sleep(READY_WITHIN) => format!("is not ready after {READY_WITHIN:?}"),
    };
    let (name, tail) = (child.name(), child.log_tail(20));
    bail!("{name} {what}; the end of its log:\n{tail}")
}

fn folder_of(programs: &[PathBuf]) -> Result<PathBuf> {
    Ok(programs.first().and_then(|program| program.parent()).context("no program")?.to_owned())
}

async fn config_of(kubeconfig: &Value) -> Result<Config> {
    // An error means that somebody has chosen a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::from_yaml(&kubeconfig.to_string())?;
    let options = KubeConfigOptions::default();
    Ok(Config::from_custom_kubeconfig(kubeconfig, &options).await?)
}

/// A free port, and the socket that keeps it bound without listening: a connection is refused
/// until the API server, which shares the port, listens.
fn hold_port() -> Result<(TcpSocket, u16)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}
