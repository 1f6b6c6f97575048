//! Attacks on former values and content versions, with a simulated API server.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::metrics::Metrics;
use controller::pool::Pool;
use controller::reconcile::{Policy, Reconciler, Urgency};
use controller::store::cluster::ClusterStore;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use shared::key_ring::KeyRing;
use shared::resource::{
    KEEP_PREVIOUS_ANNOTATION, KEEP_PREVIOUS_FOR_ANNOTATION, KEEP_PREVIOUS_UNTIL_ANNOTATION,
    PATCH_ANNOTATION, PREVIOUS_VALUES_ANNOTATION, SKIP_OWNER_ANNOTATION, SealedSecret,
};
use shared::scope::Scope;
use shared::v2::VersionKey;
use shared::{base64, envelope, key_secret};
use tokio::time::Instant;

use crate::support::api_server::{ApiServer, id};
use crate::support::{Case, KEYS, sealed};

/// The retention period of former values in these tests, in seconds.
const PERIOD: i64 = 100;
const OPT_OUT: &str = "sealedsecrets.bitnami.com/correct-drift";
/// A forged annotation that marks `pw` as an item with a former value.
const FORGED: &str = r#"{"keyId":"","versions":{"pw":""},"since":"1970-01-01T00:00:01Z","former":{"pw":"1970-01-01T00:00:01Z"}}"#;

/// A controller with one object. Its clock advances only when the test advances it.
struct Run {
    server: Arc<ApiServer>,
    store: Arc<ClusterStore>,
    reconciler: Reconciler<ClusterStore>,
    policy: Policy,
    generation: i64,
    second: i64,
}

impl Run {
    fn new() -> Self {
        let (server, store) = ApiServer::default().start();
        let policy = Case::idle().config().policy;
        Self {
            server,
            reconciler: reconciler(&store, &policy),
            store,
            policy,
            generation: 0,
            second: 1_000,
        }
    }

    /// Replaces the controller with a new process that has listed the object and its Secret.
    async fn restart(&mut self) {
        self.store = self.server.restart_with_secret();
        self.reconciler = reconciler(&self.store, &self.policy);
        self.reconcile().await;
    }

    /// Replaces the object, with a new generation, and reconciles it.
    async fn apply(&mut self, sealed: &SealedSecret) {
        self.generation += 1;
        self.apply_same_generation(sealed).await;
    }

    /// Applies the object with the same generation, as after a change to annotations.
    async fn apply_same_generation(&mut self, sealed: &SealedSecret) {
        self.server.put_sealed(sealed, "u", self.generation);
        self.server.report_to(&self.store);
        self.reconcile().await;
    }

    async fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        self.server.edit_secret(edit);
        self.server.report_to(&self.store);
        self.reconcile().await;
    }

    async fn reconcile(&mut self) {
        let now = Timestamp::from_second(self.second).unwrap();
        self.reconciler.enqueue([id()], Urgency::Fresh, now);
        self.run().await;
    }

    /// Reconciles every object that is due.
    async fn run(&mut self) {
        let now = Timestamp::from_second(self.second).unwrap();
        while self
            .reconciler
            .run_once(now)
            .await
            .is_some_and(|next| next <= now)
        {}
    }

    /// Advances the clock in steps, and reconciles objects as they become due.
    async fn wait(&mut self, seconds: i64) {
        let end = self.second + seconds;
        while self.second < end {
            self.second = end.min(self.second + 10);
            self.run().await;
        }
    }

    /// Returns the items of the Secret with their values.
    fn values(&self) -> Vec<(String, String)> {
        let secret = self.server.secret();
        let items: BTreeMap<String, String> =
            serde_json::from_value(secret["data"].clone()).unwrap_or_default();
        let items = items.into_iter();
        items
            .map(|(item, text)| {
                let value = base64::decode(text.as_bytes()).unwrap();
                (item, String::from_utf8(value).unwrap())
            })
            .collect()
    }

    fn has(&self, item: &str) -> bool {
        self.values().iter().any(|(name, _)| name == item)
    }

    fn previous(&self) -> Value {
        self.server.status()["previous"].clone()
    }

    fn newest_version(&self) -> Value {
        self.server.status()["versions"][0]["version"].clone()
    }

    fn count_corrections(&self) -> usize {
        let reasons = self.server.event_reasons();
        reasons
            .iter()
            .filter(|reason| *reason == "DriftCorrected")
            .count()
    }

    fn reason(&self) -> Value {
        self.server.status()["conditions"][0]["reason"].clone()
    }
}

