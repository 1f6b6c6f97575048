//! Unseals the items of one object, and stops early once unsealing cannot succeed.

use std::collections::BTreeMap;

use super::Effort;
use super::errors::{ItemError, ItemErrors, ItemProblem, UnsealError};
use crate::envelope::OpenedValue;
use crate::hints::Hints;
use crate::key::Fingerprint;
use crate::key_ring::{KeyRing, UnsealFailure};
use crate::meter::{Interrupted, Meter};
use crate::scope::Label;
use crate::sealed_text;

/// Maximum number of keys that are tried first because they recently unsealed items of the same object. So items for a
/// few alternating keys cost only a few operations each.
const MAX_RECENT: usize = 4;

/// Maximum number of failing items that an error names. The text of an error would otherwise be many times as long as
/// the object, since each item may fail for a reason of its own.
pub(crate) const MAX_NAMED: usize = 1000;

/// The values of the items, and the key of each, by item key.
pub(super) type OpenedItems = (BTreeMap<String, OpenedValue>, Hints);

/// Unseals every item. For each item, tries the keys that `advice` names first, then the keys that unsealed earlier
/// items, the most recent first, since the items of one object were mostly sealed together.
///
/// Once an item has failed, the object cannot be unsealed. A limited number of further operations is used to name other
/// failing items, up to [`MAX_NAMED`]; the remaining items are only counted.
pub(super) fn open_items<'a>(
    items: impl Iterator<Item = (&'a String, &'a String)>,
    ring: &KeyRing,
    label: &Label,
    advice: [&Hints; 2],
    effort: &mut Effort<'_>,
) -> Result<OpenedItems, UnsealError> {
    let mut opened = OpenedItems::default();
    let mut failures = ItemErrors::default();
    let mut recent: Vec<Fingerprint> = Vec::new();
    let mut limited = LimitedMeter {
        meter: &mut *effort.meter,
        remaining: None,
    };
    for (key, text) in items {
        if failures.items.len() == MAX_NAMED {
            failures.untried += 1;
            continue;
        }
        let advice = advice.iter().filter_map(|hints| hints.get(key));
        let first: Vec<&Fingerprint> = advice.chain(&recent).collect();
        match open_item(text, ring, label, &first, &mut limited) {
            Ok((value, fingerprint)) => {
                move_to_front(&mut recent, &fingerprint);
                opened.0.insert(key.clone(), value);
                opened.1.insert(key.clone(), fingerprint);
            }
            Err(Failure::Interrupted) if failures.items.is_empty() => {
                return Err(UnsealError::BudgetUsedUp { opened: opened.1 });
            }
            Err(Failure::Interrupted) => failures.untried += 1,
            Err(Failure::Item(problem)) => {
                let key = key.clone();
                failures.items.push(ItemError { key, problem });
                limited.remaining.get_or_insert(effort.after_failure);
            }
        }
    }
    if failures.items.is_empty() {
        Ok(opened)
    } else {
        Err(failures.into())
    }
}

/// Moves a key to the front of the recent keys.
fn move_to_front(recent: &mut Vec<Fingerprint>, opener: &Fingerprint) {
    recent.retain(|recent_key| recent_key != opener);
    recent.insert(0, opener.clone());
    recent.truncate(MAX_RECENT);
}

enum Failure {
    Item(ItemProblem),
    Interrupted,
}

fn open_item(
    text: &str,
    ring: &KeyRing,
    label: &Label,
    first: &[&Fingerprint],
    meter: &mut dyn Meter,
) -> Result<(OpenedValue, Fingerprint), Failure> {
    let sealed = sealed_text::decode(text).map_err(|why| Failure::Item(why.into()))?;
    match ring.open_value_within(label, &sealed, first, meter) {
        Ok((value, key)) => Ok((value, key.fingerprint().clone())),
        Err(UnsealFailure::NoKey(why)) => Err(Failure::Item(why.into())),
        Err(UnsealFailure::Interrupted(_)) => Err(Failure::Interrupted),
    }
}

/// A meter that also limits the number of operations, once `remaining` is set.
struct LimitedMeter<'a> {
    meter: &'a mut dyn Meter,
    remaining: Option<u64>,
}

