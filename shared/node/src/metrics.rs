//! Metrics of the provider. No label depends on a Pod, an object or a value.

use agent::metrics::Requests;
use probes::Status;
use probes::metrics::{Kind, Value, write_head, write_series};

use crate::failure::FinalCode;

/// Prefix of every metric.
const PREFIX: &str = "sealed_secrets_node";

/// The values of the label `code`. A call that the driver cancels gets no response, and is counted separately.
const CODES: [(Option<FinalCode>, &str); 8] = [
    (None, "OK"),
    (Some(FinalCode::InvalidArgument), "InvalidArgument"),
    (Some(FinalCode::NotFound), "NotFound"),
    (Some(FinalCode::PermissionDenied), "PermissionDenied"),
    (Some(FinalCode::FailedPrecondition), "FailedPrecondition"),
    (Some(FinalCode::Unimplemented), "Unimplemented"),
    (Some(FinalCode::Internal), "Internal"),
    (Some(FinalCode::Unauthenticated), "Unauthenticated"),
];

/// Counters and gauges of a provider.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests to the controller.
    pub(crate) requests: Requests,
    mounts: [Value; CODES.len()],
    canceled: Value,
}

impl Metrics {
    /// Counts a mount by its status code; `None` if the mount succeeded.
    pub(crate) fn count_mount(&self, code: Option<FinalCode>) {
        let index = CODES.iter().position(|(known, _)| *known == code);
        if let Some(value) = index.and_then(|index| self.mounts.get(index)) {
            value.increment();
        }
    }

    /// Counts a mount that the driver canceled.
    pub(crate) fn count_canceled(&self) {
        self.canceled.increment();
    }
}

impl Status for Metrics {
    fn metrics(&self) -> String {
        let mut text = String::new();
        self.requests.write(&mut text, PREFIX);
        let name = format!("{PREFIX}_mounts_total");
        let help =
            "Mounts of volumes by gRPC status code; Canceled if the driver canceled the call.";
        write_head(&mut text, &name, Kind::Counter, help);
        for ((_, label), value) in CODES.iter().zip(&self.mounts) {
            write_series(&mut text, &name, ("code", label), value);
        }
        write_series(&mut text, &name, ("code", "Canceled"), &self.canceled);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_counted_by_code() {
        let metrics = Metrics::default();
        metrics.count_mount(None);
        metrics.count_mount(Some(FinalCode::PermissionDenied));
        metrics.count_canceled();
        let text = metrics.metrics();
        for code in ["OK", "PermissionDenied", "Canceled"] {
            let line = format!("sealed_secrets_node_mounts_total{{code=\"{code}\"}} 1");
            assert!(text.lines().any(|written| written == line), "{text}");
        }
        assert!(text.contains("code=\"NotFound\"} 0"), "{text}");
    }
}
