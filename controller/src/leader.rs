//! Who may write: one of several replicas, by a Lease.
//!
//! The rules are those of client-go, so that replicas of both can share a Lease: whoever sees it
//! unchanged for as long as it lasts may take it, by his own clock. The one who holds it stops earlier
//! by his own clock, whatever he is told: after the renew deadline nothing is written any more, and a
//! replica that was paused for longer finds that out before its next write.
//!
//! A request that was on its way to the connection when it was paused may still go out. One that changes or
//! deletes names the version that it was made from, and one that makes a Secret its name, so the API server
//! refuses them where another replica has written. Nothing holds back an event, which decides nothing, or
//! a renewed key, which would be one more. The same holds for the last requests of a container that was
//! killed, when the next one in its Pod goes on with the Lease at once.

mod identity;
mod lease;
mod term;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::args::{Election, Pod};
use crate::store::api_answer;
use crate::watch_health::{Cause, WatchHealth};
use identity::Identity;
use lease::{Step, Times, View, decide, taken};
pub use term::{Moment, Term};

/// The Lease, among what is watched.
const LEASE: &str = "the Lease";

/// What a replica is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is not known yet.
    Unknown,
    /// Another one writes.
    Follower,
    /// This one writes.
    Leader,
}

/// Stands for election as long as it runs.
pub struct Candidate {
    api: Api<Lease>,
    election: Election,
    pod: Pod,
    identity: Identity,
    /// The times of renewal, in microseconds, that this process wrote or tried to write since the last
    /// answer. A Lease in its name with another one was renewed by somebody else.
    renewals: Vec<i64>,
    term: Arc<Term>,
    role: watch::Sender<Role>,
    /// Counts how often the API server answered after a failure.
    reached: watch::Sender<u64>,
    health: Arc<WatchHealth>,
    view: Option<View>,
    /// The Lease was read or written once, so nobody can say that it may not be.
    was_served: bool,
    /// What was said last about a Lease that cannot be used.
    told: Option<String>,
}

/// A question to the API server failed.
enum Failure {
    Api(kube::Error),
    Silence,
}

