//! When an outcome may be published.
//!
//! An author of a SealedSecret chooses what its templates do with a value, and so how long rendering takes, and how
//! large the Secret is, which decides how long writing it takes. So neither may show. How long rendering may take
//! follows from the text of the templates alone; the Secret is written when all of that time is over, and the outcome
//! is published a fixed time after that.

use std::time::Duration;

use crate::pool::{Budget, Rendering};

/// Microseconds of slow functions, and what templates are given that cost no more.
///
/// The processor time that ends rendering is below the time that passes before the Secret is written, by as much as
/// one slow function may take that cannot be interrupted. Both are far above the stated cost, since machines are
/// slower than stated, and since finding the primes of an RSA key takes more than four times the median once in ten
/// thousand keys.
const CLASSES: [(u64, Class); 4] = [
    (0, Class::new(500, 450)),
    (100_000, Class::new(1_000, 700)),
    (1_000_000, Class::new(10_000, 8_000)),
    (1_500_000, Class::new(20_000, 15_000)),
];
/// What templates are given that may cost more: as much as their own budget allows.
const SLOWEST: Class = Class::new(60_000, 50_000);

/// Classes whose outcomes are published so late that their results need a hold meanwhile.
const SLOW: [Class; SlowClass::COUNT] = [CLASSES[2].1, CLASSES[3].1, SLOWEST];

/// One of [`SLOW`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlowClass(usize);

impl SlowClass {
    pub(super) const COUNT: usize = 3;

    pub(super) fn index(self) -> usize {
        self.0
    }
}

/// Templates may work as much as their own limits allow, so that these decide. The clock ends the rest.
const WORK: Budget = Budget::seconds(30);

/// From the beginning of the write to the outcome.
const WRITING: Duration = Duration::from_millis(500);
/// What took longer than it should, on a machine with too much to do, is published at a multiple of this.
const LATE: Duration = Duration::from_secs(10);

/// Templates that are published alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    step: Duration,
    longest: Duration,
}

impl Class {
    const fn new(step: u64, longest: u64) -> Self {
        Self {
            step: Duration::from_millis(step),
            longest: Duration::from_millis(longest),
        }
    }

    /// The class of templates whose slow functions cost so much, in microseconds, whatever the values are.
    pub(super) fn of(slow_work: u64) -> Self {
        let class = CLASSES.into_iter().find(|(most, _)| slow_work <= *most);
        class.map_or(SLOWEST, |(_, class)| class)
    }

    /// Returns the slow class that this one is, if it is one.
    pub(super) fn slow(self) -> Option<SlowClass> {
        SLOW.iter().position(|slow| *slow == self).map(SlowClass)
    }

    /// What ends rendering before its time is over, and where it is done.
    pub(super) fn rendering(self) -> Rendering {
        Rendering {
            budget: WORK.within(self.longest),
            is_slow: self.slow().is_some(),
        }
    }

    /// How long after rendering began the Secret may be written, if rendering took so long.
    pub(super) fn write(self, took: Duration) -> Duration {
        step(self.step, took)
    }
}

/// How long after the write began its outcome may be published, if the write took so long.
pub(super) fn report(took: Duration) -> Duration {
    step(WRITING, took)
}

/// A duration as metrics may show it, of an attempt that rendered templates.
pub(super) fn shown(took: Duration) -> Duration {
    multiple(WRITING, took)
}

fn step(step: Duration, took: Duration) -> Duration {
    if took <= step {
        step
    } else {
        multiple(step.max(LATE), took)
    }
}

fn multiple(of: Duration, took: Duration) -> Duration {
    let steps = took.as_nanos().div_ceil(of.as_nanos());
    of.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Attack: measures how long a template takes with a value, up to all that it may take.
    #[test]
    fn the_write_begins_at_one_time_for_all_templates_of_a_class() {
        for (slow_work, step) in [
            (0, 500),
            (1, 1_000),
            (100_000, 1_000),
            (150_000, 10_000),
            (1_500_000, 20_000),
            (1_500_001, 60_000),
            (u64::MAX, 60_000),
        ] {
            let class = Class::of(slow_work);
            assert!(class.longest < class.step, "{slow_work}");
            for took in [Duration::ZERO, MS, class.longest, class.step] {
                assert_eq!(class.write(took), step * MS, "{slow_work}, {took:?}");
            }
        }
    }

    #[test]
    fn what_took_too_long_is_late_and_shows_as_little_as_can_be() {
        for (took, shows) in [(0, 500), (500, 500), (501, 10_000), (10_001, 20_000)] {
            assert_eq!(report(took * MS), shows * MS, "{took}");
            assert_eq!(Class::of(0).write(took * MS), shows * MS, "{took}");
        }
        assert_eq!(Class::of(u64::MAX).write(60_001 * MS), 120_000 * MS);
        assert_eq!(
            [1, 500, 501].map(|took| shown(took * MS)),
            [500 * MS, 500 * MS, 1_000 * MS]
        );
    }
}
