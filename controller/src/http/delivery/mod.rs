//! `POST /v1/deliver`: sends the values of SealedSecrets to the Pod that requests them, without a Secret object.
//!
//! A request passes these steps in order, and each can refuse it: token → rate → body → permissions → revision → (wait
//! for a change, and review token and permissions again) → response. Only the last step uses private keys, and it is
//! skipped if the caller has the current revision.

mod body;
mod caller;
mod files;
mod limits;
mod memory;
mod opening;
mod refused;
mod responses;
mod reviews;
mod revision;
mod single_flight;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Extension, Router};
use controller_core::object_id::ObjectId;
use deliver::{Destination, ENDPOINT, MAX_REQUEST, Request};
use jiff::Timestamp;
use shared::key_ring::KeyRing;
use shared::record::Identity;
use shared::v2::VersionKey;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info};

use self::reviews::{AuthenticatedCaller, CachedReviews};
use super::Peer;
use super::authorized::token;
use super::bodies::Bodies;
use super::connections::Slot;
use super::reviews::Reviews;
use crate::metrics::Metrics;
use crate::reconcile::Policy;
use crate::store::cluster::ClusterStore;
use limits::{Limits, Ticket};
use refused::{DeliveryRefusal, ObjectError};
use responses::Responses;
use revision::Revision;

/// Time limit for the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for each part of a request other than reading the body and waiting for a change. The CSI provider waits
/// for eleven seconds, so it gets a response.
const DEADLINE: Duration = Duration::from_secs(10);
/// Maximum number of attempts if an object changes while it is read, and the pause between attempts.
const MAX_ATTEMPTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(200);
/// Maximum number of objects that a log line names.
const MAX_LOGGED: usize = 4;

/// The parts of the controller that the endpoint reads.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The store of SealedSecrets.
    pub store: Arc<ClusterStore>,
    /// The current key ring.
    pub ring: watch::Receiver<Arc<KeyRing>>,
    /// The content-version key; `None` until it is read.
    pub version_key: watch::Receiver<Option<Arc<VersionKey>>>,
    /// Whether all SealedSecrets and keys were listed.
    pub is_complete: Arc<AtomicBool>,
    /// The policy, of which the author limits and the acceptance of `spec.data` apply.
    pub policy: Policy,
    /// Whether the server is stopping. If so, waiting requests end.
    pub stopping: watch::Receiver<bool>,
    /// Counts the responses and the waiting requests.
    pub metrics: Arc<Metrics>,
}

struct Endpoint {
    delivery: Delivery,
    reviews: CachedReviews,
    limits: Limits,
    bodies: Bodies,
    responses: Responses,
    /// The settings that objects are checked against, as text for the revision.
    settings: String,
}

/// The current versions of the objects of a request.
struct CurrentObjects {
    objects: BTreeMap<ObjectId, Identity>,
    revision: Revision,
}

/// Returns the router of the endpoint.
pub(super) fn router(delivery: Delivery, reviews: Reviews) -> Router {
    let endpoint = Arc::new(Endpoint::new(delivery, reviews));
    let respond = |State(endpoint): State<Arc<Endpoint>>,
                   Extension(peer): Extension<Peer>,
                   Extension(slot): Extension<Arc<Slot>>,
                   headers: HeaderMap,
                   body: Body| async move {
        let response = Box::pin(endpoint.respond(peer, slot, &headers, body)).await;
        let response = response.unwrap_or_else(axum::response::IntoResponse::into_response);
        endpoint.delivery.metrics.count_delivery(response.status());
        response
    };
    Router::new()
        .route(ENDPOINT, post(respond))
        .with_state(endpoint)
}

impl Endpoint {
    fn new(delivery: Delivery, reviews: Reviews) -> Self {
        let Policy {
            author_limits,
            rules,
            ..
        } = &delivery.policy;
        Self {
            settings: format!("{} {}", rules.accept_legacy, author_limits.as_text()),
            responses: Responses::new(&delivery),
            reviews: CachedReviews::new(reviews),
            limits: Limits::default(),
            bodies: Bodies::new(BODY_TIMEOUT),
            delivery,
        }
    }

