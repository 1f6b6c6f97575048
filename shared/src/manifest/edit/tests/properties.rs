use proptest::prelude::*;

use super::*;

/// Lines that combine to most layouts, and most mistakes.
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
fn comments(text: &str) -> usize {
    text.lines()
        .filter(|line| line.trim_start().starts_with('#'))
        .count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The test does not use the guard of the code under test: it determines independently what must stay the
    /// same.
    #[test]
    fn sets_exactly_the_value_or_refuses(text in document(), key in "[abn]|ü|e|new") {
        let edits_text = format!("m/{key}=AgX=");
        if let Ok(after) = edited(&text, &edits_text) {
            let read = crate::manifest::read(after.as_bytes()).unwrap();
            let map = read[0].root.field("m").unwrap();
            let crate::manifest::Value::Map(entries) = &map.value else { panic!("{after}") };
            let found = entries.iter().rev().find(|(known, _)| *known == key).unwrap();
            let crate::manifest::Value::Text(value) = &found.1.value else { panic!("{after}") };
            prop_assert_eq!(value.as_str(), "AgX=");
            prop_assert_eq!(comments(&after), comments(&text), "{}", after);
            // Applying the edits again changes nothing.
            prop_assert_eq!(edited(&after, &edits_text), Ok(after));
        }
    }

    #[test]
    fn removing_an_added_value_restores_the_text(text in document()) {
        // A mapping that was empty is `{}` afterwards.
        let is_hollow = text.contains("m:\nz") || text.contains("m:\r\nz");
        if !is_hollow
            && let Ok(with) = edited(&text, "m/new=AgX=")
            && let Ok(without) = edited(&with, "-m/new") {
            prop_assert_eq!(without, text);
        }
    }

    #[test]
    fn any_text_can_be_a_value(value in "\\PC*|[ \\t\\n\\r'\":#{}&*!|>%@`,\\[\\]-]{0,12}", flow in any::<bool>()) {
        let text = if flow { "m: {a: b}\n" } else { "m:\n  a: b # c\n" };
        let edit = Edit { document: 1, path: path("m/a"), change: Change::Set(value.clone()) };
        let after = apply(text.as_bytes(), &[edit]).unwrap();
        let read = crate::manifest::read(&after).unwrap();
        prop_assert_eq!(read[0].root.field("m").unwrap().text("a"), Some(value.as_str()));
    }
}
