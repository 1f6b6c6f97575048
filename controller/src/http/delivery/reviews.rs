//! Authenticates and authorizes callers, and caches the results for a short time.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use tokio::time::Instant;

use super::caller::Caller;
use super::refused::DeliveryRefusal;
use crate::http::audiences::expiry;
use crate::http::refusal::Refusal;
use crate::http::reviews::{Reviews, Verb};
use crate::http::tokens::Tokens;

/// How long a result is valid, unless the token expires earlier.
const MAX_AGE: Duration = Duration::from_secs(30);
/// How long a denied permission is valid: shorter, because the permission can be granted at any time.
const MAX_AGE_OF_REFUSAL: Duration = Duration::from_secs(5);
/// Maximum number of cached results of each kind.
const MAX_RESULTS: usize = 16_384;

/// SHA-256 of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenDigest([u8; 32]);

impl TokenDigest {
    fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

/// A caller whose token was accepted.
#[derive(Debug, Clone)]
pub(super) struct AuthenticatedCaller {
    /// The Pod of the token.
    pub(super) caller: Arc<Caller>,
    token: TokenDigest,
    /// When the token expires; `None` if it contains no such time.
    expires: Option<Instant>,
}

/// Reviews tokens and permissions, and caches the results.
#[derive(Debug)]
pub(super) struct CachedReviews {
    reviews: Reviews,
    tokens: Tokens,
    callers: Results<TokenDigest, Result<AuthenticatedCaller, DeliveryRefusal>>,
    permissions: Results<(TokenDigest, String), bool>,
    token_locks: TokenLocks,
}

impl CachedReviews {
    pub(super) fn new(reviews: Reviews) -> Self {
        Self {
            reviews,
            tokens: Tokens::for_pods(),
            callers: Results::default(),
            permissions: Results::default(),
            token_locks: TokenLocks::default(),
        }
    }

    /// Returns the Pod of a token. Ignores cached results of reviews that began before `since`.
    pub(super) async fn authenticate(
        &self,
        address: IpAddr,
        token: &str,
        since: Option<Instant>,
    ) -> Result<AuthenticatedCaller, DeliveryRefusal> {
        let token_digest = TokenDigest::of(token);
        let cached = || self.callers.get(&token_digest, since, Instant::now());
        if let Some(cached) = cached() {
            return cached;
        }
        // Concurrent requests with the same token wait for the first one, and use its result.
        let token_lock = self.token_locks.of(token_digest);
        let _guard = token_lock.lock().await;
        if let Some(cached) = cached() {
            return cached;
        }
        let allowed = self.tokens.check_review(address, token, Timestamp::now());
        allowed.map_err(|why| match why {
            Refusal::TooOften(seconds) => DeliveryRefusal::TooManyReviews(seconds),
            why => why.into(),
        })?;
        let began = Instant::now();
        let user = self.reviews.review_token(token).await;
        let user = user.map_err(|_| DeliveryRefusal::NoReview)?;
        let tokens = &self.tokens;
        tokens.record(address, token, user.is_some(), Timestamp::now());
        let expires = expiry_instant(token, Timestamp::now(), began);
        let caller = Caller::try_from(user.ok_or(DeliveryRefusal::Unauthenticated)?);
        let result = caller.map(|caller| AuthenticatedCaller {
            caller: Arc::new(caller),
            token: token_digest,
            expires,
        });
        let until = earliest(began + MAX_AGE, expires);
        self.callers.put(token_digest, result.clone(), began, until);
        result
    }

    /// Checks that the caller may unseal the object. Ignores cached results of reviews that began before `since`.
    pub(super) async fn authorize(
        &self,
        authenticated: &AuthenticatedCaller,
        object: &str,
        since: Option<Instant>,
    ) -> Result<(), DeliveryRefusal> {
        let key = (authenticated.token, object.to_owned());
        let cached = || self.permissions.get(&key, since, Instant::now());
        let is_allowed = if let Some(cached) = cached() {
            cached
        } else {
            let token_lock = self.token_locks.of(authenticated.token);
            let _guard = token_lock.lock().await;
            match cached() {
                Some(cached) => cached,
                None => self.review_permission(authenticated, key).await?,
            }
        };
        if is_allowed {
            return Ok(());
        }
        Err(DeliveryRefusal::Forbidden {
            account: authenticated.caller.account.clone(),
            object: object.to_owned(),
        })
    }

