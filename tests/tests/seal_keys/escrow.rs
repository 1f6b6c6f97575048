//! With `--require-backup` the controller serves no certificate whose key is not backed up.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use serde_json::{Value, json};
use shared::resource::{BACKED_UP_ANNOTATION, RENEW_ANNOTATION};
use tests::patience::until;
use tests::scrape::Scrape;
use tests::sealing::KEYS;

use crate::site::{Site, served_at};

const WORDS: [&str; 2] = ["--require-backup", "--key-renew-period=0"];

async fn annotate(site: &Site<'_>, key: &str, annotations: Value) {
    let patch = kube::api::Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
    site.secrets()
        .patch(key, &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// Collects the fingerprints of everything that controllers serve from now on.
fn watch(ports: &[u16]) -> Arc<Mutex<BTreeSet<String>>> {
    let seen: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    for port in ports.iter().copied() {
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                if let Ok(served) = served_at(port).await {
                    seen.lock().unwrap().insert(served.to_string());
                }
                tokio::task::yield_now().await;
            }
        });
    }
    seen
}

/// Attack: loses a key before it was backed up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_seals_only_once_it_is_backed_up() {
    let site = Site::new("escrow", &KEYS[..1], &WORDS).await;
    let own = KEYS[0].pair.fingerprint().clone();

    // Nothing is backed up: no certificate, with the reason, also after a restart.
    let refused = site.served().await.unwrap_err();
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("no key is backed up"), "{refused}");
    let site = site.restart(&WORDS).await;
    assert!(
        site.served()
            .await
            .unwrap_err()
            .starts_with("HTTP/1.1 503 ")
    );
    // Sealed values are still unsealed.
    site.create(&site.sealed(&KEYS[0], "db")).await;
    site.holds("db").await;
    // A mark for another key has no effect.
    let foreign = format!("{} 2026-01-01T00:00:00Z", KEYS[1].pair.fingerprint());
    annotate(&site, "key-0", json!({ BACKED_UP_ANNOTATION: foreign })).await;

    let recipient = site.identity();
    let args = ["keys", "backup", "one.age", "-r", &recipient];
    let second = site.second(&WORDS).await;
    assert!(served_at(second.port().unwrap()).await.is_err());
    site.done(&args);
    site.serves(&own).await;

    // A renewal: requested, generated, announced, and served by no replica.
    let seen = watch(&[site.controller.port().unwrap(), second.port().unwrap()]);
    annotate(&site, "key-0", json!({ RENEW_ANNOTATION: "true" })).await;
    let new = until("there is a new key", async || {
        site.keys().await.into_iter().find(|name| name != "key-0")
    })
    .await;
    until("the event says so", async || {
        let events = site
            .namespace
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .unwrap();
        let is_it = |event: &Event| {
            event.reason.as_deref() == Some("WaitsForBackup")
                && event.involved_object.name.as_deref() == Some(&new)
        };
        events.items.iter().any(is_it).then_some(())
    })
    .await;
    until("the metric says so", async || {
        let scrape = Scrape::read(&site.controller.scrape().await);
        let held = scrape.value(
            "sealed_secrets_controller_keys_held_back",
            &[("reason", "not_backed_up")],
        );
        (held >= Some(1.0)).then_some(())
    })
    .await;
    let listed = site.done(&["keys", "list"]);
    let line = listed.lines().find(|line| line.starts_with(&new)).unwrap();
    assert!(
        line.contains("waiting") && line.contains("never"),
        "{listed}"
    );
    let site = site.restart(&WORDS).await;
    assert_eq!(site.served().await, Ok(own.clone()));
    let third = site.second(&WORDS).await;
    assert_eq!(served_at(third.port().unwrap()).await, Ok(own.clone()));
    assert_eq!(*seen.lock().unwrap(), BTreeSet::from([own.to_string()]));

    site.done(&["keys", "backup", "two.age", "-r", &recipient]);
    let until_new = until("the new key is served", async || {
        site.served().await.ok().filter(|served| *served != own)
    })
    .await;
    // A compromised key never seals, backed up or not.
    let report = site.done(&[
        "keys",
        "compromise",
        &until_new.to_string(),
        "--only-namespace",
        site.namespace.name(),
    ]);
    assert!(report.contains(&new), "{report}");
    site.serves(&own).await;
}
