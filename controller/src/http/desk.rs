//! What callers from outside get of the private keys: little, and nothing that others wait for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::response::Response;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::bodies::{Bodies, Held};
use super::rate::{Rate, Standing};
use super::refused::Refused;

/// So long a request waits for its turn before it is sent away.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bounds for all callers together and for each.
#[derive(Debug)]
pub struct Desk {
    rate: Mutex<Rate>,
    places: Arc<Semaphore>,
    bodies: Bodies,
    /// Does `spec.data` open?
    pub(super) accept_legacy: bool,
}

impl Desk {
    /// `rate` requests a second and `burst` more for each caller. On the plain port he names himself,
    /// in `X-Forwarded-For`, which the API server's service proxy sets. Whatever he says, private
    /// keys work for callers on half of the processors at most, so that a flood delays no Secret.
    pub fn new((rate, burst): (u32, u32), time_for_body: Duration, accept_legacy: bool) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            rate: Mutex::new(Rate::new(rate, burst)),
            places: Arc::new(Semaphore::new((processors / 2).max(1))),
            bodies: Bodies::new(time_for_body),
            accept_legacy,
        }
    }

    /// Counts a request before anything of its body is read.
    pub(super) fn admit(
        &self,
        caller: &str,
        path: &str,
        now: Timestamp,
    ) -> (Ticket, Result<(), Refused>) {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = rate.ask(&format!("{caller} {path}"), now);
        let admitted = standing.retry.map_or(Ok(()), |s| Err(Refused::TooOften(s)));
        (Ticket(standing), admitted)
    }

    /// As [`Bodies::read`].
    pub(super) async fn read(&self, body: Body) -> Result<Held, Refused> {
        self.bodies.read(body).await
    }

    /// Runs work with private keys, if its turn comes soon.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let place = Arc::clone(&self.places).acquire_owned();
        let place = tokio::time::timeout(PATIENCE, place).await;
        let Ok(Ok(place)) = place else {
            return Err(Refused::TooOften(1));
        };
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        done.await.unwrap_or(Err(Refused::Failed))
    }
}

/// What a caller is told about his limit with every answer.
pub(super) struct Ticket(Standing);

impl Ticket {
    pub(super) fn mark(&self, mut response: Response) -> Response {
        let Standing {
            limit,
            remaining,
            reset,
            ..
        } = self.0;
        let headers = response.headers_mut();
        headers.insert("x-ratelimit-limit", limit.into());
        headers.insert("x-ratelimit-remaining", remaining.into());
        headers.insert("x-ratelimit-reset", HeaderValue::from(reset));
        response
    }
}
