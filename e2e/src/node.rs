//! A whole Kubernetes node in a world of its own: control plane, scheduler, containerd, kubelet, Services and DNS, with
//! the images that it is given. Nothing of it is seen from outside, and nothing stays.

mod configuration;
mod images;
mod requirements;
mod world;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::{Api, Client};
use tokio::net::{TcpStream, UnixStream};

use self::configuration::Files;
pub use self::world::{ADDRESS, FOLDER, from_outside};
use crate::child::{Child, last_lines};
use crate::control_plane::{CONTEXT, ControlPlane, Options, Program, pinned, sources, until_ready};
use crate::part::Part;
use crate::tools::Tools;

/// The node's name.
pub const NAME: &str = "node-0";

/// The addresses of its pods.
pub const POD_ADDRESSES: &str = "10.11.0.0/24";

/// Where a kubelet listens by itself.
const KUBELET_PORT: u16 = 10250;

/// The folder of what pods have printed.
const POD_LOGS: &str = "pod-logs";

/// Where the image archives lie, instead of `target/images`.
const IMAGES: &str = "WEIR_E2E_IMAGES";

/// A running node. It ends with the world that it was started in ([`enter`]).
pub struct Node {
    control_plane: ControlPlane,
    kubelet: Part,
    containerd: Part,
    /// Scheduler, kube-proxy, CoreDNS.
    others: Vec<Part>,
    tools: Tools,
    folder: PathBuf,
}

/// The files of the programs.
struct Programs {
    scheduler: PathBuf,
    kubelet: PathBuf,
    proxy: PathBuf,
    dns: PathBuf,
}

/// Runs `within` in a world of its own, which ends when it returns: this program starts itself once more there, with
/// the same arguments. It is an error, which says what is missing, if this machine cannot have a node.
pub fn enter(within: impl FnOnce() -> ExitCode) -> Result<ExitCode> {
    use Program::{Etcd, Helm, KubeApiserver, KubeControllerManager, Kubectl};
    if std::env::var_os(FOLDER).is_some() {
        return Ok(within());
    }
    requirements::check()?;
    archives()?;
    // No network leads out of a world: what has to be built or downloaded is so before.
    tokio::runtime::Runtime::new()?.block_on(async {
        Programs::get().await?;
        pinned(&[Etcd, KubeApiserver, KubeControllerManager, Kubectl, Helm]).await?;
        kubernetes_sources().await
    })?;
    world::run_again()
}

impl Node {
    /// Starts one, and returns when it is ready and has the images of `archives`.
    pub async fn start(archives: &[PathBuf]) -> Result<Self> {
        let folder = world::folder()?;
        let programs = Programs::get().await?;
        let options = Options { controller_manager: true, node: Some(ADDRESS) };
        let (control_plane, containerd) =
            tokio::try_join!(ControlPlane::start(options), start_containerd(&folder, archives))?;
        let others = [
            Part::new(&programs.scheduler, &folder, scheduler_args(&control_plane)?),
            Part::new(&programs.proxy, &folder, proxy_args(&folder, &control_plane)?),
            Part::new(&programs.dns, &folder, dns_args(&folder, &control_plane)?),
        ];
        for part in &others {
            part.start()?;
        }
        let kubelet = Part::new(&programs.kubelet, &folder, kubelet_args(&folder, &control_plane)?);
        let tools = Tools::new(control_plane.kubeconfig_path(), &folder).await?;
        let node = Self { control_plane, kubelet, containerd, others: others.into(), tools, folder };
        node.await_dns().await?;
        node.start_kubelet().await?;
        Ok(node)
    }

    /// Its API server, and what belongs to it.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// A client of the administrator, for the run time that it is made in.
    pub fn client(&self) -> Result<Client> {
        self.control_plane.client()
    }

    /// What the node keeps on its disk: the kubelet's volumes among it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `kubectl` and `helm`, as the administrator.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Gives an image of `just images` another tag.
    pub async fn tag_image(&self, image: &str, tag: &str, other: &str) -> Result<()> {
        let socket = Files { folder: self.folder.clone() }.containerd_socket();
        images::tag(&socket, &format!("weir.dev/{image}:{tag}"), &format!("weir.dev/{image}:{other}")).await
    }

