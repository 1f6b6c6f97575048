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
    let nanos = go::duration::parse(text).ok_or(DurationError)?;
    Ok(SignedDuration::from_nanos(nanos))
}
