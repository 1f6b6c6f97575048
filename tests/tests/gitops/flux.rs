//! Tests how Flux applies commits with SealedSecrets and reports their outcome.

use k8s_openapi::api::core::v1::Secret;
use tests::sealing::KEYS;

use crate::app::App;

#[tokio::test]
async fn flux_reports_a_broken_commit_early_and_recovers_after_a_repair() {
    let app = App::new("flux").await;
    app.write(&app.site.sealed_secret("db", &[("password", "first")]));
    let sync = app.sync().await;
    assert_eq!(app.site.value("db", "password").await, "first");
    let before = app.site.secret("db").await;

    let mut broken = app.site.sealed_secret("db", &[]);
    let items = &mut broken.spec.encrypted_data;
    items.insert("password".into(), "AAAA".into());
    app.write(&broken);
    let outcome = app.push(&sync, "Break the password").await;
    assert_eq!(
        (outcome.is_ready, outcome.reason.as_str()),
        (false, "HealthCheckFailed"),
        "{outcome:?}"
    );
    let namespace = app.site.namespace.name();
    let blamed = format!("stalled resources: [SealedSecret/{namespace}/db status: 'Failed']");
    assert!(outcome.message.contains(&blamed), "{outcome:?}");
    let object = app.site.sealed_secrets().get("db").await.unwrap();
    let conditions = object.status.unwrap().conditions;
    let message = conditions[0].message.as_deref().unwrap_or_default();
    assert!(
        message.contains("password"),
        "the message names the item: {message}"
    );
    let after = app.site.secret("db").await;
    assert_eq!(after, before, "the old Secret stays");

    app.write(&app.site.sealed_secret("db", &[("password", "second")]));
    let outcome = app.push(&sync, "Repair the password").await;
    assert!(outcome.is_ready, "{outcome:?}");
    assert_eq!(app.site.value("db", "password").await, "second");
}

#[tokio::test]
async fn key_renewal_and_re_encryption_change_nothing_that_a_pod_sees() {
    let app = App::new("rotated").await;
    for name in ["one", "two"] {
        app.write(&app.site.sealed_secret(name, &[("a", name), ("b", "value")]));
    }
    let sync = app.sync().await;
    let before = [app.site.secret("one").await, app.site.secret("two").await];

    let renewed = app.seal(&["keys", "rotate"]);
    let (_, fingerprint) = renewed.trim().split_once(' ').unwrap();
    assert_ne!(fingerprint, KEYS[0].pair.fingerprint().to_string());
    app.seal(&["rotate", "."]);
    let outcome = app.push(&sync, "Rotate the tree").await;
    assert!(outcome.is_ready, "{outcome:?}");

    for (name, before) in ["one", "two"].into_iter().zip(before) {
        app.site.wait_until_observed(name).await;
        let object = app.site.sealed_secrets().get(name).await.unwrap();
        assert_eq!(
            object.metadata.generation,
            Some(2),
            "the re-encrypted object was applied"
        );
        assert_eq!(
            without_version_fields(app.site.secret(name).await),
            without_version_fields(before)
        );
    }
}

/// Removes the fields of a Secret that change with each version of its SealedSecret even if all values are equal:
/// `resourceVersion`, `managedFields`, and an `immutable` that is `false`. The controller writes the Secret even then,
/// so that readers cannot learn whether values are equal.
fn without_version_fields(mut secret: Secret) -> Secret {
    secret.metadata.resource_version = None;
    secret.metadata.managed_fields = None;
    secret.immutable = secret.immutable.filter(|immutable| *immutable);
    secret
}
