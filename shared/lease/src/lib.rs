//! Leader election: a Lease decides which of several replicas may write.
//!
//! The rules are the same as in client-go, so that replicas of both implementations can share a Lease. A replica that
//! has observed the Lease unchanged for the lease duration, by its own clock, may acquire the Lease. The holder stops
//! writing earlier, at the renew deadline by its own clock, even if the API server does not respond. A holder that was
//! paused until after the renew deadline detects this before its next write.
//!
//! A request that was already queued in the connection when the process was paused can still be sent. The updates and
//! deletions of the controller contain the resource version that they are based on, and its creations contain the name
//! of the Secret, so the API server rejects them if another replica has written since. Two kinds of request are not
//! protected in this way: events, which have no effect on Secrets, and the creation of a renewed key, which can result
//! in an additional key. All of this also applies to the last requests of a container that was killed, if the next
//! container of its Pod acquires the Lease immediately.
//!
//! [`readable`] parses API objects so that an invalid object cannot make a whole list unreadable. [`watch_health`]
//! tracks which watches fail.

mod election;
mod identity;
mod lease;
pub mod readable;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod watch_health;
mod write_lease;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use shared::visible_line;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::readable::Readable;
use crate::watch_health::{Cause, WatchHealth};
pub use election::{Election, Pod};
use identity::Identity;
pub use lease::LONGEST_LEASE;
use lease::{Step, Times, View, acquire, decide};
pub use write_lease::{Moment, WriteLease};

/// The shortest pause after a failed attempt.
const MIN_PAUSE: Duration = Duration::from_millis(200);

/// Name of the Lease in reports of failing watches.
const HEALTH_NAME: &str = "the Lease";

/// The current role of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The role is not known yet.
    Unknown,
    /// This replica is not the leader, but can become it.
    Follower,
    /// This replica is the leader.
    Leader,
    /// This replica cannot become the leader: the Lease cannot be used until another client or an administrator changes
    /// something. A Lease that cannot be read is acquired after at most an hour.
    Stuck,
}

/// A replica in the leader election.
pub struct Candidate {
    api: Api<Readable<Lease>>,
    election: Election,
    pod: Pod,
    identity: Identity,
    /// The renew time of the Lease that this process last wrote, and the renew times that it has tried to write since,
    /// in microseconds. If the Lease has this identity and a different renew time, another process renewed it.
    renewals: Vec<i64>,
    write_lease: Arc<WriteLease>,
    role: watch::Sender<Role>,
    /// Counts how often the API server responded after a failure.
    recoveries: watch::Sender<u64>,
    health: Arc<WatchHealth>,
    view: Option<View>,
    /// Whether the Lease was read or written at least once. If so, this replica never leads without the Lease, even
    /// if RBAC denies access later.
    has_used_lease: bool,
    /// Whether the last attempt to use the Lease failed with a persistent failure ([`Failure::is_persistent`]).
    is_stuck: bool,
    /// The last logged problem with the Lease.
    logged_problem: Option<String>,
}

/// Why the Lease cannot be used.
enum Failure {
    Api(kube::Error),
    NoResponse,
    /// The Lease is not valid for its type. A replica can acquire such a Lease after [`LONGEST_LEASE`].
    Unreadable,
}

