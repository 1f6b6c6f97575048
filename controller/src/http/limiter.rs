//! Limits the private-key work for HTTP callers and shares it fairly between them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use controller_core::author_limits::AuthorLimits;
use jiff::Timestamp;
use shared::meter::Meter;

use super::bodies::{Bodies, ReceivedBody};
use super::rate::{LimitState, Rate};
use super::refusal::Refusal;
use crate::pool::{Budget, Pool};
use fair::{Job, Slot, Slots};

/// How long a request waits for a slot before it is refused.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Maximum number of requests in progress. The work of each request has a thread, and the threads share the processors
/// in time slices of milliseconds.
const SLOTS: usize = 32;
/// Number of slots that are reserved for tenants without a slot.
const RESERVED: usize = 8;
/// Maximum number of requests of one caller that are in progress or wait for a slot.
const MAX_PER_CALLER: usize = 4;
/// The budget of one request: enough for 1000 items, each tried with six keys of 4096 bits.
const REQUEST_BUDGET: Budget = Budget::seconds(10);
/// Maximum time for which work or a wait occupies a slot, including the turns of other requests.
const DEADLINE: Duration = Duration::from_secs(30);

/// The caller of a request.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The identity that the caller cannot choose freely: the address of the connection, or the user that the API
    /// server authenticated. Each tenant gets a fair share.
    tenant: String,
    /// Distinguishes callers of the same tenant, for the rate limit. A caller that invents a name gains nothing from
    /// the shares of other tenants, and does not use up the rate of other callers.
    name: String,
}

impl Caller {
    /// Identifies a caller by its address and the last entry of `X-Forwarded-For`, which the last proxy wrote; the
    /// caller itself can choose the entries before. The address is included, since otherwise a caller that connects
    /// directly could send the name of a caller behind the API server, and use up that caller's rate.
    pub(super) fn from_address(address: IpAddr, headers: &HeaderMap) -> Self {
        let forwarded = headers.get_all("x-forwarded-for").into_iter().next_back();
        let forwarded = forwarded.and_then(|value| value.to_str().ok());
        let last = forwarded.and_then(|text| text.rsplit(',').next());
        let last = last.unwrap_or_default().trim().to_ascii_lowercase();
        Self {
            tenant: address.to_string(),
            name: format!("{address} {last}"),
        }
    }

