//! Tests the load on the API server that callers of the TLS port cause.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ::http::{Request, Response};
use controller::http::reviews::Reviews;
use controller::http::{self, ConnectionLimits, RequestLimiter, ServerState};
use controller::metrics::Metrics;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use shared::key_ring::KeyRing;
use shared::resource::SealedSecret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tower::service_fn;

use crate::support::{KEYS, manifest_of, sealed};

const AUDIENCE: &str = "sealed-secrets.bitnami.com";

/// A simulated API server that accepts tokens that begin with `good` and allows their users all requests, and a
/// controller that uses the server.
struct Fixture {
    address: SocketAddr,
    token_reviews: Arc<AtomicUsize>,
    access_reviews: Arc<AtomicUsize>,
    _end: watch::Sender<bool>,
    _ring: watch::Sender<Arc<KeyRing>>,
}

impl Fixture {
    async fn new() -> Self {
        let counts: [Arc<AtomicUsize>; 2] = Default::default();
        let reviews = Arc::new(Reviews::new(api_server(counts.clone())));
        let ring = watch::Sender::new(Arc::default());
        let state = ServerState {
            ring: ring.subscribe(),
            ready: Arc::default(),
        };
        let listener = http::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (end, end_receiver) = watch::channel(false);
        let timeout = Duration::from_mins(1);
        let router = http::authorized_router(
            state,
            RequestLimiter::new((1_000_000, 1_000_000), timeout, true),
            reviews,
            None,
            Arc::new(Metrics::new(false).unwrap()),
        );
        let timeouts = ConnectionLimits {
            read: timeout,
            write: timeout,
            capacity: http::Capacity::default(),
        };
        tokio::spawn(http::serve(listener, None, router, timeouts, end_receiver));
        let [token_reviews, access_reviews] = counts;
        Self {
            address,
            token_reviews,
            access_reviews,
            _end: end,
            _ring: ring,
        }
    }

    /// Sends a request and returns the status of the response.
    async fn post(&self, from: [u8; 4], path: &str, token: &str, body: &str) -> String {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((IpAddr::from(from), 0).into()).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response.get(9..12).unwrap().to_owned()
    }

    async fn verify(&self, from: [u8; 4], token: &str) -> String {
        self.post(from, "/v1/verify", token, &manifest_of(&object()))
            .await
    }
}

fn object() -> SealedSecret {
    sealed(&KEYS[0], "ns/n", &[("a", "1")])
}

fn api_server([token_reviews, access_reviews]: [Arc<AtomicUsize>; 2]) -> Client {
    let service = service_fn(move |request: Request<Body>| {
        let (token_reviews, access_reviews) = (token_reviews.clone(), access_reviews.clone());
        async move {
            let (head, body) = request.into_parts();
            let mut object: Value = serde_json::from_slice(&body.collect_bytes().await?).unwrap();
            if head.uri.path().ends_with("/tokenreviews") {
                token_reviews.fetch_add(1, Ordering::Relaxed);
                let token = object["spec"]["token"].as_str().unwrap();
                object["status"] = json!({
                    "authenticated": token.starts_with("good"),
                    "audiences": [AUDIENCE],
                    "user": { "username": token },
                });
            } else {
                access_reviews.fetch_add(1, Ordering::Relaxed);
                object["status"] = json!({ "allowed": true });
            }
            let response = Body::from(object.to_string().into_bytes());
            Ok::<_, kube::Error>(Response::new(response))
        }
    });
    Client::new(service, "ns")
}

/// Attack: a caller sends many invented tokens once, or one invented token repeatedly, to flood the API server with
/// reviews.
#[tokio::test]
async fn invented_tokens_cause_few_reviews_and_lock_no_caller_out() {
    let fixture = Fixture::new().await;
    let (attacker, other_client) = ([127, 0, 0, 1], [127, 0, 0, 2]);
    // 409, since no key can unseal the object.
    assert_eq!(fixture.verify(attacker, "good-one").await, "409");
    let start = Instant::now();
    for i in 0..300 {
        let status = fixture.verify(attacker, &format!("invented-{i}")).await;
        assert!(["401", "429"].contains(&status.as_str()), "{status}");
        let status = fixture.verify(attacker, "invented-0").await;
        assert!(["401", "429"].contains(&status.as_str()), "{status}");
    }
    let max = 1 + 21 + 5 * (1 + start.elapsed().as_secs());
    let reviews = fixture.token_reviews.load(Ordering::Relaxed);
    assert!(reviews as u64 <= max, "{reviews} reviews, of {max}");
    assert_eq!(
        fixture.verify(attacker, "good-one").await,
        "409",
        "the token was accepted before"
    );
    assert_eq!(
        fixture.verify(other_client, "good-two").await,
        "409",
        "another address"
    );
}

/// Attack: callers send invented tokens from many addresses, to flood the API server with reviews.
#[tokio::test]
async fn invented_tokens_from_many_addresses_cause_a_bounded_number_of_reviews() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.verify([127, 0, 1, 1], "good-one").await, "409");
    let start = Instant::now();
    for i in 0..60 {
        for j in 0..10 {
            fixture
                .verify([127, 0, 0, i + 1], &format!("invented-{i}-{j}"))
                .await;
        }
    }
    let max = 1 + 101 + 20 * (1 + start.elapsed().as_secs());
    let reviews = fixture.token_reviews.load(Ordering::Relaxed);
    assert!(reviews as u64 <= max, "{reviews} reviews, of {max}");
    assert_eq!(
        fixture.verify([127, 0, 1, 1], "good-one").await,
        "409",
        "the token was accepted before"
    );
}

/// Attack: a caller sends a request of thousands of objects without items, to flood the API server with
/// `SubjectAccessReview` requests.
#[tokio::test]
async fn a_request_causes_a_limited_number_of_access_reviews_and_one_for_each_object() {
    let fixture = Fixture::new().await;
    let list = |names: &[String]| {
        let items: Vec<Value> = names
            .iter()
            .map(|name| {
                let mut object = object();
                object.metadata.name = Some(name.clone());
                object.spec.encrypted_data.clear();
                object.to_document()
            })
            .collect();
        json!({ "kind": "List", "apiVersion": "v1", "items": items }).to_string()
    };
    let names: Vec<String> = (0..3000).map(|i| format!("n{i}")).collect();
    let from = [127, 0, 0, 1];
    let status = fixture
        .post(from, "/v1/rotate", "good", &list(&names))
        .await;
    assert_eq!(status, "413");
    assert_eq!(fixture.access_reviews.load(Ordering::Relaxed), 0);
    let equal_names = vec!["n".to_owned(); 500];
    fixture
        .post(from, "/v1/rotate", "good", &list(&equal_names))
        .await;
    assert_eq!(fixture.access_reviews.load(Ordering::Relaxed), 1);
}
