//! Writes one string as yaml.v2 does: plain, quoted or as a block, and folded at the same positions.

use std::fmt::Write as _;

use super::node::Value;
use super::scalar;
use super::yaml_out::pad;

/// Column after which text is folded at the next space.
const BEST_WIDTH: usize = 80;

/// A function that returns whether a character may be written unescaped.
pub(super) type IsPrintable = fn(char) -> bool;

/// Writes a key on one line. Quotes a key that would be read as the merge key.
pub(super) fn write_key(out: &mut String, key: &str, is_printable: IsPrintable) {
    match Style::of(key, is_printable) {
        Style::Plain if key != "<<" => out.push_str(key),
        Style::Single => out.push_str(&single_quoted(key)),
        _ => write_double_quoted(out, key, None, is_printable),
    }
}

/// Writes a string as a value. `indent` is the indentation of the lines after the first.
pub(super) fn write(out: &mut String, text: &str, indent: usize, is_printable: IsPrintable) {
    Style::of(text, is_printable).write(out, text, indent, is_printable);
}

/// How a string is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

impl Style {
    /// Returns the style that libyaml's emitter chooses.
    fn of(text: &str, is_printable: IsPrintable) -> Self {
        let is_all_printable = text.chars().all(|c| c == '\n' || is_printable(c));
        let has_trailing_space = text.ends_with(' ');
        if text.contains('\n') {
            if is_all_printable && !text.contains(" \n") && !has_trailing_space {
                Self::Literal
            } else {
                Self::Double
            }
        } else if !is_all_printable || !is_read_as_text(text) {
            Self::Double
        } else if text.starts_with(' ') || has_trailing_space || has_indicators(text) {
            Self::Single
        } else {
            Self::Plain
        }
    }

    fn write(self, out: &mut String, text: &str, indent: usize, is_printable: IsPrintable) {
        match self {
            Self::Plain => write_folded(out, text, indent),
            Self::Single => {
                out.push('\'');
                write_folded(out, &text.replace('\'', "''"), indent);
                out.push('\'');
            }
            Self::Double => write_double_quoted(out, text, Some(indent), is_printable),
            Self::Literal => write_literal(out, text, indent),
        }
    }
}

pub(super) fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Writes a string, folded at single spaces after column [`BEST_WIDTH`], but not at its first or last character. A
/// reader joins the lines with a space.
fn write_folded(out: &mut String, text: &str, indent: usize) {
    let mut after_space = true;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let is_single_space =
            c == ' ' && !after_space && chars.peek().is_some_and(|next| *next != ' ');
        if is_single_space && column(out) > BEST_WIDTH {
            out.push('\n');
            pad(out, indent);
        } else {
            out.push(c);
        }
        after_space = c == ' ';
    }
}

/// Returns the number of characters since the last line break.
fn column(out: &str) -> usize {
    out.rsplit('\n').next().unwrap_or_default().chars().count()
}

/// Returns whether a parser would interpret a part of this unquoted line as syntax.
fn has_indicators(text: &str) -> bool {
    if text.starts_with("---") || text.starts_with("...") {
        return true;
    }
    let is_followed_by_space =
        |offset: usize| text[offset..].chars().nth(1).is_none_or(|c| c == ' ');
    let mut after_space = true;
    for (offset, c) in text.char_indices() {
        let is_indicator = match c {
            '#' => after_space,
            ':' => is_followed_by_space(offset),
            '?' | '-' if offset == 0 => is_followed_by_space(offset),
            _ => offset == 0 && ",[]{}&*!|>'\"%@`".contains(c),
        };
        if is_indicator {
            return true;
        }
        after_space = c == ' ';
    }
    false
}

/// Returns whether the character is written unescaped. Like libyaml, escapes tabs and characters beyond the Basic
/// Multilingual Plane; unlike libyaml, also line separators, because single quotes would fold them.
pub(super) fn is_printable(c: char) -> bool {
    matches!(c,
        ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}'
        | '\u{ff00}'..='\u{fffd}')
}

/// Returns whether a YAML 1.1 parser reads the unquoted scalar as a string.
pub(super) fn is_read_as_text(text: &str) -> bool {
    matches!(scalar::resolve(text), Value::Text(_)) && !is_date(text) && !is_base_60(text)
}

/// Returns whether Go reads the scalar as a timestamp: `2006-1-2`, alone, followed by `T15:4:5.9Z07:00`, or
/// followed by ` 15:4:5.9`.
fn is_date(text: &str) -> bool {
    let end = text.find(['T', 't', ' ']).unwrap_or(text.len());
    let (date, time) = text.split_at(end);
    is_calendar_date(date)
        && match time.as_bytes().first() {
            None => true,
            Some(b' ') => is_time(&time[1..]),
            Some(_) => strip_zone(&time[1..]).is_some_and(is_time),
        }
}

