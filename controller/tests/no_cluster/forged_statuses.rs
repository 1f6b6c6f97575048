//! Tests that a client that may write only statuses can change neither Secrets nor events.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use controller::metrics::Metrics;
use controller::pool::Pool;
use controller::reconcile::{Policy, Reconciler, Urgency};
use controller::store::cluster::ClusterStore;
use controller_core::author_limits::AuthorLimits;
use controller_core::drift;
use jiff::Timestamp;
use serde_json::{Value, json};
use shared::key_ring::KeyRing;
use shared::key_secret;
use shared::resource::SealedSecret;

use crate::support::api_server::{ApiServer, id};
use crate::support::{Case, KEYS, manifest_of, sealed};

/// A controller with one object, which the test edits repeatedly.
struct Run {
    server: Arc<ApiServer>,
    store: Arc<ClusterStore>,
    reconciler: Reconciler<ClusterStore>,
    policy: Policy,
    generation: i64,
}

impl Run {
    fn new(adjust: impl FnOnce(&mut Policy)) -> Self {
        let (server, store) = ApiServer::default().start();
        let mut policy = Case::idle().config().policy;
        adjust(&mut policy);
        Self {
            server,
            reconciler: reconciler(Arc::clone(&store), &policy),
            store,
            policy,
            generation: 0,
        }
    }