    async fn review_permission(
        &self,
        authenticated: &AuthenticatedCaller,
        key: (TokenDigest, String),
    ) -> Result<bool, DeliveryRefusal> {
        let began = Instant::now();
        let Caller {
            user, namespace, ..
        } = authenticated.caller.as_ref();
        let allowed = self
            .reviews
            .is_name_allowed(user, Verb::Unseal, namespace, &key.1)
            .await;
        let allowed = allowed.map_err(|_| DeliveryRefusal::NoReview)?;
        let age = if allowed { MAX_AGE } else { MAX_AGE_OF_REFUSAL };
        let until = earliest(began + age, authenticated.expires);
        self.permissions.put(key, allowed, began, until);
        Ok(allowed)
    }
}

/// A lock for each token under review, so that concurrent requests of one Pod cause a single review.
#[derive(Debug, Default)]
struct TokenLocks(Mutex<HashMap<TokenDigest, Weak<tokio::sync::Mutex<()>>>>);

impl TokenLocks {
    fn of(&self, token: TokenDigest) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(&token).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        locks.insert(token, Arc::downgrade(&lock));
        lock
    }
}

/// Returns when an accepted token expires; `None` if it contains no valid time.
fn expiry_instant(token: &str, now: Timestamp, instant: Instant) -> Option<Instant> {
    let remaining = expiry(token)?.duration_since(now);
    let remaining = Duration::try_from(remaining).unwrap_or_default();
    // A token that is valid for centuries does not expire.
    instant.checked_add(remaining)
}

fn earliest(time: Instant, limit: Option<Instant>) -> Instant {
    limit.map_or(time, |limit| time.min(limit))
}

/// Results by key, each with the time at which its review began, and the time until which the result is valid.
#[derive(Debug)]
struct Results<K, V>(Mutex<HashMap<K, (V, Instant, Instant)>>);

impl<K, V> Default for Results<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Results<K, V> {
    fn get(&self, key: &K, since: Option<Instant>, now: Instant) -> Option<V> {
        let results = self.lock();
        let (value, began, until) = results.get(key)?;
        let is_new = since.is_none_or(|since| *began >= since);
        (is_new && now < *until).then(|| value.clone())
    }

    fn put(&self, key: K, value: V, began: Instant, until: Instant) {
        let mut results = self.lock();
        if results.len() >= MAX_RESULTS {
            results.retain(|_, (_, _, until)| began < *until);
        }
        if results.len() >= MAX_RESULTS {
            results.clear();
        }
        results.insert(key, (value, began, until));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, (V, Instant, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::json;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Attack: an account uses a permission after it was revoked, or a token after it expired, because results are
    /// cached.
    #[tokio::test(start_paused = true)]
    async fn a_result_is_valid_for_a_limited_time_and_only_if_its_review_is_recent() {
        let start = Instant::now();
        let results = Results::default();
        results.put("k", 1, start, start + seconds(30));
        for (since, now, want) in [
            (None, 0, Some(1)),
            (None, 29, Some(1)),
            (None, 30, None),
            (Some(0), 1, Some(1)),
            (Some(1), 1, None),
        ] {
            let since = since.map(|since| start + seconds(since));
            assert_eq!(
                results.get(&"k", since, start + seconds(now)),
                want,
                "{since:?} {now}"
            );
        }
        assert_eq!(results.get(&"other", None, start), None);
    }

    /// Attack: a caller uses an expired token, because the result of its review is cached.
    #[tokio::test(start_paused = true)]
    async fn no_result_outlives_the_token() {
        let (start, now) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let token = |expiry: i64| {
            let claims = shared::base64::encode(json!({ "exp": expiry }).to_string().as_bytes());
            format!("e30.{}.c2ln", claims.trim_end_matches('='))
        };
        for (expiry, want) in [(10, Some(10)), (0, Some(0)), (-5, Some(0))] {
            let want = want.map(|want| start + seconds(want));
            assert_eq!(expiry_instant(&token(expiry), now, start), want, "{expiry}");
        }
        assert_eq!(expiry_instant("no-json-web-token", now, start), None);
        let tomorrow = now + SignedDuration::from_hours(24);
        let far = expiry_instant(&token(tomorrow.as_second()), now, start);
        assert_eq!(earliest(start + MAX_AGE, far), start + MAX_AGE);
        assert_eq!(earliest(start + MAX_AGE, None), start + MAX_AGE);
        let near = Some(start + seconds(3));
        assert_eq!(earliest(start + MAX_AGE, near), start + seconds(3));
    }

    /// Attack: a caller sends requests with many tokens to exhaust the memory.
    #[tokio::test(start_paused = true)]
    async fn the_number_of_results_is_bounded() {
        let (results, start) = (Results::default(), Instant::now());
        for i in 0..2 * MAX_RESULTS {
            results.put(i, (), start, start + seconds(30));
            assert!(results.lock().len() <= MAX_RESULTS);
        }
    }
}
