//! Durations in nanoseconds, as Go formats and parses them.

const SECOND: u64 = 1_000_000_000;

/// Formats a duration like `1h2m3.5s`; below a second, in the largest unit that fits, like `1.5ms`.
pub fn text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    let (unit, name) = match size {
        0 => return "0s".to_owned(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => {
            let seconds = size / SECOND;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let seconds_text = decimal(size % (60 * SECOND), SECOND);
            return match (hours, minutes) {
                (0, 0) => format!("{sign}{seconds_text}s"),
                (0, _) => format!("{sign}{minutes}m{seconds_text}s"),
                _ => format!("{sign}{hours}h{minutes}m{seconds_text}s"),
            };
        }
    };
    format!("{sign}{}{name}", decimal(size, unit))
}

/// Formats `size / unit` with as few digits as possible.
fn decimal(size: u64, unit: u64) -> String {
    let (integer, fraction) = (size / unit, size % unit);
    if fraction == 0 {
        return integer.to_string();
    }
    let width = unit.ilog10() as usize;
    format!(
        "{integer}.{}",
        format!("{fraction:0width$}").trim_end_matches('0')
    )
}

/// Parses strings like `1h30m`, `-1.5s` and `0`; returns `None` for an invalid duration and for one that
/// exceeds the range of `i64`.
pub fn parse(text: &str) -> Option<i64> {
    let (is_negative, mut remaining) = match text.strip_prefix(['-', '+']) {
        Some(remaining) => (text.starts_with('-'), remaining),
        None => (false, text),
    };
    if remaining == "0" {
        return Some(0);
    }
    if remaining.is_empty() {
        return None;
    }
    let mut total = 0_u64;
    while !remaining.is_empty() {
        let (value, suffix) = parse_component(remaining)?;
        total = total.checked_add(value).filter(|&total| total <= 1 << 63)?;
        remaining = suffix;
    }
    if is_negative {
        0_i64.checked_sub_unsigned(total)
    } else {
        i64::try_from(total).ok()
    }
}

/// Parses one number with its unit.
fn parse_component(text: &str) -> Option<(u64, &str)> {
    let (integer, suffix) = split_digits(text);
    let (fraction, suffix) = match suffix.strip_prefix('.') {
        Some(suffix) => split_digits(suffix),
        None => ("", suffix),
    };
    if integer.is_empty() && fraction.is_empty() {
        return None;
    }
    let end = suffix
        .find(|char: char| char == '.' || char.is_ascii_digit())
        .unwrap_or(suffix.len());
    let (name, suffix) = suffix.split_at(end);
    let unit: u64 = match name {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let integer: u64 = if integer.is_empty() {
        0
    } else {
        integer.parse().ok().filter(|&integer| integer <= 1 << 63)?
    };
    let integer = integer
        .checked_mul(unit)
        .filter(|&integer| integer <= 1 << 63)?;
    Some((
        integer
            .checked_add(fraction_of_unit(fraction, unit))
            .filter(|&sum| sum <= 1 << 63)?,
        suffix,
    ))
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|char: char| !char.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Returns 0.fraction × unit, calculated with a float as in Go.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "Go rounds likewise, and the result is below one unit"
)]
fn fraction_of_unit(fraction: &str, unit: u64) -> u64 {
    let (mut number, mut scale) = (0_u64, 1.0_f64);
    for digit in fraction.bytes() {
        match number
            .checked_mul(10)
            .and_then(|number| number.checked_add(u64::from(digit - b'0')))
        {
            Some(next) if next <= 1 << 63 => number = next,
            _ => break,
        }
        scale *= 10.0;
    }
    (number as f64 * (unit as f64 / scale)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_as_go_does() {
        for (text, want) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("720h", Some(720 * 3_600_000_000_000)),
            ("720h30m", Some(43_230 * 60_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("1h2m3s4ms5us6ns", Some(3_723_004_005_006)),
            ("10µs", Some(10_000)),
            ("-1m", Some(-60_000_000_000)),
            ("0.000000001s", Some(1)),
            ("", None),
            ("-", None),
            ("30d", None),
            ("1", None),
            (".s", None),
            ("1.2.3s", None),
            ("h", None),
            ("9999999999h", None),
        ] {
            let result = parse(text);
            assert_eq!(result, want, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".{0,30}") {
            let _ = parse(&text);
        }

        #[test]
        fn parses_what_it_formats(nanos: i64) {
            proptest::prop_assert_eq!(parse(&text(nanos)), Some(nanos));
        }
    }
}