    /// Replaces the controller with a new process.
    async fn restart(&mut self) {
        self.store = self.server.restart_with_secret();
        self.reconciler = reconciler(Arc::clone(&self.store), &self.policy);
        self.reconcile().await;
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

    async fn reconcile(&mut self) {
        let now = Timestamp::from_second(self.generation).unwrap();
        self.reconciler.enqueue([id()], Urgency::Fresh, now);
        while self.reconciler.run_once(now).await == Some(now) {}
    }

    fn forge(&self, forge: Forge) {
        let next = self.generation + 1;
        self.server.edit_status(|status| forge(status, next));
        self.server.report_to(&self.store);
    }

    /// Returns the results that a forged status must not influence: writes of the Secret, and events.
    fn outcome(&self) -> Value {
        let history = self.server.public_state()[2].clone();
        let writes = history.as_array().unwrap().iter();
        let writes: Vec<&Value> = writes.filter(|write| **write != "PUT status").collect();
        json!([writes, self.server.event_reasons()])
    }
}

/// Returns whether all events are about versions of the author. A repeated event has no reason.
fn are_about_versions(reasons: &[String]) -> bool {
    let mut reasons = reasons.iter();
    reasons.all(|reason| reason.is_empty() || reason == "Unsealed")
}

fn reconciler(store: Arc<ClusterStore>, policy: &Policy) -> Reconciler<ClusterStore> {
    let metrics = Arc::new(Metrics::new(false).unwrap());
    let mut reconciler = Reconciler::new(store, Pool::new(), policy.clone(), metrics);
    let secret = key_secret::build("k", "ns", &KEYS[0], BTreeMap::new(), BTreeMap::new());
    let key = key_secret::parse(&secret, key_secret::OrderPriority::CertNotBefore).unwrap();
    let ring = Arc::new(KeyRing::new([Arc::new(key)]));
    reconciler.use_ring(ring, Timestamp::UNIX_EPOCH);
    reconciler
}

fn object(value: &str) -> SealedSecret {
    sealed(&KEYS[0], "ns/n", &[("a", value)])
}

fn object_with_random_value(value: &str) -> SealedSecret {
    let mut object = object(value);
    object.spec.template.data = Some([("r".to_owned(), Some("{{ uuidv4 }}".to_owned()))].into());
    object
}

fn object_that_tolerates_edits(value: &str) -> SealedSecret {
    let mut object = object(value);
    let annotations = object.metadata.annotations.get_or_insert_default();
    annotations.insert(drift::ANNOTATION.into(), "false".into());
    object
}

/// Changes a status before the edit that creates the generation in the second argument.
type Forge = fn(&mut Value, i64);

fn set_conditions(status: &mut Value, value: &str) {
    for condition in status["conditions"].as_array_mut().unwrap() {
        condition["status"] = json!(value);
    }
}

/// Forgeries by a client with permission for `sealedsecrets/status`.
const FORGERIES: [(&str, Forge); 12] = [
    ("nothing", |_, _| ()),
    ("the next generation", |status, next| {
        status["observedGeneration"] = json!(next);
    }),
    ("a generation far ahead", |status, _| {
        status["observedGeneration"] = json!(i64::MAX);
    }),
    ("an earlier generation", |status, _| {
        status["observedGeneration"] = json!(0);
    }),
    ("the next generation and no record", |status, next| {
        status["observedGeneration"] = json!(next);
        status["record"] = Value::Null;
    }),
    ("the next generation and a forged record", |status, next| {
        status["observedGeneration"] = json!(next);
        status["record"]["proof"] = json!("AAAA");
    }),
    (
        "the next generation failed, with a record",
        |status, next| {
            status["observedGeneration"] = json!(next);
            set_conditions(status, "False");
        },
    ),
    ("a failure", |status, _| set_conditions(status, "False")),
    ("no conditions", |status, _| {
        status["conditions"] = json!([]);
    }),
    ("other times", |status, next| {
        status["observedGeneration"] = json!(next);
        for condition in status["conditions"].as_array_mut().unwrap() {
            condition["lastUpdateTime"] = json!("2999-01-01T00:00:00Z");
            condition["lastTransitionTime"] = json!("2999-01-01T00:00:00Z");
        }
    }),
    ("other keys of items", |status, next| {
        status["observedGeneration"] = json!(next);
        let key = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
        status["items"] = json!([{ "key": "a", "sealedBy": key }]);
    }),
    ("no status", |status, _| *status = Value::Null),
];

/// Attack: a client that may write statuses marks the next version as unsealed before it exists, so that the controller
/// assumes that another client edited the Secret, and does not write it.
#[tokio::test(start_paused = true)]
async fn a_new_version_is_written_despite_a_forged_status_and_tolerated_edits() {
    for (description, forge) in FORGERIES {
        let mut run = Run::new(|_| ());
        run.apply(&object_that_tolerates_edits("old")).await;
        run.forge(forge);
        run.apply(&object_that_tolerates_edits("new")).await;
        assert_eq!(run.server.value("a"), "new", "{description}");

        let mut run = Run::new(|policy| policy.tolerates_drift = true);
        run.apply(&object("old")).await;
        run.forge(forge);
        run.apply(&object("new")).await;
        assert_eq!(run.server.value("a"), "new", "{description}");
    }
}

/// Attack: a client forges the status, so that a correct guess of a value causes no write, and a wrong guess causes a
/// correction.
#[tokio::test(start_paused = true)]
async fn right_and_wrong_guesses_are_indistinguishable_despite_a_forged_status() {
    for (description, forge) in FORGERIES {
        let mut outcomes = Vec::new();
        for (guess, forge) in [("4711", forge), ("4712", forge), ("4712", FORGERIES[0].1)] {
            let mut run = Run::new(|_| ());
            run.apply(&object("4711")).await;
            for value in [guess, "4711", guess] {
                run.forge(forge);
                run.apply(&object(value)).await;
            }
            outcomes.push(run.outcome());
        }
        assert_eq!(outcomes[0], outcomes[1], "{description}");
        assert_eq!(
            outcomes[1], outcomes[2],
            "{description}: differs from the outcome without a forgery"
        );
    }
}

/// Attack: a client forges the status repeatedly, so that versions of the author count as edits of another client,
/// which end in `DriftFight`.
#[tokio::test(start_paused = true)]
async fn a_forged_status_does_not_turn_versions_of_the_author_into_drift() {
    for (description, forge) in FORGERIES {
        let mut run = Run::new(|_| ());
        for version in 0..9 {
            run.apply(&object(&version.to_string())).await;
            assert_eq!(run.server.value("a"), version.to_string(), "{description}");
            run.forge(forge);
        }
        let reasons = run.server.event_reasons();
        assert!(are_about_versions(&reasons), "{description} {reasons:?}");
    }
}

/// Attack: a client forges the status, so that a random value that leaked is not replaced.
#[tokio::test(start_paused = true)]
async fn a_new_version_gets_new_random_values_despite_a_forged_status() {
    for (description, forge) in FORGERIES {
        let mut run = Run::new(|_| ());
        run.apply(&object_with_random_value("1")).await;
        let before = run.server.value("r");
        run.forge(forge);
        run.reconcile().await;
        assert_eq!(
            run.server.value("r"),
            before,
            "{description}: the same version"
        );
        run.forge(forge);
        run.apply(&object_with_random_value("1")).await;
        assert_ne!(run.server.value("r"), before, "{description}");
    }
}

/// Attack: a client forges the status of an object whose Secret is edited by another client, so that the edit is not
/// corrected and reported.
#[tokio::test(start_paused = true)]
async fn an_edit_by_another_client_is_corrected_and_reported_despite_a_forged_status() {
    for restarts in [false, true] {
        let mut outcomes = Vec::new();
        for (description, forge) in FORGERIES {
            let mut run = Run::new(|_| ());
            run.apply(&object("1")).await;
            if restarts {
                run.restart().await;
            }
            run.forge(forge);
            run.server.edit("a", "2");
            run.server.report_to(&run.store);
            run.reconcile().await;
            assert_eq!(run.server.value("a"), "1", "{description}");
            outcomes.push(run.outcome());
            assert_eq!(outcomes[0], *outcomes.last().unwrap(), "{description}");
        }
    }
}

/// Attack: a client forges the status before the controller restarts. The new process has no earlier state of the
/// object, and would write later versions differently depending on whether the client has guessed a value.
#[tokio::test(start_paused = true)]
async fn a_status_forged_before_the_start_does_not_affect_later_versions() {
    for (description, forge) in FORGERIES {
        let mut outcomes = Vec::new();
        for guess in ["4711", "4712"] {
            let mut run = Run::new(|_| ());
            run.apply(&object("4711")).await;
            run.forge(forge);
            run.restart().await;
            for value in [guess, "4711", guess] {
                run.forge(forge);
                run.apply(&object(value)).await;
            }
            assert_eq!(run.server.value("a"), guess, "{description}");
            outcomes.push(run.outcome());
        }
        assert_eq!(outcomes[0], outcomes[1], "{description}");
    }
}

/// Attack: a client forges the status while no controller is running, and the object is edited at the same time, so
/// that the version is not written, counts as drift, or, where templates are forbidden, reveals whether a guess is
/// correct.
#[tokio::test(start_paused = true)]
async fn a_version_created_while_no_controller_is_running_is_written_despite_a_forged_status() {
    for (description, forge) in FORGERIES {
        let forbid = |policy: &mut Policy| {
            policy.author_limits = Arc::new(AuthorLimits::default().forbidding_templates("*"));
        };
        let mut outcomes = Vec::new();
        for guess in ["4711", "4712"] {
            let mut run = Run::new(forbid);
            run.apply(&object_that_tolerates_edits("4711")).await;
            run.forge(forge);
            run.put(&object_that_tolerates_edits(guess));
            run.restart().await;
            assert_eq!(run.server.value("a"), guess, "{description}");
            let reasons = run.server.event_reasons();
            assert!(are_about_versions(&reasons), "{description} {reasons:?}");
            outcomes.push(run.outcome());
        }
        assert_eq!(outcomes[0], outcomes[1], "{description}");
    }
}

/// Upstream's controller writes no record and no items to a status. After a switch from that controller, the first
/// reconciliation writes no Secret, replaces no random value, and keeps labels of other clients.
#[tokio::test(start_paused = true)]
async fn migrating_from_upstreams_controller_writes_no_secret() {
    let mut run = Run::new(|_| ());
    run.apply(&object_with_random_value("1")).await;
    run.server.edit_status(|status| {
        let status = status.as_object_mut().unwrap();
        status.retain(|field, _| field != "record" && field != "items");
    });
    run.server
        .edit_metadata(|metadata| metadata["labels"] = json!({ "unrelated": "x" }));
    let (secret, writes) = (run.server.secret(), *run.server.writes.lock().unwrap());
    let before = run.outcome();
    run.restart().await;
    assert_eq!(run.server.secret(), secret);
    assert_eq!(*run.server.writes.lock().unwrap(), writes);
    assert_eq!(run.outcome(), before, "no event");
    assert!(run.server.is_synced());
    assert!(!run.server.status()["record"].is_null());
}

/// After a change to the administrator's rules, a record still shows that the version was unsealed, so random values
/// are kept.
#[tokio::test(start_paused = true)]
async fn random_values_stay_after_changed_rules_and_a_failure() {
    let mut run = Run::new(|_| ());
    run.apply(&object_with_random_value("1")).await;
    let before = run.server.value("r");
    run.server
        .edit_status(|status| set_conditions(status, "False"));
    run.policy.tolerates_drift = true;
    run.policy.rules.accept_legacy = !run.policy.rules.accept_legacy;
    run.restart().await;
    assert_eq!(run.server.value("r"), before);
    run.apply(&object_with_random_value("1")).await;
    assert_ne!(run.server.value("r"), before);
}

/// Attack: a program that may write status files of a directory changes conditions, generation, record or digest, or
/// removes the status, so that a version counts as unsealed. The controller trusts only the digest of the SealedSecret
/// that was unsealed last. (`status` belongs to the controller, with mode 0700.)
#[tokio::test]
async fn only_the_digest_in_a_status_file_shows_which_version_was_unsealed() {
    type ForgeFile = fn(&str) -> String;
    let forgeries: [(&str, ForgeFile); 7] = [
        ("nothing", str::to_owned),
        ("a failure", |text| text.replace("\"True\"", "\"False\"")),
        ("a generation", |text| {
            text.replace("status:\n", "status:\n  observedGeneration: 7\n")
        }),
        ("a record", |text| {
            let record =
                "record: {secretUid: u, secretVersion: v, key: k, content: c, proof: AAAA}";
            text.replace("status:\n", &format!("status:\n  {record}\n"))
        }),
        ("an earlier digest", |text| {
            text.replace("unsealed-digest: ", "unsealed-digest: A")
        }),
        ("no status", |_| String::new()),
        ("invalid YAML", |_| "a: [".into()),
    ];
    for (description, forge) in forgeries {
        for restarts in [false, true] {
            let mut case = Case::new().await;
            case.write(
                "sealed/a.yaml",
                &manifest_of(&object_that_tolerates_edits("old")),
            );
            case.tick().await;
            let text = case.status_text("ns/n").unwrap();
            case.write("status/ns/n.yaml", &forge(&text));
            case.write(
                "sealed/a.yaml",
                &manifest_of(&object_that_tolerates_edits("new")),
            );
            if restarts {
                case.restart().await;
            }
            case.tick().await;
            assert_eq!(
                case.value("ns/n/a").as_deref(),
                Some("new"),
                "{description}"
            );
            assert!(case.is_synced("ns/n"), "{description}");
        }
    }
}
