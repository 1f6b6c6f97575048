//! Tests edits of a Secret by other clients.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use controller::metrics::Metrics;
use controller::pool::Pool;
use controller::reconcile::{Policy, Reconciler, Urgency};
use controller::store::cluster::ClusterStore;
use controller_core::added_metadata::AddedMetadata;
use jiff::Timestamp;
use serde_json::{Value, json};
use shared::base64;
use shared::key_ring::KeyRing;
use shared::key_secret;
use shared::resource::{PATCH_ANNOTATION, RANDOM_VALUES_ANNOTATION, SealedSecret};

use crate::support::api_server::{ApiServer, id};
use crate::support::{Case, KEYS, sealed};

const NOT_MANAGED: &str = "already exists and is not managed by SealedSecret";
const VALUES_KEPT: &str = "the values of the last good version stay in place";

/// A controller with one object. Tests can restart the controller.
struct Run {
    server: Arc<ApiServer>,
    store: Arc<ClusterStore>,
    reconciler: Reconciler<ClusterStore>,
    policy: Policy,
    generation: i64,
}

impl Run {
    fn new() -> Self {
        Self::on(ApiServer::default(), |_| ())
    }

    fn on(server: ApiServer, adjust: impl FnOnce(&mut Policy)) -> Self {
        let (server, store) = server.start();
        let mut policy = Case::idle().config().policy;
        adjust(&mut policy);
        Self {
            server,
            reconciler: reconciler(&store, &policy),
            store,
            policy,
            generation: 0,
        }
    }

    /// Replaces the controller with a new process that has listed the object and its Secret.
    fn restart(&mut self) {
        self.store = self.server.restart_with_secret();
        self.reconciler = reconciler(&self.store, &self.policy);
    }

    async fn apply(&mut self, sealed: &SealedSecret) {
        self.put(sealed);
        self.reconcile().await;
    }

    fn put(&mut self, sealed: &SealedSecret) {
        self.generation += 1;
        self.server.put_sealed(sealed, "u", self.generation);
        self.server.report_to(&self.store);
    }

    async fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        self.server.edit_secret(edit);
        self.server.report_to(&self.store);
        self.reconcile().await;
    }

    async fn reconcile(&mut self) {
        let now = self.now();
        self.reconciler.enqueue([id()], Urgency::Fresh, now);
        while self.reconciler.run_once(now).await == Some(now) {}
    }

    /// Reconciles until the Secret is written, and stops before the write is reported.
    async fn reconcile_until_written(&mut self) {
        let (now, writes) = (self.now(), *self.server.writes.lock().unwrap());
        self.reconciler.enqueue([id()], Urgency::Fresh, now);
        while *self.server.writes.lock().unwrap() == writes {
            let step = std::time::Duration::from_millis(1);
            let _ = tokio::time::timeout(step, self.reconciler.run_once(now)).await;
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.generation).unwrap()
    }

    fn count_corrections(&self) -> usize {
        let reasons = self.server.event_reasons();
        let corrections = reasons.iter().filter(|reason| *reason == "DriftCorrected");
        corrections.count()
    }

    /// Returns the keys of the Secret's items, sorted.
    fn items(&self) -> Vec<String> {
        let secret = self.server.secret();
        let items: BTreeSet<&String> = secret["data"].as_object().unwrap().keys().collect();
        items.into_iter().cloned().collect()
    }

    fn annotation(&self, name: &str) -> Value {
        self.server.secret()["metadata"]["annotations"][name].clone()
    }

    /// Returns the message of a condition.
    fn message(&self, condition: usize) -> String {
        let message = self.server.status()["conditions"][condition]["message"].clone();
        message.as_str().unwrap_or_default().to_owned()
    }
}

fn reconciler(store: &Arc<ClusterStore>, policy: &Policy) -> Reconciler<ClusterStore> {
    let metrics = Arc::new(Metrics::new(false).unwrap());
    let mut reconciler = Reconciler::new(Arc::clone(store), Pool::new(), policy.clone(), metrics);
    let secret = key_secret::build("k", "ns", &KEYS[0], BTreeMap::new(), BTreeMap::new());
    let key = key_secret::parse(&secret, key_secret::OrderPriority::CertNotBefore).unwrap();
    let ring = Arc::new(KeyRing::new([Arc::new(key)]));
    reconciler.use_ring(ring, Timestamp::UNIX_EPOCH);
    reconciler
}

