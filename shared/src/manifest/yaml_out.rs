//! YAML as Go's yaml.v2 writes it, so that files made by the peer and by us differ in nothing but
//! ciphertext: keys sorted its way, lists not indented, long texts folded at spaces, and each text
//! quoted that a YAML 1.1 reader would take for something else.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

use super::node::Value;
use super::scalar;

/// Longest key in bytes that stands before its colon; a longer one gets the form `? key`.
const MAX_SIMPLE_KEY: usize = 128;

/// Column beyond which text is folded at its next space.
const BEST_WIDTH: usize = 80;

/// Writes one document, without `---`, with a line break at the end.
pub fn to_yaml(value: &Json) -> String {
    let mut out = String::new();
    match value {
        Json::Object(map) if !map.is_empty() => mapping(&mut out, map, 0),
        Json::Array(items) if !items.is_empty() => sequence(&mut out, items, 0),
        _ => {
            inline(&mut out, value, 0);
            out.push('\n');
        }
    }
    out
}

/// Entries, one below the other. The cursor stands where the first key goes.
fn mapping(out: &mut String, map: &Map<String, Json>, indent: usize) {
    for (i, key) in sorted_keys(map).into_iter().enumerate() {
        if i > 0 {
            pad(out, indent);
        }
        entry(out, key, &map[key], indent);
    }
}

fn entry(out: &mut String, key: &str, value: &Json, indent: usize) {
    if key.len() > MAX_SIMPLE_KEY {
        out.push_str("? ");
        key_text(out, key);
        out.push('\n');
        pad(out, indent);
        out.push(':');
    } else {
        key_text(out, key);
        out.push(':');
    }
    match value {
        Json::Object(map) if !map.is_empty() => {
            out.push('\n');
            pad(out, indent + 2);
            mapping(out, map, indent + 2);
        }
        Json::Array(items) if !items.is_empty() => {
            out.push('\n');
            pad(out, indent);
            sequence(out, items, indent);
        }
        _ => {
            out.push(' ');
            inline(out, value, indent + 2);
            out.push('\n');
        }
    }
}

/// Items, one below the other. The cursor stands where the first dash goes.
fn sequence(out: &mut String, items: &[Json], indent: usize) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            pad(out, indent);
        }
        out.push_str("- ");
        match item {
            Json::Object(map) if !map.is_empty() => mapping(out, map, indent + 2),
            Json::Array(inner) if !inner.is_empty() => sequence(out, inner, indent + 2),
            _ => {
                inline(out, item, indent + 2);
                out.push('\n');
            }
        }
    }
}

/// A value that needs no lines of its own, except block text, whose lines get `indent`.
fn inline(out: &mut String, value: &Json, indent: usize) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Json::Number(number) => out.push_str(&number.to_string()),
        Json::String(text) => scalar_text(out, text, indent),
        Json::Array(_) => out.push_str("[]"),
        Json::Object(_) => out.push_str("{}"),
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// A key stays on one line, and never reads as the merge key.
fn key_text(out: &mut String, key: &str) {
    match Style::of(key) {
        Style::Plain if key != "<<" => out.push_str(key),
        Style::Single => out.push_str(&single_quoted(key)),
        _ => double_quoted(out, key, None),
    }
}

fn scalar_text(out: &mut String, text: &str, indent: usize) {
    Style::of(text).write(out, text, indent);
}

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

impl Style {
    fn of(text: &str) -> Self {
        let facts = Facts::of(text);
        if text.contains('\n') {
            if facts.block_allowed {
                Self::Literal
            } else {
                Self::Double
            }
        } else if !reads_as_text(text) {
            Self::Double
        } else if facts.plain_allowed {
            Self::Plain
        } else if facts.single_allowed {
            Self::Single
        } else {
            Self::Double
        }
    }

    /// `indent` is that of the lines that a folded or literal text continues on.
    fn write(self, out: &mut String, text: &str, indent: usize) {
        match self {
            Self::Plain => folded(out, text, indent),
            Self::Single => folded(out, &single_quoted(text), indent),
            Self::Double => double_quoted(out, text, Some(indent)),
            Self::Literal => literal(out, text, indent),
        }
    }
}

fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Text whose lines break at single spaces once they are long enough. A reader joins them again
/// with a space.
fn folded(out: &mut String, text: &str, indent: usize) {
    let mut after_space = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let single = c == ' ' && !after_space && chars.peek().is_some_and(|next| *next != ' ');
        if single && column(out) > BEST_WIDTH {
            out.push('\n');
            pad(out, indent);
        } else {
            out.push(c);
        }
        after_space = c == ' ';
    }
}

/// Characters since the last line break.
fn column(out: &str) -> usize {
    out.rsplit('\n').next().unwrap_or_default().chars().count()
}

/// Which styles a text can take, as libyaml's emitter decides it.
struct Facts {
    plain_allowed: bool,
    single_allowed: bool,
    block_allowed: bool,
}

impl Facts {
    fn of(text: &str) -> Self {
        let special = text.chars().any(|c| c != '\n' && !is_printable(c));
        let space_before_break = text.contains(" \n");
        let space_after_break = text.contains("\n ");
        let edge = text.starts_with([' ', '\n']) || text.ends_with([' ', '\n']);
        let broken = special || space_before_break;
        Self {
            plain_allowed: !(broken || space_after_break || edge || has_indicators(text)),
            single_allowed: !(broken || space_after_break),
            block_allowed: !(broken || text.ends_with(' ')),
        }
    }
}

/// Would a reader take a part of the unquoted text for syntax?
fn has_indicators(text: &str) -> bool {
    if text.starts_with("---") || text.starts_with("...") {
        return true;
    }
    let followed_by_space = |at: usize| {
        text[at..]
            .chars()
            .nth(1)
            .is_none_or(|c| c == ' ' || c == '\n')
    };
    let mut after_space = true;
    for (at, c) in text.char_indices() {
        let indicator = match c {
            '#' => after_space,
            ':' => followed_by_space(at),
            '?' | '-' if at == 0 => followed_by_space(at),
            _ => at == 0 && ",[]{}&*!|>'\"%@`".contains(c),
        };
        if indicator {
            return true;
        }
        after_space = c == ' ' || c == '\n';
    }
    false
}

/// libyaml prints neither tabs nor anything beyond the basic plane; the line separators are ours to
/// escape, since single quotes would fold them.
fn is_printable(c: char) -> bool {
    matches!(c,
        ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}'
        | '\u{ff00}'..='\u{fffd}')
}

/// Does a YAML 1.1 reader take the unquoted text for text?
fn reads_as_text(text: &str) -> bool {
    matches!(scalar::resolve(text), Value::Text(_)) && !is_date(text) && !is_base_60(text)
}

/// `2006-1-2`, alone or before `T` or a space: what Go reads as a timestamp. Quoting a few that Go
/// would not read so does no harm.
fn is_date(text: &str) -> bool {
    let digits =
        |s: &str, max: usize| (1..=max).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    let day_end = text.find(['T', 't', ' ']).unwrap_or(text.len());
    let mut parts = text[..day_end].split('-');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(year), Some(month), Some(day), None) => {
            year.len() == 4 && digits(year, 4) && digits(month, 2) && digits(day, 2)
        }
        _ => false,
    }
}

/// `[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?`: a number in base 60 for some YAML 1.1 readers.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (sixties, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut parts = sixties.split(':');
    let first = parts.next().unwrap_or("");
    let rest: Vec<&str> = parts.collect();
    let digits_or_underscores = |s: &str| s.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let is_sixtieth = |s: &str| match s.as_bytes() {
        [b] => b.is_ascii_digit(),
        [tens, ones] => (b'0'..=b'5').contains(tens) && ones.is_ascii_digit(),
        _ => false,
    };
    first.starts_with(|c: char| c.is_ascii_digit())
        && digits_or_underscores(first)
        && !rest.is_empty()
        && rest.into_iter().all(is_sixtieth)
        && digits_or_underscores(fraction)
}

/// With an indent, folds as [`folded`]; a space that begins a line is marked by a backslash.
fn double_quoted(out: &mut String, text: &str, fold: Option<usize>) {
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
            _ => quoted_char(out, c),
        }
        after_space = c == ' ';
    }
    out.push('"');
}

