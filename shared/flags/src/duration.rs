use jiff::SignedDuration;

/// The string is not a duration in Go's range and syntax.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid duration: expected a form like 720h, 1h30m or 1.5s, with the units ns, us, ms, s, m and h (no days), at \
     most 292 years"
)]
pub struct DurationError;

/// Parses a duration as Go's `time.ParseDuration` does: an optional sign, then decimal numbers, each with a unit; `0`
/// needs no unit.
///
/// # Errors
///
/// Returns [`DurationError`] for a malformed duration, and for one above the 292 years that a Go duration can hold.
pub fn parse_duration(text: &str) -> Result<SignedDuration, DurationError> {
    let nanos = go::duration::parse(text).ok_or(DurationError)?;
    Ok(SignedDuration::from_nanos(nanos))
}