fn is_calendar_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts.as_slice() else {
        return false;
    };
    let number = |text: &str| digits(text, 2).and_then(|n| i8::try_from(n).ok());
    match (digits(year, 4), number(month), number(day)) {
        (Some(number), Some(month), Some(day)) if year.len() == 4 => {
            i16::try_from(number).is_ok_and(|year| jiff::civil::Date::new(year, month, day).is_ok())
        }
        _ => false,
    }
}

/// Removes a time zone such as `Z` or `+07:00` from the end; returns `None` if there is none.
fn strip_zone(time: &str) -> Option<&str> {
    if let Some(time) = time.strip_suffix('Z') {
        return Some(time);
    }
    let (time, zone) = time.split_at_checked(time.len().checked_sub(6)?)?;
    let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    let is_in_range =
        |text: &str, max| text.len() == 2 && digits(text, 2).is_some_and(|n| n <= max);
    (is_in_range(hours, 24) && is_in_range(minutes, 60)).then_some(time)
}

/// Returns whether the scalar is a time like `15:4:5`, with or without a fraction.
fn is_time(text: &str) -> bool {
    let (clock, fraction) = text
        .split_once('.')
        .map_or((text, None), |(c, f)| (c, Some(f)));
    let parts: Vec<&str> = clock.split(':').collect();
    let is_below = |text: &str, end| digits(text, 2).is_some_and(|n| n < end);
    let [hour, minute, second] = parts.as_slice() else {
        return false;
    };
    is_below(hour, 24)
        && is_below(minute, 60)
        && is_below(second, 60)
        && fraction.is_none_or(|f| !f.is_empty() && f.bytes().all(|b| b.is_ascii_digit()))
}

/// Parses a number of one to `max` digits.
fn digits(text: &str, max: usize) -> Option<u32> {
    let is_valid = (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if is_valid { text.parse().ok() } else { None }
}

/// Returns whether the scalar matches `[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?`, a number in base 60 for some YAML
/// 1.1 readers.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (sixties, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut parts = sixties.split(':');
    let first = parts.next().unwrap_or("");
    let sixtieths: Vec<&str> = parts.collect();
    let is_digits_or_underscores = |s: &str| s.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let is_sixtieth = |s: &str| match s.as_bytes() {
        [b] => b.is_ascii_digit(),
        [tens, ones] => (b'0'..=b'5').contains(tens) && ones.is_ascii_digit(),
        _ => false,
    };
    first.starts_with(|c: char| c.is_ascii_digit())
        && is_digits_or_underscores(first)
        && !sixtieths.is_empty()
        && sixtieths.into_iter().all(is_sixtieth)
        && is_digits_or_underscores(fraction)
}

/// Writes a double-quoted string. If `fold` is set, folds it like [`write_folded`], with that indentation; a backslash
/// precedes a space at the start of a line.
pub(super) fn write_double_quoted(
    out: &mut String,
    text: &str,
    fold: Option<usize>,
    is_printable: IsPrintable,
) {
    out.push('"');
    let mut after_space = true;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, fold, chars.peek()) {
            (' ', Some(indent), Some(next)) if !after_space && column(out) > BEST_WIDTH => {
                out.push('\n');
                pad(out, indent);
                out.push_str(if *next == ' ' { "\\" } else { "" });
            }
            _ => write_quoted_char(out, c, is_printable),
        }
        after_space = c == ' ';
    }
    out.push('"');
}

fn write_quoted_char(out: &mut String, c: char, is_printable: IsPrintable) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\0' => out.push_str("\\0"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\u{b}' => out.push_str("\\v"),
        '\u{c}' => out.push_str("\\f"),
        '\r' => out.push_str("\\r"),
        '\u{1b}' => out.push_str("\\e"),
        '\u{85}' => out.push_str("\\N"),
        '\u{2028}' => out.push_str("\\L"),
        '\u{2029}' => out.push_str("\\P"),
        c if is_printable(c) => out.push(c),
        c => write_escape(out, u32::from(c)),
    }
}

fn write_escape(out: &mut String, code: u32) {
    // Writing to a String cannot fail.
    let _ = match code {
        0..=0xff => write!(out, "\\x{code:02X}"),
        0x100..=0xffff => write!(out, "\\u{code:04X}"),
        _ => write!(out, "\\U{code:08X}"),
    };
}

