//! A password in a Secret reaches the streamer, in the URL that it captures from, and stands nowhere else: in no log (with everything
//! logged), no status, no Event, no metric, whatever happens to its streams.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::json;
use weir_e2e::site::{Kind, Plan, Site, credentials, stream};

/// With characters that a URL cannot have as they are: the streamer must get them encoded, and no other form may be seen either.
const PASSWORD: &str = "c4nary/p@ss:w0rd-7731";
const ENCODED: &str = "c4nary%2Fp%40ss%3Aw0rd-7731";

/// One that no URL can have, for the line break behind it.
const BROKEN: &str = "c4nary-w1th-a-break-9902";

#[tokio::test]
async fn canary_password() -> Result<()> {
    let log = "info,weir_operator=trace,weir_feed=trace,weir_placement=trace,weir_sidecar=trace".to_owned();
    let mut site = Site::start("canary_password", Plan { operators: 2, log, ..Plan::default() }).await?;
    site.canaries.extend([PASSWORD, ENCODED, BROKEN].map(str::to_owned));
    site.apply(&credentials("cam", &[("password", PASSWORD)])).await?;
    let mut names = BTreeSet::new();
    for number in 1..=9 {
        let name = format!("cam-{number}");
        let url = format!("rtsp://admin:${{secret:cam/password}}@camera/{name}");
        let object =
            stream(&name).url(&url).config("on_play", json!({"url": "http://auth/?key=${secret:cam/password}"}));
        site.apply(object.object()).await?;
        names.insert(name);
    }
    site.await_captured_once(&names).await?;
    for name in &names {
        site.await_source(name, &format!("rtsp://admin:{ENCODED}@camera/{name}")).await?;
        site.await_status(name, "Captured", "True", "Running").await?;
    }

    // Whatever could bring somebody to say more than he should: a document that is refused with the password in the refused field, a
    // Secret that is gone, a conflict, a failover, a new leader.
    let refused = stream("refused")
        .url("rtsp://u:${secret:cam/password}@camera/refused")
        .config("pushes", json!([{"urll": "${secret:cam/password}"}]));
    site.apply(refused.object()).await?;
    site.await_status("refused", "Accepted", "False", "RejectedByStreamer").await?;
    let name_refused = stream("name-refused")
        .config("dvr", json!({"reference": "${secret:cam/password}"}))
        .config("comment", json!(["${secret:cam/password}"]));
    site.apply(name_refused.object()).await?;
    site.await_status("name-refused", "Accepted", "False", "RejectedByStreamer").await?;
    site.apply(stream("twin").media_name("cam-1").url("rtsp://u:${secret:cam/password}@camera/twin").object()).await?;
    site.await_status("twin", "Accepted", "False", "Conflict").await?;
    site.apply(stream("keyless").url("rtsp://u:${secret:cam/passwort}@camera/keyless").object()).await?;
    site.await_status("keyless", "Accepted", "False", "SecretKeyNotFound").await?;

    let lost = site.read_by("s1");
    ensure!(!lost.is_empty(), "s1 has no streams");
    site.kill_streamer("s1").await?;
    site.await_captured_once(&names).await?;
    let leader = site.await_leader().await?;
    site.operators[leader].process.kill9().await?;
    let new_leader = site.await_leader().await?;
    ensure!(new_leader != leader, "a dead operator leads");
    site.await_condition(Kind::Streamer, "s2", "Ready", "True", "Polling").await?;
    for name in &lost {
        site.await_event(Kind::Stream, name, "FailedOver").await?;
    }
    site.merge(Kind::Secret, "cam", json!({"stringData": {"password": format!("{BROKEN}\n")}})).await?;
    site.await_status("cam-1", "Accepted", "False", "InvalidSecretValue").await?;
    site.await_captured_once(&names).await?;
    site.finish().await
}
