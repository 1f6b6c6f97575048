//! Unseals a SealedSecret for delivery.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller_core::author_limits::AuthorLimits;
use controller_core::decide::Refusal;
use controller_core::no_secret::refusal_depends_on_values;
use deliver::MAX_FILES;
use jiff::Timestamp;
use shared::key_ring::KeyRing;
use shared::meter::Meter;
use shared::plain::Plain;
use shared::resource::{SealedSecret, SealedSecretSpec};
use shared::unseal::{
    Admission, EarlierResults, Randomness, TemplateError, TemplateErrors, UnsealError,
    UnsealedItems, check_templates, unseal_items,
};
use shared::v2::{self, OpenedLocks, Target, ValueDigest};
use shared::{error_chain, visible};

use super::refused::{DeliveryRefusal, ObjectError};
use crate::pool::{Budget, Pool};
use crate::reconcile::timing::Class;
use crate::store::cluster::delivery::FetchedObject;

/// The budget for unsealing the items of one object.
const OPENING_BUDGET: Budget = Budget::seconds(10);

const HINT_FOR_OBJECT: &str = "check the status of the SealedSecret, and seal the values again";
const HINT_FOR_LIMITS: &str = "ask the administrator of the controller";

/// Maximum memory of an entry of a map of strings in bytes, apart from the strings.
const ENTRY_OVERHEAD: usize = 128;

/// Maximum length of the results of all templates of an object, or of a request, in bytes.
pub(super) const MAX_RENDERED: usize = 1 << 20;

/// A SealedSecret with its unsealed items, before its templates are rendered. The values are wiped on drop.
///
/// All its sizes follow from public data: the caches and the memory of responses are limited, and other tenants can
/// observe when a limit is reached.
pub(super) struct UnsealedObject {
    sealed: Arc<SealedSecret>,
    items: UnsealedItems,
    slow_work: u64,
}

impl UnsealedObject {
    /// Returns whether the object has templates.
    pub(super) fn has_templates(&self) -> bool {
        self.sealed.spec.template.data.is_some()
    }

    /// Returns the cost of the slow functions of the templates, in microseconds.
    pub(super) fn slow_work(&self) -> u64 {
        self.slow_work
    }

    /// Returns the maximum size of the object in memory in bytes: the sealed and the unsealed values, the templates and
    /// the metadata.
    pub(super) fn size(&self) -> usize {
        let spec = &self.sealed.spec;
        let templates = spec.template.data.iter().flatten();
        let templates = templates.map(|(key, text)| (key, text.as_ref()));
        let maps = [&self.sealed.metadata, &spec.template.metadata];
        let maps = maps.map(|metadata| [&metadata.labels, &metadata.annotations]);
        let metadata = maps.into_iter().flatten().flatten().flatten();
        let metadata = metadata.map(|(key, text)| (key, Some(text)));
        let items = spec.encrypted_data.iter();
        let items = items.flat_map(|(key, text)| [(key, Some(text)); 2]);
        let entries = items.chain(templates).chain(metadata).map(entry_size);
        entries.sum::<usize>() + 2 * spec.data.as_ref().map_or(0, String::len)
    }

    /// Returns the maximum length of the values after rendering, in bytes.
    pub(super) fn max_values_len(&self) -> usize {
        let rendered = if self.has_templates() {
            MAX_RENDERED
        } else {
            0
        };
        self.sealed_len() + rendered
    }

    /// Returns the maximum number of values after rendering.
    pub(super) fn max_values(&self) -> usize {
        let spec = &self.sealed.spec;
        if spec.data.is_some() {
            return MAX_FILES;
        }
        let templates = spec.template.data.as_ref().map_or(0, BTreeMap::len);
        spec.encrypted_data.len() + templates
    }

    /// Returns the length of the sealed values, which are longer than the values in plaintext.
    fn sealed_len(&self) -> usize {
        let spec = &self.sealed.spec;
        let items = spec.encrypted_data.values().map(String::len);
        items.sum::<usize>() + spec.data.as_ref().map_or(0, String::len)
    }
}

/// Returns the maximum size of an entry of a map in memory.
fn entry_size((key, text): (&String, Option<&String>)) -> usize {
    ENTRY_OVERHEAD + key.len() + text.map_or(0, String::len)
}

