//! Tests whether two kinds of work can be distinguished by their time. Follows dudect (Reparaz, Balasch,
//! Verbauwhede: *Dude, is my code constant time?*, 2017): measure both kinds in random order, drop the
//! slowest measurements, and let Welch's t decide whether the rest has the same mean.

use std::time::{Duration, Instant};

use rand::seq::SliceRandom as _;

/// The absolute value of t above which two kinds of work certainly differ (dudect's `t_threshold_moderate`). Below 4.5,
/// there is no evidence of a difference; between the two values, measure longer.
pub const CERTAIN: f64 = 10.0;

/// Measurements of two kinds of work.
#[derive(Debug, Clone, Copy)]
pub struct Comparison {
    /// Mean of the first kind, in nanoseconds.
    pub first: f64,
    /// Mean of the second kind, in nanoseconds.
    pub second: f64,
    /// The largest absolute value of Welch's t over several cuts.
    pub t: f64,
}

/// Measures both kinds `count` times each.
pub fn compare(
    count: usize,
    mut first: impl FnMut() -> Duration,
    mut second: impl FnMut() -> Duration,
) -> Comparison {
    let mut order: Vec<bool> = [true, false].repeat(count);
    order.shuffle(&mut shared::random::system());
    let (mut a, mut b) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for is_first in order {
        if is_first {
            a.push(nanos(first()));
        } else {
            b.push(nanos(second()));
        }
    }
    compare_samples(&a, &b)
}

/// Measures the time of the work.
pub fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    std::hint::black_box(work());
    start.elapsed()
}

/// Compares the samples. Other work on the machine makes measurements longer, never shorter. Therefore the comparison
/// uses the fastest half, three quarters and nine tenths of all measurements, each with the same cut for both kinds,
/// and returns the largest t.
fn compare_samples(a: &[f64], b: &[f64]) -> Comparison {
    let mut times: Vec<f64> = a.iter().chain(b).copied().collect();
    times.sort_by(f64::total_cmp);
    let cut = |percent: usize| {
        let limit = times[(times.len() * percent / 100).min(times.len() - 1)];
        let below = |times: &[f64]| -> Vec<f64> {
            times
                .iter()
                .copied()
                .filter(|time| *time <= limit)
                .collect()
        };
        welch(&below(a), &below(b)).abs()
    };
    let t = [50, 75, 90].map(cut).into_iter().fold(0.0, f64::max);
    Comparison {
        first: mean(a),
        second: mean(b),
        t,
    }
}

/// Returns Welch's t for two samples of different variance; infinite if one of them has fewer than two measurements,
/// because then the cut alone distinguishes them.
fn welch(a: &[f64], b: &[f64]) -> f64 {
    if a.len() < 2 || b.len() < 2 {
        return f64::INFINITY;
    }
    let error = variance(a) / count(a) + variance(b) / count(b);
    let difference = mean(a) - mean(b);
    if difference == 0.0 {
        return 0.0;
    }
    difference / error.sqrt()
}

fn mean(sample: &[f64]) -> f64 {
    sample.iter().sum::<f64>() / count(sample)
}

fn variance(sample: &[f64]) -> f64 {
    let mean = mean(sample);
    let squares = sample.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    squares / (count(sample) - 1.0)
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn count(sample: &[f64]) -> f64 {
    sample.len() as f64
}

fn nanos(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

    fn sample(seed: u64, mean: f64) -> Vec<f64> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..4000)
            .map(|_| {
                let spike = if rng.random_ratio(1, 20) { 5000.0 } else { 0.0 };
                mean + rng.random_range(0.0..100.0) + spike
            })
            .collect()
    }

    #[test]
    fn finds_no_difference_between_equal_work() {
        assert!(compare_samples(&sample(1, 1000.0), &sample(2, 1000.0)).t < 4.5);
    }

    #[test]
    fn detects_a_difference_far_below_the_noise() {
        assert!(compare_samples(&sample(1, 1000.0), &sample(2, 1010.0)).t > CERTAIN);
    }

    #[test]
    fn detects_a_difference_if_no_sample_of_one_side_is_below_the_cut() {
        assert!(compare_samples(&sample(1, 1000.0), &sample(2, 9000.0)).t > CERTAIN);
    }
}
