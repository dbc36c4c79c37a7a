//! A sidecar is killed at each single write to its database, before that write is done: the sweep goes through a whole life of it, from its
//! first start to a stream taken away, one life for each write. Started again it holds everything that it had acknowledged, each batch as a
//! whole or not at all, and serves no epoch again that it had stopped.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use weir_e2e::child::Child;
use weir_e2e::feed_peer::{PlayedFeed, Talk};
use weir_e2e::programs::Programs;
use weir_e2e::scratch_folder::ScratchFolder;
use weir_e2e::site::{PERIODS, free_address};
use weir_feed::digest::document_hash;
use weir_feed::frames::{Down, Partition, Put, VERSION};
use weir_feed::grant::Seal;
use weir_feed::holder::rows::{Edit, Outcome, Rows};

/// Lives that run at one time.
const AT_ONCE: usize = 6;
/// Far more than there are: the sweep ends when a life has seen less.
const MOST_WRITES: u64 = 500;

/// One sidecar, its files, and the leader that the test plays.
struct Life {
    data: PathBuf,
    told: PathBuf,
    log: PathBuf,
    feed: PlayedFeed,
    client: reqwest::Client,
}

/// What the leader was told, and what it had asked for.
#[derive(Default)]
struct Heard {
    /// The replica as it is to be after each batch that was sent; the first is the empty one.
    sent: Vec<Rows>,
    /// How many of them were acknowledged.
    applied: usize,
    released: bool,
    finished: bool,
}

fn put(name: &str, epoch: u64) -> Edit {
    let document = format!(r#"{{"name":"{name}","inputs":[{{"url":"fake://{epoch}"}}]}}"#);
    Edit::Put(Put {
        name: name.into(),
        epoch,
        grant: Seal(format!("k:{epoch}")),
        is_static: true,
        partition: Partition::KeepCapturing,
        hash: document_hash(&[&document]),
        document,
    })
}

fn delete(name: &str, epoch: u64) -> Edit {
    Edit::Delete { name: name.into(), epoch }
}

fn hold(name: &str, epoch: u64) -> Edit {
    Edit::Hold { name: name.into(), epoch }
}

impl Life {
    async fn new(folder: &Path, number: u64) -> Result<Self> {
        let folder = folder.join(number.to_string());
        let data = folder.join("data");
        std::fs::create_dir_all(&data)?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { data, told: folder.join("told"), log: folder.join("log"), feed: PlayedFeed::start().await?, client })
    }

    /// Starts it, to be killed at write `number`; 0: never. The URL is where it answers its streamer.
    async fn start(&self, number: u64) -> Result<(Child, String)> {
        let programs = Programs::get().await?;
        let (listen, http) = (free_address()?, free_address()?);
        let replica = self.data.join("replica.sqlite3");
        let words = [
            "--files",
            &replica.to_string_lossy(),
            "--number",
            &number.to_string(),
            "--told",
            &self.told.to_string_lossy(),
            "--",
            &programs.sidecar().to_string_lossy(),
            "--feed",
            &self.feed.url(),
            "--streamer",
            "s1",
            "--instance",
            "one",
            "--data",
            &self.data.to_string_lossy(),
            "--listen",
            &listen.to_string(),
            "--http-listen",
            &http.to_string(),
        ]
        .map(str::to_owned);
        let child = Child::spawn("sidecar", programs.kill_at_write(), words, [("RUST_LOG", "info")], &self.log)?;
        Ok((child, format!("http://{listen}/streams")))
    }

    /// A connection of the sidecar's, and its hello; `None` if it died before.
    async fn greeted(&mut self, child: &Child) -> Result<Option<(Talk, Value)>> {
        let mut talk = tokio::select! {
            talk = self.feed.next() => talk?,
            _ = child.wait() => return Ok(None),
        };
        match tokio::select! { hello = talk.next() => hello?, _ = child.wait() => None } {
            Some(hello) => Ok(Some((talk, hello))),
            None => Ok(None),
        }
    }

    /// What the streamer asks; an answer is not needed.
    async fn ask(&self, url: &str, query: &str) {
        let _ = self.client.get(format!("{url}?host=s1{query}")).send().await;
    }

    /// Waits for a frame that `wanted` takes; `false` if the sidecar died before.
    async fn hear(talk: &mut Talk, child: &Child, wanted: impl Fn(&Value) -> bool) -> Result<bool> {
        loop {
            let frame = tokio::select! { frame = talk.next() => frame?, _ = child.wait() => None };
            match frame {
                Some(frame) if wanted(&frame) => return Ok(true),
                Some(_) => {}
                None => return Ok(false),
            }
        }
    }

    /// Sends a batch and waits until it is acknowledged.
    async fn batch(talk: &mut Talk, child: &Child, heard: &mut Heard, edits: Vec<Edit>) -> Result<bool> {
        let mut rows = heard.sent.last().cloned().unwrap_or_default();
        for edit in edits {
            rows.apply(edit.clone(), &mut Outcome::default());
            talk.say(&frame(edit)?).await;
        }
        let revision = heard.sent.len() as u64;
        talk.say(&json!({"type": "mark", "revision": revision, "count": rows.count(), "digest": rows.digest()})).await;
        heard.sent.push(rows);
        let applied =
            Self::hear(talk, child, |frame| frame["type"] == "applied" && frame["revision"] == revision).await?;
        if applied {
            heard.applied = heard.sent.len() - 1;
        }
        Ok(applied)
    }

    /// From the first start on, to its death or the end of the story.
    async fn live(&mut self, child: &Child, url: &str) -> Result<Heard> {
        let mut heard = Heard { sent: vec![Rows::default()], ..Heard::default() };
        let Some((mut talk, _)) = self.greeted(child).await? else {
            return Ok(heard);
        };
        talk.say(&json!({"type": "welcome", "version": VERSION, "term": 10, "seal": "k:10", "periods": PERIODS})).await;
        talk.say(&json!({"type": "ping", "term": 10, "maySpeak": 600_000})).await;
        for edits in [
            vec![put("a", 1), put("b", 2)],
            vec![put("a", 3), put("c", 4), hold("d", 1)],
            (10..40).map(|number| put(&format!("many-{number}"), number)).collect(),
        ] {
            if !Self::batch(&mut talk, child, &mut heard, edits).await? {
                return Ok(heard);
            }
        }
        for query in ["&name=b", ""] {
            self.ask(url, query).await;
        }
        if !Self::batch(&mut talk, child, &mut heard, vec![delete("b", 5), put("d", 6)]).await? {
            return Ok(heard);
        }
        for query in ["&name=b", "", "&name=b", ""] {
            self.ask(url, query).await;
        }
        heard.released =
            Self::hear(&mut talk, child, |frame| frame["type"] == "released" && frame["name"] == "b").await?;
        heard.finished = heard.released && Self::batch(&mut talk, child, &mut heard, vec![put("e", 7)]).await?;
        Ok(heard)
    }

    /// Started again, it has what it acknowledged.
    async fn check(&mut self, heard: &Heard) -> Result<()> {
        let (child, url) = self.start(0).await?;
        let (mut talk, hello) = self.greeted(&child).await?.context("it died although nobody killed it")?;
        let may_be: Vec<&Rows> = heard.sent.iter().skip(heard.applied).take(2).collect();
        let rows = may_be
            .into_iter()
            .find(|rows| json!(rows.held()) == hello["held"] && json!(rows.holds()) == hello["holds"]);
        let Some(rows) = rows else {
            bail!("{} batches were acknowledged, and it holds {} {}", heard.applied, hello["held"], hello["holds"]);
        };
        ensure!(
            json!(rows.held_no_more()) == hello["stopped"],
            "it has stopped {}, not {:?}",
            hello["stopped"],
            rows.stopped()
        );
        if heard.applied > 0 {
            ensure!(hello["synced"] == true && hello["term"][0] == 10, "it has forgotten its leader: {hello}");
        }
        if heard.released {
            ensure!(rows.stopped().contains_key("b"), "it had said that b was let go, and has forgotten it: {hello}");
        }

        // A leader with an old record gives it what it had stopped: it is not served.
        let term = 11;
        talk.say(&json!({"type": "welcome", "version": VERSION, "term": term, "seal": "k:11", "periods": PERIODS}))
            .await;
        let old = put("b", 2);
        let mut after = rows.clone();
        after.apply(old.clone(), &mut Outcome::default());
        talk.say(&frame(old)?).await;
        talk.say(&json!({"type": "mark", "revision": 99, "count": after.count(), "digest": after.digest()})).await;
        let applied =
            Self::hear(&mut talk, &child, |frame| frame["type"] == "applied" && frame["revision"] == 99).await?;
        ensure!(applied, "it died although nobody killed it");
        let answer: Value = self.client.get(format!("{url}?host=s1&name=a,b,c,e")).send().await?.json().await?;
        let answered: Vec<&str> = answer["streams"]
            .as_array()
            .context("no streams")?
            .iter()
            .filter_map(|stream| stream["name"].as_str())
            .collect();
        let stopped = rows.stopped().contains_key("b");
        ensure!(answered.contains(&"b") != stopped, "b was stopped: {stopped}; it answers {answered:?}");
        child.kill9().await
    }
}