/// An unsealed SealedSecret whose templates are rendered. Its values are wiped on drop.
#[derive(Debug)]
pub(super) struct OpenedObject {
    /// The values of the Secret that the SealedSecret describes.
    pub(super) values: BTreeMap<String, Plain>,
    /// The digest of the value of each sealed item, by item key.
    pub(super) digests: BTreeMap<String, ValueDigest>,
    /// The v2 items, whose exact length is not public.
    pub(super) padded: BTreeSet<String>,
    /// The maximum length of all values of an object with the deprecated field `data`.
    pub(super) legacy_len: Option<usize>,
    /// The object without its sealed values, for its names, templates and generation.
    pub(super) sealed: SealedSecret,
}

impl OpenedObject {
    /// Returns the length of the values in bytes.
    pub(super) fn values_len(&self) -> usize {
        self.values.values().map(|value| value.expose().len()).sum()
    }

    /// Returns the maximum length of the values of these items, as far as it follows from public data. Only the lengths
    /// of rendered templates depend on values.
    pub(super) fn public_len(&self, items: &BTreeSet<String>) -> usize {
        let lens = items.iter().filter_map(|item| {
            let len = self.values.get(item)?.expose().len();
            let is_padded = self.padded.contains(item);
            Some(if is_padded {
                v2::max_len_with_equal_padding(len)
            } else {
                len
            })
        });
        self.legacy_len.unwrap_or_else(|| lens.sum())
    }
}

/// Unseals the objects of a request, taking turns with other requests.
#[derive(Debug, Clone)]
pub(super) struct Opener {
    pub(super) pool: Pool,
    pub(super) limits: Arc<AuthorLimits>,
    pub(super) accept_legacy: bool,
}

impl Opener {
    /// Unseals the items of an object. Refuses an object whose templates are forbidden, invalid or too slow.
    pub(super) async fn open(
        &self,
        fetched: FetchedObject,
        ring: Arc<KeyRing>,
        now: Timestamp,
    ) -> Result<UnsealedObject, DeliveryRefusal> {
        let namespace = fetched.sealed.namespace_or_empty().to_owned();
        let opener = self.clone();
        let work = move |meter: &mut dyn Meter| opener.open_items(&fetched, &ring, now, meter);
        let result = self.pool.work_for(&namespace, OPENING_BUDGET, work).await;
        result.map_err(|_| DeliveryRefusal::Busy)?
    }

    fn open_items(
        &self,
        fetched: &FetchedObject,
        ring: &KeyRing,
        now: Timestamp,
        meter: &mut dyn Meter,
    ) -> Result<UnsealedObject, DeliveryRefusal> {
        let sealed = &fetched.sealed;
        let refused = |why: Refusal| to_delivery_refusal(&why, sealed);
        let allowed = self.limits.allow_templates(sealed);
        allowed.map_err(|why| refused(why.into()))?;
        let slow_work = check_templates(sealed, meter);
        let slow_work = slow_work.map_err(|why| refused(why.into()))?;
        if Class::for_delivery(slow_work).is_none() {
            return Err(too_slow(sealed));
        }
        let items = self.unseal(fetched, ring, now, meter);
        Ok(UnsealedObject {
            sealed: Arc::clone(sealed),
            items: items.map_err(refused)?,
            slow_work,
        })
    }

    fn unseal(
        &self,
        fetched: &FetchedObject,
        ring: &KeyRing,
        now: Timestamp,
        meter: &mut dyn Meter,
    ) -> Result<UnsealedItems, Refusal> {
        let sealed = &fetched.sealed;
        let admission = Admission {
            accept_legacy: self.accept_legacy,
            policy: self.limits.policy_of(sealed, now),
            target: Target::Other,
        };
        let earlier_results = EarlierResults {
            hints: &fetched.hints,
            locks: &mut OpenedLocks::default(),
        };
        Ok(unseal_items(
            sealed,
            ring,
            admission,
            earlier_results,
            meter,
        )?)
    }

