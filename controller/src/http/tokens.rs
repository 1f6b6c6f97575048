//! Limits the reviews of callers' tokens: each review is a request to the API server, and any client can invent tokens.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::rate::Rate;
use super::refusal::Refusal;

/// Limit for reviews of unknown tokens from one address: rate per second and burst.
const PER_ADDRESS: (u32, u32) = (5, 20);
/// Limit for reviews of unknown tokens from all addresses together: rate per second and burst.
const TOTAL: (u32, u32) = (20, 100);
/// Further reviews of unknown tokens from addresses that sent an accepted token within [`ACCEPTED_FOR`]: rate per
/// second and burst. Without them, invented tokens from many addresses would exclude all callers with a new token.
const RESERVED: (u32, u32) = (5, 25);
/// Maximum number of stored digests of accepted tokens, and of refused tokens.
const MAX_TOKENS: usize = 4096;
/// How long a refused token is refused without another review. A token may become valid later.
const REFUSED_FOR: SignedDuration = SignedDuration::from_secs(10);
/// Limit for reviews of unknown tokens of Pods from one address: a node can start hundreds of Pods, and the CSI
/// provider sends all of their tokens.
const PODS_PER_ADDRESS: (u32, u32) = (20, 500);
/// Limit for reviews of unknown tokens of Pods from all addresses together. Each review takes the API server a few
/// milliseconds, and at most 16 reviews are in progress at a time.
const PODS_TOTAL: (u32, u32) = (50, 2_000);
/// Like [`RESERVED`], for tokens of Pods.
const PODS_RESERVED: (u32, u32) = (20, 500);
/// How long a refused token of a Pod is refused without another review.
const PODS_REFUSED_FOR: SignedDuration = SignedDuration::from_secs(5);
/// How long an accepted token is exempt from the limits. This does not replace its review.
const ACCEPTED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// The results of earlier reviews. Only a keyed digest of each token is stored.
#[derive(Debug)]
pub(super) struct Tokens {
    hasher: RandomState,
    refused_for: SignedDuration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    per_address: Rate,
    total: Rate,
    reserved: Rate,
    /// Addresses that sent an accepted token.
    addresses: Digests,
    refused: Digests,
    accepted: Digests,
}

/// Digests of tokens or addresses, with the time at which each expires.
#[derive(Debug, Default)]
struct Digests(HashMap<u64, Timestamp>);

impl Default for Tokens {
    fn default() -> Self {
        Self::new(PER_ADDRESS, TOTAL, RESERVED, REFUSED_FOR)
    }
}

impl Tokens {
    /// Returns the limits for tokens of Pods.
    pub(super) fn for_pods() -> Self {
        Self::new(
            PODS_PER_ADDRESS,
            PODS_TOTAL,
            PODS_RESERVED,
            PODS_REFUSED_FOR,
        )
    }

    fn new(
        per_address: (u32, u32),
        total: (u32, u32),
        reserved: (u32, u32),
        refused_for: SignedDuration,
    ) -> Self {
        let rate = |(rate, burst)| Rate::new(rate, burst);
        Self {
            hasher: RandomState::new(),
            refused_for,
            state: Mutex::new(State {
                per_address: rate(per_address),
                total: rate(total),
                reserved: rate(reserved),
                addresses: Digests::default(),
                refused: Digests::default(),
                accepted: Digests::default(),
            }),
        }
    }

    /// Returns an error if this token must not be reviewed now: it was refused recently, or a limit is reached.
    pub(super) fn check_review(
        &self,
        address: IpAddr,
        token: &str,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let digest = self.hasher.hash_one(token);
        let mut state = self.state();
        if state.accepted.contains(digest, now) {
            return Ok(());
        }
        if state.refused.contains(digest, now) {
            return Err(Refusal::Unauthenticated);
        }
        let is_known = state.addresses.contains(self.hasher.hash_one(address), now);
        let retry = state.count_review(address, is_known, now);
        retry.map_or(Ok(()), |seconds| Err(Refusal::TooOften(seconds)))
    }

