//! Tests the messages about wrong input.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tests::sealing::KEYS;

use super::{Form, certificate_of};

/// Presses the button that seals. Returns the identifiers of the messages without their digits, and their texts.
fn problems(form: &Form) -> Vec<(String, String)> {
    let outcome = form.seal();
    assert_eq!(outcome.output, None, "nothing is sealed");
    let errors = outcome.errors.into_iter();
    errors
        .map(|(id, text)| (id.replace(|c: char| c.is_ascii_digit(), ""), text))
        .collect()
}

#[test]
fn names_the_field_of_each_wrong_input() {
    let form = Form::open(Some(&certificate_of(&KEYS[0])));
    let empty: Vec<String> = problems(&form).into_iter().map(|(id, _)| id).collect();
    assert_eq!(
        empty,
        [
            "namespace-error",
            "name-error",
            "item--key-note-",
            "item--text-note-"
        ]
    );
    assert_eq!(
        form.value("document.activeElement.id"),
        "namespace",
        "the first wrong field is focused"
    );

    for (field, value, id, want) in [
        ("namespace", "Shop", "namespace-error", "lowercase"),
        ("namespace", "a.b", "namespace-error", "63 lowercase"),
        ("namespace", "-a", "namespace-error", "both ends"),
        ("name", "a/b", "name-error", "253 lowercase"),
        ("name", "a..b", "name-error", "each part"),
        ("name", &"a".repeat(254), "name-error", "253"),
    ] {
        form.fill("password", "hunter2");
        form.set(field, value);
        assert_problem(&form, value, id, want);
    }
    for (key, want) in [
        ("a b", "letters, digits"),
        ("..a", "letters, digits"),
        ("", "Enter the name"),
    ] {
        form.fill(key, "hunter2");
        assert_problem(&form, key, "item--key-note-", want);
    }
    form.fill("a", "1");
    form.set_item(1, "key", "a");
    form.set_item(1, "text", "2");
    assert_problem(&form, "repeated", "item--key-note-", "Another item");
}

#[track_caller]
fn assert_problem(form: &Form, case: &str, id: &str, want: &str) {
    let problems = problems(form);
    assert_eq!(problems.len(), 1, "{case}: {problems:?}");
    assert_eq!(problems[0].0, id, "{case}");
    assert!(problems[0].1.contains(want), "{case}: {problems:?}");
    let status = form.value("$('status').textContent");
    assert_eq!(status, "Nothing was sealed: 1 field needs attention.");
}

#[test]
fn checks_values_by_the_type_and_size_of_the_secret() {
    let form = Form::open(Some(&certificate_of(&KEYS[0])));
    form.fill("data", "x");
    let large = STANDARD.encode(vec![0; 1024 * 1024 + 1]);
    form.set_file(0, "large", &large);
    assert_problem(&form, "a large file", "item--file-note-", "1 MiB");
    form.set_item(0, "source", "file");
    assert_problem(&form, "no file", "item--file-note-", "Choose a file");
    form.set_item(0, "source", "random");
    for length in ["", "7", "4097", "1.5"] {
        form.set_item(0, "length", length);
        assert_problem(&form, length, "item--length-note-", "8 to 4096");
    }

    let half = STANDARD.encode(vec![0; 600 * 1024]);
    form.set_file(0, "half", &half);
    form.set_item(1, "key", "other");
    form.set_file(1, "half", &half);
    assert_problem(&form, "large together", "items-error", "1 MiB");

    form.browser.call("async () => clearForm()", &[]);
    form.set("namespace", "shop");
    form.set("name", "db");
    form.set("type", "kubernetes.io/tls");
    form.set_item(0, "text", "-----BEGIN PRIVATE KEY-----");
    form.set_item(1, "text", "-----BEGIN CERTIFICATE-----");
    let swapped = problems(&form);
    assert_eq!(swapped.len(), 2, "{swapped:?}");
    assert!(
        swapped[0].1.contains("not a certificate") && swapped[1].1.contains("not a private key")
    );

    form.set("type", "kubernetes.io/dockerconfigjson");
    form.browser
        .call("async () => allItems().forEach(clearItem)", &[]);
    form.browser.call("async () => updateRequired()", &[]);
    for value in ["[]", "{", "null", "hunter2"] {
        form.set_item(0, "text", value);
        assert_problem(&form, value, "item--text-note-", "not a JSON object");
    }
}

#[test]
fn each_type_adds_its_items_and_keeps_other_filled_items() {
    let form = Form::open(Some(&certificate_of(&KEYS[0])));
    let keys = || {
        form.value(
            "allItems().map(item => [control(item, 'key').value, control(item, 'key').readOnly])",
        )
    };
    for (type_, want) in [
        (
            "kubernetes.io/tls",
            serde_json::json!([["tls.crt", true], ["tls.key", true]]),
        ),
        (
            "kubernetes.io/basic-auth",
            serde_json::json!([["username", true], ["password", true]]),
        ),
        (
            "kubernetes.io/ssh-auth",
            serde_json::json!([["ssh-privatekey", true]]),
        ),
        (
            "kubernetes.io/dockerconfigjson",
            serde_json::json!([[".dockerconfigjson", true]]),
        ),
        ("Opaque", serde_json::json!([["", false]])),
    ] {
        form.set("type", type_);
        assert_eq!(keys(), want);
    }
    form.set_item(0, "key", "note");
    form.set_item(0, "text", "x");
    form.set("type", "kubernetes.io/basic-auth");
    assert_eq!(
        keys(),
        serde_json::json!([["note", false], ["username", true], ["password", true]])
    );
    form.set("namespace", "shop");
    form.set("name", "db");
    form.set_item(2, "text", "p");
    form.browser.call(
        "async () => allItems()[1].querySelector('.remove').click()",
        &[],
    );
    let sealed = super::object(&form.sealed());
    let items: Vec<_> = sealed.spec.encrypted_data.keys().collect();
    assert_eq!(
        items,
        ["note", "password"],
        "one of the two items is enough"
    );
}
