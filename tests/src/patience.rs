//! Waits for events without sleeping for a fixed time.

use std::time::{Duration, Instant};

/// Default limit for a wait, far longer than needed: only a failing test waits this long.
pub const LIMIT: Duration = Duration::from_mins(1);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Calls `poll` repeatedly until it returns a value.
///
/// # Panics
/// Panics if there is no value within [`LIMIT`]; the message contains `description`.
pub async fn until<T>(description: &str, poll: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(LIMIT, description, poll).await
}

/// Like [`until`], with another limit, for work that takes a long time in a development build.
///
/// # Panics
/// Panics if there is no value within `limit`; the message contains `description`.
pub async fn until_within<T>(
    limit: Duration,
    description: &str,
    mut poll: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = poll().await {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "timed out after {limit:?}, waiting until {description}"
        );
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Waits for `future`; returns its result.
///
/// # Panics
/// Panics if the future is not ready within [`LIMIT`]; the message contains `description`.
pub async fn within_limit<F: Future>(description: &str, future: F) -> F::Output {
    let result = tokio::time::timeout(LIMIT, future).await;
    result.unwrap_or_else(|_| panic!("timed out after {LIMIT:?}, waiting until {description}"))
}
