//! Containers of streamers' pods, killed from their node.

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use weir_e2e::site::until;

use crate::site::Site;

/// Kills the program of a pod's container, as the kernel does when memory runs out, and waits until the kubelet has started it
/// again.
pub(crate) async fn kill(site: &Site, pod: &str, container: &str, program: &str) -> Result<()> {
    let before = restarts(site, pod, container).await?;
    let killed = process_of(program, pod)?;
    kill_process(killed, Signal::KILL)?;
    until(&format!("{container} of {pod} is started again"), async || {
        ensure!(restarts(site, pod, container).await? > before, "not yet");
        ensure!(process_of(program, pod)? != killed, "it is still the old one");
        Ok(())
    })
    .await
}

/// How often a container of a pod was started again.
async fn restarts(site: &Site, pod: &str, container: &str) -> Result<i32> {
    let status = site.pods()?.get(pod).await?.status.context("no status")?;
    let all = [status.init_container_statuses, status.container_statuses].into_iter().flatten().flatten();
    let found = all.into_iter().find(|status| status.name == container);
    Ok(found.with_context(|| format!("{pod} has no container {container}"))?.restart_count)
}

/// The program of this name whose pod has this name.
pub(crate) fn process_of(program: &str, pod: &str) -> Result<Pid> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended meanwhile.
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let command = read("cmdline");
        let is_program =
            command.split(|byte| *byte == 0).next().is_some_and(|first| first.ends_with(program.as_bytes()));
        let host = format!("HOSTNAME={pod}");
        if is_program && read("environ").split(|byte| *byte == 0).any(|variable| variable == host.as_bytes()) {
            return Pid::from_raw(pid).context("no process has this id");
        }
    }
    bail!("{program} does not run in {pod}")
}