    async fn respond(
        &self,
        peer: Peer,
        slot: Arc<Slot>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, DeliveryRefusal> {
        let token = token(headers).ok_or(DeliveryRefusal::Unauthenticated)?;
        let authenticated =
            within_deadline(Box::pin(self.reviews.authenticate(peer.0, token, None))).await?;
        self.limits.admit(&authenticated.caller, Timestamp::now())?;
        let request = self.read(peer, body).await?;
        let call = Call {
            endpoint: self,
            peer,
            token,
            request: &request,
        };
        let result = call.deliver(&authenticated, slot).await;
        log(&authenticated, &request, &result);
        result
    }

    /// Reads and parses the body. Its bytes are freed before this function returns.
    async fn read(&self, peer: Peer, body: Body) -> Result<Request, DeliveryRefusal> {
        let bytes = self.bodies.read_at_most(MAX_REQUEST, peer.0, body).await?;
        Ok(Request::from_json(&bytes)?)
    }
}

/// One request in progress.
struct Call<'a> {
    endpoint: &'a Endpoint,
    peer: Peer,
    token: &'a str,
    request: &'a Request,
}

impl Call<'_> {
    async fn deliver(
        &self,
        authenticated: &AuthenticatedCaller,
        slot: Arc<Slot>,
    ) -> Result<Response, DeliveryRefusal> {
        let limits = &self.endpoint.limits;
        let ticket = limits.begin_progress(&authenticated.caller, size(self.request))?;
        within_deadline(Box::pin(self.authorize(authenticated, None))).await?;
        let namespace = &authenticated.caller.namespace;
        let current = self.current_objects(namespace)?;
        if !self.caller_has(&current) {
            return within_deadline(Box::pin(self.send_values(authenticated, current, slot))).await;
        }
        if self.request.wait.is_zero() {
            return Ok(StatusCode::NOT_MODIFIED.into_response());
        }
        drop(ticket);
        // The request counts as waiting until it ends, so that a change ends all waiting requests successfully.
        let _ticket = self.wait(authenticated, &current).await?;
        // The permissions may have been withdrawn, and the token may have expired.
        let finish = async {
            let since = Some(Instant::now());
            let reviews = &self.endpoint.reviews;
            let authenticated = reviews.authenticate(self.peer.0, self.token, since).await?;
            self.authorize(&authenticated, since).await?;
            let namespace = &authenticated.caller.namespace;
            let current = self.current_objects(namespace)?;
            if self.caller_has(&current) {
                return Ok(StatusCode::NOT_MODIFIED.into_response());
            }
            self.send_values(&authenticated, current, slot).await
        };
        within_deadline(Box::pin(finish)).await
    }

    /// Checks the permission for every object, before an error can reveal anything else about any of them.
    async fn authorize(
        &self,
        authenticated: &AuthenticatedCaller,
        since: Option<Instant>,
    ) -> Result<(), DeliveryRefusal> {
        for object in self.request.object_names() {
            let reviews = &self.endpoint.reviews;
            reviews.authorize(authenticated, object, since).await?;
        }
        Ok(())
    }

    fn caller_has(&self, current: &CurrentObjects) -> bool {
        self.request.have.as_ref() == Some(&current.revision.text())
    }

    /// Returns the objects and the revision, as last reported by the watch.
    fn current_objects(&self, namespace: &str) -> Result<CurrentObjects, DeliveryRefusal> {
        let objects = self.objects(namespace)?;
        let identities = objects
            .iter()
            .map(|(id, identity)| (id.name.as_str(), *identity));
        let (settings, entries) = (&self.endpoint.settings, &self.request.entries);
        let revision = Revision::new(namespace, settings, entries, &identities.collect());
        Ok(CurrentObjects { objects, revision })
    }

    fn objects(&self, namespace: &str) -> Result<BTreeMap<ObjectId, Identity>, DeliveryRefusal> {
        let delivery = &self.endpoint.delivery;
        if !delivery.is_complete.load(Ordering::Acquire) {
            return Err(DeliveryRefusal::NotReady);
        }
        let names = self.request.object_names().into_iter();
        let objects = names.map(|name| {
            let identity = identity(&delivery.store, namespace, name)?;
            Ok((id(namespace, name), identity))
        });
        objects.collect()
    }

    /// Waits until an object changes, at most for the time that the caller requested. Fails if too many requests wait,
    /// or if the server stops. The request counts as waiting until the result is dropped.
    async fn wait(
        &self,
        authenticated: &AuthenticatedCaller,
        current: &CurrentObjects,
    ) -> Result<Ticket, DeliveryRefusal> {
        let Endpoint {
            delivery, limits, ..
        } = self.endpoint;
        let caller = &authenticated.caller;
        let ticket = limits.begin_waiting(caller, size(self.request))?;
        let _counted = delivery.metrics.count_waiting_delivery();
        let ids = current.objects.keys().cloned().collect();
        let listener = delivery.store.changes().listen(ids);
        // Compares objects instead of revisions: each revision is a digest of the whole request, and other users can
        // cause any number of changes.
        let is_current = || {
            let now = self.objects(&caller.namespace);
            now.is_ok_and(|now| now == current.objects)
        };
        let change = async {
            while is_current() {
                listener.changed().await;
            }
        };
        let mut stopping = delivery.stopping.clone();
        tokio::select! {
            () = change => Ok(ticket),
            () = tokio::time::sleep(self.request.wait) => Ok(ticket),
            _ = stopping.wait_for(|is_stopping| *is_stopping) => Err(DeliveryRefusal::NotReady),
        }
    }

    async fn send_values(
        &self,
        authenticated: &AuthenticatedCaller,
        mut current: CurrentObjects,
        slot: Arc<Slot>,
    ) -> Result<Response, DeliveryRefusal> {
        let responses = &self.endpoint.responses;
        let owner = authenticated.caller.owner();
        for _ in 0..MAX_ATTEMPTS {
            let CurrentObjects { objects, revision } = &current;
            match responses
                .get(&owner, self.request, objects, *revision)
                .await
            {
                Ok(body) => return Ok(body.respond(slot)),
                // The watch has not reported the change to the object yet.
                Err(DeliveryRefusal::Changed) => tokio::time::sleep(PAUSE).await,
                Err(why) => return Err(why),
            }
            current = self.current_objects(&owner.namespace)?;
        }
        Err(DeliveryRefusal::Changed)
    }
}

