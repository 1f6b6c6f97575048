//! Counters, gauges, and Prometheus' text format.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// The value of a counter or gauge.
#[derive(Debug, Default)]
pub struct Value(AtomicU64);

impl Value {
    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Sets the value if it is zero.
    pub fn set_if_zero(&self, value: u64) {
        let _ = self
            .0
            .compare_exchange(0, value, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Returns the current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value that only grows.
    Counter,
    /// A value that can grow and shrink.
    Gauge,
}

/// Writes the head of a metric: its name, help and type.
pub fn write_head(text: &mut String, name: &str, kind: Kind, help: &str) {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Writes a metric without labels.
pub fn write_metric(text: &mut String, name: &str, kind: Kind, help: &str, value: &Value) {
    write_head(text, name, kind, help);
    let _ = writeln!(text, "{name} {}", value.get());
}

/// Writes one series of a metric with a label. Label values come from the program, so they are not escaped.
pub fn write_series(text: &mut String, name: &str, label: (&str, &str), value: &Value) {
    let (key, label) = label;
    let _ = writeln!(text, "{name}{{{key}=\"{label}\"}} {}", value.get());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_text_format() {
        let mut text = String::new();
        let value = Value::default();
        value.increment();
        write_metric(&mut text, "a_total", Kind::Counter, "Count.", &value);
        write_head(&mut text, "b", Kind::Gauge, "By code.");
        write_series(&mut text, "b", ("code", "OK"), &value);
        let want = "# HELP a_total Count.\n# TYPE a_total counter\na_total 1\n# HELP b By code.\n# TYPE b gauge\nb{code=\"OK\"} 1\n";
        assert_eq!(text, want);
    }

    #[test]
    fn the_start_of_a_failure_stays_until_it_ends() {
        let since = Value::default();
        since.set_if_zero(5);
        since.set_if_zero(7);
        assert_eq!(since.get(), 5);
        since.set(0);
        since.set_if_zero(9);
        assert_eq!(since.get(), 9);
    }
}
