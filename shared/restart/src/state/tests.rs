//! Tests which workloads are restarted, and when.

use serde_json::{Value as Json, json};

use super::tracked::LONGEST_ROLLOUT;
use super::*;
use crate::consumption::Delivery;
use crate::history::tests::{history, second};
use crate::pod::tests::pod;

/// A cluster of Deployments that have a variable from the Secret `db`, and of one Pod that all of them select.
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

    /// Runs the work that is due, up to the first decisions, and returns the restarts and other outcomes. The Pod
    /// started at `pod_start`.
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

/// Attack: a tenant restarts workloads that never become available, so that the workloads of other tenants wait for a
/// slot.
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

/// Returns a Pod with ten containers that mount a volume of a hundred Secrets.
fn wide_pod() -> Json {
    let sources = (0..100).map(|number| json!({ "secret": { "name": format!("s{number}") } }));
    let containers = (0..10)
        .map(|number| json!({ "name": format!("c{number}"), "volumeMounts": [{ "name": "v" }] }));
    json!({
        "metadata": { "name": "p", "namespace": "ns" },
        "spec": {
            "containers": containers.collect::<Vec<_>>(),
            "volumes": [{ "name": "v", "projected": { "sources": sources.collect::<Vec<_>>() } }],
        },
    })
}

/// Runs all turns until another event is needed, and returns them. The workloads have no Pods.
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

/// Attack: ten times per second, a tenant changes an annotation of a Secret that many large workloads use, so that
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

/// Attack: a tenant has many workloads that each consume many Secrets, so that one turn handles all of them.
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
