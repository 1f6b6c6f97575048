//! The connections of a port: which are accepted, and for how long.

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
use super::connections::{Connections, Place, Signals, holder};
use super::refused::Refused;
use super::rest::Rest;

/// Timeouts of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For reading the head of a request, from when the connection is ready for one.
    pub read: Duration,
    /// For each write of a response.
    pub write: Duration,
}

impl Limits {
    /// Returns the timeouts of a new connection.
    fn of(self, place: &Place) -> Self {
        let read = if place.is_crowded() {
            self.read.min(HURRIED)
        } else {
            self.read
        };
        Self { read, ..self }
    }

    /// Returns the time limit from the connection to the end of the first request's head, including the TLS
    /// handshake.
    fn first(self) -> Duration {
        self.read.min(HURRIED)
    }
}

/// Maximum size of a request head. This limits all connections together to 32 MB; hyper's default would allow
/// 800 MB. Node.js has the same limit, so proxies and meshes stay below it despite their chains of names and
/// certificates.
const LONGEST_HEAD: usize = 16 << 10;
/// Timeout for the first request's head, and for every head on connections that are opened while the port is
/// crowded: a client connects because it has something to send. While the port is crowded, it applies to the
/// body too.
const HURRIED: Duration = Duration::from_secs(5);
/// How often a slow request is checked.
const CHECK: Duration = Duration::from_secs(1);
/// How long connections may continue after the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after a connection could not be accepted, mostly for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `end` is true, and then allows connections to finish for a while.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    mut end: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let connections = Connections::default();
    let router = router.layer(from_fn(end_in_order));
    loop {
        tokio::select! {
            () = ended(&mut end) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let address = address_of(&stream);
                    if let Some((place, signals)) = connections.admit(address) {
                        let task = Connection { address, limits: limits.of(&place), place, router: router.clone() };
                        let served = task.serve(stream, tls.clone(), graceful.watcher());
                        tokio::spawn(until_displaced(served, signals, limits.first()));
                    }
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

/// Returns the address of the client. Clients that have already disconnected share one address.
fn address_of(stream: &TcpStream) -> IpAddr {
    let address = stream.peer_addr();
    address.map_or(Ipv4Addr::UNSPECIFIED.into(), |at| holder(at.ip()))
}

/// Returns when `end` is true or its sender is dropped.
async fn ended(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|end| *end).await;
}

/// Reads the whole request before the response is sent, or announces that the connection closes. While the
/// port is crowded, each connection closes after its response, so that clients with repeated requests do not
/// hold their slots indefinitely, and requests that arrive slowly are refused.
async fn end_in_order(
    Extension(place): Extension<Arc<Place>>,
    request: Request,
    next: Next,
) -> Response {
    let (head, body) = request.into_parts();
    let rest = Rest::of(body, Arc::clone(&place));
    let request = Request::from_parts(head, Body::new(rest.clone()));
    let mut response = tokio::select! {
        response = next.run(request) => response,
        () = too_slow(&rest, &place) => Refused::TooSlow.into_response(),
    };
    if !rest.drain().await || place.is_crowded() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// Returns when a body is not complete after a while, and other connections need the slot.
async fn too_slow(rest: &Rest, place: &Place) {
    tokio::time::sleep(HURRIED).await;
    while rest.is_over() || !place.is_crowded() {
        tokio::time::sleep(CHECK).await;
    }
}

/// Serves a connection until it ends, is displaced, or has sent no head of a request for too long.
async fn until_displaced(served: impl Future<Output = ()>, signals: Signals, first: Duration) {
    let Signals { displaced, head } = signals;
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
        () = served => {}
        () = silent => debug!("A connection sent no request"),
        () = displaced => debug!("A connection without a whole request made room for another one"),
    }
}

/// One accepted connection.
struct Connection {
    address: IpAddr,
    place: Place,
    router: Router,
    limits: Limits,
}

impl Connection {
    async fn serve(self, stream: TcpStream, tls: Option<TlsAcceptor>, watcher: Watcher) {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.limits.write));
        let stream = Box::pin(stream);
        let Some(tls) = tls else {
            return self.answer(stream, watcher).await;
        };
        match tls.accept(stream).await {
            Ok(stream) => self.answer(stream, watcher).await,
            Err(error) => debug!(%error, "A handshake failed"),
        }
    }

    async fn answer(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        watcher: Watcher,
    ) {
        let (peer, place) = (Peer(self.address), Arc::new(self.place));
        let service = self
            .router
            .map_request(move |mut request: hyper::Request<Incoming>| {
                place.has_sent_head();
                request.extensions_mut().insert(peer);
                request.extensions_mut().insert(Arc::clone(&place));
                request
            });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .max_buf_size(LONGEST_HEAD)
            .header_read_timeout(self.limits.read)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        if let Err(error) = watcher.watch(connection).await {
            debug!(%error, "A connection ended early");
        }
    }
}
