//! JSON as Go's encoding/json reads and writes it.

use crate::environment::Environment;
use crate::error::{Fault, Limit};
use crate::fmt;
use crate::runes;
use crate::text::{Text, Writer};
use crate::value::{Entries, List, ListKind, Map, Value};

/// Maximum nesting when reading or writing. Go's limit for reading is 10,000; Go has none for writing.
const MAX_NESTING: usize = 100;

/// Writes JSON on one line. `html` escapes `<`, `>` and `&`.
pub(crate) fn compact(env: &mut Environment<'_>, value: &Value, html: bool) -> Result<Text, Fault> {
    write(
        env,
        value,
        Layout {
            html,
            pretty: false,
        },
    )
}

/// Writes JSON with two spaces per level, and with HTML escapes.
pub(crate) fn pretty(env: &mut Environment<'_>, value: &Value) -> Result<Text, Fault> {
    write(
        env,
        value,
        Layout {
            html: true,
            pretty: true,
        },
    )
}

#[derive(Clone, Copy)]
struct Layout {
    html: bool,
    pretty: bool,
}

fn write(env: &mut Environment<'_>, value: &Value, layout: Layout) -> Result<Text, Fault> {
    let mut out = env.writer();
    Encoder {
        out: &mut out,
        layout,
        env,
    }
    .value(value, 0)?;
    Ok(out.finish())
}

struct Encoder<'o, 'e, 'c> {
    out: &'o mut Writer,
    layout: Layout,
    env: &'e mut Environment<'c>,
}

impl Encoder<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Fault> {
        self.env.gauge.charge_steps(value.cost())?;
        if depth > MAX_NESTING {
            return Err(Fault::limit(Limit::Depth));
        }
        match value {
            Value::Missing | Value::Nil => self.out.str("null"),
            Value::Bool(flag) => self.out.str(if *flag { "true" } else { "false" }),
            Value::Int(int) => self.out.str(&int.to_i128().to_string()),
            Value::Float(float) => self.float(*float),
            Value::Complex(..) => Err(Fault::failed("JSON has no complex numbers")),
            Value::Text(text) => self.text(text),
            Value::List(list) => self.list(list, depth),
            Value::Map(map) => self.map(map, depth),
            Value::Time(time) => {
                let text = time
                    .json()
                    .ok_or(Fault::failed("JSON has only the years 0 to 9999"))?;
                self.text(text.as_bytes())
            }
            Value::Version(version, _) => self.text(version.to_string().as_bytes()),
            Value::Certificate(certificate) => {
                let fields = certificate.fields();
                let pairs = fields
                    .iter()
                    .map(|(name, value)| (Text::from(*name), value.clone()))
                    .collect::<Vec<_>>();
                self.object(&pairs, depth)
            }
        }
    }

    fn float(&mut self, float: f64) -> Result<(), Fault> {
        if !float.is_finite() {
            return Err(Fault::failed("JSON has neither infinity nor NaN"));
        }
        let magnitude = float.abs();
        let verb = if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
            'e'
        } else {
            'f'
        };
        let text = fmt::format_float(float, verb, None);
        self.out.str(&text.replace("e-0", "e-"))
    }

    fn text(&mut self, text: &[u8]) -> Result<(), Fault> {
        self.out.byte(b'"')?;
        for (at, char, width) in runes::char_indices(text) {
            match char {
                '"' => self.out.str("\\\"")?,
                '\\' => self.out.str("\\\\")?,
                '\x08' => self.out.str("\\b")?,
                '\x0c' => self.out.str("\\f")?,
                '\n' => self.out.str("\\n")?,
                '\r' => self.out.str("\\r")?,
                '\t' => self.out.str("\\t")?,
                '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => self.escape(char)?,
                '<' | '>' | '&' if self.layout.html => self.escape(char)?,
                runes::REPLACEMENT if width == 1 => self.out.str("\\ufffd")?,
                _ => self.out.push(&text[at..at + width])?,
            }
        }
        self.out.byte(b'"')
    }

    fn escape(&mut self, char: char) -> Result<(), Fault> {
        self.out.str(&format!("\\u{:04x}", u32::from(char)))
    }

    fn line(&mut self, depth: usize) -> Result<(), Fault> {
        if self.layout.pretty {
            self.out.byte(b'\n')?;
            self.out.fill(b' ', 2 * depth)?;
        }
        Ok(())
    }

    fn list(&mut self, list: &List, depth: usize) -> Result<(), Fault> {
        if list.nil {
            return self.out.str("null");
        }
        if list.kind == ListKind::Bytes {
            return Err(Fault::failed("a list of bytes cannot be written as JSON"));
        }
        self.out.byte(b'[')?;
        for (at, item) in list.items().iter().enumerate() {
            if at > 0 {
                self.out.byte(b',')?;
            }
            self.line(depth + 1)?;
            self.value(item, depth + 1)?;
        }
        if list.len() > 0 {
            self.line(depth)?;
        }
        self.out.byte(b']')
    }

    fn map(&mut self, map: &Map, depth: usize) -> Result<(), Fault> {
        if map.nil {
            return self.out.str("null");
        }
        let pairs: Vec<(Text, Value)> = map
            .entries()
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        self.object(&pairs, depth)
    }

    fn object(&mut self, pairs: &[(Text, Value)], depth: usize) -> Result<(), Fault> {
        self.out.byte(b'{')?;
        for (at, (key, value)) in pairs.iter().enumerate() {
            if at > 0 {
                self.out.byte(b',')?;
            }
            self.line(depth + 1)?;
            self.env.gauge.charge_bytes(key.len())?;
            self.text(key)?;
            self.out.str(if self.layout.pretty { ": " } else { ":" })?;
            self.value(value, depth + 1)?;
        }
        if !pairs.is_empty() {
            self.line(depth)?;
        }
        self.out.byte(b'}')
    }
}

