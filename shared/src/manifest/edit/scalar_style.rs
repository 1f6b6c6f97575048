//! Formats keys and values in the style of the user's text.

use crate::manifest::yaml_text;

/// How a scalar is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarStyle {
    Plain,
    Single,
    Double,
    Json,
}

impl ScalarStyle {
    /// Returns the style of a scalar in the source text.
    pub(super) fn of(source: &str) -> Self {
        match source.as_bytes().first() {
            Some(b'"') => Self::Double,
            Some(b'\'') => Self::Single,
            _ => Self::Plain,
        }
    }

    /// Formats a string on one line, in this style if possible. Otherwise quotes it: a plain string that contains `"`
    /// with single quotes if it is printable, all others with double quotes.
    pub(super) fn write(self, text: &str, in_flow: bool) -> String {
        match self {
            Self::Json => serde_json::Value::from(text).to_string(),
            Self::Plain if can_be_plain(text, in_flow) => text.to_owned(),
            Self::Plain if text.contains('"') && is_printable(text) => {
                yaml_text::single_quoted(text)
            }
            Self::Single if is_printable(text) => yaml_text::single_quoted(text),
            _ => {
                let mut out = String::new();
                yaml_text::write_double_quoted(&mut out, text, None, yaml_text::is_printable);
                out
            }
        }
    }
}

/// Returns whether a literal block (`|`) can represent the text line by line, without further indicators: lines of
/// visible ASCII characters and spaces between them, each with a line break.
pub(super) fn is_lines(text: &str) -> bool {
    let is_line = |line: &str| {
        let is_allowed = |c: char| c.is_ascii_graphic() || c == ' ';
        !line.is_empty() && line.trim() == line && line.chars().all(is_allowed)
    };
    let lines = text.strip_suffix('\n');
    lines.is_some_and(|lines| lines.split('\n').all(is_line))
}

fn is_printable(text: &str) -> bool {
    text.chars().all(yaml_text::is_printable)
}

/// Returns whether the string is simple enough to be written without quotes. Old parsers treat any colon between braces
/// as syntax.
fn can_be_plain(text: &str, in_flow: bool) -> bool {
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || "+/=._-".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.')
        && !text.starts_with("...")
        && text.chars().all(|c| is_harmless(c) || c == ':' && !in_flow)
        && !text.ends_with(':')
        && yaml_text::is_read_as_text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_the_style_from_the_first_character() {
        for (source, want) in [
            ("\"a\"", ScalarStyle::Double),
            ("'a'", ScalarStyle::Single),
            ("a", ScalarStyle::Plain),
            ("", ScalarStyle::Plain),
        ] {
            assert_eq!(ScalarStyle::of(source), want, "{source}");
        }
    }

    #[test]
    fn keeps_the_style_if_it_can_represent_the_text() {
        for (style, text, want) in [
            (ScalarStyle::Json, "ü\u{7}\"", r#""ü\u0007\"""#),
            (ScalarStyle::Single, "it's", "'it''s'"),
            (ScalarStyle::Single, "\u{7}", r#""\a""#),
            (ScalarStyle::Double, "a", r#""a""#),
            (ScalarStyle::Plain, "AgA+/=._-", "AgA+/=._-"),
            (ScalarStyle::Plain, ".a", ".a"),
            (ScalarStyle::Plain, "-a", r#""-a""#),
            (ScalarStyle::Plain, "...a", r#""...a""#),
            (ScalarStyle::Plain, "a:", r#""a:""#),
            (ScalarStyle::Plain, "a b", r#""a b""#),
            (ScalarStyle::Plain, "true", r#""true""#),
            (ScalarStyle::Plain, "a \"b\"", r#"'a "b"'"#),
            (ScalarStyle::Plain, "\u{7}\"b\"", r#""\a\"b\"""#),
            (ScalarStyle::Plain, "", r#""""#),
        ] {
            assert_eq!(style.write(text, false), want, "{style:?}, {text:?}");
        }
        assert_eq!(ScalarStyle::Plain.write("a:b", false), "a:b");
        assert_eq!(ScalarStyle::Plain.write("a:b", true), r#""a:b""#);
    }
}
