//! Tests that the time of publication reveals nothing about values to readers of SealedSecrets and events.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use controller::metrics::Metrics;
use controller::pool::Pool;
use controller::reconcile::{Reconciler, Urgency};
use controller::store::cluster::ClusterStore;
use jiff::Timestamp;
use serde_json::{Value, json};
use shared::key_ring::{KeyRing, RingKey};
use shared::key_secret;
use shared::resource::SealedSecret;
use tokio::time::Instant;

use crate::support::api_server::{ApiServer, id};
use crate::support::{Case, KEYS, sealed};

/// The time of a write per byte of the Secret, far above that of a real API server: the largest Secret takes 0.36 s.
const NANOSECONDS_PER_BYTE: u64 = 300;

/// A controller that reconciles one object on a simulated API server.
struct Controller {
    server: Arc<ApiServer>,
    reconciler: Reconciler<ClusterStore>,
    generation: i64,
    second: i64,
}

impl Controller {
    fn with_server(server: ApiServer) -> Self {
        let (server, store) = server.start();
        let metrics = Arc::new(Metrics::new(false).unwrap());
        let policy = Case::idle().config().policy;
        let mut reconciler = Reconciler::new(store, Pool::new(), policy, metrics);
        reconciler.use_ring(ring(), Timestamp::UNIX_EPOCH);
        Self {
            server,
            reconciler,
            generation: 0,
            second: 0,
        }
    }

    /// Replaces the object and reconciles it. Returns the times from the replacement to the publication of each status
    /// and event, in milliseconds.
    async fn apply(&mut self, sealed: &SealedSecret) -> Vec<u128> {
        self.generation += 1;
        self.server.put_sealed(sealed, "u", self.generation);
        self.server.take_published();
        let start = Instant::now();
        self.reconcile().await;
        let publication_times = self.server.take_published().into_iter();
        publication_times
            .map(|time| (time - start).as_millis())
            .collect()
    }

    /// Reconciles until nothing is due, including objects that the watch reports meanwhile.
    async fn reconcile(&mut self) {
        let now = Timestamp::from_second(self.second).unwrap();
        self.reconciler.enqueue([id()], Urgency::Fresh, now);
        while self.reconciler.run_once(now).await == Some(now) {
            let observed = self.server.take_observed();
            self.reconciler.enqueue(observed, Urgency::Fresh, now);
        }
    }
}

fn ring() -> Arc<KeyRing> {
    let secret = key_secret::build("k", "ns", &KEYS[0], BTreeMap::new(), BTreeMap::new());
    let key: RingKey =
        key_secret::parse(&secret, key_secret::OrderPriority::CertNotBefore).unwrap();
    Arc::new(KeyRing::new([Arc::new(key)]))
}

fn object(value: &str, template: &str) -> SealedSecret {
    let mut object = sealed(&KEYS[0], "ns/n", &[("a", value)]);
    object.spec.template.data = Some([("t".to_owned(), Some(template.to_owned()))].into());
    object
}

/// A template that renders as many bytes as the value specifies, and fails if the value is `x`.
const TEMPLATE_SIZED_BY_VALUE: &str =
    "{{ if eq .a \"x\" }}{{ fail \"\" }}{{ end }}{{ repeat (int .a) \"x\" }}";
const SIZES: [&str; 5] = ["1", "1000", "30000", "300000", "900000"];

/// Attack: an author infers the size of a template's result, which depends on a value, from the time that writing it
/// takes.
#[tokio::test(start_paused = true)]
async fn the_time_until_a_status_does_not_depend_on_the_size_of_the_result() {
    let mut times = BTreeSet::new();
    for size in SIZES {
        let mut controller =
            Controller::with_server(ApiServer::with_write_delay(NANOSECONDS_PER_BYTE));
        controller.apply(&object("1", "first")).await;
        times.insert(
            controller
                .apply(&object(size, TEMPLATE_SIZED_BY_VALUE))
                .await,
        );
        assert!(controller.server.is_synced(), "{size}");
    }
    assert_eq!(times.len(), 1, "{times:?}");
}

/// Attack: an author infers a value from the time until a failure is reported. The Secret is rejected (by validation or
/// for its size), or a template fails.
#[tokio::test(start_paused = true)]
async fn all_failures_that_depend_on_values_are_reported_after_the_same_time() {
    fn refuse_all_but_the_first(secret: &Value) -> Option<Value> {
        let is_first = secret["data"]["t"] == json!("Zmlyc3Q=");
        (!is_first).then(
            || json!([{ "field": "data[t]", "reason": "FieldValueInvalid", "message": "no" }]),
        )
    }
    let mut times = BTreeSet::new();
    for value in SIZES.into_iter().chain(["x", "2000000"]) {
        let server = ApiServer::with_write_delay(NANOSECONDS_PER_BYTE);
        let mut controller = Controller::with_server(server.and_check(refuse_all_but_the_first));
        controller.apply(&object("1", "first")).await;
        assert!(controller.server.is_synced());
        times.insert(
            controller
                .apply(&object(value, TEMPLATE_SIZED_BY_VALUE))
                .await,
        );
        assert!(!controller.server.is_synced(), "{value}");
    }
    assert_eq!(times.len(), 1, "{times:?}");
}

