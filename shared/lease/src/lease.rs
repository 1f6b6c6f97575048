//! Decides what to do with a Lease, as pure functions.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::Moment;
use crate::readable::Readable;

/// A Lease, and the time at which this replica first observed this version of it.
pub(super) struct View {
    pub(super) lease: Lease,
    since: Moment,
}

/// The next step of a replica.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Write the Lease, to acquire or renew it.
    Acquire,
    /// Wait, since another replica holds the Lease.
    Wait,
}

/// The maximum lease duration. A longer duration in a Lease is reduced to this maximum, since any client that may write
/// Leases can set the duration. The flags of the controller and of `seal restart` accept no longer duration.
pub const LONGEST_LEASE: Duration = Duration::from_hours(1);

/// Returns the Lease. A Lease that cannot be read counts as held by another replica for [`LONGEST_LEASE`].
pub(super) fn readable_or_held(lease: Readable<Lease>) -> Lease {
    match lease {
        Readable::Object(lease) => lease,
        Readable::Unreadable(metadata) => Lease {
            metadata: *metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(UNREADABLE_HOLDER.into()),
                lease_duration_seconds: Some(i32::MAX),
                ..LeaseSpec::default()
            }),
        },
    }
}

/// The assumed holder of a Lease that cannot be read.
const UNREADABLE_HOLDER: &str = "unreadable";

/// The times to write into a Lease.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) now: Timestamp,
    pub(super) duration: Duration,
}

impl View {
    /// Returns the view after this observation of the Lease. A new version restarts the lease duration by this
    /// replica's clock, since the clocks of replicas can differ.
    pub(super) fn after(previous: Option<Self>, lease: Lease, now: Moment) -> Self {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        let since = previous
            .filter(|previous| version(&previous.lease) == version(&lease))
            .map_or(now, |previous| previous.since);
        Self { lease, since }
    }

    /// Returns when the Lease expires by this replica's clock.
    pub(super) fn expiry(&self) -> Moment {
        self.since.after(self.duration())
    }

    fn holder(&self) -> &str {
        let spec = self.lease.spec.as_ref();
        spec.and_then(|spec| spec.holder_identity.as_deref())
            .unwrap_or_default()
    }

    fn duration(&self) -> Duration {
        let spec = self.lease.spec.as_ref();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
        let duration =
            Duration::from_secs(seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(0));
        duration.min(LONGEST_LEASE)
    }
}

/// Decides whether to acquire the Lease or wait.
pub(super) fn decide(view: &View, identity: &str, now: Moment) -> Step {
    let holder = view.holder();
    let is_expired = view.expiry() <= now;
    if holder.is_empty() || holder == identity || is_expired {
        Step::Acquire
    } else {
        Step::Wait
    }
}

/// Returns the spec of the Lease, acquired or renewed by the replica with this identity.
pub(super) fn acquire(previous: Option<&LeaseSpec>, times: Times, identity: &str) -> LeaseSpec {
    let own = previous.filter(|spec| spec.holder_identity.as_deref() == Some(identity));
    let transitions = previous
        .and_then(|spec| spec.lease_transitions)
        .unwrap_or(0);
    let is_first = previous.is_none();
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(whole_seconds(times.duration)),
        acquire_time: own
            .and_then(|spec| spec.acquire_time.clone())
            .or_else(|| Some(time(times.now))),
        renew_time: Some(time(times.now)),
        lease_transitions: Some(if own.is_some() || is_first {
            transitions
        } else {
            transitions.saturating_add(1)
        }),
        ..previous.cloned().unwrap_or_default()
    }
}

/// Returns the spec of the Lease without a holder, in the form that client-go uses.
pub(super) fn release(spec: LeaseSpec) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        ..spec
    }
}

/// Returns whole seconds, rounded up: otherwise, the Lease could expire while its holder may still write.
fn whole_seconds(time: Duration) -> i32 {
    let rounding = u64::from(time.subsec_nanos() > 0);
    i32::try_from(time.as_secs().saturating_add(rounding)).unwrap_or(i32::MAX)
}

