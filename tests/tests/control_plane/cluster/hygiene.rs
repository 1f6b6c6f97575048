//! Tests that plaintext values appear only in the Secret.

use kube::api::ListParams;
use serde_json::json;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tests::memory;
use tests::patience::until;
use tests::sealing::{KEYS, sealed_for};

use super::case::Case;
use shared::scope::Scope;

const CANARY: &str = "canary-5f1c9e";

/// Attack: a reader searches the log at the most verbose level, the metrics, and every event and status for a known
/// value.
#[tokio::test]
async fn a_value_reaches_no_log_event_or_status() {
    let case = Case::new("canary").await;
    let namespace = case.namespace.name().to_owned();
    case.seal("good", &[("a", CANARY)]).await;
    case.wait_until_synced("good").await;
    case.create(&sealed_for(
        &KEYS[1],
        &namespace,
        "other-key",
        &[("a", CANARY)],
        Scope::Strict,
    ))
    .await;
    case.wait_for_failure("other-key").await;
    let mut template = case.sealed_secret("template", &[("a", CANARY)]);
    template.spec.template.data = Some([("t".to_owned(), Some("{{ fail .a }}".to_owned()))].into());
    case.create(&template).await;
    case.wait_for_failure("template").await;
    let mut typed = case.sealed_secret("typed", &[("a", CANARY)]);
    typed.spec.template.type_ = Some("kubernetes.io/dockerconfigjson".into());
    case.create(&typed).await;
    case.wait_for_failure("typed").await;
    // Kubernetes quotes the first invalid character, which is part of the value.
    let text = [(
        ".dockerconfigjson".to_owned(),
        Some("{{ \"{\" }}{{ .a }}".to_owned()),
    )];
    let mut failing = case.sealed_secret("failing", &[("a", CANARY)]);
    failing.spec.template.type_ = typed.spec.template.type_;
    failing.spec.template.data = Some(text.into());
    case.create(&failing).await;
    let message = case.wait_for_failure("failing").await;
    assert!(
        message.starts_with("the values do not form a valid Secret: "),
        "{message}"
    );
    case.patch_secret("good", json!({ "stringData": { "a": "edited" } }))
        .await;
    case.wait_for_event("good", "DriftCorrected").await;
    case.wait_for_values("good", &[("a", CANARY)]).await;
    let statuses: Vec<_> = case
        .sealed_secrets()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    let statuses = statuses.iter().map(|sealed| json!(sealed.status));
    let statuses_and_events =
        json!([statuses.collect::<Vec<_>>(), case.events().await]).to_string();
    for (location, text) in [
        ("log", case.controller.log()),
        ("metrics", case.controller.scrape().await),
        ("events or statuses", statuses_and_events),
    ] {
        assert!(
            !text.is_empty() && !text.contains(CANARY),
            "the canary is in the {location}: {text}"
        );
        assert!(!text.contains("invalid character"), "{text}");
        // This is `canary` in base64.
        assert!(
            !text.contains("Y2FuYXJ5"),
            "the canary is in the {location} in base64: {text}"
        );
    }
}

/// Attack: a client fills the cluster with Secrets to exhaust the controller's memory.
#[tokio::test]
async fn c25_the_values_of_other_secrets_are_never_fetched() {
    const MEGABYTE: usize = 1 << 20;
    let case = Case::new("memory").await;
    case.wait_until_idle("memory").await;
    let before = case.controller.memory();
    let value = "x".repeat(MEGABYTE - 4096);
    for i in 0..48 {
        let secret =
            json!({ "metadata": { "name": format!("big-{i}") }, "stringData": { "a": value } });
        case.create_secret(secret).await;
    }
    let case = case.restart(&[]).await;
    case.wait_until_idle("memory-2").await;
    let after = case.controller.memory();
    assert!(
        after < before + 24 * MEGABYTE,
        "{before} bytes before, {after} with 48 MB of other Secrets"
    );
}

/// Attack: an attacker reads the memory of the running controller and searches it for values and keys.
///
/// The loaded key necessarily remains, in the form in which aws-lc computes with it. The search includes the stack,
/// where a value remains until later calls overwrite it, so the test repeats the search.
#[tokio::test]
async fn an_idle_controller_keeps_no_value_and_no_encoded_key_in_memory() {
    const VALUE: &str = "a unique value: 0d6f2b7e-71c5";
    let case = Case::new("memory-hygiene").await;
    case.seal("plain", &[("a", VALUE)]).await;
    case.wait_until_synced("plain").await;
    case.patch_secret("plain", json!({ "stringData": { "a": "edited" } }))
        .await;
    case.wait_for_event("plain", "DriftCorrected").await;
    let namespace = &case.namespace;
    let template = [("t", "user: {{ .a | upper | lower }}\n{{ fail .a }}")];
    case.seal_with("failing", &[("a", VALUE)], &template).await;
    case.wait_for_failure("failing").await;
    let text = String::from_utf8(KEYS[0].private_pem.expose().to_vec()).unwrap();
    let key_line = text.lines().nth(10).unwrap();
    let needles = [
        ("the value", VALUE.as_bytes().to_vec()),
        ("the value in base64", STANDARD.encode(VALUE).into_bytes()),
        ("the encoded key", key_line.as_bytes().to_vec()),
        ("public text", namespace.name().as_bytes().to_vec()),
    ];
    until(
        "no value and no encoded key is left in memory",
        async || {
            let name = format!("rest-{}", shared::random::number::<u32>());
            case.wait_until_idle(&name).await;
            let found_needles = memory::needles_in_memory(case.controller.id(), &needles);
            (found_needles == ["public text"]).then_some(())
        },
    )
    .await;
}
