//! Chooses the Pods whose volumes the kubelet should update immediately. A change to a Pod's annotations causes the
//! kubelet to synchronize the Pod and its mounted Secrets.

use std::cmp::Reverse;

use jiff::Timestamp;

use crate::history::{History, State};
use crate::pod::{KUBELET_SYNC, MAX_REFRESHED, Pod};
use crate::refresh_queue::PodRefresh;

/// A Secret and its content versions.
pub type ChangedSecret = (String, History);

/// Returns whether Pods need a refresh for the newest content of a Secret: the content changed, and the kubelet may not
/// have written it yet.
pub fn is_needed(history: &History, now: Timestamp) -> bool {
    let changed_at = history.changed_at();
    changed_at.is_some_and(|changed_at| now.duration_since(changed_at) <= KUBELET_SYNC)
}

/// Returns the refreshes of the Pods that need one for a Secret in `due`. The kubelet refreshes all volumes of a Pod at
/// once, so each refresh records the versions of the Secrets in `recent` that the Pod mounts.
pub fn plan(pods: &[Pod], due: &[ChangedSecret], recent: &[ChangedSecret]) -> Vec<PodRefresh> {
    let mut recent: Vec<&ChangedSecret> = recent.iter().collect();
    recent.sort_by_key(|(_, history)| Reverse(history.changed_at()));
    let refreshes = pods.iter().filter_map(|pod| {
        let needed = due
            .iter()
            .filter(|(name, history)| needs_refresh(pod, name, history));
        let changed_at = needed
            .filter_map(|(_, history)| history.changed_at())
            .max()?;
        Some(PodRefresh {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            versions: versions(pod, &recent),
            until: changed_at.checked_add(KUBELET_SYNC).unwrap_or(changed_at),
        })
    });
    refreshes.collect()
}

/// Returns whether the Pod mounts the Secret as a volume in a container that started with earlier content, does not opt
/// out, and was not refreshed for the newest content.
fn needs_refresh(pod: &Pod, secret: &str, history: &History) -> bool {
    let is_old = || {
        let uses = pod
            .uses
            .of_secret(secret)
            .filter(|usage| usage.delivery.is_live());
        let mut starts = uses.filter_map(|usage| pod.start_of(usage.container));
        starts.any(|start| matches!(history.state_at(start), State::Stale(_)))
    };
    pod.refresh != Some(false) && !pod.is_refreshed(history) && pod.mounts(secret) && is_old()
}

/// Returns the newest versions of the Secrets that the Pod mounts, at most [`MAX_REFRESHED`], separated by commas.
fn versions(pod: &Pod, recent: &[&ChangedSecret]) -> String {
    let mounted = recent.iter().filter(|(name, _)| pod.mounts(name));
    let mut versions: Vec<&str> = mounted
        .filter_map(|(_, history)| Some(&*history.newest()?.version))
        .collect();
    versions.truncate(MAX_REFRESHED);
    versions.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::resource::{REFRESH_ANNOTATION, REFRESHED_FOR_ANNOTATION};

    use super::*;
    use crate::consumption::Delivery;
    use crate::history::tests::{history, second};
    use crate::pod::tests::pod;

    #[test]
    fn refreshes_pods_with_outdated_volumes() {
        let changed = [("b", "1", 2, 20), ("a", "1", 1, 10)];
        for (why, delivery, start, annotations, entries, want) in [
            (
                "a volume",
                Delivery::Volume,
                15,
                json!({}),
                &changed[..],
                true,
            ),
            (
                "a Pod that started later",
                Delivery::Volume,
                20,
                json!({}),
                &changed,
                false,
            ),
            ("a variable", Delivery::Env, 15, json!({}), &changed, false),
            (
                "a subPath",
                Delivery::SubPath,
                15,
                json!({}),
                &changed,
                false,
            ),
            (
                "a CSI volume of the same name",
                Delivery::Csi,
                15,
                json!({}),
                &changed,
                false,
            ),
            (
                "opted out",
                Delivery::Volume,
                15,
                json!({ REFRESH_ANNOTATION: "false" }),
                &changed,
                false,
            ),
            (
                "refreshed before",
                Delivery::Volume,
                15,
                json!({ REFRESHED_FOR_ANNOTATION: "b" }),
                &changed,
                false,
            ),
            (
                "refreshed for the former content",
                Delivery::Volume,
                15,
                json!({ REFRESHED_FOR_ANNOTATION: "a" }),
                &changed,
                true,
            ),
            (
                "no change",
                Delivery::Volume,
                15,
                json!({}),
                &changed[1..],
                false,
            ),
            ("unknown", Delivery::Volume, 15, json!({}), &[], false),
        ] {
            let mut pod = pod("p", delivery, start);
            pod["metadata"]["annotations"] = annotations;
            let pods = [Pod::read(&pod).unwrap()];
            let changed = |name: &str| [(name.to_owned(), history(entries))];
            let planned = plan(&pods, &changed("db"), &changed("db"));
            assert_eq!(planned.len(), usize::from(want), "{why}");
            assert!(
                planned.iter().all(|refresh| refresh.versions == "b"),
                "{why}"
            );
            let planned = plan(&pods, &changed("other"), &changed("other"));
            assert!(planned.is_empty(), "{why}");
        }
    }

    /// Returns a Pod that mounts these Secrets and started before they changed.
    fn pod_with_secrets(names: &[String]) -> Pod {
        let mut pod = pod("p", Delivery::Volume, 15);
        let sources = names
            .iter()
            .map(|name| json!({ "secret": { "name": name } }));
        let projected = json!({ "sources": sources.collect::<Vec<_>>() });
        pod["spec"]["volumes"] = json!([{ "name": "v", "projected": projected }]);
        Pod::read(&pod).unwrap()
    }

    #[test]
    fn one_refresh_records_every_changed_secret_of_the_pod() {
        let pods = [pod_with_secrets(&["one".into(), "two".into()])];
        let changed = |name: &str, version: &str, time: i64| {
            let entries = [(version, "1", 2, time), ("a", "1", 1, 10)];
            (name.to_owned(), history(&entries))
        };
        let recent = [
            changed("one", "b", 20),
            changed("two", "c", 21),
            changed("three", "d", 22),
        ];
        let planned = plan(&pods, &recent[..1], &recent);
        assert_eq!((planned.len(), &*planned[0].versions), (1, "c,b"));
    }

    /// Attack: a tenant changes many Secrets of one Pod, so that the recorded versions exceed what the policy admits,
    /// and no Pod of its namespace is refreshed.
    #[test]
    fn a_refresh_records_a_limited_number_of_versions() {
        let names: Vec<String> = (0..100).map(|number| format!("s{number}")).collect();
        let pods = [pod_with_secrets(&names)];
        let changed = history(&[("b", "1", 2, 20), ("a", "1", 1, 10)]);
        let recent: Vec<ChangedSecret> = names
            .into_iter()
            .map(|name| (name, changed.clone()))
            .collect();
        let planned = plan(&pods, &recent, &recent);
        assert_eq!(planned[0].versions, vec!["b"; MAX_REFRESHED].join(","));
    }

    #[test]
    fn a_refresh_is_needed_until_kubelet_wrote_the_value_itself() {
        let changed = history(&[("b", "1", 2, 20), ("a", "1", 1, 10)]);
        for (now, want) in [(20, true), (140, true), (141, false)] {
            assert_eq!(is_needed(&changed, second(now)), want, "{now}");
        }
        assert!(!is_needed(&history(&[("a", "1", 1, 10)]), second(11)));
        assert!(!is_needed(&history(&[]), second(11)));
    }
}
