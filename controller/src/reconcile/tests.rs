use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use controller_core::decide::{Existing, Plan};
use shared::hints::Hints;
use shared::resource::{SealedSecret, SealedSecretSpec, SealedSecretStatus};
use shared::v2::OpenedLocks;

use super::*;
use crate::store::{AppliedPlan, EventRecord, Observed, ReadMode, Source, StoreError};
use crate::testing::id;

/// A store of malformed objects that is slow and records which objects are in progress.
#[derive(Debug, Default)]
struct SlowStore {
    in_progress: Mutex<BTreeSet<ObjectId>>,
    attempts: Mutex<Vec<String>>,
    max_in_progress: AtomicUsize,
    /// Additional delay in milliseconds.
    delay: AtomicU64,
    /// Whether all objects are deleted.
    is_empty: AtomicBool,
}

impl Store for SlowStore {
    async fn gather(&self, id: &ObjectId, _: ReadMode) -> Result<Observed, StoreError> {
        {
            let mut in_progress = self.in_progress.lock().unwrap();
            assert!(
                in_progress.insert(id.clone()),
                "{id} is already in progress"
            );
            self.max_in_progress
                .fetch_max(in_progress.len(), Ordering::Relaxed);
        }
        let delay = 10 + self.delay.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(delay)).await;
        self.in_progress.lock().unwrap().remove(id);
        self.attempts.lock().unwrap().push(id.name.clone());
        let source = if self.is_empty.load(Ordering::Relaxed) {
            Source::Gone
        } else {
            Source::Malformed("on purpose".into())
        };
        Ok(Observed {
            unmanaged: None,
            source,
            uid: None,
            existing: Existing::Absent,
            generation: None,
            status: None,
            settled: false,
            claimed: false,
            assumed_absent: false,
            has_unsealed_values: false,
            is_fresh: false,
            is_exclusive: false,
            random_mark: None,
            trusts_mark: false,
        })
    }

    async fn apply(&self, _: &ObjectId, _: Plan) -> Result<AppliedPlan, StoreError> {
        Ok(AppliedPlan::Done(None))
    }

    async fn record(
        &self,
        _: &ObjectId,
        _: Option<&str>,
        _: Option<SealedSecretStatus>,
    ) -> Result<(), StoreError> {
        Ok(())
    }
}

fn policy() -> Policy {
    Policy {
        rules: Rules {
            accept_legacy: true,
            refuse_random: false,
        },
        author_limits: Arc::default(),
        added: Arc::default(),
        update_status: true,
        tolerates_drift: false,
        retries: 0,
    }
}

fn reconciler() -> (Arc<SlowStore>, Reconciler<SlowStore>) {
    let (store, metrics) = (
        Arc::<SlowStore>::default(),
        Arc::new(Metrics::new(false).unwrap()),
    );
    let reconciler = Reconciler::new(Arc::clone(&store), Pool::new(), policy(), metrics);
    (store, reconciler)
}

