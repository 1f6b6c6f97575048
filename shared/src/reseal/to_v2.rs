//! Converts the v1 items of a SealedSecret to v2.

use std::collections::BTreeMap;

use rand::CryptoRng;

use super::{ResealError, ResealRules, Resealed, fold_spec};
use crate::hints;
use crate::key::Fingerprint;
use crate::key_ring::{KeyRing, UnsealFailure};
use crate::meter::{Interrupted, Meter, lock_sealing_cost};
use crate::resource::SealedSecret;
use crate::scope::{Label, Scope};
use crate::sealed_text;
use crate::unseal::{self, ItemError, ItemErrors, ItemProblem, UnsealError};
use crate::v2::{
    self, Checked, Edit, EditError, FoldSpec, OpenedLocks, Place, SealError, Target, V1Values,
    Value,
};

/// Re-encrypts a SealedSecret as v2: seals all its items under one lock for [`KeyRing::sealing_recipients`], with the
/// identifiers of their values. Changes nothing if the items are already sealed in this way. Refuses objects in the
/// deprecated form.
///
/// # Errors
///
/// Returns [`ResealError`] if the SealedSecret cannot be re-encrypted. In this case, no item is re-encrypted.
pub fn reseal_as_v2(
    sealed: &SealedSecret,
    ring: &KeyRing,
    rules: ResealRules,
    random: &mut impl CryptoRng,
    meter: &mut dyn Meter,
) -> Result<Resealed, ResealError> {
    let recipients = ring.sealing_recipients(rules.now)?;
    let recipients = recipients.all();
    let spec = fold_spec(&recipients, rules.now);
    let edit = convert_to_v2(sealed, ring, &spec, &rules.policy, random, meter)?;
    let changed = edit.set.keys().filter(|name| !name.starts_with('/'));
    let mut resealed = Resealed::unchanged(sealed);
    resealed.changed = changed.count();
    drop_hints(&mut resealed.sealed, &edit);
    edit.apply(&mut resealed.sealed.spec.encrypted_data);
    Ok(resealed)
}

/// Removes the key hints of converted items, since v2 items name their keys.
fn drop_hints(sealed: &mut SealedSecret, edit: &Edit) {
    let mut hints = hints::read(sealed.metadata.annotations.as_ref());
    let before = hints.len();
    hints.retain(|item, _| !edit.set.contains_key(item));
    if let Some(annotations) = sealed.metadata.annotations.as_mut()
        && hints.len() != before
    {
        hints::annotate(annotations, &hints);
    }
}

/// Seals all items of a SealedSecret under one v2 lock. Returns the changes to its entries.
///
/// Performs the checks of v2, and refuses the deprecated form, before any private key is used.
///
/// # Errors
///
/// Returns [`ResealError`], with the first v1 item that cannot be unsealed.
pub fn convert_to_v2(
    sealed: &SealedSecret,
    ring: &KeyRing,
    spec: &FoldSpec<'_>,
    policy: &v2::Policy,
    random: &mut impl CryptoRng,
    meter: &mut dyn Meter,
) -> Result<Edit, ResealError> {
    let checked = Checked::new(sealed, policy, Target::Other).map_err(UnsealError::from)?;
    if sealed.spec.data.is_some() {
        return Err(UnsealError::LegacyRefused.into());
    }
    let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
    let place = Place::for_sealing(scope, sealed.namespace_or_empty(), sealed.name_or_empty());
    let place = place.map_err(SealError::from).map_err(EditError::from)?;
    let values = open_v1(sealed, checked.object(), ring, meter)?;
    meter.spend(lock_sealing_cost(spec.recipients))?;
    let (mut opened, keys) = (OpenedLocks::default(), ring.openers());
    let v1 = V1Values {
        place: &place,
        values,
    };
    Ok(v2::convert(
        &checked,
        v1,
        &keys,
        spec,
        &mut opened,
        meter,
        random,
    )?)
}

/// Opens the v1 items. Stops at the first item that cannot be unsealed.
fn open_v1(
    sealed: &SealedSecret,
    object: &v2::Object,
    ring: &KeyRing,
    meter: &mut dyn Meter,
) -> Result<BTreeMap<String, Value>, ResealError> {
    let hints = hints::read(sealed.metadata.annotations.as_ref());
    let label = unseal::label(sealed);
    let mut values = BTreeMap::new();
    let mut last: Option<Fingerprint> = None;
    for item in object.v1_items() {
        let text = &sealed.spec.encrypted_data[item];
        let first: Vec<&Fingerprint> = hints.get(item).into_iter().chain(&last).collect();
        match open_v1_item(text, ring, &label, &first, meter) {
            Ok((value, key)) => {
                values.insert(item.clone(), value);
                last = Some(key);
            }
            Err(OpenV1Error::Interrupted(why)) => return Err(why.into()),
            Err(OpenV1Error::Item(problem)) => {
                let key = item.clone();
                let mut errors = ItemErrors {
                    items: vec![ItemError { key, problem }],
                    untried: object.v1_items().len() - values.len() - 1,
                    ..ItemErrors::default()
                };
                errors.explain(sealed, ring);
                return Err(UnsealError::from(errors).into());
            }
        }
    }
    Ok(values)
}

enum OpenV1Error {
    Item(ItemProblem),
    Interrupted(Interrupted),
}

fn open_v1_item(
    text: &str,
    ring: &KeyRing,
    label: &Label,
    first: &[&Fingerprint],
    meter: &mut dyn Meter,
) -> Result<(Value, Fingerprint), OpenV1Error> {
    let bytes = sealed_text::decode(text).map_err(|why| OpenV1Error::Item(why.into()))?;
    match ring.open_value_within(label, &bytes, first, meter) {
        Ok((opened, key)) => Ok((opened.into(), key.fingerprint().clone())),
        Err(UnsealFailure::NoKey(why)) => Err(OpenV1Error::Item(why.into())),
        Err(UnsealFailure::Interrupted(why)) => Err(OpenV1Error::Interrupted(why)),
    }
}
