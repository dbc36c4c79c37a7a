//! A pod may only be the Streamer of its own name: a sidecar with another pod's token is refused, as is one whose token is meant for
//! somebody else, and one without a token. It is counted, and logged without the token; nobody is registered, and nobody is disturbed.

use anyhow::{Context as _, Result, ensure};
use weir_e2e::site::{Entry, Kind, Plan, Site, until};

#[tokio::test]
async fn foreign_token() -> Result<()> {
    let mut site = Site::start("foreign_token", Plan { streamers: 2, ..Plan::default() }).await?;
    let names = site.apply_streams(10).await?;
    let captured = site.await_captured_once(&names).await?;

    let of_s2 = site.entry("s2").await?;
    let of_the_api = site.entry_with("intruder-2", "https://kubernetes.default.svc").await?;
    let none = Entry { token: None, ..site.entry("intruder-3").await? };
    // `identity`: whose token it is; `token`: whether it is one at all.
    for (name, entry, reason) in [
        ("intruder-1", of_s2.clone(), "identity"),
        ("intruder-2", of_the_api, "token"),
        ("intruder-3", none, "token"),
        // The name of one that is there: with another's token it does not get its streams either.
        ("s1", of_s2, "identity"),
    ] {
        if let Some(token) = &entry.token {
            site.canaries.push(std::fs::read_to_string(token)?);
        }
        let counted = format!("weir_feed_refused_total{{reason=\"{reason}\"}}");
        let before = site.operators[0].metric(&counted).await?;
        let process = if name == "s1" { "impostor" } else { name };
        let entry = Entry { streamer: name.to_owned(), ..entry };
        site.add_streamer(process, &entry, &[]).await?;
        let intruder = site.streamers.last_mut().context("it was added")?;
        intruder.sidecar.start()?;
        until(&format!("{process} is refused"), async || {
            let now = site.operators[0].metric(&counted).await?;
            ensure!(now > before, "{counted} is {now}");
            Ok(())
        })
        .await?;
        let intruder = site.streamers.last().context("it was added")?;
        let (status, _) = until("it answers", async || intruder.answer().await).await?;
        ensure!(status == 503, "{process} answers {status} and knows nothing");
        intruder.sidecar.stop().await?;
    }
    let log = site.operators[0].process.log();
    for sentence in ["a sidecar may only be the Streamer that its token is for", "has no token", "this token"] {
        ensure!(log.contains(sentence), "the operator's log does not say: {sentence}");
    }

    for streamer in site.list(Kind::Streamer).await? {
        let name = streamer["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        ensure!(["s1", "s2"].contains(&name.as_str()), "{name} was registered");
    }
    site.await_streamers_ready().await?;
    site.ensure_undisturbed(&names, captured)?;
    site.finish().await
}
