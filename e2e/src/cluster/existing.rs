//! A cluster that is there, and the registry that its nodes pull from.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::control_plane::ControlPlane;
use crate::node;
use crate::scratch_folder::ScratchFolder;
use crate::tools::{Tools, output};

/// Where the images are put and pulled from, like `registry.example.com/weir`. Without one the cluster has them already, under
/// the names of `just images`.
const REGISTRY: &str = "WEIR_E2E_REGISTRY";

/// The address of this machine that the cluster's pods reach, instead of the one that the API server sees.
const ADDRESS: &str = "WEIR_E2E_ADDRESS";

pub struct Existing {
    pub(super) control_plane: ControlPlane,
    pub(super) tools: Tools,
    pub(super) address: IpAddr,
    pub(super) registry: Option<String>,
    _folder: ScratchFolder,
}

impl Existing {
    /// Looks at the cluster whose administrator's `kubeconfig` it is, and puts the images where it finds them.
    pub(super) async fn reach(kubeconfig: &Path) -> Result<Self> {
        let folder = ScratchFolder::new("existing")?;
        // A copy: which namespace is the current one is nobody else's business.
        let copy = folder.path().join("kubeconfig");
        let own = Tools::new(kubeconfig, folder.path()).await?;
        let flat = output(own.kubectl().args(["config", "view", "--raw", "--flatten", "--minify"])).await?;
        std::fs::write(&copy, flat)?;
        let tools = Tools::new(&copy, folder.path()).await?;
        ensure_free(&tools).await?;
        let control_plane = ControlPlane::existing(&copy).await?;
        let address = address(&control_plane)?;
        let existing = Self { control_plane, tools, address, registry: registry(), _folder: folder };
        existing.push().await?;
        Ok(existing)
    }

    /// Puts the archives of `just images` into the registry.
    async fn push(&self) -> Result<()> {
        let Some(registry) = &self.registry else {
            eprintln!("no {REGISTRY}: the cluster's nodes have to have the images of `just images` already");
            return Ok(());
        };
        for archive in node::archives()? {
            let name = archive.file_stem().and_then(|name| name.to_str()).context("no name")?;
            let tag = env!("CARGO_PKG_VERSION");
            copy(&format!("oci-archive:{}", archive.display()), &format!("docker://{registry}/{name}:{tag}")).await?;
        }
        Ok(())
    }

    pub(super) async fn tag_image(&self, image: &str, tag: &str, other: &str) -> Result<()> {
        let registry = self.registry.as_ref().with_context(|| format!("without {REGISTRY} no image can be tagged"))?;
        let name = format!("docker://{registry}/{image}");
        copy(&format!("{name}:{tag}"), &format!("{name}:{other}")).await
    }
}

pub(super) fn registry() -> Option<String> {
    std::env::var(REGISTRY).ok().filter(|registry| !registry.is_empty())
}

/// It has the logins and the settings (`registries.conf`) of who runs it.
async fn copy(from: &str, to: &str) -> Result<()> {
    let mut skopeo = Command::new("skopeo");
    let copied = output(skopeo.args(["copy", "--quiet", from, to])).await;
    copied.with_context(|| {
        format!("{from} cannot be copied to {to}: skopeo has to be there (apt-get install skopeo), and logged in (skopeo login)")
    })?;
    Ok(())
}

/// Nobody's Weir is there: it would be upgraded, stopped and taken away.
async fn ensure_free(tools: &Tools) -> Result<()> {
    let here = ["get", "namespaces,customresourcedefinitions,mutatingwebhookconfigurations", "--output=name"];
    let found = output(tools.kubectl().args(here)).await?;
    let ours: Vec<&str> = found
        .lines()
        .filter(|name| name.ends_with(".weir.dev") || name.ends_with("/weir-system") || name.ends_with("/weir-webhook"))
        .collect();
    ensure!(
        ours.is_empty(),
        "Weir is, or was, installed in this cluster ({}), and these tests install it, break it and take it away: give them another \
         one, or remove what is there: helm uninstall weir --namespace weir-system; kubectl delete {}",
        ours.join(", "),
        ours.join(" ")
    );
    Ok(())
}

/// The address that this machine has on the way to the API server.
fn address(control_plane: &ControlPlane) -> Result<IpAddr> {
    if let Ok(told) = std::env::var(ADDRESS) {
        return told.parse().with_context(|| format!("{ADDRESS}={told} is no IP address"));
    }
    let url = control_plane.config().cluster_url;
    let host = url.host().context("the kubeconfig's server has no host")?.trim_matches(['[', ']']);
    let port = url.port_u16().unwrap_or(443);
    let mut servers = std::net::ToSocketAddrs::to_socket_addrs(&(host, port))?;
    let server: SocketAddr = servers.next().with_context(|| format!("{host} has no address"))?;
    let from = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(from)?;
    // Nothing is sent.
    socket.connect(server)?;
    let address = socket.local_addr()?.ip();
    ensure!(
        !address.is_loopback(),
        "the API server is on this machine's loopback, where pods do not reach it: set {ADDRESS} to an address of this machine that \
         they reach"
    );
    Ok(address)
}
