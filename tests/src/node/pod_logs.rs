//! The logs of all Pods with a label, including Pods that have ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt as _};
use tokio::task::{JoinHandle, JoinSet};

use crate::control_plane::Namespace;

/// The pause between two lists of the Pods.
const INTERVAL: Duration = Duration::from_millis(200);

type Lines = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

/// The lines that Pods have printed. The kubelet deletes a log together with its Pod, so the logs are read while the
/// Pods run.
pub struct PodLogs {
    lines: Lines,
    task: JoinHandle<()>,
}

impl PodLogs {
    /// Follows the logs of the Pods with this label, which have one container each.
    pub fn follow(namespace: &Namespace<'_>, label: &str) -> Self {
        let lines = Lines::default();
        let pods = ListParams::default().labels(label);
        let task = tokio::spawn(follow_all(namespace.api(), pods, Arc::clone(&lines)));
        Self { lines, task }
    }

    /// Returns the lines of each Pod so far.
    ///
    /// # Panics
    /// Panics if another thread has panicked.
    pub fn by_pod(&self) -> BTreeMap<String, Vec<String>> {
        self.lines.lock().unwrap().clone()
    }

    /// Returns the lines that begin with this text, of all Pods, each with the name of its Pod in front.
    pub fn lines(&self, start: &str) -> Vec<String> {
        let by_pod = self.by_pod();
        let lines = by_pod.iter().flat_map(|(pod, lines)| {
            let lines = lines.iter().filter(|line| line.starts_with(start));
            lines.map(move |line| format!("{pod}: {line}"))
        });
        lines.collect()
    }
}

impl Drop for PodLogs {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow_all(api: Api<Pod>, pods: ListParams, lines: Lines) {
    let mut streams = JoinSet::new();
    loop {
        let listed = api.list(&pods).await.map(|list| list.items);
        for pod in listed
            .unwrap_or_default()
            .iter()
            .filter(|pod| is_started(pod))
        {
            let name = pod.name_any();
            let is_new = !lines.lock().unwrap().contains_key(&name);
            if is_new {
                lines.lock().unwrap().insert(name.clone(), Vec::new());
                streams.spawn(follow(api.clone(), name, Arc::clone(&lines)));
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn is_started(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let mut states = statuses.filter_map(|status| status.state.as_ref());
    states.any(|state| state.running.is_some() || state.terminated.is_some())
}

/// Collects the lines of one Pod until it ends.
async fn follow(api: Api<Pod>, name: String, lines: Lines) {
    let params = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let stream = api.log_stream(&name, &params).await;
    let mut stream = match stream {
        Ok(stream) => stream.lines(),
        Err(error) => return add(&lines, &name, format!("no log: {error}")),
    };
    while let Ok(Some(line)) = stream.try_next().await {
        add(&lines, &name, line);
    }
}

fn add(lines: &Lines, pod: &str, line: String) {
    let mut lines = lines.lock().unwrap();
    lines.entry(pod.to_owned()).or_default().push(line);
}
