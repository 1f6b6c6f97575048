//! Runs only the HTTP server of a controller.

use std::sync::Arc;
use std::time::Duration;

use controller::http::{
    self, ConnectionLimits, RequestLimiter, ServerState, UnauthenticatedEndpoints,
};
use controller::metrics::Metrics;
use controller_core::author_limits::AuthorLimits;
use shared::key_ring::KeyRing;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

pub struct Server {
    pub address: std::net::SocketAddr,
    pub ring: watch::Sender<Arc<KeyRing>>,
    pub state: ServerState,
    pub end: watch::Sender<bool>,
    pub task: tokio::task::JoinHandle<()>,
}

pub async fn start_server(timeout: Duration) -> Server {
    start_server_with_limits(timeout, Arc::default()).await
}

pub async fn start_server_with_limits(timeout: Duration, limits: Arc<AuthorLimits>) -> Server {
    let ring = watch::Sender::new(Arc::default());
    let state = ServerState {
        ring: ring.subscribe(),
        ready: Arc::default(),
    };
    let listener = http::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, end_receiver) = watch::channel(false);
    let timeouts = ConnectionLimits {
        read: timeout,
        write: Duration::from_secs(9),
        capacity: http::Capacity::default(),
    };
    let endpoints = UnauthenticatedEndpoints {
        limiter: Some(RequestLimiter::new((2, 2), timeout, true).with_author_limits(limits)),
        authority: None,
    };
    let task = tokio::spawn(http::serve(
        listener,
        None,
        http::router(
            state.clone(),
            endpoints,
            Arc::new(Metrics::new(false).unwrap()),
        ),
        timeouts,
        end_receiver,
    ));
    Server {
        address,
        ring,
        state,
        end,
        task,
    }
}

impl Server {
    /// Sends a request. Returns the status line, the headers in lower case, and the body.
    pub async fn request(&self, method: &str, path: &str) -> (String, String, String) {
        self.send(method, path, "", b"").await
    }

    /// Sends a request with headers, each including its line end, and a body.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> (String, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // Ignores the error: a server that has responded need not read the rest.
        let _ = stream.write_all(body).await;
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let (status, headers) = head.split_once("\r\n").unwrap();
        (status.into(), headers.to_lowercase(), body.into())
    }
}