    /// Renders the templates of the object, and checks the result against the author limits.
    pub(super) fn render(
        &self,
        object: &UnsealedObject,
        ring: &KeyRing,
        now: Timestamp,
        meter: &mut dyn Meter,
    ) -> Result<OpenedObject, DeliveryRefusal> {
        let sealed = &object.sealed;
        let mut randomness = Randomness {
            now,
            rng: &mut shared::random::system(),
        };
        let items = object.items.clone();
        let unsealed = items.render(sealed, true, &mut randomness, meter);
        let checked = unsealed.map_err(Refusal::from).and_then(|unsealed| {
            self.limits.allow(sealed, &unsealed, ring, now)?;
            Ok(unsealed)
        });
        let unsealed = checked.map_err(|why| to_delivery_refusal(&why, sealed))?;
        Ok(OpenedObject {
            values: unsealed.secret.data,
            digests: unsealed.digests,
            padded: padded_items(sealed),
            legacy_len: sealed.spec.data.as_ref().map(|data| data.len() / 4 * 3),
            sealed: without_values(sealed),
        })
    }
}

fn padded_items(sealed: &SealedSecret) -> BTreeSet<String> {
    let items = sealed.spec.encrypted_data.iter();
    let padded = items.filter(|(_, text)| v2::is_v2_value(text));
    padded.map(|(item, _)| item.clone()).collect()
}

fn without_values(sealed: &SealedSecret) -> SealedSecret {
    let mut spec = SealedSecretSpec::default();
    spec.template.data.clone_from(&sealed.spec.template.data);
    let mut stripped = SealedSecret::new(sealed.name_or_empty(), spec);
    stripped
        .metadata
        .namespace
        .clone_from(&sealed.metadata.namespace);
    stripped.metadata.generation = sealed.metadata.generation;
    stripped
}

/// Converts a refusal of the object to a refusal for callers. Callers may read the values, but the message ends up in
/// events and logs that other users read.
fn to_delivery_refusal(why: &Refusal, sealed: &SealedSecret) -> DeliveryRefusal {
    if matches!(
        why,
        Refusal::Unseal(UnsealError::BudgetUsedUp { .. } | UnsealError::KeyUnavailable { .. })
    ) {
        return DeliveryRefusal::Busy;
    }
    if refusal_depends_on_values(why, sealed) {
        let objects = vec![sealed.name_or_empty().to_owned()];
        return DeliveryRefusal::Values { objects };
    }
    object_error(sealed, causing_item(why), public_message(why), hint(why))
}

/// Returns the refusal of templates whose slow functions cost too much.
fn too_slow(sealed: &SealedSecret) -> DeliveryRefusal {
    let error = format!(
        "the templates of the SealedSecret {:?} call slow functions such as derivePassword too often to be rendered while a \
         Pod waits",
        sealed.name_or_empty()
    );
    let hint = "call derivePassword at most four times and not in a loop, or seal its result";
    object_error(sealed, None, error, hint)
}

fn object_error(
    sealed: &SealedSecret,
    item: Option<String>,
    error: String,
    hint: &'static str,
) -> DeliveryRefusal {
    DeliveryRefusal::Object(Box::new(ObjectError {
        object: sealed.name_or_empty().to_owned(),
        item,
        error,
        hint,
    }))
}

/// Returns the public message of a refusal.
fn public_message(why: &Refusal) -> String {
    if let Some(item) = random_item(why) {
        return format!(
            "the template {item:?} uses the time, random values or new keys, so each Pod would get different values"
        );
    }
    let text = match why {
        Refusal::Unseal(why @ UnsealError::Items(_)) => why.diagnosis(),
        why => error_chain(why),
    };
    visible(&text).into_owned()
}

fn hint(why: &Refusal) -> &'static str {
    match why {
        Refusal::Violation(_) => HINT_FOR_LIMITS,
        _ if random_item(why).is_some() => "seal a fixed value instead",
        _ => HINT_FOR_OBJECT,
    }
}

/// Returns the first item that a list in the refusal names; `None` for all other refusals.
fn causing_item(why: &Refusal) -> Option<String> {
    let Refusal::Unseal(why) = why else {
        return None;
    };
    match why {
        UnsealError::Items(errors) => errors.items.first().map(|error| error.key.clone()),
        UnsealError::Template(TemplateErrors(errors)) => {
            errors.first().map(|error| error.key().to_owned())
        }
        UnsealError::Refused(v2::Refusal::Tampered { items }) => items.first().cloned(),
        _ => None,
    }
}

/// Returns the first item whose template gives a different value each time.
fn random_item(why: &Refusal) -> Option<&str> {
    let Refusal::Unseal(UnsealError::Template(TemplateErrors(errors))) = why else {
        return None;
    };
    errors.iter().find_map(|error| match error {
        TemplateError::Randomness(item) => Some(item.as_str()),
        TemplateError::Parse(_) => None,
    })
}
