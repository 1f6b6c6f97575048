//! Key hints: an annotation of the SealedSecret that names the certificate that sealed each item.
//!
//! Hints are advice, never evidence: anyone who can write the object can write any hint. A hint determines which key is
//! tried first, and informs readers; no decision may rely on it. `seal` writes hints. `kubeseal` writes none, and keeps
//! an outdated hint when it changes the item.

use std::collections::BTreeMap;

use crate::key::Fingerprint;
use crate::resource::KEY_HINTS_ANNOTATION;

/// Fingerprint of the sealing certificate, by item key.
pub type Hints = BTreeMap<String, Fingerprint>;

/// Returns the hints in annotations. Ignores entries that cannot be parsed.
pub fn read(annotations: Option<&BTreeMap<String, String>>) -> Hints {
    let text = annotations.and_then(|a| a.get(KEY_HINTS_ANNOTATION));
    text.map_or_else(Hints::new, |text| parse(text))
}

/// Parses the hints of one annotation value: a JSON object from item key to fingerprint. Ignores malformed entries, and
/// returns no hints for malformed JSON.
pub fn parse(text: &str) -> Hints {
    let entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(text).unwrap_or_default();
    let hint = |(key, value): (String, serde_json::Value)| {
        let fingerprint = value.as_str()?.parse().ok()?;
        Some((key, fingerprint))
    };
    entries.into_iter().filter_map(hint).collect()
}

/// Returns the annotation value: one line of JSON, ordered by item key.
pub fn to_text(hints: &Hints) -> String {
    let entries: BTreeMap<&String, String> =
        hints.iter().map(|(k, f)| (k, f.to_string())).collect();
    serde_json::to_string(&entries).unwrap_or_default()
}

/// Sets the annotation to exactly these hints, or removes it if there are none.
pub fn annotate(annotations: &mut BTreeMap<String, String>, hints: &Hints) {
    if hints.is_empty() {
        annotations.remove(KEY_HINTS_ANNOTATION);
    } else {
        annotations.insert(KEY_HINTS_ANNOTATION.into(), to_text(hints));
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_map;
    use proptest::prelude::any;

    use super::*;
    use crate::key::test_key;

    #[test]
    fn ignores_hints_that_cannot_be_parsed() {
        let valid = test_key().fingerprint().to_string();
        for (why, text, want) in [
            ("an empty string", String::new(), 0),
            ("no JSON", "a=b".into(), 0),
            ("a list", format!("[\"{valid}\"]"), 0),
            ("a number", "{\"a\": 1}".into(), 0),
            ("no fingerprint", "{\"a\": \"SHA256:x\"}".into(), 0),
            (
                "one of two hints",
                format!("{{\"a\":\"{valid}\",\"b\":{{}}}}"),
                1,
            ),
        ] {
            assert_eq!(parse(&text).len(), want, "{why}");
        }
    }

    #[test]
    fn removes_the_annotation_when_there_are_no_hints() {
        let mut annotations = BTreeMap::from([("other".to_owned(), "stays".to_owned())]);
        let hints = Hints::from([("a".to_owned(), test_key().fingerprint().clone())]);
        annotate(&mut annotations, &hints);
        assert_eq!(read(Some(&annotations)), hints);
        annotate(&mut annotations, &Hints::new());
        assert_eq!(annotations.len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn parses_the_hints_that_it_writes(keys in btree_map(any::<String>(), any::<bool>(), 0..5)) {
            let hints: Hints = keys.into_keys().map(|k| (k, test_key().fingerprint().clone())).collect();
            proptest::prop_assert_eq!(parse(&to_text(&hints)), hints);
        }

        #[test]
        fn never_panics(text: String) {
            let _ = parse(&text);
        }
    }
}