fn time(now: Timestamp) -> MicroTime {
    MicroTime(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(version: &str, holder: &str) -> Lease {
        let mut lease = Lease::default();
        lease.metadata.resource_version = Some(version.into());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        });
        lease
    }

    #[test]
    fn acquires_a_released_or_expired_lease() {
        let start = Moment::now();
        let later = |second| start.after(Duration::from_secs(second));
        for (why, holder, second, want) in [
            ("own", "me", 1, Step::Acquire),
            ("released", "", 1, Step::Acquire),
            ("held by another replica", "other", 14, Step::Wait),
            (
                "held by another replica, expired",
                "other",
                15,
                Step::Acquire,
            ),
        ] {
            let view = View::after(None, lease("1", holder), start);
            assert_eq!(decide(&view, "me", later(second)), want, "{why}");
        }
    }

    /// Attack: a client that may write Leases sets a duration of decades, so that no replica writes again.
    #[test]
    fn a_lease_expires_at_most_an_hour_after_the_last_renewal() {
        let start = Moment::now();
        let mut forged = lease("1", "other");
        forged.spec.as_mut().unwrap().lease_duration_seconds = Some(i32::MAX);
        let view = View::after(None, forged, start);
        for (seconds, want) in [(3599, Step::Wait), (3600, Step::Acquire)] {
            let now = start.after(Duration::from_secs(seconds));
            assert_eq!(decide(&view, "me", now), want, "{seconds}");
        }
    }

    /// Attack: a client that may write Leases creates a Lease that the controller cannot read, so that no replica
    /// writes again.
    #[test]
    fn an_unreadable_lease_expires_after_an_hour() {
        let start = Moment::now();
        for malformed in [
            serde_json::json!({ "spec": 5 }),
            serde_json::json!({ "spec": { "renewTime": "soon" } }),
            serde_json::json!({ "spec": { "holderIdentity": [] } }),
            serde_json::json!({ "spec": { "leaseDurationSeconds": i64::MAX } }),
        ] {
            let read = |version: &str| {
                let mut malformed = malformed.clone();
                malformed["metadata"] =
                    serde_json::json!({ "name": "lease", "resourceVersion": version });
                readable_or_held(serde_json::from_value(malformed).unwrap())
            };
            let view = View::after(None, read("1"), start);
            assert_eq!(view.lease.metadata.resource_version.as_deref(), Some("1"));
            let later = |seconds| start.after(Duration::from_secs(seconds));
            let view = View::after(Some(view), read("1"), later(3000));
            for (seconds, want) in [(3599, Step::Wait), (3600, Step::Acquire)] {
                assert_eq!(
                    decide(&view, "me", later(seconds)),
                    want,
                    "{malformed}, {seconds}"
                );
            }
        }
    }

    #[test]
    fn each_renewal_restarts_the_lease_duration_by_the_local_clock() {
        let start = Moment::now();
        let later = |second| start.after(Duration::from_secs(second));
        let view = View::after(None, lease("1", "other"), start);
        let view = View::after(Some(view), lease("1", "other"), later(10));
        assert_eq!(
            decide(&view, "me", later(15)),
            Step::Acquire,
            "the same version"
        );
        let view = View::after(Some(view), lease("2", "other"), later(12));
        assert_eq!(decide(&view, "me", later(26)), Step::Wait);
        assert_eq!(decide(&view, "me", later(27)), Step::Acquire);
    }

    #[test]
    fn the_lease_duration_is_rounded_up() {
        for (milliseconds, seconds) in
            [(15_000, 15), (9_900, 10), (9_001, 10), (u64::MAX, i32::MAX)]
        {
            assert_eq!(
                whole_seconds(Duration::from_millis(milliseconds)),
                seconds,
                "{milliseconds} ms"
            );
        }
    }

    #[test]
    fn counts_transitions_and_keeps_the_acquire_time() {
        let times = |second| Times {
            now: Timestamp::from_second(second).unwrap(),
            duration: Duration::from_secs(15),
        };
        let first = acquire(None, times(1), "me");
        assert_eq!(first.lease_transitions, Some(0));
        let renewed = acquire(Some(&first), times(9), "me");
        assert_eq!(renewed.lease_transitions, Some(0));
        assert_eq!(renewed.acquire_time, first.acquire_time);
        assert_ne!(renewed.renew_time, first.renew_time);
        let acquired = acquire(Some(&renewed), times(30), "other");
        assert_eq!(acquired.lease_transitions, Some(1));
        assert_ne!(acquired.acquire_time, first.acquire_time);
        let released = release(acquired);
        assert_eq!(released.holder_identity.as_deref(), Some(""));
    }
}
