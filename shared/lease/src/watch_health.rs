//! Tracks which watches fail, since when and why: for metrics, an alert and `/readyz/watches`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// Why a watch fails, as shown in a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The API server does not accept the controller's credentials, or the controller lacks the permission.
    Forbidden,
    /// The API server does not serve the resource, usually because the CRD is missing.
    Missing,
    /// The API server cannot be reached.
    Unreachable,
    /// The API server responds with another error, or with an object that cannot be parsed.
    Failed,
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 4] = [
        Self::Forbidden,
        Self::Missing,
        Self::Unreachable,
        Self::Failed,
    ];

    /// Returns the name of the cause in metrics and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Missing => "missing",
            Self::Unreachable => "unreachable",
            Self::Failed => "failed",
        }
    }
}

impl From<&kube::Error> for Cause {
    fn from(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::from_code(status.code),
            kube::Error::SerdeError(_) => Self::Failed,
            _ => Self::Unreachable,
        }
    }
}

impl Cause {
    /// Returns the cause for an HTTP status code of the API server.
    pub fn from_code(code: u16) -> Self {
        match code {
            401 | 403 => Self::Forbidden,
            404 => Self::Missing,
            _ => Self::Failed,
        }
    }
}

/// An ongoing failure of a watch, and its cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failure {
    since: Timestamp,
    cause: Cause,
}

/// The watches that currently fail.
#[derive(Debug, Default)]
pub struct WatchHealth {
    failing: Mutex<BTreeMap<String, Failure>>,
}

impl WatchHealth {
    /// Records a failure. An ongoing failure keeps its start time.
    pub fn record_failure(&self, watch: &str, cause: Cause, now: Timestamp) {
        let mut failing = self.failing();
        let since = failing.get(watch).map_or(now, |failure| failure.since);
        failing.insert(watch.to_owned(), Failure { since, cause });
    }

    /// Records that a watch works. Returns whether it failed before.
    pub fn record_success(&self, watch: &str) -> bool {
        self.failing().remove(watch).is_some()
    }

    /// Returns the start of the oldest ongoing failure, or `None` if all watches work.
    pub fn failing_since(&self) -> Option<Timestamp> {
        self.failing().values().map(|failure| failure.since).min()
    }

    /// Returns how many watches fail for this cause.
    pub fn count_failing(&self, cause: Cause) -> usize {
        let failing = self.failing();
        failing
            .values()
            .filter(|failure| failure.cause == cause)
            .count()
    }

    /// Returns one line for each of the first twenty failures, and the number of further failures; empty if all watches
    /// work.
    pub fn report(&self) -> String {
        let failing = self.failing();
        let mut text = String::new();
        for (watch, Failure { since, cause }) in failing.iter().take(MAX_REPORT_LINES) {
            let _ = writeln!(text, "{watch}: {} since {since:.0}", cause.name());
        }
        if let Some(omitted) = failing
            .len()
            .checked_sub(MAX_REPORT_LINES)
            .filter(|omitted| *omitted > 0)
        {
            let _ = writeln!(text, "and {omitted} more");
        }
        text
    }

    fn failing(&self) -> MutexGuard<'_, BTreeMap<String, Failure>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Maximum number of failures in a report.
const MAX_REPORT_LINES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn reports_the_start_of_the_oldest_failure() {
        let health = WatchHealth::default();
        assert_eq!(
            (health.failing_since(), health.report()),
            (None, String::new())
        );
        health.record_failure("a", Cause::Unreachable, timestamp(5));
        health.record_failure("b", Cause::Missing, timestamp(7));
        health.record_failure("a", Cause::Forbidden, timestamp(9));
        assert_eq!(
            health.failing_since(),
            Some(timestamp(5)),
            "the start time is kept"
        );
        let counts = Cause::ALL.map(|cause| health.count_failing(cause));
        assert_eq!(counts, [1, 1, 0, 0], "the last cause counts");
        let report =
            "a: forbidden since 1970-01-01T00:00:05Z\nb: missing since 1970-01-01T00:00:07Z\n";
        assert_eq!(health.report(), report);
        health.record_success("a");
        assert_eq!(health.failing_since(), Some(timestamp(7)));
        health.record_success("b");
        assert_eq!(health.failing_since(), None);
    }

    #[test]
    fn a_report_lists_at_most_twenty_failures_and_counts_the_others() {
        let health = WatchHealth::default();
        for number in 0..23 {
            health.record_failure(&format!("{number:02}"), Cause::Failed, timestamp(0));
        }
        let report = health.report();
        assert_eq!(report.lines().count(), 21);
        assert!(report.ends_with("and 3 more\n"), "{report}");
    }
}
