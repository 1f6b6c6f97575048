//! Decides whether to restart a workload, as a pure function.
//!
//! A restart writes a digest of the content versions of the workload's Secrets into the Pod template or, for an Argo
//! Rollout, the time of the newest version into `spec.restartAt`. So a second leader with the same decision writes the
//! same value and causes no second rollout. The value does not change when values are re-encrypted or keys are renewed.

use std::fmt::{self, Write as _};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::annotations::{self, LONGEST_WINDOW, SecretTags};
use crate::consumption::Source;
use crate::history::History;
use crate::pod::Pod;
use crate::workload::{Kind, Progress, Trigger, Workload};

/// How often a workload is restarted for the same content if another client removes the annotation.
const MAX_ATTEMPTS: u8 = 2;
/// The pause before a workload that waits for a rollout or a slot is checked again, if no event comes earlier.
const POLL: SignedDuration = SignedDuration::from_secs(15);

/// A Secret whose changes restart a workload.
#[derive(Debug, Clone)]
pub struct RelevantSecret<'a> {
    /// The name of the Secret.
    pub name: &'a str,
    /// The recorded content versions of the Secret.
    pub history: &'a History,
    /// Whether the workload consumes the Secret; otherwise, an annotation names or matches it.
    pub is_consumed: bool,
}

/// The change by which a restart is triggered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The value of the annotation of the Pod template.
    Annotation(String),
    /// The time in the field `spec.restartAt`: Argo replaces Pods that were created before this time.
    RestartAt(Timestamp),
}

/// The state of a workload that is kept only in the memory of this process, so a new leader counts the restarts for a
/// content from zero.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// When the first change that is not handled yet was observed.
    pub first_change: Option<Timestamp>,
    /// The last target that was written, and how often.
    pub last_written: Option<(Target, u8)>,
}

/// The input of a decision.
#[derive(Debug)]
pub struct Situation<'a> {
    /// The workload to decide about.
    pub workload: &'a Workload,
    /// The Secrets whose changes restart the workload.
    pub secrets: &'a [RelevantSecret<'a>],
    /// What this process remembers about the workload.
    pub memory: &'a Memory,
    /// Whether another rollout may begin.
    pub has_slot: bool,
    /// The current time.
    pub now: Timestamp,
}

/// The decision about a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// No action: no Pod has earlier content, the workload was already restarted for the newest content, or no change
    /// is known.
    UpToDate,
    /// Check the workload again at this time or after an event.
    Wait(Timestamp, WaitReason),
    /// Restart the workload.
    Restart(Target),
    /// The workload cannot be restarted.
    Blocked(Obstacle),
    /// Another client removed or replaced the written value twice, so no further restart for the same content is tried.
    Reverted,
}

/// Why a restart waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReason {
    /// The last change is too recent.
    QuietTime,
    /// A rollout of the workload is in progress.
    Rollout,
    /// Too many other rollouts are in progress.
    Slot,
}

/// Why a workload cannot be restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The workload is paused.
    Paused,
    /// The update strategy is `OnDelete`.
    Manual,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paused => "the workload is paused",
            Self::Manual => "the update strategy is OnDelete",
        })
    }
}

/// Returns whether the workload consumes the Secret, or `None` if changes to the Secret do not restart the workload.
/// `is_matched` returns whether one of the workload's patterns matches the name.
pub fn relevance(
    workload: &Workload,
    secret: &str,
    tags: SecretTags,
    is_matched: impl FnOnce() -> bool,
) -> Option<bool> {
    let is_consumed = workload.uses.has_secret(secret);
    let source = Source::Secret(secret.to_owned());
    let opt_in = &workload.opt_in;
    let is_included = opt_in.includes(&source, tags, is_consumed, is_matched);
    is_included.then_some(is_consumed)
}

/// Returns whether one of the workload's patterns matches the name of the Secret.
pub fn is_matched(workload: &Workload, secret: &str) -> bool {
    let mut patterns = workload.opt_in.secret_patterns().iter();
    patterns.any(|pattern| !annotations::matching_names(pattern, [secret].into_iter()).is_empty())
}

