//! Limits the memory of all request bodies together, for any number of callers and at any speed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::refusal::Refusal;

const KIBIBYTE: usize = 1024;
/// Maximum size of a body. A SealedSecret has at most 1.5 MiB in a cluster; a list can be larger.
pub(super) const MAX_BODY: usize = 10 << 20;
/// Maximum number of received bytes of all bodies that are being read or processed.
const MAX_BYTES: usize = 4 * MAX_BYTES_PER_ADDRESS;
/// Maximum number of received bytes of the bodies of one address. The largest body fits.
const MAX_BYTES_PER_ADDRESS: usize = MAX_BODY;
/// How long a body waits for memory for its next bytes before the request is refused.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Time limit for a body while more than half of the memory is in use, in total or by the client's address.
const CROWDED_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval at which the time limit of a body is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The memory for request bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    /// Unreserved memory in kibibytes, like the semaphore of each address.
    total: Arc<Semaphore>,
    by_address: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
    timeout: Duration,
}

/// A received body, with the memory reserved for it.
#[derive(Debug)]
pub(super) struct ReceivedBody {
    bytes: Vec<u8>,
    _reservation: Reservation,
}

impl Deref for ReceivedBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Bodies {
    /// Creates the memory limits. Each body must be received completely within `timeout`.
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            total: Arc::new(Semaphore::new(MAX_BYTES / KIBIBYTE)),
            by_address: Mutex::default(),
            timeout,
        }
    }

    /// Reads a body from an address, unless the body is too long or too slow, or no memory is free. Only received bytes
    /// count as used memory, not the announced length.
    pub(super) async fn read(&self, address: IpAddr, body: Body) -> Result<ReceivedBody, Refusal> {
        self.read_at_most(MAX_BODY, address, body).await
    }

    /// Like [`Self::read`], with a different limit for the length.
    pub(super) async fn read_at_most(
        &self,
        max_body: usize,
        address: IpAddr,
        mut body: Body,
    ) -> Result<ReceivedBody, Refusal> {
        if body.size_hint().lower() > max_body as u64 {
            return Err(Refusal::TooLong);
        }
        let (mut reservation, mut bytes) = (self.reservation(address), Vec::new());
        let start = Instant::now();
        while let Some(next) = self.next_bytes(&mut body, &reservation, start).await? {
            if bytes.len() + next.len() > max_body {
                return Err(Refusal::TooLong);
            }
            reservation.reserve(next.len()).await?;
            bytes.extend_from_slice(&next);
        }
        Ok(ReceivedBody {
            bytes,
            _reservation: reservation,
        })
    }

    /// Returns the next bytes, or `None` at the end of the body.
    async fn next_bytes(
        &self,
        body: &mut Body,
        reservation: &Reservation,
        start: Instant,
    ) -> Result<Option<Bytes>, Refusal> {
        loop {
            self.check_time(reservation, start.elapsed())?;
            match tokio::time::timeout(CHECK_INTERVAL.min(self.timeout), body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(Refusal::Broken),
                // A frame without data contains trailers.
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => return Ok(Some(bytes)),
                    Err(_) => return Ok(None),
                },
                // Nothing arrived; check the time limit again.
                Err(_) => {}
            }
        }
    }

    fn check_time(&self, reservation: &Reservation, elapsed: Duration) -> Result<(), Refusal> {
        let time = if reservation.is_crowded() {
            self.timeout.min(CROWDED_TIMEOUT)
        } else {
            self.timeout
        };
        if elapsed < time {
            Ok(())
        } else {
            Err(Refusal::TooSlow)
        }
    }

    fn reservation(&self, address: IpAddr) -> Reservation {
        let mut by_address = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let existing = by_address.get(&address).and_then(Weak::upgrade);
        let own = existing.unwrap_or_else(|| {
            by_address.retain(|_, reservation| reservation.strong_count() > 0);
            let own = Arc::new(Semaphore::new(MAX_BYTES_PER_ADDRESS / KIBIBYTE));
            by_address.insert(address, Arc::downgrade(&own));
            own
        });
        Reservation {
            total: Arc::clone(&self.total),
            own,
            permits: Vec::new(),
            bytes: 0,
        }
    }
}

/// The memory reserved for one body.
#[derive(Debug)]
struct Reservation {
    total: Arc<Semaphore>,
    own: Arc<Semaphore>,
    permits: Vec<OwnedSemaphorePermit>,
    /// Number of received bytes; the reservation is rounded up to kibibytes.
    bytes: usize,
}

impl Reservation {
    /// Reserves memory for more bytes. Refuses the request if no memory becomes free within [`MAX_WAIT`].
    async fn reserve(&mut self, bytes: usize) -> Result<(), Refusal> {
        let before = self.bytes.div_ceil(KIBIBYTE);
        self.bytes += bytes;
        let additional = self.bytes.div_ceil(KIBIBYTE) - before;
        if additional == 0 {
            return Ok(());
        }
        let additional = u32::try_from(additional).map_err(|_| Refusal::TooLong)?;
        let permits = async {
            for reservation in [&self.own, &self.total] {
                let permit = Arc::clone(reservation).acquire_many_owned(additional).await;
                self.permits.push(permit.map_err(|_| Refusal::Failed)?);
            }
            Ok(())
        };
        match tokio::time::timeout(MAX_WAIT, permits).await {
            Ok(permits) => permits,
            Err(_) => Err(Refusal::TooOften(1)),
        }
    }

    fn is_crowded(&self) -> bool {
        let half = |bytes: usize| bytes / KIBIBYTE / 2;
        self.total.available_permits() < half(MAX_BYTES)
            || self.own.available_permits() < half(MAX_BYTES_PER_ADDRESS)
    }
}
