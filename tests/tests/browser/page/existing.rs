//! Tests adding items to an existing SealedSecret.

use shared::scope::Scope;
use tests::sealing::{KEYS, sealed_for};
use tests::upstream::{Format, Upstream};

use super::{Form, certificate_of, object, private_pem, unsealed};

#[test]
fn adds_and_replaces_items_and_keeps_everything_else() {
    let upstream = Upstream::start().unwrap();
    let form = Form::open(Some(&certificate_of(&KEYS[0])));
    form.choose("purpose", "merge");
    for scope in Scope::ALL {
        let items = [("a", "1"), ("b", "2")];
        let existing = sealed_for(&KEYS[0], "shop", "db", &items, scope).to_document();
        let yaml = shared::manifest::to_yaml(&existing)
            .replace("spec:\n", "spec: # sealed\n\n  # values\n");
        let json = serde_json::to_string_pretty(&existing).unwrap();
        for text in [
            &yaml,
            &format!("---\n{yaml}"),
            &yaml.replace('\n', "\r\n"),
            &json,
        ] {
            form.set("existing", text);
            form.set_item(0, "key", "b");
            form.set_item(0, "text", "two");
            form.set_item(1, "key", "c");
            form.set_item(1, "text", "3");
            let merged = form.sealed();
            let values = unsealed(&object(&merged));
            let values: Vec<_> = values
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_slice()))
                .collect();
            assert_eq!(
                values,
                [("a", &b"1"[..]), ("b", &b"two"[..]), ("c", &b"3"[..])],
                "{merged}"
            );
            assert!(
                upstream
                    .unseal(&[private_pem()], merged.as_bytes(), Format::Json)
                    .is_ok(),
                "{merged}"
            );
            check_other_lines(&text.replace('\r', ""), &merged);
        }
    }
}

