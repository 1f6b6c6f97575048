//! Tests changes that other clients make to objects in a cluster between two requests of one attempt.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::sync::Arc;

use controller::cluster_keys::ClusterKeys;
use controller::key_store::KeyFormat;
use controller::metrics::Metrics;
use controller::pool::Pool;
use controller::reconcile::{Policy, Reconciler, Urgency};
use controller::store::cluster::ClusterStore;
use jiff::Timestamp;
use kube::runtime::watcher::Event;
use serde_json::json;
use shared::key_ring::{KeyRing, RingKey};
use shared::key_secret;
use shared::resource::{MANAGED_ANNOTATION, SealedSecret};

use crate::support::api_server::{ApiServer, client, id};
use crate::support::{Case, KEYS, sealed};

fn ring() -> Arc<KeyRing> {
    let empty = std::collections::BTreeMap::new;
    let secret = key_secret::build("k", "ns", &KEYS[0], empty(), empty());
    let key: RingKey =
        key_secret::parse(&secret, key_secret::OrderPriority::CertNotBefore).unwrap();
    Arc::new(KeyRing::new([Arc::new(key)]))
}

fn object(value: &str) -> SealedSecret {
    sealed(&KEYS[0], "ns/n", &[("a", value)])
}

/// Returns an object whose Secret has a random value.
fn object_with_random_item() -> SealedSecret {
    let mut object = object("1");
    let template = ("r".to_owned(), Some("{{ uuidv4 }}".to_owned()));
    object.spec.template.data = Some([template].into());
    object
}

/// Returns an object whose Secret another object may take over.
fn object_that_consents(value: &str) -> SealedSecret {
    let mut object = object(value);
    let annotations = &mut object.spec.template.metadata.annotations;
    let consent = (MANAGED_ANNOTATION.to_owned(), "true".to_owned());
    annotations.get_or_insert_default().extend([consent]);
    object
}

/// A controller that the test runs once a second.
struct Controller {
    reconciler: Reconciler<ClusterStore>,
    second: i64,
}

impl Controller {
    fn new(store: &Arc<ClusterStore>) -> Self {
        Self::with_policy(store, Case::idle().config().policy)
    }

    fn with_policy(store: &Arc<ClusterStore>, policy: Policy) -> Self {
        let metrics = Arc::new(Metrics::new(false).unwrap());
        let mut reconciler = Reconciler::new(Arc::clone(store), Pool::new(), policy, metrics);
        reconciler.use_ring(ring(), Timestamp::UNIX_EPOCH);
        Self {
            reconciler,
            second: 0,
        }
    }

