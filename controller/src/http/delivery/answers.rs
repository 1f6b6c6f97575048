//! Creates responses: unseals the objects and renders the templates, once for all requests with the same selection.
//!
//! The editor of a template chooses what the template does with a value, and other users see when a Pod gets its
//! values: in logs, in metrics and by the start of the Pod. So the time and the failure of a response depend on the
//! text of the templates, but not on the values.

use std::collections::BTreeMap;
use std::sync::Arc;

use controller_core::author_limits::AuthorLimits;
use controller_core::object_id::ObjectId;
use deliver::{Entry, Request, Response};
use jiff::Timestamp;
use shared::key_ring::KeyRing;
use shared::meter::Meter;
use shared::record::Identity;
use shared::v2::VersionKey;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Delivery;
use super::body::PreparedBody;
use super::files::{Files, Objects, class};
use super::memory::Memory;
use super::opening::{OpenedObject, Opener};
use super::refused::DeliveryRefusal;
use super::revision::Revision;
use super::single_flight::SingleFlight;
use super::turn::Turn;
use crate::pool::slots::Slots;
use crate::pool::{Budget, Pool};
use crate::reconcile::timing::Class;
use crate::store::cluster::ClusterStore;

/// Maximum number of responses that are created at the same time. Each holds the values of its objects in memory.
const SLOTS: usize = 8;
/// Number of slots that are reserved for namespaces that occupy no slot yet.
const RESERVED: usize = 2;
/// The budget for determining the class of the templates of a request.
const PARSING_BUDGET: Budget = Budget::seconds(5);
/// Maximum size of the objects of one response in bytes, including items that the response does not contain.
const MAX_BYTES: usize = 8 << 20;
/// Maximum total size of the cached unsealed objects in bytes.
const MAX_OPENED: usize = 32 << 20;
/// Maximum total size of the cached responses in bytes. They count toward [`Memory`] too.
const MAX_ANSWERS: usize = 32 << 20;

/// Caches of response bodies and of unsealed objects.
#[derive(Debug)]
pub(super) struct Answers {
    store: Arc<ClusterStore>,
    ring: watch::Receiver<Arc<KeyRing>>,
    version_key: watch::Receiver<Option<Arc<VersionKey>>>,
    opener: Opener,
    slots: Slots,
    opened: SingleFlight<Vec<u8>, OpenedObject>,
    prepared: SingleFlight<Revision, PreparedBody>,
    memory: Memory,
}

/// The objects of a request after unsealing.
#[derive(Debug, Default)]
struct OpenedObjects {
    objects: Objects,
    /// The size of their values and templates in bytes.
    bytes: usize,
    /// Whether an object failed for a reason that depends on its values.
    is_failed: bool,
}

impl OpenedObjects {
    fn add(&mut self, name: &str, opened: Arc<OpenedObject>) {
        self.bytes += opened.size();
        self.objects.insert(name.to_owned(), opened);
    }

    /// Returns whether the response depends on templates of the objects.
    fn have_templates(&self) -> bool {
        self.is_failed || self.objects.values().any(|opened| opened.has_templates())
    }
}

