//! The queue of Pods to refresh, in which namespaces take turns.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

/// Maximum number of queued Pods per namespace. Kubelet updates all other Pods itself within two minutes, and in that
/// time not many more could be refreshed.
const MAX_IN_NAMESPACE: usize = 2000;

/// A Pod to refresh, and the content version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// The namespace of the Pod.
    pub namespace: String,
    /// The name of the Pod.
    pub name: String,
    /// The uid of the Pod.
    pub uid: String,
    /// The content version.
    pub version: String,
    /// After this time, kubelet has written the content itself.
    pub until: Timestamp,
}

/// The queued Pods.
#[derive(Debug, Default)]
pub struct Touches {
    namespaces: BTreeMap<String, VecDeque<Touch>>,
    /// The namespace that had the last turn.
    last: String,
}

impl Touches {
    /// Adds a Pod. A Pod that is already queued keeps its position, since one refresh updates all its volumes.
    pub fn add(&mut self, touch: Touch) {
        let waiting = self.namespaces.entry(touch.namespace.clone()).or_default();
        let is_full = waiting.len() >= MAX_IN_NAMESPACE;
        match waiting.iter_mut().find(|other| other.uid == touch.uid) {
            Some(other) => *other = touch,
            None if !is_full => waiting.push_back(touch),
            None => {}
        }
    }

    /// Returns whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    /// Removes and returns a Pod of the next namespace in order. Drops the Pods that kubelet has updated in the
    /// meantime.
    pub fn take(&mut self, now: Timestamp) -> Option<Touch> {
        for waiting in self.namespaces.values_mut() {
            waiting.retain(|touch| now <= touch.until);
        }
        self.namespaces.retain(|_, waiting| !waiting.is_empty());
        let mut names = self.namespaces.keys();
        let next = names.find(|name| **name > self.last);
        self.last = next.or_else(|| self.namespaces.keys().next())?.clone();
        let waiting = self.namespaces.get_mut(&self.last)?;
        let touch = waiting.pop_front();
        if waiting.is_empty() {
            self.namespaces.remove(&self.last);
        }
        touch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::second;

    fn touch(namespace: &str, pod: usize, version: &str) -> Touch {
        Touch {
            namespace: namespace.into(),
            name: pod.to_string(),
            uid: format!("{namespace}/{pod}"),
            version: version.into(),
            until: second(120),
        }
    }

    /// Attack: a tenant repeatedly changes a Secret that many Pods mount, so that the refreshes of another tenant's
    /// Pods wait.
    #[test]
    fn pods_of_one_namespace_delay_those_of_another_by_one_turn() {
        let mut touches = Touches::default();
        for edit in 0..20 {
            for pod in 0..100 {
                touches.add(touch("busy", pod, &edit.to_string()));
            }
        }
        assert!(touches.take(second(1)).is_some());
        for other in ["another", "quiet"] {
            touches.add(touch(other, 0, "a"));
            let turns = [touches.take(second(1)), touches.take(second(1))];
            let mut turns = turns.iter().flatten();
            assert!(turns.any(|touch| touch.namespace == other), "{other}");
        }
        let mut left = 0;
        while let Some(touch) = touches.take(second(1)) {
            assert_eq!(touch.version, "19");
            left += 1;
        }
        assert!((96..100).contains(&left), "{left}");
        assert!(touches.is_empty());
    }

    /// Attack: a tenant causes more refreshes than are possible, to exhaust the memory of the component.
    #[test]
    fn waiting_pods_are_limited_and_expire() {
        let mut touches = Touches::default();
        for pod in 0..2 * MAX_IN_NAMESPACE {
            touches.add(touch("busy", pod, "a"));
        }
        assert_eq!(touches.namespaces["busy"].len(), MAX_IN_NAMESPACE);
        assert!(touches.take(second(120)).is_some());
        assert_eq!(touches.take(second(121)), None);
        assert!(touches.is_empty());
    }
}
