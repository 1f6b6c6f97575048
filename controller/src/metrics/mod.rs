//! Every metric: the peer's names, types and labels, and some of our own.
//!
//! The crate `prometheus` and not `metrics`: series are removed when an object goes, and no global
//! recorder stands between two controllers of one test.

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
use prometheus::proto::{Counter, MetricFamily};
use shared::key::Validity;
use shared::key_ring::{KeyRing, NoSealingKey};
use shared::renewal::made_last;

use self::series::Series;
use crate::watch_health::{Cause, WatchHealth};

/// A series takes some 200 bytes of each scrape, and some kilobytes of Prometheus' memory.
const MOST_NAMED: usize = 1000;

/// Stands for a risky type that is sealed in the deprecated form.
pub const SEALED_TYPE: &str = "(sealed)";

/// The paths that are counted, with the method that each is for.
const PATHS: [(&str, &str); 4] = [
    ("/v1/cert.pem", "get"),
    ("/v1/certs.pem", "get"),
    ("/v1/verify", "post"),
    ("/v1/rotate", "post"),
];

/// Among the labels of an object, the one by which releases of a chart are told apart.
pub fn instance_label(labels: Option<&BTreeMap<String, String>>) -> &str {
    let instance = labels.and_then(|labels| labels.get("app.kubernetes.io/instance"));
    instance.map_or("", String::as_str)
}

/// The metrics of one controller.
#[derive(Debug)]
pub struct Metrics {
    series: Series,
    /// Without the names of objects and namespaces.
    omits_names: bool,
    /// Objects that have a series of their own. Of more, only those that are not synced have one.
    most_named: usize,
    known: Mutex<Known>,
    watches: Arc<WatchHealth>,
}

#[derive(Debug, Default)]
struct Known {
    objects: BTreeMap<ObjectId, Shown>,
    namespaces: BTreeSet<String>,
    ring: Arc<KeyRing>,
    unusable_keys: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    instance: String,
    is_synced: bool,
}

