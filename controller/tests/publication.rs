//! Tests of what a reader of SealedSecrets and events learns about values from the time at which something is
//! published.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod support;

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
use support::api_server::{ApiServer, id};
use support::{Case, KEYS, sealed};
use tokio::time::Instant;

/// Far more than a real API server needs: 0.36 s for the largest Secret.
const NANOSECONDS_A_BYTE: u64 = 300;

struct Controller {
    server: Arc<ApiServer>,
    reconciler: Reconciler<ClusterStore>,
    generation: i64,
    second: i64,
}

impl Controller {
    fn on(server: ApiServer) -> Self {
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

    /// Replaces the object and reconciles it. Returns how long after that each status and event is published,
    /// in milliseconds.
    async fn apply(&mut self, sealed: &SealedSecret) -> Vec<u128> {
        self.generation += 1;
        self.server.put_sealed(sealed, "u", self.generation);
        self.server.take_published();
        let start = Instant::now();
        self.look().await;
        let published = self.server.take_published().into_iter();
        published.map(|at| (at - start).as_millis()).collect()
    }

    /// Reconciles until nothing is due, including what the watch reports meanwhile.
    async fn look(&mut self) {
        let now = Timestamp::from_second(self.second).unwrap();
        self.reconciler.changed([id()], Urgency::Fresh, now);
        while self.reconciler.round(now).await == Some(now) {
            let observed = self.server.take_observed();
            self.reconciler.changed(observed, Urgency::Fresh, now);
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

/// Renders as many bytes as the value says, and fails if the value is `x`.
const AS_LARGE_AS_THE_VALUE: &str =
    "{{ if eq .a \"x\" }}{{ fail \"\" }}{{ end }}{{ repeat (int .a) \"x\" }}";
const SIZES: [&str; 5] = ["1", "1000", "30000", "300000", "900000"];

/// Attack: an author reads the size of a template's result, which depends on a value, from the time that
/// writing it takes.
#[tokio::test(start_paused = true)]
async fn the_time_until_a_status_does_not_grow_with_the_result() {
    let mut times = BTreeSet::new();
    for size in SIZES {
        let mut controller = Controller::on(ApiServer::that_takes_a_byte(NANOSECONDS_A_BYTE));
        controller.apply(&object("1", "first")).await;
        times.insert(controller.apply(&object(size, AS_LARGE_AS_THE_VALUE)).await);
        assert!(controller.server.is_synced(), "{size}");
    }
    assert_eq!(times.len(), 1, "{times:?}");
}

/// Attack: an author does the same with results that the API server rejects, by a check or for their size,
/// and with templates that fail.
#[tokio::test(start_paused = true)]
async fn all_values_that_make_no_secret_are_reported_after_one_time() {
    fn refuse_all_but_the_first(secret: &Value) -> Option<Value> {
        let first = secret["data"]["t"] == json!("Zmlyc3Q=");
        (!first).then(
            || json!([{ "field": "data[t]", "reason": "FieldValueInvalid", "message": "no" }]),
        )
    }
    let mut times = BTreeSet::new();
    for value in SIZES.into_iter().chain(["x", "2000000"]) {
        let server = ApiServer::that_takes_a_byte(NANOSECONDS_A_BYTE);
        let mut controller = Controller::on(server.checking(refuse_all_but_the_first));
        controller.apply(&object("1", "first")).await;
        assert!(controller.server.is_synced());
        times.insert(
            controller
                .apply(&object(value, AS_LARGE_AS_THE_VALUE))
                .await,
        );
        assert!(!controller.server.is_synced(), "{value}");
    }
    assert_eq!(times.len(), 1, "{times:?}");
}

/// The whole class: whatever templates of one class of slow functions do with values, all successes are
/// published after the same time, and all failures after the same time.
#[tokio::test(start_paused = true)]
async fn whatever_the_templates_an_edit_has_two_times_at_most() {
    let deeds = [
        "{{ fail \"\" }}",
        "{{ repeat 900000 \"x\" }}",
        "{{ range until 2000 }}{{ sha256sum $.a }}{{ end }}",
        "{{ .a.b.c }}",
        "",
    ];
    for slow in ["", "{{ if eq .a \"none\" }}{{ bcrypt .a }}{{ end }}"] {
        let mut times = BTreeMap::<bool, BTreeSet<Vec<u128>>>::new();
        for deed in deeds {
            for value in ["1", "A", "2"] {
                let template = format!("{slow}{{{{ if eq .a \"A\" }}}}{deed}{{{{ end }}}}");
                let mut controller =
                    Controller::on(ApiServer::that_takes_a_byte(NANOSECONDS_A_BYTE));
                let published = controller.apply(&object(value, &template)).await;
                let outcome = times.entry(controller.server.is_synced()).or_default();
                outcome.insert(published);
            }
        }
        let counts: Vec<usize> = times.values().map(BTreeSet::len).collect();
        assert_eq!(counts, [1, 1], "{slow}: {times:?}");
    }
}

/// Attack: an author makes a quota refuse the Secret, so that it is retried repeatedly, with a template that
/// fails from a time that is a value.
#[tokio::test(start_paused = true)]
async fn repetitions_of_an_attempt_are_no_clock() {
    let template = "{{ if gt (now | unixEpoch | int64) (int64 .a) }}{{ fail \"\" }}{{ end }}";
    let mut seen = BTreeSet::new();
    for value in ["0", "15", "45", "1000"] {
        let mut controller = Controller::on(ApiServer::default());
        controller.server.is_full.store(true, Ordering::Relaxed);
        controller.apply(&object(value, template)).await;
        for second in [10, 20, 30, 40, 50] {
            controller.second = second;
            controller.look().await;
        }
        controller.server.is_full.store(false, Ordering::Relaxed);
        controller.second = 60;
        controller.look().await;
        assert!(controller.server.is_synced(), "{value}");
        seen.insert(controller.server.public().to_string());
    }
    assert_eq!(seen.len(), 1, "{seen:#?}");
}

/// Attack: an author does the same with a template that fails at random, with a probability that is a value.
#[tokio::test(start_paused = true)]
async fn repetitions_of_an_attempt_are_no_dice() {
    let template = "{{ if lt (randInt 0 100) (int .a) }}{{ fail \"\" }}{{ end }}";
    let mut seen = BTreeSet::new();
    for value in ["0", "60"] {
        let mut controller = Controller::on(ApiServer::default());
        controller.server.is_full.store(true, Ordering::Relaxed);
        loop {
            controller.apply(&object(value, template)).await;
            if controller.server.status()["conditions"][0]["reason"] == json!("ErrUpdateFailed") {
                break;
            }
        }
        controller.server.public();
        for second in 1..30 {
            controller.second = 10 * second;
            controller.look().await;
            let condition = &controller.server.status()["conditions"][0];
            seen.insert(format!("{} {}", condition["reason"], condition["message"]));
        }
    }
    assert_eq!(seen.len(), 1, "{seen:#?}");
}

/// The watch reports the controller's own write while the attempt pauses, before the response to the write
/// arrives.
#[tokio::test(start_paused = true)]
async fn the_watch_of_its_own_write_makes_neither_another_write_nor_another_status() {
    let mut controller = Controller::on(ApiServer::default());
    for value in ["1", "2", "3"] {
        let published = controller.apply(&object(value, "{{ .a }}")).await;
        assert_eq!(published.len(), 2, "a status and an event: {published:?}");
        assert!(controller.server.is_synced());
        assert_eq!(controller.server.value("t"), value);
    }
    assert_eq!(*controller.server.writes.lock().unwrap(), 3);
}

/// A pause must not delay the next version.
#[tokio::test(start_paused = true)]
async fn a_version_that_comes_during_the_pause_is_applied_after_it() {
    let mut controller = Controller::on(ApiServer::default());
    controller.apply(&object("1", "{{ .a }}")).await;
    let server = Arc::clone(&controller.server);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.put_sealed(&object("3", "{{ .a }}"), "u", 3);
    });
    controller.apply(&object("2", "{{ .a }}")).await;
    controller.look().await;
    assert_eq!(controller.server.value("t"), "3");
    assert_eq!(controller.server.status()["observedGeneration"], json!(3));
}