impl Candidate {
    /// Creates a candidate that does not campaign yet. `write_lease` allows writes while this replica leads.
    pub fn new(
        client: Client,
        namespace: &str,
        election: Election,
        pod: Pod,
        write_lease: Arc<WriteLease>,
        health: Arc<WatchHealth>,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            identity: Identity::for_pod(&pod),
            pod,
            renewals: Vec::new(),
            role: watch::Sender::new(Role::Unknown),
            recoveries: watch::Sender::default(),
            health,
            election,
            write_lease,
            view: None,
            has_used_lease: false,
            is_stuck: false,
            logged_problem: None,
        }
    }

    /// Returns a receiver of the role of this replica.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    /// Returns a receiver whose value changes each time the API server responds after a failure.
    pub fn recoveries(&self) -> watch::Receiver<u64> {
        self.recoveries.subscribe()
    }

    /// Campaigns until the future is dropped; without leader election, becomes the leader immediately and returns.
    /// A replica that has never had permission to use Leases becomes the leader, logs this once, and retries, since the
    /// permission may be granted later to this and other replicas.
    pub async fn run(&mut self) {
        if !self.election.enabled {
            return self.lead_without_lease();
        }
        loop {
            let start = Moment::now();
            let has_succeeded = self.step().await;
            let attempt = (!has_succeeded).then(|| start.until(Moment::now()));
            tokio::time::sleep(shortened_pause(self.pause(), attempt)).await;
        }
    }

    /// Reads the Lease, and writes it if necessary. Returns whether this succeeded.
    async fn step(&mut self) -> bool {
        let result = timeout(self.election.renew_deadline, self.check_lease()).await;
        let result = result.unwrap_or(Err(Failure::NoResponse));
        let has_succeeded = result.is_ok();
        match result {
            Ok(()) => {
                self.has_used_lease = true;
                self.is_stuck = false;
                self.logged_problem = None;
                self.record_response();
            }
            Err(failure) if failure.is_denial() && !self.has_used_lease => {
                self.is_stuck = false;
                self.record_response();
                self.log_problem(
                    failure.text(),
                    "RBAC does not allow this controller to use Leases, so it assumes that it is the only replica: to run several \
                     replicas, grant get, create and update of leases in its namespace; otherwise set \
                     --leader-elect=false",
                );
                self.lead_without_lease();
            }
            Err(failure) => {
                self.health
                    .record_failure(HEALTH_NAME, failure.cause(), jiff::Timestamp::now());
                self.is_stuck = failure.is_persistent();
                self.log_problem(
                    failure.text(),
                    "Cannot use the Lease; until this is fixed, this replica cannot become or stay the leader",
                );
            }
        }
        self.update_role();
        has_succeeded
    }

    fn record_response(&self) {
        if self.health.record_success(HEALTH_NAME) {
            self.recoveries.send_modify(|count| *count += 1);
        }
    }

    /// Logs a problem: at WARN the first time, at DEBUG while it continues.
    fn log_problem(&mut self, error: String, message: &str) {
        if self.logged_problem.as_ref() == Some(&error) {
            debug!(error, "The problem persists: {message}");
        } else {
            warn!(error, "{message}");
            self.logged_problem = Some(error);
        }
    }

    /// Releases the Lease if this replica holds it, so that another replica need not wait. This replica sends no writes
    /// afterwards.
    pub async fn release(&mut self) {
        let was_leader = *self.role.borrow() == Role::Leader && self.election.enabled;
        self.write_lease.revoke();
        self.become_role(Role::Follower);
        let Some(view) = self.view.as_ref().filter(|_| was_leader) else {
            return;
        };
        let mut lease = view.lease.clone();
        lease.spec = Some(lease::release(lease.spec.unwrap_or_default()));
        let replace = self.replace(lease);
        if let Ok(Ok(_)) = timeout(self.election.retry_period, replace).await {
            info!("Released the Lease");
        } else {
            debug!("Cannot release the Lease; it will expire");
        }
    }

    fn lead_without_lease(&mut self) {
        self.write_lease.extend(Moment::NEVER);
        self.become_role(Role::Leader);
    }

    async fn check_lease(&mut self) -> Result<(), Failure> {
        let request_time = Moment::now();
        let lease = self.api.get_opt(&self.election.lease_name).await;
        // The holder may have renewed the Lease just before the response, so the lease duration must not count from an
        // earlier time.
        let response_time = Moment::now();
        let lease = lease.map_err(Failure::Api)?;
        let Some(lease) = lease else {
            let spec = self.renew(None);
            let lease = Readable::Object(self.lease(ObjectMeta::default(), spec));
            let result = self.api.create(&PostParams::default(), &lease).await;
            return self.process_write(result, request_time);
        };
        let is_readable = matches!(lease, Readable::Object(_));
        let lease = lease::readable_or_held(lease);
        if self.is_renewed_by_another_process(&lease) {
            self.change_identity();
        }
        self.view = Some(View::after(self.view.take(), lease, response_time));
        let Some(view) = &self.view else {
            return Ok(());
        };
        match decide(view, self.identity.as_str(), Moment::now()) {
            Step::Wait => {
                self.write_lease.revoke();
                is_readable.then_some(()).ok_or(Failure::Unreadable)
            }
            Step::Acquire => {
                let previous = view.lease.clone();
                let spec = self.renew(previous.spec.as_ref());
                let lease = self.lease(previous.metadata, spec);
                let result = self.replace(lease).await;
                self.process_write(result, request_time)
            }
        }
    }

    /// Processes the response to a write of the Lease. Allows writes until the renew deadline, counted from before the
    /// request was sent: other replicas count the lease duration from that time at the earliest.
    fn process_write(
        &mut self,
        result: Result<Readable<Lease>, kube::Error>,
        request_time: Moment,
    ) -> Result<(), Failure> {
        match result {
            Ok(lease) => {
                let lease = lease::readable_or_held(lease);
                self.renewals = renew_time(&lease).into_iter().collect();
                self.view = Some(View::after(None, lease, request_time));
                self.write_lease
                    .extend(request_time.after(self.election.renew_deadline));
                Ok(())
            }
            // Another replica wrote the Lease first. If this replica was leading without the Lease, since it had no
            // permission, it stops now.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                if !self.has_used_lease {
                    self.write_lease.revoke();
                }
                Ok(())
            }
            Err(error) => Err(Failure::Api(error)),
        }
    }

    async fn replace(&self, lease: Lease) -> Result<Readable<Lease>, kube::Error> {
        let (name, params) = (&self.election.lease_name, PostParams::default());
        let lease = Readable::Object(lease);
        self.api.replace(name, &params, &lease).await
    }

    fn lease(&self, metadata: ObjectMeta, spec: LeaseSpec) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some(self.election.lease_name.clone()),
                managed_fields: None,
                ..metadata
            },
            spec: Some(spec),
        }
    }

    /// Returns the spec of the Lease, acquired or renewed by this process at the current time. Records the renew time.
    fn renew(&mut self, previous: Option<&LeaseSpec>) -> LeaseSpec {
        let times = Times {
            now: jiff::Timestamp::now(),
            duration: self.election.lease_duration,
        };
        self.renewals.push(times.now.as_microsecond());
        acquire(previous, times, self.identity.as_str())
    }

    /// Returns whether another process renewed the Lease under the identity of this process, which is possible only if
    /// `POD_UID` belongs to another Pod. Without this check, both replicas would lead.
    fn is_renewed_by_another_process(&self, lease: &Lease) -> bool {
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_deref());
        let is_own = renew_time(lease).is_some_and(|time| self.renewals.contains(&time));
        holder == Some(self.identity.as_str()) && !self.renewals.is_empty() && !is_own
    }

    fn change_identity(&mut self) {
        self.write_lease.revoke();
        self.identity = Identity::random(&self.pod);
        self.renewals.clear();
        warn!(
            "Another process renews the Lease under the identity of this process: POD_UID is not the uid of this Pod; \
             this replica continues under a random identity, and waits for the Lease"
        );
    }

    /// Updates the role. The leadership may have ended while the API server did not respond.
    fn update_role(&self) {
        let is_known = self.view.is_some() || self.has_used_lease;
        self.become_role(match self.write_lease.is_valid() {
            true => Role::Leader,
            false if self.is_stuck => Role::Stuck,
            false if is_known => Role::Follower,
            false => *self.role.borrow(),
        });
    }

    fn become_role(&self, role: Role) {
        let previous = self.role.send_replace(role);
        match (previous, role) {
            (Role::Leader, Role::Leader) | (Role::Follower, Role::Follower) => {}
            (_, Role::Leader) => info!(
                identity = self.identity.as_str(),
                "This replica is the leader"
            ),
            (Role::Leader, _) => warn!("This replica is no longer the leader and stops writing"),
            (_, Role::Follower) => self.log_leader(),
            (_, Role::Unknown | Role::Stuck) => {}
        }
    }

    /// Logs which replica is the leader. Without `POD_UID`, a restarted process cannot recognize the Lease that its Pod
    /// held before a crash, so a hint is logged too.
    fn log_leader(&self) {
        let spec = self.view.as_ref().and_then(|view| view.lease.spec.as_ref());
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref());
        info!(
            holder = holder.unwrap_or_default(),
            lease = self.election.lease_name,
            "Another replica is the leader; this replica is ready to take over"
        );
        if self.pod.uid.is_none() {
            info!(
                "POD_UID is not set: if the holder was this Pod before a crash, the Lease must expire first; deleting the Lease \
                 ends the wait immediately, and is safe only if no other replica runs"
            );
        }
    }

    /// Returns the pause before the next step: up to a fifth longer than configured, so that replicas do not send
    /// requests at the same time. A standby does not wait beyond the end of the current Lease. A replica without
    /// permission retries less often, since the permission may never be granted.
    fn pause(&self) -> Duration {
        let is_without_lease = !self.has_used_lease && self.write_lease.is_valid();
        let pause = if is_without_lease {
            self.election.renew_deadline
        } else {
            self.election.retry_period
        };
        let pause = pause.mul_f64(1.0 + shared::random::number::<f64>() / 5.0);
        let time_left = self
            .view
            .as_ref()
            .map(|view| Moment::now().until(view.expiry()));
        match time_left {
            Some(time_left) if !time_left.is_zero() && !self.write_lease.is_valid() => {
                pause.min(time_left)
            }
            _ => pause,
        }
    }
}

