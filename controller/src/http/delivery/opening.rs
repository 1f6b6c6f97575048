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
    UnsealedItems, check_templates, unseal_items,
};
use shared::v2::{self, OpenedLocks, Target, ValueDigest};
use shared::{error_chain, visible};
use tokio::time::Instant;

use super::refused::{DeliveryRefusal, ObjectError};
use super::turn::Turn;
use crate::pool::{Budget, Pool};
use crate::reconcile::timing::Class;
use crate::store::cluster::delivery::FetchedObject;

/// The budget for unsealing the items of one object.
const OPENING_BUDGET: Budget = Budget::seconds(10);

const HINT_FOR_OBJECT: &str = "check the status of the SealedSecret, and seal the values again";
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
    /// Returns whether the object has templates.
    pub(super) fn has_templates(&self) -> bool {
        self.sealed.spec.template.data.is_some()
    }

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
    /// Unseals the object under the author limits of its namespace. If the object has templates, their text determines
    /// when this function returns.
    pub(super) async fn open(
        &self,
        fetched: FetchedObject,
        ring: Arc<KeyRing>,
        now: Timestamp,
        turn: &mut Turn<'_>,
    ) -> Result<OpenedObject, DeliveryRefusal> {
        let sealed = Arc::clone(&fetched.sealed);
        let namespace = sealed.namespace_or_empty().to_owned();
        let (items, class) = {
            let (opener, ring) = (self.clone(), Arc::clone(&ring));
            let work = move |meter: &mut dyn Meter| opener.open_items(&fetched, &ring, now, meter);
            let result = self.pool.work_for(&namespace, OPENING_BUDGET, work).await;
            result.map_err(|_| DeliveryRefusal::Busy)??
        };
        let work = {
            let (opener, sealed) = (self.clone(), Arc::clone(&sealed));
            // The measurement starts in the job: waiting for a slot does not depend on the values.
            move |meter: &mut dyn Meter| {
                let start = Instant::now();
                (start, opener.render(&sealed, items, &ring, now, meter))
            }
        };
        let rendering = class.rendering_for_delivery();
        let rendered = self.pool.render_for(&namespace, rendering, work).await;
        let (start, unsealed) = rendered.map_err(|_| DeliveryRefusal::Busy)?;
        let opened = unsealed.map(|unsealed| OpenedObject {
            values: unsealed.secret.data,
            digests: unsealed.digests,
            sealed: without_values(&sealed),
        });
        if sealed.spec.template.data.is_some() {
            let size = opened.as_ref().map_or(0, OpenedObject::size);
            let end = start + class.write_delay(start.elapsed());
            turn.pause(end, size).await;
        }
        opened.map_err(|why| to_delivery_refusal(&why, &sealed))
    }

    /// Checks the templates, and unseals the items. Returns the items, and the class of the templates.
    fn open_items(
        &self,
        fetched: &FetchedObject,
        ring: &KeyRing,
        now: Timestamp,
        meter: &mut dyn Meter,
    ) -> Result<(UnsealedItems, Class), DeliveryRefusal> {
        let sealed = &fetched.sealed;
        let refused = |why: Refusal| to_delivery_refusal(&why, sealed);
        self.limits
            .allow_templates(sealed)
            .map_err(|why| refused(why.into()))?;
        let work = check_templates(sealed, meter);
        let work = work.map_err(|why| refused(why.into()))?;
        let class = Class::for_delivery(work).ok_or_else(|| too_slow(sealed))?;
        let items = self.unseal(fetched, ring, now, meter);
        Ok((items.map_err(refused)?, class))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use shared::hints::Hints;
    use shared::key_ring::RingV2Key;
    use shared::scope::Scope;
    use shared::v2::key_secret::StoredKey;
    use shared::v2::{LockSpec, Place, SecretKey, Suite, Value};

    use super::*;
    use crate::http::delivery::memory::Memory;
    use crate::pool::slots::{Job, Slots};

    fn key() -> SecretKey {
        SecretKey::from_bytes(Suite::XWing, &[1; 32]).unwrap()
    }

    fn ring() -> Arc<KeyRing> {
        let stored = StoredKey {
            key: key(),
            not_before: Timestamp::MIN,
            not_after: Timestamp::MAX,
        };
        let key = RingV2Key::new("k".into(), Timestamp::MIN, stored);
        Arc::new(KeyRing::default().with_v2_keys([Arc::new(key)]))
    }

    /// Returns an object with the item `a`, and with a template unless it is empty.
    fn object(value: &str, template: &str) -> FetchedObject {
        let mut sealed = SealedSecret::new("db", SealedSecretSpec::default());
        sealed.metadata.namespace = Some("prod".into());
        let place = Place::for_sealing(Scope::Strict, "prod", "db").unwrap();
        let spec = LockSpec {
            place: &place,
            recipients: &[&key().recipient()],
            allow_classical: false,
            template: None,
            is_never_secret: false,
            is_alone: false,
            revision: 1,
        };
        let rng = &mut shared::random::system();
        let value = Value::new(Plain::from(value.to_owned()), rng);
        let values = BTreeMap::from([("a".to_owned(), value)]);
        sealed.spec.encrypted_data = v2::seal(&spec, &values, rng).unwrap();
        sealed.spec.template.data =
            (!template.is_empty()).then(|| [("t".into(), Some(template.into()))].into());
        FetchedObject {
            sealed: Arc::new(sealed),
            hints: Hints::new(),
        }
    }

    /// Opens an object. Returns the result, and the time that it took in milliseconds.
    async fn open(
        fetched: FetchedObject,
        turn: &mut Turn<'_>,
    ) -> (Result<OpenedObject, DeliveryRefusal>, u128) {
        let opener = Opener {
            pool: Pool::for_callers(),
            limits: Arc::default(),
            accept_legacy: true,
        };
        let start = Instant::now();
        turn.begin().await.unwrap();
        let result = opener.open(fetched, ring(), Timestamp::now(), turn).await;
        (result, start.elapsed().as_millis())
    }

    /// Attack: the author of a template has it take longer, fail, or create a larger value, depending on a sealed
    /// value, and observes when a Pod gets its values.
    #[tokio::test(start_paused = true)]
    async fn the_time_until_a_value_is_delivered_depends_only_on_the_text_of_the_templates() {
        let (slots, memory) = (Slots::new(1), Memory::default());
        let slow = "{{ if eq .a \"1\" }}{{ derivePassword 1 \"long\" .a \"u\" \"s\" }}{{ end }}";
        for (template, delay) in [
            ("", 0),
            ("{{ if eq .a \"1\" }}{{ fail \"\" }}{{ end }}", 500),
            (
                "{{ if eq .a \"1\" }}{{ range until 3000 }}{{ sha256sum \"x\" }}{{ end }}{{ end }}",
                500,
            ),
            (
                "{{ if eq .a \"1\" }}{{ repeat 100000 \"x\" }}{{ end }}",
                500,
            ),
            (slow, 2_000),
        ] {
            let mut times = BTreeSet::new();
            for value in ["1", "2", "333"] {
                let mut turn = Turn::new(&slots, &memory, "prod");
                times.insert(open(object(value, template), &mut turn).await.1);
            }
            assert_eq!(times, [delay].into(), "{template}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn templates_that_would_keep_a_pod_waiting_for_long_are_refused_without_rendering() {
        let (slots, memory) = (Slots::new(1), Memory::default());
        let call = "{{ derivePassword 1 \"long\" .a \"u\" \"s\" }}";
        for (template, is_refused) in [
            (call.repeat(4), false),
            (call.repeat(5), true),
            (format!("{{{{ range until 1 }}}}{call}{{{{ end }}}}"), true),
        ] {
            let mut turn = Turn::new(&slots, &memory, "prod");
            let (opened, took) = open(object("1", &template), &mut turn).await;
            assert_eq!(opened.is_err(), is_refused, "{template}");
            assert_eq!(took == 0, is_refused, "{template}");
        }
    }

    /// Attack: a tenant requests objects with templates, to occupy the slots of other tenants while its responses wait
    /// for their time.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_for_its_time_occupies_no_slot() {
        let (slots, memory) = (Slots::new(1), Memory::default());
        let mut turn = Turn::new(&slots, &memory, "prod");
        let fetched = object("1", "{{ .a }}");
        let opening = open(fetched, &mut turn);
        let other = async {
            let slot = slots.enqueue(&mut Job::new("other"));
            // Shorter than the delay of the templates.
            let limit = Duration::from_millis(400);
            tokio::time::timeout(limit, slot).await.is_ok()
        };
        let ((opened, _), has_slot) = tokio::join!(opening, other);
        assert!(opened.is_ok() && has_slot);
    }
}
