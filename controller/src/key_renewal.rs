//! Generates new keys: at startup if there is no key, when the newest key is due for renewal, and on request. The keys
//! of each suite are renewed separately, by the same policy.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use shared::error_chain;
use shared::key::{GenerateError, KeySpec, NewKey};
use shared::key_ring::KeyRing;
use shared::renewal::{Policy, Reason, Renewal, newest_key_time, renewal};
use shared::v2::key_secret::StoredKey;
use shared::v2::{KeyTextError, SecretKey, Suite};
use tokio::task::JoinHandle;
use tracing::{error, info};

use crate::args::KeyConfig;
use crate::pool::{Pool, Stopped};
use crate::reconcile::{backoff, is_waiting};

/// Generates keys of one suite in the background, since an RSA-8192 key takes many seconds.
#[derive(Debug)]
struct KeyRenewal {
    generator: Generator,
    policy: Policy,
    pool: Pool,
    requested: bool,
    in_progress: Option<JoinHandle<Result<GeneratedKey, NoNewKey>>>,
    failures: u32,
    not_before: Timestamp,
}

/// How keys of a suite are generated.
#[derive(Debug, Clone)]
enum Generator {
    Rsa(KeySpec),
    V2 { suite: Suite, ttl: SignedDuration },
}

/// A generated key, which is not stored yet.
#[derive(Debug)]
pub enum GeneratedKey {
    /// An RSA key.
    Rsa(Box<NewKey>),
    /// A key that is only for v2.
    V2(StoredKey),
}

impl GeneratedKey {
    /// Returns the suite of the key.
    pub fn suite(&self) -> Suite {
        match self {
            Self::Rsa(_) => Suite::Rsa,
            Self::V2(stored) => stored.key.opener().suite(),
        }
    }
}

impl Generator {
    fn suite(&self) -> Suite {
        match self {
            Self::Rsa(_) => Suite::Rsa,
            Self::V2 { suite, .. } => *suite,
        }
    }

    fn generate(&self, now: Timestamp) -> Result<GeneratedKey, NoNewKey> {
        let rng = &mut shared::random::system();
        match self {
            Self::Rsa(spec) => Ok(GeneratedKey::Rsa(spec.generate(now, rng)?.into())),
            Self::V2 { suite, ttl } => {
                let not_before = Timestamp::from_second(now.as_second()).unwrap_or(now);
                let not_after = not_before.checked_add(*ttl);
                let not_after = not_after.map_err(|_| GenerateError::Validity)?;
                let key = SecretKey::generate(*suite, rng)?;
                Ok(GeneratedKey::V2(StoredKey {
                    key,
                    not_before,
                    not_after,
                }))
            }
        }
    }
}