/// Returns the current time of the simulated clock.
fn clock() -> Timestamp {
    thread_local! {
        static START: Instant = Instant::now();
    }
    let elapsed = START.with(Instant::elapsed);
    Timestamp::from_second(1_000).unwrap() + SignedDuration::try_from(elapsed).unwrap()
}

fn reconciler(store: &Arc<ClusterStore>, policy: &Policy) -> Reconciler<ClusterStore> {
    let metrics = Arc::new(Metrics::new(false).unwrap());
    let mut reconciler = Reconciler::new(Arc::clone(store), Pool::new(), policy.clone(), metrics);
    let secret = key_secret::build("k", "ns", &KEYS[0], BTreeMap::new(), BTreeMap::new());
    let key = key_secret::parse(&secret, key_secret::OrderPriority::CertNotBefore).unwrap();
    let ring = Arc::new(KeyRing::new([Arc::new(key)]));
    reconciler.use_ring(ring, Timestamp::UNIX_EPOCH);
    reconciler.record_versions(Arc::new(VersionKey::new(&[7; 32])), clock);
    reconciler
}

fn annotate(sealed: &mut SealedSecret, annotations: &[(&str, &str)]) {
    let own = sealed.metadata.annotations.get_or_insert_default();
    own.extend(
        annotations
            .iter()
            .map(|(key, text)| ((*key).to_owned(), (*text).to_owned())),
    );
}

/// Returns an object that does not request former values.
fn object_without_request(items: &[(&str, &str)]) -> SealedSecret {
    sealed(&KEYS[0], "ns/n", items)
}

/// Returns an object that keeps the former values of some items for [`PERIOD`].
fn object(items: &[(&str, &str)]) -> SealedSecret {
    let mut object = object_without_request(items);
    request(&mut object, "pw,b");
    object
}

fn request(object: &mut SealedSecret, items: &str) {
    let period = format!("{PERIOD}s");
    let annotations = [
        (KEEP_PREVIOUS_ANNOTATION, items),
        (KEEP_PREVIOUS_FOR_ANNOTATION, period.as_str()),
        (KEEP_PREVIOUS_UNTIL_ANNOTATION, "time"),
    ];
    annotate(object, &annotations);
}

fn template_annotations(object: &mut SealedSecret, annotations: &[(&str, &str)]) {
    let metadata = &mut object.spec.template.metadata;
    let own = metadata.annotations.get_or_insert_default();
    own.extend(
        annotations
            .iter()
            .map(|(key, text)| ((*key).to_owned(), (*text).to_owned())),
    );
}

fn with_template(mut object: SealedSecret, texts: &[(&str, &str)]) -> SealedSecret {
    let texts = texts.iter();
    let texts = texts.map(|(item, text)| ((*item).to_owned(), Some((*text).to_owned())));
    object.spec.template.data = Some(texts.collect());
    object
}

/// Returns an object whose Secret, with one item, is sealed as a whole.
fn sealed_as_a_whole(item: &str) -> SealedSecret {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "n", "namespace": "ns" },
        "data": { item: "eA==" },
    });
    let key = KEYS[0].pair.certificate().public_key();
    let label = Scope::ClusterWide.label("ns", "n");
    let random = &mut shared::random::system();
    let data = envelope::seal(key, &label, secret.to_string().as_bytes(), random).unwrap();
    let mut object = object_without_request(&[]);
    object.spec.data = Some(base64::encode(&data));
    object
}

/// Returns a controller after a change to `pw`, whose former value is kept.
async fn run_after_change(sealed: impl Fn(&str) -> SealedSecret) -> Run {
    let mut run = Run::new();
    run.apply(&sealed("1")).await;
    run.apply(&sealed("2")).await;
    assert!(run.has("pw.previous"), "{:?}", run.values());
    run
}

