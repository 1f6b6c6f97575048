//! A simulated API server for the unit tests of this crate and of crates that enable its feature `testing`.

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

/// Returns a client of a simulated API server; `response` returns the status code and the body of each response.
pub fn client(response: impl Fn(&Method, &str) -> (u16, Value) + Send + Sync + 'static) -> Client {
    let service = service_fn(move |request: Request<Body>| {
        let (code, body) = response(request.method(), request.uri().path());
        let body = Body::from(body.to_string().into_bytes());
        std::future::ready(Response::builder().status(code).body(body))
    });
    Client::new(service, "default")
}

/// Like [`client`], but `response` receives the method and the request body (null if it is not JSON).
pub fn client_with_bodies(
    response: impl Fn(&str, Value) -> (u16, Value) + Send + Sync + 'static,
) -> Client {
    let response = std::sync::Arc::new(response);
    let service = service_fn(move |request: Request<Body>| {
        let response = std::sync::Arc::clone(&response);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap_or_default();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let (code, body) = response(head.method.as_str(), body);
            let body = Body::from(body.to_string().into_bytes());
            Response::builder().status(code).body(body)
        }
    });
    Client::new(service, "default")
}

/// Returns an error response of an API server.
pub fn refusal(code: u16, message: &str) -> (u16, Value) {
    // The client recognizes a missing object by the reason, not by the code.
    let reason = if code == 404 { "NotFound" } else { "" };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message,
        "reason": reason,
    });
    (code, body)
}
