//! Formats integers by verb.

use super::printer::Printer;
use crate::error::{Fault, Limit};
use crate::quote;
use crate::runes;
use crate::text::Writer;
use crate::value::{Int, Value};

impl Printer<'_, '_> {
    pub(super) fn int(&mut self, int: Int, verb: char) -> Result<(), Fault> {
        match verb {
            'v' if self.flags.sharp_v && !int.is_signed() => {
                let sharp = std::mem::replace(&mut self.flags.sharp, true);
                self.digits(int, 16, 'v')?;
                self.flags.sharp = sharp;
                Ok(())
            }
            'v' | 'd' => self.digits(int, 10, verb),
            'b' => self.digits(int, 2, verb),
            'o' | 'O' => self.digits(int, 8, verb),
            'x' | 'X' => self.digits(int, 16, verb),
            'c' => {
                let char = rune(int);
                self.pad(char.encode_utf8(&mut [0; 4]).as_bytes())
            }
            'q' => {
                let mut quoted = Writer::new(64, Limit::Value);
                quote::quote_rune(&mut quoted, rune(int), self.flags.plus)?;
                let quoted = quoted.finish();
                self.pad(&quoted)
            }
            'U' => self.unicode(int),
            _ => self.bad_verb(&Value::Int(int), verb),
        }
    }

    fn digits(&mut self, int: Int, base: u32, verb: char) -> Result<(), Fault> {
        let negative = int.to_i128() < 0;
        let magnitude = u64::try_from(int.to_i128().unsigned_abs()).unwrap_or(u64::MAX);
        let flags = self.flags;
        if flags.precision == Some(0) && magnitude == 0 {
            let zero = std::mem::take(&mut self.flags.zero);
            self.fill(flags.width.unwrap_or(0))?;
            self.flags.zero = zero;
            return Ok(());
        }
        let min_digits = match (flags.precision, flags.width) {
            (Some(precision), _) => precision,
            (None, Some(width)) if flags.zero && !flags.minus => {
                width - usize::from(width > 0 && (negative || flags.plus || flags.space))
            }
            _ => 0,
        };
        let digits = in_base(magnitude, base, verb == 'X');
        let mut text = "0".repeat(min_digits.saturating_sub(digits.len())) + &digits;
        if flags.sharp {
            match base {
                2 => text.insert_str(0, "0b"),
                8 if !text.starts_with('0') => text.insert(0, '0'),
                16 => text.insert_str(0, if verb == 'X' { "0X" } else { "0x" }),
                _ => {}
            }
        }
        if verb == 'O' {
            text.insert_str(0, "0o");
        }
        if negative {
            text.insert(0, '-');
        } else if flags.plus {
            text.insert(0, '+');
        } else if flags.space {
            text.insert(0, ' ');
        }
        self.pad_with_spaces(text.as_bytes())
    }

    /// Formats as a code point such as `U+0078`, followed by the character if the flag `#` is set.
    fn unicode(&mut self, int: Int) -> Result<(), Fault> {
        let code = int.unsigned_bits();
        let min_digits = self.flags.precision.unwrap_or(4).max(4);
        let digits = in_base(code, 16, true);
        let mut text = format!(
            "U+{}{digits}",
            "0".repeat(min_digits.saturating_sub(digits.len()))
        );
        let char = u32::try_from(code).ok().and_then(char::from_u32);
        if let Some(char) = char.filter(|&char| self.flags.sharp && runes::is_print(char)) {
            text = format!("{text} '{char}'");
        }
        self.pad_with_spaces(text.as_bytes())
    }
}

fn rune(int: Int) -> char {
    u32::try_from(int.unsigned_bits())
        .ok()
        .and_then(char::from_u32)
        .unwrap_or(runes::REPLACEMENT)
}

fn in_base(magnitude: u64, base: u32, upper: bool) -> String {
    match (base, upper) {
        (2, _) => format!("{magnitude:b}"),
        (8, _) => format!("{magnitude:o}"),
        (16, false) => format!("{magnitude:x}"),
        (16, true) => format!("{magnitude:X}"),
        _ => magnitude.to_string(),
    }
}
