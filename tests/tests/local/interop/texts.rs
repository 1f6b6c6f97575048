//! Tests that both implementations read the same values from the same YAML and JSON, and write the same output.

use proptest::prelude::*;
use serde_json::{Value, json};
use shared::manifest::{self, ReadProblem, Reading, Shape, to_json, to_yaml};
use tests::upstream::{Format, Kind, UpstreamError};

use super::{
    UPSTREAM,
    strategies::{YAML_1_1_BREAKS, document, sealed_secret, sealed_secret_with_old_breaks},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn go_reads_yaml_written_by_shared(value in document()) {
        let text = to_yaml(&value);
        prop_assert_eq!(UPSTREAM.parse(text.as_bytes()).unwrap(), value, "{}", text);
    }

    #[test]
    fn shared_reads_its_own_yaml(value in document()) {
        let text = to_yaml(&value);
        prop_assert_eq!(read_value(&text), value, "{}", text);
    }

    #[test]
    fn both_implementations_read_json_written_by_shared(value in document()) {
        let text = to_json(&value);
        prop_assert_eq!(&UPSTREAM.parse(text.as_bytes()).unwrap(), &value, "Go: {}", text);
        prop_assert_eq!(read_value(&text), value, "shared: {}", text);
    }

    #[test]
    fn shared_writes_an_object_byte_for_byte_as_go_does(object in sealed_secret()) {
        let json = UPSTREAM.encode(Kind::SealedSecret, &object, Format::Json).unwrap();
        prop_assert_eq!(to_json(&object), String::from_utf8(json).unwrap() + "\n");
        let yaml = go_yaml(&object);
        prop_assume!(yaml.is_some());
        prop_assert_eq!(to_yaml(&object), yaml.unwrap());
    }

    #[test]
    fn shared_reads_gos_yaml_as_go_does(object in sealed_secret()) {
        let yaml = go_yaml(&object);
        prop_assume!(yaml.is_some());
        let yaml = yaml.unwrap();
        prop_assert_eq!(read_value(&yaml), UPSTREAM.parse(yaml.as_bytes()).unwrap(), "{}", yaml);
    }

    /// Go writes line breaks of YAML 1.1 unescaped.
    #[test]
    fn shared_reads_old_line_breaks_as_go_does_or_refuses_them(object in sealed_secret_with_old_breaks()) {
        let yaml = go_yaml(&object);
        prop_assume!(yaml.is_some());
        let yaml = yaml.unwrap();
        if let Err(error) = manifest::read(yaml.as_bytes()) {
            prop_assert!(matches!(error.problem, ReadProblem::LineBreak(_)), "{}: {}", error, yaml);
        } else {
            prop_assert_eq!(read_value(&yaml), UPSTREAM.parse(yaml.as_bytes()).unwrap(), "{}", yaml);
        }
    }

    /// Attack: an author hides content behind a line break of YAML 1.1.
    #[test]
    fn shared_reads_hostile_line_breaks_as_go_does_or_refuses_the_text(
        text in "(a: |b: )[ab:#\u{85}\u{2028}\u{2029} \"'|>\\-\n]{1,16}(\nc: d\n)?"
    ) {
        let Ok(documents) = manifest::read(text.as_bytes()) else {
            return Ok(());
        };
        let go_value = UPSTREAM.parse(text.as_bytes());
        let (1, Ok(go_value), true) = (documents.len(), go_value, text.contains(YAML_1_1_BREAKS)) else {
            return Ok(());
        };
        prop_assert_eq!(read_value(&text), go_value, "{:?}", text);
    }
}

/// Tests strings that the two implementations wrote differently in earlier versions.
#[test]
fn shared_writes_strings_as_go_does() {
    let long_text = "a bb ".repeat(40);
    let leading_blank = format!(" {long_text}");
    for text in [
        &leading_blank,
        long_text.as_str(),
        long_text.trim(),
        "2724-71-72",
        "2024-02-30",
        ".0_0",
    ] {
        let key = "a-key-that-leaves-little-room/for-its-value-in-the-line-that-it-begins-with";
        let object = json!({
            "kind": "SealedSecret",
            "apiVersion": "bitnami.com/v1alpha1",
            "metadata": {"name": "app", "namespace": "ns"},
            "spec": {"template": {"metadata": {"annotations": {key: text}}}, "encryptedData": {}},
        });
        assert_eq!(to_yaml(&object), go_yaml(&object).unwrap(), "{text:?}");
    }
}

/// Returns Go's YAML, or `None` for strings with control characters that Go cannot write as YAML: Go parses its
/// own JSON as YAML, in which these characters are invalid.
fn go_yaml(object: &Value) -> Option<String> {
    match UPSTREAM.encode(Kind::SealedSecret, object, Format::Yaml) {
        Ok(yaml) => Some(String::from_utf8(yaml).unwrap()),
        Err(UpstreamError::Refused(reason)) if reason.contains("control characters") => None,
        Err(error) => panic!("{error}"),
    }
}

fn read_value(text: &str) -> Value {
    let documents = manifest::read(text.as_bytes()).unwrap();
    Reading::default()
        .json(&documents[0].root, Shape::Any)
        .unwrap()
}
