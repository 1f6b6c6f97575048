//! Limits the memory for all request bodies together, however many callers send and however slowly.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::refused::Refused;

const KIBIBYTE: usize = 1024;
/// Maximum size of a body. A SealedSecret has at most 1.5 MiB in a cluster; a list of them can have more.
pub(super) const LONGEST: usize = 10 << 20;
/// Maximum of the received bytes of all bodies that are being read or processed.
const ROOM: usize = 4 * ROOM_OF_ONE;
/// The same for one address: its longest body fits.
const ROOM_OF_ONE: usize = LONGEST;
/// How long the next bytes of a body wait for memory before the request is refused.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a body may take while more than half of the memory is used, in total or by its address.
const HURRIED: Duration = Duration::from_secs(5);
/// How often this is checked for a body that is being received.
const CHECK: Duration = Duration::from_secs(1);

/// The memory for request bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    /// In kibibytes, like the semaphore of each address.
    all: Arc<Semaphore>,
    of_address: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
    time: Duration,
}

/// A body, and the memory reserved for it.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Vec<u8>,
    _room: Room,
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Bodies {
    /// Creates the limits. Each body must be complete after `time`.
    pub(super) fn new(time: Duration) -> Self {
        Self {
            all: Arc::new(Semaphore::new(ROOM / KIBIBYTE)),
            of_address: Mutex::default(),
            time,
        }
    }

    /// Reads a body from an address, unless it is too long or too slow, or no memory is free for it. Only
    /// received bytes use memory, not the announced length.
    pub(super) async fn read(&self, address: IpAddr, mut body: Body) -> Result<Held, Refused> {
        if body.size_hint().lower() > LONGEST as u64 {
            return Err(Refused::TooLong);
        }
        let (mut room, mut bytes) = (self.room(address), Vec::new());
        let start = Instant::now();
        while let Some(next) = self.next(&mut body, &room, start).await? {
            if bytes.len() + next.len() > LONGEST {
                return Err(Refused::TooLong);
            }
            room.take(next.len()).await?;
            bytes.extend_from_slice(&next);
        }
        Ok(Held { bytes, _room: room })
    }

    /// Returns the next bytes, or `None` at the end of the body.
    async fn next(
        &self,
        body: &mut Body,
        room: &Room,
        start: Instant,
    ) -> Result<Option<Bytes>, Refused> {
        loop {
            self.check(room, start.elapsed())?;
            match tokio::time::timeout(CHECK.min(self.time), body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(Refused::Broken),
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

    fn check(&self, room: &Room, elapsed: Duration) -> Result<(), Refused> {
        let time = if room.is_crowded() {
            self.time.min(HURRIED)
        } else {
            self.time
        };
        if elapsed < time {
            Ok(())
        } else {
            Err(Refused::TooSlow)
        }
    }

    fn room(&self, address: IpAddr) -> Room {
        let mut of_address = self
            .of_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let held = of_address.get(&address).and_then(Weak::upgrade);
        let own = held.unwrap_or_else(|| {
            of_address.retain(|_, room| room.strong_count() > 0);
            let own = Arc::new(Semaphore::new(ROOM_OF_ONE / KIBIBYTE));
            of_address.insert(address, Arc::downgrade(&own));
            own
        });
        Room {
            all: Arc::clone(&self.all),
            own,
            taken: Vec::new(),
            bytes: 0,
        }
    }
}

/// The memory reserved for one body.
#[derive(Debug)]
struct Room {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
    taken: Vec<OwnedSemaphorePermit>,
    /// How many bytes of the reserved kibibytes are used.
    bytes: usize,
}

impl Room {
    /// Reserves memory for more bytes.
    async fn take(&mut self, bytes: usize) -> Result<(), Refused> {
        let before = self.bytes.div_ceil(KIBIBYTE);
        self.bytes += bytes;
        let more = self.bytes.div_ceil(KIBIBYTE) - before;
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).map_err(|_| Refused::TooLong)?;
        let taken = async {
            for room in [&self.own, &self.all] {
                let permit = Arc::clone(room).acquire_many_owned(more).await;
                self.taken.push(permit.map_err(|_| Refused::Failed)?);
            }
            Ok(())
        };
        match tokio::time::timeout(PATIENCE, taken).await {
            Ok(taken) => taken,
            Err(_) => Err(Refused::TooOften(1)),
        }
    }

    fn is_crowded(&self) -> bool {
        let half = |whole: usize| whole / KIBIBYTE / 2;
        self.all.available_permits() < half(ROOM)
            || self.own.available_permits() < half(ROOM_OF_ONE)
    }
}
