//! Creates responses: unseals the objects and renders the templates, once for all requests with the same selection.
//!
//! The editor of a template chooses what the template does with a value, and other users see when a Pod gets its
//! values: in logs, in metrics and by the start of the Pod. So the time and the failure of a response depend on the
//! text of the templates, but not on the values.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use controller_core::author_limits::AuthorLimits;
use controller_core::object_id::ObjectId;
use deliver::{Entry, MAX_FILES, MAX_RESPONSE, MAX_VALUES, Request, Response};
use jiff::Timestamp;
use shared::key_ring::KeyRing;
use shared::meter::Meter;
use shared::record::Identity;
use shared::v2::VersionKey;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Delivery;
use super::body::PreparedBody;
use super::files::{Files, Objects, ParsedEntries};
use super::memory::{Displaced, Memory, Owner, Reservation};
use super::opening::{MAX_RENDERED, Opener, UnsealedObject};
use super::refused::DeliveryRefusal;
use super::revision::Revision;
use super::single_flight::SingleFlight;
use crate::pool::{Budget, Pool};
use crate::reconcile::timing::Class;
use crate::store::cluster::ClusterStore;
use fair::{Job, Slot, Slots};

/// Maximum number of responses that are created at the same time. Each holds the values of its objects in memory.
const SLOTS: usize = 8;
/// Number of slots that are reserved for namespaces that occupy no slot yet.
const RESERVED: usize = 2;
/// Like [`SLOTS`] and [`RESERVED`], for responses with slow templates, which occupy a slot for seconds.
const SLOW_SLOTS: usize = 4;
const RESERVED_SLOW: usize = 1;
/// The budget for parsing the templates of a request.
const PARSING_BUDGET: Budget = Budget::seconds(5);
/// Maximum size of the objects of one response in bytes, including items that the response does not contain.
const MAX_BYTES: usize = 8 << 20;
/// Maximum total size of the cached unsealed objects in bytes.
const MAX_OPENED: usize = 32 << 20;
/// Maximum total size of the cached responses in bytes. They count toward [`Memory`] too.
const MAX_PREPARED: usize = 32 << 20;

/// Maximum number of responses that one request ends to get memory, and the pause after each, in which it is dropped.
const MAX_DISPLACED: usize = 16;
const CLOSING_TIME: Duration = Duration::from_millis(50);

/// Maximum length of a file in a response in bytes, apart from its value; also of the data about an object. A path has
/// at most 1,024 bytes, which are escaped.
const MAX_FILE_OVERHEAD: usize = (2 << 10) + 256;

/// The unsealed objects of a request, by name.
type UnsealedObjects = BTreeMap<String, Arc<UnsealedObject>>;

/// Everything that rendering needs.
struct Preparation {
    slot: Slot,
    unsealed: UnsealedObjects,
    parsed: ParsedEntries,
    class: Class,
}

/// Caches of response bodies and of unsealed objects.
#[derive(Debug)]
pub(super) struct Responses {
    store: Arc<ClusterStore>,
    ring: watch::Receiver<Arc<KeyRing>>,
    version_key: watch::Receiver<Option<Arc<VersionKey>>>,
    opener: Opener,
    slots: Slots,
    slow_slots: Slots,
    opened: SingleFlight<Vec<u8>, UnsealedObject>,
    prepared: SingleFlight<Revision, PreparedBody>,
    memory: Memory,
}

impl Responses {
    pub(super) fn new(delivery: &Delivery) -> Self {
        let policy = &delivery.policy;
        Self {
            store: Arc::clone(&delivery.store),
            ring: delivery.ring.clone(),
            version_key: delivery.version_key.clone(),
            opener: Opener {
                pool: Pool::for_callers(),
                limits: Arc::clone(&policy.author_limits),
                accept_legacy: policy.rules.accept_legacy,
            },
            slots: Slots::reserving(SLOTS, RESERVED),
            slow_slots: Slots::reserving(SLOW_SLOTS, RESERVED_SLOW),
            opened: SingleFlight::new(MAX_OPENED, UnsealedObject::size),
            prepared: SingleFlight::new(MAX_PREPARED, PreparedBody::size),
            memory: Memory::default(),
        }
    }

