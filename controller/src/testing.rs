//! Helpers shared by unit tests.

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

use controller_core::object_id::ObjectId;

/// Returns the id of an object in the namespace `ns`.
pub(crate) fn id(name: &str) -> ObjectId {
    ObjectId {
        namespace: "ns".into(),
        name: name.into(),
    }
}

/// Returns a client of a simulated API server that responds with a status code and a body.
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

/// Returns an error response of an API server.
pub(crate) fn refusal(code: u16, message: &str) -> (u16, Value) {
    // The client recognizes a missing object by the reason, not by the code.
    let reason = if code == 404 { "NotFound" } else { "" };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message,
        "reason": reason,
    });
    (code, body)
}
