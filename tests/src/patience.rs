//! Waiting for what happens soon, without sleeping for a fixed time.

use std::time::{Duration, Instant};

/// How long anything may take. Far more than needed: only a failing test waits this long.
pub const LIMIT: Duration = Duration::from_mins(1);

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Looks again and again until `look` gives a value.
///
/// # Panics
/// If it gives none within [`LIMIT`], naming `what` was waited for.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited {LIMIT:?} in vain until {what}"
        );
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// Waits for `future`.
///
/// # Panics
/// If it is not done within [`LIMIT`], naming `what` was waited for.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    let done = tokio::time::timeout(LIMIT, future).await;
    done.unwrap_or_else(|_| panic!("waited {LIMIT:?} in vain until {what}"))
}
