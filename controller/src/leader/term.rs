use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

/// An instant of a clock that cannot be set and that continues while the machine sleeps, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// An instant that is never reached.
    pub const END: Self = Self(u64::MAX);

    /// Returns the current instant.
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
        Self(
            seconds
                .saturating_mul(1000)
                .saturating_add(nanoseconds / 1_000_000),
        )
    }

    /// Returns the instant that is `time` later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(milliseconds))
    }

    /// Returns the time from `self` until `then`, or zero if `then` is earlier.
    pub fn until(self, then: Self) -> Duration {
        Duration::from_millis(then.0.saturating_sub(self.0))
    }
}

/// Until when this replica may write. It is checked before each write, so a replica that was asleep at its end does not
/// write afterwards.
#[derive(Debug, Default)]
pub struct Term {
    end: AtomicU64,
    changed: Notify,
}

impl Term {
    /// Returns whether the replica may write now.
    pub fn lasts(&self) -> bool {
        Moment::now() < Moment(self.end.load(Ordering::Acquire))
    }

    /// Allows writes until this instant.
    pub fn extend(&self, until: Moment) {
        self.end.store(until.0, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Forbids further writes.
    pub fn end(&self) {
        self.extend(Moment(0));
    }

    /// Returns when the term has ended, even if it was shortened meanwhile.
    pub async fn ended(&self) {
        loop {
            let changed = self.changed.notified();
            let (now, end) = (Moment::now(), Moment(self.end.load(Ordering::Acquire)));
            if end <= now {
                return;
            }
            // Wait at most a second at a time, since a timer can be late after the machine slept.
            let wait = now.until(end).min(Duration::from_secs(1));
            let _ = tokio::time::timeout(wait, changed).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lasts_exactly_until_its_end() {
        let term = Term::default();
        assert!(!term.lasts(), "it was never extended");
        term.extend(Moment::now().after(Duration::from_millis(30)));
        assert!(term.lasts());
        term.ended().await;
        assert!(!term.lasts());
        term.extend(Moment::END);
        assert!(term.lasts());
        term.end();
        assert!(!term.lasts());
    }
}
