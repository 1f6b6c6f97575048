//! Numbers as Go parses them (package strconv and the literals of a template).

/// The value of a number literal in every type that can represent it, like Go's untyped constants.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Number {
    pub(crate) int: Option<i64>,
    pub(crate) uint: Option<u64>,
    pub(crate) float: Option<f64>,
    pub(crate) complex: Option<(f64, f64)>,
    /// Whether the literal has a point or an exponent, and therefore is a float where any type is allowed.
    pub(crate) is_float_literal: bool,
}

impl Number {
    pub(crate) fn rune(char: char) -> Self {
        let code = u32::from(char);
        Self {
            int: Some(i64::from(code)),
            uint: Some(u64::from(code)),
            float: Some(f64::from(code)),
            ..Self::default()
        }
    }

    /// Parses a real or imaginary number, such as `12`, `0x1f`, `1_000`, `1.5e3` or `2i`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(imaginary) = text.strip_suffix('i')
            && let Some(imaginary) = parse_float(imaginary.as_bytes())
        {
            return Some(Self::complex(0.0, imaginary));
        }
        let int = parse_int(text.as_bytes(), 0);
        let uint = parse_uint(text.as_bytes(), 0).or(if int == Some(0) { Some(0) } else { None });
        let hex_int = text.starts_with("0x") || text.starts_with("0X");
        let mut number = Self {
            int,
            uint,
            ..Self::default()
        };
        number.is_float_literal = if hex_int && !text.contains(['p', 'P']) {
            false
        } else {
            text.contains(['.', 'e', 'E', 'p', 'P'])
        };
        number.float = match (int, uint) {
            (Some(int), _) => Some(int_to_float(int)),
            (None, Some(uint)) => Some(uint_to_float(uint)),
            (None, None) => {
                let float = parse_float(text.as_bytes())?;
                if !text.contains(['.', 'e', 'E', 'p', 'P']) {
                    return None; // an integer too large for all types
                }
                number.set_integers(float);
                Some(float)
            }
        };
        Some(number)
    }

    /// Parses a complex number with both parts, such as `1+2i`.
    pub(crate) fn parse_complex(text: &str) -> Option<Self> {
        let body = text.strip_suffix('i')?;
        let sign = body
            .rmatch_indices(['+', '-'])
            .map(|(at, _)| at)
            .find(|&at| at > 0 && !matches!(body.as_bytes()[at - 1], b'e' | b'E' | b'p' | b'P'))?;
        Some(Self::complex(
            parse_float(&body.as_bytes()[..sign])?,
            parse_float(&body.as_bytes()[sign..])?,
        ))
    }

    fn complex(real: f64, imaginary: f64) -> Self {
        let mut number = Self {
            complex: Some((real, imaginary)),
            ..Self::default()
        };
        if imaginary == 0.0 {
            number.float = Some(real);
            number.set_integers(real);
        }
        number
    }

    #[allow(
        clippy::float_cmp,
        reason = "tests whether the number is exactly representable"
    )]
    fn set_integers(&mut self, float: f64) {
        let int = float_to_int(float);
        if int_to_float(int) == float {
            self.int = Some(int);
        }
        let uint = float_to_uint(float);
        if uint_to_float(uint) == float {
            self.uint = Some(uint);
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "Go rounds likewise")]
pub(crate) fn int_to_float(int: i64) -> f64 {
    int as f64
}

#[allow(clippy::cast_precision_loss, reason = "Go rounds likewise")]
pub(crate) fn uint_to_float(uint: u64) -> f64 {
    uint as f64
}

/// Converts as Go does on amd64: a number out of range becomes the smallest integer.
#[allow(clippy::cast_possible_truncation, reason = "Go truncates likewise")]
pub(crate) fn float_to_int(float: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&float) {
        float as i64
    } else {
        i64::MIN
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "Go converts through int64 where it can"
)]
fn float_to_uint(float: f64) -> u64 {
    if float >= 9_223_372_036_854_775_808.0 {
        float as u64
    } else {
        float_to_int(float) as u64
    }
}

