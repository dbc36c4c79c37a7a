//! The campaign for the lock of the state directory.

use std::sync::{Arc, Weak};

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::lock::Attempt;
use super::{Inner, file, keys, lock};
use crate::cluster::LeaseEvent;

/// A lock is ours until we give it back: there is no deadline.
const NEVER: u64 = u64::MAX / 2;

/// Why the lock is not ours, and where the feed of who has it is.
struct Standby {
    why: String,
    leader: Option<String>,
}

/// Takes the lock whenever it is free, and says so, until nobody listens.
pub(super) async fn campaign(
    inner: Weak<Inner>,
    mut term: watch::Receiver<u64>,
    mut resign: watch::Receiver<u64>,
    events: mpsc::Sender<LeaseEvent>,
) {
    let mut said: Option<String> = None;
    let mut told: Option<LeaseEvent> = None;
    while let Some(cluster) = inner.upgrade() {
        let poll = cluster.options.poll;
        resign.mark_unchanged();
        let taken = spawn_blocking(move || take(&cluster)).await;
        let event = match taken {
            Ok(Ok(highest_term)) => LeaseEvent::Held { deadline: NEVER, highest_term },
            Ok(Err(Standby { why, leader })) => {
                if said.as_ref() != Some(&why) {
                    tracing::warn!("standing by: {why}");
                    said = Some(why);
                }
                LeaseEvent::Lost { leader }
            }
            Err(error) => {
                tracing::error!("the attempt to lock the state directory ended early: {error}");
                LeaseEvent::Lost { leader: None }
            }
        };
        let held = matches!(event, LeaseEvent::Held { .. });
        if told.as_ref() != Some(&event) && events.send(event.clone()).await.is_err() {
            break;
        }
        told = Some(event);
        if held {
            said = None;
            tracing::info!("the lock of the state directory is ours");
            hold(&inner, &mut term, &mut resign, &events).await;
            tracing::warn!("the lock of the state directory is not ours any more");
            let lost = LeaseEvent::Lost { leader: None };
            told = Some(lost.clone());
            if events.send(lost).await.is_err() {
                break;
            }
        }
        tokio::select! {
            () = sleep(poll) => {}
            () = events.closed() => break,
        }
    }
    release(&inner).await;
}

/// Gives the lock back. Writes under way end first; they may be slow.
async fn release(inner: &Weak<Inner>) {
    if let Some(cluster) = inner.upgrade() {
        let released = spawn_blocking(move || cluster.lock.release()).await;
        if let Err(error) = released {
            tracing::error!("the lock was not given back: {error}");
        }
    }
}

/// Stays while the lock is ours: until it is to be given back, or its file is gone.
async fn hold(
    inner: &Weak<Inner>,
    term: &mut watch::Receiver<u64>,
    resign: &mut watch::Receiver<u64>,
    events: &mpsc::Sender<LeaseEvent>,
) {
    let mut term_ended = false;
    while let Some(cluster) = inner.upgrade() {
        let (poll, highest) = (cluster.options.poll, *term.borrow_and_update());
        if !spawn_blocking(move || publish(&cluster, highest)).await.unwrap_or(false) {
            break;
        }
        tokio::select! {
            changed = term.changed(), if !term_ended => term_ended = changed.is_err(),
            Ok(()) = resign.changed() => break,
            () = events.closed() => break,
            () = sleep(poll) => {}
        }
    }
    release(inner).await;
}

/// Writes the term into the lock file; `false`: the lock is not ours.
fn publish(cluster: &Inner, term: u64) -> bool {
    if !cluster.lock.is_ours() {
        return false;
    }
    if let Err(error) = cluster.lock.publish(term) {
        tracing::warn!("the term cannot be written into the lock file ({error})");
    }
    true
}

/// Takes the lock and reads what its last holder left; the highest term in the state. State that cannot be read keeps
/// us from leading.
fn take(cluster: &Arc<Inner>) -> Result<u64, Standby> {
    let state = cluster.options.state.display();
    let term = match cluster.lock.attempt() {
        Ok(Attempt::Ours { term }) => term,
        Ok(Attempt::Theirs(holder)) => {
            let who = if holder.identity.is_empty() {
                "another process".to_owned()
            } else {
                format!("{} (process {})", holder.identity, holder.pid)
            };
            let why = format!("{who} has the lock of {state}; this operator takes over when it ends");
            return Err(Standby { why, leader: holder.feed });
        }
        Err(error) => {
            let why = format!(
                "{state} cannot be locked ({error}): let the operator's user write it, on a file system that has locks"
            );
            return Err(Standby { why, leader: None });
        }
    };
    let read = || -> Result<u64, file::StateError> {
        cluster.slices.clear_temporaries()?;
        keys::load(&cluster.options.state)?;
        lock(&cluster.statuses).reload()?;
        cluster.picture().reload(&cluster.options.state)?;
        Ok(cluster.slices.highest_term()?.max(term))
    };
    let read = read();
    if read.is_err() {
        cluster.lock.release();
    }
    cluster.refresh(true);
    cluster.complain(read.as_ref().err());
    read.map_err(|error| Standby { why: error.0, leader: None })
}
