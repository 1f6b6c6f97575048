//! Tests that an editor of a SealedSecret, who can seal a guess of a value, does not learn whether the guess is right.

use kube::ResourceExt as _;
use serde_json::{Value, json};
use shared::resource::SealedSecret;
use tests::patience::until;

use super::case::Case;

/// Returns the events and the status of an object, which an editor without permissions on Secrets sees. Omits times,
/// and the fields that differ for each object or version.
pub(super) async fn visible_state(case: &Case, object: &SealedSecret) -> Value {
    let events = case.events().await;
    let events = events
        .iter()
        .filter(|event| event.involved_object.name == object.metadata.name);
    let reported_events: Vec<Value> = events
        .map(|event| json!([event.reason, event.message, event.count]))
        .collect();
    let mut status = json!(object.status);
    for condition in status["conditions"].as_array_mut().unwrap() {
        condition["lastUpdateTime"] = Value::Null;
        condition["lastTransitionTime"] = Value::Null;
    }
    let record = status["record"].as_object_mut().unwrap();
    for field in ["secretUid", "secretVersion", "content", "proof"] {
        record.remove(field);
    }
    // A value that is sealed again has a new content version, even if it is the same value.
    for version in status["versions"].as_array_mut().unwrap() {
        version["version"] = Value::Null;
        version["time"] = Value::Null;
    }
    json!([reported_events, status])
}

/// Attack: an editor of a SealedSecret seals guesses of a value, and watches statuses, events and revisions
/// for the guess that changes nothing.
#[tokio::test]
async fn a_right_guess_is_indistinguishable_from_a_wrong_one() {
    let case = Case::new("guesses").await;
    let mut states = Vec::new();
    for (name, guess) in [("right", "4711"), ("wrong", "4712")] {
        case.seal(name, &[("pin", "4711")]).await;
        case.wait_until_synced(name).await;
        let secret = case.secret(name).await.unwrap();
        let before = case.sealed_secrets().get(name).await.unwrap();
        let guess = case.sealed_secret(name, &[("pin", guess)]);
        case.patch(
            name,
            json!({ "spec": { "encryptedData": guess.spec.encrypted_data } }),
        )
        .await;
        case.wait_until_synced(name).await;
        case.wait_until_idle(name).await;
        let updated_secret = case.secret(name).await.unwrap();
        assert_ne!(
            updated_secret.resource_version(),
            secret.resource_version(),
            "{name}: each edit of a SealedSecret writes its Secret"
        );
        until("the event of the second version exists", async || {
            let events = case.events().await;
            let own_events = events
                .iter()
                .filter(|event| event.involved_object.name.as_deref() == Some(name));
            (own_events
                .map(|event| event.count.unwrap_or(1))
                .sum::<i32>()
                >= 2)
                .then_some(())
        })
        .await;
        let after = case.sealed_secrets().get(name).await.unwrap();
        let (old, new) = (
            json!(before.status.as_ref().unwrap().record),
            json!(after.status.as_ref().unwrap().record),
        );
        for digest in ["secretVersion", "content", "proof"] {
            assert_ne!(old[digest], new[digest], "{name}: {digest}");
        }
        assert_ne!(
            new["secretVersion"],
            json!(updated_secret.resource_version())
        );
        states.push(visible_state(&case, &after).await);
    }
    assert_eq!(states[0], states[1]);
    // Once the Secret is up to date, nothing is written, even by a restarted controller.
    let before = case.secret("right").await.unwrap();
    let case = case.restart(&[]).await;
    case.wait_until_idle("restart").await;
    assert_eq!(case.secret("right").await.unwrap(), before);
}

/// Attack: an author adds a template for each possible byte; the template whose number equals the first byte
/// of the value fails.
#[tokio::test]
async fn no_edit_reveals_a_value_byte_by_byte() {
    let case = Case::new("spelling").await;
    let texts: Vec<(String, String)> = (0..=255)
        .map(|byte| {
            let text = format!(
                "{{{{ if eq (index (index . \"password\") 0 | int) {byte} }}}}{{{{ fail \"\" }}}}{{{{ end }}}}"
            );
            (format!("x{byte:03}"), text)
        })
        .collect();
    let texts: Vec<(&str, &str)> = texts
        .iter()
        .map(|(key, text)| (key.as_str(), text.as_str()))
        .collect();
    let mut results = Vec::new();
    for (name, value) in [("one", "hunter2"), ("two", "correct horse")] {
        case.seal_with(name, &[("password", value)], &texts).await;
        let message = case.wait_for_failure(name).await;
        let event = case.wait_for_event(name, "ErrUnsealFailed").await.message;
        let lines = tests::patience::until("the failure is logged", async || {
            let lines = errors_of(name, &case.controller.log());
            (!lines.is_empty()).then_some(lines)
        })
        .await;
        let object = case.sealed_secrets().get(name).await.unwrap();
        results.push((message, event, lines, json!(object.status.unwrap().items)));
    }
    assert_eq!(results[0], results[1]);
    assert!(!results[0].0.contains("x104"), "{}", results[0].0);
}

/// Attack: an author puts the text of a webhook's denial into an invalid label, to infer from the report whether the
/// API server also rejects a value.
#[tokio::test]
async fn a_label_with_the_text_of_a_denial_does_not_reveal_a_rejected_value() {
    let case = Case::new("denials").await;
    let mut messages = Vec::new();
    for (name, value) in [("one", "{}"), ("two", "x")] {
        let mut sealed = case.sealed_secret(name, &[(".dockerconfigjson", value)]);
        let template = &mut sealed.spec.template;
        template.type_ = Some("kubernetes.io/dockerconfigjson".into());
        template.metadata.labels = Some([("x".into(), "denied request".into())].into());
        case.create(&sealed).await;
        messages.push(case.wait_for_failure(name).await);
    }
    assert_eq!(messages[0], messages[1]);
    let want = "the Secret is invalid: metadata.labels: Invalid value: \"denied request\"";
    assert!(messages[0].contains(want), "{}", messages[0]);
}

/// Returns the errors in the log that are about an object.
fn errors_of(name: &str, log: &str) -> Vec<String> {
    let name = format!("name={name} ");
    let lines = log.lines().filter(|line| line.contains(&name));
    let errors = lines.filter_map(|line| Some(line.split_once(" error=")?.1.to_owned()));
    errors.collect()
}
