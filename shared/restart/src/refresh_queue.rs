//! The queue of Pods to refresh, in which namespaces take turns.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

/// Maximum number of queued Pods per namespace. The kubelet updates all other Pods itself within two minutes.
const MAX_IN_NAMESPACE: usize = 2000;

/// A Pod to refresh, and the content versions that it receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRefresh {
    /// The namespace of the Pod.
    pub namespace: String,
    /// The name of the Pod.
    pub name: String,
    /// The uid of the Pod.
    pub uid: String,
    /// The value of the annotation that records the refresh: content versions, separated by commas.
    pub versions: String,
    /// After this time, the kubelet has written the content itself.
    pub until: Timestamp,
}

/// The Pods to refresh, by namespace. Namespaces take turns.
#[derive(Debug, Default)]
pub struct RefreshQueue {
    namespaces: BTreeMap<String, VecDeque<PodRefresh>>,
    /// The namespace that had the last turn.
    last: String,
}

impl RefreshQueue {
    /// Adds a Pod, unless too many Pods of its namespace are queued. A Pod that is already queued keeps its position
    /// and gets the new versions, since one refresh updates all its volumes.
    pub fn add(&mut self, refresh: PodRefresh) {
        let waiting = self
            .namespaces
            .entry(refresh.namespace.clone())
            .or_default();
        let is_full = waiting.len() >= MAX_IN_NAMESPACE;
        match waiting.iter_mut().find(|other| other.uid == refresh.uid) {
            Some(other) => *other = refresh,
            None if !is_full => waiting.push_back(refresh),
            None => {}
        }
    }

    /// Returns whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    /// Removes and returns a Pod of the next namespace in order. Drops the Pods that the kubelet has updated in the
    /// meantime.
    pub fn take(&mut self, now: Timestamp) -> Option<PodRefresh> {
        for waiting in self.namespaces.values_mut() {
            waiting.retain(|refresh| now <= refresh.until);
        }
        self.namespaces.retain(|_, waiting| !waiting.is_empty());
        let mut names = self.namespaces.keys();
        let next = names.find(|name| **name > self.last);
        self.last = next.or_else(|| self.namespaces.keys().next())?.clone();
        let waiting = self.namespaces.get_mut(&self.last)?;
        let refresh = waiting.pop_front();
        if waiting.is_empty() {
            self.namespaces.remove(&self.last);
        }
        refresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::second;

    fn refresh(namespace: &str, pod: usize, version: &str) -> PodRefresh {
        PodRefresh {
            namespace: namespace.into(),
            name: pod.to_string(),
            uid: format!("{namespace}/{pod}"),
            versions: version.into(),
            until: second(120),
        }
    }

    /// Attack: a tenant repeatedly changes a Secret that many Pods mount, so that the refreshes of another tenant's
    /// Pods wait.
    #[test]
    fn pods_of_one_namespace_delay_those_of_another_by_one_turn() {
        let mut queue = RefreshQueue::default();
        for edit in 0..20 {
            for pod in 0..100 {
                queue.add(refresh("busy", pod, &edit.to_string()));
            }
        }
        assert!(queue.take(second(1)).is_some());
        for other in ["another", "quiet"] {
            queue.add(refresh(other, 0, "a"));
            let turns = [queue.take(second(1)), queue.take(second(1))];
            let mut turns = turns.iter().flatten();
            assert!(turns.any(|refresh| refresh.namespace == other), "{other}");
        }
        let mut left = 0;
        while let Some(refresh) = queue.take(second(1)) {
            assert_eq!(refresh.versions, "19");
            left += 1;
        }
        assert!((96..100).contains(&left), "{left}");
        assert!(queue.is_empty());
    }

    /// Attack: a tenant causes more refreshes than are possible, to exhaust the memory of `seal restart`.
    #[test]
    fn waiting_pods_are_limited_and_expire() {
        let mut queue = RefreshQueue::default();
        for pod in 0..2 * MAX_IN_NAMESPACE {
            queue.add(refresh("busy", pod, "a"));
        }
        assert_eq!(queue.namespaces["busy"].len(), MAX_IN_NAMESPACE);
        assert!(queue.take(second(120)).is_some());
        assert_eq!(queue.take(second(121)), None);
        assert!(queue.is_empty());
    }
}
