//! Leader election: a Lease decides which of several replicas may write.
//!
//! The rules are those of client-go, so that replicas of both implementations can share a Lease. A replica that has
//! observed the Lease unchanged for the lease duration, by its own clock, may acquire it. The holder stops writing
//! earlier, at the renew deadline by its own clock, whatever the API server answers. A replica that was paused for
//! longer detects this before its next write.
//!
//! A request that was already on its way to the connection when the process was paused can still be sent.
//! Updates and deletes name the resource version that they are based on, and creates name the Secret, so the
//! API server rejects them if another replica has written since. Two kinds of request are not protected in
//! this way: events, which have no effect on Secrets, and renewed keys, where the harm is one key too many.
//! The same applies to the last requests of a container that was killed, if the next container of its Pod acquires the
//! Lease at once.

mod identity;
mod lease;
mod write_lease;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::args::{Election, Pod};
use crate::readable::Readable;
use crate::store::api_response;
use crate::watch_health::{Cause, WatchHealth};
use identity::Identity;
pub(crate) use lease::LONGEST_LEASE;
use lease::{Step, Times, View, decide, taken};
pub use write_lease::{Moment, WriteLease};

/// Name of the Lease in the list of watches.
const LEASE: &str = "the Lease";

/// The current role of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The role is not known yet.
    Unknown,
    /// Another replica is the leader.
    Follower,
    /// This replica is the leader.
    Leader,
    /// No replica can lead: the Lease cannot be used, and that does not end by itself.
    Stuck,
}

/// A replica in the leader election.
pub struct Candidate {
    api: Api<Readable<Lease>>,
    election: Election,
    pod: Pod,
    identity: Identity,
    /// The renew times, in microseconds, that this process wrote or tried to write since the last response. If the
    /// Lease has this identity and another renew time, another process renewed it.
    renewals: Vec<i64>,
    write_lease: Arc<WriteLease>,
    role: watch::Sender<Role>,
    /// Counts how often the API server answered after a failure.
    reached: watch::Sender<u64>,
    health: Arc<WatchHealth>,
    view: Option<View>,
    /// Whether the Lease was read or written at least once. If so, a later denial does not mean that this
    /// replica lacks the permission.
    was_served: bool,
    /// Whether the last attempt to use the Lease failed in a way that does not end by itself.
    is_stuck: bool,
    /// The last logged problem with the Lease.
    reported: Option<String>,
}

