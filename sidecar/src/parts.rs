//! The tasks of the process: one that ends before the process does is an error, not a silence.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};

/// Tasks that run for as long as the process does, by name. Dropped, they are aborted.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Parts {
    pub(crate) fn spawn<T>(&mut self, name: &'static str, task: impl Future<Output = T> + Send + 'static) {
        let task = self.tasks.spawn(async move { drop(task.await) });
        self.names.insert(task.id(), name);
    }

    /// Waits for one to end, and says which.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        let Some(ended) = self.tasks.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let (name, error) = self.end(ended);
        let error = error.map(|error| format!(": {error}")).unwrap_or_default();
        anyhow::anyhow!("{name} has ended, and nothing works without it{error}")
    }

    /// Waits until those named have ended, for `patience` at most; the others are aborted. False when it took longer.
    pub(crate) async fn finish(mut self, names: &[&str], patience: Duration) -> bool {
        let finished = async {
            while self.names.values().any(|name| names.contains(name)) {
                let Some(ended) = self.tasks.join_next_with_id().await else {
                    return;
                };
                self.end(ended);
            }
        };
        tokio::time::timeout(patience, finished).await.is_ok()
    }

    fn end(&mut self, ended: Result<(Id, ()), JoinError>) -> (&'static str, Option<JoinError>) {
        let (id, error) = match ended {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(error)),
        };
        (self.names.remove(&id).unwrap_or("a task"), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_ends_is_named_whatever_ended_it() {
        for panics in [false, true] {
            let mut parts = Parts::default();
            parts.spawn("the server", std::future::pending::<()>());
            parts.spawn("the client", async move { assert!(!panics, "as told") });
            let error = parts.ended().await.to_string();
            assert!(error.starts_with("the client has ended"), "{error}");
            assert_eq!(error.contains("panic"), panics, "{error}");
        }
    }

    #[tokio::test]
    async fn only_the_named_are_waited_for() {
        let (say, mut said) = tokio::sync::mpsc::channel(1);
        let mut parts = Parts::default();
        parts.spawn("the server", std::future::pending::<()>());
        parts.spawn("the client", async move { say.send(()).await });
        assert!(parts.finish(&["the client"], Duration::from_mins(1)).await);
        assert!(said.try_recv().is_ok());
    }
}
