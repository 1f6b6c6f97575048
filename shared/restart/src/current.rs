//! Checks whether a Pod that uses a Secret has the newest content of the Secret.

use jiff::Timestamp;
use serde_json::Value as Json;

use crate::history::{History, State};
use crate::pod::Pod;

/// Returns whether a Pod, as the API server returns it, has the newest content of the Secret, or does not use it.
///
/// A container that has not started yet will read the newest content. A Pod that is being deleted counts like any
/// other: it may use an earlier value until it ends. A Pod that has ended uses no value. A Pod with too many uses of
/// Secrets, and a container whose content is unknown, count as having an earlier value.
pub fn has_newest(pod: &Json, secret: &str, history: &History, now: Timestamp) -> bool {
    let mut pod = pod.clone();
    pod["metadata"]["deletionTimestamp"] = Json::Null;
    let Some(pod) = Pod::read(&pod) else {
        return true;
    };
    let mut uses = pod.uses.of_secret(secret);
    !pod.uses.is_too_large()
        && uses.all(|usage| {
            let observed = pod.observe(usage, history, now);
            observed.is_none_or(|(state, _)| state == State::Current)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::consumption::{Delivery, MAX_USES};
    use crate::history::tests::{history, second};
    use crate::pod::tests::pod;

    #[test]
    fn a_pod_is_current_if_it_started_since_the_newest_content_or_does_not_use_the_secret() {
        let history = history(&[("b", "k", 2, 100), ("a", "k", 1, 10)]);
        for (delivery, start, is_current) in [
            (Delivery::Env, 50, false),
            (Delivery::Env, 100, true),
            (Delivery::SubPath, 50, false),
            (Delivery::Volume, 50, false),
            (Delivery::Volume, 100, true),
        ] {
            let pod = pod("p", delivery, start);
            let state = has_newest(&pod, "db", &history, second(110));
            assert_eq!(state, is_current, "{delivery:?} {start}");
            assert!(has_newest(&pod, "other", &history, second(110)));
        }
        let mounted = pod("p", Delivery::Volume, 50);
        assert!(
            has_newest(&mounted, "db", &history, second(300)),
            "the kubelet has refreshed the volume"
        );
    }

    /// Fault: the Secrets that a Pod consumes are unknown, because it has more uses than are read.
    #[test]
    fn a_pod_with_unknown_uses_may_have_an_earlier_value() {
        let history = history(&[("b", "k", 2, 100), ("a", "k", 1, 10)]);
        let mut pod = pod("p", Delivery::Env, 100);
        assert!(has_newest(&pod, "db", &history, second(110)));
        let variables = (0..=MAX_USES).map(|n| json!({ "secretRef": { "name": n.to_string() } }));
        pod["spec"]["containers"][0]["envFrom"] = variables.collect();
        assert!(!has_newest(&pod, "db", &history, second(110)));
    }

    #[test]
    fn a_pod_that_is_being_deleted_still_uses_its_value() {
        let history = history(&[("b", "k", 2, 100), ("a", "k", 1, 10)]);
        let mut pod = pod("p", Delivery::Env, 50);
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(!has_newest(&pod, "db", &history, second(110)));
    }
}