/// The general property: for all templates of one class of slow functions, all successes are published after the same
/// time, and all failures after the same time.
#[tokio::test(start_paused = true)]
async fn the_publication_time_of_an_edit_depends_only_on_its_success() {
    let actions = [
        "{{ fail \"\" }}",
        "{{ repeat 900000 \"x\" }}",
        "{{ range until 2000 }}{{ sha256sum $.a }}{{ end }}",
        "{{ .a.b.c }}",
        "",
    ];
    for slow in ["", "{{ if eq .a \"none\" }}{{ bcrypt .a }}{{ end }}"] {
        let mut times = BTreeMap::<bool, BTreeSet<Vec<u128>>>::new();
        for action in actions {
            for value in ["1", "A", "2"] {
                let template = format!("{slow}{{{{ if eq .a \"A\" }}}}{action}{{{{ end }}}}");
                let mut controller =
                    Controller::with_server(ApiServer::with_write_delay(NANOSECONDS_PER_BYTE));
                let publication_times = controller.apply(&object(value, &template)).await;
                let outcome = times.entry(controller.server.is_synced()).or_default();
                outcome.insert(publication_times);
            }
        }
        let counts: Vec<usize> = times.values().map(BTreeSet::len).collect();
        assert_eq!(counts, [1, 1], "{slow}: {times:?}");
    }
}

/// Attack: an author exhausts a quota so that the Secret is rejected and retried, and uses a template that fails after
/// a time set by the sealed value: the time of the failure would reveal the value.
#[tokio::test(start_paused = true)]
async fn the_times_of_retries_do_not_reveal_a_value() {
    let template = "{{ if gt (now | unixEpoch | int64) (int64 .a) }}{{ fail \"\" }}{{ end }}";
    let mut reports = BTreeSet::new();
    for value in ["0", "15", "45", "1000"] {
        let mut controller = Controller::with_server(ApiServer::default());
        controller
            .server
            .has_exhausted_quota
            .store(true, Ordering::Relaxed);
        controller.apply(&object(value, template)).await;
        for second in [10, 20, 30, 40, 50] {
            controller.second = second;
            controller.reconcile().await;
        }
        controller
            .server
            .has_exhausted_quota
            .store(false, Ordering::Relaxed);
        controller.second = 60;
        controller.reconcile().await;
        assert!(controller.server.is_synced(), "{value}");
        reports.insert(controller.server.public_state().to_string());
    }
    assert_eq!(reports.len(), 1, "{reports:#?}");
}

/// Attack: an author exhausts a quota so that the Secret is rejected and retried, and uses a template that fails with a
/// probability set by the sealed value: the rate of failures would reveal the value.
#[tokio::test(start_paused = true)]
async fn random_failures_of_retries_do_not_reveal_a_value() {
    let template = "{{ if lt (randInt 0 100) (int .a) }}{{ fail \"\" }}{{ end }}";
    let mut reports = BTreeSet::new();
    for value in ["0", "60"] {
        let mut controller = Controller::with_server(ApiServer::default());
        controller
            .server
            .has_exhausted_quota
            .store(true, Ordering::Relaxed);
        loop {
            controller.apply(&object(value, template)).await;
            if controller.server.status()["conditions"][0]["reason"] == json!("ErrUpdateFailed") {
                break;
            }
        }
        controller.server.public_state();
        for second in 1..30 {
            controller.second = 10 * second;
            controller.reconcile().await;
            let condition = &controller.server.status()["conditions"][0];
            reports.insert(format!("{} {}", condition["reason"], condition["message"]));
        }
    }
    assert_eq!(reports.len(), 1, "{reports:#?}");
}

/// The watch reports the controller's own write before the response to the write arrives.
#[tokio::test(start_paused = true)]
async fn a_watch_event_of_an_own_write_causes_no_second_write() {
    let mut controller = Controller::with_server(ApiServer::default());
    for value in ["1", "2", "3"] {
        let publication_times = controller.apply(&object(value, "{{ .a }}")).await;
        assert_eq!(
            publication_times.len(),
            2,
            "a status and an event: {publication_times:?}"
        );
        assert!(controller.server.is_synced());
        assert_eq!(controller.server.value("t"), value);
    }
    assert_eq!(*controller.server.writes.lock().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_version_applied_during_a_pause_is_written_after_the_pause() {
    let mut controller = Controller::with_server(ApiServer::default());
    controller.apply(&object("1", "{{ .a }}")).await;
    let server = Arc::clone(&controller.server);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.put_sealed(&object("3", "{{ .a }}"), "u", 3);
    });
    controller.apply(&object("2", "{{ .a }}")).await;
    controller.reconcile().await;
    assert_eq!(controller.server.value("t"), "3");
    assert_eq!(controller.server.status()["observedGeneration"], json!(3));
}
