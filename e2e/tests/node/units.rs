//! Weir without Kubernetes, on a machine that systemd runs: the units of `dist/systemd` and the commands that they and
//! `docs/without-kubernetes.md` give, literally.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;
use tokio::sync::OnceCell;
use weir_e2e::demo::declared::{Declared, objects};
use weir_e2e::node;
use weir_e2e::registry::{NowReading, Registry, each_once};
use weir_e2e::site::until;
use weir_e2e::tools::output;

use crate::site::PATIENCE;
use crate::systemd_machine::Machine;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// The one streamer of this site.
const STREAMER: &str = "media-1";
const FEED: &str = "operator.example.com";
/// All but what `weir-lease@.service` takes to kill a streamer, so that what waits for them is over in seconds.
const PERIODS: &str = "--period-poll=400ms --period-ping=200ms --period-silence=1s --period-alive=1500ms --period-lease=3s \
                       --period-takeover=2s --period-release=3s --period-stream-lease=6s";
const SUPERVISED: &str = "weir-lease@flussonic";
/// The stream with `failover.partition: StopCapturing`.
const LEASED: &str = "rights";
const ALL: &str = "flussonic weir-lease@flussonic weir-sidecar weir-operator";

pub(crate) async fn units_run_with_all_their_hardening(units: &'static Units) -> Result<()> {
    for (unit, is_root) in [("weir-operator", false), ("weir-sidecar", false), (SUPERVISED, true)] {
        let status = units.machine.run(&format!("cat /proc/$(systemctl show -P MainPID {unit})/status")).await?;
        let has = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        for (name, value) in [("NoNewPrivs:", "1"), ("CapBnd:", "0000000000000000"), ("Seccomp:", "2")] {
            ensure!(has(name) == Some(value), "{unit} has not {name} {value}: {status}");
        }
        ensure!(has("Uid:").is_some_and(|uids| uids.starts_with("0\t")) == is_root, "{unit}: {status}");
    }
    ensure_exposed_no_more(units).await?;
    let complaints = units.machine.run("journalctl --boot --priority warning --output cat _PID=1").await?;
    ensure!(!complaints.contains("weir-"), "systemd does not take all of the units:\n{complaints}");
    units
        .machine
        .run("cd /var/lib/private/weir-sidecar && test -s replica.sqlite3 && test $(stat -c %a .) = 700")
        .await?;
    Ok(())
}

/// `systemd-analyze security` gives both programs no more than the page says.
async fn ensure_exposed_no_more(units: &Units) -> Result<()> {
    let page = page()?;
    let (_, figure) = page.split_once("`systemd-analyze security` gives them ").context("the page has no figure")?;
    let figure: f64 = figure.split(')').next().unwrap_or_default().parse()?;
    for unit in ["weir-operator", "weir-sidecar"] {
        // In tenths of what it prints.
        let analyze = format!("systemd-analyze security --no-pager --threshold={:.0} {unit}.service", figure * 10.0);
        let told = units.machine.run(&analyze).await?;
        ensure!(told.contains(&format!("Overall exposure level for {unit}.service: ")), "{told}");
    }
    Ok(())
}

pub(crate) async fn a_streamer_unit_that_hangs_past_its_lease_is_killed(units: &'static Units) -> Result<()> {
    units.await_leased().await?;
    let restarts = "systemctl show -P NRestarts flussonic";
    let before: u32 = units.machine.run(restarts).await?.trim().parse()?;
    units.machine.run("systemctl stop weir-operator; systemctl kill --signal=STOP flussonic").await?;
    until("it was killed", async || {
        ensure!(units.machine.run(restarts).await?.trim().parse::<u32>()? > before, "not yet");
        Ok(())
    })
    .await?;
    // It is back without what it has no lease for.
    units.registry.await_each_once(&units.streams, PATIENCE).await?;
    units.machine.run("systemctl start weir-operator").await?;
    units.await_metric("weir_sidecar_feed_connected 1").await?;
    let after: u32 = units.machine.run(restarts).await?.trim().parse()?;
    ensure!(after == before + 1, "it was killed {} times", after - before);
    Ok(())
}

