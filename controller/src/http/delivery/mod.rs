//! `POST /v1/deliver`: the values of SealedSecrets for the Pod that asks, without a Secret object.
//!
//! A request passes these steps, and each refuses before the next one begins: token → rate → body → permissions →
//! revision → (wait for a change, and both reviews again) → answer. No private key is used before the last one, and none
//! if the caller has the present revision.

mod answers;
mod body;
mod caller;
mod files;
mod limits;
mod memory;
mod opening;
mod refused;
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
use deliver::{ENDPOINT, MAX_REQUEST, Request};
use jiff::Timestamp;
use shared::key_ring::KeyRing;
use shared::record::Identity;
use shared::v2::VersionKey;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info};

use self::reviews::{Authenticated, CachedReviews};
use super::Peer;
use super::authorized::token;
use super::bodies::Bodies;
use super::connections::Slot;
use super::reviews::Reviews;
use crate::metrics::Metrics;
use crate::reconcile::Policy;
use crate::store::cluster::ClusterStore;
use answers::Answers;
use limits::Limits;
use refused::{Refused, Unusable};
use revision::Revision;

/// Time limit for the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for everything but the wait for a change. Providers of volumes have to answer kubelet within 15 seconds.
const DEADLINE: Duration = Duration::from_secs(12);
/// How often a request is repeated if an object changes while it is read, and the pause before that.
const MAX_ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// Maximum number of objects that a log line names.
const MAX_LOGGED: usize = 4;

/// What the endpoint reads of the controller.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The SealedSecrets.
    pub store: Arc<ClusterStore>,
    /// The current key ring.
    pub ring: watch::Receiver<Arc<KeyRing>>,
    /// The key of content versions; `None` until it is read.
    pub version_key: watch::Receiver<Option<Arc<VersionKey>>>,
    /// Whether all SealedSecrets and keys were listed.
    pub is_complete: Arc<AtomicBool>,
    /// What is allowed in SealedSecrets.
    pub policy: Policy,
    /// Whether the server stops. Requests that wait end then.
    pub stopped: watch::Receiver<bool>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

struct Endpoint {
    delivery: Delivery,
    reviews: CachedReviews,
    limits: Limits,
    bodies: Bodies,
    answers: Answers,
    /// A text for the settings that objects are checked against.
    settings: String,
}

/// The objects of a request as they are now.
struct Current {
    objects: BTreeMap<ObjectId, Identity>,
    revision: Revision,
}

/// Returns the route.
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
            answers: Answers::new(&delivery),
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
    ) -> Result<Response, Refused> {
        let token = token(headers).ok_or(Refused::Unauthenticated)?;
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

    /// Reads the body. The memory for its bytes is free again afterwards.
    async fn read(&self, peer: Peer, body: Body) -> Result<Request, Refused> {
        let bytes = self.bodies.read_at_most(MAX_REQUEST, peer.0, body).await?;
        Ok(Request::from_json(&bytes)?)
    }
}

/// One request.
struct Call<'a> {
    endpoint: &'a Endpoint,
    peer: Peer,
    token: &'a str,
    request: &'a Request,
}

