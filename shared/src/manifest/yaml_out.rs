//! Writes YAML as Go's yaml.v2 does, so that files from both projects differ only in ciphertext: the same
//! order of keys, lists not indented, long strings folded at spaces, and quotes around each string that a YAML
//! 1.1 reader would interpret as something else.

use serde_json::{Map, Value as Json};

use super::yaml_order::sort_keys;
use super::yaml_text::{self, IsPrintable};
use text::is_hidden;

/// Maximum length in bytes of a key before its colon; a longer one is written as `? key`.
const MAX_SIMPLE_KEY: usize = 128;

/// Writes one document, without `---`, with a line break at the end.
pub fn to_yaml(value: &Json) -> String {
    format_document(value, yaml_text::is_printable)
}

/// Like [`to_yaml`], but escapes every invisible character, so that untrusted names and values cannot control a
/// terminal.
pub fn to_visible_yaml(value: &Json) -> String {
    format_document(value, is_visible)
}

/// Like [`to_visible_yaml`], but also escapes `:` and `#` in strings, so that no line of a string can look like a key
/// or a comment.
pub fn to_inert_yaml(value: &Json) -> String {
    format_document(value, |c| is_visible(c) && !matches!(c, ':' | '#'))
}

fn is_visible(c: char) -> bool {
    yaml_text::is_printable(c) && !is_hidden(c)
}

fn format_document(value: &Json, is_printable: IsPrintable) -> String {
    let mut out = String::new();
    match value {
        Json::Object(map) if !map.is_empty() => write_mapping(&mut out, map, 0, is_printable),
        Json::Array(items) if !items.is_empty() => write_sequence(&mut out, items, 0, is_printable),
        _ => {
            write_inline(&mut out, value, 0, is_printable);
            out.push('\n');
        }
    }
    out
}

/// Writes the entries of a mapping on separate lines. The cursor is at the position of the first key.
fn write_mapping(
    out: &mut String,
    map: &Map<String, Json>,
    indent: usize,
    is_printable: IsPrintable,
) {
    for (i, key) in sort_keys(map.keys().map(String::as_str).collect())
        .into_iter()
        .enumerate()
    {
        if i > 0 {
            pad(out, indent);
        }
        write_entry(out, key, &map[key], indent, is_printable);
    }
}

fn write_entry(
    out: &mut String,
    key: &str,
    value: &Json,
    indent: usize,
    is_printable: IsPrintable,
) {
    if key.len() > MAX_SIMPLE_KEY {
        out.push_str("? ");
        yaml_text::write_key(out, key, is_printable);
        out.push('\n');
        pad(out, indent);
        out.push(':');
    } else {
        yaml_text::write_key(out, key, is_printable);
        out.push(':');
    }
    match value {
        Json::Object(map) if !map.is_empty() => {
            out.push('\n');
            pad(out, indent + 2);
            write_mapping(out, map, indent + 2, is_printable);
        }
        Json::Array(items) if !items.is_empty() => {
            out.push('\n');
            pad(out, indent);
            write_sequence(out, items, indent, is_printable);
        }
        _ => {
            out.push(' ');
            write_inline(out, value, indent + 2, is_printable);
            out.push('\n');
        }
    }
}

/// Writes the items of a list on separate lines. The cursor is at the position of the first dash.
fn write_sequence(out: &mut String, items: &[Json], indent: usize, is_printable: IsPrintable) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            pad(out, indent);
        }
        out.push_str("- ");
        match item {
            Json::Object(map) if !map.is_empty() => {
                write_mapping(out, map, indent + 2, is_printable);
            }
            Json::Array(inner) if !inner.is_empty() => {
                write_sequence(out, inner, indent + 2, is_printable);
            }
            _ => {
                write_inline(out, item, indent + 2, is_printable);
                out.push('\n');
            }
        }
    }
}

/// Writes a value that begins on the current line. Its further lines are indented by `indent`.
fn write_inline(out: &mut String, value: &Json, indent: usize, is_printable: IsPrintable) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Json::Number(number) => out.push_str(&number.to_string()),
        Json::String(text) => yaml_text::write(out, text, indent, is_printable),
        Json::Array(_) => out.push_str("[]"),
        Json::Object(_) => out.push_str("{}"),
    }
}