fn pw(value: &str) -> SealedSecret {
    object(&[("pw", value), ("b", "0")])
}

/// Attack: an author uses a template that is random for some values only, and repeatedly has the Secret deleted: if the
/// version stayed equal, it would show which branch the template took.
#[tokio::test(start_paused = true)]
async fn a_version_does_not_show_whether_a_template_generated_a_value() {
    let template = "{{ if hasPrefix \"a\" .pw }}same{{ else }}{{ randAlphaNum 20 }}{{ end }}";
    for value in ["apple", "zebra"] {
        let mut run = Run::new();
        let object = with_template(object_without_request(&[("pw", value)]), &[("t", template)]);
        run.apply(&object).await;
        let mut versions = BTreeSet::from([run.newest_version().to_string()]);
        for _ in 0..3 {
            run.server.delete_secret(&run.store);
            run.reconcile().await;
            versions.insert(run.newest_version().to_string());
        }
        assert_eq!(versions.len(), 4, "{value}: {versions:?}");
        let newest = run.newest_version();
        run.restart().await;
        assert_eq!(run.newest_version(), newest, "{value}: restarted");
    }
}

/// Attack: an author keeps a deleted SealedSecret with a finalizer, so that its Secret is rendered again after each
/// deletion by the garbage collector.
#[tokio::test(start_paused = true)]
async fn no_secret_is_created_for_a_sealed_secret_that_is_being_deleted() {
    let mut run = Run::new();
    run.apply(&object_without_request(&[("pw", "1")])).await;
    let mut deleted = object_without_request(&[("pw", "1")]);
    deleted.metadata.deletion_timestamp = Some(shared::resource::time(
        Timestamp::from_second(1_000).unwrap(),
    ));
    run.apply(&deleted).await;
    run.server.delete_secret(&run.store);
    for is_restarted in [false, true] {
        if is_restarted {
            run.restart().await;
        } else {
            run.reconcile().await;
        }
        assert!(run.server.secret().is_null(), "restarted: {is_restarted}");
    }
}

/// Attack: an author guesses names of items that are sealed as a whole, and reads from the status which ones exist.
#[tokio::test(start_paused = true)]
async fn the_status_names_no_item_of_a_secret_that_was_sealed_as_a_whole() {
    let mut guesses = Vec::new();
    for item in ["token", "other"] {
        for mut next in [
            sealed_as_a_whole(item),
            object_without_request(&[("token", "x")]),
        ] {
            let mut run = Run::new();
            run.apply(&sealed_as_a_whole(item)).await;
            request(&mut next, "token");
            run.apply(&next).await;
            assert!(run.server.is_synced());
            run.apply(&next).await;
            guesses.push((item, run.previous()));
        }
    }
    let names_a_former_item = |(_, previous): &(&str, Value)| !previous.is_null();
    assert!(!names_a_former_item(&guesses[0]), "{guesses:?}");
    assert!(!names_a_former_item(&guesses[2]), "{guesses:?}");
    // Both versions of the object that is not sealed as a whole have the item, so its status may name the item.
    assert_eq!(guesses[1].1, guesses[3].1);
}

/// Attack: an author writes a template that renders a large item for some values only. If the rendered sizes decided
/// whether former values are kept, the status would reveal a second bit about the values.
#[tokio::test(start_paused = true)]
async fn whether_former_values_are_kept_does_not_depend_on_rendered_sizes() {
    let template = "{{ if hasPrefix \"a\" .pw }}{{ repeat 400000 \"y\" }}{{ end }}";
    let mut statuses = BTreeSet::new();
    for value in ["apple", "zebra"] {
        let mut run = Run::new();
        for round in ["1", "2"] {
            let large = format!("{round}{{{{ repeat 400000 \"x\" }}}}");
            let mut object = object_without_request(&[("pw", value)]);
            request(&mut object, "f");
            run.apply(&with_template(object, &[("f", &large), ("t", template)]))
                .await;
            assert!(run.server.is_synced());
        }
        // Without templates, sizes are public again, but not those of the rendered values.
        let mut object = object_without_request(&[("pw", value), ("f", &"x".repeat(300_000))]);
        request(&mut object, "f");
        statuses.insert(run.previous().to_string());
        run.apply(&object).await;
        assert!(run.server.is_synced());
        statuses.insert(run.previous().to_string());
    }
    assert_eq!(statuses.len(), 1, "{statuses:?}");
}

