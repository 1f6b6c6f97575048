//! Opens the items of one object, and stops early where that cannot succeed.

use std::collections::BTreeMap;

use super::errors::{ItemError, ItemErrors, ItemProblem, UnsealError};
use super::{Effort, Opened};
use crate::base64;
use crate::hints::Hints;
use crate::key::Fingerprint;
use crate::key_ring::{KeyRing, Unopened};
use crate::meter::{Interrupted, Meter};
use crate::plain::Plain;
use crate::scope::Label;

/// Keys that opened items of the same object lately and are tried first, so that items for a handful of
/// keys in turn cost no more than a few operations each.
const RECENT: usize = 4;

/// Opens every item. Advice on an item comes first, then the keys that opened earlier items, the last one
/// before the others: the items of one object were mostly sealed together.
///
/// Once an item has failed the object cannot open. A limited number of further operations is spent to
/// name other wrong items, too; what is left then is only counted.
pub(super) fn open_items(
    items: &BTreeMap<String, String>,
    ring: &KeyRing,
    label: &Label,
    advice: [&Hints; 2],
    effort: &mut Effort<'_>,
) -> Result<Opened, UnsealError> {
    let mut opened = Opened::default();
    let mut failures = ItemErrors::default();
    let mut recent: Vec<Fingerprint> = Vec::new();
    let mut limited = Limited {
        meter: &mut *effort.meter,
        left: None,
    };
    for (key, text) in items {
        let advice = advice.iter().filter_map(|hints| hints.get(key));
        let first: Vec<&Fingerprint> = advice.chain(&recent).collect();
        match open_item(text, ring, label, &first, &mut limited) {
            Ok((plain, fingerprint)) => {
                note(&mut recent, &fingerprint);
                opened.0.insert(key.clone(), plain);
                opened.1.insert(key.clone(), fingerprint);
            }
            Err(Failure::Interrupted) if failures.items.is_empty() => {
                return Err(UnsealError::BudgetUsedUp { opened: opened.1 });
            }
            Err(Failure::Interrupted) => failures.untried += 1,
            Err(Failure::Item(problem)) => {
                let key = key.clone();
                failures.items.push(ItemError { key, problem });
                limited.left.get_or_insert(effort.after_a_failure);
            }
        }
    }
    if failures.items.is_empty() {
        Ok(opened)
    } else {
        Err(failures.into())
    }
}

/// The one that was last comes first.
fn note(recent: &mut Vec<Fingerprint>, opener: &Fingerprint) {
    recent.retain(|known| known != opener);
    recent.insert(0, opener.clone());
    recent.truncate(RECENT);
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
) -> Result<(Plain, Fingerprint), Failure> {
    let sealed = base64::decode(text.as_bytes()).map_err(|why| Failure::Item(why.into()))?;
    match ring.open_within(label, &sealed, first, meter) {
        Ok((plain, key)) => Ok((plain, key.fingerprint().clone())),
        Err(Unopened::NoKey(why)) => Err(Failure::Item(why.into())),
        Err(Unopened::Interrupted(_)) => Err(Failure::Interrupted),
    }
}

/// The meter of the whole work, with a bound of its own on operations once there is one.
struct Limited<'a> {
    meter: &'a mut dyn Meter,
    left: Option<u64>,
}

impl Meter for Limited<'_> {
    fn spend(&mut self, microseconds: u64) -> Result<(), Interrupted> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or(Interrupted)?;
        }
        self.meter.spend(microseconds)
    }
}
