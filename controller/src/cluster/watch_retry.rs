//! Backoff for watches that failed.

use std::time::Duration;

use kube::runtime::watcher::Error as WatchError;
use tokio::time::Instant;

/// The first pause, doubled after each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The part of the maximum pause for each watched namespace. The maximum pause is within the two bounds below, and
/// short, so that a recovered API server or a granted permission is detected soon.
const MAX_PAUSE_PER_NAMESPACE: Duration = Duration::from_millis(10);
const SHORTEST_MAX_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_MAX_PAUSE: Duration = Duration::from_secs(5);
/// The time without a failure after which the backoff is reset.
const RESET_AFTER: Duration = Duration::from_mins(1);
/// HTTP 410: the version to continue from is no longer stored.
const EXPIRED: u16 = 410;

/// The backoff of one watch.
#[derive(Debug)]
pub(super) struct WatchRetry {
    max_pause: Duration,
    failures: u32,
    last: Option<Instant>,
    expired: bool,
}

impl WatchRetry {
    /// Creates the backoff of one watch. `namespaces` is the number of watched namespaces.
    pub(super) fn new(namespaces: usize) -> Self {
        let count = u32::try_from(namespaces).unwrap_or(u32::MAX);
        let max_pause = MAX_PAUSE_PER_NAMESPACE
            .saturating_mul(count)
            .clamp(SHORTEST_MAX_PAUSE, LONGEST_MAX_PAUSE);
        Self {
            max_pause,
            failures: 0,
            last: None,
            expired: false,
        }
    }

    /// Records an event, which proves that the watch works.
    pub(super) fn record_event(&mut self) {
        self.expired = false;
    }

    /// Records a failure and returns how long to wait. An expired version is not a fault of the API server, so the
    /// objects are listed again immediately, unless the version expires again before any event. `random` is from 0 to 1
    /// and shortens the wait by up to half, so that many watches do not retry at the same time.
    pub(super) fn pause(&mut self, error: &WatchError, now: Instant, random: f64) -> Duration {
        if is_expired(error) && !std::mem::replace(&mut self.expired, true) {
            return Duration::ZERO;
        }
        if self
            .last
            .is_none_or(|last| now.duration_since(last) > RESET_AFTER)
        {
            self.failures = 0;
        }
        self.last = Some(now);
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.max_pause).mul_f64(0.5 + random / 2.0)
    }
}

/// Returns whether the API server no longer has the version to continue from, which does not count as a
/// failure.
pub(super) fn is_expired(error: &WatchError) -> bool {
    match error {
        WatchError::WatchError(status) | WatchError::WatchStartFailed(kube::Error::Api(status)) => {
            status.code == EXPIRED
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn expired_error() -> WatchError {
        WatchError::WatchError(Box::new(
            Status::failure("too old", "Expired").with_code(410),
        ))
    }

    fn pauses(errors: &[WatchError], interval: Duration) -> Vec<u128> {
        pauses_with(1000, errors, interval)
    }

    /// Returns the pauses in milliseconds after errors at the given interval.
    fn pauses_with(namespaces: usize, errors: &[WatchError], interval: Duration) -> Vec<u128> {
        let (mut retry, mut now) = (WatchRetry::new(namespaces), Instant::now());
        let pause = errors.iter().map(|error| {
            now += interval;
            retry.pause(error, now, 1.0).as_millis()
        });
        pause.collect()
    }

    fn errors(count: usize) -> Vec<WatchError> {
        (0..count).map(|_| WatchError::NoResourceVersion).collect()
    }

    #[test]
    fn waits_longer_after_each_failure_up_to_five_seconds() {
        let got = pauses(&errors(8), Duration::from_secs(1));
        assert_eq!(got, [250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
    }

    #[test]
    fn waits_at_most_a_second_with_a_hundred_namespaces() {
        for (namespaces, last) in [(1, 1000), (100, 1000), (250, 2500), (10_000, 5000)] {
            let got = pauses_with(namespaces, &errors(8), Duration::from_secs(1));
            assert_eq!(got.last(), Some(&last), "{namespaces}");
        }
    }

    #[test]
    fn the_backoff_is_reset_after_a_minute_without_failures() {
        assert_eq!(pauses(&errors(3), Duration::from_secs(61)), [250; 3]);
    }

    #[test]
    fn lists_at_once_when_the_version_has_expired_but_not_repeatedly() {
        let errors = [expired_error(), expired_error(), expired_error()];
        assert_eq!(pauses(&errors, Duration::ZERO), [0, 250, 500]);
        let mut retry = WatchRetry::new(1);
        for _ in 0..3 {
            let pause = retry.pause(&expired_error(), Instant::now(), 1.0);
            assert_eq!(pause, Duration::ZERO);
            retry.record_event();
        }
    }

    #[test]
    fn randomness_shortens_a_pause_by_at_most_half() {
        for random in [0.0, 0.5, 1.0] {
            let pause =
                WatchRetry::new(1).pause(&WatchError::NoResourceVersion, Instant::now(), random);
            assert!(
                pause >= FIRST_PAUSE / 2 && pause <= FIRST_PAUSE,
                "{pause:?}"
            );
        }
    }
}
