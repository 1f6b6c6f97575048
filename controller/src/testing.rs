//! What unit tests share.

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

use controller_core::object_id::ObjectId;

/// An object in the namespace `ns`.
pub(crate) fn id(name: &str) -> ObjectId {
    ObjectId {
        namespace: "ns".into(),
        name: name.into(),
    }
}

/// A client of an API server that answers with code and body.
pub(crate) fn client(
    answer: impl Fn(&Method, &str) -> (u16, Value) + Send + Sync + 'static,
) -> Client {
    let service = service_fn(move |request: Request<Body>| {
        let (code, body) = answer(request.method(), request.uri().path());
        let body = Body::from(body.to_string().into_bytes());
        std::future::ready(Response::builder().status(code).body(body))
    });
    Client::new(service, "default")
}

/// The same, of one that reads what is sent: null if that is nothing.
pub(crate) fn client_with_bodies(
    answer: impl Fn(&str, Value) -> (u16, Value) + Send + Sync + 'static,
) -> Client {
    let answer = std::sync::Arc::new(answer);
    let service = service_fn(move |request: Request<Body>| {
        let answer = std::sync::Arc::clone(&answer);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap_or_default();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let (code, body) = answer(head.method.as_str(), body);
            let body = Body::from(body.to_string().into_bytes());
            Response::builder().status(code).body(body)
        }
    });
    Client::new(service, "default")
}

/// An answer that says no.
pub(crate) fn refusal(code: u16, message: &str) -> (u16, Value) {
    // By the word, not by the number, the client tells what is not there.
    let reason = if code == 404 { "NotFound" } else { "" };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message,
        "reason": reason,
    });
    (code, body)
}