impl Target {
    /// Returns the target of a restart for the newest content of these Secrets; `None` if no version is known.
    pub fn of(kind: Kind, secrets: &[RelevantSecret<'_>]) -> Option<Self> {
        let newest = || {
            secrets
                .iter()
                .filter_map(|secret| Some((secret.name, secret.history.newest()?)))
        };
        match kind {
            Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet => {
                let mut text = String::new();
                for (name, entry) in newest() {
                    // Restored content has its former version, but a new generation.
                    let _ = writeln!(text, "{name} {} {}", entry.version, entry.generation);
                }
                (!text.is_empty()).then(|| Self::Annotation(digest(&text)))
            }
            Kind::Rollout => newest()
                .map(|(_, entry)| entry.time)
                .max()
                .map(Self::RestartAt),
        }
    }

    /// Returns whether the workload has the annotation of this target, or the time of this target or a later time.
    pub fn is_written_to(&self, workload: &Workload) -> bool {
        match (self, &workload.trigger) {
            (Self::Annotation(digest), Trigger::Annotation(Some(written))) => digest == written,
            (Self::RestartAt(time), Trigger::RestartAt(Some(written))) => time <= written,
            _ => false,
        }
    }
}

/// Returns the first 128 bits of SHA-256 in hexadecimal. The digested text is public.
fn digest(text: &str) -> String {
    let mut digits = String::new();
    for byte in &Sha256::digest(text)[..16] {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// Returns when a restart is due: after the quiet time, but at most [`LONGEST_WINDOW`] after the first change; `None`
/// if no change is known. The time is never before the last change, which is rounded up: a container that started
/// earlier would count as stale.
pub fn due(secrets: &[RelevantSecret<'_>], memory: &Memory, window: Duration) -> Option<Timestamp> {
    let last = secrets
        .iter()
        .filter_map(|secret| secret.history.changed_at())
        .max()?;
    let after = |time: Timestamp, wait: Duration| time.checked_add(wait).unwrap_or(Timestamp::MAX);
    let quiet = after(last, window);
    let longest = memory
        .first_change
        .map_or(quiet, |first| after(first, LONGEST_WINDOW));
    Some(quiet.min(longest).max(last))
}

impl Situation<'_> {
    /// Returns the decision if it does not depend on the Pods.
    pub fn decide_without_pods(&self, target: &Target) -> Option<Decision> {
        if target.is_written_to(self.workload) {
            return Some(match self.workload.progress {
                Progress::InProgress => self.wait(WaitReason::Rollout),
                _ => Decision::UpToDate,
            });
        }
        let Some(due) = due(self.secrets, self.memory, self.workload.opt_in.window) else {
            return Some(Decision::UpToDate);
        };
        if self.now < due {
            return Some(Decision::Wait(due, WaitReason::QuietTime));
        }
        (self.workload.progress == Progress::InProgress).then(|| self.wait(WaitReason::Rollout))
    }

    /// Decides about the workload. `pods` are the Pods that the workload selects.
    pub fn decide(&self, target: Target, pods: &[&Pod]) -> Decision {
        if let Some(decision) = self.decide_without_pods(&target) {
            return decision;
        }
        if !self.is_stale(pods) {
            return Decision::UpToDate;
        }
        if let Some(obstacle) = self.obstacle() {
            return Decision::Blocked(obstacle);
        }
        if self.attempts(&target) >= MAX_ATTEMPTS {
            return Decision::Reverted;
        }
        if !self.has_slot {
            return self.wait(WaitReason::Slot);
        }
        Decision::Restart(target)
    }

    /// Returns how often this process has restarted the workload for `target`; 0 if its last restart had another
    /// target.
    pub fn attempts(&self, target: &Target) -> u8 {
        let written = self.memory.last_written.as_ref();
        written
            .filter(|(written, _)| written == target)
            .map_or(0, |(_, count)| *count)
    }

    fn is_stale(&self, pods: &[&Pod]) -> bool {
        self.secrets.iter().any(|secret| {
            let is_old =
                |pod: &&Pod| pod.has_old_start(secret.name, secret.history, secret.is_consumed);
            pods.iter().any(is_old)
        })
    }

    fn obstacle(&self) -> Option<Obstacle> {
        match self.workload.progress {
            Progress::Paused => Some(Obstacle::Paused),
            Progress::Manual => Some(Obstacle::Manual),
            Progress::Done | Progress::InProgress | Progress::Unavailable => None,
        }
    }

    fn wait(&self, why: WaitReason) -> Decision {
        Decision::Wait(self.now.checked_add(POLL).unwrap_or(Timestamp::MAX), why)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::consumption::Delivery;
    use crate::history::tests::{history, second};
    use crate::pod::tests::pod;

    /// The Secret has the content `b` since second 20, and had `a` before.
    const CHANGED: &[(&str, &str, i64, i64)] = &[("b", "1", 2, 20), ("a", "1", 1, 10)];

    /// Returns a Deployment with these fields and one container that has a variable from `db`.
    fn deployment(changes: &[(&str, Json)]) -> Workload {
        let mut object = json!({
            "metadata": {
                "uid": "u", "resourceVersion": "1", "generation": 1,
                "annotations": { "reloader.stakater.com/auto": "true" },
            },
            "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "web" } }, "template": {
                "metadata": { "annotations": {} }, "spec": { "containers": [
                    { "name": "app", "envFrom": [{ "secretRef": { "name": "db" } }] },
                ] },
            } },
            "status": { "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1 },
        });
        for (pointer, value) in changes {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[name] = value.clone();
        }
        Workload::read(Kind::Deployment, &object)
    }

    struct Case {
        workload: Workload,
        history: History,
        memory: Memory,
        start: i64,
        now: i64,
        has_slot: bool,
    }

    impl Default for Case {
        fn default() -> Self {
            Self {
                workload: deployment(&[]),
                history: history(CHANGED),
                memory: Memory::default(),
                start: 15,
                now: 30,
                has_slot: true,
            }
        }
    }

    impl Case {
        fn target(&self) -> Target {
            Target::of(Kind::Deployment, &self.secrets()).unwrap()
        }

        fn secrets(&self) -> [RelevantSecret<'_>; 1] {
            let (name, history, is_consumed) = ("db", &self.history, true);
            [RelevantSecret {
                name,
                history,
                is_consumed,
            }]
        }

        fn decide(&self) -> Decision {
            let situation = Situation {
                workload: &self.workload,
                secrets: &self.secrets(),
                memory: &self.memory,
                has_slot: self.has_slot,
                now: second(self.now),
            };
            let pod = Pod::read(&pod("p", Delivery::Env, self.start)).unwrap();
            situation.decide(self.target(), &[&pod])
        }
    }

    fn memory_of_restarts(count: u8) -> Memory {
        Memory {
            last_written: Some((Case::default().target(), count)),
            ..Memory::default()
        }
    }

    fn wait(until: i64, why: WaitReason) -> Decision {
        Decision::Wait(second(until), why)
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table of all outcomes")]
    fn each_situation_leads_to_its_decision() {
        let restart = || Decision::Restart(Case::default().target());
        let restarted = |changes: &[(&str, Json)]| {
            let Target::Annotation(digest) = Case::default().target() else {
                unreachable!("an annotation")
            };
            let mut workload = deployment(changes);
            workload.trigger = Trigger::Annotation(Some(digest));
            workload
        };
        let rolling = ("/status/updatedReplicas", json!(0));
        let paused = ("/spec/paused", json!(true));
        let unavailable = ("/status/availableReplicas", json!(0));
        let default = Case::default;
        for (why, case, want) in [
            ("a Pod is stale", default(), restart()),
            (
                "all Pods started later",
                Case {
                    start: 20,
                    ..default()
                },
                Decision::UpToDate,
            ),
            (
                "the last change is recent",
                Case {
                    now: 25,
                    ..default()
                },
                wait(30, WaitReason::QuietTime),
            ),
            (
                "no change is known",
                Case {
                    history: history(&CHANGED[1..]),
                    ..default()
                },
                Decision::UpToDate,
            ),
            (
                "a rollout is in progress",
                Case {
                    workload: deployment(std::slice::from_ref(&rolling)),
                    ..default()
                },
                wait(45, WaitReason::Rollout),
            ),
            (
                "Pods are unavailable",
                Case {
                    workload: deployment(&[unavailable]),
                    ..default()
                },
                restart(),
            ),
            (
                "no slot",
                Case {
                    has_slot: false,
                    ..default()
                },
                wait(45, WaitReason::Slot),
            ),
            (
                "the workload is paused",
                Case {
                    workload: deployment(&[paused]),
                    ..default()
                },
                Decision::Blocked(Obstacle::Paused),
            ),
            (
                "restarted before",
                Case {
                    workload: restarted(&[]),
                    ..default()
                },
                Decision::UpToDate,
            ),
            (
                "the restart is in progress",
                Case {
                    workload: restarted(&[rolling]),
                    ..default()
                },
                wait(45, WaitReason::Rollout),
            ),
            (
                "the annotation was removed",
                Case {
                    memory: memory_of_restarts(1),
                    ..default()
                },
                restart(),
            ),
            (
                "it was removed twice",
                Case {
                    memory: memory_of_restarts(2),
                    ..default()
                },
                Decision::Reverted,
            ),
            (
                "it was removed and the Pods are new",
                Case {
                    memory: memory_of_restarts(2),
                    start: 20,
                    ..default()
                },
                Decision::UpToDate,
            ),
        ] {
            assert_eq!(case.decide(), want, "{why}");
        }
    }

    #[test]
    fn repeated_changes_delay_a_restart_only_for_a_limited_time() {
        let case = Case {
            history: history(&[("b", "1", 2, 200), ("a", "1", 1, 10)]),
            ..Case::default()
        };
        for (first, window, want) in [
            (None, 10, 210),
            (Some(195), 10, 210),
            (Some(85), 10, 205),
            (Some(70), 10, 200),
            (None, 0, 200),
        ] {
            let memory = Memory {
                first_change: first.map(second),
                last_written: None,
            };
            let due = due(&case.secrets(), &memory, Duration::from_secs(window));
            assert_eq!(due, Some(second(want)), "{first:?} {window}");
        }
    }

    #[test]
    fn the_restart_target_changes_only_if_the_content_changes() {
        let target = |kind, entries: &[(&str, &str, i64, i64)]| {
            let history = history(entries);
            let relevant = RelevantSecret {
                name: "db",
                history: &history,
                is_consumed: true,
            };
            Target::of(kind, &[relevant])
        };
        let kind = Kind::Deployment;
        let rekeyed = [("x", "2", 2, 40), ("b", "1", 2, 20), ("a", "1", 1, 10)];
        assert_eq!(target(kind, &rekeyed), target(kind, CHANGED));
        assert_ne!(target(kind, &CHANGED[1..]), target(kind, CHANGED));
        let restored = [("b", "1", 4, 40), ("c", "1", 3, 30), ("b", "1", 2, 20)];
        assert_ne!(
            target(kind, &restored),
            target(kind, &restored[2..]),
            "content that came back"
        );
        assert_eq!(target(kind, &[]), None);
        assert_eq!(
            target(Kind::Rollout, CHANGED),
            Some(Target::RestartAt(second(20)))
        );
    }

    #[test]
    fn a_rollout_counts_as_restarted_from_the_time_of_the_change() {
        let target = Target::RestartAt(second(20));
        for (time, want) in [
            (None, false),
            (Some(19), false),
            (Some(20), true),
            (Some(25), true),
        ] {
            let mut workload = deployment(&[]);
            workload.trigger = Trigger::RestartAt(time.map(second));
            assert_eq!(target.is_written_to(&workload), want, "{time:?}");
        }
    }

    #[test]
    fn a_secret_is_relevant_if_it_is_consumed_or_named() {
        let named = json!({ "secret.reloader.stakater.com/reload": "other" });
        let named = deployment(&[("/metadata/annotations", named)]);
        let auto = deployment(&[]);
        let none = deployment(&[("/metadata/annotations", json!({}))]);
        for (workload, secret, want) in [
            (&auto, "db", Some(true)),
            (&auto, "other", None),
            (&named, "other", Some(false)),
            (&named, "db", None),
            (&none, "db", None),
        ] {
            assert_eq!(
                relevance(workload, secret, SecretTags::default(), || false),
                want,
                "{secret}"
            );
        }
    }
}
