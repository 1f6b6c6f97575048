//! Tests the HTTP server over real sockets.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use shared::key_ring::{KeyRing, RingKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::KEYS;
use crate::support::server::start_server;

const TIMEOUT: Duration = Duration::from_mins(1);

#[tokio::test]
async fn responses_equal_those_of_upstream() {
    let server = start_server(TIMEOUT).await;
    let text = "content-type: text/plain; charset=utf-8";
    for (method, path, status, header, body) in [
        ("GET", "/healthz", "HTTP/1.1 200 OK", text, "ok\n"),
        ("HEAD", "/healthz", "HTTP/1.1 200 OK", text, ""),
        (
            "GET",
            "/readyz",
            "HTTP/1.1 503 Service Unavailable",
            text,
            "not ready\n",
        ),
        (
            "GET",
            "/v1/cert.pem",
            "HTTP/1.1 500 Internal Server Error",
            text,
            "cannot get certificate\n",
        ),
        (
            "GET",
            "/",
            "HTTP/1.1 404 Not Found",
            text,
            "404 page not found\n",
        ),
        (
            "GET",
            "/v1/cert.pem/",
            "HTTP/1.1 404 Not Found",
            text,
            "404 page not found\n",
        ),
        (
            "GET",
            "/v1/verify",
            "HTTP/1.1 405 Method Not Allowed",
            text,
            "405 method not allowed\n",
        ),
        (
            "POST",
            "/v1/cert.pem",
            "HTTP/1.1 405 Method Not Allowed",
            "allow: get,head",
            "405 method not allowed\n",
        ),
    ] {
        let response = server.request(method, path).await;
        assert_eq!(
            (response.0.as_str(), response.2.as_str()),
            (status, body),
            "{method} {path}"
        );
        assert!(
            response.1.contains(header),
            "{method} {path}: {}",
            response.1
        );
    }
    server.state.ready.store(true, Ordering::Release);
    assert_eq!(server.request("GET", "/readyz").await.2, "ok\n");
}

#[tokio::test]
async fn serves_the_certificate_of_the_current_newest_key() {
    let server = start_server(TIMEOUT).await;
    let ring_key_and_pem = |i: usize| {
        let pem = KEYS[i].pair.certificate().to_pem();
        let private = shared::key::PrivateKey::from_pem(KEYS[i].private_pem.expose()).unwrap();
        let certificate = shared::key::Certificate::from_pem(pem.as_bytes()).unwrap();
        let pair = shared::key::KeyPair::new(private, certificate).unwrap();
        let time = Timestamp::from_second(i64::try_from(i).unwrap()).unwrap();
        (Arc::new(RingKey::new(i.to_string(), time, pair)), pem)
    };
    let ((old, old_pem), (new, new_pem)) = (ring_key_and_pem(0), ring_key_and_pem(1));
    for (keys, want) in [(vec![old.clone()], old_pem), (vec![old, new], new_pem)] {
        server.ring.send_replace(Arc::new(KeyRing::new(keys)));
        let (status, headers, body) = server.request("GET", "/v1/cert.pem").await;
        assert_eq!((status.as_str(), body), ("HTTP/1.1 200 OK", want));
        assert!(
            headers.contains("content-type: application/x-pem-file"),
            "{headers}"
        );
    }
}

#[tokio::test]
async fn closes_a_connection_that_sends_no_complete_head_in_time() {
    let server = start_server(Duration::from_millis(100)).await;
    for start in ["", "GET /healthz HT"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        let read = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut response)).await;
        assert!(read.is_ok(), "{start:?} was not closed");
    }
}

#[tokio::test]
async fn the_server_stops_despite_open_connections() {
    let server = start_server(TIMEOUT).await;
    let idle = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(server.request("GET", "/healthz").await.2, "ok\n");
    server.end.send_replace(true);
    tokio::time::timeout(TIMEOUT, server.task)
        .await
        .unwrap()
        .unwrap();
    drop(idle);
}

/// Reads one response on a connection that may stay open. Returns its status, and whether it announces that the
/// connection closes.
async fn next_response(stream: &mut TcpStream) -> Option<(String, bool)> {
    let mut received = Vec::new();
    loop {
        let read = tokio::time::timeout(TIMEOUT, stream.read_buf(&mut received));
        if read.await.ok()?.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&received).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.split_once("content-length: ")?.1;
        let length: usize = length.lines().next()?.trim().parse().ok()?;
        if body.len() >= length {
            return Some((
                head.get(9..12)?.to_owned(),
                head.contains("connection: close"),
            ));
        }
    }
}

/// Sends the head of a request, and its body slightly later, as a proxy does.
async fn send_slowly(stream: &mut TcpStream, request: &str, announced: usize, sent: usize) {
    let head = format!("{request} HTTP/1.1\r\nHost: x\r\nContent-Length: {announced}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Ignore the error: the server may have closed the connection.
    let _ = stream.write_all(&vec![b' '; sent]).await;
}

/// If a connection closes without `Connection: close`, a proxy that sends its next request on the connection returns an
/// error to its caller.
#[tokio::test]
async fn after_an_early_response_the_connection_stays_open_or_its_close_is_announced() {
    const MEBIBYTE: usize = 1 << 20;
    let server = start_server(TIMEOUT).await;
    for (request, announced, sent, status, is_closing) in [
        ("POST /nowhere", 2000, 2000, "404", false),
        ("POST /nowhere", MEBIBYTE, MEBIBYTE, "404", false),
        ("POST /nowhere", MEBIBYTE, 10, "404", true),
        ("POST /v1/cert.pem", 2000, 2000, "405", false),
        ("GET /v1/verify", 2000, 2000, "405", false),
        ("GET /healthz", 2000, 2000, "200", false),
        ("POST /v1/verify", 11 * MEBIBYTE, 0, "413", true),
        ("POST /v1/verify", 2000, 2000, "400", false),
        ("POST /v1/rotate", 2000, 2000, "429", false),
        ("POST /v1/rotate", 11 * MEBIBYTE, 0, "429", true),
    ] {
        let case = format!("{request}, {sent} of {announced}");
        if status == "429" {
            for _ in 0..4 {
                server.request("POST", "/v1/rotate").await;
            }
        }
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        send_slowly(&mut stream, request, announced, sent).await;
        let response = next_response(&mut stream).await;
        assert_eq!(response, Some((status.to_owned(), is_closing)), "{case}");
        if !is_closing {
            send_slowly(&mut stream, "GET /healthz", 0, 0).await;
            let next = next_response(&mut stream).await;
            assert_eq!(next, Some(("200".into(), false)), "after {case}");
        }
    }
}
