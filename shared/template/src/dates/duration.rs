//! Rounds durations in nanoseconds.

/// Rounds to the nearest multiple of `unit`, halves away from zero.
pub(crate) fn round_duration(nanos: i64, unit: i64) -> i64 {
    if unit <= 0 {
        return nanos;
    }
    let rest = nanos % unit;
    if nanos < 0 {
        let rest = -rest;
        if rest + rest < unit && rest.checked_add(rest).is_some() {
            nanos + rest
        } else {
            nanos.saturating_sub(unit - rest)
        }
    } else if rest.checked_add(rest).is_some_and(|twice| twice < unit) {
        nanos - rest
    } else {
        nanos.saturating_add(unit - rest)
    }
}

pub(crate) fn truncate_duration(nanos: i64, unit: i64) -> i64 {
    if unit <= 0 {
        nanos
    } else {
        nanos - nanos % unit
    }
}
