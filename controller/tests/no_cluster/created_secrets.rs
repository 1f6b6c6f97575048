//! Tests the type, labels and annotations of created Secrets, and SealedSecrets that never get a Secret.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use controller::metrics::Metrics;
use controller::pool::Pool;
use controller::reconcile::{Policy, Reconciler, Urgency};
use controller::store::cluster::ClusterStore;
use controller_core::added_metadata::AddedMetadata;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use shared::key_ring::{KeyRing, RingKey};
use shared::key_secret;
use shared::resource::SealedSecret;

use crate::support::api_server::{ApiServer, id};
use crate::support::{Case, KEYS, Warnings, record_log, sealed};

struct Controller {
    reconciler: Reconciler<ClusterStore>,
    next: Option<Timestamp>,
}

impl Controller {
    fn new(store: Arc<ClusterStore>, adjust: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = Case::idle().config().policy;
        adjust(&mut policy);
        let metrics = Arc::new(Metrics::new(false).unwrap());
        let mut reconciler = Reconciler::new(store, Pool::new(), policy, metrics);
        reconciler.use_ring(ring(), Timestamp::UNIX_EPOCH);
        Self {
            reconciler,
            next: None,
        }
    }

    async fn reconcile(&mut self) {
        let now = Timestamp::UNIX_EPOCH;
        self.reconciler.enqueue([id()], Urgency::Fresh, now);
        loop {
            self.next = self.reconciler.run_once(now).await;
            if self.next != Some(now) {
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn warns_once_about_a_crd_without_status_subresource() {
    fn valid_object(value: &str) -> SealedSecret {
        object_of_type("Opaque", &[("a", value)])
    }
    fn object_that_fails(_: &str) -> SealedSecret {
        object_of_type("kubernetes.io/tls", &[("tls.crt", "")])
    }
    fn with_template(value: &str) -> SealedSecret {
        let mut object = valid_object(value);
        object.spec.template.data = Some([("t".to_owned(), Some("{{ .a }}".to_owned()))].into());
        object
    }
    type CreateObject = fn(&str) -> SealedSecret;
    for create_object in [
        valid_object as CreateObject,
        object_that_fails,
        with_template,
    ] {
        let warnings = Warnings::default();
        let _guard = record_log(warnings.clone());
        let server = ApiServer::default();
        server.lacks_subresource.store(true, Ordering::Relaxed);
        let (server, store) = server.start();
        let mut controller = Controller::new(store, |_| ());
        for generation in 1..=3 {
            server.put_sealed(&create_object(&generation.to_string()), "u", generation);
            controller.reconcile().await;
            assert_eq!(server.status(), Value::Null);
        }
        let messages = warnings.messages();
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(
            messages[0].contains("has no `status` subresource"),
            "{messages:?}"
        );
        server.lacks_subresource.store(false, Ordering::Relaxed);
        server.put_sealed(&valid_object("4"), "u", 4);
        controller.reconcile().await;
        assert!(server.is_synced());
        assert_eq!(warnings.messages().len(), 1);
    }
}

fn ring() -> Arc<KeyRing> {
    let secret = key_secret::build("k", "ns", &KEYS[0], BTreeMap::new(), BTreeMap::new());
    let key: RingKey =
        key_secret::parse(&secret, key_secret::OrderPriority::CertNotBefore).unwrap();
    Arc::new(KeyRing::new([Arc::new(key)]))
}

fn object_of_type(type_: &str, items: &[(&str, &str)]) -> SealedSecret {
    let mut object = sealed(&KEYS[0], "ns/n", items);
    object.spec.template.type_ = Some(type_.to_owned());
    object
}

/// Returns the types of the status conditions that are true, and the message of the first condition.
fn conditions(server: &ApiServer) -> (Vec<String>, String) {
    let status = server.status();
    let conditions = status["conditions"].as_array().unwrap();
    let true_types = conditions.iter().filter(|c| c["status"] == json!("True"));
    let types = true_types.map(|c| c["type"].as_str().unwrap().to_owned());
    let message = conditions[0]["message"].as_str().unwrap_or_default();
    (types.collect(), message.to_owned())
}

#[tokio::test(start_paused = true)]
async fn an_invalid_secret_is_stalled_and_the_status_names_the_fault() {
    let large = "x".repeat(700_000);
    for (object, expected) in [
        (
            object_of_type("kubernetes.io/tls", &[("tls.crt", "c")]),
            "cannot write the Secret: a Secret of type kubernetes.io/tls requires the item tls.key; ",
        ),
        (
            object_of_type("kubernetes.io/dockerconfigjson", &[("config.json", "{}")]),
            "cannot write the Secret: a Secret of type kubernetes.io/dockerconfigjson requires the item \
             .dockerconfigjson; ",
        ),
        (
            object_of_type("kubernetes.io/basic-auth", &[("user", "u")]),
            "cannot write the Secret: a Secret of type kubernetes.io/basic-auth requires the item username or password; ",
        ),
        (
            object_of_type("Opaque", &[("a", &large), ("b", &large)]),
            "cannot write the Secret: its values have 1400000 bytes, and the limit of Kubernetes is 1048576; ",
        ),
    ] {
        let server = ApiServer::default();
        server.put_sealed(&object, "u", 1);
        let (server, store) = server.start();
        let mut controller = Controller::new(store, |_| ());
        controller.reconcile().await;
        let (true_types, message) = conditions(&server);
        assert_eq!(true_types, ["Stalled"], "{message}");
        assert!(message.starts_with(expected), "{message}");
        assert_eq!(*server.writes.lock().unwrap(), 0);
        assert_eq!(controller.next, None, "no retry is scheduled");
        server.put_sealed(&object_of_type("Opaque", &[("a", "1")]), "u", 2);
        controller.reconcile().await;
        assert_eq!(conditions(&server).0, ["Synced", "Ready"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_secret_is_stalled_and_retried_only_if_a_retry_can_succeed() {
    fn reject_label(secret: &Value) -> Option<Value> {
        let cause = json!({ "field": "metadata.labels", "reason": "FieldValueInvalid", "message": "no label" });
        secret.is_object().then(|| json!([cause]))
    }
    fn reject_value(secret: &Value) -> Option<Value> {
        let cause =
            json!({ "field": "data[a]", "reason": "FieldValueInvalid", "message": "hunter2" });
        secret.is_object().then(|| json!([cause]))
    }
    for (check, expected, is_repeated) in [
        (
            reject_label as fn(&Value) -> Option<Value>,
            "metadata.labels: no label",
            true,
        ),
        (reject_value, "the values do not form a valid Secret", false),
    ] {
        let server = ApiServer::with_check(check);
        server.put_sealed(&object_of_type("Opaque", &[("a", "1")]), "u", 1);
        let (server, store) = server.start();
        let mut controller = Controller::new(store, |_| ());
        controller.reconcile().await;
        let (true_types, message) = conditions(&server);
        assert_eq!(true_types, ["Stalled"], "{message}");
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
        assert_eq!(controller.next.is_some(), is_repeated, "{message}");
    }
}

fn add_metadata(labels: &str, annotations: &str) -> impl FnOnce(&mut Policy) {
    let added = AddedMetadata::default().with_labels(labels).unwrap();
    let added = added.with_annotations(annotations).unwrap();
    move |policy| policy.added = Arc::new(added)
}

fn object_with_label(value: &str) -> SealedSecret {
    let mut object = object_of_type("Opaque", &[("a", "1")]);
    let labels = [("team", value), ("own", "x")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    object.spec.template.metadata.labels = Some(labels.into());
    object
}

/// Attack: an author overrides the label by which the administrator's policy selects Secrets, and another client
/// removes it, so that the policy does not apply.
#[tokio::test(start_paused = true)]
async fn administrator_labels_override_the_template_and_are_restored() {
    let server = ApiServer::default();
    server.put_sealed(&object_with_label("dev"), "u", 1);
    let (server, store) = server.start();
    let mut controller = Controller::new(store, add_metadata("team=ops", "note=n"));
    controller.reconcile().await;
    let metadata = |server: &ApiServer| server.secret()["metadata"].clone();
    assert_eq!(
        metadata(&server)["labels"],
        json!({ "team": "ops", "own": "x" })
    );
    assert_eq!(metadata(&server)["annotations"]["note"], json!("n"));
    for edit in [
        (|m| m["labels"]["team"] = json!("dev")) as fn(&mut Value),
        |m| m["labels"] = Value::Null,
        |m| m["annotations"] = Value::Null,
    ] {
        server.edit_metadata(edit);
        controller.reconcile().await;
        assert_eq!(metadata(&server)["labels"]["team"], json!("ops"));
        assert_eq!(metadata(&server)["annotations"]["note"], json!("n"));
        assert!(server.is_synced());
    }
    let writes = *server.writes.lock().unwrap();
    controller.reconcile().await;
    assert_eq!(*server.writes.lock().unwrap(), writes, "nothing to write");
}

/// Attack: an author opts out of drift correction, and removes the label by which the administrator's policy selects
/// the Secret, so that the policy does not apply.
#[tokio::test(start_paused = true)]
async fn administrator_labels_are_restored_even_if_edits_are_tolerated() {
    let opt_out_of_correction: fn(&mut SealedSecret) = |object| {
        let annotation = "sealedsecrets.bitnami.com/correct-drift";
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.insert(annotation.into(), "false".into());
    };
    for (case, author, flag) in [
        ("annotation", opt_out_of_correction, false),
        ("flag", |_| (), true),
        ("both", opt_out_of_correction, true),
    ] {
        let server = ApiServer::default();
        let mut object = object_with_label("dev");
        author(&mut object);
        server.put_sealed(&object, "u", 1);
        let (server, store) = server.start();
        let add = add_metadata("team=ops", "note=n");
        let mut controller = Controller::new(store, |policy| {
            add(policy);
            policy.tolerates_drift = flag;
        });
        controller.reconcile().await;
        for edit in [
            (|m| m["labels"]["team"] = json!("dev")) as fn(&mut Value),
            |m| m["labels"] = Value::Null,
            |m| m["annotations"] = Value::Null,
        ] {
            server.edit("a", "edited");
            server.edit_metadata(edit);
            controller.reconcile().await;
            let metadata = server.secret()["metadata"].clone();
            assert_eq!(metadata["labels"]["team"], json!("ops"), "{case}");
            assert_eq!(metadata["annotations"]["note"], json!("n"), "{case}");
            assert_eq!(server.value("a"), "edited", "{case}: other edits are kept");
            assert!(server.is_synced(), "{case}");
        }
        let writes = *server.writes.lock().unwrap();
        controller.reconcile().await;
        assert_eq!(
            *server.writes.lock().unwrap(),
            writes,
            "{case}: nothing to write"
        );
    }
}

/// Attack: an author causes the refusal of a SealedSecret, and removes the label by which the administrator's policy
/// selects its Secret, so that the policy does not apply.
#[tokio::test(start_paused = true)]
async fn administrator_labels_are_restored_while_the_object_is_refused() {
    fn seal_for_missing_key(_: SealedSecret) -> SealedSecret {
        sealed(&KEYS[1], "ns/n", &[("a", "2")])
    }
    fn with_malformed_item(mut object: SealedSecret) -> SealedSecret {
        let broken = ("a".to_owned(), "!".to_owned());
        object.spec.encrypted_data.extend([broken]);
        object
    }
    fn object_that_fails(mut object: SealedSecret) -> SealedSecret {
        let template = ("t".to_owned(), Some("{{ fail \"x\" }}".to_owned()));
        object.spec.template.data = Some([template].into());
        object
    }
    fn with_forbidden_type(mut object: SealedSecret) -> SealedSecret {
        object.spec.template.type_ = Some("kubernetes.io/service-account-token".into());
        object
    }
    type Refuse = fn(SealedSecret) -> SealedSecret;
    for (case, refuse) in [
        ("no key", seal_for_missing_key as Refuse),
        ("malformed", with_malformed_item),
        ("a failing template", object_that_fails),
        ("a forbidden type", with_forbidden_type),
    ] {
        let server = ApiServer::default();
        server.put_sealed(&object_with_label("dev"), "u", 1);
        let (server, store) = server.start();
        let mut controller = Controller::new(store, add_metadata("team=ops", "note=n"));
        controller.reconcile().await;
        server.put_sealed(&refuse(object_with_label("dev")), "u", 2);
        controller.reconcile().await;
        for edit in [
            (|m| m["labels"]["team"] = json!("dev")) as fn(&mut Value),
            |m| m["labels"] = Value::Null,
            |m| m["annotations"] = Value::Null,
        ] {
            server.edit_metadata(edit);
            controller.reconcile().await;
            let metadata = server.secret()["metadata"].clone();
            assert_eq!(metadata["labels"]["team"], json!("ops"), "{case}");
            assert_eq!(metadata["annotations"]["note"], json!("n"), "{case}");
            assert_eq!(server.value("a"), "1", "{case}: the values are kept");
            assert!(!server.is_synced(), "{case}");
        }
        let writes = *server.writes.lock().unwrap();
        controller.reconcile().await;
        assert_eq!(
            *server.writes.lock().unwrap(),
            writes,
            "{case}: nothing to write"
        );
        for _ in 0..10 {
            server.edit_metadata(|m| m["labels"] = Value::Null);
            controller.reconcile().await;
        }
        let corrections = *server.writes.lock().unwrap() - writes;
        assert!(corrections < 5, "{case}: {corrections} corrections");
        assert!(controller.next.is_some(), "{case}: no later attempt");
    }
}

#[tokio::test(start_paused = true)]
async fn changed_label_flags_update_secrets_without_reporting_drift() {
    let server = ApiServer::default();
    server.put_sealed(&object_with_label("dev"), "u", 1);
    let (server, store) = server.start();
    Controller::new(store, |_| ()).reconcile().await;
    assert_eq!(server.secret()["metadata"]["labels"]["team"], json!("dev"));
    for (labels, team, owner) in [
        ("team=ops", "ops", Value::Null),
        ("team=core,owner=a", "core", json!("a")),
    ] {
        let mut controller =
            Controller::new(server.restart_with_secret(), add_metadata(labels, ""));
        controller.reconcile().await;
        let actual = server.secret()["metadata"]["labels"].clone();
        assert_eq!(actual["team"], json!(team));
        assert_eq!(actual["owner"], owner);
        assert!(server.is_synced());
        let writes = *server.writes.lock().unwrap();
        let mut controller =
            Controller::new(server.restart_with_secret(), add_metadata(labels, ""));
        controller.reconcile().await;
        assert_eq!(
            *server.writes.lock().unwrap(),
            writes,
            "{labels}: nothing to write"
        );
    }
    let reasons = server.event_reasons();
    assert!(
        !reasons.contains(&"DriftCorrected".to_owned()),
        "{reasons:?}"
    );
}

/// A directory stores values and no metadata.
#[tokio::test]
async fn with_a_directory_the_label_flags_cause_a_warning_and_have_no_effect() {
    let mut case = Case::new().await;
    case.set_args(&["--secret-labels=team=ops", "--secret-annotations=note=n"]);
    let warnings = case.config().warnings;
    assert_eq!(
        warnings,
        [
            "--secret-labels has no effect with --directory",
            "--secret-annotations has no effect with --directory"
        ]
    );
    case.start(&["--secret-labels=team=ops"]).await.unwrap();
    case.seal("sealed/x.yaml", "ns/n", &[("a", "1")]);
    case.advance(SignedDuration::from_secs(2)).await;
    assert_eq!(case.value("ns/n/a").as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn the_status_of_a_renamed_or_moved_object_has_a_hint() {
    let strict = |change: fn(&mut SealedSecret)| {
        let mut object = sealed(&KEYS[1], "ns/n", &[("a", "1")]);
        object.metadata.annotations = None;
        object.spec.template.metadata.name = Some("n".into());
        object.spec.template.metadata.namespace = Some("ns".into());
        change(&mut object);
        object
    };
    let namespace_wide = |object: &mut SealedSecret| {
        let annotation = (
            "sealedsecrets.bitnami.com/namespace-wide".to_owned(),
            "true".to_owned(),
        );
        object.metadata.annotations = Some([annotation].into());
    };
    for (description, object, hint) in [
        ("not renamed", strict(|_| ()), None),
        (
            "a prefix",
            strict(|s| s.spec.template.metadata.name = Some("db".into())),
            Some("the template has the name db, the object has the name n, "),
        ),
        (
            "another namespace",
            strict(|s| s.spec.template.metadata.namespace = Some("dev".into())),
            Some("the template has the namespace dev, the object has the namespace ns, "),
        ),
        (
            "a prefix, in an object whose scope ignores the name",
            {
                let mut object = strict(|s| s.spec.template.metadata.name = Some("db".into()));
                namespace_wide(&mut object);
                object
            },
            None,
        ),
    ] {
        let server = ApiServer::default();
        server.put_sealed(&object, "u", 1);
        let (server, store) = server.start();
        Controller::new(store, |_| ()).reconcile().await;
        let (_, message) = conditions(&server);
        assert!(
            message.starts_with("no key could decrypt secret (a)"),
            "{description}: {message}"
        );
        match hint {
            Some(hint) => assert!(message.contains(hint), "{description}: {message}"),
            None => assert!(!message.contains("hint:"), "{description}: {message}"),
        }
    }
}