pub(crate) async fn restarted_units_stop_no_stream(units: &'static Units) -> Result<()> {
    let since = units.registry.now();
    units.machine.run("systemctl restart weir-operator").await?;
    units.await_metric("weir_sidecar_feed_connected 1").await?;
    units.machine.run("systemctl stop weir-operator; systemctl restart weir-sidecar").await?;
    // From its replica: nobody else is there.
    units.await_metric(r#"weir_sidecar_answers_total{asked="all",code="200"}"#).await?;
    units.machine.run("systemctl start weir-operator").await?;
    units.await_metric("weir_sidecar_feed_connected 1").await?;
    units.registry.ensure_undisturbed(&units.streams, since)
}

pub(crate) async fn a_unit_shows_a_renewed_certificate_without_a_restart(units: &'static Units) -> Result<()> {
    let since = units.registry.now();
    let process = "systemctl show -P MainPID weir-operator";
    let before = units.machine.run(process).await?;
    units.make_certificate().await?;
    let made = units.machine.run("cat /etc/weir/feed.pem").await?;
    until("the new certificate is shown", async || {
        let shown = typed("openssl s_client -connect 127.0.0.1:9443 </dev/null", Path::new("/")).await?;
        ensure!(shown.contains(&made), "it is still another one: {shown}");
        Ok(())
    })
    .await?;
    ensure!(units.machine.run(process).await? == before, "the operator was started anew");
    // What its unit says: whom to trust is taken at its start.
    units.machine.run("systemctl restart weir-sidecar").await?;
    units.await_metric("weir_sidecar_feed_connected 1").await?;
    units.registry.ensure_undisturbed(&units.streams, since)
}

pub(crate) async fn stopped_units_have_ended_well(units: &'static Units) -> Result<()> {
    units.machine.run(&format!("systemctl stop {ALL}")).await?;
    let ended = units.machine.run(&format!("systemctl show -P Result {ALL}")).await?;
    ensure!(ended.split_whitespace().eq(["success"; 4]), "{ALL}: {ended}");
    units.machine.run(&format!("systemctl start {ALL}")).await?;
    units.await_captured().await
}

/// A machine with all units, on which everything is captured.
pub(crate) struct Units {
    machine: Machine,
    registry: Registry,
    /// The media names of the examples that are captured at all times.
    streams: BTreeSet<String>,
}

impl Units {
    /// The one that all tests share; the first who asks sets it up.
    pub(crate) async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Units> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::set_up).await
    }

    async fn set_up() -> Result<Self> {
        let machine = Machine::start(&node::programs()?).await?;
        let registry = Registry::start((Ipv4Addr::LOCALHOST, 0).into())?;
        let streams = Declared::read(&Path::new(ROOT).join("examples"))?.captured();
        let units = Self { machine, registry, streams };
        let installed = units.install().await;
        units.with_journal(installed).await.map(|()| units)
    }

    /// What has failed, with what the machine's journal says.
    pub(crate) async fn with_journal(&self, end: Result<()>) -> Result<()> {
        let Err(error) = end else { return Ok(()) };
        let journal = self.machine.run("journalctl --boot --lines 60 --output short-monotonic").await?;
        bail!("{error:?}\n{journal}")
    }

    async fn install(&self) -> Result<()> {
        self.machine.write("/etc/hosts", 0o644, &format!("127.0.0.1 localhost {FEED}\n"))?;
        for unit in ["weir-operator.service", "weir-sidecar.service", "weir-lease@.service"] {
            self.machine.write(&format!("/etc/systemd/system/{unit}"), 0o644, &dist(unit)?)?;
        }
        self.put_streamer_unit()?;
        self.install_operator().await?;
        self.install_sidecar().await?;
        self.machine.run("systemctl daemon-reload").await?;
        self.machine
            .run("systemctl enable --now --quiet weir-operator weir-sidecar && systemctl start flussonic")
            .await?;
        self.machine.run(&line_of(&dist("weir-sidecar.service")?, "(set -a")?).await?;
        self.await_captured().await?;
        self.supervise().await
    }

    async fn install_operator(&self) -> Result<()> {
        self.machine.run(&line_of(&dist("weir-operator.service")?, "useradd ")?).await?;
        for entry in std::fs::read_dir(Path::new(ROOT).join("examples"))? {
            let path = entry?.path();
            // Those in folders are for Kubernetes.
            if path.is_dir() {
                continue;
            }
            let name = path.file_name().context("no name")?.to_string_lossy();
            let text = if name == "streamers.yaml" { only_streamer()? } else { std::fs::read_to_string(&path)? };
            self.machine.write(&format!("/etc/weir/manifests/{name}"), 0o640, &text)?;
        }
        self.machine.write("/etc/weir/operator.env", 0o640, &format!("WEIR_OPERATOR_OPTIONS={PERIODS}\n"))?;
        self.machine.write("/etc/weir/tokens", 0o640, "")?;
        let owned = "chown -R root:weir-operator /etc/weir; chmod 750 /etc/weir /etc/weir/manifests";
        self.machine.run(owned).await?;
        self.make_certificate().await
    }

    async fn install_sidecar(&self) -> Result<()> {
        let environment = format!(
            "WEIR_FEED=https://{FEED}:9443\nWEIR_NAMESPACE=default\nWEIR_STREAMER={STREAMER}\n\
             STREAMER_API=http://admin:secret@127.0.0.1:8080\n"
        );
        self.machine.write("/etc/weir/sidecar.env", 0o600, &environment)?;
        let create = line_of(&page()?, "weir-operator token create ")?;
        self.machine.run(&format!("cd /etc/weir; umask 077; {create}")).await.map(drop)
    }

    /// As the page makes one. Its key is the operator's to read; its sidecar has a copy of it to trust.
    async fn make_certificate(&self) -> Result<()> {
        let folder = tempfile::tempdir()?;
        typed(&line_of(&page()?, "openssl ")?, folder.path()).await?;
        for (made, name) in [("feed.key", "feed.key"), ("feed.pem", "feed.pem"), ("feed.pem", "ca.pem")] {
            let text = std::fs::read_to_string(folder.path().join(made))?;
            self.machine.write(&format!("/etc/weir/{name}"), 0o640, &text)?;
        }
        self.machine.run("chgrp weir-operator /etc/weir/feed.*").await.map(drop)
    }

    fn put_streamer_unit(&self) -> Result<()> {
        let unit = format!(
            "[Service]\nEnvironment=STREAMER_SIM_REGISTRY={}\nExecStart=/usr/bin/weir-streamer-sim --hostname={STREAMER} \
             --api-listen=127.0.0.1:8080 --edit-auth=admin:secret --poll-min-ms=200 --poll-max-ms=400\n",
            self.registry.addr()
        );
        self.machine.write("/etc/systemd/system/flussonic.service", 0o644, &unit)
    }

    /// What a Stream with `StopCapturing` needs, and then one.
    async fn supervise(&self) -> Result<()> {
        let drop_in = "/etc/systemd/system/flussonic.service.d/weir-lease.conf";
        self.machine.write(drop_in, 0o644, &dist("streamer-lease.conf")?)?;
        self.machine.run("systemctl daemon-reload; systemctl restart flussonic").await?;
        let stream = format!(
            "{{apiVersion: weir.dev/v1alpha1, kind: Stream, metadata: {{name: {LEASED}}}, \
             spec: {{inputs: [{{url: 'udp://239.0.9.9:1234'}}], failover: {{partition: StopCapturing}}}}}}"
        );
        self.machine.write("/etc/weir/manifests/rights.yaml", 0o644, &stream)?;
        self.await_leased().await
    }

    /// Waits until the examples' streams are captured.
    async fn await_captured(&self) -> Result<()> {
        let captured = |now: &NowReading| {
            let mut now = now.clone();
            now.remove(LEASED);
            each_once(&self.streams, &now)
        };
        Ok(self.registry.await_until(captured, PATIENCE).await.map(drop)?)
    }

    /// Waits until also the stream is captured that needs a lease, which comes back only when the last one is over for sure.
    async fn await_leased(&self) -> Result<()> {
        let mut streams = self.streams.clone();
        streams.insert(LEASED.to_owned());
        Ok(self.registry.await_each_once(&streams, PATIENCE).await.map(drop)?)
    }

    /// Waits until the sidecar has a line that starts so among its metrics.
    async fn await_metric(&self, line: &str) -> Result<()> {
        until(line, async || {
            let metrics = self.machine.run("curl --silent --fail http://127.0.0.1:9982/metrics").await?;
            ensure!(metrics.lines().any(|told| told.starts_with(line)), "not yet");
            Ok(())
        })
        .await
    }
}

