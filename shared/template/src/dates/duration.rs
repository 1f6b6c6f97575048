//! Rounds durations in nanoseconds.

/// Rounds to the nearest multiple of `unit`, halves away from zero.
pub(crate) fn round_duration(nanos: i64, unit: i64) -> i64 {
    if unit <= 0 {
        return nanos;
    }
    let remainder = nanos % unit;
    if nanos < 0 {
        let remainder = -remainder;
        if remainder + remainder < unit && remainder.checked_add(remainder).is_some() {
            nanos + remainder
        } else {
            nanos.saturating_sub(unit - remainder)
        }
    } else if remainder
        .checked_add(remainder)
        .is_some_and(|twice| twice < unit)
    {
        nanos - remainder
    } else {
        nanos.saturating_add(unit - remainder)
    }
}

pub(crate) fn truncate_duration(nanos: i64, unit: i64) -> i64 {
    if unit <= 0 {
        nanos
    } else {
        nanos - nanos % unit
    }
}