impl Answers {
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
            opened: SingleFlight::new(MAX_OPENED, OpenedObject::size),
            prepared: SingleFlight::new(MAX_ANSWERS, PreparedBody::size),
            memory: Memory::default(),
        }
    }

    /// Returns the response body for a revision, which identifies the namespace, the selection and the versions of the
    /// objects.
    pub(super) async fn get(
        &self,
        namespace: &str,
        request: &Request,
        objects: &BTreeMap<ObjectId, Identity>,
        revision: Revision,
    ) -> Result<Arc<PreparedBody>, DeliveryRefusal> {
        // Boxed, because the future of every waiting request would be as large as this work otherwise.
        let make = Box::pin(self.make(namespace, &request.entries, objects, revision));
        self.prepared.get(revision, make).await
    }

    async fn make(
        &self,
        namespace: &str,
        entries: &[Entry],
        objects: &BTreeMap<ObjectId, Identity>,
        revision: Revision,
    ) -> Result<PreparedBody, DeliveryRefusal> {
        let version_key = self.version_key.borrow().clone();
        let version_key = version_key.ok_or(DeliveryRefusal::NotReady)?;
        allow_templates(&self.opener.limits, namespace, entries)?;
        let mut turn = Turn::new(&self.slots, &self.memory, namespace);
        let opened = Box::pin(self.open_all(objects, &mut turn)).await?;
        turn.begin().await?;
        let class = self.class(namespace, entries).await?;
        let has_templates = opened.have_templates() || entries.iter().any(has_actions);
        let rendered = self.render(namespace, entries, opened, version_key, revision, class);
        let (start, answer) = rendered.await?;
        turn.release();
        let prepared = answer.and_then(|answer| self.prepare(namespace, &answer));
        if !has_templates {
            return prepared;
        }
        turn.pause(start + class.write_delay(start.elapsed()), 0)
            .await;
        let names = || objects.keys().map(|id| id.name.clone()).collect();
        prepared.map_err(|why| why.without_values(names))
    }

    /// Unseals the objects one after another, so that at most one is in memory with its sealed values. After a failure
    /// that depends on values, the other objects are unsealed too; otherwise, the time would reveal which one failed.
    async fn open_all(
        &self,
        objects: &BTreeMap<ObjectId, Identity>,
        turn: &mut Turn<'_>,
    ) -> Result<OpenedObjects, DeliveryRefusal> {
        let mut all = OpenedObjects::default();
        for (id, identity) in objects {
            turn.begin().await?;
            match Box::pin(self.open(id, *identity, turn)).await {
                Ok(opened) => {
                    turn.hold(opened.size());
                    all.add(&id.name, opened);
                }
                Err(DeliveryRefusal::Values { .. }) => all.is_failed = true,
                Err(why) => return Err(why),
            }
            if all.bytes > MAX_BYTES {
                if !all.have_templates() {
                    return Err(DeliveryRefusal::TooLarge);
                }
                turn.release();
                all = OpenedObjects {
                    is_failed: true,
                    ..OpenedObjects::default()
                };
            }
        }
        Ok(all)
    }

    /// Unseals an object, unless the result is cached.
    async fn open(
        &self,
        id: &ObjectId,
        identity: Identity,
        turn: &mut Turn<'_>,
    ) -> Result<Arc<OpenedObject>, DeliveryRefusal> {
        let open = Box::pin(async {
            let fetched = self.store.fetch_sealed(id).await;
            let fetched = fetched.map_err(|_| DeliveryRefusal::NoReview)?;
            let fetched = fetched.ok_or(DeliveryRefusal::Changed)?;
            if Identity::of(&fetched.sealed) != Some(identity) {
                return Err(DeliveryRefusal::Changed);
            }
            let ring = Arc::clone(&self.ring.borrow());
            self.opener
                .open(fetched, ring, Timestamp::now(), turn)
                .await
        });
        self.opened.get(identity.as_bytes().to_vec(), open).await
    }

    /// Creates the response. Returns it with the time at which its templates began to be rendered.
    async fn render(
        &self,
        namespace: &str,
        entries: &[Entry],
        opened: OpenedObjects,
        version_key: Arc<VersionKey>,
        revision: Revision,
        class: Class,
    ) -> Result<(Instant, Result<Response, DeliveryRefusal>), DeliveryRefusal> {
        let (owned_namespace, owned_entries) = (namespace.to_owned(), entries.to_owned());
        let work = move |meter: &mut dyn Meter| {
            let start = Instant::now();
            if opened.is_failed {
                return (start, Err(DeliveryRefusal::Rendering));
            }
            let files = Files {
                namespace: &owned_namespace,
                objects: &opened.objects,
                version_key: &version_key,
                now: Timestamp::now(),
            };
            (start, files.answer(revision.text(), &owned_entries, meter))
        };
        let rendering = class.rendering_for_delivery();
        let rendered = self.opener.pool.render_for(namespace, rendering, work);
        rendered.await.map_err(|_| DeliveryRefusal::Busy)
    }

    /// Returns the class of the templates of a request.
    async fn class(&self, namespace: &str, entries: &[Entry]) -> Result<Class, DeliveryRefusal> {
        if !entries.iter().any(has_actions) {
            return Ok(Class::default());
        }
        let entries = entries.to_owned();
        let work = move |meter: &mut dyn Meter| class(&entries, meter);
        let class = self.opener.pool.work_for(namespace, PARSING_BUDGET, work);
        class.await.map_err(|_| DeliveryRefusal::Busy)?
    }

    /// Reserves memory for the response. If too much is in use, evicts cached responses.
    fn prepare(&self, namespace: &str, answer: &Response) -> Result<PreparedBody, DeliveryRefusal> {
        let json = answer.to_json();
        let reserve = || self.memory.reserve(namespace, json.capacity());
        let reservation = reserve().or_else(|| {
            self.prepared.clear();
            reserve()
        });
        let reservation = reservation.ok_or(DeliveryRefusal::Busy)?;
        Ok(PreparedBody::new(json, reservation))
    }
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
