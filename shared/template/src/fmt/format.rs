//! Evaluates the format string of `printf`: flags, width, precision, argument numbers and their errors.

use super::printer::{Flags, Printer};
use crate::error::Fault;
use crate::runes;
use crate::value::Value;

/// Go's limit of widths, precisions and argument numbers.
const MAX_NUMBER: i64 = 1_000_000;

struct Format<'f> {
    text: &'f [u8],
    at: usize,
    values: &'f [Value],
    next: usize,
    /// Whether a verb has used an argument number.
    reordered: bool,
    /// Whether this verb has had no invalid argument number so far.
    is_index_valid: bool,
    after_index: bool,
    /// Position of the last closing bracket, after which no argument number can end. Without it, each opening bracket
    /// would cause a search to the end.
    last_close: Option<usize>,
}

/// Prints `values` according to the format string `text`.
pub(super) fn print_formatted(
    printer: &mut Printer<'_, '_>,
    text: &[u8],
    values: &[Value],
) -> Result<(), Fault> {
    let mut format = Format {
        text,
        at: 0,
        values,
        next: 0,
        reordered: false,
        is_index_valid: true,
        after_index: false,
        last_close: memchr::memrchr(b']', text),
    };
    while let Some(literal) = format.literal() {
        printer.out.push(literal)?;
        if format.at >= text.len() {
            break;
        }
        format.at += 1;
        if !format.verb(printer)? {
            break;
        }
    }
    format.report_extra(printer)
}

impl<'f> Format<'f> {
    /// Returns the text up to the next percent sign; `None` at the end of the format.
    fn literal(&mut self) -> Option<&'f [u8]> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let len = rest
            .iter()
            .position(|&byte| byte == b'%')
            .unwrap_or(rest.len());
        self.at += len;
        Some(&rest[..len])
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Formats one verb; returns false if the format ends first.
    fn verb(&mut self, printer: &mut Printer<'_, '_>) -> Result<bool, Fault> {
        self.is_index_valid = true;
        self.after_index = false;
        printer.flags = self.flags();
        self.index();
        self.width(printer)?;
        self.precision(printer)?;
        if !self.after_index {
            self.index();
        }
        if self.at >= self.text.len() {
            printer.out.str("%!(NOVERB)")?;
            return Ok(false);
        }
        let (verb, width) = runes::decode(&self.text[self.at..]);
        self.at += width;
        match (verb, self.values.get(self.next)) {
            ('%', _) => printer.out.byte(b'%')?,
            (_, _) if !self.is_index_valid => write_error(printer, verb, "(BADINDEX)")?,
            (_, None) => write_error(printer, verb, "(MISSING)")?,
            (_, Some(value)) => {
                self.next += 1;
                if verb == 'v' {
                    printer.flags.sharp_v = std::mem::take(&mut printer.flags.sharp);
                    printer.flags.plus_v = std::mem::take(&mut printer.flags.plus);
                }
                printer.value(value, verb, 0)?;
            }
        }
        Ok(true)
    }

    fn flags(&mut self) -> Flags {
        let mut flags = Flags::default();
        loop {
            match self.peek() {
                Some(b'#') => flags.sharp = true,
                Some(b'0') => flags.zero = true,
                Some(b'+') => flags.plus = true,
                Some(b'-') => flags.minus = true,
                Some(b' ') => flags.space = true,
                _ => return flags,
            }
            self.at += 1;
        }
    }

    /// Reads `[2]`, the number of the next argument.
    fn index(&mut self) {
        if self.peek() != Some(b'[') {
            self.after_index = false;
            return;
        }
        self.reordered = true;
        let rest = &self.text[self.at..];
        let close = self
            .last_close
            .filter(|&last| last >= self.at)
            .and_then(|_| memchr::memchr(b']', rest))
            .filter(|_| rest.len() >= 3);
        let number = close.and_then(|close| {
            let digits = &rest[1..close];
            let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            is_number.then(|| parse_number(digits)).flatten()
        });
        self.at += close.map_or(1, |close| close + 1);
        let index = number.and_then(|number| usize::try_from(number - 1).ok());
        if let Some(index) = index.filter(|&index| index < self.values.len()) {
            self.next = index;
            self.after_index = true;
        } else {
            self.is_index_valid = false;
            self.after_index = number.is_some();
        }
    }

