use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use controller_core::decide::{Existing, Plan};
use shared::resource::{SealedSecret, SealedSecretSpec, SealedSecretStatus};

use super::*;
use crate::store::{Applied, Look, Observed, Source, StoreError};
use crate::testing::id;

/// A store of malformed objects that is slow and records which objects are in progress.
#[derive(Debug, Default)]
struct Slow {
    at_work: Mutex<BTreeSet<ObjectId>>,
    looks: Mutex<Vec<String>>,
    most: AtomicUsize,
    /// Additional delay in milliseconds.
    pause: AtomicU64,
}

impl Store for Slow {
    async fn gather(&self, id: &ObjectId, _: Look) -> Result<Observed, StoreError> {
        {
            let mut at_work = self.at_work.lock().unwrap();
            assert!(at_work.insert(id.clone()), "{id} is at work already");
            self.most.fetch_max(at_work.len(), Ordering::Relaxed);
        }
        let pause = 10 + self.pause.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        self.at_work.lock().unwrap().remove(id);
        self.looks.lock().unwrap().push(id.name.clone());
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
async fn many_are_at_work_side_by_side_and_each_by_one_attempt_at_a_time() {
    let (store, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    let ids: Vec<ObjectId> = (0..20).map(|i| id(&format!("s-{i:02}"))).collect();
    reconciler.changed(ids.clone(), Urgency::Backlog, now);
    reconciler.begin(8, now);
    // The objects change twice while some are in progress, which makes one more attempt of each of these.
    reconciler.changed(ids.clone(), Urgency::Fresh, now);
    reconciler.changed(ids, Urgency::Fresh, now);
    while reconciler.end(|| now).await.is_some() {
        reconciler.begin(8, now);
    }
    assert_eq!(store.most.load(Ordering::Relaxed), 6);
    assert_eq!(store.looks.lock().unwrap().len(), 20 + 6);
}

#[tokio::test(start_paused = true)]
async fn a_new_object_is_not_behind_those_of_the_first_list() {
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
    assert!(store.looks.lock().unwrap().contains(&"new".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_is_handed_over_waits_here_no_more() {
    let (store, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    reconciler.changed([id("a"), id("b"), id("c")], Urgency::Fresh, now);
    reconciler.begin(1, now);
    reconciler.changed([id("a"), id("b")], Urgency::Backlog, now);
    let mut given = reconciler.hand_over().await;
    given.sort();
    assert_eq!(given, [id("a"), id("b"), id("c")]);
    assert_eq!(reconciler.begin(8, now), None);
    assert!(reconciler.end(|| now).await.is_none(), "nothing is at work");
    assert!(store.looks.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_on_the_way_is_taken_up_again() {
    let (store, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    reconciler.changed([id("a"), id("b")], Urgency::Fresh, now);
    reconciler.begin(1, now);
    reconciler.suspend(now).await;
    store.at_work.lock().unwrap().clear();
    assert!(reconciler.end(|| now).await.is_none(), "nothing is at work");
    reconciler.begin(8, now);
    while reconciler.end(|| now).await.is_some() {}
    let mut looks = store.looks.lock().unwrap().clone();
    looks.sort();
    assert_eq!(looks, ["a", "b"]);
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
async fn no_namespace_takes_all_places_and_another_one_is_begun_at_once() {
    let (store, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    reconciler.changed(in_namespace("hostile", 100), Urgency::Fresh, now);
    reconciler.begin(8, now);
    assert_eq!(reconciler.at_work.len(), 6);
    reconciler.changed(in_namespace("quiet", 1), Urgency::Backlog, now);
    reconciler.begin(8, now);
    let held = reconciler.held();
    assert_eq!((held["hostile"], held["quiet"]), (6, 1));
    while reconciler.end(|| now).await.is_some() {
        reconciler.begin(8, now);
    }
    assert_eq!(store.looks.lock().unwrap().len(), 101);
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
async fn namespaces_have_equal_parts_of_the_places() {
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
async fn a_round_ends_although_something_is_still_at_work() {
    let (store, mut reconciler) = reconciler();
    let now = Timestamp::UNIX_EPOCH;
    store.pause.store(60_000, Ordering::Relaxed);
    reconciler.changed([id("slow")], Urgency::Fresh, now);
    assert_eq!(reconciler.round(now).await, Some(now), "it comes again");
    assert_eq!(reconciler.at_work.len(), 1);
    while reconciler.round(now).await.is_some() {}
    assert_eq!(store.looks.lock().unwrap().len(), 1);
}

/// Large at once, and published a minute later, since slow functions are in a loop.
const SLOW_AND_LARGE: &str =
    "{{ range until (int .none) }}{{ genPrivateKey \"rsa\" }}{{ end }}{{ repeat 900000 \"x\" }}";

/// Objects with a template each, in a place that everybody sees. Those of namespaces called hostile are slow and large.
#[derive(Debug, Default)]
struct Templated {
    writes: Mutex<Vec<ObjectId>>,
    /// When the first object of another namespace was written.
    quiet: Mutex<Option<tokio::time::Instant>>,
    published: AtomicUsize,
}

impl Store for Templated {
    async fn gather(&self, id: &ObjectId, _: Look) -> Result<Observed, StoreError> {
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

/// Attack: a tenant creates a thousand objects with templates, whose outcomes are hidden for a second each,
/// before another tenant creates one.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_pauses_holds_no_place() {
    let store = Arc::<Templated>::default();
    let metrics = Arc::new(Metrics::new(false).unwrap());
    let mut reconciler = Reconciler::new(Arc::clone(&store), Pool::new(), policy(), metrics);
    let now = Timestamp::UNIX_EPOCH;
    reconciler.changed(in_namespace("many", 1_000), Urgency::Backlog, now);
    reconciler.begin(32, now);
    reconciler.changed(in_namespace("quiet", 1), Urgency::Backlog, now);
    let begun = tokio::time::Instant::now();
    while reconciler.end(|| now).await.is_some() {
        reconciler.begin(32, now);
    }
    let took = begun.elapsed();
    let place = |name: &str| {
        let writes = store.writes.lock().unwrap();
        writes.iter().position(|id| id.namespace == name).unwrap()
    };
    assert!(place("quiet") < 100, "{} before it", place("quiet"));
    assert_eq!(store.published.load(Ordering::Relaxed), 1_001);
    assert!(took < Duration::from_secs(3), "{took:?}");
}

/// Attack: many tenants create objects whose results are large and are published a minute later, so that they hold every
/// slot when another tenant creates an object.
#[tokio::test(start_paused = true)]
async fn objects_that_are_published_late_keep_no_newcomer_waiting_however_many_namespaces_have_them()
 {
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
            // Their results are rendered, and wait.
            let wait = async {
                while reconciler.end(|| now).await.is_some() {
                    reconciler.begin(32, now);
                }
            };
            let _ = tokio::time::timeout(Duration::from_secs(5), wait).await;
            reconciler.changed(in_namespace(newcomer, 1), Urgency::Fresh, now);
            let begun = tokio::time::Instant::now();
            reconciler.begin(32, now);
            while store.quiet.lock().unwrap().is_none() {
                reconciler.end(|| now).await.unwrap();
                reconciler.begin(32, now);
            }
            let took = store.quiet.lock().unwrap().unwrap() - begun;
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