fn quoted_char(out: &mut String, c: char) {
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
        c => escaped(out, u32::from(c)),
    }
}

fn escaped(out: &mut String, code: u32) {
    // Writing to a String cannot fail.
    let _ = match code {
        0..=0xff => write!(out, "\\x{code:02X}"),
        0x100..=0xffff => write!(out, "\\u{code:04X}"),
        _ => write!(out, "\\U{code:08X}"),
    };
}

/// `|` with the marks for indentation and for the line breaks at the end.
fn literal(out: &mut String, text: &str, indent: usize) {
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

fn sorted_keys(map: &Map<String, Json>) -> Vec<&str> {
    merge_sorted(map.keys().map(String::as_str).collect())
}

/// A merge sort, because the order below is not provably total and the standard sorts may panic on
/// one that is not.
fn merge_sorted(mut keys: Vec<&str>) -> Vec<&str> {
    if keys.len() < 2 {
        return keys;
    }
    let right = merge_sorted(keys.split_off(keys.len() / 2));
    let left = merge_sorted(keys);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(l), Some(r)) = (left.peek(), right.peek()) {
        let next = if is_before(r, l) {
            right.next()
        } else {
            left.next()
        };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

/// yaml.v2's order of keys: numbers inside by their value, other characters before letters.
fn is_before(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(i) = a.iter().zip(&b).position(|(x, y)| x != y) else {
        return a.len() < b.len();
    };
    match (a[i].is_alphabetic(), b[i].is_alphabetic()) {
        (true, true) => return a[i] < b[i],
        (true, false) | (false, true) => return b[i].is_alphabetic(),
        (false, false) => {}
    }
    let seed = i64::from((a[i] == '0' || b[i] == '0') && after_nonzero_digits(&a[..i]));
    let ((a_number, a_end), (b_number, b_end)) = (number_at(&a, i, seed), number_at(&b, i, seed));
    (a_number, a_end, a[i]) < (b_number, b_end, b[i])
}

/// Is the text in front a number that has begun with something else than zeros?
fn after_nonzero_digits(front: &[char]) -> bool {
    front
        .iter()
        .rev()
        .take_while(|c| c.is_ascii_digit())
        .any(|c| *c != '0')
}

/// The number that begins at `from` and where it ends; wraps around as Go's arithmetic does.
fn number_at(text: &[char], from: usize, seed: i64) -> (i64, usize) {
    let digits = text[from..].iter().map_while(|c| c.to_digit(10));
    digits.fold((seed, from), |(number, end), digit| {
        (
            number.wrapping_mul(10).wrapping_add(i64::from(digit)),
            end + 1,
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

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
            ("1:30", "\"1:30\""),
            ("12:34:56.7", "\"12:34:56.7\""),
            ("a: b", "'a: b'"),
            ("a:", "'a:'"),
            ("a:b", "a:b"),
            ("# no comment", "'# no comment'"),
            ("a #b", "'a #b'"),
            ("a#b", "a#b"),
            ("- a", "'- a'"),
            ("-a", "-a"),
            ("? a", "'? a'"),
            ("---a", "'---a'"),
            ("it's", "it's"),
            ("'quoted'", "'''quoted'''"),
            ("{a}", "'{a}'"),
            ("a{b}", "a{b}"),
            (" lead", "' lead'"),
            ("tab\there", "\"tab\\there\""),
            ("bell\u{7}", "\"bell\\a\""),
            ("ü", "ü"),
            ("\u{1F600}", "\"\\U0001F600\""),
            ("\u{feff}", "\"\\uFEFF\""),
            ("a\u{2028}b", "\"a\\Lb\""),
        ] {
            let mut out = String::new();
            scalar_text(&mut out, text, 0);
            assert_eq!(out, want, "{text:?}");
        }
    }

    #[test]
    fn lays_documents_out_as_go_does() {
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
    fn long_keys_take_the_explicit_form() {
        let key = "k".repeat(129);
        assert_eq!(to_yaml(&json!({ &key: "v" })), format!("? {key}\n: v\n"));
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
            let read = crate::manifest::Reading::default()
                .json(&documents[0].root, crate::manifest::Shape::Any)
                .unwrap();
            prop_assert_eq!(read, value, "{}", text);
        }
    }
}
