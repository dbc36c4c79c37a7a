//! A streamer hangs: it asks nothing any more and goes on capturing. Its sidecar lives, and says so to whoever supervises it: it is
//! killed, boots with nothing, asks, and captures its streams again. Nobody else is given them meanwhile.

use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use weir_e2e::site::{Plan, Site, until};

#[tokio::test]
async fn stop_capturing_hung_streamer() -> Result<()> {
    let site = Site::start("stop_capturing_hung_streamer", Plan { supervised: true, ..Plan::default() }).await?;
    let names = site.apply_of_both_policies(6).await?;
    site.await_captured_once(&names).await?;
    let lost = site.read_by("s1");
    ensure!(!lost.is_empty(), "s1 has no streams");

    let hung = site.registry.now();
    let pid = Pid::from_raw(site.streamer("s1")?.supervised_pid()?);
    kill_process(pid.ok_or_else(|| anyhow::anyhow!("no pid"))?, Signal::STOP)?;
    until("the supervisor kills s1", async || {
        let kills = site.streamer("s1")?.kills();
        ensure!(kills.iter().any(|why| why.contains("has not polled")), "{kills:?}");
        Ok(())
    })
    .await?;
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(names.difference(&lost), hung)?;
    site.tell_dark_by_policy("streamer hung, killed by its supervisor", &lost, hung);
    site.finish().await
}
