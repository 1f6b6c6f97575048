//! Keeps the values of templates that use time or randomness, since only the existing Secret contains them.

use std::collections::{BTreeMap, BTreeSet};

use controller_core::decide::Existing;
use shared::plain::Plain;
use shared::random_mark;
use shared::record::{self, Identity};
use shared::resource::{RANDOM_VALUES_ANNOTATION, SealedSecret};
use shared::secret::Secret;

use super::attempt::Tools;
use crate::store::{Observed, Source, Store};

impl<S: Store> Tools<S> {
    /// Copies the random values of the existing Secret into the desired Secret if they are known to belong to this
    /// version of the SealedSecret, and marks the random values of the result. Returns whether values of a version that
    /// was unsealed before are replaced.
    ///
    /// The decision depends on the mark of the values, which is written together with them: it shows for which version
    /// they were rendered, even if the process ended before it recorded anything else. Without a mark that a key
    /// verifies, values stay only if no other client has written the Secret since they were rendered, or if this is
    /// unknown: after an update from a controller that sets no mark, or without the key of the mark. Such values get a
    /// mark with the next write.
    pub(super) fn keep_random_values(
        &self,
        observed: &Observed,
        items: &BTreeSet<String>,
        secret: &mut Secret,
    ) -> bool {
        let Source::Sealed(sealed) = &observed.source else {
            return false;
        };
        let Some(version) = Identity::from_manifest(sealed).filter(|_| !items.is_empty()) else {
            return false;
        };
        let ring = self.ring();
        let (existing, mark) = (
            existing_values(&observed.existing),
            observed.random_mark.as_ref(),
        );
        let unchanged = mark
            .and_then(|mark| random_mark::unchanged_items(mark, version, items, existing, &ring));
        let is_up_to_date = unchanged.as_ref() == Some(items);
        let kept = unchanged.unwrap_or_else(|| {
            let may_stay = self.may_lack_mark(observed, sealed);
            let is_kept = |item: &&String| may_stay && existing.contains_key(*item);
            items.iter().filter(is_kept).cloned().collect()
        });
        copy_items(&kept, existing, &mut secret.data);
        let mark = if is_up_to_date {
            mark.cloned()
        } else {
            let nonce = next_nonce(mark, &kept == items);
            random_mark::create(version, items, &secret.data, &nonce, &ring)
        };
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.extend(mark.map(|mark| (RANDOM_VALUES_ANNOTATION.to_owned(), mark)));
        observed.settled && kept.len() < items.len()
    }

    /// Returns whether the existing values may stay without a mark that a key verifies: no other client has written the
    /// Secret since they were rendered, or this is unknown.
    fn may_lack_mark(&self, observed: &Observed, sealed: &SealedSecret) -> bool {
        observed.claimed
            || observed.trusts_mark
            || observed.settled && observed.has_unsealed_values
            || self.has_recorded_values(observed, sealed)
    }

    /// Returns whether the record of this version of the SealedSecret shows that the Secret still has the values of the
    /// record, although another client may have changed its labels and annotations.
    fn has_recorded_values(&self, observed: &Observed, sealed: &SealedSecret) -> bool {
        let record = observed.status.as_ref().and_then(|s| s.record.as_ref());
        let (Some(record), Some(secret), Some(identity)) =
            (record, observed.existing.secret(), Identity::of(sealed))
        else {
            return false;
        };
        let ring = self.ring();
        record::is_proof_of_unsealing(record, identity, &ring)
            && record::has_recorded_values(record, identity, &ring, secret)
    }
}

/// Returns the nonce of the next mark. If all values are kept and only the key that verifies the mark changes, the
/// nonce stays.
fn next_nonce(mark: Option<&String>, has_all_values: bool) -> String {
    let present = mark.and_then(|mark| random_mark::nonce(mark));
    match present.filter(|_| has_all_values) {
        Some(nonce) => nonce.to_owned(),
        None => random_mark::new_nonce(&mut shared::random::system()),
    }
}

fn existing_values(existing: &Existing) -> &BTreeMap<String, Plain> {
    static NONE: BTreeMap<String, Plain> = BTreeMap::new();
    match existing {
        Existing::Owned(content) => content.values(),
        Existing::Absent | Existing::NotOwned | Existing::Unreadable(_) => &NONE,
    }
}

fn copy_items(
    items: &BTreeSet<String>,
    existing: &BTreeMap<String, Plain>,
    values: &mut BTreeMap<String, Plain>,
) {
    for item in items {
        if let Some(value) = existing.get(item) {
            values.insert(item.clone(), value.clone());
        }
    }
}
