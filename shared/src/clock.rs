//! Detects that the clock was set back.

use jiff::{SignedDuration, Timestamp};

/// A smaller step back is ignored: it delays work by less than a second.
const MIN_STEP: SignedDuration = SignedDuration::from_secs(1);

/// The latest time that was read from the clock since a step back was last reported.
#[derive(Debug, Default)]
pub struct LatestTime(Option<Timestamp>);

impl LatestTime {
    /// Records the current time. If it is a second or more before the latest recorded time, returns by how much: times
    /// that were planned before the clock was set back are too late by this duration.
    pub fn record(&mut self, now: Timestamp) -> Option<SignedDuration> {
        let step = self.0.map(|latest| latest.duration_since(now));
        let step = step.filter(|step| *step >= MIN_STEP);
        if step.is_some() || self.0.is_none_or(|latest| latest < now) {
            self.0 = Some(now);
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_each_step_back_once() {
        let mut latest = LatestTime::default();
        for (milliseconds, step) in [
            (50_000, None),
            (60_000, None),
            (60_000, None),
            (59_500, None),
            (59_000, Some(1_000)),
            (59_000, None),
            (70_000, None),
            (10_000, Some(60_000)),
            (10_001, None),
        ] {
            let now = Timestamp::from_millisecond(milliseconds).unwrap();
            let step = step.map(SignedDuration::from_millis);
            assert_eq!(latest.record(now), step, "{milliseconds}");
        }
    }
}