/// Writes the indentation of a line.
pub(super) fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::{Reading, Shape};
    use super::*;

    proptest! {
        /// Attack: an author puts any string into YAML that is shown in a terminal, to control the terminal.
        #[test]
        fn visible_yaml_contains_no_terminal_control_characters(key in any::<String>(), text in any::<String>()) {
            let value = json!({key: [text]});
            let yaml = to_visible_yaml(&value);
            prop_assert_eq!(crate::visible(&yaml), yaml.as_str());
            let documents = super::super::read(yaml.as_bytes()).unwrap();
            let parsed = Reading::default().json(&documents[0].root, Shape::Any).unwrap();
            prop_assert_eq!(parsed, value.clone());
            let inert = to_inert_yaml(&value);
            let documents = super::super::read(inert.as_bytes()).unwrap();
            let parsed = Reading::default().json(&documents[0].root, Shape::Any).unwrap();
            prop_assert_eq!(parsed, value);
        }
    }

    #[test]
    fn visible_yaml_escapes_only_invisible_characters() {
        let value = json!({"a": "b\nc\n", "größe": "日本 \u{202e}x\u{200b}\u{e0041}", "\u{2066}k": "l\n\u{feff}"});
        let want = "a: |\n  b\n  c\n\"\\u2066k\": \"l\\n\\uFEFF\"\n\
                    größe: \"日本 \\u202Ex\\u200B\\U000E0041\"\n";
        let mut want_lines: Vec<&str> = want.lines().collect();
        let yaml = to_visible_yaml(&value);
        let mut yaml_lines: Vec<&str> = yaml.lines().collect();
        want_lines.sort_unstable();
        yaml_lines.sort_unstable();
        assert_eq!(yaml_lines, want_lines);
    }

    #[test]
    fn formats_documents_as_go_does() {
        let value = json!({
            "spec": {"l": ["a", {"x": 1, "y": [2, [3, 4]]}, [], {}], "e": {}, "n": null},
            "multi": "a\nb\n",
            "strip": "a\n\n  b",
            "keep": "a\n\n",
            "lead": "  a\nb\n",
            "b10": true, "b9": false, "B": 1.5,
        });
        assert_eq!(
            to_yaml(&value),
            "\
B: 1.5
b9: false
b10: true
keep: |+
  a

lead: |2
    a
  b
multi: |
  a
  b
spec:
  e: {}
  l:
  - a
  - x: 1
    \"y\":
    - 2
    - - 3
      - 4
  - []
  - {}
  \"n\": null
strip: |-
  a

    b
"
        );
    }

    #[test]
    fn a_document_need_not_be_a_mapping() {
        for (value, want) in [
            (json!([1, {"a": 2}]), "- 1\n- a: 2\n"),
            (json!([]), "[]\n"),
            (json!({}), "{}\n"),
            (json!(true), "true\n"),
        ] {
            assert_eq!(to_yaml(&value), want);
        }
    }

    #[test]
    fn long_texts_fold_at_single_spaces() {
        let words = "word ".repeat(20);
        let line = format!("a: {}", ["word"; 16].join(" "));
        let plain = json!({"a": words.trim_end()});
        assert_eq!(to_yaml(&plain), format!("{line}\n  word word word word\n"));
        let double = json!({"a": format!("{words}\t")});
        let folded = format!(
            "{}\n  word word word word \\t\"\n",
            line.replace("a: ", "a: \"")
        );
        assert_eq!(to_yaml(&double), folded);
        assert!(
            !to_yaml(&json!({ words.trim_end(): 1 }))
                .trim_end()
                .contains('\n')
        );
    }

    #[test]
    fn long_keys_use_the_explicit_form() {
        let key = "k".repeat(129);
        assert_eq!(to_yaml(&json!({ &key: "v" })), format!("? {key}\n: v\n"));
        let key = "k".repeat(128);
        assert_eq!(to_yaml(&json!({ &key: "v" })), format!("{key}: v\n"));
    }

    fn tree() -> impl Strategy<Value = Json> {
        let text = prop_oneof![
            "\\PC{0,20}",
            "[ -~\\n\\t]{0,20}",
            "[0-9:._eEx+-]{0,8}",
            ".{0,6}"
        ];
        let leaf = prop_oneof![
            text.clone().prop_map(Json::from),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            Just(Json::Null),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
                prop::collection::btree_map(text.clone(), inner, 0..5)
                    .prop_map(|map| Json::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(value in prop::collection::btree_map("\\PC{0,10}", tree(), 1..5)) {
            let value = Json::Object(value.into_iter().collect());
            let text = to_yaml(&value);
            let documents = crate::manifest::read(text.as_bytes())
                .map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
            let parsed = crate::manifest::Reading::default()
                .json(&documents[0].root, crate::manifest::Shape::Any)
                .unwrap();
            prop_assert_eq!(parsed, value, "{}", text);
        }
    }
}