/// Attack: an author names an item of the SealedSecret `pw.previous`, so that it is purged like a former value.
#[tokio::test(start_paused = true)]
async fn an_item_of_the_sealed_secret_is_never_purged_like_a_former_value() {
    let items = |b| [("b", b), ("pw", "P"), ("pw.previous", "own")];
    for opts_out in [false, true] {
        let versioned = |b| {
            let mut object = object(&items(b));
            if opts_out {
                annotate(&mut object, &[(OPT_OUT, "false")]);
            }
            object
        };
        let mut run = Run::new();
        run.apply(&versioned("1")).await;
        run.apply(&versioned("2")).await;
        assert!(run.has("pw.previous") && run.has("b.previous"));
        let mut broken = versioned("2");
        broken
            .spec
            .encrypted_data
            .insert("b".into(), "AgBroken".into());
        if opts_out {
            run.reconcile().await;
        } else {
            run.apply(&broken).await;
        }
        run.wait(PERIOD + 20).await;
        assert!(run.has("pw.previous"), "opts out: {opts_out}");
        assert!(!run.has("b.previous"), "opts out: {opts_out}");
    }
    let mut run = Run::new();
    run.apply(&object(&items("1"))).await;
    run.apply(&object(&items("2"))).await;
    run.apply_same_generation(&object_without_request(&items("2")))
        .await;
    assert!(run.has("pw.previous"), "no longer requested");
    assert!(!run.has("b.previous"), "no longer requested");
    assert_eq!(run.count_corrections(), 0);
}

/// Attack: a client forges marks in the Secret, so that the controller removes an item of the SealedSecret.
#[tokio::test(start_paused = true)]
async fn forged_marks_have_no_effect() {
    let items = [("pw", "P"), ("pw.previous", "own")];
    for object in [object_without_request(&items), object(&items)] {
        let mut run = Run::new();
        run.apply(&object).await;
        let writes = *run.server.writes.lock().unwrap();
        let forge = |secret: &mut Value| {
            secret["metadata"]["annotations"][PREVIOUS_VALUES_ANNOTATION] = json!(FORGED);
        };
        run.edit(forge).await;
        run.wait(60).await;
        assert!(run.has("pw.previous"));
        assert!(run.previous().is_null());
        assert!(*run.server.writes.lock().unwrap() <= writes + 1);
    }
}

/// Attack: an author repeatedly changes another item, so that a former value stays.
#[tokio::test(start_paused = true)]
async fn a_change_of_another_item_does_not_prolong_a_retention_period() {
    let mut run = run_after_change(pw).await;
    for b in ["3", "4", "5"] {
        run.wait(PERIOD / 4).await;
        let mut next = object(&[("b", b)]);
        let encrypted_data = &mut next.spec.encrypted_data;
        let pw = run.server.sealed()["spec"]["encryptedData"]["pw"].clone();
        encrypted_data.insert("pw".into(), pw.as_str().unwrap().into());
        run.apply(&next).await;
        assert!(run.server.is_synced());
        assert!(run.has("pw.previous") && run.has("b.previous"), "{b}");
    }
    run.wait(PERIOD / 4 + 10).await;
    assert!(!run.has("pw.previous"), "{:?}", run.values());
    assert!(run.has("b.previous"), "{:?}", run.values());
}

/// Attack: an author changes the SealedSecret so that it no longer owns the Secret, and a former value stays.
#[tokio::test(start_paused = true)]
async fn former_values_of_a_secret_that_is_no_longer_managed_are_purged() {
    let skips = |value: &str| {
        let mut object = pw(value);
        template_annotations(&mut object, &[(SKIP_OWNER_ANNOTATION, "true")]);
        object
    };
    for is_malformed in [false, true] {
        let mut run = run_after_change(skips).await;
        if is_malformed {
            run.generation += 1;
            run.server.make_malformed(run.generation);
            run.server.report_to(&run.store);
            run.reconcile().await;
        } else {
            run.apply(&pw("2")).await;
            assert_eq!(run.reason(), "ErrUpdateFailed");
        }
        run.wait(3_700).await;
        assert!(run.has("pw"), "malformed: {is_malformed}");
        assert!(!run.has("pw.previous"), "malformed: {is_malformed}");
    }
}

