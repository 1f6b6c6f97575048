//! Formats one value with one verb.

use super::{MAX_NESTING, float, too_deep};
use crate::budget::Gauge;
use crate::error::Fault;
use crate::quote;
use crate::runes;
use crate::text::Writer;
use crate::value::{Int, IntKind, List, ListKind, Map, MapKind, Pointer, Value};

/// Flags, width and precision of a verb.
#[derive(Clone, Copy, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "Go's flags are independent of each other"
)]
pub(super) struct Flags {
    pub(super) plus: bool,
    pub(super) minus: bool,
    pub(super) sharp: bool,
    pub(super) space: bool,
    pub(super) zero: bool,
    /// Whether the verb is `%+v`.
    pub(super) plus_v: bool,
    /// Whether the verb is `%#v`.
    pub(super) sharp_v: bool,
    pub(super) width: Option<usize>,
    pub(super) precision: Option<usize>,
}

pub(super) struct Printer<'g, 'm> {
    pub(super) out: Writer,
    pub(super) flags: Flags,
    gauge: &'g mut Gauge<'m>,
    /// Whether the output is inside an error such as `%!d(…)`, where methods are not called.
    is_in_error: bool,
}

type WriteResult = Result<(), Fault>;

impl<'g, 'm> Printer<'g, 'm> {
    pub(super) fn new(out: Writer, gauge: &'g mut Gauge<'m>) -> Self {
        Self {
            out,
            flags: Flags::default(),
            gauge,
            is_in_error: false,
        }
    }

    pub(super) fn value(&mut self, value: &Value, verb: char, depth: usize) -> WriteResult {
        self.gauge.charge_steps(value.cost())?;
        if depth > MAX_NESTING {
            return Err(too_deep());
        }
        match verb {
            'T' if depth == 0 && !value.is_nil() => {
                return self.text(value.type_name().as_bytes(), 's');
            }
            'p' if depth == 0 && !value.is_nil() => return self.pointer(value, 'p'),
            'w' if depth == 0 && has_methods(value) => return self.bad_verb(value, 'w'),
            _ => {}
        }
        if let Some(text) = self.method_text(value, verb) {
            return if self.flags.sharp_v {
                self.text(text.as_bytes(), 's')
            } else {
                self.text(text.as_bytes(), verb)
            };
        }
        match value {
            Value::Missing | Value::Nil => self.nil(verb, depth),
            Value::Bool(flag) => match verb {
                't' | 'v' => self.pad(if *flag { b"true" } else { b"false" }),
                _ => self.bad_verb(value, verb),
            },
            Value::Int(int) => self.int(*int, verb),
            Value::Float(number) => self.float(*number, verb, value),
            Value::Complex(real, imaginary) => self.complex(*real, *imaginary, verb, value),
            Value::Text(text) => match verb {
                'v' | 's' | 'x' | 'X' | 'q' => self.text(text, verb),
                _ => self.bad_verb(value, verb),
            },
            Value::List(list) => self.list(list, verb, depth),
            Value::Map(map) => self.map(map, verb, depth),
            Value::Time(time) => self.structure("time.Time", &time.fields(), verb, depth),
            Value::Version(version, pointer) => {
                if *pointer == Pointer::Yes {
                    if depth > 0 {
                        return self.pointer(value, verb);
                    }
                    self.out.byte(b'&')?;
                }
                self.structure("semver.Version", &version.fields(), verb, depth)
            }
            Value::Certificate(certificate) => {
                self.structure("sprig.certificate", &certificate.fields(), verb, depth)
            }
        }
    }

    /// Returns the result of the value's own `String` or `GoString` method.
    fn method_text(&self, value: &Value, verb: char) -> Option<String> {
        if self.is_in_error {
            return None;
        }
        if self.flags.sharp_v {
            return match value {
                Value::Time(time) => Some(time.go_string()),
                _ => None,
            };
        }
        if !matches!(verb, 'v' | 's' | 'x' | 'X' | 'q') {
            return None;
        }
        value.string_method()
    }

    fn nil(&mut self, verb: char, depth: usize) -> WriteResult {
        match verb {
            'T' | 'v' if depth == 0 => self.pad(b"<nil>"),
            _ if depth > 0 && self.flags.sharp_v => self.out.str("interface {}(nil)"),
            _ if depth > 0 => self.out.str("<nil>"),
            _ => self.bad_verb(&Value::Nil, verb),
        }
    }

    pub(super) fn bad_verb(&mut self, value: &Value, verb: char) -> WriteResult {
        self.is_in_error = true;
        self.out.str("%!")?;
        self.out.char(verb)?;
        self.out.byte(b'(')?;
        if value.is_nil() {
            self.out.str("<nil>")?;
        } else {
            self.out.str(value.type_name())?;
            self.out.byte(b'=')?;
            self.value(value, 'v', 0)?;
        }
        self.out.byte(b')')?;
        self.is_in_error = false;
        Ok(())
    }