#[tokio::test(start_paused = true)]
async fn many_objects_are_in_progress_with_one_attempt_each() {
    let (store, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    let ids: Vec<ObjectId> = (0..20).map(|i| id(&format!("s-{i:02}"))).collect();
    reconciler.enqueue(ids.clone(), Urgency::Backlog, now);
    reconciler.begin_attempts(8, now);
    // The objects change twice while some are in progress, which causes one more attempt for each object in progress.
    reconciler.enqueue(ids.clone(), Urgency::Fresh, now);
    reconciler.enqueue(ids, Urgency::Fresh, now);
    while reconciler.finish_next(|| now).await.is_some() {
        reconciler.begin_attempts(8, now);
    }
    assert_eq!(store.max_in_progress.load(Ordering::Relaxed), 6);
    assert_eq!(store.attempts.lock().unwrap().len(), 20 + 6);
}

#[tokio::test(start_paused = true)]
async fn a_new_object_overtakes_objects_of_the_first_list() {
    let (store, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    let old = (0..1000).map(|i| id(&format!("old-{i}")));
    reconciler.enqueue(old, Urgency::Backlog, now);
    reconciler.begin_attempts(2, now);
    reconciler.enqueue([id("new")], Urgency::Fresh, now);
    for _ in 0..4 {
        reconciler.finish_next(|| now).await;
        reconciler.begin_attempts(2, now);
    }
    assert!(store.attempts.lock().unwrap().contains(&"new".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn handed_over_objects_leave_the_queue() {
    let (store, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    reconciler.enqueue([id("a"), id("b"), id("c")], Urgency::Fresh, now);
    reconciler.begin_attempts(1, now);
    reconciler.enqueue([id("a"), id("b")], Urgency::Backlog, now);
    let mut handed_over = reconciler.hand_over().await;
    handed_over.sort();
    assert_eq!(handed_over, [id("a"), id("b"), id("c")]);
    assert_eq!(reconciler.begin_attempts(8, now), None);
    assert!(
        reconciler.finish_next(|| now).await.is_none(),
        "nothing is in progress"
    );
    assert!(store.attempts.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn canceled_attempts_are_queued_again() {
    let (store, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    reconciler.enqueue([id("a"), id("b")], Urgency::Fresh, now);
    reconciler.begin_attempts(1, now);
    reconciler.suspend(now).await;
    store.in_progress.lock().unwrap().clear();
    assert!(
        reconciler.finish_next(|| now).await.is_none(),
        "nothing is in progress"
    );
    reconciler.begin_attempts(8, now);
    while reconciler.finish_next(|| now).await.is_some() {}
    let mut attempts = store.attempts.lock().unwrap().clone();
    attempts.sort();
    assert_eq!(attempts, ["a", "b"]);
}

/// Attack: a tenant creates and deletes objects whose attempts end early, so that their progress and data keys fill the
/// memory that all tenants share.
#[tokio::test(start_paused = true)]
async fn the_progress_of_a_deleted_object_is_forgotten() {
    let (store, mut reconciler) = reconciler();
    let id = id("n");
    let key = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
    let hints = Hints::from([("a".to_owned(), key.parse().unwrap())]);
    let stored_hints = |reconciler: &Reconciler<SlowStore>| {
        let mut hints = Hints::new();
        reconciler.tools.progress().add_to(&id, &mut hints);
        hints.len()
    };
    let tools = &reconciler.tools;
    tools.progress().keep(&id, hints, OpenedLocks::default());
    assert_eq!(stored_hints(&reconciler), 1);
    store.is_empty.store(true, Ordering::Relaxed);
    let now = Timestamp::UNIX_EPOCH;
    reconciler.enqueue([id.clone()], Urgency::Fresh, now);
    reconciler.begin_attempts(1, now);
    while reconciler.finish_next(|| now).await.is_some() {}
    assert_eq!(stored_hints(&reconciler), 0);
}

fn objects_in(namespace: &str, count: usize) -> Vec<ObjectId> {
    let object = |i| ObjectId {
        namespace: namespace.into(),
        name: format!("{namespace}-{i:03}"),
    };
    (0..count).map(object).collect()
}

/// Attack: a tenant occupies every slot of the controller, to delay other tenants.
#[tokio::test(start_paused = true)]
async fn no_namespace_takes_all_slots_and_another_namespace_starts_immediately() {
    let (store, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    reconciler.enqueue(objects_in("hostile", 100), Urgency::Fresh, now);
    reconciler.begin_attempts(8, now);
    assert_eq!(reconciler.in_progress.len(), 6);
    reconciler.enqueue(objects_in("quiet", 1), Urgency::Backlog, now);
    reconciler.begin_attempts(8, now);
    let in_use = reconciler.slots_in_use();
    assert_eq!((in_use["hostile"], in_use["quiet"]), (6, 1));
    while reconciler.finish_next(|| now).await.is_some() {
        reconciler.begin_attempts(8, now);
    }
    assert_eq!(store.attempts.lock().unwrap().len(), 101);
}

/// Attack: tenants arrive one after another with objects that hold their slots for a long time, so that together they
/// hold every slot.
#[tokio::test(start_paused = true)]
async fn tenants_that_arrive_one_after_the_other_leave_a_slot_for_a_new_tenant() {
    let (_, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    for namespace in ["a", "b", "c", "d"] {
        reconciler.enqueue(objects_in(namespace, 100), Urgency::Fresh, now);
        reconciler.begin_attempts(32, now);
    }
    reconciler.enqueue(objects_in("quiet", 1), Urgency::Fresh, now);
    reconciler.begin_attempts(32, now);
    let in_use = reconciler.slots_in_use();
    assert_eq!(in_use.get("quiet"), Some(&1), "{in_use:?}");
}

#[tokio::test(start_paused = true)]
async fn namespaces_have_equal_shares_of_the_slots() {
    let (_, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    for namespace in ["a", "b", "c"] {
        reconciler.enqueue(objects_in(namespace, 100), Urgency::Backlog, now);
    }
    reconciler.begin_attempts(32, now);
    let in_use = reconciler.slots_in_use();
    assert_eq!(
        ["a", "b", "c"].map(|namespace| in_use[namespace]),
        [8, 8, 8]
    );
}

#[tokio::test(start_paused = true)]
async fn a_round_ends_while_an_attempt_is_in_progress() {
    let (store, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    store.delay.store(60_000, Ordering::Relaxed);
    reconciler.enqueue([id("slow")], Urgency::Fresh, now);
    assert_eq!(
        reconciler.run_once(now).await,
        Some(now),
        "the round is continued"
    );
    assert_eq!(reconciler.in_progress.len(), 1);
    while reconciler.run_once(now).await.is_some() {}
    assert_eq!(store.attempts.lock().unwrap().len(), 1);
}

/// A template that quickly renders to a large result, which is published a minute later because of the slow function.
const SLOW_AND_LARGE: &str =
    "{{ range until (int .none) }}{{ genPrivateKey \"rsa\" }}{{ end }}{{ repeat 900000 \"x\" }}";

/// A public store of objects with one template each, which is slow and large in namespaces that begin with "hostile".
/// Objects in namespaces that begin with "plain" have no template. In a namespace such as "slow-writes", the named
/// operation takes 20 seconds.
#[derive(Debug, Default)]
struct TemplateStore {
    writes: Mutex<Vec<ObjectId>>,
    /// When the first object outside the hostile and slow namespaces was written.
    first_quiet_write: Mutex<Option<tokio::time::Instant>>,
    published: AtomicUsize,
}

impl Store for TemplateStore {
    async fn gather(&self, id: &ObjectId, _: ReadMode) -> Result<Observed, StoreError> {
        let mut sealed = SealedSecret::new(&id.name, SealedSecretSpec::default());
        sealed.metadata.namespace = Some(id.namespace.clone());
        let text = if id.namespace.starts_with("hostile") {
            SLOW_AND_LARGE
        } else {
            "{{ 1 }}"
        };
        if !id.namespace.starts_with("plain") {
            sealed.spec.template.data = Some([("t".to_owned(), Some(text.to_owned()))].into());
        }
        Ok(Observed {
            unmanaged: None,
            source: Source::Sealed(Arc::new(sealed)),
            uid: None,
            existing: Existing::Absent,
            generation: Some(1),
            status: None,
            settled: false,
            claimed: false,
            assumed_absent: false,
            has_unsealed_values: false,
            is_fresh: true,
            is_exclusive: false,
            random_mark: None,
            trusts_mark: false,
        })
    }

    async fn apply(&self, id: &ObjectId, _: Plan) -> Result<AppliedPlan, StoreError> {
        delay_in_namespace(id, "slow-writes").await;
        self.writes.lock().unwrap().push(id.clone());
        if !["hostile", "slow"]
            .iter()
            .any(|name| id.namespace.starts_with(name))
        {
            let now = tokio::time::Instant::now();
            self.first_quiet_write.lock().unwrap().get_or_insert(now);
        }
        Ok(AppliedPlan::Done(None))
    }

    async fn record(
        &self,
        id: &ObjectId,
        _: Option<&str>,
        _: Option<SealedSecretStatus>,
    ) -> Result<(), StoreError> {
        delay_in_namespace(id, "slow-statuses").await;
        self.published.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn emit_event(&self, id: &ObjectId, _: EventRecord) {
        delay_in_namespace(id, "slow-events").await;
    }

    fn is_public(&self) -> bool {
        true
    }
}

async fn delay_in_namespace(id: &ObjectId, namespace: &str) {
    if id.namespace == namespace {
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
}

/// Attack: a tenant creates many objects with templates in a namespace for which the API server responds slowly, for
/// instance because of a webhook, so that they occupy every slot after their pause.
#[tokio::test(start_paused = true)]
async fn slow_requests_of_one_tenant_do_not_delay_another() {
    for namespace in ["slow-writes", "slow-statuses", "slow-events"] {
        let store = Arc::<TemplateStore>::default();
        let metrics = Arc::new(Metrics::new(false).unwrap());
        let mut reconciler = Reconciler::new(Arc::clone(&store), Pool::new(), policy(), metrics);
        let now = Timestamp::UNIX_EPOCH;
        reconciler.enqueue(objects_in(namespace, 200), Urgency::Fresh, now);
        reconciler.begin_attempts(32, now);
        let wait = async {
            while reconciler.finish_next(|| now).await.is_some() {
                reconciler.begin_attempts(32, now);
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), wait).await;
        reconciler.enqueue(objects_in("plain", 1), Urgency::Fresh, now);
        let start = tokio::time::Instant::now();
        reconciler.begin_attempts(32, now);
        while store.first_quiet_write.lock().unwrap().is_none() {
            reconciler.finish_next(|| now).await.unwrap();
            reconciler.begin_attempts(32, now);
        }
        let took = store.first_quiet_write.lock().unwrap().unwrap() - start;
        assert!(took < Duration::from_secs(1), "{namespace}: {took:?}");
        while reconciler.finish_next(|| now).await.is_some() {
            reconciler.begin_attempts(32, now);
        }
        assert_eq!(store.published.load(Ordering::Relaxed), 201, "{namespace}");
    }
}

/// Attack: a tenant creates a thousand objects with templates, whose outcomes are hidden for a second each, to delay
/// the object of another tenant.
#[tokio::test(start_paused = true)]
async fn a_paused_attempt_occupies_no_slot() {
    let store = Arc::<TemplateStore>::default();
    let metrics = Arc::new(Metrics::new(false).unwrap());
    let mut reconciler = Reconciler::new(Arc::clone(&store), Pool::new(), policy(), metrics);
    let now = Timestamp::UNIX_EPOCH;
    reconciler.enqueue(objects_in("many", 1_000), Urgency::Backlog, now);
    reconciler.begin_attempts(32, now);
    reconciler.enqueue(objects_in("quiet", 1), Urgency::Backlog, now);
    let start = tokio::time::Instant::now();
    while reconciler.finish_next(|| now).await.is_some() {
        reconciler.begin_attempts(32, now);
    }
    let took = start.elapsed();
    let position = |name: &str| {
        let writes = store.writes.lock().unwrap();
        writes.iter().position(|id| id.namespace == name).unwrap()
    };
    assert!(
        position("quiet") < 100,
        "{} were written before it",
        position("quiet")
    );
    assert_eq!(store.published.load(Ordering::Relaxed), 1_001);
    assert!(took < Duration::from_secs(3), "{took:?}");
}

/// Attack: many tenants create objects whose results are large and are published a minute later, so that they hold
/// every slot when another tenant creates an object.
#[tokio::test(start_paused = true)]
async fn objects_with_late_publication_do_not_delay_a_new_object() {
    for newcomer in ["quiet", "plain"] {
        for namespaces in [10, 40] {
            let store = Arc::<TemplateStore>::default();
            let metrics = Arc::new(Metrics::new(false).unwrap());
            let mut reconciler =
                Reconciler::new(Arc::clone(&store), Pool::new(), policy(), metrics);
            let now = Timestamp::UNIX_EPOCH;
            for i in 0..namespaces {
                let hostile = objects_in(&format!("hostile-{i}"), 120 / namespaces);
                reconciler.enqueue(hostile, Urgency::Fresh, now);
            }
            reconciler.begin_attempts(32, now);
            // The hostile results are rendered and wait to be published.
            let wait = async {
                while reconciler.finish_next(|| now).await.is_some() {
                    reconciler.begin_attempts(32, now);
                }
            };
            let _ = tokio::time::timeout(Duration::from_secs(5), wait).await;
            reconciler.enqueue(objects_in(newcomer, 1), Urgency::Fresh, now);
            let start = tokio::time::Instant::now();
            reconciler.begin_attempts(32, now);
            while store.first_quiet_write.lock().unwrap().is_none() {
                reconciler.finish_next(|| now).await.unwrap();
                reconciler.begin_attempts(32, now);
            }
            let took = store.first_quiet_write.lock().unwrap().unwrap() - start;
            assert!(
                took < Duration::from_secs(2),
                "{newcomer}, {namespaces} namespaces: {took:?}"
            );
            while reconciler.finish_next(|| now).await.is_some() {
                reconciler.begin_attempts(32, now);
            }
            let write_count = store.writes.lock().unwrap().len();
            assert_eq!(
                write_count,
                1 + 120 / namespaces * namespaces,
                "all are written in the end"
            );
        }
    }
}