/// Attack: an author makes the SealedSecret merge into its Secret, so that a former value stays and becomes immutable.
#[tokio::test(start_paused = true)]
async fn a_merge_keeps_no_former_values() {
    let mut run = run_after_change(pw).await;
    let mut merged = pw("2");
    template_annotations(&mut merged, &[(PATCH_ANNOTATION, "true")]);
    run.apply(&merged).await;
    assert!(run.server.is_synced());
    assert!(!run.has("pw.previous"), "{:?}", run.values());
    merged.spec.template.immutable = Some(true);
    run.apply(&merged).await;
    assert!(run.server.is_synced());
    assert!(!run.has("pw.previous"), "{:?}", run.values());
}

/// Attack: a client removes the annotations and the status about former values while no controller is running.
#[tokio::test(start_paused = true)]
async fn a_start_finds_former_values_without_annotations_and_status() {
    let mut run = run_after_change(pw).await;
    let mut object = object_without_request(&[]);
    object.spec = serde_json::from_value(run.server.sealed()["spec"].clone()).unwrap();
    run.server.put_sealed(&object, "u", run.generation);
    run.server.edit_status(|status| {
        status.as_object_mut().unwrap().remove("previous");
    });
    run.restart().await;
    run.wait(10).await;
    assert!(!run.has("pw.previous"), "{:?}", run.values());
    assert_eq!(run.count_corrections(), 0);
}

/// Attack: a user deletes a SealedSecret and keeps its Secret, so that a former value stays.
#[tokio::test(start_paused = true)]
async fn former_values_are_purged_if_the_secret_stays_without_its_sealed_secret() {
    let skips = |value: &str| {
        let mut object = pw(value);
        template_annotations(&mut object, &[(SKIP_OWNER_ANNOTATION, "true")]);
        object
    };
    for is_orphaned in [false, true] {
        let mut run = if is_orphaned {
            let run = run_after_change(pw).await;
            run.server.edit_metadata(|metadata| {
                metadata.as_object_mut().unwrap().remove("ownerReferences");
            });
            run
        } else {
            run_after_change(skips).await
        };
        run.server.delete_sealed(&run.store);
        run.reconcile().await;
        run.wait(10).await;
        assert!(run.has("pw"), "orphaned: {is_orphaned}");
        assert!(!run.has("pw.previous"), "orphaned: {is_orphaned}");
    }
}

/// Attack: a client edits the Secret and removes or forges the marks, so that its edits are corrected without a report
/// and without a limit.
#[tokio::test(start_paused = true)]
async fn an_edit_of_a_secret_counts_as_drift_whatever_its_marks_are() {
    for (object, marks) in [
        (pw("1"), Value::Null),
        (pw("1"), json!(FORGED)),
        (object_without_request(&[("pw", "1")]), json!(FORGED)),
    ] {
        let mut run = Run::new();
        run.apply(&object).await;
        for number in 0..7 {
            let edit = |secret: &mut Value| {
                let annotations = &mut secret["metadata"]["annotations"];
                annotations[PREVIOUS_VALUES_ANNOTATION] = marks.clone();
                if marks.is_null() {
                    let annotations = annotations.as_object_mut().unwrap();
                    annotations.remove(PREVIOUS_VALUES_ANNOTATION);
                }
                secret["data"]["pw"] = json!(base64::encode(format!("EVIL{number}").as_bytes()));
                secret["data"]["pw.previous"] = json!("eA==");
            };
            run.edit(edit).await;
        }
        assert_eq!(run.count_corrections(), 5, "{marks}");
        assert_eq!(run.reason(), "DriftFight", "{marks}");
        assert_eq!(*run.server.writes.lock().unwrap(), 6, "{marks}");
    }
}