    /// The kubelet's process: to pause it, to read its log.
    pub fn kubelet(&self) -> Result<Arc<Child>> {
        self.kubelet.child()
    }

    /// Ends the kubelet; its pods run on.
    pub async fn stop_kubelet(&self) -> Result<()> {
        self.kubelet.child()?.stop().await?;
        Ok(())
    }

    /// Starts the kubelet, again after it was stopped, and returns when the node is ready.
    pub async fn start_kubelet(&self) -> Result<()> {
        let child = self.kubelet.start()?;
        let nodes = Api::<NodeObject>::all(self.client()?);
        let ask = async || {
            // What the API server knows may be of before it was stopped.
            TcpStream::connect((ADDRESS, KUBELET_PORT)).await?;
            let node = nodes.get(NAME).await?;
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.iter().find(|condition| condition.type_ == "Ready").context("no word yet")?;
            ensure!(ready.status == "True", "{}", ready.message.as_deref().unwrap_or_default());
            Ok(())
        };
        until_ready(&child, ask).await
    }

    /// The ends of the logs of all that runs on the node, its pods included, for a test that failed.
    pub fn logs(&self) -> String {
        let parts = [&self.kubelet, &self.containerd].into_iter().chain(&self.others);
        let parts = parts.filter_map(|part| Some(part.child().ok()?.log_file().to_owned()));
        // `pod-logs/NAMESPACE_POD_UID/CONTAINER/RESTARTS.log`
        let pods = entries(&self.folder.join(POD_LOGS)).flat_map(|pod| entries(&pod)).flat_map(|pod| entries(&pod));
        let told = parts.chain(pods).map(|file| {
            let log = fs::read(&file).unwrap_or_default();
            format!("--- {}\n{}\n", file.display(), last_lines(&String::from_utf8_lossy(&log), 30))
        });
        told.collect()
    }

    async fn await_dns(&self) -> Result<()> {
        let dns = self.others.last().context("no CoreDNS")?.child()?;
        let ask = async || {
            TcpStream::connect((ADDRESS, 53)).await?;
            Ok(())
        };
        until_ready(&dns, ask).await
    }
}

impl Programs {
    async fn get() -> Result<Self> {
        use Program::{CoreDns, KubeProxy, KubeScheduler, Kubelet};
        let files = pinned(&[KubeScheduler, Kubelet, KubeProxy, CoreDns]).await?;
        let files: [PathBuf; 4] = files.try_into().ok().context("not every program was built")?;
        let [scheduler, kubelet, proxy, dns] = files;
        Ok(Self { scheduler, kubelet, proxy, dns })
    }
}

/// The folder of the programs that the images hold, as `just dist` has built them.
pub fn programs() -> Result<PathBuf> {
    Ok(images_folder()?.with_file_name("dist"))
}

fn images_folder() -> Result<PathBuf> {
    match std::env::var_os(IMAGES) {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => Ok(target()?.join("images")),
    }
}

/// The archives that `just images` has written.
pub fn archives() -> Result<Vec<PathBuf>> {
    let folder = images_folder()?;
    let is_archive = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "tar");
    let archives: Vec<_> = entries(&folder).filter(is_archive).collect();
    ensure!(!archives.is_empty(), "there are no images in {}: just images (or set {IMAGES})", folder.display());
    Ok(archives)
}

/// What is in a folder; nothing where there is none.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Cargo's target folder, from where this program lies in it.
fn target() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let target = exe.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    Ok(target.with_context(|| format!("{} is not where cargo puts what it builds", exe.display()))?.to_owned())
}

