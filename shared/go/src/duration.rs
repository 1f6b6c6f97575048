//! Durations in nanoseconds, as Go formats and parses them.

const SECOND: u64 = 1_000_000_000;

/// Formats as `1h2m3.5s`; below a second with the largest unit that fits.
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
            let rest = decimal(size % (60 * SECOND), SECOND);
            return match (hours, minutes) {
                (0, 0) => format!("{sign}{rest}s"),
                (0, _) => format!("{sign}{minutes}m{rest}s"),
                _ => format!("{sign}{hours}h{minutes}m{rest}s"),
            };
        }
    };
    format!("{sign}{}{name}", decimal(size, unit))
}

/// Formats `size / unit` with as few digits as possible.
fn decimal(size: u64, unit: u64) -> String {
    let (whole, rest) = (size / unit, size % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!(
        "{whole}.{}",
        format!("{rest:0width$}").trim_end_matches('0')
    )
}

/// Parses texts like `1h30m`, `-1.5s` and `0`; returns `None` for an invalid or too long duration.
pub fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (part, after) = component(rest)?;
        total = total.checked_add(part).filter(|&total| total <= 1 << 63)?;
        rest = after;
    }
    if negative {
        0_i64.checked_sub_unsigned(total)
    } else {
        i64::try_from(total).ok()
    }
}

/// Parses one number with its unit.
fn component(text: &str) -> Option<(u64, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let end = rest
        .find(|char: char| char == '.' || char.is_ascii_digit())
        .unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let unit: u64 = match name {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok().filter(|&whole| whole <= 1 << 63)?
    };
    let whole = whole.checked_mul(unit).filter(|&whole| whole <= 1 << 63)?;
    Some((
        whole
            .checked_add(part_of(fraction, unit))
            .filter(|&sum| sum <= 1 << 63)?,
        rest,
    ))
}

fn digits(text: &str) -> (&str, &str) {
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
fn part_of(fraction: &str, unit: u64) -> u64 {
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
            let got = parse(text);
            assert_eq!(got, want, "{text}");
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
