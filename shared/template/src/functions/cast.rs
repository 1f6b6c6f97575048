//! Conversions to numbers, as in sprig and spf13/cast: a value that cannot be converted becomes zero.

use super::{Function, Type};
use crate::fmt;
use crate::number;
use crate::value::{IntKind, Value};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("int", &[Type::Any], |_, args| {
        Ok(Value::int(to_int(&args.value(0))))
    }),
    Function::new("int64", &[Type::Any], |_, args| {
        Ok(Value::int64(to_int(&args.value(0))))
    }),
    Function::new("float64", &[Type::Any], |_, args| {
        Ok(Value::Float(to_float(&args.value(0))))
    }),
    Function::new("atoi", &[Type::Text], |_, args| {
        Ok(Value::int(clamped_int(&args.text(0))))
    }),
    Function::new("toDecimal", &[Type::Any], |env, args| {
        let text = fmt::print(env.writer(), args.rest(0), &mut env.gauge)?;
        Ok(Value::int64(number::parse_int(&text, 8).unwrap_or(0)))
    }),
];

pub(super) fn to_int(value: &Value) -> i64 {
    match value {
        Value::Int(int) if int.kind != IntKind::Duration => int.bits,
        Value::Float(float) => number::float_to_int(*float),
        Value::Bool(flag) => i64::from(*flag),
        Value::Text(text) => number::parse_int(without_zero_fraction(text), 0).unwrap_or(0),
        _ => 0,
    }
}

pub(super) fn to_float(value: &Value) -> f64 {
    match value {
        Value::Int(int) if int.kind != IntKind::Duration => int.to_float(),
        Value::Float(float) => *float,
        Value::Bool(flag) => f64::from(u8::from(*flag)),
        Value::Text(text) => number::parse_float(text).unwrap_or(0.0),
        _ => 0.0,
    }
}

/// Removes a zero fraction: `12.00` becomes `12`; `12.` stays.
fn without_zero_fraction(text: &[u8]) -> &[u8] {
    let zeros = text.iter().rev().take_while(|&&byte| byte == b'0').count();
    let point = text.len() - zeros;
    if zeros > 0 && point > 0 && text[point - 1] == b'.' {
        &text[..point - 1]
    } else {
        text
    }
}

/// Parses like strconv.Atoi with its error ignored: invalid text is zero, and a number out of range is the nearest int.
pub(super) fn clamped_int(text: &[u8]) -> i64 {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    match clamped_uint(digits) {
        None => 0,
        Some(size) if negative => 0_i64.saturating_sub_unsigned(size),
        Some(size) => i64::try_from(size).unwrap_or(i64::MAX),
    }
}

/// Parses like strconv.ParseUint: returns the largest number as soon as the digits exceed 64 bits, whatever follows
/// them, and `None` for other invalid text.
fn clamped_uint(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for byte in digits {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        let next = number
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(digit));
        match next {
            Some(next) => number = next,
            None => return Some(u64::MAX),
        }
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::clamped_int;

    /// The expected values come from Go's `strconv.Atoi`, with its error ignored.
    #[test]
    fn clamps_numbers_that_overflow_before_an_invalid_character() {
        for (text, want) in [
            ("", 0),
            ("-", 0),
            ("+7", 7),
            ("-07", -7),
            ("7a", 0),
            ("1_000", 0),
            ("9223372036854775807", i64::MAX),
            ("9223372036854775808", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("-9223372036854775809", i64::MIN),
            // 64 bits suffice for these digits, so the letter is reached.
            ("9999999999999999999a", 0),
            ("18446744073709551615a", 0),
            ("18446744073709551616a", i64::MAX),
            ("99999999999999999999a", i64::MAX),
            ("-99999999999999999999a", i64::MIN),
        ] {
            assert_eq!(clamped_int(text.as_bytes()), want, "{text}");
        }
    }
}
