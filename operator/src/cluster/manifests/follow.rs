//! The background: looks at files when they change, and every now and then.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Weak};

use notify::{RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Inner;
use super::picture::Refreshed;
use crate::cluster::SliceSeen;

/// Publishes what the directories hold whenever it changes, until nobody uses the Manifests any more.
pub(super) async fn follow(inner: Weak<Inner>) {
    let mut watched = Watched::default();
    let mut changing = false;
    while let Some(cluster) = inner.upgrade() {
        let (manifests, look) = (cluster.options.manifests.clone(), Arc::clone(&cluster.look));
        // A directory may be large, or on a network.
        let looked = spawn_blocking(move || {
            watched.follow(&manifests, &look);
            watched
        });
        watched = looked.await.unwrap_or_default();
        let pause = if changing { cluster.options.settle } else { cluster.options.poll };
        let (look, publish, settle) = (Arc::clone(&cluster.look), Arc::clone(&cluster.publish), cluster.options.settle);
        drop(cluster);
        let mut files = true;
        tokio::select! {
            // Whoever writes goes on writing for a moment.
            () = look.notified() => sleep(settle).await,
            () = sleep(pause) => {}
            () = publish.notified() => {
                sleep(settle).await;
                files = false;
            }
        }
        let Some(cluster) = inner.upgrade() else { return };
        let done = spawn_blocking(move || {
            if files {
                return cluster.refresh(false);
            }
            cluster.publish(&mut cluster.picture());
            Refreshed::Same
        });
        match done.await {
            Ok(refreshed) => changing = refreshed == Refreshed::Changing,
            Err(error) => tracing::error!("a look at the manifests ended early: {error}"),
        }
    }
}

/// Says what others do to the slices, until nobody listens.
pub(super) async fn slices(inner: Weak<Inner>, seen: mpsc::Sender<SliceSeen>) {
    let mut said = None;
    while let Some(cluster) = inner.upgrade() {
        let poll = cluster.options.poll;
        let changes = spawn_blocking(move || cluster.slices.changes()).await;
        match changes {
            Ok(Ok(changes)) => {
                said = None;
                for change in changes {
                    if seen.send(change).await.is_err() {
                        return;
                    }
                }
            }
            Ok(Err(error)) => {
                if said.as_ref() != Some(&error) {
                    tracing::error!("{error}");
                    said = Some(error);
                }
            }
            Err(error) => tracing::error!("a look at the slices ended early: {error}"),
        }
        tokio::select! {
            () = sleep(poll) => {}
            () = seen.closed() => return,
        }
    }
}

/// The system's own notices about a directory. They are a hurry-up only: what they miss, the next look finds.
#[derive(Default)]
struct Watched {
    watcher: Option<notify::RecommendedWatcher>,
    /// The directory's device and inode: one that is made again is another one.
    of: Option<(u64, u64)>,
    complained: bool,
}

impl Watched {
    fn follow(&mut self, directory: &Path, look: &Arc<Notify>) {
        let of = std::fs::metadata(directory).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        if of == self.of {
            return;
        }
        self.watcher = None;
        self.of = of;
        if of.is_none() {
            return;
        }
        match watcher(directory, Arc::clone(look)) {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) if !self.complained => {
                self.complained = true;
                tracing::warn!(
                    "{} gives no notice of changes ({error}); it is looked at every now and then",
                    directory.display()
                );
            }
            Err(_) => {}
        }
        // What changed before the watcher stood.
        look.notify_one();
    }
}

fn watcher(directory: &Path, look: Arc<Notify>) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading makes access events.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            look.notify_one();
        }
    })?;
    watcher.watch(directory, RecursiveMode::Recursive)?;
    Ok(watcher)
}
