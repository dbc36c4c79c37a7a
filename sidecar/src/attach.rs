//! Bringing a streamer and its sidecar together: `config_external` is set over the streamer's own API, and what was there
//! comes back.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use axum::http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;
use weir_feed::holder::watch::External;

use crate::cli::{AttachArgs, NearArgs, near};
use crate::connect::Tcp;
use crate::request::Client;
use crate::streamer::StreamerApi;

/// The file of the data directory that keeps what was there.
const FILE: &str = "attached.json";
/// Between two looks whether the streamer polls.
const LOOK: Duration = Duration::from_millis(250);
/// For one request to the sidecar.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What was set on the streamer, and what it had before. Both may hold a key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Attached {
    ours: String,
    before: Option<String>,
}

/// What attach has to do.
#[derive(PartialEq, Eq)]
struct ToAttach {
    /// To be kept before anything is set; `None`: what was there is not known, and nothing is to come back.
    keep: Option<Attached>,
    set: bool,
}

/// What detach has to do.
#[derive(PartialEq, Eq)]
enum ToDetach {
    /// Put this back.
    PutBack(Option<String>),
    /// It is back already.
    Forget,
    Nothing,
}

/// `kept` is what an earlier attach has kept, `now` what the streamer has.
fn to_attach(kept: Option<Attached>, now: Option<&str>, ours: &str, replace: bool) -> anyhow::Result<ToAttach> {
    let set = now != Some(ours);
    let attached = |before| Ok(ToAttach { keep: Some(Attached { ours: ours.to_owned(), before }), set });
    let Some(now) = now else {
        return attached(None);
    };
    match kept {
        // This sidecar's own, perhaps under an earlier address or key.
        Some(kept) if same(now, ours) || same(now, &kept.ours) => attached(kept.before),
        None if same(now, ours) => Ok(ToAttach { keep: None, set }),
        _ => {
            ensure!(
                replace,
                "the streamer has {} as config_external already: --replace takes its place, and detach puts it back",
                shown(now)
            );
            attached(Some(now.to_owned()))
        }
    }
}

fn to_detach(kept: Option<Attached>, now: Option<&str>, ours: &str, file: &Path) -> anyhow::Result<ToDetach> {
    let Some(kept) = kept else {
        let attached = now.is_some_and(|now| same(now, ours));
        ensure!(
            !attached,
            "{} does not tell what the streamer had before: set its config_external by hand",
            file.display()
        );
        return Ok(ToDetach::Nothing);
    };
    match now {
        Some(now) if same(now, &kept.ours) => Ok(ToDetach::PutBack(kept.before)),
        now if now == kept.before.as_deref() => Ok(ToDetach::Forget),
        now => bail!(
            "somebody has set the streamer's config_external to {} meanwhile: that stays; remove {} to forget what was before",
            now.map_or_else(|| "nothing".to_owned(), shown),
            file.display()
        ),
    }
}

/// Whether two URLs mean the same backend, whatever key they show it.
fn same(one: &str, other: &str) -> bool {
    shown(one).trim_end_matches('/') == shown(other).trim_end_matches('/')
}

/// A URL without its key.
fn shown(url: &str) -> String {
    let Ok(mut parsed) = url.parse::<Url>() else {
        return "something that is no URL".to_owned();
    };
    // A URL that cannot have a user has none.
    let _ = parsed.set_username("").and_then(|()| parsed.set_password(None));
    parsed.to_string()
}

/// Sets the streamer's backend, and sees whether it polls. What it does and sees goes to `out`.
pub async fn attach(args: &AttachArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let ours = args.near.backend()?;
    let mut api = streamer(&args.near)?;
    let sidecar = Sidecar::new(near(args.http_listen))?;
    // Before the streamer loses what it has.
    let before = sidecar.answers().await.with_context(|| {
        format!("the sidecar does not answer at {}: start it first, or name its --http-listen", sidecar.base)
    })?;
    let file = args.near.data.join(FILE);
    let now = api.config_external().await?;
    let to_do = to_attach(read(&file)?, now.as_deref(), &ours, args.replace)?;
    if let Some(keep) = &to_do.keep {
        write(&file, keep)?;
    }
    if to_do.set {
        set(&mut api, Some(&ours)).await?;
        let had = now.as_deref().map_or_else(|| "none".to_owned(), shown);
        writeln!(out, "config_external is {} now; it was {had}", shown(&ours))?;
    } else {
        writeln!(out, "config_external is {} already", shown(&ours))?;
    }
    verify(&mut api, &sidecar, before, Duration::from_secs(args.wait), out).await
}

