use serde_json::Value as Json;

/// Formats JSON as Go's encoder does: indented by two spaces, with `<`, `>`, `&` and the two Unicode line separators
/// escaped, and with a final line break. Keeps the order of fields.
pub fn to_json(value: &Json) -> String {
    let mut text = format!("{value:#}");
    // These five characters occur only inside strings, so it is safe to escape them in the finished text.
    for (plain, escaped) in [
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u{2028}", "\\u2028"),
        ("\u{2029}", "\\u2029"),
    ] {
        text = text.replace(plain, escaped);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formats_json_as_go_does() {
        let value = json!({"kind": "S", "b": {"x": "a<b>&\u{2028}"}, "e": {}, "l": [], "n": [1]});
        assert_eq!(
            to_json(&value),
            r#"{
  "kind": "S",
  "b": {
    "x": "a\u003cb\u003e\u0026\u2028"
  },
  "e": {},
  "l": [],
  "n": [
    1
  ]
}
"#
        );
    }
}
