//! The endpoints, with the peer's bodies and content types: `/healthz`, `/readyz`, `/v1/cert.pem`,
//! `/v1/certs.pem`, `/v1/verify`, `/v1/rotate`; on a port of their own, the metrics.

mod authorised;
mod bodies;
mod desk;
mod rate;
mod refused;
pub mod reviews;
mod sealed;
pub mod tls;

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use shared::key::Validity;
use shared::key_ring::KeyRing;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::args::Address;
use crate::metrics::Metrics;
pub use desk::Desk;
use refused::Refused;
use reviews::Reviews;

/// What the endpoints answer from.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The ring of now.
    pub ring: watch::Receiver<Arc<KeyRing>>,
    /// Have keys and objects been looked at once?
    pub ready: Arc<AtomicBool>,
}

impl Facts {
    fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.borrow())
    }
}

/// What every request gets at.
#[derive(Debug, Clone)]
struct Context {
    facts: Facts,
    desk: Arc<Desk>,
}

/// The address at the other end of the connection that a request came through: an extension of each request
/// that [`router`] answers.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

impl Peer {
    /// Those who are gone already are all alike.
    fn of(stream: &TcpStream) -> Self {
        let address = stream.peer_addr();
        Self(address.map_or(Ipv4Addr::UNSPECIFIED.into(), |at| at.ip().to_canonical()))
    }
}

/// Bounds of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For reading the head of a request, from the moment the connection is free for one.
    pub read: Duration,
    /// For each write of an answer.
    pub write: Duration,
}

impl Limits {
    /// With so many places left.
    fn under(self, places: usize) -> Self {
        if !is_crowded(places) {
            return self;
        }
        let read = self.read.min(HURRIED);
        Self { read, ..self }
    }
}

/// Connections at once on one port; further ones wait until the system accepts them. Each takes some
/// ten kilobytes.
const MOST_CONNECTIONS: usize = 2000;
/// Longest head of a request: 32 MB for all connections, while hyper's own limit makes that 800. Node takes
/// no more either, so proxies and meshes, with their chains of names and certificates, keep below it.
const LONGEST_HEAD: usize = 16 << 10;
/// For reading the head of a request while more than half of the connections are taken, so that
/// those who say nothing do not keep probes and callers out.
const HURRIED: Duration = Duration::from_secs(5);
/// Are so few places left that nobody may keep his between two requests?
fn is_crowded(places: usize) -> bool {
    places <= MOST_CONNECTIONS / 2
}

/// How long connections may go on after the end of the server.
const GRACE: Duration = Duration::from_secs(5);
/// The pause after a connection could not be accepted, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the plain port serves beside health and certificates.
#[derive(Debug, Default)]
pub struct Plain {
    /// Bounds of verify and rotate; without, neither is served.
    pub desk: Option<Desk>,
    /// PEM of the authority behind the port for authorised callers, if there is one.
    pub authority: Option<String>,
}

/// Every path of the plain port; another one is 404, and another method than it has is 405.
pub fn router(facts: Facts, plain: Plain, metrics: Arc<Metrics>) -> Router {
    let mut router = with_certificates(facts.clone());
    if let Some(authority) = plain.authority {
        let kind = [(header::CONTENT_TYPE, "application/x-pem-file")];
        router = router.route("/v1/ca.pem", get(async move || (kind, authority)));
    }
    if let Some(desk) = plain.desk {
        let sealed = Router::new()
            .route("/v1/verify", post(sealed::verify))
            .route("/v1/rotate", post(sealed::rotate))
            .with_state(Context {
                facts,
                desk: Arc::new(desk),
            });
        router = router.merge(sealed);
    }
    finish(router, metrics)
}

/// The same for the port of authorised callers.
pub fn authorised_router(
    facts: Facts,
    desk: Desk,
    reviews: Reviews,
    metrics: Arc<Metrics>,
) -> Router {
    let certificates = with_certificates(facts.clone());
    finish(
        certificates.merge(authorised::router(facts, desk, reviews)),
        metrics,
    )
}

fn with_certificates(facts: Facts) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/v1/cert.pem", get(certificate))
        .route("/v1/certs.pem", get(certificates))
        .with_state(facts)
}

fn finish(router: Router, metrics: Arc<Metrics>) -> Router {
    router
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed\n")
        })
        .layer(from_fn_with_state(metrics, count))
}

/// The port of the metrics.
pub fn metrics_router(metrics: Arc<Metrics>) -> Router {
    let scrape = |State(metrics): State<Arc<Metrics>>| async move {
        let kind = [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )];
        (kind, metrics.text(Timestamp::now()))
    };
    Router::new()
        .route("/metrics", get(scrape))
        .route("/readyz/watches", get(watches))
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
        .with_state(metrics)
}

