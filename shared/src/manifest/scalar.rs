//! Types unquoted YAML scalars by the rules of YAML 1.1, as Go's yaml.v2 does, and converts them to strings where Go
//! expects text.

use super::node::Value;
use zeroize::Zeroizing;

/// Determines type and value of an unquoted scalar.
pub(super) fn resolve(text: &str) -> Value {
    keyword(text)
        .or_else(|| number(text))
        .unwrap_or_else(|| Value::Text(Zeroizing::new(text.to_owned())))
}

fn keyword(text: &str) -> Option<Value> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        _ => return None,
    })
}

/// Parses a number. Underscores are ignored; after a leading dot, each must be between two digits. A date
/// stays a string, because it is neither an integer nor a float.
fn number(text: &str) -> Option<Value> {
    match text.as_bytes().first()? {
        b'.' if has_underscores_only_between_digits(text) => {
            float(&text.replace('_', "")).map(Value::Float)
        }
        b'0'..=b'9' | b'+' | b'-' => {
            let digits = text.replace('_', "");
            integer(&digits)
                .map(Value::Int)
                .or_else(|| float(&digits).map(Value::Float))
        }
        _ => None,
    }
}

fn has_underscores_only_between_digits(text: &str) -> bool {
    let mut parts = text.split('_').peekable();
    let mut is_first = true;
    while let Some(part) = parts.next() {
        let is_start_valid = is_first || part.starts_with(|c: char| c.is_ascii_digit());
        let is_end_valid = parts.peek().is_none() || part.ends_with(|c: char| c.is_ascii_digit());
        if !(is_start_valid && is_end_valid) {
            return false;
        }
        is_first = false;
    }
    true
}

/// Parses an integer like Go's `ParseInt(…, 0, 64)`, then `ParseUint`: prefixes `0x`, `0o`, `0b`, and a leading zero
/// for octal.
fn integer(text: &str) -> Option<i128> {
    let (is_negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // `from_str_radix` would accept a second sign.
    if !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let has_sign = text.starts_with(['-', '+']);
    let number = if is_negative { -magnitude } else { magnitude };
    (!has_sign || i64::try_from(number).is_ok()).then_some(number)
}

/// Parses `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`. Returns `None` beyond the range of a double.
fn float(text: &str) -> Option<f64> {
    // Rust's grammar is the same, except for words like `-inf`, which YAML writes with a dot.
    let is_float_char = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    if !text.chars().all(is_float_char) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Returns the string that Go uses for a number or boolean where a string is expected. Floats lose precision,
/// because Go formats them as 32-bit values.
pub(super) fn to_text(value: &Value) -> Option<String> {
    match value {
        Value::Bool(b) => Some(b.to_string()),
        Value::Int(i) => Some(i.to_string()),
        Value::Float(f) => Some(format_float(*f)),
        _ => None,
    }
}

/// Formats a number like Go's `strconv.FormatFloat(f, 'g', -1, 32)`: the shortest digits that give the same 32-bit
/// value, with an exponent below 1e-4 and from 1e+06.
fn format_float(number: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "upstream also loses precision, and the caller warns about it"
    )]
    let number = number as f32;
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number.is_sign_positive() {
            "+Inf".into()
        } else {
            "-Inf".into()
        };
    }
    // `{:e}` formats the shortest digits as `1.5e-7`.
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return number.to_string();
    }
    format!("{mantissa}e{exponent:+03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the string that Go uses for an unquoted scalar where a string is expected.
    fn text_of(source: &str) -> String {
        match resolve(source) {
            Value::Text(text) => text.to_string(),
            Value::Null => String::new(),
            value => to_text(&value).unwrap(),
        }
    }

    #[test]
    fn converts_scalars_to_text_as_upstream_does() {
        for (source, want) in [
            ("yes", "true"),
            ("on", "true"),
            ("y", "true"),
            ("No", "false"),
            ("off", "false"),
            ("yEs", "yEs"),
            ("~", ""),
            ("", ""),
            ("010", "8"),
            ("0o17", "15"),
            ("0x10", "16"),
            ("0b101", "5"),
            ("1_000", "1000"),
            ("08", "8"),
            ("-7", "-7"),
            ("+7", "7"),
            ("+-7", "+-7"),
            ("+1234567", "1234567"),
            ("+9223372036854775808", "9.223372e+18"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("-9223372036854775809", "-9.223372e+18"),
            ("1.", "1"),
            ("1.e2", "100"),
            ("+.5", "0.5"),
            ("1E+2", "100"),
            ("1e", "1e"),
            ("1e+", "1e+"),
            ("1e5.5", "1e5.5"),
            (".", "."),
            ("+", "+"),
            (".e5", ".e5"),
            ("+inf", "+inf"),
            ("-nan", "-nan"),
            ("+infinity", "+infinity"),
            ("1e3", "1000"),
            ("1e6", "1e+06"),
            ("1.50", "1.5"),
            (".5", "0.5"),
            ("._5", "._5"),
            (".0_0", "0"),
            (".1__0", ".1__0"),
            (".1_", ".1_"),
            ("1234567.891", "1.2345679e+06"),
            ("0.00001", "1e-05"),
            ("-0.0", "-0"),
            ("1e999", "1e999"),
            (".inf", "+Inf"),
            ("-.INF", "-Inf"),
            (".nan", "NaN"),
            ("9223372036854775807", "9223372036854775807"),
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "1.8446744e+19"),
            ("2024-01-02", "2024-01-02"),
            ("1:30", "1:30"),
            ("0x", "0x"),
            ("1.2.3", "1.2.3"),
            ("-", "-"),
            ("hello", "hello"),
        ] {
            assert_eq!(text_of(source), want, "{source}");
        }
    }
}