    /// Writes bytes, padded to the width in characters.
    pub(super) fn pad(&mut self, bytes: &[u8]) -> WriteResult {
        let missing = self
            .flags
            .width
            .unwrap_or(0)
            .saturating_sub(runes::count(bytes));
        if !self.flags.minus {
            self.fill(missing)?;
        }
        self.out.push(bytes)?;
        if self.flags.minus {
            self.fill(missing)?;
        }
        Ok(())
    }

    pub(super) fn fill(&mut self, count: usize) -> WriteResult {
        self.out.fill(
            if self.flags.zero && !self.flags.minus {
                b'0'
            } else {
                b' '
            },
            count,
        )
    }

    /// Writes bytes, padded with spaces even if the flag `0` is set.
    pub(super) fn pad_with_spaces(&mut self, bytes: &[u8]) -> WriteResult {
        let zero = std::mem::take(&mut self.flags.zero);
        self.pad(bytes)?;
        self.flags.zero = zero;
        Ok(())
    }

    fn text(&mut self, bytes: &[u8], verb: char) -> WriteResult {
        match verb {
            'x' | 'X' => return self.hex(bytes, verb == 'X'),
            'q' => {}
            'v' if self.flags.sharp_v => {}
            _ => {
                let bytes = self.cut(bytes);
                return self.pad(bytes);
            }
        }
        let bytes = self.cut(bytes);
        let mut quoted = Writer::new(self.gauge.max_value_size(), crate::error::Limit::Value);
        if self.flags.sharp && quote::can_backquote(bytes) {
            quoted.byte(b'`')?;
            quoted.push(bytes)?;
            quoted.byte(b'`')?;
        } else {
            quote::quote(&mut quoted, bytes, self.flags.plus)?;
        }
        let quoted = quoted.finish();
        self.pad(&quoted)
    }