/// The name of the node's cgroups: that of its folder.
fn cgroup(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

async fn start_containerd(folder: &Path, archives: &[PathBuf]) -> Result<Part> {
    let files = Files { folder: folder.to_owned() };
    let plugins = requirements::cni_plugins().context("CNI's plugins are gone")?;
    let configuration = folder.join("containerd.toml");
    fs::write(&configuration, configuration::containerd(&files, &plugins))?;
    fs::create_dir(files.cni())?;
    fs::write(files.cni().join("weir.conflist"), configuration::cni(&files).to_string())?;
    let containerd = Part::new(Path::new("containerd"), folder, vec!["--config".into(), configuration.into()]);
    let child = containerd.start()?;
    let socket = files.containerd_socket();
    let connect = async || {
        UnixStream::connect(&socket).await?;
        Ok(())
    };
    until_ready(&child, connect).await?;
    let sandbox = images::sandbox_archive(&kubernetes_sources().await?, folder).await?;
    for archive in archives.iter().chain([&sandbox]) {
        images::import(&socket, archive).await?;
    }
    Ok(containerd)
}

/// The folder of Kubernetes' own module, which its programs were built from.
async fn kubernetes_sources() -> Result<PathBuf> {
    sources("control-plane", "k8s.io/kubernetes").await
}

fn scheduler_args(control_plane: &ControlPlane) -> Result<Vec<OsString>> {
    let kubeconfig = control_plane.kubeconfig_of("system:kube-scheduler", None)?;
    Ok(vec!["--kubeconfig".into(), kubeconfig.into(), "--leader-elect=false".into(), "--secure-port=0".into()])
}

fn proxy_args(folder: &Path, control_plane: &ControlPlane) -> Result<Vec<OsString>> {
    let kubeconfig = control_plane.kubeconfig_of("system:kube-proxy", None)?;
    let configuration = folder.join("kube-proxy.json");
    fs::write(&configuration, configuration::kube_proxy(&kubeconfig).to_string())?;
    Ok(vec!["--config".into(), configuration.into()])
}

fn dns_args(folder: &Path, control_plane: &ControlPlane) -> Result<Vec<OsString>> {
    let configuration = folder.join("Corefile");
    fs::write(&configuration, configuration::coredns(control_plane.kubeconfig_path(), CONTEXT))?;
    Ok(vec!["-conf".into(), configuration.into()])
}

fn kubelet_args(folder: &Path, control_plane: &ControlPlane) -> Result<Vec<OsString>> {
    let files = Files { folder: folder.to_owned() };
    let kubeconfig = control_plane.kubeconfig_of(&format!("system:node:{NAME}"), Some("system:nodes"))?;
    let configuration = folder.join("kubelet.json");
    fs::write(&configuration, configuration::kubelet(&files, &control_plane.ca_file()?).to_string())?;
    fs::write(folder.join("resolv.conf"), "")?;
    make_cgroups(&cgroup(folder))?;
    let kubelet = folder.join("kubelet");
    Ok(vec![
        "--config".into(),
        configuration.into(),
        "--kubeconfig".into(),
        kubeconfig.into(),
        "--root-dir".into(),
        kubelet.clone().into(),
        "--cert-dir".into(),
        kubelet.join("pki").into(),
        format!("--node-ip={ADDRESS}").into(),
        format!("--hostname-override={NAME}").into(),
    ])
}

/// The kubelet puts its pods' below one that has to be there: one of each hierarchy, or the only one.
fn make_cgroups(name: &str) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").is_file() {
        fs::write(root.join("cgroup.subtree_control"), "+cpuset +cpu +io +memory +pids")
            .context("the controllers of cgroups cannot be handed down")?;
        return Ok(fs::create_dir_all(root.join(name))?);
    }
    for hierarchy in fs::read_dir(root)? {
        let hierarchy = hierarchy?.path();
        // `unified` beside the others is one too; a name such as `cpu,cpuacct` may be a link to another.
        if !hierarchy.is_symlink() && hierarchy.join("cgroup.procs").is_file() {
            let group = hierarchy.join(name);
            fs::create_dir_all(&group).with_context(|| format!("cannot make the cgroup {}", group.display()))?;
        }
    }
    Ok(())
}
