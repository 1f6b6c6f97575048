//! Generates input for the property tests in `texts`.

use proptest::{collection::btree_map, prelude::*};
use serde_json::{Value, json};

/// Line breaks of YAML 1.1 that are ordinary characters in YAML 1.2. Go writes them unescaped; `shared` escapes them,
/// so that readers of both versions agree on the text.
pub(crate) const YAML_1_1_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// Scalars that a YAML parser converts to another type, or that a writer has to quote.
const WORDS: &str = "yes no on off y n Y N true False null ~ 0 010 0x1F 0o7 0b1 1_000 1e3 1.5 .5 5. -0 +1 .inf -.Inf \
    .nan 12:30 190:20:30.15 2024-01-02 2024-01-02T03:04:05Z = << - ? : --- ... #a &a *a !a %a @a `a | > {a} [a] a,b it's \
    \"a\" \\ \\n ' ''";

/// Similar scalars with spaces, line breaks and invisible characters.
const SPACED: &[&str] = &[
    "",
    "- a",
    "? a",
    "a: b",
    "a #b",
    " a",
    "a ",
    "\ta",
    "a\t",
    "\n",
    "\na",
    "a\n",
    "a\n\n",
    " \n",
    "\n ",
    "a\n b",
    " a\nb",
    "a \nb",
    "a\r\nb",
    "\r",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{feff}",
    "\u{1f600}",
    "\u{7f}",
    "\0",
    "a\u{2028}b\nc",
];

/// Item keys that Kubernetes accepts: some that YAML parsers convert to another type, and some whose order depends on
/// the sorting rule.
const KEYS: &str = "yes no n y on off true null 0 1 9 10 010 0x1F 1_000 1e3 1.5 .5 1. -1 a1 a10 a9 a-b a.b a_b B Z - _ \
    2024-01-02 .inf";

fn one_of(words: &'static str) -> impl Strategy<Value = String> {
    prop::sample::select(words.split_whitespace().collect::<Vec<_>>()).prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => one_of(WORDS),
        2 => prop::sample::select(SPACED).prop_map(str::to_owned),
        2 => "[a-z ]{60,200}",
        2 => "[a-z\"':#\\\\ \t]{0,120}",
        2 => "[ a:#\\-\n]{0,20}",
        1 => any::<String>(),
    ]
}

/// Returns keys like those of data, labels and annotations.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => one_of(KEYS),
        2 => "[-._a-zA-Z0-9]{1,12}",
        1 => "[a-z0-9.]{1,12}/[-._a-zA-Z0-9]{1,140}",
    ]
}

/// Returns a mapping with JSON values of every type; numbers are integers.
pub(crate) fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(key(), inner, 0..4).prop_map(Value::from_iter),
        ]
    });
    value.prop_map(|value| json!({"root": value}))
}

/// Inserts hyphens before letters that follow digits, to avoid a flaw of Go's YAML writer: it compares digits as
/// numbers. With leading zeros, or letters after digits, the comparison is not transitive: 03a < 0x1 < 1 < 03a, and 59
/// < 5b < 8 < 59. Go then writes keys in an arbitrary order.
fn separate_digits(key: &str) -> String {
    let mut separated = String::new();
    for c in key.chars() {
        if c.is_ascii_alphabetic() && separated.ends_with(|last: char| last.is_ascii_digit()) {
            separated.push('-');
        }
        separated.push(c);
    }
    separated
}

/// Returns a SealedSecret with generated labels, annotations, type and items.
pub(crate) fn sealed_secret() -> impl Strategy<Value = Value> {
    let text = || text().prop_filter("no old breaks", |text| !text.contains(YAML_1_1_BREAKS));
    sealed_secret_of(text)
}

/// Like [`sealed_secret`], with many line breaks of YAML 1.1.
pub(crate) fn sealed_secret_with_old_breaks() -> impl Strategy<Value = Value> {
    sealed_secret_of(|| prop_oneof![text(), "[ab:#\u{85}\u{2028}\u{2029} \"'\n]{1,12}"])
}

fn sealed_secret_of<S: Strategy<Value = String>>(
    text: impl Fn() -> S + Copy,
) -> impl Strategy<Value = Value> {
    let key = || key().prop_map(|key| separate_digits(&key.replace('0', "7")));
    let texts = move || btree_map(key(), text(), 0..4);
    let type_ = text().prop_filter("a type", |text| !text.is_empty());
    (texts(), texts(), texts(), type_).prop_map(|(labels, annotations, items, type_)| {
        let mut metadata = json!({"name": "app", "namespace": "ns"});
        for (field, texts) in [("labels", labels), ("annotations", annotations)] {
            if !texts.is_empty() {
                metadata[field] = json!(texts);
            }
        }
        json!({
            "kind": "SealedSecret",
            "apiVersion": "bitnami.com/v1alpha1",
            "metadata": {"name": "app", "namespace": "ns"},
            "spec": {"template": {"metadata": metadata, "type": type_}, "encryptedData": items},
        })
    })
}
