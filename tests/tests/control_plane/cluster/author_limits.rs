//! Tests the flags that restrict the authors of SealedSecrets.

use serde_json::json;
use shared::key::NewKey;
use shared::resource::{KEY_LABEL, SealedSecret};
use shared::scope::Scope;
use tests::scrape::Scrape;
use tests::sealing::{KEYS, sealed_for};

use super::case::Case;

const VALUES: [(&str, &str); 1] = [("a", "1")];
const TOKEN: &str = "bootstrap.kubernetes.io/token";

fn with_type(mut sealed: SealedSecret, type_: &str) -> SealedSecret {
    sealed.spec.template.type_ = Some(type_.into());
    sealed
}

async fn risky_secrets(case: &Case) -> Option<f64> {
    let scrape = Scrape::read(&case.controller.scrape().await);
    scrape.value(
        "sealed_secrets_controller_risky_secrets_total",
        &[("type", TOKEN)],
    )
}

/// Attack: an author seals a Secret of a type that grants credentials, unnoticed by the administrator.
#[tokio::test]
async fn creates_a_risky_type_with_a_warning_and_counts_it() {
    let allow = format!("--allow-secret-types={TOKEN}");
    let case = Case::with_args("risky", &[&allow]).await;
    case.create(&with_type(case.sealed_secret("join", &VALUES), TOKEN))
        .await;
    case.wait_for_values("join", &VALUES).await;
    let event = case.wait_for_event("join", "RiskyType").await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    let message = event.message.unwrap_or_default();
    assert!(
        message.contains("remove the type from --allow-secret-types"),
        "{message}"
    );
    assert_eq!(risky_secrets(&case).await, Some(1.0));
}

/// Attack: an author seals a Secret of a forbidden type, or changes the type of an existing Secret, to obtain the
/// credentials of the type.
#[tokio::test]
async fn a_forbidden_type_is_refused_for_new_and_existing_secrets() {
    let forbid = format!("--forbid-secret-types=kubernetes.io/service-account-token,{TOKEN}");
    let case = Case::with_args("forbidden", &[&forbid]).await;
    case.create(&with_type(case.sealed_secret("join", &VALUES), TOKEN))
        .await;
    let message = case.wait_for_failure("join").await;
    assert_eq!(
        message,
        format!(
            "this controller does not create Secrets of type {TOKEN:?} (--forbid-secret-types); use another type, or \
             ask the administrator of the controller"
        )
    );
    assert!(case.secret("join").await.is_none());
    assert_eq!(risky_secrets(&case).await, Some(0.0));

    case.seal("db", &VALUES).await;
    case.wait_for_values("db", &VALUES).await;
    case.patch("db", json!({ "spec": { "template": { "type": TOKEN } } }))
        .await;
    case.wait_for_failure("db").await;
    case.wait_for_values("db", &VALUES).await;
}

/// Attack: an author seals with a wider scope than the namespace may use, so that the value can be unsealed under more
/// names or namespaces.
#[tokio::test]
async fn refuses_a_forbidden_scope_even_for_objects_unsealed_before() {
    let case = Case::new("scopes").await;
    let sealed = |scope: Scope| {
        let name = scope.to_string();
        sealed_for(&KEYS[0], case.namespace.name(), &name, &VALUES, scope)
    };
    for scope in Scope::ALL {
        case.create(&sealed(scope)).await;
        case.wait_until_synced(&scope.to_string()).await;
    }
    let case = case
        .restart(&["--allowed-scopes=none-of-these=cluster-wide,scopes-*=strict+namespace-wide"])
        .await;
    let message = case.wait_for_failure("cluster-wide").await;
    assert!(
        message.contains("(--allowed-scopes: strict, namespace-wide)"),
        "{message}"
    );
    case.wait_until_idle("scopes").await;
    for scope in [Scope::Strict, Scope::NamespaceWide] {
        case.wait_until_synced(&scope.to_string()).await;
    }
    case.wait_for_values("cluster-wide", &VALUES).await;
}

