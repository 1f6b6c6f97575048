//! Accepts the connections of a port, and limits how long they last.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use super::Peer;
use super::connections::{Capacity, Connections, Signals, Slot, client_address};
use super::drainable_body::DrainableBody;
use super::refusal::Refusal;

/// The number of connections of a port, and the timeouts of each.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Timeout for reading the head of a request, from the time at which the connection is ready for it.
    pub read: Duration,
    /// Timeout for each write of a response.
    pub write: Duration,
    /// How many connections the port may have.
    pub capacity: Capacity,
}

impl ConnectionLimits {
    /// Returns the timeouts of a new connection.
    fn for_slot(self, slot: &Slot) -> Self {
        let read = if slot.is_crowded() {
            self.read.min(CROWDED_TIMEOUT)
        } else {
            self.read
        };
        Self { read, ..self }
    }

    /// Returns the time limit from accepting the connection to the end of the first request's head, including the TLS
    /// handshake.
    fn first_head(self) -> Duration {
        self.read.min(CROWDED_TIMEOUT)
    }
}

/// Maximum size of a request head. This limits the 2000 connections of the unauthenticated port together to 32 MB;
/// hyper's default would allow 800 MB. Node.js has the same limit, so the heads that proxies and meshes send are
/// smaller, despite their chains of names and certificates.
const MAX_HEAD: usize = 16 << 10;
/// Timeout for the first request's head, and for every head on connections that are opened while the port or the
/// client's share is crowded ([`Slot::is_crowded`]): a client connects to send a request immediately. While either is
/// crowded, the timeout applies to the body too.
const CROWDED_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval at which a slow request is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long connections may continue after the server stops.
const GRACE_PERIOD: Duration = Duration::from_secs(5);
/// Pause after a connection could not be accepted, usually because file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is true, and then lets connections finish for a limited time.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: ConnectionLimits,
    mut shutdown: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let connections = Connections::new(limits.capacity);
    let router = router.layer(from_fn(read_completely));
    loop {
        tokio::select! {
            () = wait_for_shutdown(&mut shutdown) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let address = peer_address(&stream);
                    if let Some((slot, signals)) = connections.admit(address) {
                        let connection = Connection { address, limits: limits.for_slot(&slot), slot, router: router.clone() };
                        let task = connection.serve(stream, tls.clone(), graceful.watcher());
                        tokio::spawn(serve_until_displaced(task, signals, limits.first_head()));
                    }
                }
                Err(error) => {
                    warn!(%error, "Cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    let _ = tokio::time::timeout(GRACE_PERIOD, graceful.shutdown()).await;
}

/// Returns the address of the client. Clients that have already disconnected share one address.
fn peer_address(stream: &TcpStream) -> IpAddr {
    let address = stream.peer_addr();
    address.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| {
        client_address(address.ip())
    })
}

/// Returns when `shutdown` is true or its sender is dropped.
async fn wait_for_shutdown(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|is_stopping| *is_stopping).await;
}

/// Reads the complete request before the response is sent, or announces that the connection closes. While the port or
/// the client's share is crowded, each connection closes after its response, so that clients with repeated requests do
/// not occupy their slots indefinitely, and requests that arrive slowly are refused.
async fn read_completely(
    Extension(slot): Extension<Arc<Slot>>,
    request: Request,
    next: Next,
) -> Response {
    let (head, incoming) = request.into_parts();
    let body = DrainableBody::new(incoming, Arc::clone(&slot));
    let request = Request::from_parts(head, Body::new(body.clone()));
    let mut response = tokio::select! {
        response = next.run(request) => response,
        () = wait_until_too_slow(&body, &slot) => Refusal::TooSlow.into_response(),
    };
    if !body.drain().await || slot.is_crowded() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// Returns once the body is incomplete after [`CROWDED_TIMEOUT`] while the port or the client's share is crowded.
async fn wait_until_too_slow(body: &DrainableBody, slot: &Slot) {
    tokio::time::sleep(CROWDED_TIMEOUT).await;
    while body.is_complete() || !slot.is_crowded() {
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// Serves a connection until it ends, is displaced or closed, or does not send the head of its first request in time.
async fn serve_until_displaced(task: impl Future<Output = ()>, signals: Signals, first: Duration) {
    let Signals {
        displaced,
        head,
        closed,
    } = signals;
    let silent = async {
        if tokio::time::timeout(first, head).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let displaced = async {
        if displaced.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = task => {}
        () = silent => debug!("A connection sent no request in time"),
        () = displaced => debug!("A connection without a complete request was displaced by a newer connection"),
        () = closed.notified() => debug!("A connection was closed while its response was sent"),
    }
}

/// An accepted connection, with its slot and limits.
struct Connection {
    address: IpAddr,
    slot: Slot,
    router: Router,
    limits: ConnectionLimits,
}

impl Connection {
    async fn serve(self, stream: TcpStream, tls: Option<TlsAcceptor>, watcher: Watcher) {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.limits.write));
        let stream = Box::pin(stream);
        let Some(tls) = tls else {
            return self.serve_requests(stream, watcher).await;
        };
        match tls.accept(stream).await {
            Ok(stream) => self.serve_requests(stream, watcher).await,
            Err(error) => debug!(%error, "A TLS handshake failed"),
        }
    }

    async fn serve_requests(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        watcher: Watcher,
    ) {
        let (peer, slot) = (Peer(self.address), Arc::new(self.slot));
        let service = self
            .router
            .map_request(move |mut request: hyper::Request<Incoming>| {
                slot.record_head();
                request.extensions_mut().insert(peer);
                request.extensions_mut().insert(Arc::clone(&slot));
                request
            });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .max_buf_size(MAX_HEAD)
            .header_read_timeout(self.limits.read)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        if let Err(error) = watcher.watch(connection).await {
            debug!(%error, "A connection ended early");
        }
    }
}
