//! Metrics, and the readiness that the probes report.

use std::sync::atomic::{AtomicBool, Ordering};

use probes::Status;
use probes::metrics::{Kind, Value, write_metric};

/// Prefix of every metric.
const PREFIX: &str = "sealed_secrets_restart";

/// The counters and gauges of `seal restart`.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) restarts: Value,
    pub(super) refreshes: Value,
    pub(super) reverted: Value,
    pub(super) failures: Value,
    pub(super) waiting: Value,
    pub(super) workloads: Value,
    pub(super) is_leader: Value,
    is_ready: AtomicBool,
}

impl Metrics {
    /// Makes the readiness probe succeed.
    pub(super) fn set_ready(&self) {
        self.is_ready.store(true, Ordering::Relaxed);
    }
}

impl Status for Metrics {
    fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        for (name, kind, help, value) in [
            (
                "restarts_total",
                Kind::Counter,
                "Restarts of workloads",
                &self.restarts,
            ),
            (
                "refreshes_total",
                Kind::Counter,
                "Refreshes of the mounted Secrets of a Pod",
                &self.refreshes,
            ),
            (
                "reverted_total",
                Kind::Counter,
                "Workloads whose annotation another client removed twice",
                &self.reverted,
            ),
            (
                "request_failures_total",
                Kind::Counter,
                "Requests to the API server that failed",
                &self.failures,
            ),
            (
                "waiting",
                Kind::Gauge,
                "Workloads that wait for a restart",
                &self.waiting,
            ),
            (
                "workloads",
                Kind::Gauge,
                "Workloads that opt in",
                &self.workloads,
            ),
            (
                "is_leader",
                Kind::Gauge,
                "Whether this replica is the leader",
                &self.is_leader,
            ),
        ] {
            write_metric(&mut text, &format!("{PREFIX}_{name}"), kind, help, value);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_text_format() {
        let metrics = Metrics::default();
        metrics.restarts.increment();
        metrics.waiting.set(7);
        let text = metrics.metrics();
        for line in [
            "# TYPE sealed_secrets_restart_restarts_total counter",
            "sealed_secrets_restart_restarts_total 1",
            "sealed_secrets_restart_waiting 7",
            "sealed_secrets_restart_is_leader 0",
        ] {
            assert!(
                text.lines().any(|written| written == line),
                "{line} in {text}"
            );
        }
    }
}
