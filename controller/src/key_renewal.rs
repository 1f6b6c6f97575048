//! Generates keys when they are due: at start if there is no key, when the newest key is due for renewal, and on
//! request.

use jiff::Timestamp;
use shared::error_chain;
use shared::key::{GenerateError, KeySpec, NewKey};
use shared::renewal::{Policy, Reason, Renewal, renewal};
use tokio::task::JoinHandle;
use tracing::{error, info};

use crate::pool::{Pool, Stopped};
use crate::reconcile::backoff;

/// Generates keys in the background, since an RSA-8192 key takes many seconds.
#[derive(Debug)]
pub struct KeyRenewal {
    spec: KeySpec,
    policy: Policy,
    pool: Pool,
    requested: bool,
    in_progress: Option<JoinHandle<Result<NewKey, NoNewKey>>>,
    failures: u32,
    not_before: Timestamp,
}

/// A key cannot be generated.
#[derive(Debug, thiserror::Error)]
pub enum NoNewKey {
    /// Generating the key failed.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The work was interrupted; see [`Stopped`].
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl KeyRenewal {
    /// Creates an idle renewal.
    pub fn new(spec: KeySpec, policy: Policy, pool: Pool) -> Self {
        Self {
            spec,
            policy,
            pool,
            requested: false,
            in_progress: None,
            failures: 0,
            not_before: Timestamp::MIN,
        }
    }

    /// Generates the key that is due at start, and waits for it. Returns `None` if no key is due.
    ///
    /// # Errors
    ///
    /// Returns [`NoNewKey`] if the key cannot be generated.
    pub async fn start(
        &self,
        newest: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Option<NewKey>, NoNewKey> {
        match renewal(newest, self.policy, now) {
            Renewal::Due(reason) => {
                log_reason(reason);
                generate(self.pool.clone(), self.spec.clone(), now)
                    .await
                    .map(Some)
            }
            Renewal::At(_) | Renewal::Never => Ok(None),
        }
    }

    /// Requests one key as soon as possible, regardless of the policy.
    pub fn request(&mut self) {
        self.requested = true;
    }

    /// Starts generating a key if one is due. Returns a key whose generation has finished. Does not wait.
    pub async fn poll(&mut self, newest: Option<Timestamp>, now: Timestamp) -> Option<NewKey> {
        match self.in_progress.take() {
            Some(in_progress) if in_progress.is_finished() => {
                let result = in_progress.await.unwrap_or(Err(Stopped.into()));
                return self.process_result(result, now);
            }
            Some(in_progress) => self.in_progress = Some(in_progress),
            None => self.begin_if_due(newest, now),
        }
        None
    }

    fn begin_if_due(&mut self, newest: Option<Timestamp>, now: Timestamp) {
        if now < self.not_before || !is_due(self.requested, newest, self.policy, now) {
            return;
        }
        self.requested = false;
        let generate = generate(self.pool.clone(), self.spec.clone(), now);
        self.in_progress = Some(tokio::spawn(generate));
    }

    /// Returns the generated key. After a failure, schedules a retry with backoff instead of waiting for the next
    /// renewal, and returns `None`.
    fn process_result(
        &mut self,
        result: Result<NewKey, NoNewKey>,
        now: Timestamp,
    ) -> Option<NewKey> {
        match result {
            Ok(key) => {
                self.failures = 0;
                Some(key)
            }
            Err(error) => {
                error!(error = error_chain(&error), "Failed to generate new key");
                self.record_failure(now);
                None
            }
        }
    }

    /// Records that a key could not be generated or stored, and schedules a retry.
    pub fn record_failure(&mut self, now: Timestamp) {
        self.requested = true;
        self.failures = self.failures.saturating_add(1);
        let pause = backoff(self.failures, shared::random::number());
        self.not_before = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
    }
}

/// Returns whether a key is due. If the keys were removed while the controller runs, a key is due only on request:
/// the administrator is probably about to restore the keys, and a key that is generated before that would be newer and
/// would stay the sealing key.
fn is_due(is_requested: bool, newest: Option<Timestamp>, policy: Policy, now: Timestamp) -> bool {
    match renewal(newest, policy, now) {
        _ if is_requested => true,
        Renewal::Due(Reason::NoKey) | Renewal::At(_) | Renewal::Never => false,
        Renewal::Due(reason) => {
            log_reason(reason);
            true
        }
    }
}

fn log_reason(reason: Reason) {
    let why = match reason {
        Reason::NoKey => "there is no key",
        Reason::Cutoff => "the newest key is older than the cutoff time",
        Reason::Age => "the newest key has reached its renewal age",
        Reason::Future => {
            "every certificate becomes valid in the future, so the clock is wrong now or was wrong earlier"
        }
    };
    info!(why, "Generating a new key");
}

async fn generate(pool: Pool, spec: KeySpec, now: Timestamp) -> Result<NewKey, NoNewKey> {
    let result = pool
        .run(move || spec.generate(now, &mut shared::random::system()))
        .await?;
    Ok(result?)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn is_due_by_age_by_cutoff_and_on_request() {
        let timestamp = |second| Timestamp::from_second(second).unwrap();
        let monthly = Policy {
            period: Some(SignedDuration::from_secs(30)),
            cutoff: None,
        };
        let cutoff = Policy {
            period: None,
            cutoff: Some(timestamp(95)),
        };
        for (why, is_requested, newest, policy, want) in [
            (
                "below the renewal age",
                false,
                Some(timestamp(90)),
                monthly,
                false,
            ),
            (
                "at the renewal age",
                false,
                Some(timestamp(70)),
                monthly,
                true,
            ),
            (
                "before the cutoff",
                false,
                Some(timestamp(90)),
                cutoff,
                true,
            ),
            (
                "requested, though below the renewal age",
                true,
                Some(timestamp(90)),
                monthly,
                true,
            ),
            (
                "requested, though renewal is disabled",
                true,
                Some(timestamp(0)),
                Policy::default(),
                true,
            ),
            ("all keys removed", false, None, monthly, false),
            ("all keys removed, and requested", true, None, monthly, true),
        ] {
            let got = is_due(is_requested, newest, policy, timestamp(100));
            assert_eq!(got, want, "{why}");
        }
    }
}