/// Puts back what the streamer had before.
pub async fn detach(args: &NearArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let file = args.data.join(FILE);
    let mut api = streamer(args)?;
    let now = api.config_external().await?;
    match to_detach(read(&file)?, now.as_deref(), &args.backend()?, &file)? {
        ToDetach::PutBack(before) => {
            set(&mut api, before.as_deref()).await?;
            let had = before.as_deref().map_or_else(|| "none".to_owned(), shown);
            writeln!(out, "config_external is {had} again")?;
        }
        ToDetach::Forget => writeln!(out, "config_external is what it was before already")?,
        ToDetach::Nothing => {
            writeln!(out, "the streamer does not ask this sidecar, and nothing was kept: nothing to put back")?;
            return Ok(());
        }
    }
    fs::remove_file(&file).with_context(|| format!("{} cannot be removed", file.display()))
}

fn streamer(args: &NearArgs) -> anyhow::Result<StreamerApi<Tcp>> {
    let (url, secret) = args.api()?;
    StreamerApi::new(url, secret.as_deref(), Tcp)
}

/// Sets it and reads it back: an environment variable of the streamer may go before its API.
async fn set(api: &mut StreamerApi<Tcp>, backend: Option<&str>) -> anyhow::Result<()> {
    api.set_config_external(backend).await?;
    let now = api.config_external().await?;
    let taken = match (now.as_deref(), backend) {
        (Some(now), Some(backend)) => same(now, backend),
        (now, backend) => now == backend,
    };
    let now = now.as_deref().map_or_else(|| "none".to_owned(), shown);
    ensure!(
        taken,
        "the streamer took it and has {now} all the same: look for STREAMER_CONFIG_EXTERNAL in its environment"
    );
    Ok(())
}

