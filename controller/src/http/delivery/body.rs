//! The body of a response with values, sent in chunks and within a time limit.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use tokio::task::JoinHandle;
use tracing::error;
use zeroize::Zeroizing;

use super::memory::Reservation;
use super::refused::DeliveryRefusal;
use crate::http::connections::Slot;

/// Time limit for sending a response. A connection that takes longer is closed, so that slow readers do not keep values
/// in memory.
const MAX_TIME: Duration = Duration::from_mins(1);
/// Maximum size of a chunk, which is copied into the buffers of its connection.
const CHUNK_SIZE: usize = 16 << 10;

/// The JSON body of a response, shared by all connections that send it.
#[derive(Debug)]
pub(super) struct PreparedBody {
    json: Zeroizing<Vec<u8>>,
    memory: Reservation,
}

impl PreparedBody {
    /// Refuses a body that is longer than the reserved memory, which is an internal error.
    pub(super) fn new(
        json: Zeroizing<Vec<u8>>,
        memory: Reservation,
    ) -> Result<Self, DeliveryRefusal> {
        if json.len() > memory.bytes() {
            error!("A response is longer than its reserved memory");
            return Err(DeliveryRefusal::TooLarge);
        }
        Ok(Self { json, memory })
    }

    /// Returns the reserved size in bytes, which does not depend on the values. Other tenants can observe what a cache
    /// of a limited size contains.
    pub(super) fn size(&self) -> usize {
        self.memory.bytes()
    }

    /// Returns whether a Pod of this namespace requested the response first.
    pub(super) fn is_of(&self, namespace: &str) -> bool {
        self.memory.is_of(namespace)
    }

    /// Returns a response with this body, on the connection that holds `slot`.
    pub(super) fn respond(self: Arc<Self>, slot: Arc<Slot>) -> Response {
        self.memory.add_connection(&slot);
        let limit = tokio::spawn(async move {
            tokio::time::sleep(MAX_TIME).await;
            slot.close();
        });
        let body = Parts {
            body: self,
            sent: 0,
            limit,
        };
        let headers = [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        (StatusCode::OK, headers, Body::new(body)).into_response()
    }
}

struct Parts {
    body: Arc<PreparedBody>,
    sent: usize,
    limit: JoinHandle<()>,
}

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let rest = &self.body.json[self.sent..];
        if rest.is_empty() {
            return Poll::Ready(None);
        }
        let chunk = Bytes::copy_from_slice(&rest[..rest.len().min(CHUNK_SIZE)]);
        self.sent += chunk.len();
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent == self.body.json.len()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.json.len() - self.sent;
        SizeHint::with_exact(rest as u64)
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.limit.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http_body_util::BodyExt as _;

    use super::*;
    use crate::http::connections::{Connections, Signals};
    use crate::http::delivery::memory::{Memory, Owner};

    fn response(len: usize) -> (Response, Signals) {
        let (slot, signals) = Connections::default()
            .admit(Ipv4Addr::LOCALHOST.into())
            .unwrap();
        let owner = Owner {
            namespace: "ns".into(),
            pod: "p".into(),
        };
        let (memory, _) = Memory::default().reserve(&owner, len).unwrap();
        let body = PreparedBody::new(Zeroizing::new(vec![b'x'; len]), memory).unwrap();
        (Arc::new(body).respond(Arc::new(slot)), signals)
    }

    async fn is_closed(signals: &Signals, after: u64) -> bool {
        let closed = tokio::time::timeout(Duration::from_secs(after), signals.closed.notified());
        closed.await.is_ok()
    }

    /// Attack: a caller reads its response at a byte a minute, so that the values stay in memory.
    #[tokio::test(start_paused = true)]
    async fn a_slowly_read_response_ends_with_its_connection() {
        let (response, signals) = response(100);
        assert!(!is_closed(&signals, 59).await);
        assert!(is_closed(&signals, 2).await);
        drop(response);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_arrives_completely_and_its_connection_stays_open() {
        for len in [1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE] {
            let (response, signals) = response(len);
            assert_eq!(response.body().size_hint().exact(), Some(len as u64));
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(bytes.len(), len);
            assert!(!is_closed(&signals, 600).await);
        }
    }

    /// Fault: a response is longer than expected, so that cached responses exceed the limit of the memory.
    #[test]
    fn a_body_longer_than_its_reserved_memory_is_refused() {
        let owner = Owner {
            namespace: "ns".into(),
            pod: "p".into(),
        };
        for (len, want) in [(100, None), (101, Some(DeliveryRefusal::TooLarge))] {
            let (memory, _) = Memory::default().reserve(&owner, 100).unwrap();
            let body = PreparedBody::new(Zeroizing::new(vec![b'x'; len]), memory);
            assert_eq!(body.err(), want, "{len}");
        }
    }
}