fn object(items: &[(&str, &str)]) -> SealedSecret {
    sealed(&KEYS[0], "ns/n", items)
}

/// Returns an object with the item `p` and two random items.
fn random_object() -> SealedSecret {
    let mut object = object(&[("p", "v")]);
    let texts = [
        ("pw", "{{ randAlphaNum 8 }}"),
        ("mix", "{{ .p }}-{{ randAlphaNum 4 }}"),
    ];
    let texts = texts.map(|(key, text)| (key.to_owned(), Some(text.to_owned())));
    object.spec.template.data = Some(texts.into());
    object
}

fn broken_object() -> SealedSecret {
    sealed(&KEYS[1], "ns/n", &[("p", "v")])
}

fn text(value: &str) -> Value {
    json!(base64::encode(value.as_bytes()))
}

fn add_consent(secret: &mut Value) {
    secret["metadata"]["annotations"][PATCH_ANNOTATION] = json!("true");
}

/// Attack: a client adds the annotation for merging to a Secret that the controller created, so that items of the
/// client and removed items stay, and the status reports success.
#[tokio::test(start_paused = true)]
async fn an_added_consent_to_a_merge_has_no_effect_on_a_created_secret() {
    for restarts in [false, true] {
        for adds_item in [true, false] {
            let mut run = Run::new();
            run.apply(&object(&[("p", "v1"), ("q", "old")])).await;
            if restarts {
                run.restart();
            }
            run.edit(|secret| {
                add_consent(secret);
                if adds_item {
                    secret["data"]["evil"] = text("evil");
                }
            })
            .await;
            assert_eq!(run.items(), ["p", "q"]);
            assert_eq!(run.annotation(PATCH_ANNOTATION), Value::Null);
            assert_eq!(
                run.count_corrections(),
                1,
                "the annotation alone is an edit"
            );
            run.apply(&broken_object()).await;
            if restarts {
                run.restart();
            }
            run.edit(|secret| secret["data"]["evil"] = text("evil"))
                .await;
            assert!(!run.message(1).ends_with(VALUES_KEPT));
            run.apply(&object(&[("p", "v2")])).await;
            assert_eq!(run.items(), ["p"]);
            assert_eq!(run.annotation(PATCH_ANNOTATION), Value::Null);
            assert!(run.server.is_synced());
        }
    }
}

/// Attack: a client adds the annotation for merging while the controller keeps no record, because a restarted
/// controller without a record does not know which client added the annotation.
#[tokio::test(start_paused = true)]
async fn an_added_consent_to_a_merge_has_no_effect_after_a_restart_without_a_record() {
    for tolerates_drift in [false, true] {
        for update_status in [false, true] {
            let mut run = Run::on(ApiServer::with_crd(true), |policy| {
                policy.update_status = update_status;
                policy.tolerates_drift = tolerates_drift;
            });
            run.apply(&object(&[("p", "v1"), ("q", "old")])).await;
            run.edit(add_consent).await;
            assert_eq!(run.annotation(PATCH_ANNOTATION), Value::Null);
            run.restart();
            run.edit(|secret| secret["data"]["evil"] = text("evil"))
                .await;
            run.apply(&object(&[("p", "v2")])).await;
            assert_eq!(run.items(), ["p"]);
            assert_eq!(run.annotation(PATCH_ANNOTATION), Value::Null);
        }
    }
}