/// Waits for a poll, and says what it saw.
async fn verify(
    api: &mut StreamerApi<Tcp>,
    sidecar: &Sidecar,
    before: Answers,
    wait: Duration,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + wait;
    loop {
        let seen = sidecar.answers().await?.since(before);
        if seen.served > 0 {
            writeln!(out, "it polls, and is answered")?;
            return Ok(());
        }
        if seen.asked > 0 {
            writeln!(out, "it polls, and is told to wait: the sidecar says")?;
            return Ok(write!(out, "{}", sidecar.get("readyz").await?.1)?);
        }
        if Instant::now() >= deadline {
            let why = match api.external().await {
                Ok(External::NotFetched { message, .. } | External::Error { message, .. }) => {
                    format!("the streamer says of its backend: {message}")
                }
                Ok(External::Loaded) => "the streamer says that it was answered, but not by this sidecar".to_owned(),
                Ok(External::Untold) => "the streamer does not say why".to_owned(),
                Err(error) => format!("the streamer's API does not say why: {error:#}"),
            };
            let others = match seen.refused {
                0 => String::new(),
                refused => format!("; {refused} requests with another key or path came"),
            };
            bail!(
                "it was set and the streamer has not polled for {} s{others}; {why}; detach puts back what was there",
                wait.as_secs()
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A sidecar's health and metrics.
struct Sidecar {
    base: Url,
    client: Client<Tcp>,
}

/// How the streamer was answered, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Answers {
    /// Requests for streams.
    asked: u64,
    /// Those of them that were answered with streams.
    served: u64,
    /// What was asked for something else, or with another key.
    refused: u64,
}

impl Answers {
    fn read(metrics: &str) -> Self {
        let mut answers = Self::default();
        for line in metrics.lines() {
            let Some((labels, number)) =
                line.strip_prefix("weir_sidecar_answers_total{").and_then(|line| line.rsplit_once("} "))
            else {
                continue;
            };
            let number: u64 = number.parse().unwrap_or_default();
            if labels.contains("asked=\"other\"") {
                answers.refused += number;
                continue;
            }
            answers.asked += number;
            if labels.contains("code=\"200\"") {
                answers.served += number;
            }
        }
        answers
    }

    fn since(self, before: Self) -> Self {
        Self {
            asked: self.asked.saturating_sub(before.asked),
            served: self.served.saturating_sub(before.served),
            refused: self.refused.saturating_sub(before.refused),
        }
    }
}

impl Sidecar {
    fn new(address: std::net::SocketAddr) -> anyhow::Result<Self> {
        let base = format!("http://{address}/").parse().context("--http-listen")?;
        Ok(Self { base, client: Client { connect: Tcp, login: None } })
    }

    async fn get(&self, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let url = self.base.join(path)?;
        let asked = tokio::time::timeout(TIMEOUT, self.client.ask(&mut None, Method::GET, &url, None)).await;
        let (status, body) = asked.with_context(|| format!("no answer within {} s", TIMEOUT.as_secs()))??;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    async fn answers(&self) -> anyhow::Result<Answers> {
        let (status, metrics) = self.get("metrics").await?;
        ensure!(
            status == StatusCode::OK && metrics.contains("weir_sidecar_"),
            "these are no metrics of a weir-sidecar"
        );
        Ok(Answers::read(&metrics))
    }
}

fn read(file: &Path) -> anyhow::Result<Option<Attached>> {
    let text = match fs::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("{} cannot be read", file.display()))?,
    };
    // Not serde's own words: they may repeat a key.
    let attached = serde_json::from_slice(&text).ok();
    attached
        .map(Some)
        .with_context(|| format!("{} is damaged: set config_external by hand, and remove it", file.display()))
}

/// Keeps it, readable by its owner alone; it is on disk before anything is set.
fn write(file: &Path, attached: &Attached) -> anyhow::Result<()> {
    let unwritable = || format!("{} cannot be written", file.display());
    let temporary: PathBuf = file.with_extension("tmp");
    let mut open = OpenOptions::new();
    let mut new = open.write(true).create(true).truncate(true).mode(0o600).open(&temporary).with_context(unwritable)?;
    new.write_all(&serde_json::to_vec(attached)?).with_context(unwritable)?;
    new.sync_all().with_context(unwritable)?;
    fs::rename(&temporary, file).with_context(unwritable)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "http://127.0.0.1:9980/";
    const OTHER: &str = "http://s3cret@central.example.com/streamers/s1";

    fn kept(before: Option<&str>) -> Attached {
        Attached { ours: OURS.to_owned(), before: before.map(str::to_owned) }
    }

    #[test]
    fn another_backend_is_replaced_only_when_told_and_never_shown_with_its_key() {
        let error = to_attach(None, Some(OTHER), OURS, false).err().unwrap().to_string();
        assert!(error.contains("central.example.com") && error.contains("--replace") && !error.contains("s3cret"));
        let to_do = to_attach(None, Some(OTHER), OURS, true).unwrap();
        assert!(to_do == ToAttach { keep: Some(kept(Some(OTHER))), set: true });
        assert!(to_attach(None, None, OURS, false).unwrap() == ToAttach { keep: Some(kept(None)), set: true });
    }

    #[test]
    fn attached_again_it_still_knows_what_was_there_first() {
        for now in [OURS, "http://127.0.0.1:9980", "http://k3y@127.0.0.1:9980/"] {
            let to_do = to_attach(Some(kept(Some(OTHER))), Some(now), OURS, false).unwrap();
            assert!(to_do == ToAttach { keep: Some(kept(Some(OTHER))), set: now != OURS }, "{now}");
        }
        // The sidecar listens elsewhere now.
        let moved = "http://127.0.0.1:9990/";
        let to_do = to_attach(Some(kept(Some(OTHER))), Some(OURS), moved, false).unwrap();
        assert!(to_do.keep.unwrap().before.as_deref() == Some(OTHER) && to_do.set);
        // Set by somebody else: what was there before is nobody's to put back.
        assert!(to_attach(None, Some(OURS), OURS, false).unwrap() == ToAttach { keep: None, set: false });
    }

    #[test]
    fn detach_puts_back_only_over_what_attach_has_set() {
        let file = Path::new("/data/attached.json");
        let detached = |kept: Option<Attached>, now: Option<&str>| to_detach(kept, now, OURS, file);
        let back = ToDetach::PutBack(Some(OTHER.to_owned()));
        assert!(detached(Some(kept(Some(OTHER))), Some(OURS)).unwrap() == back);
        assert!(detached(Some(kept(None)), Some(OURS)).unwrap() == ToDetach::PutBack(None));
        assert!(detached(Some(kept(Some(OTHER))), Some(OTHER)).unwrap() == ToDetach::Forget);
        assert!(detached(None, Some(OTHER)).unwrap() == ToDetach::Nothing);
        assert!(detached(None, None).unwrap() == ToDetach::Nothing);
        let meanwhile = detached(Some(kept(None)), Some(OTHER)).err().unwrap().to_string();
        assert!(meanwhile.contains("central.example.com") && !meanwhile.contains("s3cret"), "{meanwhile}");
        assert!(detached(None, Some(OURS)).err().unwrap().to_string().contains("by hand"));
    }

    #[test]
    fn answers_are_counted_by_what_was_asked_and_how_it_was_answered() {
        let metrics = "# TYPE weir_sidecar_answers counter\n\
            weir_sidecar_answers_total{asked=\"all\",code=\"200\"} 3\nweir_sidecar_answers_total{asked=\"named\",code=\"503\"} 2\n\
            weir_sidecar_answers_total{asked=\"other\",code=\"401\"} 4\nweir_sidecar_streams 7\n";
        assert_eq!(Answers::read(metrics), Answers { asked: 5, served: 3, refused: 4 });
    }
}