/// Attack: an author seals for a key older than the allowed age, which may have leaked.
#[tokio::test]
async fn refuses_items_of_a_key_that_is_too_old_and_keeps_the_secret() {
    let case = Case::new("age").await;
    case.seal("db", &VALUES).await;
    case.wait_until_synced("db").await;
    let case = case
        .restart(&["--max-sealing-key-age=8760h", "--key-renew-period=0"])
        .await;
    let message = case.wait_for_failure("db").await;
    assert!(
        message.starts_with("items sealed for a key that is older than 365d")
            || message.starts_with("items sealed for a key that is older than 8760h"),
        "{message}"
    );
    assert!(message.contains(": a; "), "{message}");
    case.wait_for_values("db", &VALUES).await;
}

/// Attack: an author adds metadata on which another program acts, such as the annotation that makes a replicator copy
/// the Secret into every namespace.
#[tokio::test]
async fn forbidden_labels_and_annotations_are_refused_and_the_old_secret_stays() {
    let forbid = "--forbid-secret-metadata=reflector.v1.k8s.emberstack.com/,owner=helm";
    let case = Case::with_args("metadata", &[forbid]).await;
    case.seal("db", &VALUES).await;
    case.wait_for_values("db", &VALUES).await;
    let annotations = json!({ "reflector.v1.k8s.emberstack.com/reflection-allowed": "true" });
    for metadata in [
        json!({ "annotations": annotations }),
        json!({ "annotations": null, "labels": { "owner": "helm" } }),
    ] {
        case.patch(
            "db",
            json!({ "spec": { "template": { "metadata": metadata } } }),
        )
        .await;
        let message = case.wait_for_failure("db").await;
        assert!(message.contains("(--forbid-secret-metadata)"), "{message}");
        let secret = case.wait_for_values("db", &VALUES).await;
        assert_eq!(secret.metadata.annotations, None);
        assert_eq!(secret.metadata.labels, None);
    }
}

/// Attack: an author tests one guess of a value with each edit of a template.
#[tokio::test]
async fn renders_no_template_where_templates_are_forbidden() {
    let case = Case::with_args("no-templates", &["--forbid-templates=other,no-templates*"]).await;
    case.seal_with("text", &VALUES, &[("t", "a: {b}")]).await;
    case.wait_for_values("text", &[("a", "1"), ("t", "a: {b}")])
        .await;
    case.seal_with("action", &VALUES, &[("t", "{{ .a }}")])
        .await;
    let message = case.wait_for_failure("action").await;
    assert!(message.contains("(--forbid-templates)"), "{message}");
    assert!(case.secret("action").await.is_none());
}

/// Returns a SealedSecret whose Secret would contain a key pair of the author.
fn planted_key(case: &Case, name: &str, key: &NewKey) -> SealedSecret {
    let private = String::from_utf8(key.private_pem.expose().to_vec()).unwrap();
    let certificate = key.pair.certificate().to_pem();
    let items = [("tls.key", private.as_str()), ("tls.crt", &certificate)];
    with_type(case.sealed_secret(name, &items), "kubernetes.io/tls")
}

/// Attack: an author plants a sealing key through a SealedSecret.
#[tokio::test]
async fn refuses_a_sealed_secret_that_would_become_a_sealing_key() {
    let case = Case::new("planted").await;
    let mut labeled = planted_key(&case, "mine", &KEYS[2]);
    labeled.spec.template.metadata.labels = Some([(KEY_LABEL.into(), "active".into())].into());
    let reserved_name = planted_key(&case, "sealed-secrets-key", &KEYS[2]);
    for (name, sealed) in [("mine", labeled), ("sealed-secrets-key", reserved_name)] {
        case.create(&sealed).await;
        let message = case.wait_for_failure(name).await;
        assert!(
            message.contains("restore keys with `seal keys restore`"),
            "{message}"
        );
        assert!(case.secret(name).await.is_none(), "{name}");
    }
    let response = case.controller.get("/v1/cert.pem").await;
    assert!(!response.contains(&KEYS[2].pair.certificate().to_pem()));
}
