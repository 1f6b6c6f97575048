//! When and how a key is made: at start if there is none, when the newest reaches its renewal age, and on
//! request.

use jiff::Timestamp;
use shared::error_chain;
use shared::key::{GenerateError, KeySpec, NewKey};
use shared::renewal::{Policy, Reason, Renewal, renewal};
use tokio::task::JoinHandle;
use tracing::{error, info};

use crate::pool::{Pool, Stopped};
use crate::reconcile::wait;

/// Makes keys in the background, since an RSA-8192 key takes many seconds.
#[derive(Debug)]
pub struct KeyRenewal {
    spec: KeySpec,
    policy: Policy,
    pool: Pool,
    asked: bool,
    making: Option<JoinHandle<Result<NewKey, NoNewKey>>>,
    failures: u32,
    not_before: Timestamp,
}

/// No key was made.
#[derive(Debug, thiserror::Error)]
pub enum NoNewKey {
    /// Generating the key failed.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The process is shutting down.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl KeyRenewal {
    /// Creates a renewal that is idle.
    pub fn new(spec: KeySpec, policy: Policy, pool: Pool) -> Self {
        Self {
            spec,
            policy,
            pool,
            asked: false,
            making: None,
            failures: 0,
            not_before: Timestamp::MIN,
        }
    }

    /// Makes the key that is due at start, if one is, and waits for it.
    ///
    /// # Errors
    ///
    /// Returns [`NoNewKey`] if the key cannot be made.
    pub async fn start(
        &self,
        newest: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Option<NewKey>, NoNewKey> {
        match renewal(newest, self.policy, now) {
            Renewal::Due(reason) => {
                say(reason);
                make(self.pool.clone(), self.spec.clone(), now)
                    .await
                    .map(Some)
            }
            Renewal::At(_) | Renewal::Never => Ok(None),
        }
    }

    /// Requests one key as soon as possible, whatever the policy says.
    pub fn ask(&mut self) {
        self.asked = true;
    }

    /// Starts making a key that is due, and returns one that is finished. Does not wait.
    pub async fn turn(&mut self, newest: Option<Timestamp>, now: Timestamp) -> Option<NewKey> {
        match self.making.take() {
            Some(making) if making.is_finished() => {
                let made = making.await.unwrap_or(Err(Stopped.into()));
                return self.made(made, now);
            }
            Some(making) => self.making = Some(making),
            None => self.begin(newest, now),
        }
        None
    }

    fn begin(&mut self, newest: Option<Timestamp>, now: Timestamp) {
        if now < self.not_before || !is_due(self.asked, newest, self.policy, now) {
            return;
        }
        self.asked = false;
        let make = make(self.pool.clone(), self.spec.clone(), now);
        self.making = Some(tokio::spawn(make));
    }

    /// Returns the key if one was made. After a failure, schedules a retry with growing pauses instead of
    /// waiting for the next period.
    fn made(&mut self, made: Result<NewKey, NoNewKey>, now: Timestamp) -> Option<NewKey> {
        match made {
            Ok(new) => {
                self.failures = 0;
                Some(new)
            }
            Err(error) => {
                error!(error = error_chain(&error), "Failed to generate new key");
                self.failed(now);
                None
            }
        }
    }

    /// Records that no key was made or stored, so that it is retried later.
    pub fn failed(&mut self, now: Timestamp) {
        self.asked = true;
        self.failures = self.failures.saturating_add(1);
        let wait = wait(self.failures, shared::random::number());
        self.not_before = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
    }
}

/// Returns whether a key is due. A ring that became empty while the controller runs does not count: the
/// administrator who removed the keys is probably about to add others, and a key made in between would be
/// newer and would stay the sealing key.
fn is_due(asked: bool, newest: Option<Timestamp>, policy: Policy, now: Timestamp) -> bool {
    match renewal(newest, policy, now) {
        _ if asked => true,
        Renewal::Due(Reason::NoKey) | Renewal::At(_) | Renewal::Never => false,
        Renewal::Due(reason) => {
            say(reason);
            true
        }
    }
}

fn say(reason: Reason) {
    let why = match reason {
        Reason::NoKey => "there is none",
        Reason::Cutoff => "the newest is from before the cutoff",
        Reason::Age => "the newest has reached its age",
        Reason::Future => {
            "the certificate of every key begins in the future: the clock was ahead, or is behind"
        }
    };
    info!(why, "Making a new key");
}

async fn make(pool: Pool, spec: KeySpec, now: Timestamp) -> Result<NewKey, NoNewKey> {
    let made = pool
        .run(move || spec.generate(now, &mut shared::random::system()))
        .await?;
    Ok(made?)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn is_due_by_age_by_cutoff_and_when_asked() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let monthly = Policy {
            period: Some(SignedDuration::from_secs(30)),
            cutoff: None,
        };
        let cutoff = Policy {
            period: None,
            cutoff: Some(at(95)),
        };
        for (why, asked, newest, policy, want) in [
            ("young", false, Some(at(90)), monthly, false),
            ("of age", false, Some(at(70)), monthly, true),
            ("before the cutoff", false, Some(at(90)), cutoff, true),
            ("asked, though young", true, Some(at(90)), monthly, true),
            (
                "asked, though renewal is off",
                true,
                Some(at(0)),
                Policy::default(),
                true,
            ),
            ("all keys taken out", false, None, monthly, false),
            ("all keys taken out, and asked", true, None, monthly, true),
        ] {
            assert_eq!(is_due(asked, newest, policy, at(100)), want, "{why}");
        }
    }
}