/// Returns an API server's response as one line, with control characters made visible. Errors of the client (no
/// connection, a response that cannot be parsed) are described and not quoted, since they may contain parts of requests
/// or responses.
pub fn api_response(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => {
            visible_line(&status.message).into_owned()
        }
        kube::Error::Api(status) => format!("the API server responded with {}", status.code),
        kube::Error::SerdeError(_) => "cannot parse the API server's response".into(),
        _ => "the API server cannot be reached".into(),
    }
}

/// Returns the renew time of the Lease in microseconds, the precision of the API.
fn renew_time(lease: &Lease) -> Option<i64> {
    let time = lease.spec.as_ref()?.renew_time.as_ref()?;
    Some(time.0.as_microsecond())
}

impl Failure {
    fn is_denial(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 403)
    }

    /// Returns whether the failure persists until another client or an administrator changes something, or until a
    /// Lease that cannot be read expires.
    fn is_persistent(&self) -> bool {
        match self {
            Self::Api(kube::Error::Api(status)) => matches!(status.code, 400 | 403 | 404 | 422),
            Self::Api(error) => matches!(error, kube::Error::SerdeError(_)),
            Self::NoResponse => false,
            Self::Unreadable => true,
        }
    }

    fn cause(&self) -> Cause {
        match self {
            Self::Api(error) => error.into(),
            Self::NoResponse => Cause::Unreachable,
            Self::Unreadable => Cause::Failed,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Api(error) => api_response(error),
            Self::NoResponse => "the API server does not respond".into(),
            Self::Unreadable => format!(
                "the Lease has a field that this controller cannot read; a replica takes over within {} minutes, or \
                 immediately if the Lease is deleted",
                LONGEST_LEASE.as_secs() / 60
            ),
        }
    }
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate").finish_non_exhaustive()
    }
}

/// Returns the pause; after a failed attempt, it is shorter by the duration of the attempt, because an API server
/// without etcd fails only after seconds. Otherwise a Lease that expired meanwhile would be acquired up to a pause
/// later.
fn shortened_pause(pause: Duration, failed_attempt: Option<Duration>) -> Duration {
    failed_attempt.map_or(pause, |attempt| {
        pause.saturating_sub(attempt).max(MIN_PAUSE.min(pause))
    })
}

#[cfg(test)]
mod tests;
