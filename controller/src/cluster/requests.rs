//! Limits requests to the API server: the number in flight, and an optional rate. Repeats requests that were answered
//! with 429, except those about events, after the pause that the server requests. Refuses writes by a replica that is
//! not the leader.
//!
//! A pause concerns only the rejected request, as in client-go. The API server may reject requests because of a single
//! namespace or webhook (the admission plug-in `EventRateLimit`, for example), and this must not delay other requests.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use kube::client::Body;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};
use tower::buffer::Buffer;
use tower::{BoxError, Layer, Service, ServiceExt as _};

use crate::leader::WriteLease;

/// Maximum number of requests in flight. An API server schedules requests with API Priority and Fairness (APF), so
/// additional requests would wait in the API server.
const MAX_IN_FLIGHT: usize = 32;
/// Maximum number of retries of a request after responses with 429.
const MAX_RETRIES: u32 = 5;
/// The pause after a response with 429 in which the API server sets no pause, and the maximum pause.
const DEFAULT_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Capacity of the queue of requests in front of the connection.
const QUEUE_CAPACITY: usize = 2 * MAX_IN_FLIGHT;

/// Limits shared by all requests of a client.
#[derive(Debug)]
pub(super) struct Bounds {
    slots: Semaphore,
    rate: Option<Rate>,
    /// Whether writes are allowed.
    write_lease: Arc<WriteLease>,
}

/// A rate limit: requests per second, with a burst after idle time.
#[derive(Debug)]
struct Rate {
    interval: Duration,
    burst: u32,
    /// When the next request would be due without a burst.
    next: Mutex<Instant>,
}

/// The request is a write, and this replica is not the leader.
#[derive(Debug, thiserror::Error)]
#[error("this replica is no longer the leader; the write was refused or canceled")]
struct NotLeader;

impl Bounds {
    /// Creates the limits. `rate` contains the requests per second and the burst; `None` for no rate limit.
    pub(super) fn new(rate: Option<(f64, u32)>, write_lease: Arc<WriteLease>) -> Arc<Self> {
        let rate = rate.map(|(per_second, burst)| Rate::new(per_second, burst));
        Arc::new(Self {
            slots: Semaphore::new(MAX_IN_FLIGHT),
            rate,
            write_lease,
        })
    }

    /// Sends a request once, as soon as the limits allow it. Retries are up to the caller, so a request that waits for
    /// its next attempt occupies no slot.
    async fn send<F, B>(
        &self,
        inner: &mut Buffer<Request<Body>, F>,
        request: Request<Body>,
    ) -> Result<Response<B>, BoxError>
    where
        F: Future<Output = Result<Response<B>, BoxError>> + Send + 'static,
    {
        let _slot = self.slots.acquire().await?;
        if let Some(rate) = &self.rate {
            rate.wait_for_turn().await;
        }
        let service = inner.ready().await?;
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return service.call(request).await;
        }
        if !self.write_lease.is_valid() {
            return Err(NotLeader.into());
        }
        tokio::select! {
            // Check the leadership first: when a paused replica resumes, both branches can be ready.
            biased;
            () = self.write_lease.wait_until_expired() => Err(NotLeader.into()),
            response = service.call(request) => response,
        }
    }
}

impl Rate {
    /// Creates a limit whose full burst is available.
    fn new(per_second: f64, burst: u32) -> Self {
        let interval = Duration::from_secs_f64(1.0 / per_second);
        let full_burst = interval * burst.saturating_sub(1);
        let now = Instant::now();
        Self {
            interval,
            burst,
            next: Mutex::new(now.checked_sub(full_burst).unwrap_or(now)),
        }
    }

    async fn wait_for_turn(&self) {
        let due = {
            let mut next = self.next.lock().await;
            let full_burst = self.interval * self.burst.saturating_sub(1);
            let earliest = Instant::now().checked_sub(full_burst).unwrap_or(*next);
            let due = (*next).max(earliest);
            *next = due + self.interval;
            due
        };
        sleep_until(due).await;
    }
}