/// What a command prints that somebody types outside the machine.
async fn typed(line: &str, folder: &Path) -> Result<String> {
    output(Command::new("sh").args(["-ec", line]).current_dir(folder)).await
}

/// A file of `dist/systemd`.
fn dist(name: &str) -> Result<String> {
    std::fs::read_to_string(Path::new(ROOT).join("dist/systemd").join(name)).with_context(|| name.to_owned())
}

/// The one that these commands are in.
fn page() -> Result<String> {
    Ok(std::fs::read_to_string(Path::new(ROOT).join("docs/without-kubernetes.md"))?)
}

/// The command that a text gives in a line of its own (in a comment too), with the lines that it goes on in.
pub(crate) fn line_of(text: &str, start: &str) -> Result<String> {
    let text = text.replace("\\\n", " ");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("    ").or(line.strip_prefix("#   ")));
    let line = lines.find(|line| line.starts_with(start));
    Ok(line.with_context(|| format!("no command starts with {start:?}"))?.to_owned())
}

/// The examples' Streamers but those that this site has not: they would be waited for.
fn only_streamer() -> Result<String> {
    let mut objects = objects(&Path::new(ROOT).join("examples"))?.into_iter().map(|(_, object)| object);
    let ours = objects.find(|object| object["kind"] == "Streamer" && object["metadata"]["name"] == STREAMER);
    Ok(ours.with_context(|| format!("the examples have no Streamer {STREAMER}"))?.to_string())
}
