use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

/// An instant of a clock that cannot be set and that continues while the machine is suspended, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// An instant that is never reached.
    pub const NEVER: Self = Self(u64::MAX);

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

/// The time until which this replica may write. The time is checked before each write, so a replica that is paused
/// while the time passes does not write afterwards.
#[derive(Debug, Default)]
pub struct WriteLease {
    expiry: AtomicU64,
    changed: Notify,
}

impl WriteLease {
    /// Returns whether the replica may write now.
    pub fn is_valid(&self) -> bool {
        Moment::now() < Moment(self.expiry.load(Ordering::Acquire))
    }

    /// Allows writes until this instant.
    pub fn extend(&self, until: Moment) {
        self.expiry.store(until.0, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Forbids further writes.
    pub fn revoke(&self) {
        self.extend(Moment(0));
    }

    /// Waits until the replica may no longer write, even if the time is extended in the meantime.
    pub async fn wait_until_expired(&self) {
        loop {
            let notified = self.changed.notified();
            let (now, expiry) = (Moment::now(), Moment(self.expiry.load(Ordering::Acquire)));
            if expiry <= now {
                return;
            }
            // Wait at most a second at a time, since a timer can be late after the machine was suspended.
            let wait = now.until(expiry).min(Duration::from_secs(1));
            let _ = tokio::time::timeout(wait, notified).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_write_lease_is_valid_until_it_expires_or_is_revoked() {
        let write_lease = WriteLease::default();
        assert!(
            !write_lease.is_valid(),
            "the write lease was never extended"
        );
        write_lease.extend(Moment::now().after(Duration::from_millis(30)));
        assert!(write_lease.is_valid());
        write_lease.wait_until_expired().await;
        assert!(!write_lease.is_valid());
        write_lease.extend(Moment::NEVER);
        assert!(write_lease.is_valid());
        write_lease.revoke();
        assert!(!write_lease.is_valid());
    }
}