/// Attack: a client removes only the marks, so that the former value is no longer recognized and stays.
#[tokio::test(start_paused = true)]
async fn a_former_value_without_its_mark_is_removed() {
    for is_restarted in [false, true] {
        let mut run = run_after_change(pw).await;
        let remove_marks = |secret: &mut Value| {
            let annotations = secret["metadata"]["annotations"].as_object_mut().unwrap();
            annotations.remove(PREVIOUS_VALUES_ANNOTATION).unwrap();
        };
        if is_restarted {
            run.server.edit_secret(remove_marks);
            run.restart().await;
        } else {
            run.edit(remove_marks).await;
        }
        assert!(!run.has("pw.previous"), "restarted: {is_restarted}");
    }
}

/// Attack: a client keeps editing the Secret until corrections pause, so that a former value stays.
#[tokio::test(start_paused = true)]
async fn former_values_are_purged_while_corrections_pause() {
    let mut run = run_after_change(pw).await;
    for number in 0..7 {
        let value = json!(base64::encode(format!("EVIL{number}").as_bytes()));
        run.edit(|secret| secret["data"]["b"] = value).await;
    }
    assert_eq!(run.reason(), "DriftFight");
    run.wait(PERIOD + 20).await;
    assert!(!run.has("pw.previous"), "{:?}", run.values());
}

#[tokio::test(start_paused = true)]
async fn an_item_whose_former_value_would_have_too_long_a_name_is_updated_without_it() {
    let item = "n".repeat(250);
    let versioned = |value: &str| {
        let mut object = object_without_request(&[(item.as_str(), value), ("pw", value)]);
        request(&mut object, &format!("pw,{item}"));
        object
    };
    let mut run = Run::new();
    run.apply(&versioned("1")).await;
    run.apply(&versioned("2")).await;
    assert!(run.server.is_synced());
    assert!(run.has("pw.previous"));
    assert!(!run.has(&format!("{item}.previous")));
    let reasons = run.server.event_reasons();
    assert!(
        reasons.iter().any(|reason| reason == "FormerValueNotKept"),
        "{reasons:?}"
    );
}

/// Fault: the clock is set back by two minutes, or was 40 days ahead when a value changed.
#[tokio::test(start_paused = true)]
async fn a_former_value_survives_only_a_small_correction_of_the_clock() {
    for (correction, is_kept) in [(120, true), (40 * 86_400, false)] {
        let long = |value: &str| {
            let mut object = pw(value);
            annotate(&mut object, &[(KEEP_PREVIOUS_FOR_ANNOTATION, "10m")]);
            object
        };
        let mut run = Run::new();
        run.second += correction;
        run.apply(&long("1")).await;
        run.apply(&long("2")).await;
        assert!(run.has("pw.previous"));
        run.second -= correction;
        run.reconcile().await;
        assert_eq!(run.has("pw.previous"), is_kept, "{correction}");
    }
}

/// Attack: an author sends an edit at a chosen time within a second: the time of the version would show whether a large
/// value was rendered and written, depending on a sealed value.
#[tokio::test(start_paused = true)]
async fn the_time_of_a_version_does_not_depend_on_the_size_of_the_result() {
    let template = "{{ if hasPrefix \"a\" .pw }}{{ repeat 900000 \"y\" }}{{ end }}";
    let mut times = BTreeMap::<i64, BTreeSet<String>>::new();
    for milliseconds in [100, 250, 450, 650, 900] {
        for value in ["apple", "zebra"] {
            let mut run = Run::new();
            let (server, store) = ApiServer::with_write_delay(300).start();
            run.reconciler = reconciler(&store, &run.policy);
            (run.server, run.store) = (server, store);
            run.apply(&object_without_request(&[("pw", value)])).await;
            let next = clock().as_second() + 1;
            let target = Timestamp::from_millisecond(next * 1_000 + milliseconds).unwrap();
            let pause = target.duration_since(clock()).unsigned_abs();
            tokio::time::sleep(pause).await;
            run.apply(&with_template(
                object_without_request(&[("pw", value)]),
                &[("t", template)],
            ))
            .await;
            let time = run.server.status()["versions"][0]["time"].clone();
            let time: Timestamp = time.as_str().unwrap().parse().unwrap();
            let times = times.entry(milliseconds).or_default();
            times.insert((time.as_second() - next).to_string());
        }
    }
    assert!(times.values().all(|times| times.len() == 1), "{times:?}");
}
