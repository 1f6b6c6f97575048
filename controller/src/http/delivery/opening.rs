//! Unseals a SealedSecret for delivery.

use std::collections::BTreeMap;
use std::sync::Arc;

use controller_core::author_limits::AuthorLimits;
use controller_core::decide::Refusal;
use controller_core::no_secret::refusal_depends_on_values;
use jiff::Timestamp;
use shared::key_ring::KeyRing;
use shared::meter::Meter;
use shared::plain::Plain;
use shared::resource::{SealedSecret, SealedSecretSpec};
use shared::unseal::{
    Admission, EarlierResults, Randomness, TemplateError, TemplateErrors, UnsealError, Unsealed,
    UnsealedItems, slow_work, unseal_items,
};
use shared::v2::{self, OpenedLocks, Target, ValueDigest};
use shared::{error_chain, visible};

use super::refused::{DeliveryRefusal, ObjectError};
use crate::pool::{Budget, Pool, Rendering};
use crate::store::cluster::delivery::FetchedObject;

/// The budget for unsealing the items of one object.
const OPENING_BUDGET: Budget = Budget::seconds(10);
/// The budget for rendering the templates of one object.
const RENDERING_BUDGET: Budget = Budget::seconds(10);

const HINT_FOR_OBJECT: &str = "check the status of the SealedSecret, and seal the values again";
const HINT_FOR_VALUES: &str = "check which values the templates expect; the reason is not reported, because it depends on the values";
const HINT_FOR_LIMITS: &str = "ask the administrator of the controller";

/// An unsealed SealedSecret. Its values are wiped on drop.
#[derive(Debug)]
pub(super) struct OpenedObject {
    /// The values of the Secret that the SealedSecret describes.
    pub(super) values: BTreeMap<String, Plain>,
    /// The digest of the value of each sealed item, by item key.
    pub(super) digests: BTreeMap<String, ValueDigest>,
    /// The object without its sealed values, for its names, templates and generation.
    pub(super) sealed: SealedSecret,
}

impl OpenedObject {
    /// Returns the size of the values and templates in bytes.
    pub(super) fn size(&self) -> usize {
        let values: usize = self.values.values().map(|value| value.expose().len()).sum();
        let templates = self
            .sealed
            .spec
            .template
            .data
            .iter()
            .flat_map(BTreeMap::values);
        values + templates.flatten().map(String::len).sum::<usize>()
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
    /// Unseals the object under the author limits of its namespace.
    pub(super) async fn open(
        &self,
        fetched: FetchedObject,
        ring: Arc<KeyRing>,
        now: Timestamp,
    ) -> Result<OpenedObject, DeliveryRefusal> {
        let sealed = Arc::clone(&fetched.sealed);
        let refused = |why: Refusal| to_delivery_refusal(&why, &sealed);
        let namespace = sealed.namespace_or_empty().to_owned();
        let (items, is_slow) = {
            let (opener, ring) = (self.clone(), Arc::clone(&ring));
            let work = move |meter: &mut dyn Meter| opener.open_items(&fetched, &ring, now, meter);
            let result = self.pool.work_for(&namespace, OPENING_BUDGET, work).await;
            result
                .map_err(|_| DeliveryRefusal::Busy)?
                .map_err(refused)?
        };
        let work = {
            let (opener, sealed) = (self.clone(), Arc::clone(&sealed));
            move |meter: &mut dyn Meter| opener.render(&sealed, items, &ring, now, meter)
        };
        let rendering = Rendering {
            budget: RENDERING_BUDGET,
            is_slow,
        };
        let rendered = self.pool.render_for(&namespace, rendering, work).await;
        let unsealed = rendered
            .map_err(|_| DeliveryRefusal::Busy)?
            .map_err(refused)?;
        Ok(OpenedObject {
            values: unsealed.secret.data,
            digests: unsealed.digests,
            sealed: without_values(&sealed),
        })
    }

    /// Unseals the items, and returns whether the templates are slow.
    fn open_items(
        &self,
        fetched: &FetchedObject,
        ring: &KeyRing,
        now: Timestamp,
        meter: &mut dyn Meter,
    ) -> Result<(UnsealedItems, bool), Refusal> {
        let sealed = &fetched.sealed;
        self.limits.allow_templates(sealed)?;
        let is_slow = slow_work(sealed, meter).map_or(true, |work| work > 0);
        let admission = Admission {
            accept_legacy: self.accept_legacy,
            policy: self.limits.policy_of(sealed, now),
            target: Target::Other,
        };
        let earlier_results = EarlierResults {
            hints: &fetched.hints,
            locks: &mut OpenedLocks::default(),
        };
        let items = unseal_items(sealed, ring, admission, earlier_results, meter)?;
        Ok((items, is_slow))
    }

    /// Renders the templates of the object. Fails if a template gives a different value each time.
    fn render(
        &self,
        sealed: &SealedSecret,
        items: UnsealedItems,
        ring: &KeyRing,
        now: Timestamp,
        meter: &mut dyn Meter,
    ) -> Result<Unsealed, Refusal> {
        let mut randomness = Randomness {
            now,
            rng: &mut shared::random::system(),
        };
        let unsealed = items.render(sealed, true, &mut randomness, meter)?;
        self.limits.allow(sealed, &unsealed, ring, now)?;
        Ok(unsealed)
    }
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
    let (item, error, hint) = if refusal_depends_on_values(why, sealed) {
        let error = "the values cannot be delivered: a template fails, or the content of the field 'data' is invalid";
        (None, error.to_owned(), HINT_FOR_VALUES)
    } else {
        (causing_item(why), public_message(why), hint(why))
    };
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

/// Returns the first item that caused the refusal; `None` if the refusal names no item.
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
