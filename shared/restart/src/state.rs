//! The state of the cluster as far as a process knows it, and the next step. Time is an argument, and nothing here
//! sends requests.

mod tracked;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use shared::clock::LatestTime;

use crate::decide::{Decision, Memory, RelevantSecret, Situation, Target, due};
use crate::pod::Pod;
use crate::refresh::{self, ChangedSecret};
use crate::sealed::{Namespace, Sealed};
use crate::turns::{Turns, Work};
use crate::workload::{Id, Kind, Workload};
use tracked::TrackedWorkload;

/// Maximum number of workloads in a namespace that are restarted or reported in one turn.
const MAX_OUTCOMES: usize = 16;

/// Maximum number of workloads in a namespace that one turn decides about.
const MAX_CONSIDERED: usize = 64;
/// Maximum number of Pods and uses of Secrets that one turn goes through for all its workloads. A turn with a single
/// workload can go through more.
const MAX_CHECKS: usize = 1_000_000;
/// One turn schedules workloads until the sum of their [`TrackedWorkload::count_names`] exceeds this.
const MAX_NAMES: usize = 5_000;

/// A Secret, identified by its namespace and name.
pub type SecretId = (String, String);

/// The known state of the cluster.
#[derive(Debug, Default)]
pub struct State {
    /// The number of slots for concurrent rollouts (see [`Self::has_slot`]).
    max_rollouts: usize,
    /// Whether to leave workloads to Reloader if only Reloader's annotations opt them in. This is a setting and not
    /// detected, since every client that may write Deployments could create a Deployment that looks like Reloader.
    with_reloader: bool,
    secrets: BTreeMap<SecretId, Sealed>,
    workloads: BTreeMap<Id, TrackedWorkload>,
    /// Namespaces that enable the refresh.
    refreshing: BTreeSet<String>,
    /// Secrets whose Pods must be refreshed, with the earliest time of the refresh.
    refreshes: BTreeMap<SecretId, Timestamp>,
    turns: Turns,
    latest_time: LatestTime,
}

/// The next step of the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// No work before this time or the next event.
    Idle(Option<Timestamp>),
    /// This kind of work for this namespace.
    Work(String, Work),
}

/// A decision that requires a request, an event or a log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The workload that the decision is about.
    pub id: Id,
    /// A restart, or a decision that is reported.
    pub decision: Decision,
}

impl State {
    /// Creates an empty state.
    pub fn new(max_rollouts: usize, with_reloader: bool) -> Self {
        Self {
            max_rollouts,
            with_reloader,
            ..Self::default()
        }
    }

    /// Stores a SealedSecret. If its content or its annotations for Reloader changed, marks the workloads that the
    /// change concerns, and schedules a refresh of its Pods if they need one. All further work is done in the turns of
    /// the namespace, once for any number of events.
    pub fn apply_secret(&mut self, id: &SecretId, sealed: Sealed, now: Timestamp) {
        let is_refreshed =
            self.is_refreshing(id, &sealed) && refresh::is_needed(&sealed.history, now);
        let (newest, tags) = (sealed.history.newest().cloned(), sealed.tags);
        let previous = self.secrets.insert(id.clone(), sealed);
        let is_first = previous.is_none();
        let previous = previous.unwrap_or_default();
        let has_same_content = !is_first && previous.history.newest() == newest.as_ref();
        if has_same_content && previous.tags == tags {
            return;
        }
        if is_first {
            self.match_name(id);
        }
        if is_refreshed {
            self.refreshes.insert(id.clone(), now);
        }
        for tracked in self.tracked_in(&id.0) {
            let relevance = tracked.relevance(&id.1, tags);
            let is_affected =
                || !has_same_content || tracked.relevance(&id.1, previous.tags) != relevance;
            if relevance.is_some() && is_affected() {
                tracked.is_changed = true;
                if !is_first {
                    tracked.record_change(now);
                }
            }
        }
    }

    /// Forgets a SealedSecret that was deleted.
    pub fn delete_secret(&mut self, id: &SecretId) {
        self.secrets.remove(id);
        self.refreshes.remove(id);
        for tracked in self.tracked_in(&id.0) {
            tracked.matched.remove(&id.1);
        }
    }

    /// Schedules the comparison of a new Secret name with the patterns in its namespace.
    fn match_name(&mut self, id: &SecretId) {
        for tracked in self.tracked_in(&id.0) {
            tracked.match_name(&id.1);
        }
    }