/// A layer that applies [`Bounds`] to a client.
pub(super) struct Bounded(pub(super) Arc<Bounds>);

/// A client with [`Bounds`] applied.
pub(super) struct Requests<F> {
    bounds: Arc<Bounds>,
    inner: Buffer<Request<Body>, F>,
}

impl<S, B> Layer<S> for Bounded
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Send + 'static,
    S::Future: Send,
{
    type Service = Requests<S::Future>;

    fn layer(&self, service: S) -> Self::Service {
        Requests {
            bounds: Arc::clone(&self.0),
            inner: Buffer::new(service, QUEUE_CAPACITY),
        }
    }
}

impl<F, B> Service<Request<Body>> for Requests<F>
where
    F: Future<Output = Result<Response<B>, BoxError>> + Send + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (bounds, inner) = (Arc::clone(&self.bounds), self.inner.clone());
        Box::pin(send(bounds, inner, request))
    }
}

async fn send<F, B>(
    bounds: Arc<Bounds>,
    mut inner: Buffer<Request<Body>, F>,
    request: Request<Body>,
) -> Result<Response<B>, BoxError>
where
    F: Future<Output = Result<Response<B>, BoxError>> + Send + 'static,
{
    let retries = if is_event(&request) { 0 } else { MAX_RETRIES };
    let mut request = Some(request);
    for attempt in 0.. {
        let Some(current) = request.take() else {
            break;
        };
        request = try_clone(&current).filter(|_| attempt < retries);
        let response = bounds.send(&mut inner, current).await?;
        if response.status() != StatusCode::TOO_MANY_REQUESTS || request.is_none() {
            return Ok(response);
        }
        sleep(retry_after(response.headers())).await;
    }
    Err("the request was not sent".into())
}

/// Returns whether the request is about events. An event that the API server rejects with 429 is dropped: retries would
/// only add to the load that the API server limits.
fn is_event(request: &Request<Body>) -> bool {
    let path = request.uri().path().split_once("/namespaces/");
    path.is_some_and(|(_, path)| path.split('/').nth(1) == Some("events"))
}

