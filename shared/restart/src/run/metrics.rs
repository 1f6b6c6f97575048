//! Metrics, and the readiness that the probes report.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

/// The value of a counter or gauge.
#[derive(Debug, Default)]
pub(super) struct Value(AtomicU64);

impl Value {
    pub(super) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metrics {
    /// Records that all initial lists are complete.
    pub(super) fn set_ready(&self) {
        self.is_ready.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }

    /// Returns the metrics in Prometheus' text format.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (name, kind, help, value) in [
            (
                "restarts_total",
                "counter",
                "Restarts of workloads",
                &self.restarts,
            ),
            (
                "refreshes_total",
                "counter",
                "Refreshes of the mounted Secrets of a Pod",
                &self.refreshes,
            ),
            (
                "reverted_total",
                "counter",
                "Workloads whose annotation another client removed twice",
                &self.reverted,
            ),
            (
                "request_failures_total",
                "counter",
                "Requests to the API server that failed",
                &self.failures,
            ),
            (
                "waiting",
                "gauge",
                "Workloads that wait for a restart",
                &self.waiting,
            ),
            (
                "workloads",
                "gauge",
                "Workloads that opt in",
                &self.workloads,
            ),
            (
                "is_leader",
                "gauge",
                "Whether this replica is the leader",
                &self.is_leader,
            ),
        ] {
            let value = value.get();
            let _ = writeln!(
                text,
                "# HELP {PREFIX}_{name} {help}\n# TYPE {PREFIX}_{name} {kind}\n{PREFIX}_{name} {value}"
            );
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
        let text = metrics.text();
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