    /// Returns the response body for a revision, which identifies the namespace, the selection and the versions of the
    /// objects.
    pub(super) async fn get(
        &self,
        owner: &Owner,
        request: &Request,
        objects: &BTreeMap<ObjectId, Identity>,
        revision: Revision,
    ) -> Result<Arc<PreparedBody>, DeliveryRefusal> {
        // Boxed, because the future of every waiting request would be as large as this work otherwise.
        let make = Box::pin(self.make(owner, &request.entries, objects, revision));
        self.prepared.get(revision, make).await
    }

    async fn make(
        &self,
        owner: &Owner,
        entries: &[Entry],
        objects: &BTreeMap<ObjectId, Identity>,
        revision: Revision,
    ) -> Result<PreparedBody, DeliveryRefusal> {
        let namespace = &owner.namespace;
        let version_key = self.version_key.borrow().clone();
        let version_key = version_key.ok_or(DeliveryRefusal::NotReady)?;
        allow_templates(&self.opener.limits, namespace, entries)?;
        let Preparation {
            slot,
            unsealed,
            parsed,
            class,
        } = Box::pin(self.prepare(namespace, entries, objects)).await?;
        let len = max_response_len(entries, &unsealed);
        let (reservation, displaced) = self.reserve(owner, len).await?;
        let has_templates = entries.iter().any(has_actions)
            || unsealed.values().any(|object| object.has_templates());
        let rendering = self.rendering(namespace, parsed, unsealed, version_key, revision);
        let work = move |meter: &mut dyn Meter| {
            let rendered = rendering(meter);
            // The reservation bounds the memory of responses that wait for their time.
            drop(slot);
            rendered
        };
        let finish = async {
            let rendering = class.rendering_for_delivery();
            let pool = &self.opener.pool;
            let rendered = if has_templates {
                pool.render_for(namespace, rendering, work).await
            } else {
                // Its time is not fixed, so it need not wait for a lane of renderings.
                pool.work_for(namespace, rendering.budget, work).await
            };
            let (start, took, response) = rendered.map_err(|_| DeliveryRefusal::Busy)?;
            // Without a response, the reservation is kept too: the memory that is left must not depend on the values.
            let (prepared, _unused) = match response {
                Ok(response) => (PreparedBody::new(response.to_json(), reservation), None),
                Err(why) => (Err(why), Some(reservation)),
            };
            if !has_templates {
                return prepared;
            }
            sleep_until(start + class.write_delay(took)).await;
            let names = || objects.keys().map(|id| id.name.clone()).collect();
            prepared.map_err(|why| why.without_values(names))
        };
        unless_displaced(displaced, finish).await
    }

    /// Prepares a response in a slot. If its templates are slow, gives up the slot and the values, and prepares the
    /// response again in one of the separate slots.
    async fn prepare(
        &self,
        namespace: &str,
        entries: &[Entry],
        objects: &BTreeMap<ObjectId, Identity>,
    ) -> Result<Preparation, DeliveryRefusal> {
        let preparation = self.prepare_in(&self.slots, namespace, entries, objects);
        let preparation = Box::pin(preparation).await?;
        if !preparation.class.rendering_for_delivery().is_slow {
            return Ok(preparation);
        }
        drop(preparation);
        let slots = &self.slow_slots;
        Box::pin(self.prepare_in(slots, namespace, entries, objects)).await
    }

