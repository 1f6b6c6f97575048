//! All metrics: upstream's, with their names, types and labels, and additional metrics.
//!
//! Uses the crate `prometheus` rather than `metrics`, since series must be removed together with their object, and
//! since two controllers in one test would share a global recorder.

mod series;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use controller_core::author_limits::RISKY_TYPES;
use controller_core::fault::Fault;
use controller_core::object_id::ObjectId;
use jiff::{SignedDuration, Timestamp};
use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, Metric, MetricFamily};
use shared::key::Validity;
use shared::key_ring::{KeyRing, NoSealingKey};
use shared::renewal::newest_key_time;
use shared::resource::SealedSecret;
use shared::rotate_by;
use shared::v2::Suite;
use shared::visible_line;

use self::series::Series;
use crate::watch_health::{Cause, WatchHealth};

/// Default maximum number of objects with their own series. A series takes about 200 bytes of each scrape, and some
/// kilobytes of Prometheus' memory.
const MAX_NAMED_OBJECTS: usize = 1000;
/// The granularity in bytes to which memory metrics are rounded up: the most memory that a template may use, 64 MiB.
const MEMORY_STEP: f64 = 67_108_864.0;

/// Label value for a risky type that is sealed in the deprecated form.
pub const SEALED_TYPE: &str = "(sealed)";

/// The paths that are counted, each with its method.
const PATHS: [(&str, &str); 5] = [
    ("/v1/cert.pem", "get"),
    ("/v1/certs.pem", "get"),
    ("/v2/recipients", "get"),
    ("/v1/verify", "post"),
    ("/v1/rotate", "post"),
];

/// A waiting request of a Pod, which is counted until this value is dropped.
#[derive(Debug)]
pub struct WaitingDelivery(prometheus::IntGauge);

impl Drop for WaitingDelivery {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The instance label, which distinguishes releases of a chart.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";

/// Returns the value of the instance label of an object; empty if it has none.
pub fn instance_label(labels: Option<&BTreeMap<String, String>>) -> &str {
    let instance = labels.and_then(|labels| labels.get(INSTANCE_LABEL));
    instance.map_or("", String::as_str)
}

/// What the metrics contain of the metadata of a SealedSecret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectLabels {
    /// The value of the instance label; empty without the label.
    pub instance: Box<str>,
    /// The earliest rotate-by date of its items, as the beginning of that date in seconds since 1970.
    pub rotate_by: Option<i64>,
}

impl ObjectLabels {
    /// Returns the labels of an object.
    pub fn of(sealed: &SealedSecret) -> Self {
        let rotate_by = rotate_by::earliest(sealed).and_then(rotate_by::start_of);
        Self {
            instance: instance_label(sealed.metadata.labels.as_ref()).into(),
            rotate_by: rotate_by.map(Timestamp::as_second),
        }
    }
}

