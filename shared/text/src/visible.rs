//! Escapes untrusted text for display.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Escapes every character that [`is_hidden`] detects, such as control characters and bidirectional marks, except line
/// breaks; see [`visible_line`].
pub fn visible(text: &str) -> Cow<'_, str> {
    escape(text, |c| c != '\n' && is_hidden(c))
}

/// Like [`visible`], but also escapes line breaks, for text on a single line such as the name of an item.
pub fn visible_line(text: &str) -> Cow<'_, str> {
    escape(text, is_hidden)
}

/// Returns whether a character is not printable or is combining, according to [`char::escape_debug`].
pub fn is_hidden(c: char) -> bool {
    !matches!(c, '"' | '\'' | '\\') && c.escape_debug().len() > 1
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut output = String::with_capacity(text.len());
    for c in text.chars() {
        if is_escaped(c) {
            let _ = write!(output, "{}", c.escape_debug());
        } else {
            output.push(c);
        }
    }
    Cow::Owned(output)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn escapes_controls_and_invisible_characters_and_keeps_visible_ones() {
        for (text, want) in [
            (
                "plain \"quoted\" C:\\x ü 日本 'it'",
                "plain \"quoted\" C:\\x ü 日本 'it'",
            ),
            ("two\nlines", "two\nlines"),
            ("\u{1b}[2J\r\t\0", "\\u{1b}[2J\\r\\t\\0"),
            (
                "a\u{202e}b\u{2066}c\u{200f}",
                "a\\u{202e}b\\u{2066}c\\u{200f}",
            ),
            (
                "\u{200b}\u{feff}\u{2028}\u{ad}",
                "\\u{200b}\\u{feff}\\u{2028}\\u{ad}",
            ),
            ("\u{85}\u{9b}\u{7f}", "\\u{85}\\u{9b}\\u{7f}"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(visible(text), want);
        }
        assert_eq!(visible_line("two\nlines"), "two\\nlines");
    }

    proptest! {
        /// Attack: an author uses arbitrary characters in published names and strings, to deceive readers.
        #[test]
        fn escapes_every_hidden_character_of_any_text(text in any::<String>()) {
            proptest::prop_assert!(!visible(&text).chars().any(|c| c != '\n' && is_hidden(c)));
            proptest::prop_assert!(!visible_line(&text).chars().any(is_hidden));
            proptest::prop_assert!(!visible_line(&text).chars().any(char::is_control));
        }
    }
}