    async fn prepare_in(
        &self,
        slots: &Slots,
        namespace: &str,
        entries: &[Entry],
        objects: &BTreeMap<ObjectId, Identity>,
    ) -> Result<Preparation, DeliveryRefusal> {
        let slot = slots.enqueue(&mut Job::new(namespace));
        let slot = slot.await.map_err(|_| DeliveryRefusal::Busy)?;
        slots.charge(namespace, 1);
        let unsealed = Box::pin(self.open_all(objects)).await?;
        let parsed = self.parse(namespace, entries).await?;
        let works = unsealed.values().map(|object| object.slow_work());
        let work = works.fold(parsed.slow_work(), u64::saturating_add);
        let class = Class::for_delivery(work).ok_or(DeliveryRefusal::TooSlow)?;
        // By their text, so that a namespace with costlier templates waits for one with cheaper templates.
        slots.charge(namespace, work);
        Ok(Preparation {
            slot,
            unsealed,
            parsed,
            class,
        })
    }

    /// Parses the templates of a request.
    async fn parse(
        &self,
        namespace: &str,
        entries: &[Entry],
    ) -> Result<ParsedEntries, DeliveryRefusal> {
        let entries = entries.to_owned();
        let parse = move |meter: &mut dyn Meter| ParsedEntries::parse(entries, meter);
        let parsed = self.opener.pool.work_for(namespace, PARSING_BUDGET, parse);
        parsed.await.map_err(|_| DeliveryRefusal::Busy)?
    }

    /// Unseals the objects one after another.
    async fn open_all(
        &self,
        objects: &BTreeMap<ObjectId, Identity>,
    ) -> Result<UnsealedObjects, DeliveryRefusal> {
        let (mut all, mut bytes) = (UnsealedObjects::new(), 0);
        for (id, identity) in objects {
            let unsealed = Box::pin(self.open(id, *identity)).await?;
            bytes += unsealed.size();
            if bytes > MAX_BYTES {
                return Err(DeliveryRefusal::TooLarge);
            }
            all.insert(id.name.clone(), unsealed);
        }
        Ok(all)
    }

    /// Unseals an object, unless the result is cached.
    async fn open(
        &self,
        id: &ObjectId,
        identity: Identity,
    ) -> Result<Arc<UnsealedObject>, DeliveryRefusal> {
        let open = Box::pin(async {
            let fetched = self.store.fetch_sealed(id).await;
            let fetched = fetched.map_err(|_| DeliveryRefusal::NoReview)?;
            let fetched = fetched.ok_or(DeliveryRefusal::Changed)?;
            if Identity::of(&fetched.sealed) != Some(identity) {
                return Err(DeliveryRefusal::Changed);
            }
            let ring = Arc::clone(&self.ring.borrow());
            self.opener.open(fetched, ring, Timestamp::now()).await
        });
        self.opened.get(identity.as_bytes().to_vec(), open).await
    }

    /// Returns the work that creates the response. The work also returns when rendering began, and how long it took. All
    /// templates share one budget, so the class limits the time of all of them together.
    fn rendering(
        &self,
        namespace: &str,
        entries: ParsedEntries,
        unsealed: UnsealedObjects,
        version_key: Arc<VersionKey>,
        revision: Revision,
    ) -> impl FnOnce(&mut dyn Meter) -> (Instant, Duration, Result<Response, DeliveryRefusal>)
    + Send
    + 'static {
        let (opener, ring) = (self.opener.clone(), Arc::clone(&self.ring.borrow()));
        let namespace = namespace.to_owned();
        move |meter| {
            // The measurement starts in the job: waiting for a slot does not depend on the values.
            let (start, now) = (Instant::now(), Timestamp::now());
            let response = render_all(&opener, &unsealed, &ring, now, meter).and_then(|objects| {
                let files = Files {
                    namespace: &namespace,
                    objects: &objects,
                    version_key: &version_key,
                    now,
                };
                files.response(revision.text(), &entries, meter)
            });
            (start, start.elapsed(), response)
        }
    }

    /// Reserves memory for a response. If too much is in use, evicts cached responses, then ends responses of a
    /// namespace with more memory, or of a Pod with more memory of the same namespace.
    async fn reserve(
        &self,
        owner: &Owner,
        bytes: usize,
    ) -> Result<(Reservation, Displaced), DeliveryRefusal> {
        if let Some(reserved) = self.memory.reserve(owner, bytes) {
            return Ok(reserved);
        }
        self.evict(owner, bytes);
        let claim = self.memory.claim(owner, bytes);
        for _ in 0..MAX_DISPLACED {
            if let Some(reserved) = claim.reserve() {
                return Ok(reserved);
            }
            if !claim.displace() {
                break;
            }
            sleep(CLOSING_TIME).await;
        }
        claim.reserve().ok_or(DeliveryRefusal::Busy)
    }

    /// Evicts the cached responses of the namespace or, if all memory is in use, those of all namespaces.
    fn evict(&self, owner: &Owner, bytes: usize) {
        let namespace = &owner.namespace;
        self.prepared.remove_if(|body| body.is_of(namespace));
        if self.memory.is_exhausted(bytes) {
            self.prepared.remove_if(|_| true);
        }
    }
}