    /// Truncates to the number of characters that the precision specifies.
    fn cut<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        match self.flags.precision {
            Some(count) => match runes::char_indices(bytes).nth(count) {
                Some((at, ..)) => &bytes[..at],
                None => bytes,
            },
            None => bytes,
        }
    }

    fn hex(&mut self, bytes: &[u8], upper: bool) -> WriteResult {
        let Flags {
            sharp,
            space,
            minus,
            width,
            precision,
            ..
        } = self.flags;
        let bytes = &bytes[..precision.unwrap_or(bytes.len()).min(bytes.len())];
        let needed = match (bytes.len(), space, sharp) {
            (0, ..) => return self.fill(width.unwrap_or(0)),
            (len, true, true) => 5 * len - 1,
            (len, true, false) => 3 * len - 1,
            (len, false, true) => 2 * len + 2,
            (len, false, false) => 2 * len,
        };
        let missing = width.unwrap_or(0).saturating_sub(needed);
        if !minus {
            self.fill(missing)?;
        }
        for (at, byte) in bytes.iter().enumerate() {
            if space && at > 0 {
                self.out.byte(b' ')?;
            }
            if sharp && (space || at == 0) {
                self.out.str(if upper { "0X" } else { "0x" })?;
            }
            let digits = if upper {
                format!("{byte:02X}")
            } else {
                format!("{byte:02x}")
            };
            self.out.str(&digits)?;
        }
        if minus { self.fill(missing) } else { Ok(()) }
    }

    fn float(&mut self, number: f64, verb: char, value: &Value) -> WriteResult {
        match verb {
            'v' => self.write_float(number, 'g', None),
            'b' | 'g' | 'G' | 'x' | 'X' => self.write_float(number, verb, None),
            'f' | 'e' | 'E' => self.write_float(number, verb, Some(6)),
            'F' => self.write_float(number, 'f', Some(6)),
            _ => self.bad_verb(value, verb),
        }
    }

    fn write_float(&mut self, number: f64, verb: char, precision: Option<usize>) -> WriteResult {
        let precision = self.flags.precision.or(precision);
        let digits = precision.unwrap_or(0).min(float::MAX_DIGITS);
        self.gauge.charge_steps(digits / 4)?; // exact digits are calculated one by one, from very long numbers
        let mut text = float::format_float(number, verb, precision);
        if !text.starts_with(['-', '+']) {
            text.insert(0, '+');
        }
        let flags = self.flags;
        if flags.space && text.starts_with('+') && !flags.plus {
            text.replace_range(..1, " ");
        }
        if !number.is_finite() {
            if number.is_nan() && !flags.space && !flags.plus {
                text.remove(0);
            }
            return self.pad_with_spaces(text.as_bytes());
        }
        if flags.sharp && verb != 'b' {
            text = float::apply_sharp_flag(&text, verb, precision);
        }
        if !flags.plus && text.starts_with('+') {
            return self.pad(&text.as_bytes()[1..]);
        }
        match flags.width {
            Some(width) if flags.zero && !flags.minus && width > text.len() => {
                self.out.push(&text.as_bytes()[..1])?;
                self.fill(width - text.len())?;
                self.out.push(&text.as_bytes()[1..])
            }
            _ => self.pad(text.as_bytes()),
        }
    }

    fn complex(&mut self, real: f64, imaginary: f64, verb: char, value: &Value) -> WriteResult {
        if !matches!(
            verb,
            'v' | 'b' | 'g' | 'G' | 'x' | 'X' | 'f' | 'F' | 'e' | 'E'
        ) {
            return self.bad_verb(value, verb);
        }
        let plus = self.flags.plus;
        self.out.byte(b'(')?;
        self.float(real, verb, value)?;
        self.flags.plus = true;
        self.float(imaginary, verb, value)?;
        self.flags.plus = plus;
        self.out.str("i)")
    }

    fn list(&mut self, list: &List, verb: char, depth: usize) -> WriteResult {
        let name = Value::List(list.clone()).type_name();
        if list.kind == ListKind::Bytes && matches!(verb, 's' | 'q' | 'x' | 'X') {
            let bytes: Vec<u8> = list.items().iter().map(to_byte).collect();
            return self.text(&bytes, verb);
        }
        let sharp = self.flags.sharp_v;
        if sharp {
            self.out.str(if list.kind == ListKind::Bytes {
                "[]byte"
            } else {
                name
            })?;
            if list.nil {
                return self.out.str("(nil)");
            }
        }
        self.out.byte(if sharp { b'{' } else { b'[' })?;
        for (at, item) in list.items().iter().enumerate() {
            self.separator(at)?;
            self.value(item, verb, depth + 1)?;
        }
        self.out.byte(if sharp { b'}' } else { b']' })
    }

    fn separator(&mut self, at: usize) -> WriteResult {
        match at {
            0 => Ok(()),
            _ if self.flags.sharp_v => self.out.str(", "),
            _ => self.out.byte(b' '),
        }
    }

    fn map(&mut self, map: &Map, verb: char, depth: usize) -> WriteResult {
        let sharp = self.flags.sharp_v;
        if sharp {
            self.out.str(if map.kind == MapKind::Any {
                "map[string]interface {}"
            } else {
                "map[string]string"
            })?;
            if map.nil {
                return self.out.str("(nil)");
            }
        }
        self.out.str(if sharp { "{" } else { "map[" })?;
        for (at, (key, value)) in map.entries().iter().enumerate() {
            self.separator(at)?;
            self.value(&Value::Text(key.clone()), verb, depth + 1)?;
            self.out.byte(b':')?;
            self.value(value, verb, depth + 1)?;
        }
        self.out.byte(if sharp { b'}' } else { b']' })
    }

    fn structure(
        &mut self,
        name: &str,
        fields: &[(&'static str, Value)],
        verb: char,
        depth: usize,
    ) -> WriteResult {
        let Flags {
            sharp_v, plus_v, ..
        } = self.flags;
        if sharp_v {
            self.out.str(name)?;
        }
        self.out.byte(b'{')?;
        for (at, (name, value)) in fields.iter().enumerate() {
            self.separator(at)?;
            if plus_v || sharp_v {
                self.out.str(name)?;
                self.out.byte(b':')?;
            }
            self.value(value, verb, depth + 1)?;
        }
        self.out.byte(b'}')
    }

    /// Writes every pointer as `0x0`: addresses differ from run to run and reveal where secrets are in memory.
    fn pointer(&mut self, value: &Value, verb: char) -> WriteResult {
        match value {
            Value::List(_) | Value::Map(_) | Value::Version(_, Pointer::Yes) => self.pad(b"0x0"),
            _ => self.bad_verb(value, verb),
        }
    }
}

fn has_methods(value: &Value) -> bool {
    !matches!(
        value,
        Value::Bool(_) | Value::Float(_) | Value::Complex(..) | Value::Text(_)
    ) && !matches!(value, Value::Int(int) if !is_named_type(*int))
}

fn is_named_type(int: Int) -> bool {
    matches!(
        int.kind,
        IntKind::Duration | IntKind::Month | IntKind::Weekday
    )
}

fn to_byte(item: &Value) -> u8 {
    match item {
        Value::Int(int) => int.bits.to_le_bytes()[0],
        _ => 0,
    }
}
