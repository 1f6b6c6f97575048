//! The state of the cluster as far as a process knows it, and the next step. Time is an argument, and nothing here
//! sends requests.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use shared::clock::LatestTime;

use crate::annotations::{self, LONGEST_WINDOW};
use crate::decide::{self, Decision, Memory, Relevant, Situation, Target, Waiting, due};
use crate::pod::Pod;
use crate::refresh::{self, Changed};
use crate::sealed::{Namespace, Sealed};
use crate::turns::{Turns, Work};
use crate::workload::{Id, Kind, Progress, Workload};

/// How long a rollout that this process started occupies a slot. A longer one is usually stuck, and must not delay the
/// others without limit. Equals the default progress deadline of a Deployment.
const LONGEST_ROLLOUT: SignedDuration = SignedDuration::from_mins(10);
/// Maximum number of workloads in a namespace that are restarted or reported in one turn.
const MAX_OUTCOMES: usize = 16;

/// Maximum number of workloads in a namespace that one turn decides about.
const MAX_CONSIDERED: usize = 64;
/// Maximum number of uses of Secrets in Pods that one turn goes through, unless one workload has more.
const MAX_CHECKS: usize = 1_000_000;
/// One turn schedules workloads until they name more Secrets than this.
const MAX_NAMES: usize = 5_000;

/// A Secret, identified by its namespace and name.
pub type SecretId = (String, String);

/// The known state of the cluster.
#[derive(Debug, Default)]
pub struct State {
    /// The maximum number of concurrent rollouts.
    max_rollouts: usize,
    /// Whether to leave workloads to Reloader that only Reloader's annotations opt in. This is a setting and not
    /// detected, since every client that may write Deployments could create one that looks like Reloader.
    with_reloader: bool,
    secrets: BTreeMap<SecretId, Sealed>,
    workloads: BTreeMap<Id, Tracked>,
    /// Namespaces that enable the refresh.
    refreshing: BTreeSet<String>,
    /// Secrets whose Pods must be refreshed, with the earliest time.
    refreshes: BTreeMap<SecretId, Timestamp>,
    turns: Turns,
    latest_time: LatestTime,
}

#[derive(Debug)]
struct Tracked {
    workload: Workload,
    memory: Memory,
    /// The Secrets that match the workload's patterns.
    matched: BTreeSet<String>,
    /// The comparison of its patterns with names that is in progress.
    matching: Option<Matching>,
    /// Whether the workload or a Secret changed, so that the time of the next check must be determined again.
    is_changed: bool,
    /// When to check the workload next.
    check_at: Option<Timestamp>,
    /// Why a restart of the workload waits.
    waiting: Option<Waiting>,
    /// The target for which the workload needs no further action.
    settled: Option<Target>,
    /// When this process last restarted the workload.
    restarted_at: Option<Timestamp>,
}

/// A comparison of patterns with names of Secrets, one pattern at a time.
#[derive(Debug, Default)]
struct Matching {
    /// The index of the next pattern.
    next: usize,
    /// The names to compare; `None` for all names, since the patterns are new.
    names: Option<BTreeSet<String>>,
    /// The names that have matched so far.
    matched_names: BTreeSet<String>,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// No work before this time or the next event.
    Idle(Option<Timestamp>),
    /// This kind of work for this namespace.
    Work(String, Work),
}

