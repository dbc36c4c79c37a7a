//! How a site comes up.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Result, ensure};
use kube::Client;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use weir_feed::periods::Periods;

use super::certificates::Certificates;
use super::operator::Operator;
use super::process::Process;
use super::streamer::{Entry, Streamer};
use super::world::{Cluster, World};
use super::{PERIODS, Site, feed_url, http_client, rbac};
use crate::api_proxy::ApiProxy;
use crate::control_plane::{ControlPlane, Options, apply_crds, create_namespace, pod_bound_token};
use crate::one_way_proxy::OneWayProxy;
use crate::programs::Programs;
use crate::registry::Registry;
use crate::scratch_folder::ScratchFolder;

/// Sites that run at one time, more or less; one with a control plane of its own counts twice.
static PLACES: Semaphore = Semaphore::const_new(6);

/// The ServiceAccount of the streamers' pods.
const STREAMERS: &str = "streamer";
/// The audience of tokens that are meant for the feed.
const AUDIENCE: &str = "weir.dev";
/// How long a sidecar's token is good.
const EXPIRY_S: i64 = 3_600;
/// Where Streams are that no API server has.
const NAMESPACE: &str = "media";

/// Where a site's objects are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A namespace of the control plane that this process's sites share.
    Shared,
    /// A namespace of a control plane of its own.
    Own,
    /// A directory of manifests.
    Manifests,
}

/// What a site is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    pub place: Place,
    pub operators: usize,
    /// Between each operator and the API server is a proxy of its own, [`Operator::api`].
    pub proxied: bool,
    /// `s1`, `s2` …
    pub streamers: usize,
    /// More arguments for every streamer-sim.
    pub streamer_args: Vec<String>,
    /// Somebody kills a streamer when its sidecar's `GET /lease` says so, and it boots with an empty configuration.
    pub supervised: bool,
    /// Weir's times; streamers poll accordingly.
    pub periods: Periods,
    /// `RUST_LOG` of operators and sidecars.
    pub log: String,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            place: Place::Shared,
            operators: 1,
            proxied: false,
            streamers: 3,
            streamer_args: Vec::new(),
            supervised: false,
            periods: PERIODS,
            log: "info".to_owned(),
        }
    }
}

impl Site {
    /// Starts everything, and returns when an operator leads and every streamer is Ready.
    pub async fn start(name: &str, plan: Plan) -> Result<Self> {
        let mut site = Self::prepare(name, &plan).await?;
        site.start_processes().await?;
        Ok(site)
    }

    /// Starts every process of a site that was only prepared, and returns when it is as after [`Site::start`].
    pub async fn start_processes(&mut self) -> Result<()> {
        for operator in &mut self.operators {
            operator.process.start()?;
        }
        for streamer in &mut self.streamers {
            streamer.start()?;
        }
        for operator in &self.operators {
            operator.await_ready().await?;
        }
        self.await_leader().await?;
        self.await_streamers_ready().await
    }

    /// Makes everything, and starts no process.
    pub async fn prepare(name: &str, plan: &Plan) -> Result<Self> {
        let place = place_for(plan.place).await?;
        let programs = Programs::get().await?;
        let folder = ScratchFolder::new(name)?;
        let registry = Registry::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let (world, namespace, operators) = match plan.place {
            Place::Manifests => in_manifests(plan, programs, folder.path())?,
            Place::Shared | Place::Own => in_kubernetes(name, plan, programs, folder.path()).await?,
        };
        let mut site = Self {
            name: name.to_owned(),
            namespace,
            registry,
            operators,
            streamers: Vec::new(),
            cut_off: Vec::new(),
            canaries: Vec::new(),
            periods: plan.periods,
            supervised: plan.supervised,
            world,
            folder,
            finished: false,
            _place: place,
        };
        for number in 1..=plan.streamers {
            let name = format!("s{number}");
            let entry = site.entry(&name).await?;
            site.add_streamer(&name, &entry, &plan.streamer_args).await?;
        }
        let logs = site.operators.iter_mut().map(|operator| &mut operator.process);
        let logs = logs.chain(site.streamers.iter_mut().map(|streamer| &mut streamer.sidecar));
        logs.for_each(|process| process.env.push(("RUST_LOG".to_owned(), plan.log.clone().into())));
        Ok(site)
    }

    /// Goes on in a namespace of its own beside that of the operators, who look after it from their next start on. Streamers that are added
    /// from now on are of this one.
    pub async fn move_to_another_namespace(&mut self) -> Result<()> {
        let client = self.client()?;
        let namespace = create_namespace(&client, &format!("{}-media", self.name.replace('_', "-"))).await?;
        rbac::let_look_after(&client, &self.namespace, &namespace).await?;
        for operator in &mut self.operators {
            operator.process.flag("namespace", &namespace);
        }
        self.namespace = namespace;
        Ok(())
    }

    /// How the sidecar of the pod `name` reaches the feed: with a token that the API server has bound to that pod.
    pub async fn entry(&self, name: &str) -> Result<Entry> {
        self.entry_with(name, AUDIENCE).await
    }

