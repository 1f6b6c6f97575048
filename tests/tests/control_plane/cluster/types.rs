//! Tests every built-in type of Secret: which types are created, and that each Secret reaches a stable state with the
//! items that Kubernetes adds. The tests use Kubernetes' real token controller.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Secret as ApiSecret, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use shared::envelope;
use shared::resource::{PATCH_ANNOTATION, SealedSecret};
use shared::scope::Scope;
use tests::patience::until;
use tests::scrape::Scrape;
use tests::sealing::KEYS;

use super::case::Case;

const ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";
const BOOTSTRAP_TOKEN: &str = "bootstrap.kubernetes.io/token";
const RISKY: [&str; 2] = [ACCOUNT_TOKEN, BOOTSTRAP_TOKEN];
const ALLOW: &str =
    "--allow-secret-types=kubernetes.io/service-account-token,bootstrap.kubernetes.io/token";

const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// The items that the token controller adds, in addition to the annotation [`ACCOUNT_UID`].
const ADDED_ITEMS: [&str; 3] = ["ca.crt", "namespace", "token"];

type Items = &'static [(&'static str, &'static str)];

/// Each built-in type, no type, and a type that is unknown to Kubernetes: name of the object, type, and items,
/// including those that the type requires.
const TYPES: &[(&str, &str, Items)] = &[
    ("none", "", &[("a", "1")]),
    ("opaque", "Opaque", &[("a", "1")]),
    ("account-token", ACCOUNT_TOKEN, &[("a", "1")]),
    (
        "dockercfg",
        "kubernetes.io/dockercfg",
        &[(".dockercfg", "{}")],
    ),
    (
        "dockerconfigjson",
        "kubernetes.io/dockerconfigjson",
        &[(".dockerconfigjson", r#"{"auths":{}}"#)],
    ),
    (
        "basic-auth",
        "kubernetes.io/basic-auth",
        &[("password", "p"), ("username", "u")],
    ),
    (
        "ssh-auth",
        "kubernetes.io/ssh-auth",
        &[("ssh-privatekey", "k")],
    ),
    (
        "tls",
        "kubernetes.io/tls",
        &[("tls.crt", "c"), ("tls.key", "k")],
    ),
    (
        "bootstrap-token",
        BOOTSTRAP_TOKEN,
        &[("token-id", "abcdef"), ("token-secret", "0123456789abcdef")],
    ),
    ("another", "example.com/another", &[("a", "1")]),
];

/// Returns a SealedSecret for a Secret of this type. A service account token is for the account `default`.
fn sealed_of_type(case: &Case, name: &str, type_: &str, items: &[(&str, &str)]) -> SealedSecret {
    let mut sealed = case.sealed_secret(name, items);
    let template = &mut sealed.spec.template;
    template.type_ = Some(type_.to_owned()).filter(|type_| !type_.is_empty());
    if type_ == ACCOUNT_TOKEN {
        let annotations = template.metadata.annotations.get_or_insert_default();
        annotations.insert(ACCOUNT.into(), "default".into());
    }
    sealed
}

async fn wait_for_account(case: &Case) {
    until("the namespace has its ServiceAccount", async || {
        let accounts = case.namespace.api::<ServiceAccount>();
        accounts.get_opt("default").await.unwrap()
    })
    .await;
}

fn item(secret: &ApiSecret, key: &str) -> Vec<u8> {
    let data = secret.data.as_ref().and_then(|data| data.get(key));
    data.map(|value| value.0.clone()).unwrap_or_default()
}

/// Waits until Kubernetes has added [`ADDED_ITEMS`]; returns the Secret.
async fn wait_for_token(case: &Case, name: &str) -> ApiSecret {
    until(
        &format!("{name} has a token\n{}", case.controller.log()),
        async || {
            let secret = case.secret(name).await?;
            let is_filled = ADDED_ITEMS.iter().all(|key| !item(&secret, key).is_empty());
            is_filled.then_some(secret)
        },
    )
    .await
}

/// Returns `resourceVersion` and token of each Secret.
async fn versions(case: &Case) -> BTreeMap<String, (Option<String>, Vec<u8>)> {
    let mut versions = BTreeMap::new();
    for (name, ..) in TYPES {
        let secret = case.secret(name).await.unwrap();
        let token = item(&secret, "token");
        versions.insert((*name).to_owned(), (secret.resource_version(), token));
    }
    versions
}

/// Triggers another reconciliation of each object.
async fn reconcile_again(case: &Case, count: &str) {
    for (name, ..) in TYPES {
        case.patch(
            name,
            json!({ "metadata": { "labels": { "count": count } } }),
        )
        .await;
    }
    case.wait_until_idle(&format!("again-{count}")).await;
}

async fn assert_no_correction(case: &Case) {
    let events = case.events().await;
    let reasons: Vec<_> = events
        .iter()
        .filter_map(|event| event.reason.clone())
        .collect();
    let is_correction =
        |reason: &&String| ["DriftCorrected", "DriftFight"].contains(&reason.as_str());
    assert!(
        !reasons.iter().any(|reason| is_correction(&reason)),
        "{reasons:?}"
    );
}

/// The controller checks which items a type requires. The API server checks all other rules.
#[tokio::test]
async fn an_invalid_secret_is_stalled() {
    // The message does not name the invalid item, which would reveal something about the item's value.
    const INVALID_VALUES: &str = "the values do not form a valid Secret";
    let case = Case::new("refused").await;
    let rows: [(&str, &str, Items, &str); 4] = [
        (
            "no-key",
            "kubernetes.io/tls",
            &[("tls.crt", "hunter2")],
            "requires the item tls.key",
        ),
        (
            "no-object",
            "kubernetes.io/dockerconfigjson",
            &[(".dockerconfigjson", r#"["hunter2"]"#)],
            INVALID_VALUES,
        ),
        (
            "empty",
            "kubernetes.io/ssh-auth",
            &[("ssh-privatekey", "")],
            INVALID_VALUES,
        ),
        ("label", "Opaque", &[("a", "hunter2")], "metadata.labels"),
    ];
    for (name, type_, items, _) in rows {
        let mut sealed = sealed_of_type(&case, name, type_, items);
        if name == "label" {
            let labels = sealed.spec.template.metadata.labels.get_or_insert_default();
            labels.insert("team".into(), "not valid!".into());
        }
        case.create(&sealed).await;
    }
    for (name, _, _, part) in rows {
        let message = case.wait_for_failure(name).await;
        assert!(message.contains(part), "{name}: {message}");
        let conditions = case.conditions(name).await;
        let is_stalled = conditions
            .iter()
            .any(|condition| condition.type_ == "Stalled" && condition.status == "True");
        assert!(is_stalled, "{name}: {conditions:?}");
        let text = format!("{conditions:?}");
        assert!(!text.contains("hunter2"), "{name}: {text}");
        assert!(case.secret(name).await.is_none(), "{name}");
    }
}

/// Attack: an author causes the controller and Kubernetes to overwrite each other indefinitely.
#[tokio::test]
async fn secrets_of_every_type_stay_synced_with_the_additions_of_kubernetes() {
    let case = Case::with_args("types", &[ALLOW]).await;
    wait_for_account(&case).await;
    for (name, type_, items) in TYPES {
        case.create(&sealed_of_type(&case, name, type_, items))
            .await;
    }
    let with_token = wait_for_token(&case, "account-token").await;
    assert!(with_token.annotations().contains_key(ACCOUNT_UID));
    for (name, type_, _) in TYPES {
        case.wait_until_synced(name).await;
        let stored_type = case.secret(name).await.unwrap().type_.unwrap_or_default();
        let want = if type_.is_empty() { "Opaque" } else { type_ };
        assert_eq!(stored_type, want);
    }
    case.wait_until_idle("settled").await;
    let settled = versions(&case).await;
    reconcile_again(&case, "1").await;
    assert_eq!(versions(&case).await, settled, "{}", case.controller.log());
    let case = case.restart(&[ALLOW]).await;
    reconcile_again(&case, "2").await;
    assert_eq!(versions(&case).await, settled, "{}", case.controller.log());
    assert_no_correction(&case).await;
}

/// Attack: an author seals a new version of a token's Secret, so that its token is lost.
#[tokio::test]
async fn a_new_version_of_a_service_account_token_keeps_the_token() {
    let case = Case::with_args("token", &[ALLOW]).await;
    wait_for_account(&case).await;
    case.create(&sealed_of_type(&case, "db", ACCOUNT_TOKEN, &[("a", "1")]))
        .await;
    let before = wait_for_token(&case, "db").await;
    case.wait_until_synced("db").await;
    let next = case.sealed_secret("db", &[("a", "2"), ("b", "3")]);
    let patch = json!({ "spec": { "encryptedData": next.spec.encrypted_data } });
    case.patch("db", patch).await;
    let after = until("the Secret has the new values", async || {
        let secret = case.secret("db").await?;
        (item(&secret, "b") == b"3").then_some(secret)
    })
    .await;
    for key in ADDED_ITEMS {
        assert_eq!(item(&after, key), item(&before, key), "{key}");
    }
    assert_eq!(
        after.annotations().get(ACCOUNT_UID),
        before.annotations().get(ACCOUNT_UID)
    );

    // The controller still reverts changes to fields that the SealedSecret sets, and the token stays.
    case.wait_until_synced("db").await;
    case.patch_secret("db", json!({ "stringData": { "a": "edited" } }))
        .await;
    let corrected = until("the edit is reverted", async || {
        let secret = case.secret("db").await?;
        (item(&secret, "a") == b"2").then_some(secret)
    })
    .await;
    assert_eq!(item(&corrected, "token"), item(&before, "token"));
}

/// Returns an object in the deprecated form, which seals a whole Secret as one value.
fn seal_in_deprecated_form(case: &Case, name: &str, type_: &str) -> SealedSecret {
    let mut sealed = sealed_of_type(case, name, type_, &[]);
    let secret = json!({
        "kind": "Secret", "apiVersion": "v1", "type": type_, "data": { "a": "MQ==" },
        "metadata": { "name": name, "annotations": { ACCOUNT: "default" } },
    });
    let label = Scope::Strict.label(case.namespace.name(), name);
    let key = KEYS[0].pair.certificate().public_key();
    let text = secret.to_string();
    let value =
        envelope::seal(key, &label, text.as_bytes(), &mut shared::random::system()).unwrap();
    sealed.spec.template.type_ = None;
    sealed.spec.data = Some(STANDARD.encode(&value));
    sealed
}

/// Creates a Secret of this type that allows merging.
async fn create_mergeable_secret(case: &Case, name: &str, type_: &str) {
    let annotations = json!({ ACCOUNT: "default", PATCH_ANNOTATION: "true" });
    let metadata = json!({ "name": name, "annotations": annotations });
    let secret = json!({ "metadata": metadata, "type": type_, "stringData": { "unowned": "1" } });
    case.create_secret(secret).await;
}

/// Attack: an author who may create SealedSecrets but no Secrets requests a Secret to which Kubernetes adds a token, or
/// a Secret that lets its holder join the cluster.
#[tokio::test]
async fn refuses_a_risky_type_in_every_form() {
    let case = Case::new("risky").await;
    wait_for_account(&case).await;
    for (i, type_) in RISKY.into_iter().enumerate() {
        let [regular, deprecated, merged] =
            ["regular", "deprecated", "merged"].map(|form| format!("{form}-{i}"));
        case.create(&sealed_of_type(&case, &regular, type_, &[("a", "1")]))
            .await;
        case.create(&seal_in_deprecated_form(&case, &deprecated, type_))
            .await;
        create_mergeable_secret(&case, &merged, type_).await;
        case.create(&case.sealed_secret(&merged, &[("a", "1")]))
            .await;
        // If a whole Secret is sealed as one value, its type is also secret, and must not be published.
        let message = case.wait_for_failure(&deprecated).await;
        assert!(!message.contains(type_), "{deprecated}: {message}");
        for name in [&regular, &merged] {
            let message = case.wait_for_failure(name).await;
            let hint = format!("--allow-secret-types={type_}");
            assert!(message.contains(&hint), "{name}: {message}");
            assert!(message.contains("allowSecretTypes"), "{message}");
        }
        assert!(case.secret(&regular).await.is_none());
        assert!(case.secret(&deprecated).await.is_none());
        let after = case.secret(&merged).await.unwrap();
        assert!(item(&after, "a").is_empty(), "nothing was merged");
    }
    let scrape = Scrape::read(&case.controller.scrape().await);
    for type_ in RISKY {
        let series = "sealed_secrets_controller_risky_secrets_total";
        assert_eq!(scrape.value(series, &[("type", type_)]), Some(0.0));
    }
}

/// Attack: an author makes the controller maintain a Secret whose type grants credentials and is no longer allowed.
///
/// The test creates the Secret while its type is allowed, because Bitnami's controller would have created it.
#[tokio::test]
async fn an_existing_secret_of_a_risky_type_stays_unchanged_and_the_status_names_the_flag() {
    let case = Case::with_args("before", &[ALLOW]).await;
    wait_for_account(&case).await;
    case.create(&sealed_of_type(&case, "db", ACCOUNT_TOKEN, &[("a", "1")]))
        .await;
    wait_for_token(&case, "db").await;
    case.wait_until_synced("db").await;
    case.wait_until_idle("before").await;
    let before = case.secret("db").await.unwrap();
    let case = case.restart(&[]).await;
    let message = case.wait_for_failure("db").await;
    assert!(
        message.contains(&format!("--allow-secret-types={ACCOUNT_TOKEN}")),
        "{message}"
    );
    case.patch_secret("db", json!({ "stringData": { "a": "edited" } }))
        .await;
    case.wait_until_idle("after").await;
    let after = case.secret("db").await.unwrap();
    assert_eq!(item(&after, "a"), b"edited");
    assert_eq!(item(&after, "token"), item(&before, "token"));
    assert_eq!(after.metadata.uid, before.metadata.uid);
}

/// Attack: an author seals a type that Kubernetes deletes immediately, so that the controller writes indefinitely.
#[tokio::test]
async fn stops_recreating_a_secret_that_is_deleted_repeatedly() {
    let case = Case::with_args("deleted", &[ALLOW]).await;
    let mut sealed = sealed_of_type(&case, "ghost", ACCOUNT_TOKEN, &[("a", "1")]);
    let annotations = sealed
        .spec
        .template
        .metadata
        .annotations
        .get_or_insert_default();
    annotations.insert(ACCOUNT.into(), "nobody".into());
    case.create(&sealed).await;
    case.wait_for_event("ghost", "DriftFight").await;
    let message = case.wait_for_failure("ghost").await;
    assert!(message.contains("keeps deleting the Secret"), "{message}");
    let count = count_creations(&case, "ghost");
    assert!((2..=7).contains(&count), "{count} times");
    // The object reaches a stable state, and its neighbors are still reconciled.
    case.wait_until_idle("neighbors").await;
    assert!(count_creations(&case, "ghost") <= 7);
}

/// Returns how often service accounts created the Secret, according to the audit log.
fn count_creations(case: &Case, name: &str) -> usize {
    let audit = case.plane.audit();
    let is_creation = |event: &&Value| {
        event["verb"] == "create"
            && event["objectRef"]["resource"] == "secrets"
            && event["objectRef"]["namespace"] == case.namespace.name()
            && event["responseStatus"]["code"] == 201
            && event["user"]["username"]
                .as_str()
                .is_some_and(|name| name.starts_with("system:serviceaccount"))
            && event["objectRef"]["name"] == name
    };
    audit.iter().filter(is_creation).count()
}

/// The limit on recreations does not affect a Secret of an ordinary type that a client deletes a few times.
#[tokio::test]
async fn recreates_a_secret_that_a_client_deletes_a_few_times() {
    let case = Case::new("back").await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    for _ in 0..4 {
        let before = case.secret("db").await.unwrap().metadata.uid;
        case.secrets()
            .delete("db", &DeleteParams::default())
            .await
            .unwrap();
        until("the Secret is recreated", async || {
            let secret = case.secret("db").await?;
            (secret.metadata.uid != before).then_some(())
        })
        .await;
        case.wait_until_synced("db").await;
    }
    assert_no_correction(&case).await;
}

/// With the annotation for merging, another controller can add items to the Secret without a drift fight.
#[tokio::test]
async fn keeps_items_that_another_controller_adds_if_the_template_allows_merging() {
    let case = Case::new("merging").await;
    let mut sealed = case.sealed_secret("db", &[("a", "1")]);
    let metadata = &mut sealed.spec.template.metadata;
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(PATCH_ANNOTATION.into(), "true".into());
    case.create(&sealed).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    case.patch_secret("db", json!({ "stringData": { "unowned": "2" } }))
        .await;
    case.wait_until_idle("added").await;
    case.wait_for_values("db", &[("a", "1"), ("unowned", "2")])
        .await;
    case.patch_secret("db", json!({ "stringData": { "a": "edited" } }))
        .await;
    case.wait_for_values("db", &[("a", "1"), ("unowned", "2")])
        .await;
}
