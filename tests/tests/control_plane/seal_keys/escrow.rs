//! Tests that with `--require-backup` the controller serves no certificate whose key is not backed up.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use serde_json::{Value, json};
use shared::resource::{BACKED_UP_ANNOTATION, RENEW_ANNOTATION};
use tests::patience::until;
use tests::scrape::Scrape;
use tests::sealing::KEYS;

use super::site::{Site, served_key_at};

const ARGS: [&str; 2] = ["--require-backup", "--key-renew-period=0"];

async fn annotate(site: &Site<'_>, key: &str, annotations: Value) {
    let patch = kube::api::Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
    site.secrets()
        .patch(key, &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// Requests certificates from the controllers continuously in the background, and collects their fingerprints.
fn watch_certificates(ports: &[u16]) -> Arc<Mutex<BTreeSet<String>>> {
    let fingerprints: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    for port in ports.iter().copied() {
        let fingerprints = Arc::clone(&fingerprints);
        tokio::spawn(async move {
            loop {
                if let Ok(served) = served_key_at(port).await {
                    fingerprints.lock().unwrap().insert(served.to_string());
                }
                tokio::task::yield_now().await;
            }
        });
    }
    fingerprints
}

/// Fault: an administrator loses a key before it is backed up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_seals_only_once_it_is_backed_up() {
    let site = Site::new("escrow", &KEYS[..1], &ARGS).await;
    let own_key = KEYS[0].pair.fingerprint().clone();

    // No key is backed up: the controller responds with the reason instead of a certificate, also after a restart.
    let response = site.served_key().await.unwrap_err();
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(
        response.contains("no key that may seal is backed up"),
        "{response}"
    );
    let site = site.restart(&ARGS).await;
    assert!(
        site.served_key()
            .await
            .unwrap_err()
            .starts_with("HTTP/1.1 503 ")
    );
    // The controller still unseals values.
    site.create(&site.sealed_secret(&KEYS[0], "db")).await;
    site.wait_for_value("db").await;
    // An annotation for another key has no effect.
    let for_other_key = format!("{} 2026-01-01T00:00:00Z", KEYS[1].pair.fingerprint());
    annotate(
        &site,
        "key-0",
        json!({ BACKED_UP_ANNOTATION: for_other_key }),
    )
    .await;

    let recipient = site.create_identity();
    let args = ["keys", "backup", "one.age", "-r", &recipient];
    let second = site.start_second(&ARGS).await;
    assert!(served_key_at(second.port().unwrap()).await.is_err());
    site.run_successfully(&args);
    site.wait_until_served(&own_key).await;

    // A renewal is requested; the new key is generated and reported, but no replica serves its certificate.
    let fingerprints =
        watch_certificates(&[site.controller.port().unwrap(), second.port().unwrap()]);
    annotate(&site, "key-0", json!({ RENEW_ANNOTATION: "true" })).await;
    let new = until("a new key exists", async || {
        site.key_names()
            .await
            .into_iter()
            .find(|name| name != "key-0")
    })
    .await;
    until("an event reports the key", async || {
        let events = site
            .namespace
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .unwrap();
        let is_report = |event: &Event| {
            event.reason.as_deref() == Some("WaitsForBackup")
                && event.involved_object.name.as_deref() == Some(&new)
        };
        events.items.iter().any(is_report).then_some(())
    })
    .await;
    until("a metric reports the key", async || {
        let scrape = Scrape::read(&site.controller.scrape().await);
        let held_back = scrape.value(
            "sealed_secrets_controller_keys_held_back",
            &[("reason", "not_backed_up")],
        );
        (held_back >= Some(1.0)).then_some(())
    })
    .await;
    let list = site.run_successfully(&["keys", "list"]);
    let line = list.lines().find(|line| line.starts_with(&new)).unwrap();
    assert!(line.contains("waiting") && line.contains("never"), "{list}");
    let site = site.restart(&ARGS).await;
    assert_eq!(site.served_key().await, Ok(own_key.clone()));
    let third = site.start_second(&ARGS).await;
    assert_eq!(
        served_key_at(third.port().unwrap()).await,
        Ok(own_key.clone())
    );
    assert_eq!(
        *fingerprints.lock().unwrap(),
        BTreeSet::from([own_key.to_string()])
    );

    site.run_successfully(&["keys", "backup", "two.age", "-r", &recipient]);
    let new_fingerprint = until("the new key is served", async || {
        site.served_key()
            .await
            .ok()
            .filter(|served| *served != own_key)
    })
    .await;
    // A compromised key never seals, backed up or not.
    let report = site.run_successfully(&[
        "keys",
        "compromise",
        &new_fingerprint.to_string(),
        "--only-namespace",
        site.namespace.name(),
    ]);
    assert!(report.contains(&new), "{report}");
    site.wait_until_served(&own_key).await;
}