    /// As [`Site::entry`], with a token for another audience.
    pub async fn entry_with(&self, name: &str, audience: &str) -> Result<Entry> {
        let scheme = if matches!(self.world, World::Manifests { .. }) { "http" } else { "https" };
        let feeds = self.operators.iter().map(|operator| feed_url(scheme, operator.feed)).collect();
        let entry = Entry { feeds, namespace: self.namespace.clone(), streamer: name.to_owned(), ..Entry::default() };
        let World::Kubernetes { client, .. } = &self.world else {
            return Ok(entry);
        };
        let bound = pod_bound_token(client, &self.namespace, name, STREAMERS, audience, EXPIRY_S).await?;
        let token = self.folder().join(format!("{name}.{}.token", audience.replace(['/', ':'], "-")));
        std::fs::write(&token, &bound.token)?;
        let authority = Some(self.folder().join("tls/ca.crt"));
        Ok(Entry { authority, token: Some(token), instance: Some(bound.pod_uid), ..entry })
    }

    /// Adds a streamer and its sidecar, without starting them. `name` is that of its processes and files, and in [`Site::streamer`].
    pub async fn add_streamer(&mut self, name: &str, entry: &Entry, args: &[String]) -> Result<()> {
        let programs = Programs::get().await?;
        let mut streamer =
            Streamer::new(name, entry, args, self.registry.addr(), &self.periods, self.folder(), programs)?;
        if self.supervised {
            streamer.supervise(&self.periods, self.folder(), programs);
        }
        self.streamers.push(streamer);
        Ok(())
    }

    /// The same for one whose sidecar reaches the first operator through a proxy alone, which is returned.
    pub async fn add_streamer_behind_proxy(&mut self, name: &str) -> Result<OneWayProxy> {
        let proxy = OneWayProxy::start(self.operators[0].feed).await?;
        let entry = Entry { feeds: vec![feed_url("https", proxy.address())], ..self.entry(name).await? };
        self.add_streamer(name, &entry, &[]).await?;
        Ok(proxy)
    }
}

async fn place_for(place: Place) -> Result<SemaphorePermit<'static>> {
    let weight = if place == Place::Own { 2 } else { 1 };
    Ok(PLACES.acquire_many(weight).await?)
}

type Made = (World, String, Vec<Operator>);

async fn in_kubernetes(name: &str, plan: &Plan, programs: &Programs, folder: &Path) -> Result<Made> {
    let cluster = match plan.place {
        Place::Own => Cluster::Own(Box::new(ControlPlane::start(Options::default()).await?)),
        _ => Cluster::Shared(ControlPlane::shared().await?),
    };
    let client = cluster.client()?;
    match &cluster {
        Cluster::Own(_) => apply_definitions(&client).await?,
        Cluster::Shared(_) => {
            static APPLIED: OnceCell<()> = OnceCell::const_new();
            APPLIED.get_or_try_init(|| apply_definitions(&client)).await?;
        }
    }
    let namespace = create_namespace(&client, &name.replace('_', "-")).await?;
    let token = rbac::operator_token(&client, &namespace).await?;
    let tls = Certificates::make(&folder.join("tls"))?;
    let mut operators = Vec::new();
    for number in 0..plan.operators {
        let name = format!("operator-{number}");
        let proxy = if plan.proxied { Some(ApiProxy::start(&cluster.config()).await?) } else { None };
        let kubeconfig = folder.join(format!("{name}.kubeconfig"));
        let through = proxy.as_ref().map(ApiProxy::url);
        std::fs::write(&kubeconfig, cluster.kubeconfig_for(&token, through.as_deref())?)?;
        let more = |process: &mut Process, feed| {
            process.flag("own-namespace", &namespace);
            process.flag("kubeconfig", &kubeconfig);
            process.flag("tls-cert", &tls.certificate);
            process.flag("tls-key", &tls.key);
            process.flag("feed-advertise", feed_url("https", feed));
        };
        let mut operator = Operator::new(&name, &programs.operator(), &namespace, folder, &plan.periods, more)?;
        operator.proxy = proxy;
        operators.push(operator);
    }
    Ok((World::Kubernetes { cluster, client }, namespace, operators))
}

pub(super) async fn apply_definitions(client: &Client) -> Result<()> {
    apply_crds(client, &weir_crds::crds_yaml()).await?;
    rbac::apply_roles(client).await
}

fn in_manifests(plan: &Plan, programs: &Programs, folder: &Path) -> Result<Made> {
    ensure!(plan.operators == 1, "one operator works on a directory of manifests");
    let (manifests, state) = (folder.join("manifests"), folder.join("state"));
    std::fs::create_dir_all(&manifests)?;
    let operator =
        Operator::new("operator-0", &programs.operator(), NAMESPACE, folder, &plan.periods, |process, _| {
            process.flag("manifests", &manifests);
            process.flag("state", &state);
            process.args.push("--feed-insecure".into());
        })?;
    let world = World::Manifests { manifests, http: http_client()?, operator: operator.http };
    Ok((world, NAMESPACE.to_owned(), vec![operator]))
}
