//! Reads and writes Go's quoted literals (package strconv).

use crate::error::Fault;
use crate::runes;
use crate::text::Writer;

/// Returns the bytes of a literal in double, single or back quotes; `None` if the literal is invalid.
pub(crate) fn unquote(literal: &str) -> Option<Vec<u8>> {
    let mut chars = literal.chars();
    let quote = chars.next()?;
    let body = chars.as_str().strip_suffix(quote)?;
    if quote == '`' {
        return Some(body.bytes().filter(|&byte| byte != b'\r').collect());
    }
    let mut bytes = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (unit, after) = unescape(rest, quote)?;
        match unit {
            Unit::Char(char) => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            Unit::Byte(byte) => bytes.push(byte),
        }
        rest = after;
    }
    Some(bytes)
}

/// Returns the character of a rune literal; a byte escape counts as its code point. `None` if the literal is invalid.
pub(crate) fn unquote_rune(literal: &str) -> Option<char> {
    let body = literal.strip_prefix('\'')?;
    let (unit, rest) = unescape(body, '\'')?;
    (rest == "'").then_some(match unit {
        Unit::Char(char) => char,
        Unit::Byte(byte) => char::from(byte),
    })
}

enum Unit {
    Char(char),
    Byte(u8),
}

fn unescape(text: &str, quote: char) -> Option<(Unit, &str)> {
    let mut chars = text.chars();
    let char = chars.next()?;
    if char == quote || char == '\n' {
        return None;
    }
    if char != '\\' {
        return Some((Unit::Char(char), chars.as_str()));
    }
    let char = chars.next()?;
    let rest = chars.as_str();
    let simple = |char| Some((Unit::Char(char), rest));
    match char {
        'a' => simple('\x07'),
        'b' => simple('\x08'),
        'f' => simple('\x0c'),
        'n' => simple('\n'),
        'r' => simple('\r'),
        't' => simple('\t'),
        'v' => simple('\x0b'),
        '\\' => simple('\\'),
        '\'' | '"' if char == quote => simple(char),
        'x' => digits(rest, 2, 16)
            .and_then(|(code, rest)| Some((Unit::Byte(u8::try_from(code).ok()?), rest))),
        'u' | 'U' => {
            let (code, rest) = digits(rest, if char == 'u' { 4 } else { 8 }, 16)?;
            Some((Unit::Char(char::from_u32(code)?), rest))
        }
        '0'..='7' => {
            let (code, rest) = digits(&text[1..], 3, 8)?;
            Some((Unit::Byte(u8::try_from(code).ok()?), rest))
        }
        _ => None,
    }
}

fn digits(text: &str, count: usize, base: u32) -> Option<(u32, &str)> {
    let (head, rest) = text.split_at_checked(count)?;
    if !head.chars().all(|char| char.is_digit(base)) {
        return None;
    }
    Some((u32::from_str_radix(head, base).ok()?, rest))
}

/// Writes a double-quoted Go literal; `ascii` escapes everything outside ASCII.
pub(crate) fn quote(out: &mut Writer, bytes: &[u8], ascii: bool) -> Result<(), Fault> {
    out.byte(b'"')?;
    for (at, char, width) in runes::char_indices(bytes) {
        if width == 1 && char == runes::REPLACEMENT {
            out.str(&format!("\\x{:02x}", bytes[at]))?;
        } else {
            escape(out, char, '"', ascii)?;
        }
    }
    out.byte(b'"')
}

/// Writes a single-quoted Go literal.
pub(crate) fn quote_rune(out: &mut Writer, char: char, ascii: bool) -> Result<(), Fault> {
    out.byte(b'\'')?;
    escape(out, char, '\'', ascii)?;
    out.byte(b'\'')
}

fn escape(out: &mut Writer, char: char, quote: char, ascii: bool) -> Result<(), Fault> {
    match char {
        '\\' => out.str("\\\\"),
        _ if char == quote => {
            out.byte(b'\\')?;
            out.char(char)
        }
        _ if runes::is_print(char) && (char.is_ascii() || !ascii) => out.char(char),
        '\x07' => out.str("\\a"),
        '\x08' => out.str("\\b"),
        '\x0c' => out.str("\\f"),
        '\n' => out.str("\\n"),
        '\r' => out.str("\\r"),
        '\t' => out.str("\\t"),
        '\x0b' => out.str("\\v"),
        '\0'..=' ' | '\x7f' => out.str(&format!("\\x{:02x}", u32::from(char))),
        _ if u32::from(char) < 0x1_0000 => out.str(&format!("\\u{:04x}", u32::from(char))),
        _ => out.str(&format!("\\U{:08x}", u32::from(char))),
    }
}

/// Returns whether the bytes can be written between back quotes unchanged.
pub(crate) fn can_backquote(bytes: &[u8]) -> bool {
    runes::char_indices(bytes).all(|(_, char, width)| match char {
        runes::REPLACEMENT => width > 1,
        '\u{FEFF}' | '`' | '\x7f' => false,
        '\t' => true,
        _ => char >= ' ',
    })
}