    async fn reconcile(&mut self) {
        self.second += 1;
        let now = Timestamp::from_second(self.second).unwrap();
        self.reconciler.enqueue([id()], Urgency::Fresh, now);
        while self.reconciler.run_once(now).await == Some(now) {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_spec_that_changes_while_its_first_secret_is_created_is_applied() {
    let server = ApiServer::default();
    server.put_sealed(&object("old"), "u", 1);
    server.edit("a", "before");
    let (server, store) = server.start();
    server.before_the_next_write(|server| server.put_sealed(&object("new"), "u", 2));
    let mut controller = Controller::new(&store);
    controller.reconcile().await;
    assert_eq!(server.value("a"), "new");
    assert_eq!(server.status()["observedGeneration"], json!(2));
    controller.reconcile().await;
    assert!(server.is_synced());
    assert_eq!(
        (server.value("a").as_str(), *server.writes.lock().unwrap()),
        ("new", 1)
    );
}

#[tokio::test(start_paused = true)]
async fn random_values_stay_when_a_correction_fails() {
    for drops_record in [false, true] {
        let server = ApiServer::with_crd(drops_record);
        server.put_sealed(&object_with_random_item(), "u", 1);
        let (server, store) = server.start();
        let mut controller = Controller::new(&store);
        controller.reconcile().await;
        let random_value = server.value("r");
        server.edit("a", "edited");
        server.before_the_next_write(|server| server.edit("b", "once more"));
        controller.reconcile().await;
        assert!(!server.is_synced());
        if !drops_record {
            controller = Controller::new(&server.restart());
        }
        controller.reconcile().await;
        assert!(server.is_synced());
        let values = (server.value("a"), server.value("r"));
        assert_eq!(
            values,
            ("1".into(), random_value),
            "drops the record: {drops_record}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn random_values_stay_while_the_key_is_missing() {
    let server = ApiServer::default();
    server.put_sealed(&object_with_random_item(), "u", 1);
    let (server, store) = server.start();
    let mut controller = Controller::new(&store);
    controller.reconcile().await;
    let random_value = server.value("r");
    server.edit("a", "edited");
    controller
        .reconciler
        .use_ring(Arc::default(), Timestamp::UNIX_EPOCH);
    controller.reconcile().await;
    assert!(!server.is_synced());
    controller
        .reconciler
        .use_ring(ring(), Timestamp::UNIX_EPOCH);
    controller.reconcile().await;
    assert!(server.is_synced());
    assert_eq!(
        (server.value("a"), server.value("r")),
        ("1".into(), random_value)
    );
}

/// The record of the last success stays in the status of a failure, and must not count as a success.
#[tokio::test(start_paused = true)]
async fn recovery_from_a_failure_is_reported_without_writing_the_secret() {
    let server = ApiServer::default();
    server.put_sealed(&object("1"), "u", 1);
    let (server, store) = server.start();
    let mut controller = Controller::new(&store);
    controller.reconcile().await;
    server.edit("a", "edited");
    server.before_the_next_write(|server| server.edit("a", "once more"));
    controller.reconcile().await;
    assert!(!server.is_synced());
    server.edit("a", "1");
    controller.reconcile().await;
    assert!(server.is_synced());
    assert_eq!(*server.writes.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_next_edit_does_not_resume_a_drift_fight() {
    for drops_record in [false, true] {
        let server = ApiServer::with_crd(drops_record);
        server.put_sealed(&object("1"), "u", 1);
        let (server, store) = server.start();
        let mut controller = Controller::new(&store);
        controller.reconcile().await;
        for i in 0..20 {
            server.edit("a", &format!("edit {i}"));
            controller.reconcile().await;
        }
        // The Secret was created once and corrected five times.
        assert_eq!(*server.writes.lock().unwrap(), 1 + 5, "{drops_record}");
        assert_eq!(
            server.status()["conditions"][0]["reason"],
            json!("DriftFight")
        );
    }
}

/// Attack: a client edits a Secret repeatedly while no statuses are written, so that the controller writes indefinitely.
#[tokio::test(start_paused = true)]
async fn a_drift_fight_without_statuses_ends() {
    let server = ApiServer::default();
    server.put_sealed(&object("1"), "u", 1);
    let (server, store) = server.start();
    let mut policy = Case::idle().config().policy;
    policy.update_status = false;
    let mut controller = Controller::with_policy(&store, policy);
    controller.reconcile().await;
    for i in 0..20 {
        server.edit("a", &format!("edit {i}"));
        controller.reconcile().await;
    }
    assert_eq!(*server.writes.lock().unwrap(), 1 + 5);
    assert_eq!(server.status(), json!(null));
}

#[tokio::test(start_paused = true)]
async fn the_outcome_of_an_object_is_not_reported_for_another_with_the_same_name() {
    let server = ApiServer::default();
    server.put_sealed(&object_that_consents("old"), "first", 1);
    server.edit("a", "before");
    let (server, store) = server.start();
    // The first write detects that a Secret exists; the second one overwrites it.
    server.before_the_next_write(|_| ());
    server.before_the_next_write(|server| {
        server.put_sealed(&object_that_consents("new"), "second", 1);
    });
    let mut policy = Case::idle().config().policy;
    policy.tolerates_drift = true;
    let mut controller = Controller::with_policy(&store, policy);
    controller.reconcile().await;
    assert_eq!(server.status(), json!(null));
    controller.reconcile().await;
    assert_eq!(server.value("a"), "new");
    assert!(server.is_synced());
}

#[tokio::test(start_paused = true)]
async fn an_unusable_key_that_is_missing_in_the_next_list_is_no_longer_counted() {
    let server = Arc::new(ApiServer::default());
    let mut keys = ClusterKeys::new(client(&server), Case::idle().config().keys);
    let unusable = json!({ "metadata": { "name": "bad", "namespace": "kube-system", "uid": "u" } });
    let unusable = serde_json::from_value(unusable).unwrap();
    for event in [Event::Init, Event::InitApply(unusable), Event::InitDone] {
        keys.apply_event(KeyFormat::Rsa, event, Timestamp::UNIX_EPOCH);
    }
    assert_eq!(keys.unusable_count(), 1);
    for event in [Event::Init, Event::InitDone] {
        keys.apply_event(KeyFormat::Rsa, event, Timestamp::UNIX_EPOCH);
    }
    assert_eq!(keys.unusable_count(), 0);
}

/// Returns the last line of the message of the condition `Ready`.
fn last_line(server: &ApiServer) -> String {
    let message = server.status()["conditions"][1]["message"].clone();
    let message = message.as_str().unwrap_or_default();
    message.lines().last().unwrap_or_default().to_owned()
}

/// Attack: a client edits the Secret while the controller cannot correct it, so that the status reports the edited
/// values as the values of the last good version.
#[tokio::test(start_paused = true)]
async fn the_status_reports_kept_values_only_if_no_other_client_edited_them() {
    const VALUES_KEPT: &str = "the values of the last good version stay in place";
    const VALUES_MAY_DIFFER: &str = "another client may have changed the values of the Secret";
    let broken_object = sealed(&KEYS[1], "ns/n", &[("a", "2")]);
    for (tolerates_drift, edits_before, want) in [
        (false, false, VALUES_KEPT),
        (false, true, VALUES_KEPT),
        (true, false, VALUES_KEPT),
        (true, true, VALUES_MAY_DIFFER),
    ] {
        let server = ApiServer::default();
        server.put_sealed(&object("1"), "u", 1);
        let (server, store) = server.start();
        let mut policy = Case::idle().config().policy;
        policy.tolerates_drift = tolerates_drift;
        let mut controller = Controller::with_policy(&store, policy);
        controller.reconcile().await;
        if edits_before {
            server.edit("a", "edited");
            controller.reconcile().await;
        }
        server.put_sealed(&broken_object, "u", 2);
        for _ in 0..2 {
            controller.reconcile().await;
            assert_eq!(last_line(&server), want, "{tolerates_drift} {edits_before}");
        }
        server.edit("a", "edited");
        controller.reconcile().await;
        assert_eq!(last_line(&server), VALUES_MAY_DIFFER);
        server.put_sealed(&object("3"), "u", 3);
        controller.reconcile().await;
        assert!(server.is_synced());
        server.make_immutable();
        server.edit("a", "edited");
        server.put_sealed(&object("4"), "u", 4);
        controller.reconcile().await;
        assert_eq!(last_line(&server), VALUES_MAY_DIFFER);
    }
}

/// Attack: a client makes the Secret immutable while no controller is running, so that the status reports values that
/// the client may have changed as the values of the last good version.
#[tokio::test(start_paused = true)]
async fn after_a_restart_the_status_reports_kept_values_only_with_a_record() {
    let server = ApiServer::default();
    server.put_sealed(&object("1"), "u", 1);
    let (server, store) = server.start();
    Controller::new(&store).reconcile().await;
    server.make_immutable();
    let mut controller = Controller::new(&server.restart_with_secret());
    controller.reconcile().await;
    assert!(!server.is_synced());
    assert_eq!(
        last_line(&server),
        "another client may have changed the values of the Secret"
    );
}
