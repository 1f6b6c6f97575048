//! `/healthz`, `/readyz` and `/v1/cert.pem`, with the peer's bodies and content types.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use shared::key_ring::KeyRing;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_io_timeout::TimeoutStream;
use tracing::{debug, info, warn};

use crate::args::Address;

/// What the endpoints answer from.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The ring of now.
    pub ring: watch::Receiver<Arc<KeyRing>>,
    /// Have keys and objects been looked at once?
    pub ready: Arc<AtomicBool>,
}

/// Bounds of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For reading the head of a request, from the moment the connection is free for one.
    pub read: Duration,
    /// For each write of an answer.
    pub write: Duration,
}

/// How long connections may go on after the end of the server.
const GRACE: Duration = Duration::from_secs(5);
/// The pause after a connection could not be accepted, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Every path; another one is 404, and another method than GET and HEAD is 405.
pub fn router(facts: Facts) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/v1/cert.pem", get(certificate))
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
        .method_not_allowed_fallback(|| async {
            (
                StatusCode::METHOD_NOT_ALLOWED,
                "405 method not allowed; use GET\n",
            )
        })
        .with_state(facts)
}

async fn ready(State(facts): State<Facts>) -> (StatusCode, &'static str) {
    if facts.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn certificate(State(facts): State<Facts>) -> Response {
    let ring = Arc::clone(&facts.ring.borrow());
    match ring.newest().and_then(|key| key.certificate()) {
        Some(certificate) => {
            let kind = [(header::CONTENT_TYPE, "application/x-pem-file")];
            (kind, certificate.to_pem()).into_response()
        }
        None => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "cannot get certificate\n",
        )
            .into_response(),
    }
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
    router: Router,
    limits: Limits,
    mut end: watch::Receiver<bool>,
) {
    if let Ok(address) = listener.local_addr() {
        info!(addr = %address, "HTTP server serving");
    }
    let graceful = GracefulShutdown::new();
    loop {
        tokio::select! {
            () = ended(&mut end) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => connection(stream, router.clone(), limits, &graceful),
                Err(error) => {
                    warn!(%error, "Cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}

/// Also comes back when nobody is left to say so.
async fn ended(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|end| *end).await;
}

fn connection(stream: TcpStream, router: Router, limits: Limits, graceful: &GracefulShutdown) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write));
    let stream: Pin<Box<_>> = Box::pin(stream);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.read)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "A connection ended early");
        }
    });
}