impl Known {
    /// They stand in order of their namespaces.
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
    /// All of them, at zero. `omits_names` leaves `condition_info` out, which names objects, and
    /// counts errors for all namespaces together.
    ///
    /// # Errors
    ///
    /// None that a test would not show: two metrics of one name.
    pub fn new(omits_names: bool) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            series: Series::new()?,
            omits_names,
            most_named: MOST_NAMED,
            known: Mutex::default(),
            watches: Arc::default(),
        };
        metrics.create_series();
        Ok(metrics)
    }

    /// The same with another number of objects that have a series of their own.
    #[must_use]
    pub fn naming(mut self, most: usize) -> Self {
        self.most_named = most;
        self
    }

    fn create_series(&self) {
        for type_ in RISKY_TYPES.into_iter().chain([SEALED_TYPE]) {
            self.series.risky.with_label_values(&[type_]);
        }
        self.create_errors("");
        for (path, method) in PATHS {
            self.series
                .http_requests
                .with_label_values(&[path, "200", method]);
            self.series
                .http_durations
                .with_label_values(&[path, method]);
        }
    }

    fn create_errors(&self, namespace: &str) {
        for fault in Fault::ALL {
            self.series
                .unseal_errors
                .with_label_values(&[fault.label(), namespace]);
        }
    }

    fn count_errors_of(&self, namespace: &str) {
        if !self.omits_names && self.known().namespaces.insert(namespace.to_owned()) {
            self.create_errors(namespace);
        }
    }

    fn drop_errors(&self, namespace: &str) {
        for fault in Fault::ALL {
            // It fails for a series that was never made.
            let _ = self
                .series
                .unseal_errors
                .remove_label_values(&[fault.label(), namespace]);
        }
    }

    /// An object is about to be looked at.
    pub fn looks_at(&self, id: &ObjectId) {
        self.series.unseal_requests.inc();
        self.count_errors_of(&id.namespace);
    }

    /// A look at an object took so long.
    pub fn looked(&self, time: Duration) {
        self.series.reconciles.observe(time.as_secs_f64());
    }

    /// Its Secret was known to be in place without decrypting anything.
    pub fn recognised(&self) {
        self.series.recognised.inc();
    }

    /// A Secret of a risky type was made or changed.
    pub fn makes_risky(&self, type_: &str) {
        self.series.risky.with_label_values(&[type_]).inc();
    }

    /// Is this replica the one that writes?
    pub fn leads(&self, leads: bool) {
        self.series.leads.set(i64::from(leads));
    }

    /// Something went wrong with it.
    pub fn failed(&self, id: &ObjectId, fault: Fault) {
        // The peer names no namespace for what it could not even read.
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

    /// The condition of an object, and the value of its label `app.kubernetes.io/instance`.
    pub fn condition(&self, id: &ObjectId, instance: &str, is_synced: bool) {
        let shown = Shown {
            instance: instance.to_owned(),
            is_synced,
        };
        self.known().objects.insert(id.clone(), shown);
        // Also where nothing is to be done: the first error shall be seen as an increase from zero.
        self.count_errors_of(&id.namespace);
    }

    /// An object is gone. Counts of its namespace go with the last one: nobody would ask for them, and
    /// namespaces come and go for ever.
    pub fn forget(&self, id: &ObjectId) {
        let mut known = self.known();
        known.objects.remove(id);
        if !known.has_objects_in(&id.namespace) {
            known.namespaces.remove(&id.namespace);
            self.drop_errors(&id.namespace);
        }
    }

    /// Another replica tells of the objects now.
    pub fn hand_over(&self) {
        let mut known = self.known();
        known.objects.clear();
        for namespace in std::mem::take(&mut known.namespaces) {
            self.drop_errors(&namespace);
        }
        self.queued(0);
    }

    /// So many objects wait.
    pub fn queued(&self, depth: usize) {
        self.series.queue.set(whole(depth));
    }

    /// These are the keys, and so many more cannot be used.
    pub fn keys(&self, ring: Arc<KeyRing>, unusable: usize) {
        let mut known = self.known();
        known.ring = ring;
        known.unusable_keys = unusable;
    }

    /// A key is followed by another after so long; never without.
    pub fn renews_every(&self, period: Option<SignedDuration>) {
        let seconds = period.map_or(0, |period| period.as_secs());
        self.series.renew_period.set(seconds);
    }

    /// Which watches fail.
    pub fn watches(&self) -> &Arc<WatchHealth> {
        &self.watches
    }

    /// A request was answered. Paths that are not served are not counted: they are the caller's to
    /// choose.
    pub fn request(&self, path: &str, method: &Method, code: StatusCode, time: Duration) {
        if PATHS.iter().all(|(known, _)| *known != path) {
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

    /// Everything, as Prometheus reads it.
    pub fn text(&self, now: Timestamp) -> String {
        let mut families = {
            // Two scrapes at once would take each other's series away.
            let known = self.known();
            self.take_stock(&known, now);
            self.series.registry.gather()
        };
        families.extend(of_process(prometheus::default_registry().gather()));
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_default()
    }

    /// One series for each object, or for each that is not synced if there are too many. The number of series is
    /// bounded, and what an alert needs is there.
    fn name_objects(&self, known: &Known) {
        self.series.conditions.reset();
        if self.omits_names {
            return;
        }
        let are_many = known.objects.len() > self.most_named;
        let shown = known.objects.iter();
        let named = shown.filter(|(_, shown)| !(are_many && shown.is_synced));
        for (id, shown) in named.take(self.most_named) {
            self.series
                .conditions
                .with_label_values(&labels(id, shown))
                .set(if shown.is_synced { 1 } else { -1 });
        }
    }

    /// What changes with time alone.
    fn take_stock(&self, known: &Known, now: Timestamp) {
        self.name_objects(known);
        let newest = made_last(&known.ring, now);
        let age = newest.map(|made| now.duration_since(made).as_secs().max(0));
        self.series.newest_key_age.set(age.unwrap_or(-1));
        for (state, validity) in [
            ("valid", Validity::Valid),
            ("expired", Validity::Expired),
            ("not_yet_valid", Validity::NotYet),
        ] {
            let stored = known
                .ring
                .keys()
                .iter()
                .filter(|_| !known.ring.is_removed());
            let certificates = stored.filter_map(|key| key.certificate());
            let count = certificates.filter(|c| c.validity(now) == validity).count();
            self.series
                .keys
                .with_label_values(&[state])
                .set(whole(count));
        }
        self.series
            .keys
            .with_label_values(&["unusable"])
            .set(whole(known.unusable_keys));
        for (reason, hindrance) in [
            ("not_backed_up", NoSealingKey::NotBackedUp),
            ("compromised", NoSealingKey::Compromised),
            ("opening_only", NoSealingKey::OpeningOnly),
            ("removed", NoSealingKey::Removed),
        ] {
            let keys = known.ring.keys().iter();
            let count = keys.filter(|key| known.ring.hindrance(key) == Some(hindrance));
            self.series
                .held_back
                .with_label_values(&[reason])
                .set(whole(count.count()));
        }
        for (synced, wanted) in [("True", true), ("False", false)] {
            let count = known
                .objects
                .values()
                .filter(|shown| shown.is_synced == wanted)
                .count();
            self.series
                .objects
                .with_label_values(&[synced])
                .set(whole(count));
        }
        let since = self.watches.since().map_or(0, Timestamp::as_second);
        self.series.watches_failing_since.set(since);
        for cause in Cause::ALL {
            let count = self.watches.count(cause);
            self.series
                .watches_failing
                .with_label_values(&[cause.word()])
                .set(whole(count));
        }
        let operations = shared::key::private_key_operations();
        self.series
            .key_operations
            .inc_by(operations.saturating_sub(self.series.key_operations.get()));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn labels<'a>(id: &'a ObjectId, shown: &'a Shown) -> [&'a str; 4] {
    [&id.namespace, &id.name, "Synced", &shown.instance]
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Series of the process without those that show how long a template works with a value: threads end some time after
/// their work, so their number is left out, and processor time is rounded down to minutes.
fn of_process(mut families: Vec<MetricFamily>) -> Vec<MetricFamily> {
    families.retain(|family| family.name() != "process_threads");
    let of_processor = families
        .iter_mut()
        .filter(|family| family.name() == "process_cpu_seconds_total");
    for metric in of_processor.flat_map(MetricFamily::mut_metric) {
        let seconds = metric.get_counter().get_value();
        let mut rounded = Counter::default();
        rounded.set_value((seconds / 60.0).floor() * 60.0);
        metric.set_counter(rounded);
    }
    families
}

#[cfg(test)]
mod tests;
