//! Defines all series: names, types, labels and help strings.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

pub(super) const PREFIX: &str = "sealed_secrets_controller";
/// The default buckets of Prometheus' client libraries, as in upstream.
const BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

#[derive(Debug)]
pub(super) struct Series {
    pub(super) registry: Registry,
    pub(super) unseal_requests: IntCounter,
    pub(super) unseal_errors: IntCounterVec,
    pub(super) conditions: IntGaugeVec,
    pub(super) rotate_by: IntGaugeVec,
    pub(super) http_requests: IntCounterVec,
    pub(super) http_durations: HistogramVec,
    pub(super) queue: IntGauge,
    pub(super) reconciles: Histogram,
    pub(super) key_operations: IntCounter,
    pub(super) recognized: IntCounter,
    pub(super) risky: IntCounterVec,
    pub(super) is_leader: IntGauge,
    pub(super) newest_key_age: IntGauge,
    pub(super) renew_period: IntGauge,
    pub(super) keys: IntGaugeVec,
    pub(super) suite_keys: IntGaugeVec,
    pub(super) suite_newest_key_age: IntGaugeVec,
    pub(super) held_back: IntGaugeVec,
    pub(super) objects: IntGaugeVec,
    pub(super) watches_failing: IntGaugeVec,
    pub(super) watches_failing_since: IntGauge,
    pub(super) deliveries: IntCounterVec,
    pub(super) waiting_deliveries: IntGauge,
}

impl Series {
    /// Creates and registers all series.
    ///
    /// # Errors
    ///
    /// Returns an error if two series have the same name.
    #[expect(clippy::too_many_lines, reason = "one list of series")]
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let registration = Registration(Registry::new());
        registration
            .gauges("build_info", "Build information.", &["revision"])?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(0);
        Ok(Self {
            unseal_requests: registration.counter(
                "unseal_requests_total",
                "Total number of sealed secret unseal requests",
            )?,
            unseal_errors: registration.counters(
                "unseal_errors_total",
                "Total number of sealed secret unseal errors by reason",
                &["reason", "namespace"],
            )?,
            conditions: registration.gauges(
                "condition_info",
                "Current SealedSecret condition status",
                &[
                    "namespace",
                    "name",
                    "condition",
                    "ss_app_kubernetes_io_instance",
                ],
            )?,
            rotate_by: registration.gauges(
                "rotate_by_timestamp_seconds",
                "Beginning of the earliest rotate-by date of the items of a SealedSecret, in seconds since 1970.",
                &["namespace", "name"],
            )?,
            http_requests: registration.counters(
                "http_requests_total",
                "A counter for requests to the wrapped handler.",
                &["path", "code", "method"],
            )?,
            http_durations: registration.histograms(
                "http_request_duration_seconds",
                "A histogram of latencies for requests.",
                &["path", "method"],
            )?,
            queue: registration.gauge(
                "queue_depth",
                "Objects in the queue, including those that are not due yet.",
            )?,
            reconciles: registration.histogram(
                "reconcile_duration_seconds",
                "Duration of a reconciliation of an object.",
            )?,
            key_operations: registration.counter(
                "private_key_operations_total",
                "Private-key operations since the process started.",
            )?,
            recognized: registration.counter(
                "recognized_total",
                "Reconciliations of objects whose Secret was recognized as up to date, without decryption.",
            )?,
            risky: registration.counters(
                "risky_secrets_total",
                "Created or changed Secrets of a type that grants the author of the SealedSecret access beyond the values.",
                &["type"],
            )?,
            is_leader: registration.gauge(
                "leader",
                "1 while this replica is the leader, else 0.",
            )?,
            newest_key_age: registration.gauge(
                "newest_key_age_seconds",
                "Seconds since the newest RSA key was created, ignoring keys from the future; -1 if there is no key.",
            )?,
            renew_period: registration.gauge(
                "key_renew_period_seconds",
                "Age of the newest key at which a new key is generated; 0 if renewal is disabled.",
            )?,
            keys: registration.gauges(
                "keys",
                "RSA keys by state: valid, expired, not_yet_valid; and unusable key Secrets of every suite.",
                &["state"],
            )?,
            suite_keys: registration.gauges(
                "suite_keys",
                "RSA keys and keys of the suite of --sealing-suite, by state: valid, expired, not_yet_valid.",
                &["suite", "state"],
            )?,
            suite_newest_key_age: registration.gauges(
                "suite_newest_key_age_seconds",
                "Seconds since the newest key of the suite was created, ignoring keys from the future; -1 if there is no key.",
                &["suite"],
            )?,
            held_back: registration.gauges(
                "keys_held_back",
                "Keys that can unseal but not seal, by reason: not_backed_up, compromised, opening_only, removed.",
                &["reason"],
            )?,
            objects: registration.gauges(
                "objects",
                "SealedSecrets by the status of their condition Synced.",
                &["synced"],
            )?,
            watches_failing: registration.gauges(
                "watches_failing",
                "Watches that currently fail, by reason: forbidden, missing, unreachable, failed.",
                &["reason"],
            )?,
            watches_failing_since: registration.gauge(
                "watches_failing_since_timestamp_seconds",
                "Start of the oldest ongoing failure of a watch, in seconds since 1970; 0 if all watches work.",
            )?,
            deliveries: registration.register(IntCounterVec::new(
                Opts::new(
                    "sealed_secrets_deliver_requests_total",
                    "Requests of Pods for values, by the class of the response: 2xx, 304, 4xx, 5xx.",
                ),
                &["code"],
            )?)?,
            waiting_deliveries: registration.register(IntGauge::new(
                "sealed_secrets_deliver_waiting",
                "Requests of Pods that wait for a change.",
            )?)?,
            registry: registration.0,
        })
    }
}

/// A registry, whose methods create series with the common prefix.
struct Registration(Registry);

impl Registration {
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::with_opts(options(name, help))?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(options(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::with_opts(options(name, help))?)
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(options(name, help), labels)?)
    }

    fn histogram(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        self.register(Histogram::with_opts(histogram_options(name, help))?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<HistogramVec, prometheus::Error> {
        self.register(HistogramVec::new(histogram_options(name, help), labels)?)
    }

    fn register<C: Collector + Clone + 'static>(&self, series: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(series.clone()))?;
        Ok(series)
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("{PREFIX}_{name}"), help)
}

fn histogram_options(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::from(options(name, help)).buckets(BUCKETS.to_vec())
}
