//! The controller's router, called without a network.

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use controller::http::{self, Peer, RequestLimiter, ServerState, UnauthenticatedEndpoints};
use controller::metrics::Metrics;
use jiff::Timestamp;
use shared::key::{Certificate, KeyPair};
use shared::key_ring::{KeyRing, RingKey};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tower::ServiceExt as _;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_time().build();
    runtime.unwrap_or_else(|error| unreachable!("the runtime has no dependencies: {error}"))
});

/// The router with the throw-away key of the published vectors, without a rate limit.
static ROUTER: LazyLock<Router> = LazyLock::new(|| {
    let certificate = Certificate::from_pem(crate::vector("certificate").as_bytes()).ok();
    let pairs = crate::vector_keys().into_iter().zip(certificate);
    let pairs = pairs.filter_map(|(key, certificate)| KeyPair::new(key, certificate).ok());
    let keys = pairs.map(|pair| RingKey::new("k".into(), Timestamp::UNIX_EPOCH, pair).into());
    let state = ServerState {
        ring: watch::Sender::new(Arc::new(KeyRing::new(keys))).subscribe(),
        ready: Arc::default(),
    };
    let unauthenticated = UnauthenticatedEndpoints {
        limiter: Some(RequestLimiter::new(
            (u32::MAX, u32::MAX),
            Duration::MAX,
            true,
        )),
        authority: None,
    };
    let metrics = Metrics::new(false);
    let metrics = metrics.unwrap_or_else(|error| unreachable!("names are fixed: {error}"));
    http::router(state, unauthenticated, Arc::new(metrics))
});

/// Sends a POST request to the router. Returns the status code and body of the response, or 0 and no body if the
/// path is not valid.
pub(crate) fn post(path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let request = Request::post(path).extension(Peer(Ipv4Addr::LOCALHOST.into()));
    let Ok(request) = request.body(Body::from(body.to_vec())) else {
        return (0, Vec::new());
    };
    RUNTIME.block_on(async {
        let response = ROUTER.clone().oneshot(request).await;
        let response = response.unwrap_or_else(|never| match never {});
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await;
        (status, body.unwrap_or_default().to_vec())
    })
}
