//! Reads the rest of a request's body after the response is decided.
//!
//! If a connection closes while its client still sends, the client may lose the response, and a proxy that considers
//! the connection idle may lose the next request. The rest of a body is therefore read, within limits, before the
//! response is sent.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Frame, SizeHint};

use super::bodies::MAX_BODY;
use super::connections::Slot;

/// Time limit for the rest of a body.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A body that can still be read after its reader has dropped it.
#[derive(Debug, Clone)]
pub(super) struct DrainableBody(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    body: Body,
    is_complete: bool,
    slot: Arc<Slot>,
}

impl State {
    /// Records that the client has sent the complete request.
    fn set_complete(&mut self) {
        self.is_complete = true;
        self.slot.record_request();
    }
}

impl DrainableBody {
    /// Wraps the body of a request on the connection that holds `slot`.
    pub(super) fn new(body: Body, slot: Arc<Slot>) -> Self {
        let is_complete = body.is_end_stream();
        let mut state = State {
            body,
            is_complete,
            slot,
        };
        if is_complete {
            state.set_complete();
        }
        Self(Arc::new(Mutex::new(state)))
    }

    /// Returns whether the body was read completely.
    pub(super) fn is_complete(&self) -> bool {
        self.state().is_complete
    }

    /// Reads and discards the rest of the body. Returns whether the body is complete: false if the rest is too long,
    /// too slow or broken.
    pub(super) async fn drain(self) -> bool {
        if self.is_complete() {
            return true;
        }
        if self.size_hint().lower() > MAX_BODY as u64 {
            return false;
        }
        let mut limited = Limited::new(self, MAX_BODY);
        let read_rest = async {
            loop {
                match limited.frame().await {
                    None => return true,
                    Some(Err(_)) => return false,
                    Some(Ok(_)) => {}
                }
            }
        };
        tokio::time::timeout(TIMEOUT, read_rest)
            .await
            .unwrap_or(false)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for DrainableBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut state = self.state();
        if state.is_complete {
            return Poll::Ready(None);
        }
        let next = Pin::new(&mut state.body).poll_frame(context);
        if matches!(next, Poll::Ready(None)) || state.body.is_end_stream() {
            state.set_complete();
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.is_complete()
    }

    fn size_hint(&self) -> SizeHint {
        self.state().body.size_hint()
    }
}