impl Call<'_> {
    async fn deliver(
        &self,
        authenticated: &Authenticated,
        slot: Arc<Slot>,
    ) -> Result<Response, Refused> {
        within_deadline(Box::pin(self.authorize(authenticated, None))).await?;
        let namespace = &authenticated.caller.namespace;
        let current = self.current(namespace)?;
        if !self.has(&current) {
            return within_deadline(Box::pin(self.answer(namespace, current, slot))).await;
        }
        if self.request.wait.is_zero() {
            return Ok(StatusCode::NOT_MODIFIED.into_response());
        }
        self.wait(authenticated, &current).await?;
        // The account may have lost its permissions, and the Pod its token.
        let finish = async {
            let since = Some(Instant::now());
            let reviews = &self.endpoint.reviews;
            let authenticated = reviews.authenticate(self.peer.0, self.token, since).await?;
            self.authorize(&authenticated, since).await?;
            let namespace = &authenticated.caller.namespace;
            let current = self.current(namespace)?;
            if self.has(&current) {
                return Ok(StatusCode::NOT_MODIFIED.into_response());
            }
            self.answer(namespace, current, slot).await
        };
        within_deadline(Box::pin(finish)).await
    }

    /// Checks the permission for every object, before anything else is said about any of them.
    async fn authorize(
        &self,
        authenticated: &Authenticated,
        since: Option<Instant>,
    ) -> Result<(), Refused> {
        for object in self.request.object_names() {
            let reviews = &self.endpoint.reviews;
            reviews.authorize(authenticated, object, since).await?;
        }
        Ok(())
    }

    fn has(&self, current: &Current) -> bool {
        self.request.have.as_ref() == Some(&current.revision.text())
    }

    /// Returns the objects and the revision as the watch shows them.
    fn current(&self, namespace: &str) -> Result<Current, Refused> {
        let objects = self.objects(namespace)?;
        let identities = objects
            .iter()
            .map(|(id, identity)| (id.name.as_str(), *identity));
        let (settings, entries) = (&self.endpoint.settings, &self.request.entries);
        let revision = Revision::new(namespace, settings, entries, &identities.collect());
        Ok(Current { objects, revision })
    }

    fn objects(&self, namespace: &str) -> Result<BTreeMap<ObjectId, Identity>, Refused> {
        let delivery = &self.endpoint.delivery;
        if !delivery.is_complete.load(Ordering::Acquire) {
            return Err(Refused::NotReady);
        }
        let names = self.request.object_names().into_iter();
        let objects = names.map(|name| {
            let identity = identity(&delivery.store, namespace, name)?;
            Ok((id(namespace, name), identity))
        });
        objects.collect()
    }

    /// Waits until an object changes, at most for the time that the caller asked for. Holds nothing but the request.
    async fn wait(&self, authenticated: &Authenticated, current: &Current) -> Result<(), Refused> {
        let Endpoint {
            delivery, limits, ..
        } = self.endpoint;
        let caller = &authenticated.caller;
        let _ticket = limits.begin_waiting(caller, size(self.request))?;
        let _counted = delivery.metrics.count_waiting_delivery();
        let ids = current.objects.keys().cloned().collect();
        let listener = delivery.store.changes().listen(ids);
        // Compares no revisions, each of which is a digest of the whole request: others can cause any number of changes.
        let is_current = || {
            let now = self.objects(&caller.namespace);
            now.is_ok_and(|now| now == current.objects)
        };
        let change = async {
            while is_current() {
                listener.changed().await;
            }
        };
        let mut stopped = delivery.stopped.clone();
        tokio::select! {
            () = change => Ok(()),
            () = tokio::time::sleep(self.request.wait) => Ok(()),
            _ = stopped.wait_for(|is_stopping| *is_stopping) => Err(Refused::NotReady),
        }
    }

    async fn answer(
        &self,
        namespace: &str,
        mut current: Current,
        slot: Arc<Slot>,
    ) -> Result<Response, Refused> {
        let answers = &self.endpoint.answers;
        for _ in 1..MAX_ATTEMPTS {
            let Current { objects, revision } = &current;
            match answers
                .get(namespace, self.request, objects, *revision)
                .await
            {
                Ok(answer) => return Ok(answer.respond(slot)),
                // The watch has not reported the change yet.
                Err(Refused::Changed) => tokio::time::sleep(PAUSE).await,
                Err(why) => return Err(why),
            }
            current = self.current(namespace)?;
        }
        Err(Refused::Changed)
    }
}

/// Returns the identity of a SealedSecret.
fn identity(store: &ClusterStore, namespace: &str, name: &str) -> Result<Identity, Refused> {
    let known = store.known(&id(namespace, name));
    let known = known.ok_or_else(|| Refused::NotFound {
        object: name.to_owned(),
        item: None,
    })?;
    known.identity.ok_or_else(|| {
        Refused::Object(Box::new(Unusable {
            object: name.to_owned(),
            item: None,
            error: format!("the SealedSecret {name:?} is malformed"),
            hint: "see its status",
        }))
    })
}

fn id(namespace: &str, name: &str) -> ObjectId {
    ObjectId {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// Returns the approximate size of a request in memory.
fn size(request: &Request) -> usize {
    let entries = request.entries.iter().map(|entry| match entry {
        deliver::Entry::Object(entry) => {
            let items = entry.items.iter().flatten();
            256 + items.map(|item| 64 + item.len()).sum::<usize>()
        }
        deliver::Entry::Template(entry) => {
            let from = entry.from.iter().map(|name| 64 + name.len());
            256 + entry.template.len() + from.sum::<usize>()
        }
    });
    entries.sum()
}

/// Awaits work that is boxed: a request that waits would carry the state of the largest work otherwise.
async fn within_deadline<T>(work: impl Future<Output = Result<T, Refused>>) -> Result<T, Refused> {
    let result = tokio::time::timeout(DEADLINE, work).await;
    result.unwrap_or(Err(Refused::Busy))
}

/// Logs which Pod asked for which objects, and the outcome.
fn log(authenticated: &Authenticated, request: &Request, result: &Result<Response, Refused>) {
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
                "A Pod asked for values"
            );
        }
        Ok(_) => info!(
            account,
            pod,
            objects,
            outcome = "delivered",
            "A Pod asked for values"
        ),
        Err(why) => {
            info!(
                account,
                pod,
                objects,
                outcome = why.outcome(),
                "A Pod asked for values"
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