/// Returns the identity of a SealedSecret; an error if the SealedSecret does not exist or is malformed.
fn identity(
    store: &ClusterStore,
    namespace: &str,
    name: &str,
) -> Result<Identity, DeliveryRefusal> {
    let observed = store.observed(&id(namespace, name));
    let observed = observed.ok_or_else(|| DeliveryRefusal::NotFound {
        object: name.to_owned(),
        item: None,
    })?;
    observed.identity.ok_or_else(|| {
        DeliveryRefusal::Object(Box::new(ObjectError {
            object: name.to_owned(),
            item: None,
            error: format!("the SealedSecret {name:?} is malformed"),
            hint: "see the status of the SealedSecret for the reason",
        }))
    })
}

fn id(namespace: &str, name: &str) -> ObjectId {
    ObjectId {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// Estimates the size of a request in memory.
fn size(request: &Request) -> usize {
    let entries = request.entries.iter().map(|entry| match entry {
        deliver::Entry::Object(entry) => {
            let items = entry.items.iter().flatten();
            let path = match &entry.destination {
                Destination::Root => 0,
                Destination::Directory(path) | Destination::File(path) => path.as_str().len(),
            };
            256 + path + items.map(|item| 64 + item.len()).sum::<usize>()
        }
        deliver::Entry::Template(entry) => {
            let from = entry.from.iter().map(|name| 64 + name.len());
            256 + entry.path.as_str().len() + entry.template.len() + from.sum::<usize>()
        }
    });
    entries.sum()
}

/// Awaits work within the deadline. Callers box the work; otherwise the future of every waiting request would be as
/// large as the largest work.
async fn within_deadline<T>(
    work: impl Future<Output = Result<T, DeliveryRefusal>>,
) -> Result<T, DeliveryRefusal> {
    let result = tokio::time::timeout(DEADLINE, work).await;
    result.unwrap_or(Err(DeliveryRefusal::Busy))
}

/// Logs the Pod, the objects that it requested, and the outcome.
fn log(
    authenticated: &AuthenticatedCaller,
    request: &Request,
    result: &Result<Response, DeliveryRefusal>,
) {
    let caller = &authenticated.caller;
    let (account, pod) = (
        &caller.account,
        format!("{}/{}", caller.namespace, caller.pod),
    );
    let objects = logged_names(&request.object_names());
    match result {
        Ok(response) if response.status() == StatusCode::NOT_MODIFIED => {
            debug!(
                account,
                pod,
                objects,
                outcome = "unchanged",
                "A Pod requested values"
            );
        }
        Ok(_) => info!(
            account,
            pod,
            objects,
            outcome = "delivered",
            "A Pod requested values"
        ),
        Err(why) => {
            info!(
                account,
                pod,
                objects,
                outcome = why.outcome(),
                "A Pod requested values"
            );
        }
    }
}

fn logged_names(names: &BTreeSet<&str>) -> String {
    let mut logged: Vec<&str> = names.iter().copied().take(MAX_LOGGED).collect();
    let more = format!("{} more", names.len().saturating_sub(MAX_LOGGED));
    if names.len() > MAX_LOGGED {
        logged.push(&more);
    }
    logged.join(", ")
}
