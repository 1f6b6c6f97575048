//! Floating-point numbers as strings (strconv.FormatFloat).

/// Number of digits after which every float has only zeros.
pub(super) const MAX_DIGITS: usize = 1100;

/// Formats a float. `verb` is one of `e E f g G b x X`; without a precision, uses the fewest digits that
/// parse to the same number.
pub(crate) fn format_float(number: f64, verb: char, precision: Option<usize>) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    let sign = if number.is_sign_negative() { "-" } else { "" };
    if number.is_infinite() {
        return if sign.is_empty() {
            "+Inf".to_owned()
        } else {
            "-Inf".to_owned()
        };
    }
    let magnitude = number.abs();
    let body = match verb {
        'f' => match precision {
            Some(precision) => {
                let exact = precision.min(MAX_DIGITS);
                let zeros = if exact == 0 { 0 } else { precision - exact };
                format!("{magnitude:.exact$}{}", "0".repeat(zeros))
            }
            None => fixed_point(&shortest_digits(magnitude)),
        },
        'e' | 'E' => {
            let digits = precision.map_or_else(
                || shortest_digits(magnitude),
                |precision| rounded_digits(magnitude, precision + 1),
            );
            exponential(&digits, verb, precision)
        }
        'b' => binary(magnitude),
        'x' | 'X' => hexadecimal(magnitude, precision, verb),
        _ => general(magnitude, verb, precision),
    };
    format!("{sign}{body}")
}

/// Decimal digits without a point, and the power of ten of the first digit.
pub(crate) struct Digits {
    pub(crate) digits: String,
    pub(crate) exponent: i32,
}

/// Returns the fewest digits that parse to the same number.
pub(crate) fn shortest_digits(magnitude: f64) -> Digits {
    split(&format!("{magnitude:e}"))
}

fn rounded_digits(magnitude: f64, count: usize) -> Digits {
    split(&format!(
        "{magnitude:.*e}",
        count.saturating_sub(1).min(MAX_DIGITS)
    ))
}

/// Appends zeros up to this length. Rust's own padding stops at 65,535.
fn pad_with_zeros(digits: &str, len: usize) -> String {
    [digits, &"0".repeat(len.saturating_sub(digits.len()))].concat()
}

fn split(text: &str) -> Digits {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    Digits {
        digits: mantissa.replace('.', ""),
        exponent: exponent.parse().unwrap_or(0),
    }
}

fn exponential(digits: &Digits, verb: char, precision: Option<usize>) -> String {
    let e = if verb.is_ascii_uppercase() { 'E' } else { 'e' };
    let (first, rest) = digits.digits.split_at(1);
    let count = precision.unwrap_or(rest.len());
    let rest = pad_with_zeros(rest, count);
    let point = if rest.is_empty() { "" } else { "." };
    let sign = if digits.exponent < 0 { '-' } else { '+' };
    format!("{first}{point}{rest}{e}{sign}{:02}", digits.exponent.abs())
}

/// Formats without an exponent.
fn fixed_point(digits: &Digits) -> String {
    let Digits { digits, exponent } = digits;
    match usize::try_from(*exponent) {
        Err(_) => {
            let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
            format!("0.{}{digits}", "0".repeat(zeros))
        }
        Ok(whole) if whole + 1 >= digits.len() => pad_with_zeros(digits, whole + 1),
        Ok(whole) => format!("{}.{}", &digits[..=whole], &digits[whole + 1..]),
    }
}

/// Formats as `%g`: without trailing zeros, and with an exponent for very small and very large numbers.
fn general(magnitude: f64, verb: char, precision: Option<usize>) -> String {
    let e = if verb == 'G' { 'E' } else { 'e' };
    let max_digits = precision.map(|precision| precision.max(1));
    let rounded = max_digits.map_or_else(
        || shortest_digits(magnitude),
        |count| rounded_digits(magnitude, count),
    );
    let significant = match rounded.digits.trim_end_matches('0') {
        "" => "0",
        significant => significant,
    };
    let count = i32::try_from(significant.len()).unwrap_or(i32::MAX);
    let threshold = match max_digits.map(|digits| i32::try_from(digits).unwrap_or(i32::MAX)) {
        None => 6,
        Some(digits) if digits > count && count > rounded.exponent => count,
        Some(digits) => digits,
    };
    let digits = Digits {
        digits: significant.to_owned(),
        exponent: rounded.exponent,
    };
    if digits.exponent < -4 || digits.exponent >= threshold {
        return exponential(&digits, e, None);
    }
    fixed_point(&digits)
}

/// Formats as `%b`: the mantissa as an integer and a power of two.
fn binary(magnitude: f64) -> String {
    let (mantissa, exponent) = parts(magnitude);
    format!("{mantissa}p{exponent:+}")
}

/// Returns mantissa and exponent; the number is mantissa × 2^exponent.
fn parts(magnitude: f64) -> (u64, i64) {
    let bits = magnitude.to_bits();
    let raw = i64::try_from(bits >> 52 & 0x7ff).unwrap_or(0);
    let fraction = bits & ((1 << 52) - 1);
    if raw == 0 {
        (fraction, -1074)
    } else {
        (fraction | 1 << 52, raw - 1075)
    }
}

/// Formats as `%x`: one digit, a point, hexadecimal digits and a power of two.
fn hexadecimal(magnitude: f64, precision: Option<usize>, verb: char) -> String {
    let (mut mantissa, mut exponent) = parts(magnitude);
    if mantissa == 0 {
        exponent = 0;
    } else {
        exponent += 52;
        while mantissa >> 52 == 0 {
            mantissa <<= 1;
            exponent -= 1;
        }
    }
    if let Some(precision) = precision.filter(|&precision| precision < 13) {
        let drop = 52 - 4 * precision;
        let half = 1_u64 << (drop - 1);
        let rest = mantissa & ((1 << drop) - 1);
        mantissa >>= drop;
        if rest > half || rest == half && mantissa & 1 == 1 {
            mantissa += 1;
        }
        mantissa <<= drop;
        if mantissa >> 53 == 1 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let fraction = format!("{:013x}", mantissa & ((1 << 52) - 1));
    let fraction = match precision {
        None => fraction.trim_end_matches('0').to_owned(),
        Some(precision) => pad_with_zeros(&fraction[..precision.min(13)], precision),
    };
    let point = if fraction.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    let text = format!(
        "0x{}{point}{fraction}p{sign}{:02}",
        mantissa >> 52,
        exponent.abs()
    );
    if verb == 'X' {
        text.to_uppercase()
    } else {
        text
    }
}

/// Applies the flag `#`: adds a point, and for `%v`, `%g`, `%G` and `%x` trailing zeros. `text` begins with a sign.
pub(super) fn apply_sharp_flag(text: &str, verb: char, precision: Option<usize>) -> String {
    let hex = matches!(verb, 'x' | 'X');
    let tail_at = text
        .find(|char| matches!(char, 'p' | 'P') || !hex && matches!(char, 'e' | 'E'))
        .unwrap_or(text.len());
    let (number, tail) = text.split_at(tail_at);
    let min_digits = if matches!(verb, 'v' | 'g' | 'G' | 'x') {
        precision.unwrap_or(6)
    } else {
        0
    };
    let significant = number[1..]
        .chars()
        .filter(|&char| char != '.')
        .skip_while(|&char| char == '0')
        .count();
    let mut number = number.to_owned();
    let mut digits = significant;
    if !number.contains('.') {
        digits += usize::from(&number[1..] == "0");
        number.push('.');
    }
    number + &"0".repeat(min_digits.saturating_sub(digits)) + tail
}
