use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

/// An instant of a clock that nobody can set and that goes on while the machine sleeps, in
/// milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// It never comes.
    pub const END: Self = Self(u64::MAX);

    /// Now.
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

    /// So much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(milliseconds))
    }

    /// How long it is until then; nothing if it is past.
    pub fn until(self, then: Self) -> Duration {
        Duration::from_millis(then.0.saturating_sub(self.0))
    }
}

/// Until when this replica may write. It is looked at before each write, so a replica that slept
/// through the end of its term writes nothing after it.
#[derive(Debug, Default)]
pub struct Term {
    end: AtomicU64,
    changed: Notify,
}

impl Term {
    /// May it write now?
    pub fn lasts(&self) -> bool {
        Moment::now() < Moment(self.end.load(Ordering::Acquire))
    }

    /// It may write until then.
    pub fn extend(&self, until: Moment) {
        self.end.store(until.0, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// It may write no more.
    pub fn end(&self) {
        self.extend(Moment(0));
    }

    /// Comes back when it has ended, even if it was longer once.
    pub async fn ended(&self) {
        loop {
            let changed = self.changed.notified();
            let (now, end) = (Moment::now(), Moment(self.end.load(Ordering::Acquire)));
            if end <= now {
                return;
            }
            // A timer may be far off after a sleep of the machine, so it is not trusted for long.
            let wait = now.until(end).min(Duration::from_secs(1));
            let _ = tokio::time::timeout(wait, changed).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lasts_until_its_end_and_no_longer() {
        let term = Term::default();
        assert!(!term.lasts(), "nobody gave it");
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