fn frame(edit: Edit) -> Result<Value> {
    let frame = match edit {
        Edit::Put(put) => Down::Put(put),
        Edit::Delete { name, epoch } => Down::Delete { name, epoch },
        Edit::Hold { name, epoch } => Down::Hold { name, epoch },
    };
    Ok(serde_json::to_value(frame)?)
}

/// One life that ends at write `number`; the result is what that write was, or `None` if there were fewer.
async fn life(folder: &Path, number: u64) -> Result<Option<String>> {
    let mut life = Life::new(folder, number).await?;
    let (child, url) = life.start(number).await?;
    let heard = life.live(&child, &url).await?;
    let killed = std::fs::read_to_string(&life.told).ok();
    if killed.is_none() {
        ensure!(heard.finished, "it ended by itself:\n{}", child.log());
        child.kill9().await?;
    }
    child.wait().await;
    let what = killed.clone().unwrap_or_else(|| "at the end".to_owned());
    let _ = std::fs::remove_file(&life.told);
    life.check(&heard)
        .await
        .with_context(|| format!("killed at write {}, after {} batches", what.trim_end(), heard.applied))?;
    Ok(killed)
}

#[tokio::test]
async fn sidecar_killed_at_every_write() -> Result<()> {
    let folder = ScratchFolder::new("sidecar_killed_at_every_write")?;
    let lives = futures::stream::iter(1..=MOST_WRITES).map(|number| life(folder.path(), number));
    let lives = lives.buffered(AT_ONCE).try_take_while(|killed| std::future::ready(Ok(killed.is_some())));
    let killed: Vec<Option<String>> = lives.try_collect().await?;
    let killed: Vec<String> = killed.into_iter().flatten().collect();
    for (number, what) in (1..).zip(&killed) {
        ensure!(what.starts_with(&format!("{number} ")), "life {number} did not end at its own write: {what}");
    }
    // However SQLite is built, a life writes and syncs its log.
    for part in ["write …-wal", "sync …-wal"] {
        ensure!(killed.iter().any(|what| what.contains(part)), "no {part:?} among the writes: {killed:?}");
    }
    eprintln!("sidecar_killed_at_every_write: killed at each of {} writes", killed.len());
    Ok(())
}
