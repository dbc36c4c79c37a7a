//! The cluster that Weir is installed in: a node of our own, or one that is there and that is not ours to take apart.

mod existing;

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use kube::Client;
use tokio::sync::OnceCell;

use self::existing::Existing;
use crate::control_plane::existing_kubeconfig;
use crate::node::{self, Node};
use crate::tools::{Tools, output};

/// Where the chart's and the examples' images are, which are built here.
pub const HOME: &str = "weir.dev";

pub enum Cluster {
    Own(Node),
    Existing(Existing),
}

/// Whether the cluster is one that is there already (`WEIR_E2E_KUBECONFIG`).
pub fn is_existing() -> bool {
    existing_kubeconfig().is_some()
}

/// Whether images can be given another tag there: in our own containerd, or in the registry of an existing cluster.
pub fn can_tag() -> bool {
    !is_existing() || existing::registry().is_some()
}

impl Cluster {
    /// The one that all tests of this process share; the first who asks starts it, or looks at it.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        let start = || async {
            match existing_kubeconfig() {
                Some(kubeconfig) => Ok(Self::Existing(Existing::reach(&kubeconfig).await?)),
                None => Ok(Self::Own(Node::start(&node::archives()?).await?)),
            }
        };
        SHARED.get_or_try_init(start).await
    }

    /// The node, where it is ours.
    pub fn node(&self) -> Result<&Node> {
        match self {
            Self::Own(node) => Ok(node),
            Self::Existing(_) => None.context("an existing cluster has no node of ours"),
        }
    }

    pub fn tools(&self) -> &Tools {
        match self {
            Self::Own(node) => node.tools(),
            Self::Existing(existing) => &existing.tools,
        }
    }

    /// A client of the administrator, for the run time that it is made in.
    pub fn client(&self) -> Result<Client> {
        match self {
            Self::Own(node) => node.client(),
            Self::Existing(existing) => existing.control_plane.client(),
        }
    }

    /// An address of this machine that pods reach.
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Own(_) => node::ADDRESS.into(),
            Self::Existing(existing) => existing.address,
        }
    }

    /// Where pods find Weir's images.
    pub fn images(&self) -> &str {
        match self {
            Self::Existing(Existing { registry: Some(registry), .. }) => registry,
            _ => HOME,
        }
    }

    /// Gives an image another tag.
    pub async fn tag_image(&self, image: &str, tag: &str, other: &str) -> Result<()> {
        match self {
            Self::Own(node) => node.tag_image(image, tag, other).await,
            Self::Existing(existing) => existing.tag_image(image, tag, other).await,
        }
    }

    /// What is there to see after a failed test.
    pub async fn logs(&self) -> String {
        match self {
            Self::Own(node) => node.logs(),
            Self::Existing(_) => {
                let mut kubectl = self.tools().kubectl();
                kubectl.args(["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]);
                output(&mut kubectl).await.unwrap_or_else(|error| format!("{error:#}"))
            }
        }
    }
}