/// The metrics of one controller.
#[derive(Debug)]
pub struct Metrics {
    series: Series,
    /// Whether the names of objects and namespaces are omitted.
    omits_names: bool,
    /// Maximum number of objects with their own series. Above this number, only objects that are not synced have a
    /// series.
    max_named_objects: usize,
    state: Mutex<State>,
    watches: Arc<WatchHealth>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ObjectId, ObjectState>,
    namespaces: BTreeSet<String>,
    ring: Arc<KeyRing>,
    unusable_keys: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ObjectState {
    instance: String,
    rotate_by: Option<i64>,
    is_synced: bool,
}

impl State {
    /// Returns whether a namespace has objects. Uses the order of the map, which is sorted by namespace.
    fn has_objects_in(&self, namespace: &str) -> bool {
        let first = ObjectId {
            namespace: namespace.to_owned(),
            name: String::new(),
        };
        let next = self.objects.range(first..).next();
        next.is_some_and(|(id, _)| id.namespace == namespace)
    }
}

impl Metrics {
    /// Creates the metrics. `omits_names` omits the series of objects, and counts errors for all namespaces together.
    ///
    /// # Errors
    ///
    /// Returns an error if two metrics have the same name, which the tests exclude.
    pub fn new(omits_names: bool) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            series: Series::new()?,
            omits_names,
            max_named_objects: MAX_NAMED_OBJECTS,
            state: Mutex::default(),
            watches: Arc::default(),
        };
        metrics.create_series();
        Ok(metrics)
    }

    /// Sets the maximum number of objects with their own series.
    #[must_use]
    pub fn with_max_named_objects(mut self, max_objects: usize) -> Self {
        self.max_named_objects = max_objects;
        self
    }

    fn create_series(&self) {
        for class in ["2xx", "304", "4xx", "5xx"] {
            self.series.deliveries.with_label_values(&[class]);
        }
        for type_ in RISKY_TYPES.into_iter().chain([SEALED_TYPE]) {
            self.series.risky.with_label_values(&[type_]);
        }
        self.create_error_series("");
        for (path, method) in PATHS {
            self.series
                .http_requests
                .with_label_values(&[path, "200", method]);
            self.series
                .http_durations
                .with_label_values(&[path, method]);
        }
    }

    /// Counts the response to a Pod that asked for values.
    pub fn count_delivery(&self, code: StatusCode) {
        let class = match code.as_u16() {
            304 => "304",
            200..=299 => "2xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.series.deliveries.with_label_values(&[class]).inc();
    }

    /// Counts a request of a Pod as waiting until the result is dropped.
    pub fn count_waiting_delivery(&self) -> WaitingDelivery {
        self.series.waiting_deliveries.inc();
        WaitingDelivery(self.series.waiting_deliveries.clone())
    }

    fn create_error_series(&self, namespace: &str) {
        for fault in Fault::ALL {
            self.series
                .unseal_errors
                .with_label_values(&[fault.label(), namespace]);
        }
    }

    fn ensure_error_series(&self, namespace: &str) {
        if !self.omits_names && self.state().namespaces.insert(namespace.to_owned()) {
            self.create_error_series(namespace);
        }
    }

    fn remove_error_series(&self, namespace: &str) {
        for fault in Fault::ALL {
            // Ignores the error for a series that was never created.
            let _ = self
                .series
                .unseal_errors
                .remove_label_values(&[fault.label(), namespace]);
        }
    }

    /// Counts the start of a reconciliation.
    pub fn count_reconcile(&self, id: &ObjectId) {
        self.series.unseal_requests.inc();
        self.ensure_error_series(&id.namespace);
    }

    /// Records the duration of a reconciliation.
    pub fn observe_reconcile(&self, time: Duration) {
        self.series.reconciles.observe(time.as_secs_f64());
    }

    /// Counts a Secret that was recognized as up to date without decryption.
    pub fn count_recognized(&self) {
        self.series.recognized.inc();
    }

    /// Counts a created or changed Secret of a risky type.
    pub fn count_risky_secret(&self, type_: &str) {
        self.series.risky.with_label_values(&[type_]).inc();
    }

    /// Records whether this replica is the leader.
    pub fn set_leader(&self, is_leader: bool) {
        self.series.is_leader.set(i64::from(is_leader));
    }

    /// Counts a failure. Failures to read an object count without a namespace, as in upstream.
    pub fn count_failure(&self, id: &ObjectId, fault: Fault) {
        let namespace = if fault == Fault::Fetch || self.omits_names {
            ""
        } else {
            &id.namespace
        };
        self.series
            .unseal_errors
            .with_label_values(&[fault.label(), namespace])
            .inc();
    }

    /// Records the condition of an object, and its labels. In a directory the instance label can be an arbitrary string,
    /// since no API server checks it.
    pub fn set_condition(&self, id: &ObjectId, labels: &ObjectLabels, is_synced: bool) {
        let object = ObjectState {
            instance: visible_line(&labels.instance).into_owned(),
            rotate_by: labels.rotate_by,
            is_synced,
        };
        self.state().objects.insert(id.clone(), object);
        // Creates the error series even if nothing failed: the first error must appear as an increase from zero.
        self.ensure_error_series(&id.namespace);
    }

    /// Removes a deleted object, and with the last object in a namespace also the counters of the namespace, which
    /// would otherwise accumulate as namespaces are created and deleted.
    pub fn forget(&self, id: &ObjectId) {
        let mut state = self.state();
        state.objects.remove(id);
        if !state.has_objects_in(&id.namespace) {
            state.namespaces.remove(&id.namespace);
            self.remove_error_series(&id.namespace);
        }
    }

    /// Removes all objects, since another replica reports them now.
    pub fn hand_over(&self) {
        let mut state = self.state();
        state.objects.clear();
        for namespace in std::mem::take(&mut state.namespaces) {
            self.remove_error_series(&namespace);
        }
        self.set_queue_length(0);
    }

    /// Records the length of the queue.
    pub fn set_queue_length(&self, depth: usize) {
        self.series.queue.set(to_i64(depth));
    }

    /// Records the key ring and the number of unusable keys.
    pub fn set_keys(&self, ring: Arc<KeyRing>, unusable: usize) {
        let mut state = self.state();
        state.ring = ring;
        state.unusable_keys = unusable;
    }

    /// Records the renewal period; `None` if keys are not renewed.
    pub fn set_renewal_period(&self, period: Option<SignedDuration>) {
        let seconds = period.map_or(0, |period| period.as_secs());
        self.series.renew_period.set(seconds);
    }

    /// Returns the health of the watches, which the watches themselves update.
    pub fn watches(&self) -> &Arc<WatchHealth> {
        &self.watches
    }

    /// Records the response to a request. Only the paths in `PATHS` are counted, since callers could otherwise create
    /// any number of series.
    pub fn observe_request(&self, path: &str, method: &Method, code: StatusCode, time: Duration) {
        if PATHS.iter().all(|(route, _)| *route != path) {
            return;
        }
        let method = match *method {
            Method::GET => "get",
            Method::POST => "post",
            Method::HEAD => "head",
            Method::PUT => "put",
            Method::DELETE => "delete",
            _ => "other",
        };
        self.series
            .http_requests
            .with_label_values(&[path, code.as_str(), method])
            .inc();
        self.series
            .http_durations
            .with_label_values(&[path, method])
            .observe(time.as_secs_f64());
    }

    /// Returns all metrics in Prometheus' text format.
    pub fn text(&self, now: Timestamp) -> String {
        let mut families = {
            // Keep the lock: a concurrent scrape would reset the series of this scrape.
            let state = self.state();
            self.update(&state, now);
            self.series.registry.gather()
        };
        families.extend(coarsen(prometheus::default_registry().gather()));
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_default()
    }

    /// Creates a series for each object, or only for objects that are not synced if there are too many. This bounds the
    /// number of series, and alerts still work.
    fn update_conditions(&self, state: &State) {
        self.series.conditions.reset();
        if self.omits_names {
            return;
        }
        let is_over_limit = state.objects.len() > self.max_named_objects;
        let objects = state.objects.iter();
        let shown = objects.filter(|(_, object)| !(is_over_limit && object.is_synced));
        for (id, object) in shown.take(self.max_named_objects) {
            self.series
                .conditions
                .with_label_values(&labels(id, object))
                .set(if object.is_synced { 1 } else { -1 });
        }
    }

    /// Creates a series for each object with a rotate-by date, or only for the earliest dates if there are too many.
    fn update_dates(&self, state: &State) {
        self.series.rotate_by.reset();
        if self.omits_names {
            return;
        }
        let objects = state.objects.iter();
        let dated = objects.filter_map(|(id, object)| Some((object.rotate_by?, id)));
        let mut dated: Vec<_> = dated.collect();
        dated.sort_unstable();
        for (date, id) in dated.into_iter().take(self.max_named_objects) {
            let labels = [id.namespace.as_str(), &id.name];
            self.series.rotate_by.with_label_values(&labels).set(date);
        }
    }

    /// Updates the metrics that are computed for each scrape.
    fn update(&self, state: &State, now: Timestamp) {
        self.update_conditions(state);
        self.update_dates(state);
        self.series
            .newest_key_age
            .set(newest_key_age(&state.ring, Suite::Rsa, now));
        self.update_suites(&state.ring, now);
        for (label, validity) in VALIDITIES {
            let count = count_keys(&state.ring, Suite::Rsa, validity, now);
            self.series
                .keys
                .with_label_values(&[label])
                .set(to_i64(count));
        }
        self.series
            .keys
            .with_label_values(&["unusable"])
            .set(to_i64(state.unusable_keys));
        for (label, reason) in [
            ("not_backed_up", NoSealingKey::NotBackedUp),
            ("compromised", NoSealingKey::Compromised),
            ("opening_only", NoSealingKey::OpeningOnly),
            ("removed", NoSealingKey::Removed),
        ] {
            let keys = state.ring.all_keys();
            let count = keys.filter(|key| state.ring.why_key_cannot_seal(key) == Some(reason));
            self.series
                .held_back
                .with_label_values(&[label])
                .set(to_i64(count.count()));
        }
        for (label, is_synced) in [("True", true), ("False", false)] {
            let count = state
                .objects
                .values()
                .filter(|object| object.is_synced == is_synced)
                .count();
            self.series
                .objects
                .with_label_values(&[label])
                .set(to_i64(count));
        }
        let since = self.watches.failing_since().map_or(0, Timestamp::as_second);
        self.series.watches_failing_since.set(since);
        for cause in Cause::ALL {
            let count = self.watches.count_failing(cause);
            self.series
                .watches_failing
                .with_label_values(&[cause.name()])
                .set(to_i64(count));
        }
        let operations = shared::key::private_key_operations();
        self.series
            .key_operations
            .inc_by(operations.saturating_sub(self.series.key_operations.get()));
    }

    /// Updates the metrics of the suites for which keys are generated.
    fn update_suites(&self, ring: &KeyRing, now: Timestamp) {
        self.series.suite_keys.reset();
        self.series.suite_newest_key_age.reset();
        for suite in ring.renewed_suites() {
            let name = suite.to_string();
            for (label, validity) in VALIDITIES {
                let count = count_keys(ring, suite, validity, now);
                let series = self.series.suite_keys.with_label_values(&[&*name, label]);
                series.set(to_i64(count));
            }
            let age = self.series.suite_newest_key_age.with_label_values(&[&name]);
            age.set(newest_key_age(ring, suite, now));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The values of the metric label `state`, each with the validity that it stands for.
const VALIDITIES: [(&str, Validity); 3] = [
    ("valid", Validity::Valid),
    ("expired", Validity::Expired),
    ("not_yet_valid", Validity::NotYet),
];

/// Returns the number of stored keys of a suite with this validity.
fn count_keys(ring: &KeyRing, suite: Suite, validity: Validity, now: Timestamp) -> usize {
    let keys = ring.stored_keys().filter(|key| key.suite() == suite);
    let validities = keys.filter_map(|key| Some(key.sealing_half()?.validity(now)));
    validities.filter(|v| *v == validity).count()
}

/// Returns the seconds since the newest key of a suite was created, ignoring keys from the future; -1 if there is none.
fn newest_key_age(ring: &KeyRing, suite: Suite, now: Timestamp) -> i64 {
    let newest = newest_key_time(ring, suite, now);
    newest.map_or(-1, |created| now.duration_since(created).as_secs().max(0))
}

fn labels<'a>(id: &'a ObjectId, object: &'a ObjectState) -> [&'a str; 4] {
    [&id.namespace, &id.name, "Synced", &object.instance]
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Coarsens the process metrics, since exact metrics show how long a template works with a value: the number of threads
/// is omitted, since threads outlive their work, processor time is rounded down to minutes, and memory is rounded up.
fn coarsen(mut families: Vec<MetricFamily>) -> Vec<MetricFamily> {
    families.retain(|family| family.name() != "process_threads");
    for family in &mut families {
        match family.name() {
            "process_cpu_seconds_total" => {
                family.mut_metric().iter_mut().for_each(round_to_minutes);
            }
            "process_resident_memory_bytes" | "process_virtual_memory_bytes" => {
                family.mut_metric().iter_mut().for_each(round_memory);
            }
            _ => {}
        }
    }
    families
}

fn round_to_minutes(metric: &mut Metric) {
    let mut rounded = Counter::default();
    rounded.set_value((metric.get_counter().get_value() / 60.0).floor() * 60.0);
    metric.set_counter(rounded);
}

fn round_memory(metric: &mut Metric) {
    let mut rounded = Gauge::default();
    rounded.set_value((metric.get_gauge().get_value() / MEMORY_STEP).ceil() * MEMORY_STEP);
    metric.set_gauge(rounded);
}

#[cfg(test)]
mod tests;
