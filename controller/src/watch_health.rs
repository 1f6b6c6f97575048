//! Tracks which watches fail, since when and why: for metrics, an alert and `/readyz/watches`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// Why a watch fails, as shown in a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The controller lacks the permission.
    Forbidden,
    /// The CRD is missing.
    Missing,
    /// The API server does not answer.
    Unreachable,
    /// The API server answers with another error.
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

/// An ongoing failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failing {
    since: Timestamp,
    cause: Cause,
}

/// The watches that currently fail.
#[derive(Debug, Default)]
pub struct WatchHealth {
    failing: Mutex<BTreeMap<String, Failing>>,
}

impl WatchHealth {
    /// Records a failure. An ongoing failure keeps its start time.
    pub fn fails(&self, what: &str, cause: Cause, now: Timestamp) {
        let mut failing = self.failing();
        let since = failing.get(what).map_or(now, |before| before.since);
        failing.insert(what.to_owned(), Failing { since, cause });
    }

    /// Records that a watch works. Returns whether it failed before.
    pub fn works(&self, what: &str) -> bool {
        self.failing().remove(what).is_some()
    }

    /// Returns the start of the oldest ongoing failure, or `None` if all watches work.
    pub fn since(&self) -> Option<Timestamp> {
        self.failing().values().map(|failing| failing.since).min()
    }

    /// Returns how many watches fail for this cause.
    pub fn count(&self, cause: Cause) -> usize {
        let failing = self.failing();
        failing
            .values()
            .filter(|failing| failing.cause == cause)
            .count()
    }

    /// Returns one line per failure, at most twenty; empty if all watches work.
    pub fn report(&self) -> String {
        let failing = self.failing();
        let mut text = String::new();
        for (what, Failing { since, cause }) in failing.iter().take(MAX_REPORT_LINES) {
            let _ = writeln!(text, "{what}: {} since {since:.0}", cause.name());
        }
        if let Some(more) = failing
            .len()
            .checked_sub(MAX_REPORT_LINES)
            .filter(|more| *more > 0)
        {
            let _ = writeln!(text, "and {more} more");
        }
        text
    }

    fn failing(&self) -> MutexGuard<'_, BTreeMap<String, Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Maximum number of failures in a report.
const MAX_REPORT_LINES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn reports_the_start_of_the_oldest_failure() {
        let health = WatchHealth::default();
        assert_eq!((health.since(), health.report()), (None, String::new()));
        health.fails("a", Cause::Unreachable, at(5));
        health.fails("b", Cause::Missing, at(7));
        health.fails("a", Cause::Forbidden, at(9));
        assert_eq!(health.since(), Some(at(5)), "the start time is kept");
        let counts = Cause::ALL.map(|cause| health.count(cause));
        assert_eq!(counts, [1, 1, 0, 0], "the last cause counts");
        let report =
            "a: forbidden since 1970-01-01T00:00:05Z\nb: missing since 1970-01-01T00:00:07Z\n";
        assert_eq!(health.report(), report);
        health.works("a");
        assert_eq!(health.since(), Some(at(7)));
        health.works("b");
        assert_eq!(health.since(), None);
    }

    #[test]
    fn a_report_has_at_most_twenty_lines_and_the_number_of_the_rest() {
        let health = WatchHealth::default();
        for number in 0..23 {
            health.fails(&format!("{number:02}"), Cause::Failed, at(0));
        }
        let report = health.report();
        assert_eq!(report.lines().count(), 21);
        assert!(report.ends_with("and 3 more\n"), "{report}");
    }
}