    /// Identifies a user whose token the API server has reviewed.
    pub(super) fn from_user(name: &str) -> Self {
        Self {
            tenant: name.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// The limits for all callers together and for each caller.
#[derive(Debug)]
pub struct RequestLimiter {
    rate: Mutex<Rate>,
    in_progress: Arc<InProgress>,
    slots: Slots,
    pool: Pool,
    bodies: Bodies,
    accepted: AcceptanceRules,
}

/// The requirements of the endpoints for an object.
#[derive(Debug, Clone, Default)]
pub(super) struct AcceptanceRules {
    /// Whether the deprecated `spec.data` is accepted.
    pub(super) legacy: bool,
    /// The author limits. Those on formats, scopes and key ages apply.
    pub(super) limits: Arc<AuthorLimits>,
}

impl RequestLimiter {
    /// Creates limits of `rate` requests per second and a burst of `burst` more for each caller. Private-key work for
    /// all callers of this limiter together uses at most half of the processors (at least one), regardless of the names
    /// that callers send, and each tenant gets a fair share.
    pub fn new((rate, burst): (u32, u32), body_timeout: Duration, accept_legacy: bool) -> Self {
        Self {
            rate: Mutex::new(Rate::new(rate, burst)),
            in_progress: Arc::default(),
            slots: Slots::reserving(SLOTS, RESERVED),
            pool: Pool::for_callers(),
            bodies: Bodies::new(body_timeout),
            accepted: AcceptanceRules {
                legacy: accept_legacy,
                ..AcceptanceRules::default()
            },
        }
    }

    /// Sets the author limits that apply to the objects of requests.
    #[must_use]
    pub fn with_author_limits(mut self, limits: Arc<AuthorLimits>) -> Self {
        self.accepted.limits = limits;
        self
    }

    /// Returns the requirements of the endpoints for an object.
    pub(super) fn accepted(&self) -> AcceptanceRules {
        self.accepted.clone()
    }

    /// Counts a request, before its body is read, against the caller's rate limit for this path.
    pub(super) fn admit(
        &self,
        caller: &Caller,
        path: &str,
        now: Timestamp,
    ) -> (Ticket, Result<(), Refusal>) {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let state = rate.count_request(&format!("{} {path}", caller.name), now);
        let admission = state.retry.map_or(Ok(()), |s| Err(Refusal::TooOften(s)));
        (Ticket(state), admission)
    }

    /// Reads a body; see [`Bodies::read`].
    pub(super) async fn read(&self, address: IpAddr, body: Body) -> Result<ReceivedBody, Refusal> {
        self.bodies.read(address, body).await
    }

    /// Runs work with private keys. Refuses the work if the caller already has [`MAX_PER_CALLER`] requests, or if no
    /// slot becomes free within [`MAX_WAIT`]. The work ends when its budget or its time is used up, and when the caller
    /// disconnects.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        caller: &Caller,
        work: impl FnOnce(&mut dyn Meter) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let _slot = self.acquire_slot(caller).await?;
        let work = self.pool.work_for(&caller.tenant, REQUEST_BUDGET, work);
        match tokio::time::timeout(DEADLINE, work).await {
            Ok(result) => result.unwrap_or(Err(Refusal::Failed)),
            Err(_) => Err(Refusal::TooBusy),
        }
    }

    /// Awaits `response` in one of the caller's slots, for at most [`DEADLINE`].
    pub(super) async fn wait<T>(
        &self,
        caller: &Caller,
        response: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let _slot = self.acquire_slot(caller).await?;
        let response = tokio::time::timeout(DEADLINE, response).await;
        response.unwrap_or(Err(Refusal::TooBusy))
    }

    async fn acquire_slot(&self, caller: &Caller) -> Result<RequestSlot, Refusal> {
        let counted =
            InProgress::enter(&self.in_progress, &caller.name).ok_or(Refusal::TooOften(1))?;
        let slot = self.slots.enqueue(&mut Job::new(&caller.tenant));
        match tokio::time::timeout(MAX_WAIT, slot).await {
            Ok(Ok(slot)) => {
                self.slots.charge(&caller.tenant, 1);
                Ok(RequestSlot {
                    _counted: counted,
                    _slot: slot,
                })
            }
            _ => Err(Refusal::TooOften(1)),
        }
    }
}

/// A slot, held while a request is in progress.
struct RequestSlot {
    _counted: CountedRequest,
    _slot: Slot,
}

/// The number of requests of each caller that are in progress or wait for a slot.
#[derive(Debug, Default)]
struct InProgress(Mutex<HashMap<String, usize>>);

/// A counted request; decrements the count when dropped.
struct CountedRequest {
    in_progress: Arc<InProgress>,
    name: String,
}

impl InProgress {
    fn enter(in_progress: &Arc<Self>, name: &str) -> Option<CountedRequest> {
        let mut callers = in_progress.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = callers.entry(name.to_owned()).or_default();
        if *count >= MAX_PER_CALLER {
            return None;
        }
        *count += 1;
        Some(CountedRequest {
            in_progress: Arc::clone(in_progress),
            name: name.to_owned(),
        })
    }
}

impl Drop for CountedRequest {
    fn drop(&mut self) {
        let mut callers = self
            .in_progress
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = callers.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                callers.remove(&self.name);
            }
        }
    }
}

/// The state of the caller's rate limit, for the headers of the response.
pub(super) struct Ticket(LimitState);