/// A decision that requires a request or an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The workload.
    pub id: Id,
    /// The decision.
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

    /// Stores a SealedSecret. If its content changed, marks the workloads and Pods that consume it. All further work is
    /// done in the turns of the namespace, once for any number of events.
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

    /// Removes a SealedSecret.
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

    /// Stores a Namespace. If it did not enable the refresh before, schedules refreshes for recent changes.
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

    /// Removes a Namespace.
    pub fn delete_namespace(&mut self, name: &str) {
        self.refreshing.remove(name);
    }

    /// Stores a workload, unless a newer version is stored. Returns whether it is kept: only workloads that opt in are.
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
                self.workloads.insert(id.clone(), Tracked::new(workload));
            }
        }
        true
    }

    /// Removes a workload.
    pub fn delete_workload(&mut self, id: &Id) {
        self.workloads.remove(id);
    }

    /// Removes all workloads of one kind that are missing in a complete list.
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

    /// Brings all planned times forward after the clock was set back: some are later than intended.
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
    /// whose content kubelet has written in the meantime.
    pub fn take_refreshes(&mut self, namespace: &str, now: Timestamp) -> Vec<Changed> {
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

    /// Returns the Secrets of a namespace whose newest content kubelet may not have written yet.
    pub fn recent_changes(&self, namespace: &str, now: Timestamp) -> Vec<Changed> {
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
    ) -> impl Iterator<Item = (&Id, &Tracked)> {
        self.workloads_in(namespace)
            .filter(move |(_, tracked)| tracked.is_due(now))
            .take(max)
    }

    /// Decides about due workloads of a namespace, a limited number of them. Returns the decisions that require a
    /// request or an event, at most `MAX_OUTCOMES`; after [`Decision::Restart`], the caller reports the result with
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
            let attempts = match &tracked.memory.written {
                Some((written, count)) if *written == target => count.saturating_add(1),
                _ => 1,
            };
            tracked.memory = Memory {
                first_change: None,
                written: Some((target, attempts)),
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

    /// Returns a workload.
    pub fn workload(&self, id: &Id) -> Option<&Workload> {
        self.workloads.get(id).map(|tracked| &tracked.workload)
    }

    /// Returns the number of watched workloads, and how many of them wait for a restart.
    pub fn counts(&self) -> (usize, usize) {
        let waiting = self
            .workloads
            .values()
            .filter(|tracked| tracked.waiting.is_some());
        (self.workloads.len(), waiting.count())
    }

    fn workloads_in(&self, namespace: &str) -> impl Iterator<Item = (&Id, &Tracked)> {
        let (first, namespace) = (first_in(namespace), namespace.to_owned());
        self.workloads
            .range(first..)
            .take_while(move |(id, _)| id.namespace == namespace)
    }

    fn tracked_in(&mut self, namespace: &str) -> impl Iterator<Item = &mut Tracked> {
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

    /// Returns the Secrets whose changes restart the workload. The cost depends on the Secrets that it consumes or
    /// names, not on the number of Secrets in the namespace.
    fn relevant<'a>(&'a self, id: &Id, tracked: &'a Tracked) -> Vec<Relevant<'a>> {
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
            Some(Relevant {
                name,
                history,
                is_consumed,
            })
        });
        relevant.collect()
    }

    fn situation<'a>(
        &self,
        (id, tracked): (&Id, &'a Tracked),
        secrets: &'a [Relevant<'a>],
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
        for (id, _) in self.workloads.iter().filter(|(_, t)| t.is_rolled_out(now)) {
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

impl Tracked {
    fn new(workload: Workload) -> Self {
        let has_patterns = !workload.opt_in.secret_patterns().is_empty();
        Self {
            workload,
            memory: Memory::default(),
            matched: BTreeSet::new(),
            matching: has_patterns.then(Matching::default),
            is_changed: true,
            check_at: None,
            waiting: None,
            settled: None,
            restarted_at: None,
        }
    }

    /// Replaces the workload by a newer version. If another client changed its trigger, its Secrets, or whether it can
    /// be restarted, it is no longer settled. A version without a relevant change causes no work.
    fn replace(&mut self, workload: Workload) {
        self.is_changed |= !self.workload.is_equivalent(&workload);
        let is_paused =
            |workload: &Workload| matches!(workload.progress, Progress::Paused | Progress::Manual);
        if self.workload.trigger != workload.trigger
            || self.workload.uses != workload.uses
            || is_paused(&self.workload) != is_paused(&workload)
        {
            self.settled = None;
        }
        if self.workload.opt_in.secret_patterns() != workload.opt_in.secret_patterns() {
            let has_patterns = !workload.opt_in.secret_patterns().is_empty();
            self.matching = has_patterns.then(Matching::default);
            self.matched.clear();
        }
        self.workload = workload;
    }

    /// Returns whether the workload consumes the Secret, or `None` if changes of the Secret do not restart the
    /// workload.
    fn relevance(&self, secret: &str, tags: annotations::SecretTags) -> Option<bool> {
        let is_matched = || self.matched.contains(secret);
        decide::relevance(&self.workload, secret, tags, is_matched)
    }

    /// Returns how many Secrets the workload consumes or names.
    fn count_names(&self) -> usize {
        let named = self.workload.opt_in.named_secrets().len();
        1 + self.workload.uses.secrets().count() + named + self.matched.len()
    }

    /// Schedules the comparison of a new name with the patterns.
    fn match_name(&mut self, name: &str) {
        if self.workload.opt_in.secret_patterns().is_empty() {
            return;
        }
        let new = || Matching {
            names: Some(BTreeSet::new()),
            ..Matching::default()
        };
        let matching = self.matching.get_or_insert_with(new);
        matching.next = 0;
        if let Some(names) = &mut matching.names {
            names.insert(name.to_owned());
        }
    }

    /// Compares one pattern with names of Secrets; `all` are the names in the namespace. Returns whether the comparison
    /// is complete.
    fn match_next_pattern(&mut self, all: &[String]) -> bool {
        let Some(matching) = &mut self.matching else {
            return false;
        };
        let patterns = self.workload.opt_in.secret_patterns();
        if let Some(pattern) = patterns.get(matching.next) {
            let matched_names = match &matching.names {
                Some(names) => annotations::matches(pattern, names.iter().map(String::as_str)),
                None => annotations::matches(pattern, all.iter().map(String::as_str)),
            };
            matching
                .matched_names
                .extend(matched_names.into_iter().map(str::to_owned));
            matching.next += 1;
        }
        let is_complete = matching.next >= patterns.len();
        if is_complete && let Some(matching) = self.matching.take() {
            self.matched.extend(matching.matched_names);
        }
        is_complete
    }

    /// Records that a Secret changed. If the first change is so old that a leader would have handled it, the new change
    /// becomes the first.
    fn record_change(&mut self, now: Timestamp) {
        let first = self.memory.first_change;
        let is_open =
            first.is_some_and(|first| now.duration_since(first).abs() <= longest_window());
        if !is_open {
            self.memory.first_change = Some(now);
        }
    }

    /// Returns whether a rollout that this process started is in progress.
    fn is_rolled_out(&self, now: Timestamp) -> bool {
        let is_recent = |time: Timestamp| now.duration_since(time).abs() < LONGEST_ROLLOUT;
        let progress = self.workload.progress;
        let is_open = matches!(progress, Progress::InProgress | Progress::Unavailable);
        is_open && self.restarted_at.is_some_and(is_recent)
    }

    /// Returns whether the workload is due for a check. It is not due before its patterns have been compared for the
    /// first time.
    fn is_due(&self, now: Timestamp) -> bool {
        let is_new = |matching: &Matching| matching.names.is_none();
        let is_matched = !self.matching.as_ref().is_some_and(is_new);
        is_matched && self.check_at.is_some_and(|time| time <= now)
    }

    /// Records a decision. Returns whether it requires a request or an event.
    fn record(&mut self, decision: &Decision, target: Option<Target>) -> bool {
        self.waiting = None;
        match decision {
            Decision::Wait(until, why) => {
                self.check_at = Some(*until);
                self.waiting = Some(*why);
                false
            }
            Decision::Restart(_) => true,
            Decision::UpToDate => {
                self.settle(target);
                false
            }
            Decision::Blocked(_) | Decision::Reverted => {
                self.settle(target);
                true
            }
        }
    }

    fn settle(&mut self, target: Option<Target>) {
        self.check_at = None;
        self.memory.first_change = None;
        self.settled = target;
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

fn longest_window() -> SignedDuration {
    SignedDuration::try_from(LONGEST_WINDOW).unwrap_or(SignedDuration::MAX)
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
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::consumption::Delivery;
    use crate::history::tests::{history, second};
    use crate::pod::tests::pod;

    /// A cluster of Deployments that have a variable from the Secret `db`, and one Pod each.
    struct Cluster {
        versions: Vec<(&'static str, &'static str, i64, i64)>,
        state: State,
    }

    fn deployment(name: &str, version: u64, restarted_for: Option<&str>, updated: u64) -> Workload {
        Workload::read(
            Kind::Deployment,
            &json!({
                "metadata": {
                    "uid": name, "resourceVersion": version.to_string(), "generation": 1,
                    "annotations": { "reloader.stakater.com/auto": "true" },
                },
                "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "web" } }, "template": {
                    "metadata": { "annotations": { "sealedsecrets.bitnami.com/restarted-for": restarted_for } },
                    "spec": { "containers": [{ "name": "app", "envFrom": [{ "secretRef": { "name": "db" } }] }] },
                } },
                "status": { "observedGeneration": 1, "replicas": 1, "updatedReplicas": updated, "availableReplicas": 1 },
            }),
        )
    }

    fn id(name: &str) -> Id {
        Id {
            namespace: "ns".into(),
            kind: Kind::Deployment,
            name: name.into(),
        }
    }

    const VERSION_A: (&str, &str, i64, i64) = ("a", "1", 1, 10);

    impl Cluster {
        fn new(names: &[&str], max_rollouts: usize) -> Self {
            let mut cluster = Self {
                versions: vec![VERSION_A],
                state: State::new(max_rollouts, false),
            };
            for name in names {
                cluster
                    .state
                    .apply_workload(&id(name), deployment(name, 1, None, 1));
            }
            cluster.store(11);
            cluster
        }

        /// Changes the content of the Secret.
        fn change(&mut self, version: &'static str, generation: i64, time: i64) {
            self.versions.insert(0, (version, "1", generation, time));
            self.versions.truncate(5);
            self.store(time);
        }

        fn store(&mut self, now: i64) {
            let sealed = Sealed {
                history: history(&self.versions),
                ..Sealed::default()
            };
            self.state
                .apply_secret(&("ns".into(), "db".into()), sealed, second(now));
        }

        /// Runs all work that is due. The Pod of each workload started at `pod_start`. Returns the restarts and other
        /// outcomes.
        fn run(&mut self, now: i64, pod_start: i64) -> Vec<Outcome> {
            let pods = [Pod::read(&pod("p", Delivery::Env, pod_start)).unwrap()];
            loop {
                match self.state.next(second(now)) {
                    Step::Work(namespace, Work::Schedule) => {
                        self.state.schedule_changed(&namespace, second(now));
                    }
                    Step::Work(namespace, Work::Consider) => {
                        return self.state.consider(&namespace, &pods, second(now));
                    }
                    _ => return Vec::new(),
                }
            }
        }

        /// Records that the API server accepted a restart.
        fn accept(&mut self, outcome: &Outcome, version: u64, now: i64) -> String {
            let Decision::Restart(target) = &outcome.decision else {
                unreachable!("a restart: {outcome:?}")
            };
            let Target::Annotation(digest) = target else {
                unreachable!("an annotation")
            };
            let workload = deployment(&outcome.id.name, version, Some(digest), 0);
            self.state
                .record_restart(&outcome.id, target.clone(), workload, second(now));
            digest.clone()
        }
    }

    fn is_restart(outcome: &Outcome) -> bool {
        matches!(outcome.decision, Decision::Restart(_))
    }

    #[test]
    fn twenty_changes_cause_one_restart() {
        let names: Vec<String> = (0..20).map(|number| format!("v{number}")).collect();
        let mut cluster = Cluster::new(&["web"], 5);
        let mut restarts = 0;
        for (number, name) in names.iter().enumerate() {
            let number = i64::try_from(number).unwrap();
            cluster.change(
                Box::leak(name.clone().into_boxed_str()),
                number + 2,
                100 + number / 4,
            );
            restarts += cluster.run(100 + number / 4, 50).len();
        }
        assert_eq!(restarts, 0);
        assert_eq!(
            cluster.state.next(second(105)),
            Step::Idle(Some(second(114)))
        );
        let outcomes = cluster.run(114, 50);
        assert!(
            outcomes.iter().all(is_restart) && outcomes.len() == 1,
            "{outcomes:?}"
        );
        let digest = cluster.accept(&outcomes[0], 7, 114);
        cluster
            .state
            .apply_workload(&id("web"), deployment("web", 9, Some(&digest), 1));
        assert_eq!(cluster.run(200, 115), [], "the restart is complete");
        assert_eq!(cluster.state.next(second(1000)), Step::Idle(None));
    }

    /// Attack: a tenant restarts workloads that never become available, so that those of other tenants wait for a slot.
    #[test]
    fn rollouts_of_one_namespace_leave_slots_to_others() {
        let mut state = State::new(2, false);
        let id = |namespace: &str, name: &str| Id {
            namespace: namespace.into(),
            ..id(name)
        };
        let roll_out = |state: &mut State, namespace: &str, name: &str| {
            let id = id(namespace, name);
            state.apply_workload(&id, deployment(name, 1, None, 0));
            state.workloads.get_mut(&id).unwrap().restarted_at = Some(second(1));
        };
        roll_out(&mut state, "hostile", "a");
        assert!(state.has_slot("hostile", 0, second(2)));
        roll_out(&mut state, "hostile", "b");
        assert!(!state.has_slot("hostile", 0, second(2)));
        for namespace in ["quiet", "other"] {
            assert!(state.has_slot(namespace, 0, second(2)), "{namespace}");
            assert!(!state.has_slot(namespace, 1, second(2)), "{namespace}");
            roll_out(&mut state, namespace, "c");
        }
        assert!(
            !state.has_slot("third", 0, second(2)),
            "twice the number at most"
        );
        let later = second(1) + LONGEST_ROLLOUT;
        assert!(state.has_slot("hostile", 0, later));
    }

    #[test]
    fn neither_a_new_version_key_nor_the_first_version_causes_a_restart() {
        let mut cluster = Cluster::new(&["web"], 5);
        assert_eq!(cluster.run(1000, 5), []);
        cluster.versions.insert(0, ("x", "2", 1, 100));
        cluster.store(100);
        assert_eq!(cluster.state.next(second(1000)), Step::Idle(None));
    }

    #[test]
    fn pods_with_the_new_value_cause_no_restart() {
        let mut cluster = Cluster::new(&["web"], 5);
        cluster.change("b", 2, 100);
        assert_eq!(cluster.run(110, 101), []);
        assert_eq!(cluster.state.next(second(1000)), Step::Idle(None));
    }

    #[test]
    fn a_new_leader_repeats_no_restart() {
        let restart = || {
            let mut cluster = Cluster::new(&["web"], 5);
            cluster.change("b", 2, 100);
            cluster.run(110, 50)
        };
        assert_eq!(restart(), restart());
        // The other leader finds the annotation and writes nothing.
        let mut first = Cluster::new(&["web"], 5);
        first.change("b", 2, 100);
        let outcomes = first.run(110, 50);
        let digest = first.accept(&outcomes[0], 7, 110);
        let mut second_leader = Cluster::new(&[], 5);
        second_leader.change("b", 2, 100);
        second_leader
            .state
            .apply_workload(&id("web"), deployment("web", 9, Some(&digest), 1));
        assert_eq!(second_leader.run(130, 50), []);
    }

    #[test]
    fn a_removed_annotation_is_restored_once() {
        let mut cluster = Cluster::new(&["web"], 5);
        cluster.change("b", 2, 100);
        let outcomes = cluster.run(110, 50);
        let digest = cluster.accept(&outcomes[0], 7, 110);
        cluster
            .state
            .apply_workload(&id("web"), deployment("web", 6, None, 1));
        assert_eq!(cluster.run(112, 50), [], "an event from before the write");
        cluster
            .state
            .apply_workload(&id("web"), deployment("web", 8, None, 1));
        let outcomes = cluster.run(113, 50);
        assert!(
            outcomes.iter().all(is_restart) && outcomes.len() == 1,
            "{outcomes:?}"
        );
        assert_eq!(cluster.accept(&outcomes[0], 9, 113), digest);
        cluster
            .state
            .apply_workload(&id("web"), deployment("web", 10, None, 1));
        let outcomes = cluster.run(114, 50);
        assert_eq!(
            outcomes,
            [Outcome {
                id: id("web"),
                decision: Decision::Reverted
            }]
        );
        assert_eq!(cluster.run(1000, 50), [], "reported once");
        cluster.change("c", 3, 2000);
        assert_eq!(cluster.run(2010, 50).len(), 1, "another content");
    }

    #[test]
    fn limits_concurrent_rollouts() {
        let mut cluster = Cluster::new(&["a", "b", "c"], 2);
        cluster.change("b", 2, 100);
        let outcomes = cluster.run(110, 50);
        assert_eq!(outcomes.len(), 2);
        let digests: Vec<String> = outcomes
            .iter()
            .map(|outcome| cluster.accept(outcome, 7, 110))
            .collect();
        assert_eq!(
            cluster.state.counts(),
            (3, 1),
            "one workload waits for a slot"
        );
        assert_eq!(cluster.run(126, 50), []);
        cluster
            .state
            .apply_workload(&id("a"), deployment("a", 9, Some(&digests[0]), 1));
        assert_eq!(cluster.run(200, 50).len(), 1);
    }

    #[test]
    fn a_stuck_rollout_frees_its_slot() {
        let mut cluster = Cluster::new(&["a", "b"], 1);
        cluster.change("b", 2, 100);
        let outcomes = cluster.run(110, 50);
        cluster.accept(&outcomes[0], 7, 110);
        assert_eq!(cluster.run(600, 50), []);
        assert_eq!(cluster.run(711, 50).len(), 1);
    }

    #[test]
    fn refreshes_only_if_an_annotation_enables_it() {
        for (secret, namespace, want) in [
            (None, false, false),
            (None, true, true),
            (Some(true), false, true),
            (Some(false), true, false),
        ] {
            for is_namespace_first in [true, false] {
                let mut state = State::new(5, false);
                let changed = [("b", "1", 2, 20), VERSION_A];
                let sealed = Sealed {
                    history: history(&changed),
                    refresh: secret,
                    ..Sealed::default()
                };
                let id = ("ns".to_owned(), "db".to_owned());
                if is_namespace_first {
                    state.apply_namespace("ns", Namespace { refresh: namespace }, second(20));
                }
                state.apply_secret(&id, sealed, second(20));
                if !is_namespace_first {
                    state.apply_namespace("ns", Namespace { refresh: namespace }, second(20));
                }
                let step = state.next(second(20));
                assert_eq!(
                    step == Step::Work("ns".into(), Work::Refresh),
                    want,
                    "{secret:?} {namespace}"
                );
                state.postpone_refreshes("ns", second(30));
                let next = want.then(|| second(30));
                assert_eq!(state.next(second(20)), Step::Idle(next));
                let taken = state.take_refreshes("ns", second(20)).len();
                assert_eq!(taken, usize::from(want));
                assert_eq!(state.next(second(500)), Step::Idle(None));
            }
        }
    }

    #[test]
    fn an_old_change_needs_no_refresh() {
        let mut state = State::new(5, false);
        let sealed = Sealed {
            history: history(&[("b", "1", 2, 20), VERSION_A]),
            refresh: Some(true),
            ..Sealed::default()
        };
        let id = ("ns".to_owned(), "db".to_owned());
        state.apply_secret(&id, sealed, second(20));
        assert!(state.take_refreshes("ns", second(500)).is_empty());
    }

    /// Returns a Deployment whose annotation names Secrets by this list.
    fn deployment_with_patterns(name: &str, version: u64, list: &str) -> Workload {
        let mut workload = deployment(name, version, None, 1);
        let annotations = json!({ "secret.reloader.stakater.com/reload": list });
        workload.opt_in = crate::annotations::OptIn::read(&annotations, &Json::Null);
        workload
    }

    /// Attack: a tenant has many workloads with many patterns and many Secrets, and every event of a workload causes
    /// all comparisons, so that no workload of another tenant is checked.
    #[test]
    fn patterns_are_compared_once_and_in_turns() {
        let mut cluster = Cluster::new(&["web"], 5);
        cluster.change("b", 2, 100);
        let of = |name: &str| Id {
            namespace: "busy".into(),
            ..id(name)
        };
        for number in 0..50 {
            let secret = ("busy".to_owned(), format!("s-{number}"));
            let sealed = Sealed::default();
            cluster.state.apply_secret(&secret, sealed, second(100));
        }
        for number in 0..40 {
            let name = number.to_string();
            let workload = deployment_with_patterns(&name, 1, &"s-[0-9],".repeat(32));
            cluster.state.apply_workload(&of(&name), workload);
        }
        let mut restarted_after = None;
        let mut steps = 0;
        while let Step::Work(namespace, work) = cluster.state.next(second(110)) {
            steps += 1;
            match work {
                Work::Schedule => cluster.state.schedule_changed(&namespace, second(110)),
                Work::Match => cluster.state.match_names(&namespace, second(110)),
                Work::Consider => {
                    let pods = [Pod::read(&pod("p", Delivery::Env, 50)).unwrap()];
                    let outcomes = cluster.state.consider(&namespace, &pods, second(110));
                    if let [outcome] = &outcomes[..] {
                        restarted_after = Some(steps);
                        cluster.accept(outcome, 7, 110);
                    }
                }
                Work::Refresh => unreachable!("none is requested"),
            }
        }
        assert!(
            restarted_after.is_some_and(|after| after <= 5),
            "{restarted_after:?}"
        );
        assert!((40 * 32..40 * 32 + 10).contains(&steps), "{steps}");
        assert_eq!(cluster.state.workloads[&of("0")].matched.len(), 10);
        for version in 2..20 {
            let workload = deployment_with_patterns("0", version, &"s-[0-9],".repeat(32));
            cluster.state.apply_workload(&of("0"), workload);
            let step = cluster.state.next(second(111));
            assert!(matches!(step, Step::Idle(_)), "compared again: {step:?}");
        }
    }

    #[test]
    fn a_new_secret_and_new_patterns_are_compared() {
        let mut cluster = Cluster::new(&[], 5);
        let compare = |cluster: &mut Cluster| {
            while let Step::Work(namespace, work) = cluster.state.next(second(12)) {
                match work {
                    Work::Match => cluster.state.match_names(&namespace, second(12)),
                    _ => cluster.state.schedule_changed(&namespace, second(12)),
                }
            }
            let matched = &cluster.state.workloads[&id("web")].matched;
            matched.iter().cloned().collect::<Vec<_>>()
        };
        let apply = |cluster: &mut Cluster, version: u64, list: &str| {
            let workload = deployment_with_patterns("web", version, list);
            cluster.state.apply_workload(&id("web"), workload);
        };
        apply(&mut cluster, 1, "d[ab],x.*");
        assert_eq!(compare(&mut cluster), ["db"]);
        let new = ("ns".to_owned(), "xy".to_owned());
        cluster
            .state
            .apply_secret(&new, Sealed::default(), second(12));
        assert_eq!(compare(&mut cluster), ["db", "xy"]);
        cluster.state.delete_secret(&new);
        assert_eq!(compare(&mut cluster), ["db"]);
        apply(&mut cluster, 2, "y.*");
        assert!(compare(&mut cluster).is_empty());
    }

    /// Attack: a tenant runs a Deployment that looks like Reloader, so that workloads of other tenants are not restarted.
    #[test]
    fn a_deployment_that_looks_like_reloader_changes_nothing() {
        let fake = |state: &mut State| {
            let object = json!({
                "metadata": { "uid": "u", "annotations": { "reloader.stakater.com/auto": "true" } },
                "spec": { "template": { "spec": { "containers": [{ "image": "stakater/reloader:v1" }] } } },
                "status": { "availableReplicas": 1 },
            });
            let id = Id {
                namespace: "hostile".into(),
                ..id("reloader")
            };
            state.apply_workload(&id, Workload::read(Kind::Deployment, &object));
        };
        let mut cluster = Cluster::new(&["web"], 5);
        fake(&mut cluster.state);
        cluster.change("b", 2, 100);
        assert_eq!(cluster.run(110, 50).len(), 1);
    }

    #[test]
    fn with_reloader_only_own_annotations_opt_in() {
        let mut state = State::new(5, true);
        assert!(!state.apply_workload(&id("web"), deployment("web", 1, None, 1)));
        let mut opted_in = deployment("web", 1, None, 1);
        let annotations = json!({ "reloader.stakater.com/auto": "true", "sealedsecrets.bitnami.com/restart": "auto" });
        opted_in.opt_in = crate::annotations::OptIn::read(&annotations, &Json::Null);
        assert!(state.apply_workload(&id("web"), opted_in));
    }

    /// Returns a Deployment of Pods like [`wide_pod`].
    fn wide_deployment(name: &str, annotations: &Json) -> Workload {
        let object = json!({
            "metadata": { "uid": name, "resourceVersion": "1", "annotations": annotations },
            "spec": {
                "selector": { "matchLabels": { "app": "web" } },
                "template": { "spec": wide_pod()["spec"] },
            },
        });
        Workload::read(Kind::Deployment, &object)
    }

    /// Returns a Pod of which ten containers mount a volume of a hundred Secrets.
    fn wide_pod() -> Json {
        let sources = (0..100).map(|number| json!({ "secret": { "name": format!("s{number}") } }));
        let containers = (0..10).map(
            |number| json!({ "name": format!("c{number}"), "volumeMounts": [{ "name": "v" }] }),
        );
        json!({
            "metadata": { "name": "p", "namespace": "ns" },
            "spec": {
                "containers": containers.collect::<Vec<_>>(),
                "volumes": [{ "name": "v", "projected": { "sources": sources.collect::<Vec<_>>() } }],
            },
        })
    }

    /// Runs all turns until another event is needed, and returns them. Every decision is that no Pod is stale.
    fn turns(state: &mut State, now: i64) -> Vec<(String, Work)> {
        let mut turns = Vec::new();
        while let Step::Work(namespace, work) = state.next(second(now)) {
            match work {
                Work::Schedule => state.schedule_changed(&namespace, second(now)),
                Work::Match => state.match_names(&namespace, second(now)),
                Work::Consider => drop(state.consider(&namespace, &[], second(now))),
                Work::Refresh => drop(state.take_refreshes(&namespace, second(now))),
            }
            turns.push((namespace, work));
        }
        turns
    }

    /// Attack: a tenant changes an annotation of a Secret ten times per second that many large workloads use, so that
    /// each event causes work for all of them, and the workloads of other tenants wait.
    #[test]
    fn repeated_changes_of_an_annotation_cause_one_turn_and_only_if_they_matter() {
        for (annotations, most) in [
            (json!({ "reloader.stakater.com/auto": "true" }), 0),
            (json!({ "reloader.stakater.com/search": "true" }), 2),
        ] {
            let mut state = State::new(5, false);
            for number in 0..20 {
                let name = number.to_string();
                let id = Id {
                    namespace: "hostile".into(),
                    ..id(&name)
                };
                state.apply_workload(&id, wide_deployment(&name, &annotations));
            }
            let flip = |state: &mut State, is_match: bool| {
                let mut sealed = Sealed {
                    history: history(&[VERSION_A]),
                    ..Sealed::default()
                };
                sealed.tags.is_match = is_match;
                state.apply_secret(&("hostile".into(), "s0".into()), sealed, second(11));
            };
            flip(&mut state, false);
            turns(&mut state, 11);
            for _ in 0..50 {
                flip(&mut state, true);
                flip(&mut state, false);
            }
            flip(&mut state, true);
            state.apply_workload(&id("web"), deployment("web", 1, None, 1));
            let turns = turns(&mut state, 12);
            let hostile = turns.iter().filter(|(namespace, _)| namespace == "hostile");
            assert!(hostile.count() <= most, "{annotations} {turns:?}");
            assert!(
                turns.iter().take(2).any(|(namespace, _)| namespace == "ns"),
                "{turns:?}"
            );
        }
    }

    /// Attack: a tenant has many workloads of which each consumes many Secrets, and one turn handles all of them.
    #[test]
    fn a_turn_handles_a_limited_number_of_workloads() {
        let mut state = State::new(5, false);
        let changed = [("b", "1", 2, 20), VERSION_A];
        let sealed = Sealed {
            history: history(&changed),
            ..Sealed::default()
        };
        state.apply_secret(&("ns".into(), "s0".into()), sealed, second(20));
        let annotations = json!({ "reloader.stakater.com/auto": "true" });
        for number in 0..200 {
            let name = number.to_string();
            state.apply_workload(&id(&name), wide_deployment(&name, &annotations));
        }
        let count = |state: &State| state.workloads.values().filter(|t| t.is_changed).count();
        state.schedule_changed("ns", second(20));
        assert_eq!(count(&state), 200 - 1 - MAX_NAMES / 101);
        turns(&mut state, 21);
        assert_eq!(count(&state), 0);
        let pod = Pod::read(&wide_pod()).unwrap();
        for (pods, most) in [
            (0, MAX_CONSIDERED),
            (10, MAX_CONSIDERED),
            (40, 24),
            (2_000, 1),
        ] {
            assert_eq!(max_considered(&vec![pod.clone(); pods]), most, "{pods}");
        }
        state.consider("ns", &[], second(30));
        let due = state.workloads.values().filter(|t| t.is_due(second(30)));
        assert_eq!(due.count(), 200 - MAX_CONSIDERED);
    }

    /// Fault: the clock is 40 days ahead while a restart waits, and is corrected afterwards.
    #[test]
    fn a_corrected_clock_delays_no_restart() {
        let days = 40 * 86_400;
        let mut cluster = Cluster::new(&["web"], 0);
        cluster.change("b", 2, 100);
        assert_eq!(cluster.run(days, 50), [], "no slot");
        cluster.state.max_rollouts = 5;
        assert_eq!(cluster.run(111, 50).len(), 1);
    }

    #[test]
    fn stores_only_workloads_that_opt_in() {
        let mut state = State::new(5, false);
        let object: Json = json!({ "metadata": { "uid": "u" } });
        state.apply_workload(&id("web"), Workload::read(Kind::Deployment, &object));
        assert_eq!(state.counts(), (0, 0));
        state.apply_workload(&id("web"), deployment("web", 1, None, 1));
        assert_eq!(state.counts(), (1, 0));
        state.retain_workloads(Kind::StatefulSet, None, &BTreeSet::new());
        state.retain_workloads(Kind::Deployment, Some("other"), &BTreeSet::new());
        assert_eq!(state.counts(), (1, 0));
        state.retain_workloads(Kind::Deployment, None, &BTreeSet::new());
        assert_eq!(state.counts(), (0, 0));
    }
}