impl Candidate {
    /// Stands for nothing yet. Writes are allowed by `term` while this replica leads.
    pub fn new(
        client: Client,
        namespace: &str,
        election: Election,
        pod: Pod,
        term: Arc<Term>,
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
            term,
            view: None,
            was_served: false,
            told: None,
        }
    }

    /// What this replica is, as it changes.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    /// Changes each time the API server answers after a failure.
    pub fn reached(&self) -> watch::Receiver<u64> {
        self.reached.subscribe()
    }

    /// Stands for election for ever. Without the right to use Leases it leads, says so once, and goes on
    /// asking: the right may be on its way, to it and to another replica.
    pub async fn run(&mut self) {
        if !self.election.elects {
            return self.lead_alone();
        }
        loop {
            self.step().await;
            tokio::time::sleep(self.pause()).await;
        }
    }

    async fn step(&mut self) {
        let turn = timeout(self.election.renew_deadline, self.turn()).await;
        match turn.unwrap_or(Err(Failure::Silence)) {
            Ok(()) => {
                self.was_served = true;
                self.told = None;
                self.answered();
            }
            Err(failure) if failure.is_denial() && !self.was_served => {
                self.answered();
                self.tell(
                    failure.text(),
                    "This controller may not use Leases, so it takes itself for the only replica until it may: \
                     grant get, create and update of leases in its namespace to run several, or say \
                     --leader-elect=false",
                );
                self.lead_alone();
            }
            Err(failure) => {
                self.health
                    .fails(LEASE, failure.cause(), jiff::Timestamp::now());
                self.tell(
                    failure.text(),
                    "Cannot use the Lease; no replica can take over until this is fixed",
                );
            }
        }
        self.see();
    }

    fn answered(&self) {
        if self.health.works(LEASE) {
            self.reached.send_modify(|count| *count += 1);
        }
    }

    /// Once for each kind of trouble in a row.
    fn tell(&mut self, error: String, what: &str) {
        if self.told.as_ref() == Some(&error) {
            debug!(error, "Still: {what}");
        } else {
            warn!(error, "{what}");
            self.told = Some(error);
        }
    }

    /// Gives the Lease up, so that another replica need not wait. Nothing is written after this.
    pub async fn release(&mut self) {
        let led = *self.role.borrow() == Role::Leader && self.election.elects;
        self.term.end();
        self.become_role(Role::Follower);
        let Some(view) = self.view.as_ref().filter(|_| led) else {
            return;
        };
        let mut lease = view.lease.clone();
        lease.spec = Some(lease::released(lease.spec.unwrap_or_default()));
        let released = self.replace(&lease);
        if let Ok(Ok(_)) = timeout(self.election.retry_period, released).await {
            info!("Gave the lead up");
        } else {
            debug!("Cannot give the lead up; it ends by itself");
        }
    }

    fn lead_alone(&mut self) {
        self.term.extend(Moment::END);
        self.become_role(Role::Leader);
    }

    async fn turn(&mut self) -> Result<(), Failure> {
        let asked = Moment::now();
        let lease = self.api.get_opt(&self.election.lease_name).await;
        // The holder may have renewed it just before the answer, so nobody may count from earlier.
        let answered = Moment::now();
        let lease = lease.map_err(Failure::Api)?;
        let Some(lease) = lease else {
            let spec = self.renewed(None);
            let wanted = self.lease(ObjectMeta::default(), spec);
            let made = self.api.create(&PostParams::default(), &wanted).await;
            return self.written(made, asked);
        };
        if self.is_renewed_by_another(&lease) {
            self.change_identity();
        }
        self.view = Some(View::after(self.view.take(), lease, answered));
        let Some(view) = &self.view else {
            return Ok(());
        };
        match decide(view, self.identity.as_str(), Moment::now()) {
            Step::Wait => {
                self.term.end();
                Ok(())
            }
            Step::Take => {
                let before = view.lease.clone();
                let spec = self.renewed(before.spec.as_ref());
                let wanted = self.lease(before.metadata, spec);
                let taken = self.replace(&wanted).await;
                self.written(taken, asked)
            }
        }
    }

    /// The term counts from before the question was asked: that is the earliest instant from which
    /// another replica may count.
    fn written(
        &mut self,
        written: Result<Lease, kube::Error>,
        asked: Moment,
    ) -> Result<(), Failure> {
        match written {
            Ok(lease) => {
                self.renewals = renewal(&lease).into_iter().collect();
                self.view = Some(View::after(None, lease, asked));
                self.term.extend(asked.after(self.election.renew_deadline));
                Ok(())
            }
            // Another one was faster. A term of ours that is for ever, for want of the right, is over.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                if !self.was_served {
                    self.term.end();
                }
                Ok(())
            }
            Err(error) => Err(Failure::Api(error)),
        }
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, kube::Error> {
        let name = &self.election.lease_name;
        self.api.replace(name, &PostParams::default(), lease).await
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

    /// The Lease in the name of this process, as of now.
    fn renewed(&mut self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let times = Times {
            now: jiff::Timestamp::now(),
            duration: self.election.lease_duration,
        };
        self.renewals.push(times.now.as_microsecond());
        taken(before, times, self.identity.as_str())
    }

    /// Does another process use this identity? Nothing but a `POD_UID` that is not this Pod's makes that
    /// possible, and then two would lead for ever.
    fn is_renewed_by_another(&self, lease: &Lease) -> bool {
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_deref());
        let is_known = renewal(lease).is_some_and(|time| self.renewals.contains(&time));
        holder == Some(self.identity.as_str()) && !self.renewals.is_empty() && !is_known
    }

    fn change_identity(&mut self) {
        self.term.end();
        self.identity = Identity::random(&self.pod);
        self.renewals.clear();
        warn!(
            "Another process renews the Lease under the identity of this one: POD_UID is not the uid of this Pod. \
             This replica goes on under another identity, and waits for the Lease"
        );
    }

    /// Draws the conclusion from the term: it may have ended while nobody answered.
    fn see(&self) {
        let is_known = self.view.is_some() || self.was_served;
        self.become_role(match self.term.lasts() {
            true => Role::Leader,
            false if is_known => Role::Follower,
            false => *self.role.borrow(),
        });
    }

    fn become_role(&self, role: Role) {
        let before = self.role.send_replace(role);
        match (before, role) {
            (Role::Leader, Role::Leader) | (Role::Follower, Role::Follower) => {}
            (_, Role::Leader) => info!(identity = self.identity.as_str(), "This replica leads"),
            (Role::Leader, _) => warn!("This replica does not lead any more, and writes nothing"),
            (_, Role::Follower) => self.log_leader(),
            (_, Role::Unknown) => {}
        }
    }

    /// A process without the identity of its Pod cannot know a Lease that it held itself before a crash.
    fn log_leader(&self) {
        let spec = self.view.as_ref().and_then(|view| view.lease.spec.as_ref());
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref());
        info!(
            holder = holder.unwrap_or_default(),
            lease = self.election.lease_name,
            "Another replica leads; this one is ready to take over"
        );
        if self.pod.uid.is_none() {
            info!(
                "POD_UID is not set: if the holder was this Pod before a crash, the Lease ends by itself. Deleting it ends the \
                 wait at once, and is safe only if no other replica runs"
            );
        }
    }

    /// Up to a fifth longer, so that replicas do not ask in step; but a Lease that runs out is taken
    /// when it does. Who may not use it asks less often: that may be for ever.
    fn pause(&self) -> Duration {
        let is_alone = !self.was_served && self.term.lasts();
        let usual = if is_alone {
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
            Some(rest) if !rest.is_zero() && !self.term.lasts() => usual.min(rest),
            _ => usual,
        }
    }
}

/// When the Lease was renewed last, in microseconds, since it stores no more.
fn renewal(lease: &Lease) -> Option<i64> {
    let time = lease.spec.as_ref()?.renew_time.as_ref()?;
    Some(time.0.as_microsecond())
}

impl Failure {
    fn is_denial(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 403)
    }

    fn cause(&self) -> Cause {
        match self {
            Self::Api(error) => error.into(),
            Self::Silence => Cause::Unreachable,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Api(error) => api_answer(error),
            Self::Silence => "the API server does not answer".into(),
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