/// Reproduces strconv.ParseUint, with `None` for every error, such as a number out of range. Base 0 detects the prefix
/// and allows underscores.
pub(crate) fn parse_uint(text: &[u8], base: u32) -> Option<u64> {
    let detects_base = base == 0;
    let (digits, base) = match (base, text) {
        (0, [b'0', b'x' | b'X', rest @ ..]) => (rest, 16),
        (0, [b'0', b'b' | b'B', rest @ ..]) => (rest, 2),
        (0, [b'0', b'o' | b'O', rest @ ..]) => (rest, 8),
        (0, [b'0', rest @ ..]) if !rest.is_empty() => (rest, 8),
        (0, _) => (text, 10),
        (base, _) => (text, base),
    };
    let underscores = digits.contains(&b'_');
    if digits.is_empty() || underscores && (!detects_base || !has_valid_underscores(text)) {
        return None;
    }
    let mut value = 0_u64;
    for &byte in digits.iter().filter(|&&byte| byte != b'_') {
        let digit = char::from(byte).to_digit(base)?;
        value = value
            .checked_mul(u64::from(base))?
            .checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// Reproduces strconv.ParseInt, with `None` for every error, such as a number out of range.
pub(crate) fn parse_int(text: &[u8], base: u32) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let value = parse_uint(digits, base)?;
    if negative {
        0_i64.checked_sub_unsigned(value)
    } else {
        i64::try_from(value).ok()
    }
}

/// Returns whether each underscore is between digits, or between a prefix and a digit.
fn has_valid_underscores(text: &[u8]) -> bool {
    let text = text
        .strip_prefix(b"-")
        .or(text.strip_prefix(b"+"))
        .unwrap_or(text);
    let is_hex = matches!(text, [b'0', b'x' | b'X', ..]);
    let has_prefix = matches!(text, [b'0', b'x' | b'X' | b'b' | b'B' | b'o' | b'O', ..]);
    let mut before = if has_prefix { b'0' } else { b'^' };
    for &byte in &text[if has_prefix { 2 } else { 0 }..] {
        let is_digit = byte.is_ascii_digit() || is_hex && byte.is_ascii_hexdigit();
        let class = match byte {
            _ if is_digit => b'0',
            b'_' if before == b'0' => b'_',
            b'_' => return false,
            _ if before == b'_' => return false,
            _ => b'!',
        };
        before = class;
    }
    before != b'_'
}

/// Reproduces strconv.ParseFloat: decimal, hexadecimal, underscores, `inf`, `infinity`, `nan`; `None` if out
/// of range.
pub(crate) fn parse_float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let (sign, body) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if body.eq_ignore_ascii_case("inf") || body.eq_ignore_ascii_case("infinity") {
        return Some(sign * f64::INFINITY);
    }
    if text.eq_ignore_ascii_case("nan") {
        return Some(f64::NAN);
    }
    if body.contains('_') && !has_valid_underscores(text.as_bytes()) {
        return None;
    }
    let body = body.replace('_', "");
    let value = match body.strip_prefix("0x").or(body.strip_prefix("0X")) {
        Some(hex) => parse_hex_float(hex)?,
        None if body.starts_with(|char: char| char.is_ascii_digit() || char == '.') => {
            body.parse::<f64>().ok()?
        }
        None => return None,
    };
    value.is_finite().then_some(sign * value)
}

/// Parses a hexadecimal float without its prefix, such as `1.8p3`; the exponent is mandatory. Rounds to nearest even.
fn parse_hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut exponent: i32 = exponent.parse().unwrap_or(if exponent.starts_with('-') {
        -100_000
    } else {
        100_000
    });
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut bits = 0_u64;
    for (place, char) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = u64::from(char.to_digit(16)?);
        let after_point = place >= whole.len();
        if bits >> 59 == 0 {
            bits = bits << 4 | digit;
            exponent = exponent.saturating_sub(if after_point { 4 } else { 0 });
        } else {
            bits |= u64::from(digit != 0); // sticky: for rounding, only its presence matters
            exponent = exponent.saturating_add(if after_point { 0 } else { 4 });
        }
    }
    Some(scale(bits, exponent))
}

/// Returns bits × 2^exponent, rounded once.
fn scale(bits: u64, exponent: i32) -> f64 {
    if bits == 0 {
        return 0.0;
    }
    let top = 64 - bits.leading_zeros().cast_signed();
    let keep = if top + exponent < -1021 {
        (53 - (-1021 - (top + exponent))).max(0)
    } else {
        53
    };
    let drop = top - keep;
    if drop <= 0 {
        return uint_to_float(bits) * power_of_two(exponent);
    }
    if drop > 64 {
        return 0.0;
    }
    let wide = u128::from(bits);
    let (quotient, remainder, half) =
        (wide >> drop, wide & ((1 << drop) - 1), 1_u128 << (drop - 1));
    let rounds_up = remainder > half || remainder == half && quotient & 1 == 1;
    let mantissa = u64::try_from(quotient).unwrap_or(u64::MAX) + u64::from(rounds_up);
    uint_to_float(mantissa) * power_of_two((exponent.saturating_add(drop)).clamp(-1074, 2000))
}

/// Returns 2^exponent exactly, as a product of two factors, because 2^-1074 cannot be calculated as 1 /
/// 2^1074.
fn power_of_two(exponent: i32) -> f64 {
    let half = exponent / 2;
    2_f64.powi(half) * 2_f64.powi(exponent - half)
}