/// Attack: a client removes a label that the administrator adds, together with so many annotations that the API server
/// accepts no write that restores it.
#[tokio::test(start_paused = true)]
async fn a_removed_label_of_the_administrator_is_restored_despite_thousands_of_annotations() {
    for tolerates_drift in [false, true] {
        for is_refused in [false, true] {
            let labels = AddedMetadata::default().with_labels("team=ops").unwrap();
            let mut run = Run::on(ApiServer::default(), |policy| {
                policy.tolerates_drift = tolerates_drift;
                policy.added = Arc::new(labels);
            });
            run.apply(&random_object()).await;
            let password = run.server.value("pw");
            if is_refused {
                run.apply(&broken_object()).await;
            }
            run.edit(|secret| {
                secret["metadata"]["labels"] = Value::Null;
                let annotations = secret["metadata"]["annotations"].as_object_mut().unwrap();
                annotations.extend((0..21_000).map(|i| (format!("{i:x}"), json!(""))));
            })
            .await;
            let label = run.server.secret()["metadata"]["labels"]["team"].clone();
            assert_eq!(label, json!("ops"), "{tolerates_drift} {is_refused}");
            assert_eq!(run.server.is_synced(), !is_refused);
            run.restart();
            run.reconcile().await;
            assert_eq!(run.server.value("pw"), password);
        }
    }
}

/// Fault: the API server accepts no write for a while, so one edit or one deletion looks like many.
#[tokio::test(start_paused = true)]
async fn failed_corrections_do_not_count_as_a_drift_fight() {
    for is_deleted in [false, true] {
        let mut run = Run::new();
        run.apply(&object(&[("p", "v")])).await;
        let is_failing = &run.server.has_exhausted_quota;
        is_failing.store(true, Ordering::Relaxed);
        if is_deleted {
            run.server.delete_secret(&run.store);
        } else {
            run.server.edit("p", "edited");
        }
        for _ in 0..10 {
            run.reconcile().await;
            assert_eq!(
                run.server.status()["conditions"][0]["reason"],
                "ErrUpdateFailed"
            );
        }
        run.server
            .has_exhausted_quota
            .store(false, Ordering::Relaxed);
        for _ in 0..5 {
            run.reconcile().await;
            assert_eq!(run.server.value("p"), "v");
            assert!(run.server.is_synced());
            if is_deleted {
                run.server.delete_secret(&run.store);
            } else {
                run.server.edit("p", "edited");
            }
        }
        run.reconcile().await;
        assert_eq!(run.server.status()["conditions"][0]["reason"], "DriftFight");
    }
}

/// Attack: a client removes the owner of a Secret and adds the annotation for merging, so that the Secret is neither
/// corrected nor deleted with its SealedSecret, without a report.
#[tokio::test(start_paused = true)]
async fn a_removed_owner_is_reported_despite_an_added_consent_to_a_merge() {
    for restarts in [false, true] {
        let mut run = Run::new();
        run.apply(&object(&[("p", "v1")])).await;
        if restarts {
            run.restart();
        }
        run.edit(|secret| {
            add_consent(secret);
            secret["metadata"]["ownerReferences"] = Value::Null;
            secret["data"]["evil"] = text("evil");
        })
        .await;
        assert!(!run.server.is_synced());
        assert!(run.message(0).contains(NOT_MANAGED), "{}", run.message(0));
    }
}

/// Upstream's feature: values are merged into a Secret that is not owned and has the annotation for merging (`patch`),
/// with or without the annotation for taking it over (`managed`), also after a restart and without a record.
#[tokio::test(start_paused = true)]
async fn consent_in_an_existing_secret_permits_merges_permanently() {
    for drops_record in [false, true] {
        for is_managed in [false, true] {
            let mut run = Run::on(ApiServer::with_crd(drops_record), |_| ());
            run.server.edit("unrelated", "1");
            run.server.edit_secret(|secret| {
                add_consent(secret);
                let managed = json!(is_managed.to_string());
                secret["metadata"]["annotations"]["sealedsecrets.bitnami.com/managed"] = managed;
            });
            run.apply(&object(&[("p", "v1")])).await;
            for version in ["v2", "v3"] {
                assert_eq!(run.items(), ["p", "unrelated"]);
                run.restart();
                run.edit(|secret| secret["data"]["added"] = text("x")).await;
                assert_eq!(run.items(), ["added", "p", "unrelated"]);
                run.apply(&broken_object()).await;
                run.restart();
                run.apply(&object(&[("p", version)])).await;
                assert_eq!(run.items(), ["added", "p", "unrelated"]);
                run.edit(|secret| drop(secret["data"].as_object_mut().unwrap().remove("added")))
                    .await;
            }
            let has_owner = !run.server.secret()["metadata"]["ownerReferences"].is_null();
            assert_eq!(has_owner, is_managed);
            assert_eq!(run.count_corrections(), 0);
        }
    }
}