    /// Stores a Namespace. If it newly enables the refresh, schedules refreshes for recent changes.
    pub fn apply_namespace(&mut self, name: &str, namespace: Namespace, now: Timestamp) {
        if !namespace.refresh {
            self.refreshing.remove(name);
        } else if self.refreshing.insert(name.to_owned()) {
            let changed = self.secrets_in(name).filter(|(_, sealed)| {
                sealed.refresh != Some(false) && refresh::is_needed(&sealed.history, now)
            });
            let changed: Vec<String> = changed.map(|(secret, _)| secret.clone()).collect();
            for secret in changed {
                self.refreshes.insert((name.to_owned(), secret), now);
            }
        }
    }

    /// Forgets a Namespace that was deleted.
    pub fn delete_namespace(&mut self, name: &str) {
        self.refreshing.remove(name);
    }

    /// Stores a workload, unless a newer version is stored. Returns whether the workload is stored: only workloads that
    /// opt in and are not left to Reloader are.
    pub fn apply_workload(&mut self, id: &Id, workload: Workload) -> bool {
        let opt_in = &workload.opt_in;
        let is_left = self.with_reloader && opt_in.is_by_reloader_alone();
        if is_left || !opt_in.is_enabled() {
            self.workloads.remove(id);
            return false;
        }
        match self.workloads.get_mut(id) {
            Some(tracked) if is_older(&workload, &tracked.workload) => return true,
            Some(tracked) if tracked.workload.uid == workload.uid => tracked.replace(workload),
            _ => {
                self.workloads
                    .insert(id.clone(), TrackedWorkload::new(workload));
            }
        }
        true
    }

    /// Forgets a workload that was deleted.
    pub fn delete_workload(&mut self, id: &Id) {
        self.workloads.remove(id);
    }

    /// Removes the workloads of one kind that are missing in a complete list of `namespace` (`None`: of all
    /// namespaces).
    pub fn retain_workloads(&mut self, kind: Kind, namespace: Option<&str>, listed: &BTreeSet<Id>) {
        self.workloads.retain(|id, _| {
            let is_in_list =
                id.kind == kind && namespace.is_none_or(|namespace| namespace == id.namespace);
            !is_in_list || listed.contains(id)
        });
    }

    /// Like [`Self::retain_workloads`], for SealedSecrets.
    pub fn retain_secrets(&mut self, namespace: Option<&str>, listed: &BTreeSet<SecretId>) {
        self.secrets.retain(|id, _| {
            let is_in_list = namespace.is_none_or(|namespace| namespace == id.0);
            !is_in_list || listed.contains(id)
        });
        let secrets = &self.secrets;
        self.refreshes.retain(|id, _| secrets.contains_key(id));
        for (id, tracked) in &mut self.workloads {
            let exists =
                |name: &String| secrets.contains_key(&(id.namespace.clone(), name.clone()));
            tracked.matched.retain(exists);
        }
    }

    /// Returns the next step. Namespaces take turns.
    pub fn next(&mut self, now: Timestamp) -> Step {
        if self.latest_time.record(now).is_some() {
            self.check_everything(now);
        }
        let changed = self.workloads.iter().filter(|(_, t)| t.is_changed);
        let changed = changed.map(|(id, _)| (id.namespace.as_str(), Work::Schedule));
        let matching = self.workloads.iter().filter(|(_, t)| t.matching.is_some());
        let matching = matching.map(|(id, _)| (id.namespace.as_str(), Work::Match));
        let checks = self.workloads.iter().filter(|(_, t)| t.is_due(now));
        let checks = checks.map(|(id, _)| (id.namespace.as_str(), Work::Consider));
        let refreshes = self.refreshes.iter().filter(|(_, time)| **time <= now);
        let refreshes = refreshes.map(|((namespace, _), _)| (namespace.as_str(), Work::Refresh));
        let due = changed.chain(matching).chain(checks).chain(refreshes);
        let due = due.collect();
        match self.turns.next(&due) {
            Some((namespace, work)) => Step::Work(namespace, work),
            None => Step::Idle(self.next_time()),
        }
    }