    fn width(&mut self, printer: &mut Printer<'_, '_>) -> Result<(), Fault> {
        if self.peek() == Some(b'*') {
            self.at += 1;
            self.after_index = false;
            match self.star() {
                Some(width) => {
                    printer.flags.width = usize::try_from(width.unsigned_abs()).ok();
                    if width < 0 {
                        printer.flags.minus = true;
                        printer.flags.zero = false;
                    }
                }
                None => printer.out.str("%!(BADWIDTH)")?,
            }
            return Ok(());
        }
        printer.flags.width = self.number();
        if self.after_index && printer.flags.width.is_some() {
            self.is_index_valid = false;
        }
        Ok(())
    }

    fn precision(&mut self, printer: &mut Printer<'_, '_>) -> Result<(), Fault> {
        if self.peek() != Some(b'.') || self.at + 1 >= self.text.len() {
            return Ok(());
        }
        self.at += 1;
        if self.after_index {
            self.is_index_valid = false;
        }
        self.index();
        if self.peek() == Some(b'*') {
            self.at += 1;
            self.after_index = false;
            printer.flags.precision = self
                .star()
                .and_then(|precision| usize::try_from(precision).ok());
            if printer.flags.precision.is_none() {
                printer.out.str("%!(BADPREC)")?;
            }
        } else {
            printer.flags.precision = Some(self.number().unwrap_or(0));
        }
        Ok(())
    }

    /// Reads a number. A number that is too large consumes the rest of the format, as in Go.
    fn number(&mut self) -> Option<usize> {
        let rest = &self.text[self.at.min(self.text.len())..];
        let len = rest
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(rest.len());
        if len == 0 {
            return None;
        }
        let Some(number) = parse_number(&rest[..len]) else {
            self.at = self.text.len();
            return None;
        };
        self.at += len;
        usize::try_from(number).ok()
    }

    /// Returns the argument for a `*` as width or precision; `None` if it is not a suitable integer.
    fn star(&mut self) -> Option<i64> {
        let value = self.values.get(self.next)?;
        self.next += 1;
        let Value::Int(int) = value else {
            return None;
        };
        let number = i64::try_from(int.to_i128()).ok()?;
        (-MAX_NUMBER..=MAX_NUMBER)
            .contains(&number)
            .then_some(number)
    }

    /// Writes the arguments that no verb used, as Go does; nothing if an index reordered them.
    fn report_extra(&self, printer: &mut Printer<'_, '_>) -> Result<(), Fault> {
        if self.reordered || self.next >= self.values.len() {
            return Ok(());
        }
        printer.flags = Flags::default();
        printer.out.str("%!(EXTRA ")?;
        for (at, value) in self.values[self.next..].iter().enumerate() {
            if at > 0 {
                printer.out.str(", ")?;
            }
            if value.is_nil() {
                printer.out.str("<nil>")?;
            } else {
                printer.out.str(value.type_name())?;
                printer.out.byte(b'=')?;
                printer.value(value, 'v', 0)?;
            }
        }
        printer.out.byte(b')')
    }
}

fn write_error(printer: &mut Printer<'_, '_>, verb: char, error: &str) -> Result<(), Fault> {
    printer.out.str("%!")?;
    printer.out.char(verb)?;
    printer.out.str(error)
}

/// Parses digits. Returns `None` once the number before the last digit exceeds [`MAX_NUMBER`], as Go does.
fn parse_number(digits: &[u8]) -> Option<i64> {
    let mut number = 0_i64;
    for digit in digits {
        if number > MAX_NUMBER {
            return None;
        }
        number = number * 10 + i64::from(digit - b'0');
    }
    Some(number)
}