/// The template permits other clients to add items, and a later version of the template does not.
#[tokio::test(start_paused = true)]
async fn the_template_enables_and_disables_a_merge() {
    let mut mergeable = object(&[("p", "v1")]);
    let consent = (PATCH_ANNOTATION.to_owned(), "true".to_owned());
    mergeable.spec.template.metadata.annotations = Some([consent].into());
    let mut run = Run::new();
    run.apply(&mergeable).await;
    run.edit(|secret| secret["data"]["unrelated"] = text("1"))
        .await;
    run.restart();
    run.edit(|secret| secret["data"]["p"] = text("edited"))
        .await;
    assert_eq!(run.items(), ["p", "unrelated"]);
    assert_eq!(run.server.value("p"), "v1");
    assert_eq!(run.count_corrections(), 1);
    run.apply(&object(&[("p", "v2")])).await;
    assert_eq!(run.items(), ["p"]);
}

/// Attack: a client changes a random value, which rendering the template again cannot reproduce, so that the edit is
/// neither corrected nor reported.
#[tokio::test(start_paused = true)]
async fn an_edit_of_a_random_value_is_replaced_and_reported() {
    for restarts in [false, true] {
        for drops_record in [false, true] {
            let mut run = Run::on(ApiServer::with_crd(drops_record), |_| ());
            run.apply(&random_object()).await;
            let mix = run.server.value("mix");
            if restarts {
                run.restart();
            }
            run.edit(|secret| secret["data"]["pw"] = text("evil")).await;
            let password = run.server.value("pw");
            assert_ne!(password, "evil");
            assert_eq!(password.len(), 8);
            assert_eq!(
                run.server.value("mix"),
                mix,
                "a value that was not edited stays"
            );
            assert!(run.server.is_synced());
            // Without a record nothing shows after a restart that another client caused the difference.
            let is_reported = !(restarts && drops_record);
            assert_eq!(run.count_corrections(), usize::from(is_reported));
            run.edit(|secret| secret["data"]["p"] = text("evil")).await;
            assert_eq!(
                ["p", "pw", "mix"].map(|item| run.server.value(item)),
                ["v".to_owned(), password.clone(), mix.clone()],
                "the correction of one value changed another"
            );
            run.edit(|secret| secret["metadata"]["labels"] = json!({ "unrelated": "1" }))
                .await;
            assert_eq!(run.server.value("pw"), password);
            run.edit(|secret| {
                secret["data"]["pw"] = text("evil");
                let annotations = &mut secret["metadata"]["annotations"];
                annotations[RANDOM_VALUES_ANNOTATION] = json!("AAAA");
            })
            .await;
            assert_ne!(run.server.value("pw"), "evil");
            assert!(run.server.is_synced());
        }
    }
}

/// Fault: the process is killed after it wrote a Secret and before it wrote the status, or the controller writes no
/// status.
#[tokio::test(start_paused = true)]
async fn random_values_stay_if_the_controller_ends_before_it_writes_the_status() {
    for update_status in [true, false] {
        for drops_record in [false, true] {
            let mut run = Run::on(ApiServer::with_crd(drops_record), |policy| {
                policy.update_status = update_status;
            });
            for _ in 0..2 {
                run.put(&random_object());
                run.reconcile_until_written().await;
                let written = ["pw", "mix"].map(|item| run.server.value(item));
                for _ in 0..2 {
                    run.restart();
                    run.reconcile().await;
                    assert_eq!(["pw", "mix"].map(|item| run.server.value(item)), written);
                }
                assert_eq!(run.server.is_synced(), update_status);
                assert_eq!(run.count_corrections(), 0);
            }
        }
    }
}

