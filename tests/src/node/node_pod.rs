//! Pods that a node runs.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{ApiResource, AttachParams, DeleteParams, DynamicObject, LogParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::control_plane::Namespace;
use crate::patience::LIMIT;

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A Pod on a [`Node`](super::Node).
pub struct NodePod {
    api: Api<Pod>,
    name: String,
}

impl NodePod {
    /// Creates a Pod with this specification and a generated name. Its grace period is 1 second unless `spec` specifies
    /// another, because a shell ignores SIGTERM.
    ///
    /// # Panics
    /// Panics if the API server refuses the Pod.
    pub async fn create(namespace: &Namespace<'_>, mut spec: Value) -> Self {
        namespace.wait_for_default_service_account().await;
        if spec["terminationGracePeriodSeconds"].is_null() {
            spec["terminationGracePeriodSeconds"] = json!(1);
        }
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "generateName": "pod-" },
            "spec": spec,
        });
        // The type `Pod` may be older than the API server and drop fields.
        let pod: DynamicObject = serde_json::from_value(pod).expect("an object");
        let resource = ApiResource::erase::<Pod>(&());
        let pods = Api::namespaced_with(namespace.client(), namespace.name(), &resource);
        let created = pods.create(&PostParams::default(), &pod).await;
        let pod = created.unwrap_or_else(|error| panic!("cannot create a Pod: {error}"));
        Self::existing(namespace, &pod.name_any())
    }

    /// Returns a handle for an existing Pod.
    pub fn existing(namespace: &Namespace<'_>, name: &str) -> Self {
        Self {
            api: namespace.api(),
            name: name.to_owned(),
        }
    }

    /// Returns the name of the Pod.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until the Pod is ready.
    ///
    /// # Panics
    /// Panics like [`NodePod::wait_until`].
    pub async fn wait_until_ready(&self) -> Pod {
        self.wait_until("is ready", |pod| is_ready(pod).then(|| pod.clone()))
            .await
    }

    /// Waits until `find` returns a value for the Pod.
    ///
    /// # Panics
    /// Panics with the Pod's status if there is no value within [`LIMIT`], and without it if the Pod does not exist.
    pub async fn wait_until<T>(&self, description: &str, find: impl Fn(&Pod) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            let pod = self.api.get(&self.name).await;
            let pod = pod.unwrap_or_else(|error| panic!("cannot read Pod {}: {error}", self.name));
            if let Some(value) = find(&pod) {
                return value;
            }
            assert!(
                Instant::now() < deadline,
                "timed out after {LIMIT:?}, waiting until Pod {} {description}; its status:\n{:#?}",
                self.name,
                pod.status
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns the log of a container so far.
    ///
    /// # Panics
    /// Panics if the container has not started.
    pub async fn log(&self, container: &str) -> String {
        let params = LogParams {
            container: Some(container.to_owned()),
            ..LogParams::default()
        };
        let log = self.api.logs(&self.name, &params).await;
        log.unwrap_or_else(|error| panic!("no log of {container} in {}: {error}", self.name))
    }

    /// Runs a command in a container, as `kubectl exec` does; returns its stdout.
    ///
    /// # Panics
    /// Panics with the output if the command fails.
    pub async fn run(&self, container: &str, command: &[&str]) -> String {
        let params = AttachParams::default().container(container);
        let process = self.api.exec(&self.name, command.iter().copied(), &params);
        let mut process = process
            .await
            .unwrap_or_else(|error| panic!("cannot run {command:?} in {}: {error}", self.name));
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let status = process.take_status().expect("taken once");
        let (stdout, stderr, status) = tokio::join!(text(stdout), text(stderr), status);
        let status = status.unwrap_or_default();
        assert!(
            status.status.as_deref() == Some("Success"),
            "{command:?} failed in {}: {}\n{stdout}{stderr}",
            self.name,
            status.message.unwrap_or_default()
        );
        stdout
    }

    /// Deletes the Pod with its own grace period; does not wait.
    ///
    /// # Panics
    /// Panics if the Pod does not exist.
    pub async fn delete(&self) {
        let result = self.api.delete(&self.name, &DeleteParams::default()).await;
        result.expect("the Pod exists");
    }
}

async fn text(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut text = String::new();
    let mut stream = stream.expect("attached, and taken once");
    stream.read_to_string(&mut text).await.expect("text");
    text
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Returns the status of a container or init container of a Pod; `None` if the kubelet has not reported it yet.
pub fn container_status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let inits = status.init_container_statuses.iter().flatten();
    let mut statuses = status.container_statuses.iter().flatten().chain(inits);
    statuses.find(|status| status.name == container)
}