/// Can everything be watched? What cannot is named, so that this is served on the port of the metrics only.
async fn watches(State(metrics): State<Arc<Metrics>>) -> (StatusCode, String) {
    match metrics.watches().report() {
        report if report.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
        report => (StatusCode::SERVICE_UNAVAILABLE, report),
    }
}

async fn count(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let (path, method) = (request.uri().path().to_owned(), request.method().clone());
    let start = Instant::now();
    let response = next.run(request).await;
    metrics.request(&path, &method, response.status(), start.elapsed());
    response
}

async fn ready(State(facts): State<Facts>) -> (StatusCode, &'static str) {
    if facts.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn certificate(State(facts): State<Facts>) -> Response {
    let ring = facts.ring();
    match ring.sealing(Timestamp::now()).map(|key| key.certificate()) {
        Ok(Some(certificate)) => {
            let kind = [(header::CONTENT_TYPE, "application/x-pem-file")];
            (kind, certificate.to_pem()).into_response()
        }
        Ok(None) => Refused::NoCertificate.into_response(),
        Err(why) => Refused::of_ring(why).into_response(),
    }
}

/// Every certificate whose key opens here, newest first, each below a line with its fingerprint and
/// the end of its validity. Those that are not valid now, or may not seal, are left out.
async fn certificates(State(facts): State<Facts>) -> Response {
    let ring = facts.ring();
    let kind = [(header::CONTENT_TYPE, "application/x-pem-file")];
    let now = Timestamp::now();
    let mut text = String::new();
    let sealing = ring.keys().iter().filter(|key| ring.may_seal(key));
    for certificate in sealing.filter_map(|key| key.certificate()) {
        if certificate.validity(now) == Validity::Valid {
            let (fingerprint, end) = (certificate.fingerprint(), certificate.not_after());
            let _ = writeln!(text, "# {fingerprint}, until {end}");
            text += &certificate.to_pem();
        }
    }
    (kind, text).into_response()
}

/// Opens the port. Without host it is open on all interfaces, IPv4 and IPv6, as in Go.
///
/// # Errors
///
/// The system's answer.
pub async fn bind(address: &Address) -> io::Result<TcpListener> {
    let port = address.port;
    match &address.host {
        Some(host) => TcpListener::bind((host.as_str(), port)).await,
        None => match TcpListener::bind(("::", port)).await {
            Ok(listener) => Ok(listener),
            // A machine without IPv6.
            Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
        },
    }
}

/// Serves until `end` comes true, then lets connections finish for a while.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    mut end: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let router = router.layer(from_fn_with_state(Arc::clone(&places), part_in_a_crowd));
    loop {
        tokio::select! {
            () = ended(&mut end) => break,
            accepted = next(&listener, &places) => match accepted {
                Ok((stream, place)) => {
                    let limits = limits.under(places.available_permits());
                    let tls = tls.clone();
                    accept(stream, place, tls, router.clone(), limits, &graceful);
                }
                Err(error) => {
                    warn!(%error, "Cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}

/// While it is crowded each connection ends with its answer, so that those who ask again and again do
/// not hold their places for ever.
async fn part_in_a_crowd(
    State(places): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    if is_crowded(places.available_permits()) {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// The next connection, when there is a place for it.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await;
    let place = place.map_err(io::Error::other)?;
    Ok((listener.accept().await?.0, place))
}

/// Also comes back when nobody is left to say so.
async fn ended(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|end| *end).await;
}

/// A handshake may take as long as the head of a request.
fn accept(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    graceful: &GracefulShutdown,
) {
    let peer = Peer::of(&stream);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write));
    let watcher = graceful.watcher();
    tokio::spawn(async move {
        let _place = place;
        let Some(tls) = tls else {
            return connection(Box::pin(stream), peer, router, limits, watcher).await;
        };
        match tokio::time::timeout(limits.read, tls.accept(Box::pin(stream))).await {
            Ok(Ok(stream)) => connection(stream, peer, router, limits, watcher).await,
            Ok(Err(error)) => debug!(%error, "A handshake failed"),
            Err(_) => debug!("A handshake took too long"),
        }
    });
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    limits: Limits,
    watcher: Watcher,
) {
    let service = router.map_request(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(LONGEST_HEAD)
        .header_read_timeout(limits.read)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = watcher.watch(connection).await {
        debug!(%error, "A connection ended early");
    }
}