/// The Secret was written by a controller that sets no mark.
#[tokio::test(start_paused = true)]
async fn random_values_without_a_mark_stay_and_are_marked() {
    let mut run = Run::new();
    run.apply(&random_object()).await;
    let before = ["pw", "mix"].map(|item| run.server.value(item));
    run.server.edit_status(|status| {
        let status = status.as_object_mut().unwrap();
        status.retain(|field, _| field != "record" && field != "items");
    });
    run.server
        .edit_metadata(|metadata| metadata["annotations"] = Value::Null);
    run.restart();
    run.reconcile().await;
    assert_eq!(["pw", "mix"].map(|item| run.server.value(item)), before);
    assert_eq!(run.count_corrections(), 0);
    assert!(run.annotation(RANDOM_VALUES_ANNOTATION).is_string());
    run.edit(|secret| secret["data"]["pw"] = text("evil")).await;
    assert_ne!(run.server.value("pw"), "evil");
    assert_eq!(run.server.value("mix"), before[1]);
    assert_eq!(run.count_corrections(), 1);
}

/// Fault: a client removes all annotations that are unknown to it, alone or together with a label of the template.
#[tokio::test(start_paused = true)]
async fn random_values_stay_if_their_annotation_is_removed() {
    for restarts in [false, true] {
        for with_label in [false, true] {
            let mut object = random_object();
            let label = ("tier".to_owned(), "x".to_owned());
            object.spec.template.metadata.labels = Some([label].into());
            let mut run = Run::new();
            run.apply(&object).await;
            let before = ["pw", "mix"].map(|item| run.server.value(item));
            if restarts {
                run.restart();
            }
            run.edit(|secret| {
                secret["metadata"]["annotations"] = Value::Null;
                if with_label {
                    secret["metadata"]["labels"]["tier"] = json!("y");
                }
            })
            .await;
            run.edit(|secret| secret["metadata"]["labels"]["tier"] = json!("z"))
                .await;
            assert_eq!(["pw", "mix"].map(|item| run.server.value(item)), before);
            assert_eq!(run.server.secret()["metadata"]["labels"]["tier"], "x");
            assert!(run.annotation(RANDOM_VALUES_ANNOTATION).is_string());
        }
    }
}

/// Attack: a client adds so many annotations to the Secret that the API server accepts no correction, and the status
/// blames the values of the author.
#[tokio::test(start_paused = true)]
async fn an_edit_with_thousands_of_annotations_is_corrected() {
    let mut with_template = object(&[("p", "v")]);
    with_template.spec.template.data = Some([("t".to_owned(), Some("{{ .p }}".into()))].into());
    for object in [object(&[("p", "v")]), with_template] {
        let mut run = Run::new();
        run.apply(&object).await;
        run.edit(|secret| {
            let annotations = secret["metadata"]["annotations"].take();
            let mut annotations = annotations.as_object().cloned().unwrap_or_default();
            annotations.extend((0..21_000).map(|i| (format!("{i:x}"), json!(""))));
            secret["metadata"]["annotations"] = annotations.into();
            secret["data"]["p"] = text("evil");
        })
        .await;
        assert_eq!(run.server.value("p"), "v");
        assert!(run.server.is_synced());
        assert_eq!(run.count_corrections(), 1);
    }
}

/// Attack: an author without access to a Secret creates a SealedSecret of the same name, so that the controller reads
/// the values into its memory.
#[tokio::test(start_paused = true)]
async fn values_of_a_secret_of_another_owner_are_not_read() {
    let mut run = Run::new();
    run.server.edit("unrelated", "1");
    run.server
        .edit_secret(|secret| secret["metadata"]["annotations"] = Value::Null);
    let value_reads = |run: &Run| *run.server.value_reads.lock().unwrap();
    for restarts in [false, true] {
        if restarts {
            run.restart();
        }
        run.apply(&object(&[("p", "v")])).await;
        run.reconcile().await;
        assert!(run.message(0).contains(NOT_MANAGED));
        assert_eq!(value_reads(&run), 0);
    }
    run.server.edit_metadata(|metadata| {
        metadata["annotations"] = json!({ "sealedsecrets.bitnami.com/managed": "true" });
    });
    run.reconcile().await;
    assert_eq!((run.items(), value_reads(&run)), (vec!["p".to_owned()], 1));
    run.edit(|secret| secret["data"]["p"] = text("edited"))
        .await;
    assert_eq!(
        (run.server.value("p").as_str(), value_reads(&run)),
        ("v", 2)
    );
}
