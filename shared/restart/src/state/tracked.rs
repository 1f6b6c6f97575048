//! A workload, the state of its restarts, and the Secrets whose names match its patterns.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::annotations::{self, LONGEST_WINDOW};
use crate::decide::{self, Decision, Memory, Target, WaitReason};
use crate::workload::{Progress, Workload};

/// Maximum time for which a rollout that this process started occupies a slot. A longer rollout is usually stuck, and
/// must not delay the others without limit. Equals the default progress deadline of a Deployment.
pub(super) const LONGEST_ROLLOUT: SignedDuration = SignedDuration::from_mins(10);

/// A workload and the state of its restarts.
#[derive(Debug)]
pub(super) struct TrackedWorkload {
    pub(super) workload: Workload,
    pub(super) memory: Memory,
    /// The Secrets that match the workload's patterns.
    pub(super) matched: BTreeSet<String>,
    /// The comparison of the workload's patterns with names, while it is in progress.
    pub(super) matching: Option<Matching>,
    /// Whether the workload or a Secret changed, so that the time of the next check must be determined again.
    pub(super) is_changed: bool,
    /// When to check the workload next.
    pub(super) check_at: Option<Timestamp>,
    /// Why a restart of the workload waits.
    pub(super) waiting: Option<WaitReason>,
    /// The target for which the workload needs no further action.
    pub(super) settled: Option<Target>,
    /// When this process last restarted the workload.
    pub(super) restarted_at: Option<Timestamp>,
}

/// A comparison of patterns with names of Secrets, one pattern at a time.
#[derive(Debug, Default)]
pub(super) struct Matching {
    /// The index of the next pattern.
    next: usize,
    /// The names to compare; `None` for all names, since the patterns are new.
    names: Option<BTreeSet<String>>,
    /// The names that have matched so far.
    matched_names: BTreeSet<String>,
}

impl TrackedWorkload {
    pub(super) fn new(workload: Workload) -> Self {
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

    /// Replaces the workload with a newer version. The workload is no longer settled if its trigger, the Secrets that
    /// it consumes, or whether it can be restarted has changed. A version without a relevant change causes no work.
    pub(super) fn replace(&mut self, workload: Workload) {
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

    /// Returns whether the workload consumes the Secret, or `None` if changes to the Secret do not restart the
    /// workload.
    pub(super) fn relevance(&self, secret: &str, tags: annotations::SecretTags) -> Option<bool> {
        let is_matched = || self.matched.contains(secret);
        decide::relevance(&self.workload, secret, tags, is_matched)
    }

    /// Returns the cost of scheduling the workload: one more than the number of Secrets that it consumes, names or
    /// matches.
    pub(super) fn count_names(&self) -> usize {
        let named = self.workload.opt_in.named_secrets().len();
        1 + self.workload.uses.secrets().count() + named + self.matched.len()
    }

    /// Schedules the comparison of a new name with the patterns.
    pub(super) fn match_name(&mut self, name: &str) {
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
    pub(super) fn match_next_pattern(&mut self, all: &[String]) -> bool {
        let Some(matching) = &mut self.matching else {
            return false;
        };
        let patterns = self.workload.opt_in.secret_patterns();
        if let Some(pattern) = patterns.get(matching.next) {
            let matched_names = match &matching.names {
                Some(names) => {
                    annotations::matching_names(pattern, names.iter().map(String::as_str))
                }
                None => annotations::matching_names(pattern, all.iter().map(String::as_str)),
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
    pub(super) fn record_change(&mut self, now: Timestamp) {
        let first = self.memory.first_change;
        let is_open =
            first.is_some_and(|first| now.duration_since(first).abs() <= longest_window());
        if !is_open {
            self.memory.first_change = Some(now);
        }
    }

    /// Returns whether a rollout that this process started occupies a slot.
    pub(super) fn is_rolling_out(&self, now: Timestamp) -> bool {
        let is_recent = |time: Timestamp| now.duration_since(time).abs() < LONGEST_ROLLOUT;
        let progress = self.workload.progress;
        let is_open = matches!(progress, Progress::InProgress | Progress::Unavailable);
        is_open && self.restarted_at.is_some_and(is_recent)
    }

    /// Returns whether the workload is due for a check. It is not due while new patterns are compared with all names.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let is_new = |matching: &Matching| matching.names.is_none();
        let is_matched = !self.matching.as_ref().is_some_and(is_new);
        is_matched && self.check_at.is_some_and(|time| time <= now)
    }

    /// Records a decision. Returns whether it requires a request, an event or a log line.
    pub(super) fn record(&mut self, decision: &Decision, target: Option<Target>) -> bool {
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

fn longest_window() -> SignedDuration {
    SignedDuration::try_from(LONGEST_WINDOW).unwrap_or(SignedDuration::MAX)
}
