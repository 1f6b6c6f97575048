//! Escapes untrusted names and strings for display.
//!
//! Names and strings in files are untrusted, and must not control the terminal or the CI system.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::Value as Json;
use shared::manifest;
use text::without_commands;
pub use text::{ShowPath, lines_shown, path_text, shown};
use zeroize::Zeroizing;

/// Escapes JSON for display without changing its meaning. Characters that control a terminal can
/// only be in strings, where they are replaced by `\u` escapes.
pub fn json_shown(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if lines_shown(c.encode_utf8(&mut [0; 4])).len() == c.len_utf8() {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(text, "\\u{unit:04x}");
        }
    }
    text
}

/// Formats a document as YAML that contains neither terminal control characters nor workflow
/// commands.
pub fn yaml_shown(document: &Json) -> String {
    let text = Zeroizing::new(manifest::to_visible_yaml(document));
    if without_commands(Cow::Borrowed(&text)) == *text {
        return text.to_string();
    }
    manifest::to_inert_yaml(document)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use serde_json::json;

    use super::*;

    /// Attack: a committer places a workflow command of GitHub Actions in a YAML string, so that the runner executes
    /// it.
    #[test]
    fn escapes_workflow_commands_in_yaml() {
        let long = format!("{} ::error::x {0} ::error::x", "a".repeat(90));
        for text in [
            "::error::x",
            "a\n::error::x\n",
            &long,
            "x ##[error]y",
            "a\n ##[error]y",
        ] {
            for document in [json!({text: 1}), json!([text]), json!({"a": {"b": text}})] {
                let yaml = yaml_shown(&document);
                assert_eq!(lines_shown(&yaml), yaml);
                let parsed = manifest::read(yaml.as_bytes()).unwrap();
                let parsed = manifest::Reading::default()
                    .json(&parsed[0].root, manifest::Shape::Any)
                    .unwrap();
                assert_eq!(parsed, document);
            }
        }
        assert_eq!(yaml_shown(&json!({"a": "b::c"})), "a: b::c\n");
    }

    proptest! {
        /// Attack: a committer places arbitrary characters in a JSON string that is printed in a terminal, to control
        /// the terminal.
        #[test]
        fn escapes_terminal_control_characters_in_json(text in any::<String>()) {
            let json = json_shown(&serde_json::to_string_pretty(&[&text]).unwrap());
            prop_assert_eq!(lines_shown(&json), json.as_str());
            prop_assert_eq!(json.lines().count(), 3);
            prop_assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [text]);
        }
    }
}
