//! Conversions as in spf13/cast: a value that cannot be converted becomes zero.

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
    if let Some(number) = number::parse_int(text, 10) {
        return number;
    }
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    match (
        digits.is_empty() || !digits.iter().all(u8::is_ascii_digit),
        negative,
    ) {
        (true, _) => 0,
        (false, true) => i64::MIN,
        (false, false) => i64::MAX,
    }
}
