//! Serves metrics and probes over HTTP. Connections are limited, since every client in the cluster can connect.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::Status;

/// Maximum number of open connections.
const MAX_CONNECTIONS: usize = 512;
/// Time limit for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit of a connection, which has one request and a small response.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// Pause after an accept error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server on a thread of its own, so that it responds while the rest of the program is busy. It stops when this value
/// is dropped.
#[derive(Debug)]
pub struct Server {
    _stop: oneshot::Sender<()>,
}

impl Server {
    /// Starts the server.
    ///
    /// # Errors
    ///
    /// Fails if the listener cannot be used, or the thread cannot be started.
    pub fn start(listener: std::net::TcpListener, status: Arc<dyn Status>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = async move {
            let listener = TcpListener::from_std(listener)?;
            tokio::select! {
                () = serve_at_most(MAX_CONNECTIONS, listener, status) => {}
                _ = stopped => {}
            }
            io::Result::Ok(())
        };
        let thread = thread::Builder::new().name("http".into());
        thread.spawn(move || runtime.block_on(serve))?;
        Ok(Self { _stop: stop })
    }
}

/// Serves at most `max` connections. Every new connection is accepted; above the maximum, an older connection is
/// closed.
async fn serve_at_most(max: usize, listener: TcpListener, status: Arc<dyn Status>) {
    let (mut tasks, mut open) = (JoinSet::new(), OpenConnections::default());
    loop {
        tokio::select! {
            Some(ended) = tasks.join_next_with_id() => match ended {
                Ok((id, ())) => open.remove(id),
                Err(error) => open.remove(error.id()),
            },
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    if open.0.len() >= max {
                        open.displace();
                    }
                    let task = tasks.spawn(serve_connection(stream, Arc::clone(&status)));
                    open.0.push_back((client_address(address.ip()), task));
                }
                Err(error) => {
                    debug!(%error, "Cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// The open connections in order of arrival, with the address of the client.
#[derive(Debug, Default)]
struct OpenConnections(VecDeque<(IpAddr, AbortHandle)>);

impl OpenConnections {
    /// Closes the oldest connection of the address with the most connections. A request takes milliseconds, so a client
    /// that sends its request immediately is served before its connection is closed.
    fn displace(&mut self) {
        let addresses: Vec<IpAddr> = self.0.iter().map(|(address, _)| *address).collect();
        let displaced = next_to_displace(&addresses).and_then(|index| self.0.remove(index));
        if let Some((_, task)) = displaced {
            task.abort();
        }
    }

    fn remove(&mut self, id: Id) {
        self.0.retain(|(_, task)| task.id() != id);
    }
}

/// Returns the index of the oldest connection of the address that has the most connections.
fn next_to_displace(addresses: &[IpAddr]) -> Option<usize> {
    let mut sorted = addresses.to_vec();
    sorted.sort_unstable();
    let counts = sorted.chunk_by(|one, other| one == other);
    let largest = counts.map(<[IpAddr]>::len).max()?;
    let count = |address: &IpAddr| {
        let first = sorted.partition_point(|other| other < address);
        sorted.partition_point(|other| other <= address) - first
    };
    addresses
        .iter()
        .position(|address| count(address) == largest)
}

/// Returns the address that identifies a client: an IPv4 address or an IPv6 /64 network, since its owner can choose any
/// address within the network.
fn client_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            Ipv6Addr::from(network).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Serves one request on a connection.
async fn serve_connection(stream: TcpStream, status: Arc<dyn Status>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &*status);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CONNECTION_TIMEOUT, connection).await {
        debug!(%error, "A connection ended early");
    }
}

fn respond(method: &Method, path: &str, status: &dyn Status) -> Response<Full<Bytes>> {
    let (code, text) = match path {
        _ if !matches!(*method, Method::GET | Method::HEAD) => {
            (StatusCode::METHOD_NOT_ALLOWED, String::new())
        }
        "/metrics" => (StatusCode::OK, status.metrics()),
        "/healthz" => (StatusCode::OK, "ok\n".into()),
        "/readyz" if status.is_ready() => (StatusCode::OK, "ok\n".into()),
        "/readyz" => (
            StatusCode::SERVICE_UNAVAILABLE,
            "initial lists not complete\n".into(),
        ),
        _ => (StatusCode::NOT_FOUND, String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = code;
    let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    struct FixedStatus(bool);

    impl Status for FixedStatus {
        fn metrics(&self) -> String {
            String::new()
        }

        fn is_ready(&self) -> bool {
            self.0
        }
    }

    #[test]
    fn serves_probes_and_metrics() {
        let code = |method: Method, path: &str, is_ready: bool| {
            respond(&method, path, &FixedStatus(is_ready))
                .status()
                .as_u16()
        };
        assert_eq!(code(Method::GET, "/readyz", false), 503);
        for (method, path, want) in [
            (Method::GET, "/readyz", 200),
            (Method::GET, "/healthz", 200),
            (Method::GET, "/metrics", 200),
            (Method::GET, "/", 404),
            (Method::POST, "/metrics", 405),
        ] {
            assert_eq!(code(method, path, true), want, "{path}");
        }
    }

    fn address(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    #[test]
    fn displaces_the_oldest_connection_of_the_busiest_address() {
        for (addresses, want) in [
            (vec![], None),
            (vec![1], Some(0)),
            (vec![1, 2, 3], Some(0)),
            (vec![1, 2, 2, 3], Some(1)),
            (vec![3, 2, 1, 1, 2, 1], Some(2)),
        ] {
            let addresses: Vec<IpAddr> = addresses.into_iter().map(address).collect();
            assert_eq!(next_to_displace(&addresses), want, "{addresses:?}");
        }
        let of = |text: &str| client_address(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    /// Sends a request on a connection, and returns the response.
    fn get(mut stream: std::net::TcpStream) -> String {
        let mut response = String::new();
        let timeout = Some(Duration::from_mins(1));
        stream.set_read_timeout(timeout).unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    /// Attack: a tenant causes work that occupies the worker for longer than the kubelet waits for a probe, so that the
    /// container is restarted repeatedly.
    #[test]
    fn probes_and_metrics_are_answered_while_the_worker_is_busy() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::start(listener, Arc::new(FixedStatus(true))).unwrap();
        // This thread is the worker, and runs nothing else until the response arrives.
        let response = get(std::net::TcpStream::connect(address).unwrap());
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        drop(server);
    }

    /// Attack: a Pod opens more connections than the port admits and sends nothing, so that the kubelet's probes fail
    /// and the container is restarted repeatedly.
    #[tokio::test(flavor = "multi_thread")]
    async fn idle_connections_do_not_stop_the_probes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve_at_most(8, listener, Arc::new(FixedStatus(true))));
        let responses = tokio::task::spawn_blocking(move || {
            let connect = |_| std::net::TcpStream::connect(address).unwrap();
            let idle: Vec<_> = (0..64).map(connect).collect();
            let responses: Vec<String> = (0..16).map(connect).map(get).collect();
            drop(idle);
            responses
        });
        for response in responses.await.unwrap() {
            assert!(response.starts_with("HTTP/1.1 200"), "{response}");
            assert!(response.contains("connection: close"), "{response}");
        }
        server.abort();
    }
}
