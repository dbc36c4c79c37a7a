//! Shows who captures what while the story goes on: as a picture in a terminal, else as lines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinHandle;

use super::declared::{Declared, Wish};
use super::installation::Installation;
use super::screen::{DIM, PLAIN, Screen};
use super::table::{Row, Standing, View, table};
use crate::registry::Registry;

/// Between two pictures.
const PICTURE: Duration = Duration::from_millis(100);
/// Between two questions to the operator.
const ASK: Duration = Duration::from_millis(300);

/// What each streamer reads now.
pub type Shares = BTreeMap<String, BTreeSet<String>>;

/// What each streamer reads now.
pub fn shares(registry: &Registry) -> Shares {
    let mut shares = Shares::new();
    for (stream, readers) in registry.now_reading() {
        for reader in readers {
            shares.entry(reader.streamer).or_default().insert(stream.clone());
        }
    }
    shares
}

/// The running show. It ends when it is dropped.
pub struct Live {
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

struct Shared {
    screen: Arc<Screen>,
    registry: Registry,
    started: Instant,
    wishes: BTreeMap<String, Wish>,
    streamers: BTreeSet<String>,
    told: Mutex<Told>,
    /// What was told last of who reads what.
    shown: Mutex<Shares>,
}

/// What is known otherwise than from the sources.
#[derive(Default)]
struct Told {
    killed: Option<String>,
    /// By media name: whom the operator names, and what is declared there now.
    placed: Option<BTreeMap<String, Option<String>>>,
    /// By Streamer: the operator's word for it.
    summaries: BTreeMap<String, String>,
}

impl Live {
    /// Begins to show.
    pub fn start(screen: Arc<Screen>, installation: &Installation, declared: &Declared, started: Instant) -> Self {
        let shared = Arc::new(Shared {
            screen,
            registry: installation.registry.clone(),
            started,
            wishes: declared.streams.iter().map(|(name, (wish, _))| (name.clone(), *wish)).collect(),
            streamers: declared.streamers.clone(),
            told: Mutex::default(),
            shown: Mutex::default(),
        });
        let (asking, objects) = (Arc::clone(&shared), installation.objects.clone());
        let ask = tokio::spawn(async move {
            loop {
                // An operator that does not answer has nothing new to say.
                if let (Ok(streams), Ok(streamers)) = (objects.list("streams").await, objects.list("streamers").await) {
                    asking.take(&streams, &streamers);
                }
                tokio::time::sleep(ASK).await;
            }
        });
        let showing = Arc::clone(&shared);
        let show = tokio::spawn(async move {
            loop {
                showing.show();
                tokio::time::sleep(PICTURE).await;
            }
        });
        Self { shared, tasks: [ask, show] }
    }

    /// Says which streamer was killed and is not there.
    pub fn killed(&self, streamer: Option<&str>) {
        lock(&self.shared.told).killed = streamer.map(str::to_owned);
    }

    /// Shows what has happened up to now, before something else is said.
    pub fn catch_up(&self) {
        self.shared.show();
    }

    /// Shows the last picture, which stays.
    pub fn end(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.shared.screen.draw(&table(&self.shared.view()));
        self.shared.screen.leave();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    /// Takes in what the operator says.
    fn take(&self, streams: &[Value], streamers: &[Value]) {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let placed = streams.iter().filter_map(|stream| {
            let name = text(&stream["status"]["mediaName"]).or_else(|| text(&stream["metadata"]["name"]))?;
            Some((name, text(&stream["status"]["streamer"])))
        });
        let summaries = streamers.iter().filter_map(|streamer| {
            let summary = text(&streamer["status"]["summary"]).unwrap_or_else(|| "unknown".to_owned());
            Some((text(&streamer["metadata"]["name"])?, summary))
        });
        let mut told = lock(&self.told);
        told.placed = Some(placed.collect());
        told.summaries = summaries.collect();
    }

    fn show(&self) {
        if self.screen.is_terminal() {
            self.screen.draw(&table(&self.view()));
            return;
        }
        let mut shown = lock(&self.shown);
        let now = shares(&self.registry);
        let at = self.started.elapsed().as_secs_f64();
        for line in changes(&shown, &now) {
            self.screen.say(&format!("{at:>6.1} s  {DIM}{line}{PLAIN}"));
        }
        *shown = now;
    }

    fn view(&self) -> View {
        let (now, at) = (self.registry.now_reading(), self.registry.now());
        let mut dark = BTreeMap::new();
        for read in self.registry.timeline() {
            dark.insert(read.stream, at.saturating_sub(read.to.unwrap_or(at)));
        }
        let told = lock(&self.told);
        let declared = told.placed.clone();
        let names: BTreeSet<&String> = match &declared {
            Some(declared) => declared.keys().chain(now.keys()).collect(),
            None => self.wishes.keys().collect(),
        };
        let row = |name: &String| Row {
            // A stream that was added meanwhile is taken for one that runs all the time.
            wish: match &declared {
                Some(declared) if !declared.contains_key(name) => None,
                _ => Some(self.wishes.get(name).copied().unwrap_or(Wish::Captured)),
            },
            readers: now.get(name).into_iter().flatten().map(|reader| reader.streamer.clone()).collect(),
            placed: declared.as_ref().and_then(|declared| declared.get(name).cloned().flatten()),
            dark: dark.get(name).copied(),
        };
        let standing = |name: &String| match told.summaries.get(name) {
            _ if told.killed.as_ref() == Some(name) => Standing::Killed,
            Some(summary) => Standing::Says(summary.clone()),
            None => Standing::Says("starting".to_owned()),
        };
        View {
            streamers: self.streamers.iter().map(|name| (name.clone(), standing(name))).collect(),
            streams: names.into_iter().map(|name| (name.clone(), row(name))).collect(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who stopped and who started reading what, a line each.
fn changes(before: &Shares, now: &Shares) -> Vec<String> {
    let none = BTreeSet::new();
    let of = |shares: &'_ Shares, name: &String| shares.get(name).unwrap_or(&none).clone();
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let mut lines = Vec::new();
    for (verb, from, to) in [("stopped", now, before), ("captures", before, now)] {
        for name in &names {
            let (old, new) = (of(from, name), of(to, name));
            let changed: Vec<&str> = new.difference(&old).map(String::as_str).collect();
            if !changed.is_empty() {
                lines.push(format!("{name} {verb} {}", changed.join(", ")));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_by_who_stopped_and_who_started() {
        let shares = |shares: &[(&str, &[&str])]| -> Shares {
            let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            shares.iter().map(|(streamer, names)| ((*streamer).to_owned(), set(names))).collect()
        };
        let before = shares(&[("m1", &["a", "b"]), ("m2", &["c"])]);
        let now = shares(&[("m1", &["a", "c"]), ("m3", &["b"])]);
        assert_eq!(changes(&before, &now), ["m1 stopped b", "m2 stopped c", "m1 captures c", "m3 captures b"]);
        assert_eq!(changes(&now, &now), [""; 0]);
    }
}
