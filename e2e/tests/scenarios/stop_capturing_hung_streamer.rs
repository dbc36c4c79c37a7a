//! A streamer hangs: it asks nothing any more and goes on capturing. Its sidecar lives, and says so to whoever supervises it: it is
//! killed, boots with nothing, asks, and captures its streams again. Those that stop when it is cut off are given to nobody else meanwhile;
//! the others may be, since what its API said counts no more once that is silent too.

use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use weir_e2e::registry::CutOff;
use weir_e2e::site::{Plan, Site, until};

#[tokio::test]
async fn stop_capturing_hung_streamer() -> Result<()> {
    let mut site = Site::start("stop_capturing_hung_streamer", Plan { supervised: true, ..Plan::default() }).await?;
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
    let once = site.await_captured_once(&names).await?;
    site.cut_off.push(CutOff { streamer: "s1".to_owned(), from: hung, to: Some(once) });
    let stopping = Site::stopping(&lost);
    site.ensure_never_twice(&(&(&names - &lost) | &stopping), hung)?;
    ensure!(stopping.is_subset(&site.read_by("s1")), "they moved: s1 reads {:?}", site.read_by("s1"));
    site.ensure_undisturbed(names.difference(&lost), hung)?;
    site.tell_dark_by_policy("streamer hung, killed by its supervisor", &lost, hung);
    site.finish().await
}
