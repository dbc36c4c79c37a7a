//! The leader's end of a connection.

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;
use weir_feed::frames::Down;

/// Sends frames down one connection, in order. A connection whose sidecar does not keep up is closed.
#[derive(Debug, Clone)]
pub struct Outgoing {
    queue: mpsc::Sender<Item>,
    overflow: CancellationToken,
    abort: CancellationToken,
}

/// What waits to be sent.
#[derive(Debug)]
pub(super) enum Item {
    Frame(Down),
    Close,
}

/// The connection's own end of it.
pub(super) struct Queue {
    pub(super) items: mpsc::Receiver<Item>,
    /// Cancelled when `items` was full.
    pub(super) overflow: CancellationToken,
    /// Cancelled when what `items` holds must not be said any more.
    pub(super) abort: CancellationToken,
}

/// A queue of `capacity` frames.
pub(super) fn queue(capacity: usize) -> (Outgoing, Queue) {
    let (queue, items) = mpsc::channel(capacity.max(1));
    let (overflow, abort) = (CancellationToken::new(), CancellationToken::new());
    let outgoing = Outgoing { queue, overflow: overflow.clone(), abort: abort.clone() };
    (outgoing, Queue { items, overflow, abort })
}

impl Outgoing {
    /// Queues a frame. `false`: the connection has ended, or ends now because the queue is full.
    pub fn send(&self, frame: Down) -> bool {
        self.push(Item::Frame(frame))
    }

    /// Ends the connection after what was sent before.
    pub fn close(&self) {
        self.push(Item::Close);
    }

    /// Ends the connection at once: what is still queued is not said.
    pub fn abort(&self) {
        self.abort.cancel();
    }

    /// Of a connection that has ended.
    #[cfg(test)]
    pub(crate) fn to_nobody() -> Self {
        queue(1).0
    }

    fn push(&self, item: Item) -> bool {
        // Once one is lost, nothing may slip in behind it.
        if self.overflow.is_cancelled() || self.abort.is_cancelled() {
            return false;
        }
        match self.queue.try_send(item) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.overflow.cancel();
                false
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_ends_its_connection_and_takes_nothing_more() {
        let (outgoing, mut queue) = queue(2);
        assert!(outgoing.send(Down::Wait {}));
        outgoing.close();
        assert!(!queue.overflow.is_cancelled());
        assert!(!outgoing.send(Down::Wait {}));
        assert!(queue.overflow.is_cancelled());
        assert!(queue.items.try_recv().is_ok());
        assert!(!outgoing.send(Down::Wait {}));
        assert!(matches!(queue.items.try_recv(), Ok(Item::Close)));
        assert!(queue.items.try_recv().is_err());
    }

    #[test]
    fn an_aborted_connection_takes_nothing_more_and_is_not_blamed() {
        let (outgoing, queue) = queue(2);
        assert!(outgoing.send(Down::Wait {}));
        outgoing.abort();
        assert!(!outgoing.send(Down::Wait {}));
        assert!(queue.abort.is_cancelled() && !queue.overflow.is_cancelled());
    }
}
