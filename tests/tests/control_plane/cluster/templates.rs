//! Tests templates in `spec.template.data`.

use serde_json::json;

use super::case::Case;

#[tokio::test]
async fn renders_templates_and_keeps_the_old_secret_when_one_fails() {
    let case = Case::new("template").await;
    case.seal_with("db", &[("a", "1")], &[("url", "db://{{ .a }}/x")])
        .await;
    let good = [("a", "1"), ("url", "db://1/x")];
    case.wait_for_values("db", &good).await;
    case.wait_until_synced("db").await;
    let failing = json!({ "spec": { "template": { "data": { "url": "x\n{{ fail .a }}" } } } });
    case.patch("db", failing).await;
    let message = case.wait_for_failure("db").await;
    let location = "template \"url\", line 2, column 4, function fail: ";
    assert!(message.contains(location), "{message}");
    case.wait_for_values("db", &good).await;
    let items = case.sealed_secrets().get("db").await.unwrap();
    let items = items.status.unwrap().items;
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].key, "url");
}

/// Attack: an author makes a template fail with the value as the message, and reads status, events and logs.
#[tokio::test]
async fn s2_a_template_error_does_not_reveal_the_value() {
    let case = Case::new("failing-template").await;
    case.seal_with(
        "db",
        &[("password", "hunter2")],
        &[
            ("t", "{{ fail .password }}"),
            ("u", "{{ atoi .password | fail }}"),
        ],
    )
    .await;
    let message = case.wait_for_failure("db").await;
    assert!(message.contains("template \"t\""), "{message}");
    let event = case.wait_for_event("db", "ErrUnsealFailed").await;
    let object = case.sealed_secrets().get("db").await.unwrap();
    for text in [
        serde_json::to_string(&object.status).unwrap(),
        serde_json::to_string(&event).unwrap(),
        case.controller.log(),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn c18_random_results_survive_restarts_and_corrections() {
    let case = Case::new("random").await;
    let templates = [("id", "{{ uuidv4 }}"), ("created", "{{ now | unixEpoch }}")];
    case.seal_with("db", &[("a", "1")], &templates).await;
    case.wait_until_synced("db").await;
    let before = case.secret("db").await.unwrap();
    let case = case.restart(&[]).await;
    case.wait_until_idle("random").await;
    assert_eq!(case.secret("db").await.unwrap(), before);
    case.patch_secret("db", json!({ "data": { "a": null } }))
        .await;
    case.wait_for_event("db", "DriftCorrected").await;
    assert_eq!(case.secret("db").await.unwrap().data, before.data);
    // An edited random value is generated again, and the other random value stays.
    case.patch_secret("db", json!({ "stringData": { "id": "edited" } }))
        .await;
    tests::patience::until("the value is generated again", async || {
        let mut values = case.secret("db").await?.data?;
        let id = values.remove("id")?;
        let mut others = before.data.clone()?;
        others.remove("id")?;
        (id.0.len() == 36 && values == others).then_some(())
    })
    .await;
    // A deleted Secret is lost: its random values cannot be recovered.
    case.delete_secret("db").await;
    let recreated =
        tests::patience::until("the Secret is recreated", async || case.secret("db").await).await;
    assert_ne!(recreated.data, before.data);
}

#[tokio::test]
async fn refuses_random_templates_if_the_flag_is_set() {
    let case = Case::with_args("no-random", &["--refuse-random-templates"]).await;
    case.seal_with("db", &[("a", "1")], &[("t", "{{ uuidv4 }}")])
        .await;
    let message = case.wait_for_failure("db").await;
    assert!(message.contains("--refuse-random-templates"), "{message}");
    assert!(case.secret("db").await.is_none());
}

/// Attack: an author applies an object whose template never ends, to delay a victim's object.
#[tokio::test]
async fn s3_an_object_whose_template_never_ends_does_not_stall_its_neighbors() {
    let case = Case::new("endless").await;
    let endless =
        "{{ range until 100000 }}{{ range until 100000 }}{{ sha256sum \"x\" }}{{ end }}{{ end }}";
    for i in 0..4 {
        case.seal_with(&format!("endless-{i}"), &[("a", "1")], &[("t", endless)])
            .await;
    }
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    let message = case.wait_for_failure("endless-0").await;
    assert!(message.contains("template \"t\", "), "{message}");
}

/// Attack: an author applies objects with tens of thousands of small templates, to delay a victim's object and to fill
/// the memory with syntax trees.
#[tokio::test]
async fn objects_with_thousands_of_templates_are_refused_and_do_not_stall_their_neighbors() {
    let case = Case::new("many-templates").await;
    let names: Vec<String> = (0..15_000).map(|i| format!("t{i}")).collect();
    let templates: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "{{ .a }}")).collect();
    for i in 0..4 {
        case.seal_with(&format!("many-{i}"), &[("a", "1")], &templates)
            .await;
    }
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    let message = case.wait_for_failure("many-0").await;
    assert!(message.contains("more than 30000 tokens"), "{message}");

    case.seal_with("fewer", &[("a", "1")], &templates[..4_000])
        .await;
    case.wait_until_synced("fewer").await;
}