/// Clones a request for a retry. Returns `None` if its body cannot be cloned.
fn try_clone(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// Returns the wait before the retry, from the `Retry-After` header, which an API server sets in seconds. The default
/// is [`DEFAULT_PAUSE`], and the maximum [`MAX_PAUSE`].
fn retry_after(headers: &HeaderMap) -> Duration {
    let header = headers.get(header::RETRY_AFTER);
    let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok());
    seconds
        .map_or(DEFAULT_PAUSE, Duration::from_secs)
        .min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tower::service_fn;

    use super::*;
    use crate::leader::Moment;

    fn valid_write_lease() -> Arc<WriteLease> {
        let write_lease = WriteLease::default();
        write_lease.extend(Moment::NEVER);
        Arc::new(write_lease)
    }

    fn request(method: Method) -> Request<Body> {
        let request = Request::builder().method(method).uri("/x");
        request.body(Body::from(b"{}".to_vec())).unwrap()
    }

    /// Returns a service that responds to the first `rejections` requests with 429 and `Retry-After: 1`, and a counter
    /// of its requests.
    fn server(
        bounds: Arc<Bounds>,
        rejections: u32,
    ) -> (
        impl Service<Request<Body>, Response = Response<()>, Error = BoxError>,
        Arc<AtomicU32>,
    ) {
        let requests = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&requests);
        let respond = move |_: Request<Body>| {
            let number = counter.fetch_add(1, Ordering::Relaxed);
            async move {
                let response = Response::builder();
                let response = if number < rejections {
                    response.status(429).header("retry-after", "1")
                } else {
                    response.status(200)
                };
                Ok::<_, BoxError>(response.body(()).unwrap())
            }
        };
        (Bounded(bounds).layer(service_fn(respond)), requests)
    }

    #[tokio::test(start_paused = true)]
    async fn retries_after_the_time_that_the_server_sets() {
        let (mut service, requests) = server(Bounds::new(None, valid_write_lease()), 2);
        let start = Instant::now();
        let response = service.call(request(Method::POST)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(requests.load(Ordering::Relaxed), 3);
        assert!(start.elapsed() >= Duration::from_secs(2));
    }

    /// Returns a service that responds to every request whose path contains `rejected` with 429, and a counter of the
    /// requests.
    fn server_that_rejects(
        bounds: Arc<Bounds>,
        rejected: &'static str,
    ) -> (
        impl Service<Request<Body>, Response = Response<()>, Error = BoxError, Future: Send + 'static>,
        Arc<AtomicU32>,
    ) {
        let requests = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&requests);
        let respond = move |request: Request<Body>| {
            counter.fetch_add(1, Ordering::Relaxed);
            let is_rejected = request.uri().path().contains(rejected);
            let code = if is_rejected { 429 } else { 200 };
            let response = Response::builder().status(code).body(());
            async move { Ok::<_, BoxError>(response.unwrap()) }
        };
        (Bounded(bounds).layer(service_fn(respond)), requests)
    }

    fn post(path: &str) -> Request<Body> {
        let mut request = request(Method::POST);
        *request.uri_mut() = path.parse().unwrap();
        request
    }

    /// Attack: a tenant causes so many events that the API server rejects them, to delay the Secrets of all tenants.
    #[tokio::test(start_paused = true)]
    async fn an_event_rejected_by_the_api_server_is_not_retried() {
        let (mut service, requests) =
            server_that_rejects(Bounds::new(None, valid_write_lease()), "/events");
        let start = Instant::now();
        for path in [
            "/api/v1/namespaces/a/events",
            "/api/v1/namespaces/a/events/n.1",
        ] {
            let response = service.call(post(path)).await.unwrap();
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        }
        assert_eq!(requests.load(Ordering::Relaxed), 2);
        service
            .call(post("/api/v1/namespaces/b/secrets"))
            .await
            .unwrap();
        assert!(start.elapsed() < DEFAULT_PAUSE, "{:?}", start.elapsed());
    }

    /// Attack: a tenant causes more rejected requests than may be in flight, to delay the requests of all tenants.
    #[tokio::test(start_paused = true)]
    async fn rejected_requests_of_one_tenant_delay_no_other_request() {
        let (mut service, _) = server_that_rejects(Bounds::new(None, valid_write_lease()), "/a/");
        let start = Instant::now();
        for _ in 0..2 * MAX_IN_FLIGHT {
            tokio::spawn(service.call(post("/api/v1/namespaces/a/secrets/events")));
        }
        tokio::task::yield_now().await;
        service
            .call(post("/api/v1/namespaces/b/secrets"))
            .await
            .unwrap();
        assert!(start.elapsed() < DEFAULT_PAUSE, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn returns_the_response_after_the_maximum_number_of_retries() {
        let (mut service, requests) = server(Bounds::new(None, valid_write_lease()), u32::MAX);
        let response = service.call(request(Method::GET)).await.unwrap();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(requests.load(Ordering::Relaxed), MAX_RETRIES + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn limits_requests_to_the_rate_after_the_burst() {
        let (mut service, _) = server(Bounds::new(Some((10.0, 5)), valid_write_lease()), 0);
        let start = Instant::now();
        for _ in 0..25 {
            service.call(request(Method::GET)).await.unwrap();
        }
        let elapsed = start.elapsed();
        let want = Duration::from_millis(1_900)..Duration::from_millis(2_200);
        assert!(want.contains(&elapsed), "{elapsed:?}");
    }

    #[tokio::test]
    async fn sends_writes_only_while_leader() {
        let write_lease = valid_write_lease();
        let (mut service, requests) = server(Bounds::new(None, Arc::clone(&write_lease)), 0);
        service.call(request(Method::PUT)).await.unwrap();
        write_lease.revoke();
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let error = service.call(request(method)).await.unwrap_err();
            assert!(error.is::<NotLeader>(), "{error}");
        }
        service.call(request(Method::GET)).await.unwrap();
        assert_eq!(requests.load(Ordering::Relaxed), 2);
    }
}
