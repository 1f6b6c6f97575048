//! How long rendering took must not show: an author chooses what a template does with a value, and so how
//! long it takes.

use std::time::Duration;

/// An outcome is published no sooner than this after rendering began. Templates that are no attack take far
/// less.
const SOON: Duration = Duration::from_millis(100);
/// If it took longer, it is published at the next multiple of this. The limits on templates end most
/// rendering well before the first.
const LATE: Duration = Duration::from_secs(10);

/// How long after its beginning the outcome of a rendering may be published, given how long that took. Of
/// the time itself this tells one bit, as long as rendering ends within [`LATE`].
pub(super) fn publication(took: Duration) -> Duration {
    if took <= SOON {
        return SOON;
    }
    let lates = took.as_nanos().div_ceil(LATE.as_nanos());
    LATE.saturating_mul(u32::try_from(lates).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: measures how long a template takes with a value.
    #[test]
    fn publishes_soon_or_at_a_multiple_of_ten_seconds() {
        for (took, published) in [
            (0, 100),
            (1, 100),
            (100, 100),
            (101, 10_000),
            (9_999, 10_000),
            (10_000, 10_000),
            (10_001, 20_000),
        ] {
            let published = Duration::from_millis(published);
            assert_eq!(
                publication(Duration::from_millis(took)),
                published,
                "{took}"
            );
        }
    }
}
