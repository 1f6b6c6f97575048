//! Room for the bodies of all callers together: however many send however slowly, memory is bounded.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _, to_bytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::refused::Refused;

const KIBIBYTE: usize = 1024;
/// A SealedSecret is at most 1.5 MiB in a cluster; a list of them may be more.
const LONGEST: usize = 10 << 20;
/// Bytes of all bodies that are being read or worked on. Three of the longest fit, or five hundred
/// small ones.
const ROOM: usize = 32 << 20;
/// Every body takes so much, so that small ones have a bound too.
const LEAST: usize = 64 << 10;
/// So long a body waits for room before it is sent away.
const PATIENCE: Duration = Duration::from_secs(2);

/// The room.
#[derive(Debug)]
pub(super) struct Bodies {
    /// In kibibytes.
    room: Arc<Semaphore>,
    time: Duration,
}

/// A body, and the room that it takes.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Bodies {
    /// Each body has to be there after `time`.
    pub(super) fn new(time: Duration) -> Self {
        Self {
            room: Arc::new(Semaphore::new(ROOM / KIBIBYTE)),
            time,
        }
    }

    /// Reads a body, if it is neither too long nor too slow, and there is room for it.
    pub(super) async fn read(&self, body: Body) -> Result<Held, Refused> {
        let room = self.take(announced(&body)?).await?;
        match tokio::time::timeout(self.time, to_bytes(body, LONGEST)).await {
            Ok(Ok(bytes)) => Ok(Held { bytes, _room: room }),
            Ok(Err(error)) if is_too_long(&error) => Err(Refused::TooLong),
            Ok(Err(_)) => Err(Refused::Broken),
            Err(_) => Err(Refused::TooSlow),
        }
    }

    async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refused> {
        let kibibytes = u32::try_from(bytes.max(LEAST).div_ceil(KIBIBYTE));
        let kibibytes = kibibytes.map_err(|_| Refused::TooLong)?;
        let taken = Arc::clone(&self.room).acquire_many_owned(kibibytes);
        match tokio::time::timeout(PATIENCE, taken).await {
            Ok(Ok(room)) => Ok(room),
            _ => Err(Refused::TooOften(1)),
        }
    }
}

/// A body that does not say how long it is may be as long as any.
fn announced(body: &Body) -> Result<usize, Refused> {
    let Some(exact) = body.size_hint().exact() else {
        return Ok(LONGEST);
    };
    let bytes = usize::try_from(exact).unwrap_or(usize::MAX);
    if bytes > LONGEST {
        return Err(Refused::TooLong);
    }
    Ok(bytes)
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