/// A parsed value, and whether the whole string could be parsed and represented.
pub(crate) struct ParsedJson {
    pub(crate) value: Value,
    pub(crate) is_complete: bool,
}

/// Parses JSON. The value is nil if the JSON is invalid; a number beyond the range of a float becomes nil.
pub(crate) fn parse(env: &mut Environment<'_>, text: &[u8]) -> Result<ParsedJson, Fault> {
    let mut decoder = Decoder {
        text,
        at: 0,
        is_complete: true,
        env,
    };
    decoder.space();
    match decoder.value(0) {
        Ok(value) => {
            decoder.space();
            let is_complete = decoder.is_complete && decoder.at == text.len();
            let value = if decoder.at == text.len() {
                value
            } else {
                Value::Nil
            };
            Ok(ParsedJson { value, is_complete })
        }
        Err(ParseFailure::Syntax) => Ok(ParsedJson {
            value: Value::Nil,
            is_complete: false,
        }),
        Err(ParseFailure::Fault(fault)) => Err(fault),
    }
}

enum ParseFailure {
    Syntax,
    Fault(Fault),
}

impl From<Fault> for ParseFailure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

struct Decoder<'t, 'e, 'c> {
    text: &'t [u8],
    at: usize,
    is_complete: bool,
    env: &'e mut Environment<'c>,
}

type ParseResult = Result<Value, ParseFailure>;

impl Decoder<'_, '_, '_> {
    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn value(&mut self, depth: usize) -> ParseResult {
        self.env.gauge.charge_memory(64)?;
        if depth > MAX_NESTING {
            return Err(Fault::limit(Limit::Depth).into());
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => Ok(Value::Text(self.text()?)),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Nil),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> ParseResult {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return Err(ParseFailure::Syntax);
        }
        self.at += word.len();
        Ok(value)
    }

    fn digits(&mut self) -> Result<(), ParseFailure> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start {
            Ok(())
        } else {
            Err(ParseFailure::Syntax)
        }
    }

    fn number(&mut self) -> ParseResult {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let number = crate::number::parse_float(&self.text[start..self.at]);
        self.is_complete &= number.is_some();
        Ok(number.map_or(Value::Nil, Value::Float))
    }

    fn text(&mut self) -> Result<Text, ParseFailure> {
        self.at += 1;
        let mut out = self.env.writer();
        loop {
            let rest = &self.text[self.at..];
            let (char, width) = runes::decode(rest);
            self.at += width;
            match char {
                _ if width == 0 => return Err(ParseFailure::Syntax),
                '"' => break,
                '\\' => {
                    let char = self.escape()?;
                    out.char(char)?;
                }
                '\0'..='\x1f' => return Err(ParseFailure::Syntax),
                _ => out.char(char)?,
            }
        }
        self.env.gauge.charge_memory(out.len())?;
        Ok(out.finish())
    }

    fn escape(&mut self) -> Result<char, ParseFailure> {
        let byte = self.peek().ok_or(ParseFailure::Syntax)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.code_unit()?;
                return Ok(char::from_u32(high).unwrap_or_else(|| self.surrogates(high)));
            }
            _ => return Err(ParseFailure::Syntax),
        })
    }

    fn code_unit(&mut self) -> Result<u32, ParseFailure> {
        let unit = hex4(self.text.get(self.at..self.at + 4)).ok_or(ParseFailure::Syntax)?;
        self.at += 4;
        Ok(unit)
    }

    /// Reads the second half of a surrogate pair if it follows; half a pair becomes U+FFFD.
    fn surrogates(&mut self, high: u32) -> char {
        let next = self
            .text
            .get(self.at..self.at + 6)
            .filter(|next| next.starts_with(b"\\u"));
        let low = next.and_then(|next| hex4(Some(&next[2..])));
        match low {
            Some(low @ 0xDC00..=0xDFFF) if high < 0xDC00 => {
                self.at += 6;
                char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
                    .unwrap_or(runes::REPLACEMENT)
            }
            _ => runes::REPLACEMENT,
        }
    }

    fn list(&mut self, depth: usize) -> ParseResult {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(List::new(ListKind::Any, items)?.into());
        }
        loop {
            self.space();
            items.push(self.value(depth + 1)?);
            self.space();
            let byte = self.peek();
            self.at += 1;
            match byte {
                Some(b',') => {}
                Some(b']') => return Ok(List::new(ListKind::Any, items)?.into()),
                _ => return Err(ParseFailure::Syntax),
            }
        }
    }

    fn object(&mut self, depth: usize) -> ParseResult {
        self.at += 1;
        let mut entries = Entries::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(self.env.new_map(entries)?.into());
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(ParseFailure::Syntax);
            }
            let key = self.text()?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(ParseFailure::Syntax);
            }
            self.at += 1;
            self.space();
            let value = self.value(depth + 1)?;
            entries.insert(key, value);
            self.space();
            let byte = self.peek();
            self.at += 1;
            match byte {
                Some(b',') => {}
                Some(b'}') => return Ok(self.env.new_map(entries)?.into()),
                _ => return Err(ParseFailure::Syntax),
            }
        }
    }
}

fn hex4(digits: Option<&[u8]>) -> Option<u32> {
    let digits = std::str::from_utf8(digits?).ok()?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, 16).ok()
}
