//! Tests that both implementations unseal what the page seals.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use shared::envelope;
use shared::scope::Scope;
use tests::sealing::KEYS;
use tests::upstream::{Format, Upstream};

use super::{Form, certificate_of, object, private_pem, unsealed};

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";

/// A type of Secret, with its items.
type TypeWithItems = (&'static str, &'static [(&'static str, &'static str)]);

const TYPES: [TypeWithItems; 5] = [
    (
        "Opaque",
        &[("password", "s3cr\u{e9}t"), ("A_b-c.d", " x\ny\n")],
    ),
    (
        "kubernetes.io/tls",
        &[("tls.crt", CERTIFICATE), ("tls.key", PRIVATE_KEY)],
    ),
    (
        "kubernetes.io/dockerconfigjson",
        &[(".dockerconfigjson", "{\"auths\":{}}")],
    ),
    (
        "kubernetes.io/basic-auth",
        &[("username", "ann"), ("password", "p")],
    ),
    ("kubernetes.io/ssh-auth", &[("ssh-privatekey", PRIVATE_KEY)]),
];

const FORMATS: [Format; 2] = [Format::Yaml, Format::Json];

/// Tests six cases that together contain each type, and each scope in each format.
#[test]
fn every_type_scope_and_format_opens_with_both_implementations() {
    let cases = (0..6).map(|i| (Scope::ALL[i % 3], TYPES[i % 5], FORMATS[i % 2]));
    check_cases(cases);
}

#[test]
#[ignore = "six of the 30 cases contain each type, scope and format; `.ci/extra browser` runs all"]
fn each_type_in_each_scope_opens_with_both_implementations() {
    let cases = Scope::ALL
        .into_iter()
        .flat_map(|scope| TYPES.map(|type_| (scope, type_)))
        .flat_map(|(scope, type_)| FORMATS.map(|format| (scope, type_, format)));
    check_cases(cases);
}

/// Seals a Secret for each case, and checks that both implementations unseal it.
fn check_cases(cases: impl Iterator<Item = (Scope, TypeWithItems, Format)>) {
    let upstream = Upstream::start().unwrap();
    let form = Form::open(Some(&certificate_of(&KEYS[0])));
    for (scope, (type_, items), format) in cases {
        let text = seal(&form, scope, type_, items, format);
        let case = format!("{scope}, {type_}: {text}");
        check_object(&text, scope, type_, items);
        let secret = upstream.unseal(&[private_pem()], text.as_bytes(), Format::Json);
        let secret: Value = serde_json::from_slice(&secret.expect(&case)).unwrap();
        assert_eq!(secret["type"], type_, "{case}");
        assert_eq!(secret["metadata"]["namespace"], "shop", "{case}");
        let data = items
            .iter()
            .map(|(key, value)| (*key, STANDARD.encode(value)));
        assert_eq!(
            secret["data"],
            json!(data.collect::<BTreeMap<_, _>>()),
            "{case}"
        );
    }
}

fn seal(form: &Form, scope: Scope, type_: &str, items: &[(&str, &str)], format: Format) -> String {
    form.browser.call("async () => clearForm()", &[]);
    form.set("namespace", "shop");
    form.set("name", "db");
    form.choose("scope", &scope.to_string());
    form.set("type", type_);
    for (i, (key, value)) in items.iter().enumerate() {
        form.set_item(i, "key", key);
        form.set_item(i, "text", value);
    }
    form.sealed();
    form.choose(
        "format",
        if format == Format::Yaml {
            "yaml"
        } else {
            "json"
        },
    );
    form.value("$('output').value").as_str().unwrap().to_owned()
}

/// Checks scope, type, hints and values of an object.
fn check_object(text: &str, scope: Scope, type_: &str, items: &[(&str, &str)]) {
    let sealed = object(text);
    let annotations = sealed.metadata.annotations.as_ref();
    assert_eq!(Scope::from_annotations(annotations), scope, "{text}");
    assert_eq!(sealed.spec.template.type_.as_deref(), Some(type_), "{text}");
    let hints = shared::hints::read(annotations);
    let fingerprint = KEYS[0].pair.certificate().fingerprint();
    assert!(hints.values().all(|hint| hint == fingerprint), "{text}");
    assert_eq!(hints.len(), items.len(), "{text}");
    let want = items
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
    assert_eq!(
        unsealed(&sealed),
        want.collect::<BTreeMap<_, _>>(),
        "{text}"
    );
}

/// Attack: an author copies a value that the page sealed to an object of another name, namespace or scope.
#[test]
fn a_single_value_opens_only_for_its_scope_name_and_namespace() {
    let upstream = Upstream::start().unwrap();
    let form = Form::open(Some(&certificate_of(&KEYS[0])));
    form.choose("purpose", "raw");
    for scope in Scope::ALL {
        form.choose("scope", &scope.to_string());
        form.set("namespace", "shop");
        form.set("name", "db");
        form.set_item(0, "text", "hunter2");
        let sealed = STANDARD.decode(form.sealed().trim_end()).unwrap();
        for other_scope in Scope::ALL {
            for (namespace, name) in [("shop", "db"), ("shop", "web"), ("ops", "db")] {
                let label = other_scope.label(namespace, name);
                let may_open = label == scope.label("shop", "db");
                let own_result = envelope::open(KEYS[0].pair.private(), &label, &sealed);
                let upstream_result =
                    upstream.open_value(&[private_pem()], label.as_bytes(), &sealed);
                let case = format!("{scope} as {other_scope} of {namespace}/{name}");
                let opened = (own_result.is_ok(), upstream_result.is_ok());
                assert_eq!(opened, (may_open, may_open), "{case}");
            }
        }
    }
}

#[test]
fn seals_files_byte_for_byte_and_random_values_of_their_alphabet() {
    let form = Form::open(Some(&certificate_of(&KEYS[0])));
    form.set("namespace", "shop");
    form.set("name", "db");
    let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    form.set_file(0, "data.bin", &STANDARD.encode(&bytes));
    form.set_item(1, "key", "hex");
    form.set_item(1, "source", "random");
    form.set_item(1, "length", "4096");
    form.set_item(1, "alphabet", "hex");
    form.set_item(2, "key", "password");
    form.set_item(2, "source", "random");
    form.set_item(2, "alphabet", "symbols");
    let values = unsealed(&object(&form.sealed()));
    assert_eq!(
        values["data.bin"], bytes,
        "the item has the name of the file"
    );
    assert_eq!(values["hex"].len(), 4096);
    for digit in b"0123456789abcdef" {
        let count = memchr::memchr_iter(*digit, &values["hex"]).count();
        assert!((150..370).contains(&count), "{digit} occurs {count} times");
    }
    assert_eq!(values["password"].len(), 32);
    assert!(values["password"].iter().all(u8::is_ascii_graphic));

    form.set_file(0, "data.bin", &STANDARD.encode("x"));
    let again = unsealed(&object(&form.sealed()));
    assert_ne!(again["password"], values["password"]);
    assert_eq!(again["data.bin"], b"x");
}
