//! The HTTP endpoints of the unauthenticated port, the TLS port and the metrics port.

mod audiences;
mod authorized;
mod bodies;
mod connections;
mod delivery;
mod drainable_body;
mod limiter;
mod rate;
mod recipients;
mod refusal;
pub mod reviews;
mod sealed;
mod serving;
pub mod tls;
mod tokens;

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use shared::key::Validity;
use shared::key_ring::KeyRing;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::args::Address;
use crate::metrics::Metrics;
pub use connections::Capacity;
pub use delivery::Delivery;
pub use limiter::RequestLimiter;
use refusal::Refusal;
use reviews::Reviews;
pub use serving::{ConnectionLimits, serve};

/// The state of the controller that the endpoints serve.
#[derive(Debug, Clone)]
pub struct ServerState {
    /// The current key ring.
    pub ring: watch::Receiver<Arc<KeyRing>>,
    /// Whether the controller is ready: keys and objects have been loaded, and the leader election is not stuck.
    pub ready: Arc<AtomicBool>,
}

impl ServerState {
    fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.borrow())
    }
}

/// The state available to each request of verify and rotate.
#[derive(Debug, Clone)]
struct Context {
    state: ServerState,
    limiter: Arc<RequestLimiter>,
}

/// The IP address of the client, for IPv6 only its /64 network, as an extension of each request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// The optional endpoints of the unauthenticated port.
#[derive(Debug, Default)]
pub struct UnauthenticatedEndpoints {
    /// Limits of verify and rotate; `None` disables both.
    pub limiter: Option<RequestLimiter>,
    /// PEM certificate of the authority of the TLS port, if that port is enabled.
    pub authority: Option<String>,
}

/// Returns the routes of the unauthenticated port. Other paths give 404, other methods 405.
pub fn router(
    state: ServerState,
    endpoints: UnauthenticatedEndpoints,
    metrics: Arc<Metrics>,
) -> Router {
    let mut router = certificate_router(state.clone());
    if let Some(authority) = endpoints.authority {
        let content_type = [(header::CONTENT_TYPE, "application/x-pem-file")];
        router = router.route("/v1/ca.pem", get(async move || (content_type, authority)));
    }
    if let Some(limiter) = endpoints.limiter {
        let sealed = Router::new()
            .route("/v1/verify", post(sealed::verify))
            .route("/v1/rotate", post(sealed::rotate))
            .with_state(Context {
                state,
                limiter: Arc::new(limiter),
            });
        router = router.merge(sealed);
    }
    finish(router, metrics)
}

/// Returns the routes of the TLS port.
pub fn authorized_router(
    state: ServerState,
    limiter: RequestLimiter,
    reviews: Arc<Reviews>,
    delivery: Option<Delivery>,
    metrics: Arc<Metrics>,
) -> Router {
    let certificates = certificate_router(state.clone());
    let delivery_router = delivery.map(|state| delivery::router(state, reviews.with_own_limit()));
    let router = certificates.merge(authorized::router(state, limiter, reviews));
    finish(router.merge(delivery_router.unwrap_or_default()), metrics)
}

fn health_router() -> Router<ServerState> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
}

fn certificate_router(state: ServerState) -> Router {
    health_router()
        .route("/v1/cert.pem", get(certificate))
        .route("/v1/certs.pem", get(certificates))
        .route("/v2/recipients", get(recipients))
        .with_state(state)
}

fn finish(router: Router, metrics: Arc<Metrics>) -> Router {
    router
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed\n")
        })
        .layer(from_fn_with_state(metrics, count_request))
}

/// Returns the routes of the metrics port. This port serves health checks too, so that probes work while callers
/// exhaust the connections of the main port.
pub fn metrics_router(state: ServerState, metrics: Arc<Metrics>) -> Router {
    let scrape = |State(metrics): State<Arc<Metrics>>| async move {
        let content_type = [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )];
        (content_type, metrics.text(Timestamp::now()))
    };
    Router::new()
        .route("/metrics", get(scrape))
        .route("/readyz/watches", get(watches))
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
        .with_state(metrics)
        .merge(health_router().with_state(state))
}

/// Responds with 200 if all watches work, and otherwise with 503 and the names of failing watches, which only the
/// metrics port may reveal.
async fn watches(State(metrics): State<Arc<Metrics>>) -> (StatusCode, String) {
    match metrics.watches().report() {
        report if report.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
        report => (StatusCode::SERVICE_UNAVAILABLE, report),
    }
}

async fn count_request(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let (path, method) = (request.uri().path().to_owned(), request.method().clone());
    let start = Instant::now();
    let response = next.run(request).await;
    metrics.observe_request(&path, &method, response.status(), start.elapsed());
    response
}

async fn ready(State(state): State<ServerState>) -> (StatusCode, &'static str) {
    if state.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn certificate(State(state): State<ServerState>) -> Response {
    let ring = state.ring();
    match ring
        .sealing_key(Timestamp::now())
        .map(|key| key.certificate())
    {
        Ok(Some(certificate)) => {
            let content_type = [(header::CONTENT_TYPE, "application/x-pem-file")];
            (content_type, certificate.to_pem()).into_response()
        }
        Ok(None) => Refusal::NoCertificate.into_response(),
        Err(error) => Refusal::no_sealing_key(error).into_response(),
    }
}

/// Responds with the currently valid certificates of all keys that may seal, newest first, each below a line with its
/// fingerprint and expiry.
async fn certificates(State(state): State<ServerState>) -> Response {
    let ring = state.ring();
    let content_type = [(header::CONTENT_TYPE, "application/x-pem-file")];
    let now = Timestamp::now();
    let mut text = String::new();
    let sealing = ring.keys().iter().filter(|key| ring.can_seal(key));
    for certificate in sealing.filter_map(|key| key.certificate()) {
        if certificate.validity(now) == Validity::Valid {
            let (fingerprint, end) = (certificate.fingerprint(), certificate.not_after());
            let _ = writeln!(text, "# {fingerprint}, until {end}");
            text += &certificate.to_pem();
        }
    }
    (content_type, text).into_response()
}

/// Responds with the public keys for sealing in the v2 format, as a [`shared::v2::RecipientList`]. Reveals no more than
/// the certificates do, and uses no private key.
async fn recipients(State(state): State<ServerState>) -> Response {
    match recipients::list(&state.ring(), Timestamp::now()) {
        Ok(list) => {
            let content_type = [(header::CONTENT_TYPE, "application/json")];
            let list = serde_json::to_string(&list).unwrap_or_default();
            (content_type, list).into_response()
        }
        Err(error) => Refusal::MayNotSeal(error).into_response(),
    }
}

/// Opens the port. Without a host, listens on all interfaces, IPv4 and IPv6, as in Go.
///
/// # Errors
///
/// Returns the operating system's error.
pub async fn bind(address: &Address) -> io::Result<TcpListener> {
    let port = address.port;
    match &address.host {
        Some(host) => TcpListener::bind((host.as_str(), port)).await,
        None => match TcpListener::bind(("::", port)).await {
            Ok(listener) => Ok(listener),
            // Usually, the machine has no IPv6.
            Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
        },
    }
}
