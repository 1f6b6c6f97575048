use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use controller_core::decide::{Existing, Plan};
use shared::resource::{SealedSecret, SealedSecretSpec, SealedSecretStatus};

use super::*;
use crate::store::{Applied, Observed, ReadMode, Source, StoreError};
use crate::testing::id;

/// A store of malformed objects that is slow and records which objects are in progress.
#[derive(Debug, Default)]
struct Slow {
    in_progress: Mutex<BTreeSet<ObjectId>>,
    attempts: Mutex<Vec<String>>,
    max_in_progress: AtomicUsize,
    /// Additional delay in milliseconds.
    delay: AtomicU64,
}

impl Store for Slow {
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
        Ok(Observed {
            source: Source::Malformed("on purpose".into()),
            uid: None,
            existing: Existing::Absent,
            generation: None,
            status: None,
            settled: false,
            claimed: false,
            guessed: false,
            is_fresh: false,
        })
    }

    async fn apply(&self, _: &ObjectId, _: Plan) -> Result<Applied, StoreError> {
        Ok(Applied::Done(None))
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

fn reconciler() -> (Arc<Slow>, Reconciler<Slow>) {
    let (store, metrics) = (
        Arc::<Slow>::default(),
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
    reconciler.changed(ids.clone(), Urgency::Backlog, now);
    reconciler.begin(8, now);
    // The objects change twice while some are in progress, which causes one more attempt for each of these.
    reconciler.changed(ids.clone(), Urgency::Fresh, now);
    reconciler.changed(ids, Urgency::Fresh, now);
    while reconciler.end(|| now).await.is_some() {
        reconciler.begin(8, now);
    }
    assert_eq!(store.max_in_progress.load(Ordering::Relaxed), 6);
    assert_eq!(store.attempts.lock().unwrap().len(), 20 + 6);
}

#[tokio::test(start_paused = true)]
async fn a_new_object_overtakes_those_of_the_first_list() {
    let (store, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    let old = (0..1000).map(|i| id(&format!("old-{i}")));
    reconciler.changed(old, Urgency::Backlog, now);
    reconciler.begin(2, now);
    reconciler.changed([id("new")], Urgency::Fresh, now);
    for _ in 0..4 {
        reconciler.end(|| now).await;
        reconciler.begin(2, now);
    }
    assert!(store.attempts.lock().unwrap().contains(&"new".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn handed_over_objects_leave_the_queue() {
    let (store, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    reconciler.changed([id("a"), id("b"), id("c")], Urgency::Fresh, now);
    reconciler.begin(1, now);
    reconciler.changed([id("a"), id("b")], Urgency::Backlog, now);
    let mut handed_over = reconciler.hand_over().await;
    handed_over.sort();
    assert_eq!(handed_over, [id("a"), id("b"), id("c")]);
    assert_eq!(reconciler.begin(8, now), None);
    assert!(
        reconciler.end(|| now).await.is_none(),
        "nothing is in progress"
    );
    assert!(store.attempts.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn cancelled_attempts_are_queued_again() {
    let (store, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    reconciler.changed([id("a"), id("b")], Urgency::Fresh, now);
    reconciler.begin(1, now);
    reconciler.suspend(now).await;
    store.in_progress.lock().unwrap().clear();
    assert!(
        reconciler.end(|| now).await.is_none(),
        "nothing is in progress"
    );
    reconciler.begin(8, now);
    while reconciler.end(|| now).await.is_some() {}
    let mut attempts = store.attempts.lock().unwrap().clone();
    attempts.sort();
    assert_eq!(attempts, ["a", "b"]);
}

fn in_namespace(namespace: &str, count: usize) -> Vec<ObjectId> {
    let object = |i| ObjectId {
        namespace: namespace.into(),
        name: format!("{namespace}-{i:03}"),
    };
    (0..count).map(object).collect()
}

/// Attack: a tenant's objects take up every slot of the controller.
#[tokio::test(start_paused = true)]
async fn no_namespace_takes_all_slots_and_another_starts_at_once() {
    let (store, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    reconciler.changed(in_namespace("hostile", 100), Urgency::Fresh, now);
    reconciler.begin(8, now);
    assert_eq!(reconciler.in_progress.len(), 6);
    reconciler.changed(in_namespace("quiet", 1), Urgency::Backlog, now);
    reconciler.begin(8, now);
    let held = reconciler.held();
    assert_eq!((held["hostile"], held["quiet"]), (6, 1));
    while reconciler.end(|| now).await.is_some() {
        reconciler.begin(8, now);
    }
    assert_eq!(store.attempts.lock().unwrap().len(), 101);
}

/// Attack: tenants arrive one after the other with objects that hold their slots for a long time, so that
/// together they hold every slot.
#[tokio::test(start_paused = true)]
async fn tenants_that_arrive_one_after_the_other_leave_a_slot_for_another() {
    let (_, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    for namespace in ["a", "b", "c", "d"] {
        reconciler.changed(in_namespace(namespace, 100), Urgency::Fresh, now);
        reconciler.begin(32, now);
    }
    reconciler.changed(in_namespace("quiet", 1), Urgency::Fresh, now);
    reconciler.begin(32, now);
    let held = reconciler.held();
    assert_eq!(held.get("quiet"), Some(&1), "{held:?}");
}

#[tokio::test(start_paused = true)]
async fn namespaces_have_equal_shares_of_the_slots() {
    let (_, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    for namespace in ["a", "b", "c"] {
        reconciler.changed(in_namespace(namespace, 100), Urgency::Backlog, now);
    }
    reconciler.begin(32, now);
    let held = reconciler.held();
    assert_eq!(["a", "b", "c"].map(|namespace| held[namespace]), [8, 8, 8]);
}

#[tokio::test(start_paused = true)]
async fn a_round_ends_while_an_attempt_is_in_progress() {
    let (store, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    store.delay.store(60_000, Ordering::Relaxed);
    reconciler.changed([id("slow")], Urgency::Fresh, now);
    assert_eq!(
        reconciler.round(now).await,
        Some(now),
        "the round is continued"
    );
    assert_eq!(reconciler.in_progress.len(), 1);
    while reconciler.round(now).await.is_some() {}
    assert_eq!(store.attempts.lock().unwrap().len(), 1);
}

/// Renders at once to a large result, which is published a minute later, since slow functions are in a loop.
const SLOW_AND_LARGE: &str =
    "{{ range until (int .none) }}{{ genPrivateKey \"rsa\" }}{{ end }}{{ repeat 900000 \"x\" }}";

/// Objects with a template each, in a public store. Those of namespaces that begin with "hostile" are slow and large.
#[derive(Debug, Default)]
struct Templated {
    writes: Mutex<Vec<ObjectId>>,
    /// When the first object of a namespace without that prefix was written.
    quiet: Mutex<Option<tokio::time::Instant>>,
    published: AtomicUsize,
}

impl Store for Templated {
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
            source: Source::Sealed(Arc::new(sealed)),
            uid: None,
            existing: Existing::Absent,
            generation: Some(1),
            status: None,
            settled: false,
            claimed: false,
            guessed: false,
            is_fresh: true,
        })
    }

    async fn apply(&self, id: &ObjectId, _: Plan) -> Result<Applied, StoreError> {
        self.writes.lock().unwrap().push(id.clone());
        if !id.namespace.starts_with("hostile") {
            let now = tokio::time::Instant::now();
            self.quiet.lock().unwrap().get_or_insert(now);
        }
        Ok(Applied::Done(None))
    }

    async fn record(
        &self,
        _: &ObjectId,
        _: Option<&str>,
        _: Option<SealedSecretStatus>,
    ) -> Result<(), StoreError> {
        self.published.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn is_public(&self) -> bool {
        true
    }
}

/// Attack: a tenant creates a thousand objects with templates, whose outcomes are hidden for a second each, before
/// another tenant creates one.
#[tokio::test(start_paused = true)]
async fn a_paused_attempt_occupies_no_slot() {
    let store = Arc::<Templated>::default();
    let metrics = Arc::new(Metrics::new(false).unwrap());
    let mut reconciler = Reconciler::new(Arc::clone(&store), Pool::new(), policy(), metrics);
    let now = Timestamp::UNIX_EPOCH;
    reconciler.changed(in_namespace("many", 1_000), Urgency::Backlog, now);
    reconciler.begin(32, now);
    reconciler.changed(in_namespace("quiet", 1), Urgency::Backlog, now);
    let started = tokio::time::Instant::now();
    while reconciler.end(|| now).await.is_some() {
        reconciler.begin(32, now);
    }
    let took = started.elapsed();
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
async fn objects_that_are_published_late_do_not_delay_a_newcomer() {
    for newcomer in ["quiet", "plain"] {
        for namespaces in [10, 40] {
            let store = Arc::<Templated>::default();
            let metrics = Arc::new(Metrics::new(false).unwrap());
            let mut reconciler =
                Reconciler::new(Arc::clone(&store), Pool::new(), policy(), metrics);
            let now = Timestamp::UNIX_EPOCH;
            for i in 0..namespaces {
                let hostile = in_namespace(&format!("hostile-{i}"), 120 / namespaces);
                reconciler.changed(hostile, Urgency::Fresh, now);
            }
            reconciler.begin(32, now);
            // Their results are rendered and wait.
            let wait = async {
                while reconciler.end(|| now).await.is_some() {
                    reconciler.begin(32, now);
                }
            };
            let _ = tokio::time::timeout(Duration::from_secs(5), wait).await;
            reconciler.changed(in_namespace(newcomer, 1), Urgency::Fresh, now);
            let started = tokio::time::Instant::now();
            reconciler.begin(32, now);
            while store.quiet.lock().unwrap().is_none() {
                reconciler.end(|| now).await.unwrap();
                reconciler.begin(32, now);
            }
            let took = store.quiet.lock().unwrap().unwrap() - started;
            assert!(
                took < Duration::from_secs(2),
                "{newcomer}, {namespaces} namespaces: {took:?}"
            );
            while reconciler.end(|| now).await.is_some() {
                reconciler.begin(32, now);
            }
            let written = store.writes.lock().unwrap().len();
            assert_eq!(
                written,
                1 + 120 / namespaces * namespaces,
                "all are written in the end"
            );
        }
    }
}
