use jiff::SignedDuration;

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a duration looks like 720h, 1h30m or 1.5s; its units are ns, us, ms, s, m and h (no days)"
)]
pub struct DurationError;

/// Parses a duration as Go's `time.ParseDuration` does: signed decimal numbers, each with a unit; `0` needs
/// none.
///
/// # Errors
///
/// Returns [`DurationError`], also for more than the 292 years that a Go duration can hold.
pub fn parse_duration(text: &str) -> Result<SignedDuration, DurationError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError);
    }
    let mut nanoseconds = 0_i128;
    while !rest.is_empty() {
        let (part, tail) = next_part(rest)?;
        nanoseconds = nanoseconds.checked_add(part).ok_or(DurationError)?;
        rest = tail;
    }
    let signed = if negative { -nanoseconds } else { nanoseconds };
    i64::try_from(signed)
        .map(SignedDuration::from_nanos)
        .map_err(|_| DurationError)
}

/// Parses one number with its unit; returns nanoseconds and the remaining text.
fn next_part(text: &str) -> Result<(i128, &str), DurationError> {
    let number_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or(DurationError)?;
    let (number, rest) = text.split_at(number_end);
    let unit_end = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let scale: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(DurationError),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(DurationError);
    }
    let whole = digits(whole)?.checked_mul(scale).ok_or(DurationError)?;
    Ok((whole + scaled_fraction(fraction, scale), rest))
}

fn digits(text: &str) -> Result<i128, DurationError> {
    if text.is_empty() {
        Ok(0)
    } else {
        text.parse().map_err(|_| DurationError)
    }
}

/// Returns `scale` times `0.fraction`, truncated to nanoseconds.
fn scaled_fraction(fraction: &str, scale: i128) -> i128 {
    let mut unit = scale;
    let mut sum = 0;
    for digit in fraction.bytes() {
        sum += i128::from(digit - b'0') * unit;
        unit = if unit % 10 == 0 {
            unit / 10
        } else {
            return sum / 10;
        };
    }
    sum / 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_durations_as_go_does() {
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
            let got = parse_duration(text).ok().map(|d| d.as_nanos());
            assert_eq!(got, want, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".{0,30}") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn parses_what_it_formats(ms in 0_i64..1_000_000_000_000) {
            let parsed = parse_duration(&format!("{}s{}ms", ms / 1000, ms % 1000)).unwrap();
            proptest::prop_assert_eq!(parsed, SignedDuration::from_millis(ms));
        }
    }
}
