//! Unicode as Go sees it: decoding that tolerates invalid bytes, character classes, one-to-one case mapping.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// The character that Go's decoder returns for a byte that is not UTF-8.
pub(crate) const REPLACEMENT: char = '\u{FFFD}';

/// Returns the first character and its width in bytes; an invalid byte gives [`REPLACEMENT`] and width 1, an
/// empty input gives width 0.
pub(crate) fn decode(bytes: &[u8]) -> (char, usize) {
    let Some(&first) = bytes.first() else {
        return (REPLACEMENT, 0);
    };
    if first < 0x80 {
        return (char::from(first), 1);
    }
    let width = match first {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return (REPLACEMENT, 1),
    };
    let char = bytes
        .get(..width)
        .and_then(|head| std::str::from_utf8(head).ok());
    match char.and_then(|text| text.chars().next()) {
        Some(char) => (char, width),
        None => (REPLACEMENT, 1),
    }
}

/// Returns the last character and its width, by the rules of [`decode`].
pub(crate) fn decode_last(bytes: &[u8]) -> (char, usize) {
    for width in 1..=4.min(bytes.len()) {
        let tail = &bytes[bytes.len() - width..];
        let (char, read) = decode(tail);
        if read == width && (width > 1 || tail[0] < 0x80) {
            return (char, width);
        }
    }
    (REPLACEMENT, usize::from(!bytes.is_empty()))
}

/// Iterates over the characters; each item has the offset, the character and its width in bytes.
pub(crate) fn char_indices(bytes: &[u8]) -> impl Iterator<Item = (usize, char, usize)> + '_ {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let (char, width) = decode(&bytes[offset..]);
        let item = (offset, char, width);
        offset += width;
        (width > 0).then_some(item)
    })
}

pub(crate) fn chars(bytes: &[u8]) -> impl Iterator<Item = char> + '_ {
    char_indices(bytes).map(|(_, char, _)| char)
}

pub(crate) fn count(bytes: &[u8]) -> usize {
    chars(bytes).count()
}

type Ranges = Vec<(char, char)>;

fn ranges(class: &str) -> Ranges {
    match regex_syntax::parse(class).map(regex_syntax::hir::Hir::into_kind) {
        Ok(HirKind::Class(Class::Unicode(class))) => class
            .iter()
            .map(|range| (range.start(), range.end()))
            .collect(),
        Ok(HirKind::Class(Class::Bytes(class))) => class
            .iter()
            .map(|range| (char::from(range.start()), char::from(range.end())))
            .collect(),
        _ => Ranges::new(),
    }
}

fn is_within(ranges: &Ranges, char: char) -> bool {
    let after = ranges.partition_point(|&(start, _)| start <= char);
    after > 0 && char <= ranges[after - 1].1
}

macro_rules! class {
    ($(#[$doc:meta])* $name:ident, $class:literal) => {
        $(#[$doc])*
        pub(crate) fn $name(char: char) -> bool {
            static RANGES: LazyLock<Ranges> = LazyLock::new(|| ranges($class));
            is_within(&RANGES, char)
        }
    };
}

class!(is_letter_beyond_ascii, r"\p{L}");
class!(is_nd, r"\p{Nd}");
class!(is_punct, r"\p{P}");
class!(is_upper, r"\p{Lu}");
class!(is_lower, r"\p{Ll}");
class!(is_title, r"\p{Lt}");
class!(is_number, r"\p{N}");
class!(is_graphic, r"[\p{L}\p{M}\p{N}\p{P}\p{S}]");

pub(crate) fn is_letter(char: char) -> bool {
    if char.is_ascii() {
        char.is_ascii_alphabetic()
    } else {
        is_letter_beyond_ascii(char)
    }
}

pub(crate) fn is_digit(char: char) -> bool {
    if char.is_ascii() {
        char.is_ascii_digit()
    } else {
        is_nd(char)
    }
}

/// Returns whether `%q` shows the character as it is: letters, marks, numbers, punctuation, symbols and the
/// ASCII space.
pub(crate) fn is_print(char: char) -> bool {
    if char.is_ascii() {
        (' '..='~').contains(&char)
    } else {
        is_graphic(char)
    }
}

pub(crate) fn is_space(char: char) -> bool {
    char.is_whitespace()
}

/// Converts to upper case one-to-one; Rust's own mapping may return several characters.
pub(crate) fn to_upper(char: char) -> char {
    match char {
        '\u{1F80}'..='\u{1F87}' | '\u{1F90}'..='\u{1F97}' | '\u{1FA0}'..='\u{1FA7}' => {
            offset(char, 8)
        }
        '\u{1FB3}' | '\u{1FC3}' | '\u{1FF3}' => offset(char, 9),
        _ => map_to_single(char, char.to_uppercase()),
    }
}

pub(crate) fn to_lower(char: char) -> char {
    if char == '\u{130}' {
        'i'
    } else {
        map_to_single(char, char.to_lowercase())
    }
}

/// Converts to title case one-to-one: upper case except for digraphs and Georgian.
pub(crate) fn to_title(char: char) -> char {
    match char {
        '\u{1C4}'..='\u{1C6}' => '\u{1C5}',
        '\u{1C7}'..='\u{1C9}' => '\u{1C8}',
        '\u{1CA}'..='\u{1CC}' => '\u{1CB}',
        '\u{1F1}'..='\u{1F3}' => '\u{1F2}',
        '\u{10D0}'..='\u{10FA}' | '\u{10FD}'..='\u{10FF}' => char,
        _ => to_upper(char),
    }
}

fn offset(char: char, by: u32) -> char {
    char::from_u32(u32::from(char) + by).unwrap_or(char)
}

fn map_to_single(char: char, mut mapped: impl ExactSizeIterator<Item = char>) -> char {
    match (mapped.len(), mapped.next()) {
        (1, Some(one)) => one,
        _ => char,
    }
}
