//! Waiting for a condition that only asking can tell.

use std::time::Duration;

use anyhow::{Error, Result};
use tokio::time::Instant;

use super::periods::PATIENCE;

/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Asks until the answer is a value; an error is what is still missing. After [`PATIENCE`] the last one is the error.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut before = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let missing = match tokio::time::timeout(left, ask()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(missing)) => missing,
            Err(_) => before.take().unwrap_or_else(|| Error::msg("the first question was not answered")),
        };
        if Instant::now() + ASK_EVERY >= deadline {
            return Err(missing.context(format!("{what}: not within {PATIENCE:?}")));
        }
        before = Some(missing);
        tokio::time::sleep(ASK_EVERY).await;
    }
}