impl Meter for LimitedMeter<'_> {
    fn spend(&mut self, microseconds: u64) -> Result<(), Interrupted> {
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.checked_sub(1).ok_or(Interrupted)?;
        }
        self.meter.spend(microseconds)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::base64;
    use crate::envelope;
    use crate::key::new_test_key;
    use crate::key_ring::RingKey;
    use crate::scope::Scope;
    use crate::unseal::MAX_AFTER_FAILURE;

    const KEYS: usize = 6;

    fn ring() -> KeyRing {
        KeyRing::new((0..KEYS).map(|i| {
            let second = i64::try_from(i).unwrap();
            let pair = new_test_key(second).pair;
            let time = Timestamp::from_second(second).unwrap();
            Arc::new(RingKey::new(format!("k{i}"), time, pair))
        }))
    }

    fn label() -> Label {
        Scope::Strict.label("ns", "n")
    }

    /// Returns a value for the key at this index of the ring; the newest key has index 0.
    fn value(ring: &KeyRing, index: usize) -> String {
        let key = ring.keys()[index].certificate().unwrap().public_key();
        let random = &mut StdRng::seed_from_u64(1);
        base64::encode(&envelope::seal(key, &label(), b"value", random).unwrap())
    }

    /// Returns text in the form of a sealed value that no key can unseal.
    fn garbage(seed: u64) -> String {
        let mut bytes = [0; 2 + 256 + 32];
        StdRng::seed_from_u64(seed).fill_bytes(&mut bytes[2..]);
        bytes[0] = 1;
        base64::encode(&bytes)
    }

    fn object(texts: impl IntoIterator<Item = String>) -> BTreeMap<String, String> {
        let key = |(i, text)| (format!("k{i:04}"), text);
        texts.into_iter().enumerate().map(key).collect()
    }

    /// Counts operations, and interrupts the work after `limit`.
    struct Counter {
        operations: u64,
        limit: u64,
    }

    impl Meter for Counter {
        fn spend(&mut self, _: u64) -> Result<(), Interrupted> {
            if self.operations == self.limit {
                return Err(Interrupted);
            }
            self.operations += 1;
            Ok(())
        }
    }

    fn open_counting(
        items: &BTreeMap<String, String>,
        ring: &KeyRing,
        remembered: &Hints,
        limit: u64,
    ) -> (Result<OpenedItems, UnsealError>, u64) {
        let mut counter = Counter {
            operations: 0,
            limit,
        };
        let mut effort = Effort {
            meter: &mut counter,
            after_failure: MAX_AFTER_FAILURE,
        };
        let no_hints = Hints::new();
        let advice = [&no_hints, remembered];
        let result = open_items(items.iter(), ring, &label(), advice, &mut effort);
        (result, counter.operations)
    }

    /// Attack: an author keeps the controller busy with hundreds of well-formed values that no key can unseal. Each
    /// value costs one operation for every key.
    #[test]
    fn limits_the_operations_for_hundreds_of_wrong_items_and_names_several() {
        let ring = ring();
        for wrong in [1, 3, 300, 1000] {
            let valid = (0..20).map(|_| value(&ring, 0));
            let items = object(valid.chain((0..wrong).map(garbage)));
            let (result, operations) = open_counting(&items, &ring, &Hints::new(), u64::MAX);
            let Err(UnsealError::Items(errors)) = result else {
                panic!("{wrong} wrong items were unsealed");
            };
            let limit = 20 + KEYS as u64 + MAX_AFTER_FAILURE;
            assert!(operations <= limit, "{wrong}: {operations} operations");
            let named_count = errors.items.len();
            assert_eq!(
                named_count + errors.untried,
                usize::try_from(wrong).unwrap()
            );
            assert_eq!(
                named_count,
                (1 + 500 / KEYS).min(named_count + errors.untried)
            );
            let is_reported = errors.to_string().ends_with("more items were not tried");
            assert_eq!(is_reported, errors.untried > 0, "{errors}");
        }
    }

    /// Attack: an author exhausts the memory with an object whose error is many times as long as the object itself.
    #[test]
    fn an_error_about_a_hundred_thousand_items_is_short() {
        let ring = ring();
        // The texts have 300 different lengths, so the error has 300 different findings.
        let texts = (0..100_000_usize).map(|i| "*".repeat(1 + i % 300));
        let (result, operations) = open_counting(&object(texts), &ring, &Hints::new(), u64::MAX);
        let Err(UnsealError::Items(errors)) = result else {
            panic!("text was unsealed");
        };
        assert_eq!((errors.items.len(), errors.untried), (MAX_NAMED, 99_000));
        assert_eq!(operations, 0);
        let message = errors.to_string();
        assert!(message.len() < 200_000, "{} bytes", message.len());
    }

    /// Attack: an author keeps the controller busy with items for the oldest keys in turn, so that the key of the
    /// previous item is always wrong.
    #[test]
    fn alternating_keys_cost_a_few_operations_for_each_item() {
        let ring = ring();
        for keys in 1..=MAX_RECENT {
            let items = object((0..200).map(|i| value(&ring, KEYS - 1 - i % keys)));
            let (result, operations) = open_counting(&items, &ring, &Hints::new(), u64::MAX);
            assert_eq!(result.unwrap().0.len(), 200);
            let limit = (200 * keys + keys * KEYS) as u64;
            assert!(operations <= limit, "{keys} keys: {operations} operations");
        }
    }

    /// Attack: an author keeps the controller busy with an object that needs more work than one attempt may use.
    #[test]
    fn interrupted_work_resumes_and_finishes() {
        let ring = ring();
        let items = object((0..60).map(|i| value(&ring, i % KEYS)));
        // Each limit allows one operation for each item, and one operation for every key for one item.
        for limit in [66, 70, 100, 1000] {
            let (mut remembered, mut attempts) = (Hints::new(), 0);
            loop {
                attempts += 1;
                let (result, operations) = open_counting(&items, &ring, &remembered, limit);
                assert!(operations <= limit);
                match result {
                    Ok(opened) => break assert_eq!(opened.0.len(), 60),
                    Err(UnsealError::BudgetUsedUp { opened }) => {
                        assert!(opened.len() > remembered.len(), "{limit}: no progress");
                        remembered = opened;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(attempts <= 60, "{limit}: {attempts} attempts");
        }
    }

    /// Attack: a reader infers a value from the progress of an attempt in the status.
    #[test]
    fn the_error_of_an_interruption_does_not_depend_on_the_progress() {
        let ring = ring();
        let items = object((0..20).map(|_| value(&ring, 0)));
        let error = |limit| {
            open_counting(&items, &ring, &Hints::new(), limit)
                .0
                .unwrap_err()
        };
        assert_eq!(error(0).to_string(), error(19).to_string());
    }
}