    /// Makes all planned work due now at the latest. Called after the clock was set back, since planned times can then
    /// be later than intended.
    fn check_everything(&mut self, now: Timestamp) {
        for tracked in self.workloads.values_mut() {
            tracked.check_at = tracked.check_at.map(|time| time.min(now));
        }
        for time in self.refreshes.values_mut() {
            *time = now.min(*time);
        }
    }

    /// Determines when to check the next changed workloads of this namespace.
    pub fn schedule_changed(&mut self, namespace: &str, now: Timestamp) {
        let changed = self
            .workloads_in(namespace)
            .filter(|(_, tracked)| tracked.is_changed);
        let mut names = 0;
        let within_limit = changed.take_while(|(_, tracked)| {
            let is_within_limit = names <= MAX_NAMES;
            names += tracked.count_names();
            is_within_limit
        });
        let ids: Vec<Id> = within_limit.map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.schedule(&id, now);
        }
    }

    /// Returns when the next work is due, if none is due now.
    fn next_time(&self) -> Option<Timestamp> {
        let checks = self
            .workloads
            .values()
            .filter_map(|tracked| tracked.check_at);
        checks.chain(self.refreshes.values().copied()).min()
    }

    /// Compares one pattern of a workload in this namespace with the names of Secrets.
    pub fn match_names(&mut self, namespace: &str, now: Timestamp) {
        let names: Vec<String> = self
            .secrets_in(namespace)
            .map(|(name, _)| name.clone())
            .collect();
        let unfinished = self
            .workloads_in(namespace)
            .find(|(_, tracked)| tracked.matching.is_some());
        let Some(id) = unfinished.map(|(id, _)| id.clone()) else {
            return;
        };
        let tracked = self.workloads.get_mut(&id);
        if tracked.is_some_and(|tracked| tracked.match_next_pattern(&names)) {
            self.schedule(&id, now);
        }
    }

    /// Removes and returns the Secrets of a namespace whose Pods must be refreshed, with their histories. Omits Secrets
    /// whose content the kubelet has written in the meantime.
    pub fn take_refreshes(&mut self, namespace: &str, now: Timestamp) -> Vec<ChangedSecret> {
        let is_in = |id: &&SecretId| id.0 == namespace;
        let ids: Vec<SecretId> = self.refreshes.keys().filter(is_in).cloned().collect();
        let mut taken = Vec::new();
        for id in ids {
            self.refreshes.remove(&id);
            let history = self.secrets.get(&id).map(|sealed| sealed.history.clone());
            let history = history.filter(|history| refresh::is_needed(history, now));
            taken.extend(history.map(|history| (id.1, history)));
        }
        taken
    }

    /// Returns the Secrets of a namespace whose newest content the kubelet may not have written yet.
    pub fn recent_changes(&self, namespace: &str, now: Timestamp) -> Vec<ChangedSecret> {
        let changed = self
            .secrets_in(namespace)
            .filter(|(_, sealed)| refresh::is_needed(&sealed.history, now));
        changed
            .map(|(name, sealed)| (name.clone(), sealed.history.clone()))
            .collect()
    }

    /// Schedules the refreshes of a namespace again after its Pods could not be listed.
    pub fn postpone_refreshes(&mut self, namespace: &str, retry_at: Timestamp) {
        for (id, time) in &mut self.refreshes {
            if id.0 == namespace {
                *time = retry_at;
            }
        }
    }

    /// Returns whether a due workload of the namespace needs the list of Pods.
    pub fn needs_pods(&self, namespace: &str, now: Timestamp) -> bool {
        self.first_due(namespace, MAX_CONSIDERED, now)
            .any(|(id, tracked)| {
                let secrets = self.relevant(id, tracked);
                let target = Target::of(id.kind, &secrets);
                target.is_some_and(|target| {
                    self.situation((id, tracked), &secrets, 0, now)
                        .decide_without_pods(&target)
                        .is_none()
                })
            })
    }

    /// Returns the due workloads of a namespace, at most `max` of them.
    fn first_due(
        &self,
        namespace: &str,
        max: usize,
        now: Timestamp,
    ) -> impl Iterator<Item = (&Id, &TrackedWorkload)> {
        self.workloads_in(namespace)
            .filter(move |(_, tracked)| tracked.is_due(now))
            .take(max)
    }

    /// Decides about a limited number of due workloads of a namespace. Returns at most `MAX_OUTCOMES` decisions that
    /// require a request, an event or a log line; after [`Decision::Restart`], the caller reports the result with
    /// [`Self::record_restart`] or [`Self::record_failure`].
    pub fn consider(&mut self, namespace: &str, pods: &[Pod], now: Timestamp) -> Vec<Outcome> {
        let due = self.first_due(namespace, max_considered(pods), now);
        let due: Vec<Id> = due.map(|(id, _)| id.clone()).collect();
        let (mut outcomes, mut restarts) = (Vec::new(), 0);
        for id in due {
            let Some(outcome) = self.consider_one(&id, pods, restarts, now) else {
                continue;
            };
            restarts += usize::from(matches!(outcome.decision, Decision::Restart(_)));
            outcomes.push(outcome);
            if outcomes.len() >= MAX_OUTCOMES {
                break;
            }
        }
        outcomes
    }

    /// Decides about one workload. `restarts` is the number of restarts that were decided in this turn and are not
    /// written yet.
    fn consider_one(
        &mut self,
        id: &Id,
        pods: &[Pod],
        restarts: usize,
        now: Timestamp,
    ) -> Option<Outcome> {
        let tracked = self.workloads.get(id)?;
        let secrets = self.relevant(id, tracked);
        let target = Target::of(id.kind, &secrets);
        let decision = match &target {
            Some(target) => {
                let selector = &tracked.workload.selector;
                let own: Vec<&Pod> = pods
                    .iter()
                    .filter(|pod| selector.selects(&pod.labels))
                    .collect();
                self.situation((id, tracked), &secrets, restarts, now)
                    .decide(target.clone(), &own)
            }
            None => Decision::UpToDate,
        };
        let tracked = self.workloads.get_mut(id)?;
        tracked.record(&decision, target).then(|| Outcome {
            id: id.clone(),
            decision,
        })
    }

    /// Records that a workload was restarted. `workload` is the response of the API server.
    pub fn record_restart(&mut self, id: &Id, target: Target, workload: Workload, now: Timestamp) {
        if let Some(tracked) = self.workloads.get_mut(id) {
            let attempts = match &tracked.memory.last_written {
                Some((written, count)) if *written == target => count.saturating_add(1),
                _ => 1,
            };
            tracked.memory = Memory {
                first_change: None,
                last_written: Some((target, attempts)),
            };
            tracked.restarted_at = Some(now);
            tracked.replace(workload);
        }
        self.schedule(id, now);
    }

    /// Records that a workload could not be restarted, and schedules a retry.
    pub fn record_failure(&mut self, id: &Id, retry_at: Timestamp) {
        if let Some(tracked) = self.workloads.get_mut(id) {
            tracked.check_at = Some(retry_at);
        }
    }

    /// Schedules the due workloads of a namespace again after their Pods could not be listed.
    pub fn postpone(&mut self, namespace: &str, now: Timestamp, retry_at: Timestamp) {
        let due = self
            .workloads_in(namespace)
            .filter(|(_, tracked)| tracked.is_due(now));
        let due: Vec<Id> = due.map(|(id, _)| id.clone()).collect();
        for id in due {
            self.record_failure(&id, retry_at);
        }
    }

    /// Returns a stored workload.
    pub fn workload(&self, id: &Id) -> Option<&Workload> {
        self.workloads.get(id).map(|tracked| &tracked.workload)
    }

    /// Returns the number of stored workloads, which opt in, and how many of them wait for a restart.
    pub fn counts(&self) -> (usize, usize) {
        let waiting = self
            .workloads
            .values()
            .filter(|tracked| tracked.waiting.is_some());
        (self.workloads.len(), waiting.count())
    }

    fn workloads_in(&self, namespace: &str) -> impl Iterator<Item = (&Id, &TrackedWorkload)> {
        let (first, namespace) = (first_in(namespace), namespace.to_owned());
        self.workloads
            .range(first..)
            .take_while(move |(id, _)| id.namespace == namespace)
    }

    fn tracked_in(&mut self, namespace: &str) -> impl Iterator<Item = &mut TrackedWorkload> {
        let (first, namespace) = (first_in(namespace), namespace.to_owned());
        self.workloads
            .range_mut(first..)
            .take_while(move |(id, _)| id.namespace == namespace)
            .map(|(_, tracked)| tracked)
    }

    /// Returns the Secrets in a namespace, by name.
    fn secrets_in(&self, namespace: &str) -> impl Iterator<Item = (&String, &Sealed)> {
        let (first, namespace) = ((namespace.to_owned(), String::new()), namespace.to_owned());
        self.secrets
            .range(first..)
            .take_while(move |(id, _)| id.0 == namespace)
            .map(|((_, name), sealed)| (name, sealed))
    }

    /// Returns the Secrets whose changes restart the workload. The cost depends on the Secrets that the workload
    /// consumes, names or matches, not on the number of Secrets in the namespace.
    fn relevant<'a>(&'a self, id: &Id, tracked: &'a TrackedWorkload) -> Vec<RelevantSecret<'a>> {
        let mut names: BTreeSet<&str> = tracked.workload.uses.secrets().collect();
        names.extend(
            tracked
                .workload
                .opt_in
                .named_secrets()
                .iter()
                .map(String::as_str),
        );
        names.extend(tracked.matched.iter().map(String::as_str));
        let relevant = names.into_iter().filter_map(|name| {
            let sealed = self.secrets.get(&(id.namespace.clone(), name.to_owned()))?;
            let is_consumed = tracked.relevance(name, sealed.tags)?;
            let history = &sealed.history;
            Some(RelevantSecret {
                name,
                history,
                is_consumed,
            })
        });
        relevant.collect()
    }

    fn situation<'a>(
        &self,
        (id, tracked): (&Id, &'a TrackedWorkload),
        secrets: &'a [RelevantSecret<'a>],
        restarts: usize,
        now: Timestamp,
    ) -> Situation<'a> {
        Situation {
            workload: &tracked.workload,
            secrets,
            memory: &tracked.memory,
            has_slot: self.has_slot(&id.namespace, restarts, now),
            now,
        }
    }

    /// Returns whether another rollout may start in a namespace in which `restarts` others are about to start. Rollouts
    /// that never become available occupy their slots for minutes, so each namespace has one reserve slot; all reserve
    /// slots together are limited to the number of regular slots.
    fn has_slot(&self, namespace: &str, restarts: usize, now: Timestamp) -> bool {
        let (mut all, mut own) = (restarts, restarts);
        for (id, _) in self.workloads.iter().filter(|(_, t)| t.is_rolling_out(now)) {
            all += 1;
            own += usize::from(id.namespace == namespace);
        }
        all < self.max_rollouts || own == 0 && all < 2 * self.max_rollouts
    }

    /// Sets when to check a workload next.
    fn schedule(&mut self, id: &Id, now: Timestamp) {
        let Some(tracked) = self.workloads.get(id) else {
            return;
        };
        let secrets = self.relevant(id, tracked);
        let due = due(&secrets, &tracked.memory, tracked.workload.opt_in.window);
        let target = Target::of(id.kind, &secrets);
        let is_settled = target.is_some() && tracked.settled == target;
        if let Some(tracked) = self.workloads.get_mut(id) {
            tracked.is_changed = false;
            tracked.check_at = due.filter(|_| !is_settled).map(|due| due.max(now));
            tracked.waiting = tracked.waiting.filter(|_| tracked.check_at.is_some());
        }
    }

    fn is_refreshing(&self, id: &SecretId, sealed: &Sealed) -> bool {
        sealed
            .refresh
            .unwrap_or_else(|| self.refreshing.contains(&id.0))
    }
}

/// Returns the smallest possible workload identifier in a namespace.
fn first_in(namespace: &str) -> Id {
    Id {
        namespace: namespace.to_owned(),
        kind: Kind::ALL[0],
        name: String::new(),
    }
}

/// Returns how many workloads one turn may compare with these Pods.
fn max_considered(pods: &[Pod]) -> usize {
    let checks: usize = pods.iter().map(|pod| 1 + pod.uses.count()).sum();
    (MAX_CHECKS / checks.max(1)).clamp(1, MAX_CONSIDERED)
}

/// Returns whether an event has an earlier version than the stored workload, which can be newer because it comes from
/// the response to a request.
fn is_older(event: &Workload, stored: &Workload) -> bool {
    let number = |workload: &Workload| workload.version.parse::<u64>().ok();
    event.uid == stored.uid
        && number(event)
            .zip(number(stored))
            .is_some_and(|(event, stored)| event < stored)
}

#[cfg(test)]
mod tests;