/// Checks that one line was added, and that no line changed except those of `b` in YAML and those of items in JSON.
fn check_other_lines(existing: &str, merged: &str) {
    let is_other =
        |line: &&str| !line.contains("b: A") && !line.contains("c: A") && !line.contains("\": \"A");
    let others = |text: &str| {
        text.lines()
            .filter(is_other)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(others(existing), others(merged));
    assert_eq!(existing.lines().count() + 1, merged.lines().count());
}

#[test]
fn updates_existing_hints_and_adds_to_empty_data() {
    let form = Form::open(Some(&certificate_of(&KEYS[0])));
    form.choose("purpose", "merge");
    let head = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nspec:\n  encryptedData:";
    let tail = "metadata:\n  annotations:\n    sealedsecrets.bitnami.com/key-hints: '{\"old\":\"SHA256:x\"}'\n  name: db\n  \
                namespace: shop\n";
    for text in [
        format!("{head} {{}}\n{tail}"),
        format!("{head}\n{tail}"),
        format!(
            "{tail}{head}\n    old: AgA=\n  template:\n    data:\n      x: |\n        {{{{ .old }}}}\n\n        y\n"
        ),
    ] {
        form.set("existing", &text);
        form.set_item(0, "key", "new");
        form.set_item(0, "text", "1");
        let merged = form.sealed();
        let sealed = object(&merged);
        assert!(
            sealed.spec.encrypted_data["new"].starts_with("AQ"),
            "{merged}"
        );
        let hints = sealed.metadata.annotations.unwrap();
        let hints = &hints[shared::resource::KEY_HINTS_ANNOTATION];
        let fingerprint = KEYS[0].pair.certificate().fingerprint();
        assert_eq!(
            hints,
            &format!("{{\"new\":\"{fingerprint}\",\"old\":\"SHA256:x\"}}")
        );
    }
}

/// Attack: an author gives a user a text that the page reads as one object and the API server as another, so that the
/// value is sealed for another name, namespace or scope, or lands in another field.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn refuses_existing_text_that_parsers_could_read_differently() {
    let form = Form::open(Some(&certificate_of(&KEYS[0])));
    form.choose("purpose", "merge");
    let good = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata:\n  name: db\n  namespace: shop\nspec:\n  \
                encryptedData:\n    a: AgA=\n";
    let json = serde_json::json!({
        "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
        "metadata": { "name": "db", "namespace": "shop" }, "spec": { "encryptedData": {} },
    })
    .to_string();
    for (why, text) in [
        ("a repeated key", good.replace("kind:", "kind: x\nkind:")),
        (
            "a repeated key in JSON",
            json.replace("\"kind\"", "\"kind\":\"x\",\"kind\""),
        ),
        (
            "an escaped repeated key in JSON",
            json.replace("\"name\"", "\"n\\u0061me\":\"x\",\"name\""),
        ),
        ("an anchor", good.replace("name: db", "name: &a db")),
        ("an alias", good.replace("name: db", "name: *a")),
        ("a tag", good.replace("name: db", "name: !!str db")),
        (
            "a merge",
            good.replace("  name: db", "  <<: {name: x}\n  name: db"),
        ),
        ("a second document", format!("{good}---\n{good}")),
        ("the end of the document", format!("{good}...\nkind: x\n")),
        ("a directive", format!("%YAML 1.1\n---\n{good}")),
        ("a tab", good.replace("  name: db", "\tname: db")),
        (
            "a continued value",
            good.replace("name: db", "name: db\n    x"),
        ),
        (
            "an open quote",
            good.replace("name: db", "name: \"db\n  \""),
        ),
        (
            "a flow mapping",
            good.replace(
                "metadata:\n  name: db\n  namespace: shop",
                "metadata: {name: db, namespace: shop}",
            ),
        ),
        (
            "annotations in a flow mapping",
            good.replace(
                "  name: db",
                "  annotations: {sealedsecrets.bitnami.com/cluster-wide: 'true'}\n  name: db",
            ),
        ),
        (
            "a scope that is not a string",
            good.replace(
                "  name: db",
                "  annotations:\n    sealedsecrets.bitnami.com/cluster-wide: true\n  name: db",
            ),
        ),
        (
            "a scope in JSON that is not a string",
            json.replace(
                "\"name\"",
                "\"annotations\":{\"sealedsecrets.bitnami.com/cluster-wide\":true},\"name\"",
            ),
        ),
        (
            "a wrong indentation",
            good.replace("  namespace", "   namespace"),
        ),
        (
            "a complex key",
            good.replace("  name: db", "  ? name\n  : db"),
        ),
        ("a number as name", good.replace("name: db", "name: 0x10")),
        ("a boolean as name", good.replace("name: db", "name: yes")),
        (
            "a line separator",
            good.replace("  name: db", "  # \u{2028}  name: x\n  name: db"),
        ),
        (
            "a next line",
            good.replace("  name: db", "  # \u{85}  name: x\n  name: db"),
        ),
        (
            "a carriage return",
            good.replace("  name: db", "  # \r  name: x\n  name: db"),
        ),
        ("a list", good.replace("  name: db", "  - name: db")),
        (
            "a quote that stays open in a list",
            good.replace("  name: db", "  x:\n  - \"\n  name: db") + "y:\n- x\n  \"\n",
        ),
        (
            "a quote that stays open after a key in a list",
            good.replace("  name: db", "  x:\n  - a: '\n  name: db") + "y:\n- '\n",
        ),
        (
            "a quote that stays open in a nested list",
            good.replace("  name: db", "  x:\n  - - \"\n  name: db") + "y:\n- \"\n",
        ),
        (
            "a quote that stays open in a flow list",
            good.replace("  name: db", "  x: [\"]\n  name: db") + "y:\n- \"]\n",
        ),
        (
            "a block that continues an item",
            good.replace("  name: db", "  x:\n  - a\n    |\n  name: db"),
        ),
        ("another kind", good.replace("SealedSecret", "Secret")),
        ("another group", good.replace("bitnami.com", "example.com")),
        ("a v2 value", good.replace("AgA=", "seal2.h.x")),
        ("a v2 lock", good.replace("a: AgA=", "/lock/x: y")),
        (
            "the deprecated form",
            good.replace("  encryptedData", "  data: x\n  encryptedData"),
        ),
        ("no data", good.replace("encryptedData", "encrypteddata")),
        ("no namespace", good.replace("  namespace: shop\n", "")),
        ("an invalid namespace", good.replace("shop", "shop/db")),
        (
            "a Secret",
            "kind: Secret\nstringData:\n  a: hunter2\n".to_owned(),
        ),
        (
            "deep nesting",
            format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100)),
        ),
    ] {
        form.set("existing", &text);
        let state = form.value("[state.existing === null, $('existing-error').textContent]");
        assert_eq!(state[0], true, "{why} is accepted: {text}");
        let message = state[1].as_str().unwrap();
        assert!(
            message.len() > 10 && !message.contains("hunter2"),
            "{why}: {message}"
        );
    }
    form.set("existing", good);
    assert_eq!(form.value("state.existing.items"), serde_json::json!(["a"]));
}

#[test]
fn reads_past_lists_whose_values_end_in_their_lines() {
    let form = Form::open(Some(&certificate_of(&KEYS[0])));
    form.choose("purpose", "merge");
    let text = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata:\n  finalizers:\n  - a/b\n  - 'x' # y\n  \
                managedFields:\n  - fieldsV1:\n      f:metadata:\n        .: {}\n    text: |\n      an open \" quote\n  \
                - - z\n  - |\n   \"\n  ownerReferences: []\n  name: db\n  namespace: shop\nspec:\n  encryptedData:\n    \
                a: AgA=\n  template:\n    metadata: {labels: x}\n";
    form.set("existing", text);
    assert_eq!(form.value("state.existing.items"), serde_json::json!(["a"]));
    form.set_item(0, "key", "b");
    form.set_item(0, "text", "1");
    let sealed = object(&form.sealed());
    assert!(sealed.spec.encrypted_data["b"].starts_with("AQ"));
}

/// Attack: an author names an item such that the page adds it to the prototype of the object, and loses its value.
#[test]
fn adds_an_item_with_the_name_of_a_prototype() {
    let form = Form::open(Some(&certificate_of(&KEYS[0])));
    form.choose("purpose", "merge");
    let existing = sealed_for(&KEYS[0], "shop", "db", &[("a", "1")], Scope::Strict).to_document();
    form.set(
        "existing",
        &serde_json::to_string_pretty(&existing).unwrap(),
    );
    form.set_item(0, "key", "__proto__");
    form.set_item(0, "text", "1");
    let sealed = object(&form.sealed());
    let items: Vec<_> = sealed.spec.encrypted_data.keys().collect();
    assert_eq!(items, ["__proto__", "a"]);
}