impl Ticket {
    /// Adds the state to a response, in the `X-RateLimit-*` headers.
    pub(super) fn add_headers(&self, mut response: Response) -> Response {
        let LimitState {
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

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const API_SERVER: [u8; 4] = [10, 0, 0, 1];
    const POD: [u8; 4] = [10, 0, 9, 9];

    fn caller(address: [u8; 4], forwarded: &[&str]) -> Caller {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        Caller::from_address(address.into(), &headers)
    }

    fn limiter() -> RequestLimiter {
        RequestLimiter::new((1, 0), Duration::from_secs(1), true)
    }

    /// Attack: a caller sends the name of another caller in `X-Forwarded-For`, and sends requests until the other
    /// caller is locked out.
    #[test]
    fn a_forged_name_does_not_use_up_the_rate_of_another_caller() {
        let victim = caller(API_SERVER, &["192.0.2.7"]);
        for (case_name, forged) in [
            ("directly to the port", caller(POD, &["192.0.2.7"])),
            (
                "through the API server, which adds the real address",
                caller(API_SERVER, &["192.0.2.7, 192.0.2.66"]),
            ),
            (
                "through the API server, in two headers",
                caller(API_SERVER, &["192.0.2.7", "192.0.2.66"]),
            ),
            ("without a name", caller(API_SERVER, &[])),
        ] {
            let limiter = limiter();
            let now = Timestamp::UNIX_EPOCH;
            for _ in 0..100 {
                let _ = limiter.admit(&forged, "/v1/verify", now);
            }
            let (_, admission) = limiter.admit(&victim, "/v1/verify", now);
            assert_eq!(admission, Ok(()), "{case_name}");
        }
    }

    /// Attack: a caller sends a different address in X-Forwarded-For with each request, to exceed its rate.
    #[test]
    fn invented_names_before_the_real_address_count_as_one_caller() {
        let limiter = RequestLimiter::new((1, 2), Duration::from_secs(1), true);
        let is_admitted = |i: usize| {
            let caller = caller(API_SERVER, &[&format!("invented-{i}, 192.0.2.66")]);
            let (_, admission) = limiter.admit(&caller, "/v1/verify", Timestamp::UNIX_EPOCH);
            admission.is_ok()
        };
        assert_eq!((0..100).filter(|i| is_admitted(*i)).count(), 3);
    }

    /// Attack: a caller sends as many requests as possible at the same time, under many names, to occupy every slot.
    #[tokio::test(start_paused = true)]
    async fn limits_the_slots_of_each_caller_and_each_address() {
        let limiter = limiter();
        let first_caller = caller(POD, &["a"]);
        let mut slots = Vec::new();
        for _ in 0..MAX_PER_CALLER {
            slots.push(limiter.acquire_slot(&first_caller).await.unwrap());
        }
        assert_eq!(
            limiter.acquire_slot(&first_caller).await.err(),
            Some(Refusal::TooOften(1))
        );
        for i in 0..100 {
            let invented = caller(POD, &[&format!("name-{i}")]);
            slots.extend(limiter.acquire_slot(&invented).await);
        }
        assert_eq!(slots.len(), SLOTS - RESERVED);
        let other_caller = caller(API_SERVER, &["192.0.2.7"]);
        assert!(limiter.acquire_slot(&other_caller).await.is_ok());
        drop(slots);
        assert!(limiter.acquire_slot(&first_caller).await.is_ok());
        assert!(limiter.in_progress.0.lock().unwrap().is_empty());
    }

    /// Attack: a caller sends a request whose work never ends, to occupy a processor.
    #[tokio::test]
    async fn a_request_ends_when_its_budget_is_used_up() {
        let work =
            |meter: &mut dyn Meter| Ok((0..11).filter(|_| meter.spend(1_000_000).is_ok()).count());
        let completed = limiter().work(&caller(POD, &[]), work).await;
        assert_eq!(completed, Ok(10));
    }

    /// Attack: a caller sends a request whose work does not end, at little stated cost, to keep its slot.
    #[tokio::test(start_paused = true)]
    async fn the_work_of_a_request_ends_at_the_deadline() {
        let limiter = limiter();
        let caller = caller(POD, &[]);
        let start = Instant::now();
        let work = limiter.work(&caller, |meter| {
            while meter.spend(0).is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        // The paused clock does not advance by itself while a thread works.
        let clock = async {
            while start.elapsed() < 2 * DEADLINE {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            Ok(())
        };
        let result = tokio::select! {
            biased;
            result = work => result,
            result = clock => result,
        };
        assert_eq!(result, Err(Refusal::TooBusy));
        assert!(start.elapsed() >= DEADLINE);
    }

    /// Attack: a caller requests a response that never comes, to keep its slot.
    #[tokio::test(start_paused = true)]
    async fn a_request_waits_until_the_deadline_at_most() {
        let limiter = limiter();
        let caller = caller(POD, &[]);
        let start = Instant::now();
        let response = std::future::pending::<Result<(), Refusal>>();
        let result = limiter.wait(&caller, response).await;
        assert_eq!(result, Err(Refusal::TooBusy));
        assert_eq!(start.elapsed(), DEADLINE);
        assert!(limiter.acquire_slot(&caller).await.is_ok());
    }

    /// Attack: callers at many addresses keep every slot, so that the requests of others wait without end.
    #[tokio::test(start_paused = true)]
    async fn a_request_is_refused_if_no_slot_becomes_free() {
        let limiter = limiter();
        let mut slots = Vec::new();
        for i in 0..SLOTS {
            let address = [10, 0, 8, u8::try_from(i).unwrap()];
            let slot = limiter.acquire_slot(&caller(address, &[])).await;
            slots.push(slot.unwrap());
        }
        let start = Instant::now();
        let result = limiter.work(&caller(POD, &[]), |_| Ok(())).await;
        assert_eq!(result, Err(Refusal::TooOften(1)));
        assert_eq!(start.elapsed(), MAX_WAIT);
    }
}