/// Writes a literal block: `|` with the indicators for indentation and final line breaks.
fn write_literal(out: &mut String, text: &str, indent: usize) {
    out.push('|');
    if text.starts_with([' ', '\n']) {
        out.push('2');
    }
    if !text.ends_with('\n') {
        out.push('-');
    } else if text == "\n" || text.ends_with("\n\n") {
        out.push('+');
    }
    let body = text.strip_suffix('\n').unwrap_or(text);
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            pad(out, indent);
            out.push_str(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_text_as_go_does() {
        for (text, want) in [
            ("plain", "plain"),
            ("", "\"\""),
            ("n", "\"n\""),
            ("yes", "\"yes\""),
            ("null", "\"null\""),
            ("123", "\"123\""),
            ("1_000", "\"1_000\""),
            ("0x10", "\"0x10\""),
            ("1e3", "\"1e3\""),
            (".5", "\".5\""),
            ("<<", "<<"),
            ("2024-01-02", "\"2024-01-02\""),
            ("2024-1-2T3:4:5.6Z", "\"2024-1-2T3:4:5.6Z\""),
            ("2024-01-02 03:04:05", "\"2024-01-02 03:04:05\""),
            ("2024-1-2t3:4:5+07:00", "\"2024-1-2t3:4:5+07:00\""),
            ("2024-1-2T3:4:5-24:60", "\"2024-1-2T3:4:5-24:60\""),
            ("2024-1-2T3:4:5+25:00", "2024-1-2T3:4:5+25:00"),
            ("2024-1-2T3:4:5+7:00", "2024-1-2T3:4:5+7:00"),
            ("2024-1-2T3:4:5", "2024-1-2T3:4:5"),
            ("2024-1-2 3:4:5Z", "2024-1-2 3:4:5Z"),
            ("2024-1-2 3:4", "2024-1-2 3:4"),
            ("2024-1-2 24:00:00", "2024-1-2 24:00:00"),
            ("2024-1-2 23:60:00", "2024-1-2 23:60:00"),
            ("2024-1-2 23:59:60", "2024-1-2 23:59:60"),
            ("2024-1-2 23:59:59.", "2024-1-2 23:59:59."),
            ("224-01-02", "224-01-02"),
            ("2024-001-02", "2024-001-02"),
            ("2024-02-30", "2024-02-30"),
            ("2724-71-72", "2724-71-72"),
            ("2024-01-02x", "2024-01-02x"),
            ("1:30", "\"1:30\""),
            ("12:34:56.7", "\"12:34:56.7\""),
            ("-1_0:3", "\"-1_0:3\""),
            ("1:60", "1:60"),
            ("1:030", "1:030"),
            ("_1:30", "_1:30"),
            ("1:30.x", "1:30.x"),
            (":30", ":30"),
            ("a: b", "'a: b'"),
            ("a:", "'a:'"),
            ("a:b", "a:b"),
            ("# no comment", "'# no comment'"),
            ("a #b", "'a #b'"),
            ("a#b", "a#b"),
            ("- a", "'- a'"),
            ("-a", "-a"),
            ("? a", "'? a'"),
            ("?", "'?'"),
            ("?a", "?a"),
            ("a - b ? c", "a - b ? c"),
            ("trail ", "'trail '"),
            ("a\n b\n", "|\na\n b"),
            ("a \nb", "\"a \\nb\""),
            ("a\nb ", "\"a\\nb \""),
            ("a\n\tb", "\"a\\n\\tb\""),
            ("---a", "'---a'"),
            ("it's", "it's"),
            ("'quoted'", "'''quoted'''"),
            ("{a}", "'{a}'"),
            ("a{b}", "a{b}"),
            (" lead", "' lead'"),
            ("tab\there", "\"tab\\there\""),
            ("bell\u{7}", "\"bell\\a\""),
            ("\u{1}", "\"\\x01\""),
            ("\u{ff}\u{9f}", "\"ÿ\\x9F\""),
            ("ü", "ü"),
            ("\u{1F600}", "\"\\U0001F600\""),
            ("\u{feff}", "\"\\uFEFF\""),
            ("a\u{2028}b", "\"a\\Lb\""),
        ] {
            let mut out = String::new();
            write(&mut out, text, 0, is_printable);
            assert_eq!(out, want, "{text:?}");
        }
    }

    #[test]
    fn a_key_stays_on_one_line_and_is_not_a_merge_key() {
        for (key, want) in [
            ("plain", "plain"),
            ("<<", "\"<<\""),
            ("a: b", "'a: b'"),
            ("it's: b", "'it''s: b'"),
            ("yes", "\"yes\""),
            ("a\nb", "\"a\\nb\""),
        ] {
            let mut out = String::new();
            write_key(&mut out, key, is_printable);
            assert_eq!(out, want, "{key:?}");
        }
    }

    #[test]
    fn folds_at_the_first_single_space_after_column_80() {
        let x = |count| "x".repeat(count);
        for (why, text, want) in [
            ("at 80", format!("{} y", x(80)), format!("{} y", x(80))),
            ("at 81", format!("{} y", x(81)), format!("{}\n  y", x(81))),
            (
                "a long word",
                format!("{} y", x(100)),
                format!("{}\n  y", x(100)),
            ),
            (
                "two spaces",
                format!("{}  y z", x(90)),
                format!("{}  y\n  z", x(90)),
            ),
            (
                "at 80 in double quotes, where the first quote and the escape count",
                format!("\t{} y", x(77)),
                format!("\"\\t{} y\"", x(77)),
            ),
            (
                "at 81 in double quotes",
                format!("\t{} y", x(78)),
                format!("\"\\t{}\n  y\"", x(78)),
            ),
        ] {
            let mut out = String::new();
            write(&mut out, &text, 2, is_printable);
            assert_eq!(out, want, "{why}");
        }
    }
}