/// A key cannot be generated.
#[derive(Debug, thiserror::Error)]
pub enum NoNewKey {
    /// Generating an RSA key failed, or the validity of a v2 key would end too late for a timestamp.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// Generating a v2 key failed.
    #[error(transparent)]
    V2(#[from] KeyTextError),
    /// The work was interrupted; see [`Stopped`].
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The renewals of all suites for which the controller generates keys.
#[derive(Debug)]
pub struct Renewals(Vec<KeyRenewal>);

impl Renewals {
    /// Creates idle renewals: for RSA keys, which v1 needs, and for keys of the preferred suite.
    pub fn new(config: &KeyConfig, pool: &Pool) -> Self {
        let suite = config.sealing_suite;
        let ttl = config.spec.ttl;
        let v2 = (suite != Suite::Rsa).then_some(Generator::V2 { suite, ttl });
        let generators = [Generator::Rsa(config.spec.clone())].into_iter().chain(v2);
        let idle = |generator| KeyRenewal {
            generator,
            policy: config.policy,
            pool: pool.clone(),
            requested: false,
            in_progress: None,
            failures: 0,
            not_before: Timestamp::MIN,
        };
        Self(generators.map(idle).collect())
    }

    /// Returns the suites for which keys are generated.
    pub fn suites(&self) -> Vec<Suite> {
        self.0.iter().map(KeyRenewal::suite).collect()
    }

    /// At startup, generates a new key of a suite if one is due, and waits for it. Returns `None` if no key is due,
    /// or if the keys of the suite were removed: the administrator is probably about to restore them, and a key
    /// generated before the restore would be newer and would remain the sealing key.
    ///
    /// # Errors
    ///
    /// Returns [`NoNewKey`] if the key cannot be generated.
    pub async fn start(
        &self,
        suite: Suite,
        ring: &KeyRing,
        now: Timestamp,
    ) -> Result<Option<GeneratedKey>, NoNewKey> {
        let renewal = self.0.iter().find(|renewal| renewal.suite() == suite);
        match renewal.filter(|_| !ring.is_removed(suite)) {
            Some(renewal) => renewal.start(newest_key_time(ring, suite, now), now).await,
            None => Ok(None),
        }
    }

    /// Requests one key of each of these suites as soon as possible, regardless of the policy. Ignores suites for which
    /// no keys are generated.
    pub fn request(&mut self, suites: &[Suite]) {
        for renewal in &mut self.0 {
            renewal.requested |= suites.contains(&renewal.suite());
        }
    }

    /// Starts generating the new keys that are due. Returns the keys whose generation has finished. Does not wait.
    pub async fn poll(&mut self, ring: &KeyRing, now: Timestamp) -> Vec<GeneratedKey> {
        let mut generated = Vec::new();
        for renewal in &mut self.0 {
            let newest = newest_key_time(ring, renewal.suite(), now);
            generated.extend(renewal.poll(newest, now).await);
        }
        generated
    }

    /// Records that a key of a suite could not be stored, and schedules a retry.
    pub fn record_failure(&mut self, suite: Suite, now: Timestamp) {
        let renewal = self.0.iter_mut().find(|renewal| renewal.suite() == suite);
        if let Some(renewal) = renewal {
            renewal.record_failure(now);
        }
    }
}

/// The accepted requests for new keys: for each suite, the name of the key Secret that last requested a key.
#[derive(Debug, Default)]
pub(crate) struct AcceptedRequests(BTreeMap<Suite, String>);

impl AcceptedRequests {
    /// Returns the suites whose newest key Secret requests a new key. Returns a suite only once per requesting key
    /// Secret.
    pub(crate) fn accept(
        &mut self,
        ring: &KeyRing,
        is_requested: impl Fn(&str) -> bool,
    ) -> Vec<Suite> {
        let mut suites: Vec<Suite> = ring.renewed_suites().collect();
        suites.retain(|suite| {
            let newest = ring.own_keys(*suite).next();
            newest.is_some_and(|key| is_requested(key.name()) && self.record(*suite, key.name()))
        });
        suites
    }

    /// Records the request of a key Secret. Returns whether the request is new.
    fn record(&mut self, suite: Suite, name: &str) -> bool {
        let before = self.0.insert(suite, name.to_owned());
        let is_new = before.as_deref() != Some(name);
        if is_new {
            info!(secretname = name, "New key requested by annotation");
        }
        is_new
    }
}

impl KeyRenewal {
    fn suite(&self) -> Suite {
        self.generator.suite()
    }

    async fn start(
        &self,
        newest: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Option<GeneratedKey>, NoNewKey> {
        match renewal(newest, self.policy, now) {
            Renewal::Due(reason) => {
                log_reason(self.suite(), reason);
                let key = generate(self.pool.clone(), self.generator.clone(), now).await?;
                Ok(Some(key))
            }
            Renewal::At(_) | Renewal::Never => Ok(None),
        }
    }

    async fn poll(&mut self, newest: Option<Timestamp>, now: Timestamp) -> Option<GeneratedKey> {
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
        let is_due = is_due(self.requested, newest, self.policy, now);
        if is_waiting(self.not_before, now) || !is_due {
            return;
        }
        if let Renewal::Due(reason) = renewal(newest, self.policy, now)
            && !self.requested
        {
            log_reason(self.suite(), reason);
        }
        self.requested = false;
        let generate = generate(self.pool.clone(), self.generator.clone(), now);
        self.in_progress = Some(tokio::spawn(generate));
    }

    /// Returns the generated key. After a failure, schedules a retry with backoff instead of waiting for the next
    /// renewal, and returns `None`.
    fn process_result(
        &mut self,
        result: Result<GeneratedKey, NoNewKey>,
        now: Timestamp,
    ) -> Option<GeneratedKey> {
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

    fn record_failure(&mut self, now: Timestamp) {
        self.requested = true;
        self.failures = self.failures.saturating_add(1);
        let pause = backoff(self.failures, shared::random::number());
        self.not_before = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
    }
}

/// Returns whether a new key is due. If the keys were removed while the controller is running, a new key is due only on
/// request: the administrator is probably about to restore the keys, and a key generated before the restore would be
/// newer and would remain the sealing key.
fn is_due(is_requested: bool, newest: Option<Timestamp>, policy: Policy, now: Timestamp) -> bool {
    match renewal(newest, policy, now) {
        _ if is_requested => true,
        Renewal::Due(Reason::NoKey) | Renewal::At(_) | Renewal::Never => false,
        Renewal::Due(_) => true,
    }
}

fn log_reason(suite: Suite, reason: Reason) {
    let why = match reason {
        Reason::NoKey => "there is no key",
        Reason::Cutoff => "the newest key is older than the cutoff time",
        Reason::Age => "the newest key has reached its renewal age",
        Reason::Future => {
            "every key becomes valid in the future, so the clock is wrong now or was wrong earlier"
        }
    };
    info!(why, %suite, "Generating a new key");
}

async fn generate(
    pool: Pool,
    generator: Generator,
    now: Timestamp,
) -> Result<GeneratedKey, NoNewKey> {
    pool.run(move || generator.generate(now)).await?
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    /// Fault: generating a key fails while the clock is 40 days ahead, and the clock is corrected afterwards.
    #[tokio::test]
    async fn a_corrected_clock_delays_no_renewal() {
        let mut renewal = KeyRenewal {
            generator: Generator::V2 {
                suite: Suite::XWing,
                ttl: SignedDuration::from_hours(1),
            },
            policy: Policy::default(),
            pool: Pool::new(),
            requested: true,
            in_progress: None,
            failures: 20,
            not_before: Timestamp::MIN,
        };
        let now = Timestamp::UNIX_EPOCH;
        renewal.record_failure(now + SignedDuration::from_hours(40 * 24));
        renewal.begin_if_due(None, now);
        assert!(renewal.in_progress.is_some());
    }

    #[test]
    fn a_new_key_is_due_by_age_by_cutoff_or_on_request() {
        let timestamp = |second| Timestamp::from_second(second).unwrap();
        let by_age = Policy {
            period: Some(SignedDuration::from_secs(30)),
            cutoff: None,
        };
        let by_cutoff = Policy {
            period: None,
            cutoff: Some(timestamp(95)),
        };
        for (case_name, is_requested, newest, policy, want) in [
            (
                "below the renewal age",
                false,
                Some(timestamp(90)),
                by_age,
                false,
            ),
            (
                "at the renewal age",
                false,
                Some(timestamp(70)),
                by_age,
                true,
            ),
            (
                "before the cutoff",
                false,
                Some(timestamp(90)),
                by_cutoff,
                true,
            ),
            (
                "requested, though below the renewal age",
                true,
                Some(timestamp(90)),
                by_age,
                true,
            ),
            (
                "requested, though renewal is disabled",
                true,
                Some(timestamp(0)),
                Policy::default(),
                true,
            ),
            ("all keys removed", false, None, by_age, false),
            ("all keys removed, and requested", true, None, by_age, true),
        ] {
            let got = is_due(is_requested, newest, policy, timestamp(100));
            assert_eq!(got, want, "{case_name}");
        }
    }
}