/// A request to the API server failed.
enum Failure {
    Api(kube::Error),
    NoResponse,
    /// The Lease is not valid for its type. It is taken over after [`LONGEST_LEASE`].
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
            identity: Identity::of(&pod),
            pod,
            renewals: Vec::new(),
            role: watch::Sender::new(Role::Unknown),
            reached: watch::Sender::default(),
            health,
            election,
            write_lease,
            view: None,
            was_served: false,
            is_stuck: false,
            reported: None,
        }
    }

    /// Returns a receiver for the role of this replica.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    /// Returns a receiver that changes each time the API server answers after a failure.
    pub fn reached(&self) -> watch::Receiver<u64> {
        self.reached.subscribe()
    }

    /// Campaigns until it is dropped. Without permission to use Leases the replica is the leader, logs this once, and
    /// retries, since the permission may be granted later, to this replica and to others.
    pub async fn run(&mut self) {
        if !self.election.enabled {
            return self.lead_without_lease();
        }
        loop {
            self.step().await;
            tokio::time::sleep(self.pause()).await;
        }
    }

    async fn step(&mut self) {
        let result = timeout(self.election.renew_deadline, self.check_lease()).await;
        match result.unwrap_or(Err(Failure::NoResponse)) {
            Ok(()) => {
                self.was_served = true;
                self.is_stuck = false;
                self.reported = None;
                self.record_response();
            }
            Err(failure) if failure.is_denial() && !self.was_served => {
                self.is_stuck = false;
                self.record_response();
                self.log_problem(
                    failure.text(),
                    "RBAC does not allow this controller to use Leases, so it assumes to be the only replica: to run several replicas, \
                     grant get, create and update of leases in its namespace; otherwise set \
                     --leader-elect=false",
                );
                self.lead_without_lease();
            }
            Err(failure) => {
                self.health
                    .record_failure(LEASE, failure.cause(), jiff::Timestamp::now());
                self.is_stuck = failure.lasts();
                self.log_problem(
                    failure.text(),
                    "Cannot use the Lease; no replica can take over until this is fixed",
                );
            }
        }
        self.update_role();
    }

    fn record_response(&self) {
        if self.health.record_success(LEASE) {
            self.reached.send_modify(|count| *count += 1);
        }
    }

    /// Logs a problem: at WARN the first time, at DEBUG while it continues.
    fn log_problem(&mut self, error: String, what: &str) {
        if self.reported.as_ref() == Some(&error) {
            debug!(error, "Still: {what}");
        } else {
            warn!(error, "{what}");
            self.reported = Some(error);
        }
    }

    /// Releases the Lease, so that another replica need not wait. This replica writes nothing afterwards.
    pub async fn release(&mut self) {
        let led = *self.role.borrow() == Role::Leader && self.election.enabled;
        self.write_lease.end();
        self.become_role(Role::Follower);
        let Some(view) = self.view.as_ref().filter(|_| led) else {
            return;
        };
        let mut lease = view.lease.clone();
        lease.spec = Some(lease::released(lease.spec.unwrap_or_default()));
        let released = self.replace(lease);
        if let Ok(Ok(_)) = timeout(self.election.retry_period, released).await {
            info!("Released the Lease");
        } else {
            debug!("Cannot release the Lease; it will expire");
        }
    }

    fn lead_without_lease(&mut self) {
        self.write_lease.extend(Moment::END);
        self.become_role(Role::Leader);
    }

    async fn check_lease(&mut self) -> Result<(), Failure> {
        let requested_at = Moment::now();
        let lease = self.api.get_opt(&self.election.lease_name).await;
        // The holder may have renewed the Lease just before the answer, so no replica may count from an
        // earlier time.
        let response_time = Moment::now();
        let lease = lease.map_err(Failure::Api)?;
        let Some(lease) = lease else {
            let spec = self.renewed(None);
            let wanted = Readable::Object(self.lease(ObjectMeta::default(), spec));
            let created = self.api.create(&PostParams::default(), &wanted).await;
            return self.written(created, requested_at);
        };
        let is_readable = matches!(lease, Readable::Object(_));
        let lease = lease::or_held(lease);
        if self.is_renewed_by_another(&lease) {
            self.change_identity();
        }
        self.view = Some(View::after(self.view.take(), lease, response_time));
        let Some(view) = &self.view else {
            return Ok(());
        };
        match decide(view, self.identity.as_str(), Moment::now()) {
            Step::Wait => {
                self.write_lease.end();
                is_readable.then_some(()).ok_or(Failure::Unreadable)
            }
            Step::Take => {
                let before = view.lease.clone();
                let spec = self.renewed(before.spec.as_ref());
                let wanted = self.lease(before.metadata, spec);
                let taken = self.replace(wanted).await;
                self.written(taken, requested_at)
            }
        }
    }

    /// Processes the response to a write of the Lease. The term counts from before the request was sent, since another
    /// replica may count from that time at the earliest.
    fn written(
        &mut self,
        written: Result<Readable<Lease>, kube::Error>,
        requested_at: Moment,
    ) -> Result<(), Failure> {
        match written {
            Ok(lease) => {
                let lease = lease::or_held(lease);
                self.renewals = renewal(&lease).into_iter().collect();
                self.view = Some(View::after(None, lease, requested_at));
                self.write_lease
                    .extend(requested_at.after(self.election.renew_deadline));
                Ok(())
            }
            // Another replica was faster. If this one was leading without a Lease for lack of permission,
            // that ends now.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                if !self.was_served {
                    self.write_lease.end();
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

    /// Returns the Lease spec renewed now in the name of this process.
    fn renewed(&mut self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let times = Times {
            now: jiff::Timestamp::now(),
            duration: self.election.lease_duration,
        };
        self.renewals.push(times.now.as_microsecond());
        taken(before, times, self.identity.as_str())
    }

    /// Returns whether another process uses this identity. Only a `POD_UID` that belongs to another Pod makes
    /// that possible. Without this check both replicas would lead.
    fn is_renewed_by_another(&self, lease: &Lease) -> bool {
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_deref());
        let is_known = renewal(lease).is_some_and(|time| self.renewals.contains(&time));
        holder == Some(self.identity.as_str()) && !self.renewals.is_empty() && !is_known
    }

    fn change_identity(&mut self) {
        self.write_lease.end();
        self.identity = Identity::random(&self.pod);
        self.renewals.clear();
        warn!(
            "Another process renews the Lease under the identity of this one: POD_UID is not the uid of this Pod. \
             This replica continues under another identity, and waits for the Lease"
        );
    }

    /// Updates the role from the term, which may have ended while the API server did not answer.
    fn update_role(&self) {
        let is_known = self.view.is_some() || self.was_served;
        self.become_role(match self.write_lease.is_valid() {
            true => Role::Leader,
            false if self.is_stuck => Role::Stuck,
            false if is_known => Role::Follower,
            false => *self.role.borrow(),
        });
    }

    fn become_role(&self, role: Role) {
        let before = self.role.send_replace(role);
        match (before, role) {
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

    /// Logs which replica is the leader. A process that does not know its Pod cannot recognize a Lease that it held
    /// itself before a crash.
    fn log_leader(&self) {
        let spec = self.view.as_ref().and_then(|view| view.lease.spec.as_ref());
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref());
        info!(
            holder = holder.unwrap_or_default(),
            lease = self.election.lease_name,
            "Another replica is the leader; this one is ready to take over"
        );
        if self.pod.uid.is_none() {
            info!(
                "POD_UID is not set: if the holder was this Pod before a crash, the Lease must expire first. Deleting the Lease \
                 ends the wait at once, and is safe only if no other replica runs"
            );
        }
    }

    /// Returns the pause before the next step: up to a fifth longer than configured, so that replicas do not send
    /// requests at the same moment, but not beyond the end of the current Lease. A replica without permission retries
    /// less often, since that can last indefinitely.
    fn pause(&self) -> Duration {
        let is_without_lease = !self.was_served && self.write_lease.is_valid();
        let usual = if is_without_lease {
            self.election.renew_deadline
        } else {
            self.election.retry_period
        };
        let usual = usual.mul_f64(1.0 + shared::random::number::<f64>() / 5.0);
        let rest = self
            .view
            .as_ref()
            .map(|view| Moment::now().until(view.end()));
        match rest {
            Some(rest) if !rest.is_zero() && !self.write_lease.is_valid() => usual.min(rest),
            _ => usual,
        }
    }
}

/// Returns the renew time of the Lease in microseconds, the precision of the API.
fn renewal(lease: &Lease) -> Option<i64> {
    let time = lease.spec.as_ref()?.renew_time.as_ref()?;
    Some(time.0.as_microsecond())
}

impl Failure {
    fn is_denial(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 403)
    }

    /// Returns whether the failure lasts until a person or another client changes something.
    fn lasts(&self) -> bool {
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
            Self::NoResponse => "the API server does not answer".into(),
            Self::Unreadable => format!(
                "the Lease has a field that this controller cannot read; it is taken over within {} minutes, or at \
                 once if it is deleted",
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

#[cfg(test)]
mod tests;
