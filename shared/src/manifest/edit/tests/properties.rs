use proptest::prelude::*;

use super::*;

/// Generates lines that combine into many layouts, both valid and malformed.
fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["a", "b", "'c'", "\"d\"", "ü", "? e", "<<", "n"]);
    let value = prop::sample::select(vec![
        "AgA",
        "'AgB'",
        "\"AgC\"",
        "",
        "~",
        "{}",
        "{a: x, b: y}",
        "{ a: x, }",
        "[a, {b: c}]",
        "|\n      x",
        ">-\n      x\n      y\n",
        "|+\n      x\n\n",
        "&x AgA",
        "*x",
        "&y {a: b}",
        "*y",
        "!!str 1",
        "x\n      y",
        "[b: c]",
        "\n      a: x\n      # c\n      b: y",
        "\n      - a: x\n        b: y",
        "\n    # c\n      AgA",
        "&z\n      a: b",
    ]);
    let end = prop::sample::select(vec!["", " # c", "  ", "\n# c", "\n\n"]);
    (key, value, end).prop_map(|(key, value, end)| {
        let colon = if key.starts_with('?') { "\n  :" } else { ":" };
        format!("  {key}{colon} {value}{end}\n")
    })
}

fn document() -> impl Strategy<Value = String> {
    let begin = prop::sample::select(vec!["", "---\n", "# c\n---\n", "\u{feff}"]);
    (begin, prop::collection::vec(line(), 0..6), any::<bool>()).prop_map(|(begin, lines, crlf)| {
        let text = format!("{begin}m:\n{}z: 1\n", lines.concat());
        if crlf {
            text.replace('\n', "\r\n")
        } else {
            text
        }
    })
}

/// Counts the lines that consist only of a comment.
fn count_comment_lines(text: &str) -> usize {
    text.lines()
        .filter(|line| line.trim_start().starts_with('#'))
        .count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Determines the expected result without the guard of the tested code.
    #[test]
    fn sets_exactly_the_value_or_refuses(text in document(), key in "[abn]|ü|e|new") {
        let edits_text = format!("m/{key}=AgX=");
        if let Ok(after) = apply_edits(&text, &edits_text) {
            let parsed = crate::manifest::read(after.as_bytes()).unwrap();
            let map = parsed[0].root.field("m").unwrap();
            let crate::manifest::Value::Map(entries) = &map.value else { panic!("{after}") };
            let entry = entries.iter().rev().find(|(name, _)| *name == key).unwrap();
            let crate::manifest::Value::Text(value) = &entry.1.value else { panic!("{after}") };
            prop_assert_eq!(value.as_str(), "AgX=");
            prop_assert_eq!(count_comment_lines(&after), count_comment_lines(&text), "{}", after);
            // Applying the edits again changes nothing.
            prop_assert_eq!(apply_edits(&after, &edits_text), Ok(after));
        }
    }

    #[test]
    fn removing_an_added_value_restores_the_text(text in document()) {
        // A mapping that was empty before is `{}` after the removal.
        let is_empty = text.contains("m:\nz") || text.contains("m:\r\nz");
        if !is_empty
            && let Ok(with_value) = apply_edits(&text, "m/new=AgX=")
            && let Ok(without_value) = apply_edits(&with_value, "-m/new") {
            prop_assert_eq!(without_value, text);
        }
    }

    /// Determines the expected result without the guard of the tested code.
    #[test]
    fn sets_exactly_these_lines_or_refuses(text in document(), key in "[abn]|ü|e|new", value in "([!-~]([ -~]{0,3}[!-~])?\n){1,3}") {
        let path = vec![Step::Key("m".to_owned()), Step::Key(key.clone())];
        let edit = Edit { document: 1, path, change: Change::Set(value.clone()) };
        if let Ok(after) = apply(text.as_bytes(), std::slice::from_ref(&edit)) {
            let parsed = crate::manifest::read(&after).unwrap();
            let map = parsed[0].root.field("m").unwrap();
            let crate::manifest::Value::Map(entries) = &map.value else { panic!("{text}") };
            let entry = entries.iter().rev().find(|(name, _)| *name == key).unwrap();
            let crate::manifest::Value::Text(actual) = &entry.1.value else { panic!("{text}") };
            prop_assert_eq!(actual.as_str(), value.as_str());
            // Applying the edit again changes nothing.
            prop_assert_eq!(apply(&after, &[edit]), Ok(after));
        }
    }

    #[test]
    fn sets_any_text_as_a_value(value in "\\PC*|[ \\t\\n\\r'\":#{}&*!|>%@`,\\[\\]-]{0,12}", flow in any::<bool>()) {
        let text = if flow { "m: {a: b}\n" } else { "m:\n  a: b # c\n" };
        let edit = Edit { document: 1, path: parse_path("m/a"), change: Change::Set(value.clone()) };
        let after = apply(text.as_bytes(), &[edit]).unwrap();
        let parsed = crate::manifest::read(&after).unwrap();
        prop_assert_eq!(parsed[0].root.field("m").unwrap().text("a"), Some(value.as_str()));
    }
}
