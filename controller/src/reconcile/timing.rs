//! Determines when an outcome may be published, and when values may be delivered.
//!
//! The author of a SealedSecret chooses what its templates do with a value, which determines how long rendering takes
//! and how large the Secret is, and the size determines how long writing takes. Neither time may be observable. The
//! maximum time of rendering follows only from the text of the templates; the Secret is written when that time is over,
//! and the outcome is published a fixed time later.

use std::time::Duration;

use shared::meter::{Interrupted, Meter};
use shared::resource::SealedSecret;
use shared::unseal::slow_work;

use crate::pool::{Budget, Rendering};

/// The classes of templates, each with the maximum cost of its slow functions in microseconds.
///
/// The processor time after which rendering is stopped is shorter than the time before the Secret is written, by the
/// maximum duration of one slow function, which cannot be interrupted. Both times are far longer than the stated cost,
/// since machines are slower than stated, and since for one in ten thousand RSA keys, finding the primes takes more
/// than four times the median.
const CLASSES: [(u64, Class); 4] = [
    (0, Class::new(500, 450)),
    (100_000, Class::new(1_000, 700)),
    (1_000_000, Class::new(10_000, 8_000)),
    (1_500_000, Class::new(20_000, 15_000)),
];
/// The class of templates whose slow functions cost more, up to their own budget.
const SLOWEST_CLASS: Class = Class::new(60_000, 50_000);

/// The classes of templates that are rendered while a Pod waits, like [`CLASSES`]. Templates with a higher cost are not
/// delivered: a Pod waits at most as long as the CSI driver allows. The processor time is a quarter of the time or less,
/// since several renderings share the processors.
const DELIVERY_CLASSES: [(u64, Class); 3] = [
    (0, Class::new(500, 100)),
    (300_000, Class::new(2_000, 500)),
    (600_000, Class::new(5_000, 1_200)),
];

/// The classes whose outcomes are published so late that their results need a permit.
const SLOW_CLASSES: [Class; SlowClass::COUNT] = [CLASSES[2].1, CLASSES[3].1, SLOWEST_CLASS];

/// An index into [`SLOW_CLASSES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlowClass(usize);

impl SlowClass {
    pub(super) const COUNT: usize = 3;

    pub(super) fn index(self) -> usize {
        self.0
    }
}

/// The work budget of rendering. The limits of the templates and the limit on processor time usually end rendering
/// earlier.
const WORK_BUDGET: Budget = Budget::seconds(30);

/// The time from the start of the write to the publication of the outcome.
const PUBLICATION_TIME: Duration = Duration::from_millis(500);
/// On an overloaded machine, late outcomes are published at a multiple of this step or, if longer, of the class's step.
const LATE_STEP: Duration = Duration::from_secs(10);

/// A class of templates, whose outcomes are published after the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class {
    step: Duration,
    max_rendering: Duration,
}

impl Class {
    const fn new(step: u64, max_rendering: u64) -> Self {
        Self {
            step: Duration::from_millis(step),
            max_rendering: Duration::from_millis(max_rendering),
        }
    }

    /// Returns the class of the templates of an object, regardless of the values.
    pub(super) fn of(sealed: &SealedSecret, meter: &mut dyn Meter) -> Result<Self, Interrupted> {
        slow_work(sealed, meter).map(Self::for_slow_work)
    }

    /// Returns the class of templates whose slow functions cost this many microseconds.
    fn for_slow_work(slow_work: u64) -> Self {
        find(&CLASSES, slow_work).unwrap_or(SLOWEST_CLASS)
    }

    /// Returns the class of templates that are rendered while a Pod waits, and whose slow functions cost this many
    /// microseconds; `None` if the Pod would wait too long.
    pub(crate) fn for_delivery(slow_work: u64) -> Option<Self> {
        find(&DELIVERY_CLASSES, slow_work)
    }

    /// Returns the index of this class in [`SLOW_CLASSES`]; `None` if its results need no permit.
    pub(super) fn slow_class(self) -> Option<SlowClass> {
        SLOW_CLASSES
            .iter()
            .position(|slow| *slow == self)
            .map(SlowClass)
    }

    /// Returns the budget of the rendering, and whether it is slow.
    pub(super) fn rendering(self) -> Rendering {
        Rendering {
            budget: self.budget(),
            is_slow: self.slow_class().is_some(),
            hold: None,
        }
    }

    /// Like [`Self::rendering`], for a class of templates that are rendered while a Pod waits.
    pub(crate) fn rendering_for_delivery(self) -> Rendering {
        Rendering {
            budget: self.budget(),
            is_slow: self != DELIVERY_CLASSES[0].1,
            hold: Some(self.step),
        }
    }

    fn budget(self) -> Budget {
        WORK_BUDGET.with_time_limit(self.max_rendering)
    }

    /// Returns how long after the start of rendering the Secret may be written, if rendering took `took`.
    pub(crate) fn write_delay(self, took: Duration) -> Duration {
        publication_delay(self.step, took)
    }
}

/// Returns how long after the start of the write its outcome may be published, if the write took `took`.
pub(super) fn report_delay(took: Duration) -> Duration {
    publication_delay(PUBLICATION_TIME, took)
}

/// Returns the duration of an attempt that rendered templates, rounded up to a multiple of [`PUBLICATION_TIME`].
pub(super) fn round_for_metrics(took: Duration) -> Duration {
    round_up(PUBLICATION_TIME, took)
}

impl Default for Class {
    /// Returns the class of templates without slow functions.
    fn default() -> Self {
        CLASSES[0].1
    }
}

fn find(classes: &[(u64, Class)], slow_work: u64) -> Option<Class> {
    let class = classes.iter().find(|(max_cost, _)| slow_work <= *max_cost);
    class.map(|(_, class)| *class)
}

fn publication_delay(step: Duration, took: Duration) -> Duration {
    if took <= step {
        step
    } else {
        round_up(step.max(LATE_STEP), took)
    }
}

fn round_up(unit: Duration, took: Duration) -> Duration {
    let steps = took.as_nanos().div_ceil(unit.as_nanos());
    unit.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Attack: an author infers a value from the time that a template takes with it, up to the maximum.
    #[test]
    fn the_write_starts_at_the_same_time_for_all_templates_of_a_class() {
        for (slow_work, step) in [
            (0, 500),
            (1, 1_000),
            (100_000, 1_000),
            (150_000, 10_000),
            (1_500_000, 20_000),
            (1_500_001, 60_000),
            (u64::MAX, 60_000),
        ] {
            let class = Class::for_slow_work(slow_work);
            assert!(class.max_rendering < class.step, "{slow_work}");
            for took in [Duration::ZERO, MS, class.max_rendering, class.step] {
                assert_eq!(class.write_delay(took), step * MS, "{slow_work}, {took:?}");
            }
        }
    }

    #[test]
    fn late_outcomes_are_published_at_coarse_steps() {
        for (took, want) in [(0, 500), (500, 500), (501, 10_000), (10_001, 20_000)] {
            assert_eq!(report_delay(took * MS), want * MS, "{took}");
            assert_eq!(
                Class::for_slow_work(0).write_delay(took * MS),
                want * MS,
                "{took}"
            );
        }
        assert_eq!(
            Class::for_slow_work(u64::MAX).write_delay(60_001 * MS),
            120_000 * MS
        );
        assert_eq!(
            [1, 500, 501].map(|took| round_for_metrics(took * MS)),
            [500 * MS, 500 * MS, 1_000 * MS]
        );
    }
}