/// Awaits work, unless another request needs its memory first.
async fn unless_displaced<T>(
    displaced: Displaced,
    work: impl Future<Output = Result<T, DeliveryRefusal>>,
) -> Result<T, DeliveryRefusal> {
    tokio::select! {
        biased;
        Ok(()) = displaced => Err(DeliveryRefusal::Busy),
        result = work => result,
    }
}

/// Renders the templates of all objects. An error that does not depend on values takes precedence, so that it is the
/// same for all values.
fn render_all(
    opener: &Opener,
    unsealed: &UnsealedObjects,
    ring: &KeyRing,
    now: Timestamp,
    meter: &mut dyn Meter,
) -> Result<Objects, DeliveryRefusal> {
    let (mut all, mut bytes, mut failure) = (Objects::new(), 0, None);
    for (name, object) in unsealed {
        match opener.render(object, ring, now, meter) {
            Ok(rendered) => {
                bytes += rendered.values_len();
                all.insert(name.clone(), rendered);
            }
            Err(why @ DeliveryRefusal::Values { .. }) => failure = Some(why),
            Err(why) => return Err(why),
        }
        if bytes > MAX_BYTES {
            failure = Some(DeliveryRefusal::TooLarge);
            (all, bytes) = (Objects::new(), 0);
        }
    }
    failure.map_or(Ok(all), Err)
}

/// Returns the maximum length of a response in bytes. It follows from public data, so that the response is refused for
/// lack of memory regardless of the values.
fn max_response_len(entries: &[Entry], unsealed: &UnsealedObjects) -> usize {
    let (mut values, mut literals, mut files) = (0, 0, 0);
    for entry in entries {
        match entry {
            Entry::Object(entry) => {
                let object = unsealed.get(&entry.sealed_secret);
                values += object.map_or(0, |object| object.max_values_len());
                files += object.map_or(0, |object| object.max_values());
            }
            Entry::Template(entry) => {
                files += 1;
                literals += entry.template.len();
            }
        }
    }
    values += if entries.iter().any(has_actions) {
        MAX_RENDERED
    } else {
        literals.min(MAX_RENDERED)
    };
    let base64 = values.min(MAX_VALUES).div_ceil(3) * 4;
    let rest = (files.min(MAX_FILES) + unsealed.len()) * MAX_FILE_OVERHEAD;
    (base64 + rest).min(MAX_RESPONSE)
}

/// Checks that the administrator allows templates in the namespace.
fn allow_templates(
    limits: &AuthorLimits,
    namespace: &str,
    entries: &[Entry],
) -> Result<(), DeliveryRefusal> {
    if entries.iter().any(has_actions) && limits.forbids_templates(namespace) {
        let namespace = namespace.to_owned();
        return Err(DeliveryRefusal::TemplatesForbidden { namespace });
    }
    Ok(())
}

/// Returns whether the entry is a template. A string without actions does not count as a template.
fn has_actions(entry: &Entry) -> bool {
    match entry {
        Entry::Object(_) => false,
        Entry::Template(entry) => entry.template.contains("{{"),
    }
}

#[cfg(test)]
mod tests;
