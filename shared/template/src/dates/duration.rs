//! Rounds durations in nanoseconds.

/// Rounds to the nearest multiple of `unit`, halves away from zero.
pub(crate) fn round_duration(nanos: i64, unit: i64) -> i64 {
    if unit <= 0 {
        return nanos;
    }
    let remainder = (nanos % unit).abs();
    // Twice an `i64` fits into a `u64`.
    let is_towards_zero = 2 * remainder.unsigned_abs() < unit.unsigned_abs();
    match (nanos < 0, is_towards_zero) {
        (true, true) => nanos + remainder,
        (true, false) => nanos.saturating_sub(unit - remainder),
        (false, true) => nanos - remainder,
        (false, false) => nanos.saturating_add(unit - remainder),
    }
}

pub(crate) fn truncate_duration(nanos: i64, unit: i64) -> i64 {
    if unit <= 0 {
        nanos
    } else {
        nanos - nanos % unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_the_longest_durations_without_overflow() {
        const LARGE: i64 = i64::MAX / 3 * 2;
        for (nanos, unit, want) in [
            (1_500, 1_000, 2_000),
            (1_499, 1_000, 1_000),
            (-1_500, 1_000, -2_000),
            (-1_499, 1_000, -1_000),
            (7, 0, 7),
            (i64::MAX, LARGE, i64::MAX),
            (i64::MIN, LARGE, i64::MIN),
            (i64::MAX - 1, i64::MAX, i64::MAX),
            (-(i64::MAX - 1), i64::MAX, -i64::MAX),
            (i64::MAX / 2, i64::MAX, 0),
            (i64::MIN / 2, i64::MAX, -i64::MAX),
        ] {
            assert_eq!(round_duration(nanos, unit), want, "{nanos} to {unit}");
        }
    }
}
