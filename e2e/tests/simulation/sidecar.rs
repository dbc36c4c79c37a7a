//! A sidecar: the product's, as a whole, on the simulated network and clocks; its disk is a real folder.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use weir_feed::holder::journal::Changes;
use weir_sidecar::cli::Cli;
use weir_sidecar::replica::{FILE, Replica};
use weir_sidecar::run::{Clock, Event};
use weir_sidecar::{Machine, serve_on};

use crate::host::Wall;
use crate::network::{FEED, HEALTH, HostId, Network, STREAMER, STREAMS, address};
use crate::world::{NAMESPACE, OPERATORS};

/// What a sidecar has in one of its lives.
pub(crate) struct Life {
    pub(crate) host: HostId,
    /// Its streamer, as a process.
    pub(crate) streamer: HostId,
    pub(crate) name: String,
    pub(crate) instance: String,
    pub(crate) disk: Disk,
    pub(crate) has_api: bool,
    /// It shows a token.
    pub(crate) verified: bool,
    pub(crate) network: Network,
    pub(crate) wall: Wall,
    pub(crate) random: StdRng,
}

/// A disk, which may take no writes for a while.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) folder: PathBuf,
    pub(crate) full_until: Arc<AtomicU64>,
}

/// Runs until the process ends; returns why.
pub(crate) async fn run(mut life: Life) -> String {
    let folder = life.disk.folder.to_str().unwrap().to_owned();
    let feeds: Vec<String> = (0..OPERATORS).map(|operator| format!("http://{}", address(operator, FEED))).collect();
    let (feeds, streams) = (feeds.join(","), address(life.host, STREAMS).to_string());
    let mut command = vec!["weir-sidecar", "--namespace", NAMESPACE, "--streamer", &life.name, "--data", &folder];
    command.extend(["--feed", &feeds, "--listen", &streams, "--instance", &life.instance]);
    let api = format!("http://{}", address(life.streamer, STREAMER));
    if life.has_api {
        command.extend(["--streamer-api", &api]);
    }
    let token = life.disk.folder.join("token").to_str().unwrap().to_owned();
    if life.verified {
        std::fs::write(&token, format!("{}/{}", life.name, life.instance)).unwrap();
        command.extend(["--token-file", &token]);
    }
    let cli = Cli::parse_from(command);
    cli.check().unwrap();
    let wall = life.wall.clone();
    let machine = Machine {
        clock: Clock::with_wall(move || wall.now()),
        connect: life.network.dialer(life.host),
        random: StdRng::from_rng(&mut life.random),
        writer: Box::new(writer(life.disk.clone(), life.network.clone(), life.random)),
    };
    let (streams, health) = (life.network.listen(life.host, STREAMS), life.network.listen(life.host, HEALTH));
    format!("{:?}", serve_on(cli, streams, health, machine, CancellationToken::new()).await)
}

type Writing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Writes as the product does, but takes its time: a crash may come before a write, or between it and its answer.
fn writer(
    disk: Disk,
    network: Network,
    mut random: StdRng,
) -> impl FnOnce(Replica, mpsc::Receiver<Changes>, mpsc::Sender<Event>) -> Writing + Send {
    move |mut replica, mut changes, events| {
        Box::pin(async move {
            while let Some(changes) = changes.recv().await {
                let (before, after) = (random.random_range(0..40), random.random_range(0..20));
                tokio::time::sleep(Duration::from_millis(before)).await;
                let result = if disk.is_full(network.now()) {
                    Err("disk full".to_owned())
                } else {
                    replica.write(&changes).map_err(|error| error.to_string())
                };
                tokio::time::sleep(Duration::from_millis(after)).await;
                if events.send(Event::Persisted(result)).await.is_err() {
                    return;
                }
            }
        })
    }
}

impl Disk {
    pub(crate) fn is_full(&self, now: u64) -> bool {
        self.was_full(now, 0)
    }

    /// It took no writes within the last so many ms.
    pub(crate) fn was_full(&self, now: u64, within: u64) -> bool {
        now < self.full_until.load(Ordering::Relaxed) + within
    }

    /// The streams that would be served after a start.
    pub(crate) fn rows(&self) -> Vec<String> {
        self.names("streams")
    }

    /// Those that would be held.
    pub(crate) fn holds(&self) -> Vec<String> {
        self.names("holds")
    }

    /// It was complete once.
    pub(crate) fn synced(&self) -> bool {
        self.read("SELECT synced FROM meta").contains(&true)
    }

    fn names(&self, table: &str) -> Vec<String> {
        self.read(&format!("SELECT name FROM {table}"))
    }

    fn read<T: rusqlite::types::FromSql>(&self, sql: &str) -> Vec<T> {
        let path = self.folder.join(FILE);
        if !path.exists() {
            return Vec::new();
        }
        let read = || -> rusqlite::Result<Vec<T>> {
            let connection = rusqlite::Connection::open(&path)?;
            let mut statement = connection.prepare(sql)?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        // A process may have died before it made its tables.
        read().unwrap_or_default()
    }

    pub(crate) fn wipe(&self) {
        drop(std::fs::remove_dir_all(&self.folder));
        std::fs::create_dir_all(&self.folder).unwrap();
    }

    fn copy_folder(&self) -> PathBuf {
        self.folder.with_extension("copy")
    }

    /// Copies everything aside; nobody writes meanwhile.
    pub(crate) fn keep_copy(&self) {
        copy(&self.folder, &self.copy_folder());
    }

    /// Puts the copy back, if there is one.
    pub(crate) fn put_back(&self) -> bool {
        let there = self.copy_folder().exists();
        if there {
            self.wipe();
            copy(&self.copy_folder(), &self.folder);
        }
        there
    }
}

fn copy(from: &Path, to: &Path) {
    drop(std::fs::remove_dir_all(to));
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
