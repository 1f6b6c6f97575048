//! Processes many items on all processors.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Returns the result of `work` for each item, in the order of the items. Each thread has its own
/// state from `start`. A single item is processed without a new thread.
///
/// # Panics
///
/// Panics if `work` panics.
pub fn map<T: Sync, S, R: Send>(
    items: &[T],
    start: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize, &T) -> R + Sync,
) -> Vec<R> {
    // Do not determine the number of processors for a single item: this reads files, which takes longer than the work.
    let processors = match items.len() {
        0 | 1 => 1,
        _ => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let next = AtomicUsize::new(0);
    let process_items = || {
        let (mut state, mut results) = (start(), Vec::new());
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else {
                return results;
            };
            results.push((index, work(&mut state, index, item)));
        }
    };
    let mut results = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..processors.min(items.len()))
            .map(|_| scope.spawn(process_items))
            .collect();
        let mut results = process_items();
        for thread in threads {
            match thread.join() {
                Ok(thread_results) => results.extend(thread_results),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        for count in [0, 1, 2, 1000] {
            let items: Vec<usize> = (0..count).collect();
            let results = map(&items, || (), |(), index, item| (index, item * 2));
            let expected: Vec<_> = items.iter().map(|item| (*item, item * 2)).collect();
            assert_eq!(results, expected);
        }
    }
}
