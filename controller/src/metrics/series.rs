//! All series: names, types, labels and help texts.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

pub(super) const PREFIX: &str = "sealed_secrets_controller";
/// The default buckets of Prometheus' client libraries, which upstream uses.
const BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

#[derive(Debug)]
pub(super) struct Series {
    pub(super) registry: Registry,
    pub(super) unseal_requests: IntCounter,
    pub(super) unseal_errors: IntCounterVec,
    pub(super) conditions: IntGaugeVec,
    pub(super) http_requests: IntCounterVec,
    pub(super) http_durations: HistogramVec,
    pub(super) queue: IntGauge,
    pub(super) reconciles: Histogram,
    pub(super) key_operations: IntCounter,
    pub(super) recognised: IntCounter,
    pub(super) risky: IntCounterVec,
    pub(super) leads: IntGauge,
    pub(super) newest_key_age: IntGauge,
    pub(super) renew_period: IntGauge,
    pub(super) keys: IntGaugeVec,
    pub(super) held_back: IntGaugeVec,
    pub(super) objects: IntGaugeVec,
    pub(super) watches_failing: IntGaugeVec,
    pub(super) watches_failing_since: IntGauge,
}

impl Series {
    /// Creates all series with value zero.
    ///
    /// # Errors
    ///
    /// Returns an error if two series have the same name.
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let new = New(Registry::new());
        new.gauges("build_info", "Build information.", &["revision"])?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(0);
        Ok(Self {
            unseal_requests: new.counter(
                "unseal_requests_total",
                "Total number of sealed secret unseal requests",
            )?,
            unseal_errors: new.counters(
                "unseal_errors_total",
                "Total number of sealed secret unseal errors by reason",
                &["reason", "namespace"],
            )?,
            conditions: new.gauges(
                "condition_info",
                "Current SealedSecret condition status",
                &[
                    "namespace",
                    "name",
                    "condition",
                    "ss_app_kubernetes_io_instance",
                ],
            )?,
            http_requests: new.counters(
                "http_requests_total",
                "A counter for requests to the wrapped handler.",
                &["path", "code", "method"],
            )?,
            http_durations: new.histograms(
                "http_request_duration_seconds",
                "A histogram of latencies for requests.",
                &["path", "method"],
            )?,
            queue: new.gauge(
                "queue_depth",
                "Objects that are to be looked at, now or later.",
            )?,
            reconciles: new.histogram(
                "reconcile_duration_seconds",
                "How long one reconcile of an object took.",
            )?,
            key_operations: new.counter(
                "private_key_operations_total",
                "Private-key operations since the start.",
            )?,
            recognised: new.counter(
                "recognised_total",
                "Looks at objects whose Secret was known to be in place, decrypting nothing.",
            )?,
            risky: new.counters(
                "risky_secrets_total",
                "Secrets made or changed whose type gives their author more than values.",
                &["type"],
            )?,
            leads: new.gauge(
                "leader",
                "1 while this replica is the one that writes, else 0.",
            )?,
            newest_key_age: new.gauge(
                "newest_key_age_seconds",
                "Seconds since the newest key was made, not counting keys from the future; -1 without any key.",
            )?,
            renew_period: new.gauge(
                "key_renew_period_seconds",
                "Age at which the newest key is followed by another; 0 for never.",
            )?,
            keys: new.gauges(
                "keys",
                "Keys by state: valid, expired, not_yet_valid, unusable.",
                &["state"],
            )?,
            held_back: new.gauges(
                "keys_held_back",
                "Keys that open and may not seal, by reason: not_backed_up, compromised, opening_only, removed.",
                &["reason"],
            )?,
            objects: new.gauges(
                "objects",
                "SealedSecrets by the status of their condition Synced.",
                &["synced"],
            )?,
            watches_failing: new.gauges(
                "watches_failing",
                "Watches that fail now, by reason: forbidden, missing, unreachable, failed.",
                &["reason"],
            )?,
            watches_failing_since: new.gauge(
                "watches_failing_since_timestamp_seconds",
                "Since when some watch fails, in seconds since 1970; 0 while all work.",
            )?,
            registry: new.0,
        })
    }
}

/// Creates series with the common prefix and registers them.
struct New(Registry);

impl New {
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.registered(IntCounter::with_opts(options(name, help))?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.registered(IntCounterVec::new(options(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.registered(IntGauge::with_opts(options(name, help))?)
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.registered(IntGaugeVec::new(options(name, help), labels)?)
    }

    fn histogram(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        self.registered(Histogram::with_opts(in_buckets(name, help))?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<HistogramVec, prometheus::Error> {
        self.registered(HistogramVec::new(in_buckets(name, help), labels)?)
    }

    fn registered<C: Collector + Clone + 'static>(
        &self,
        series: C,
    ) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(series.clone()))?;
        Ok(series)
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("{PREFIX}_{name}"), help)
}

fn in_buckets(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::from(options(name, help)).buckets(BUCKETS.to_vec())
}
