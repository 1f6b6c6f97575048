//! Limits how often callers may have a token reviewed: each review is a request to the API server, and any client can
//! invent tokens.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::rate::Rate;
use super::refused::Refused;

/// Limit for reviews of unknown tokens from one address: rate per second and burst.
const PER_ADDRESS: (u32, u32) = (5, 20);
/// Limit for reviews of unknown tokens from all addresses together: rate per second and burst.
const TOTAL: (u32, u32) = (20, 100);
/// Maximum number of stored tokens, of accepted and of refused ones each.
const MAX_TOKENS: usize = 4096;
/// How long a refused token is refused without another review. The token may become valid later.
const REFUSED_FOR: SignedDuration = SignedDuration::from_secs(10);
/// How long an accepted token is exempt from the limit. It is still reviewed each time.
const ACCEPTED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// The results of earlier reviews. Only a keyed digest of each token is stored.
#[derive(Debug)]
pub(super) struct Tokens {
    digests: RandomState,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    per_address: Rate,
    total: Rate,
    refused: Memory,
    accepted: Memory,
}

/// Digests with their expiry.
#[derive(Debug, Default)]
struct Memory(HashMap<u64, Timestamp>);

impl Default for Tokens {
    fn default() -> Self {
        Self {
            digests: RandomState::new(),
            state: Mutex::new(State {
                per_address: Rate::new(PER_ADDRESS.0, PER_ADDRESS.1),
                total: Rate::new(TOTAL.0, TOTAL.1),
                refused: Memory::default(),
                accepted: Memory::default(),
            }),
        }
    }
}

impl Tokens {
    /// Returns an error if this token may not be reviewed now.
    pub(super) fn may_review(
        &self,
        address: IpAddr,
        token: &str,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let digest = self.digests.hash_one(token);
        let mut state = self.state();
        if state.accepted.has(digest, now) {
            return Ok(());
        }
        if state.refused.has(digest, now) {
            return Err(Refused::Unauthenticated);
        }
        let per_address = state.per_address.count(&address.to_string(), now).retry;
        let retry = per_address.or_else(|| state.total.count("", now).retry);
        retry.map_or(Ok(()), |seconds| Err(Refused::TooOften(seconds)))
    }

    /// Records the result of a review.
    pub(super) fn record(&self, token: &str, is_accepted: bool, now: Timestamp) {
        let digest = self.digests.hash_one(token);
        let mut state = self.state();
        if is_accepted {
            state.accepted.add(digest, ACCEPTED_FOR, now);
        } else {
            state.accepted.0.remove(&digest);
            state.refused.add(digest, REFUSED_FOR, now);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn has(&self, digest: u64, now: Timestamp) -> bool {
        self.0.get(&digest).is_some_and(|until| now < *until)
    }

    fn add(&mut self, digest: u64, time: SignedDuration, now: Timestamp) {
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

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_refused_token_is_reviewed_again_after_a_while_and_an_accepted_one_each_time() {
        let tokens = Tokens::default();
        for _ in 0..1000 {
            assert_eq!(tokens.may_review(address(1), "good", at(0)), Ok(()));
            tokens.record("good", true, at(0));
        }
        tokens.record("bad", false, at(0));
        let bad = |now| tokens.may_review(address(1), "bad", at(now));
        assert_eq!(bad(9), Err(Refused::Unauthenticated));
        assert_eq!(bad(10), Ok(()));
        tokens.record("good", false, at(20));
        let good = tokens.may_review(address(1), "good", at(20));
        assert_eq!(good, Err(Refused::Unauthenticated), "it was revoked");
    }

    /// Attack: callers invent tokens, from one address and from many.
    #[test]
    fn reviews_of_invented_tokens_are_limited_per_address_and_in_total() {
        let tokens = Tokens::default();
        let reviews = |address: IpAddr| {
            let token = |i: u32| format!("{address} {i}");
            let may = |i: &u32| tokens.may_review(address, &token(*i), at(0)).is_ok();
            (0..1000).filter(may).count()
        };
        assert_eq!(reviews(address(0)), 21);
        let all: usize = (1..=200).map(address).map(reviews).sum();
        assert_eq!(all, 80);
    }

    /// Attack: a caller invents tokens without end.
    #[test]
    fn memory_is_bounded_for_any_number_of_tokens() {
        let tokens = Tokens::default();
        for i in 0..3 * MAX_TOKENS {
            tokens.record(&i.to_string(), i % 2 == 0, at(0));
        }
        let state = tokens.state();
        assert!(state.accepted.0.len() <= MAX_TOKENS && state.refused.0.len() <= MAX_TOKENS);
    }
}
