//! Creates responses: unseals the objects and renders the templates, once for all requests with the same selection.

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

use super::Delivery;
use super::body::PreparedBody;
use super::files::{Files, Objects, are_slow};
use super::memory::Memory;
use super::opening::{OpenedObject, Opener};
use super::refused::DeliveryRefusal;
use super::revision::Revision;
use super::single_flight::SingleFlight;
use crate::pool::slots::{Job, Slots};
use crate::pool::{Budget, Pool, Rendering};
use crate::store::cluster::ClusterStore;

/// Maximum number of responses that are created at the same time. Each holds the values of its objects in memory.
const SLOTS: usize = 8;
/// Number of slots that are reserved for namespaces that occupy no slot yet.
const RESERVED: usize = 2;
/// The budget for parsing the templates of a request, to find out whether they are slow.
const PARSING_BUDGET: Budget = Budget::seconds(5);
/// The budget for the templates of one request.
const RENDERING_BUDGET: Budget = Budget::seconds(10);
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
        let slot = self.slots.enqueue(&mut Job::new(namespace));
        let _slot = slot.await.map_err(|_| DeliveryRefusal::Busy)?;
        self.slots.charge(namespace, 1);
        let opened = Box::pin(self.open_all(objects)).await?;
        let answer = self.answer(namespace, entries, opened, version_key, revision);
        self.prepare(namespace, &answer.await?)
    }

    /// Unseals the objects one after another, so that at most one is in memory with its sealed values.
    async fn open_all(
        &self,
        objects: &BTreeMap<ObjectId, Identity>,
    ) -> Result<Objects, DeliveryRefusal> {
        let (mut all, mut bytes) = (Objects::new(), 0);
        for (id, identity) in objects {
            let opened = Box::pin(self.open(id, *identity)).await?;
            bytes += opened.size();
            if bytes > MAX_BYTES {
                return Err(DeliveryRefusal::TooLarge);
            }
            all.insert(id.name.clone(), opened);
        }
        Ok(all)
    }

    /// Unseals an object, unless the result is cached.
    async fn open(
        &self,
        id: &ObjectId,
        identity: Identity,
    ) -> Result<Arc<OpenedObject>, DeliveryRefusal> {
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

    async fn answer(
        &self,
        namespace: &str,
        entries: &[Entry],
        objects: Objects,
        version_key: Arc<VersionKey>,
        revision: Revision,
    ) -> Result<Response, DeliveryRefusal> {
        let is_slow = self.are_slow(namespace, entries).await?;
        let (owned_namespace, owned_entries) = (namespace.to_owned(), entries.to_owned());
        let work = move |meter: &mut dyn Meter| {
            let files = Files {
                namespace: &owned_namespace,
                objects: &objects,
                version_key: &version_key,
                now: Timestamp::now(),
            };
            files.answer(revision.text(), &owned_entries, meter)
        };
        let rendering = Rendering {
            budget: RENDERING_BUDGET,
            is_slow,
        };
        let answer = self.opener.pool.render_for(namespace, rendering, work);
        answer.await.map_err(|_| DeliveryRefusal::Busy)?
    }

    async fn are_slow(&self, namespace: &str, entries: &[Entry]) -> Result<bool, DeliveryRefusal> {
        if entries
            .iter()
            .all(|entry| matches!(entry, Entry::Object(_)))
        {
            return Ok(false);
        }
        let entries = entries.to_owned();
        let work = move |meter: &mut dyn Meter| are_slow(&entries, meter);
        let is_slow = self.opener.pool.work_for(namespace, PARSING_BUDGET, work);
        is_slow.await.map_err(|_| DeliveryRefusal::Busy)
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

/// Checks that the administrator allows templates in the namespace. A string without actions does not count as a
/// template.
fn allow_templates(
    limits: &AuthorLimits,
    namespace: &str,
    entries: &[Entry],
) -> Result<(), DeliveryRefusal> {
    let has_actions = entries.iter().any(|entry| match entry {
        Entry::Object(_) => false,
        Entry::Template(entry) => entry.template.contains("{{"),
    });
    if has_actions && limits.forbids_templates(namespace) {
        let namespace = namespace.to_owned();
        return Err(DeliveryRefusal::TemplatesForbidden { namespace });
    }
    Ok(())
}
