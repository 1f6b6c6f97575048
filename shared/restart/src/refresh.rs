//! Chooses the Pods whose volumes kubelet should update immediately. A change of a Pod's annotations causes kubelet to
//! synchronize the Pod and its mounted Secrets.

use jiff::Timestamp;

use crate::history::{History, State};
use crate::pod::{KUBELET_SYNC, Pod};

/// Returns whether Pods need a refresh for the newest content of a Secret: the content changed, and kubelet may not
/// have written it yet.
pub fn is_needed(history: &History, now: Timestamp) -> bool {
    let changed_at = history.changed_at();
    changed_at.is_some_and(|changed_at| now.duration_since(changed_at) <= KUBELET_SYNC)
}

/// Returns the Pods that mount the Secret as a volume, do not opt out, started before its last change, and were not
/// refreshed since.
pub fn choose<'a>(pods: &'a [Pod], secret: &str, history: &History) -> Vec<&'a Pod> {
    let is_chosen = |pod: &&Pod| {
        let is_old = || {
            let uses = pod
                .uses
                .iter()
                .filter(|usage| usage.is_secret(secret) && usage.delivery.is_live());
            let mut starts = uses.filter_map(|usage| pod.start_of(&usage.container));
            starts.any(|start| matches!(history.state_at(start), State::Stale(_)))
        };
        pod.refresh != Some(false) && !pod.is_refreshed(history) && pod.mounts(secret) && is_old()
    };
    pods.iter().filter(is_chosen).collect()
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
            ("a path", Delivery::SubPath, 15, json!({}), &changed, false),
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
                "refreshed for the former",
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
            assert_eq!(
                choose(&pods, "db", &history(entries)).len(),
                usize::from(want),
                "{why}"
            );
            assert!(
                choose(&pods, "other", &history(entries)).is_empty(),
                "{why}"
            );
        }
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