    /// Records the result of a review.
    pub(super) fn record(&self, address: IpAddr, token: &str, is_accepted: bool, now: Timestamp) {
        let digest = self.hasher.hash_one(token);
        let mut state = self.state();
        if is_accepted {
            let address = self.hasher.hash_one(address);
            state.addresses.insert(address, ACCEPTED_FOR, now);
            state.accepted.insert(digest, ACCEPTED_FOR, now);
        } else {
            state.accepted.0.remove(&digest);
            state.refused.insert(digest, self.refused_for, now);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts the review of an unknown token. Returns the seconds until the next review is allowed; `None` if this one
    /// is.
    fn count_review(&mut self, address: IpAddr, is_known: bool, now: Timestamp) -> Option<i64> {
        let address = self.per_address.count_request(&address.to_string(), now);
        if address.retry.is_some() {
            return address.retry;
        }
        let retry = self.total.count_request("", now).retry?;
        let is_reserved = is_known && self.reserved.count_request("", now).retry.is_none();
        (!is_reserved).then_some(retry)
    }
}

impl Digests {
    fn contains(&self, digest: u64, now: Timestamp) -> bool {
        self.0.get(&digest).is_some_and(|until| now < *until)
    }

    fn insert(&mut self, digest: u64, time: SignedDuration, now: Timestamp) {
        if self.0.len() >= MAX_TOKENS {
            self.0.retain(|_, until| now < *until);
        }
        if self.0.len() >= MAX_TOKENS {
            self.0.clear();
        }
        let until = now.saturating_add(time).unwrap_or(Timestamp::MAX);
        self.0.insert(digest, until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(i: u8) -> IpAddr {
        [10, 0, 0, i].into()
    }

    fn timestamp(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_refused_token_is_reviewed_again_after_a_pause_and_an_accepted_token_each_time() {
        let tokens = Tokens::default();
        for _ in 0..1000 {
            assert_eq!(
                tokens.check_review(address(1), "accepted", timestamp(0)),
                Ok(())
            );
            tokens.record(address(1), "accepted", true, timestamp(0));
        }
        tokens.record(address(1), "refused", false, timestamp(0));
        let refused = |now| tokens.check_review(address(1), "refused", timestamp(now));
        assert_eq!(refused(9), Err(Refusal::Unauthenticated));
        assert_eq!(refused(10), Ok(()));
        tokens.record(address(1), "accepted", false, timestamp(20));
        let accepted = tokens.check_review(address(1), "accepted", timestamp(20));
        assert_eq!(accepted, Err(Refusal::Unauthenticated), "it was revoked");
    }

    /// Attack: callers invent tokens, from one address and from many, to flood the API server with reviews.
    #[test]
    fn reviews_of_invented_tokens_are_limited_per_address_and_in_total() {
        for (tokens, per_address, all) in [
            (Tokens::default(), 21, 101),
            (Tokens::for_pods(), 501, 2_001),
        ] {
            let reviews = |address: IpAddr| {
                let token = |i: u32| format!("{address} {i}");
                let is_allowed = |i: &u32| {
                    tokens
                        .check_review(address, &token(*i), timestamp(0))
                        .is_ok()
                };
                (0..1000).filter(is_allowed).count()
            };
            assert_eq!(reviews(address(0)), per_address);
            let total: usize = (1..=200).map(address).map(reviews).sum();
            assert_eq!(total, all - per_address);
        }
    }

    /// Attack: a caller sends an unlimited number of invented tokens, to exhaust the memory.
    #[test]
    fn memory_is_bounded_for_any_number_of_tokens() {
        let tokens = Tokens::default();
        for i in 0..3 * MAX_TOKENS {
            tokens.record(address(1), &i.to_string(), i % 2 == 0, timestamp(0));
        }
        let state = tokens.state();
        assert!(state.accepted.0.len() <= MAX_TOKENS && state.refused.0.len() <= MAX_TOKENS);
    }

    /// Attack: callers invent tokens from so many addresses that the total rate is used up, and new Pods get no values.
    #[test]
    fn invented_tokens_do_not_use_up_the_reviews_of_addresses_with_accepted_tokens() {
        let tokens = Tokens::for_pods();
        let node = address(0);
        tokens.record(node, "accepted", true, timestamp(0));
        for i in (1..=200).cycle().take(10_000) {
            let token = format!("invented {i}");
            let _ = tokens.check_review(address(i), &token, timestamp(0));
        }
        let reviews = |address: IpAddr| {
            let is_allowed = |i: &u32| {
                let token = format!("new {i}");
                tokens.check_review(address, &token, timestamp(0)).is_ok()
            };
            (0..1_000).filter(is_allowed).count()
        };
        assert_eq!(reviews(address(250)), 0);
        assert_eq!(reviews(node), 501);
    }
}
