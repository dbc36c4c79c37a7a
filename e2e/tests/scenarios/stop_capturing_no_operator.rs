//! No operator is there for longer than a lease: streams that stop when they are cut off stop, within a poll and without anybody being
//! killed, and streams that go on go on. When an operator is back, everything is captured where it was.

use anyhow::{Result, ensure};
use weir_e2e::site::{Plan, Site, until};

#[tokio::test]
async fn stop_capturing_no_operator() -> Result<()> {
    let mut site = Site::start("stop_capturing_no_operator", Plan { supervised: true, ..Plan::default() }).await?;
    let stopping = site.apply_stopping(6).await?;
    let going_on = site.apply_streams(6).await?;
    let names = &stopping | &going_on;
    let captured = site.await_captured_once(&names).await?;
    let readers = site.readers();

    let killed = site.registry.now();
    site.operators[0].process.kill9().await?;
    for name in &stopping {
        site.await_dark(name).await?;
    }
    let took = site.registry.now().saturating_sub(killed);
    site.tell(&format!("stopped {took:.1?} after the last operator was killed"));
    let sidecar = site.streamer("s1")?;
    until("s1's sidecar says what it does not serve", async || {
        ensure!(sidecar.metric("weir_sidecar_leased").await? == 0.0, "it says that it has a lease");
        ensure!(sidecar.metric("weir_sidecar_unleased_streams").await? > 0.0, "its metric does not");
        ensure!(sidecar.sidecar.log().contains("streams with StopCapturing are not served"), "its log does not");
        Ok(())
    })
    .await?;

    site.operators[0].process.start()?;
    site.await_captured_once(&names).await?;
    ensure!(site.readers() == readers, "something moved: {:?}, before {readers:?}", site.readers());
    site.ensure_undisturbed(&going_on, captured)?;
    for streamer in &site.streamers {
        ensure!(streamer.kills().is_empty(), "{} let go and was killed: {:?}", streamer.name, streamer.kills());
    }
    site.tell_dark_by_policy("no operator until StopCapturing's have stopped, then one", &names, killed);
    site.finish().await
}
