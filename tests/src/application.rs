//! A Deployment that reads a Secret and lets `seal restart` restart it.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::control_plane::Namespace;
use crate::node::{BUSYBOX, NodePod};
use crate::patience::until;

/// The annotation of the Pod template that `seal restart` writes.
const RESTARTED_FOR: &str = "sealedsecrets.bitnami.com/restarted-for";

/// A Deployment `web` with one Pod, whose container `main` gets the Secret `database` as a volume, and its item
/// `password` as a variable and as a single file.
pub struct Application<'a> {
    namespace: &'a Namespace<'a>,
    manifest: Value,
}

impl<'a> Application<'a> {
    /// Returns the Deployment with a quiet time such as `3s`, before it is in the cluster.
    pub fn new(namespace: &'a Namespace<'a>, quiet_time: &str) -> Self {
        let annotations = json!({
            "reloader.stakater.com/auto": "true", "sealedsecrets.bitnami.com/restart-window": quiet_time,
        });
        let mut spec = reader_pod_spec();
        spec["terminationGracePeriodSeconds"] = json!(1);
        let manifest = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "web", "namespace": namespace.name(), "annotations": annotations },
            "spec": {
                "selector": { "matchLabels": { "app": "web" } },
                "template": { "metadata": { "labels": { "app": "web" } }, "spec": spec },
            },
        });
        Self {
            namespace,
            manifest,
        }
    }

    /// Creates the Deployment, and waits until its Pod is available.
    pub async fn create(namespace: &'a Namespace<'a>, quiet_time: &str) -> Self {
        let application = Self::new(namespace, quiet_time);
        application.apply().await;
        application.wait_until_complete().await;
        application
    }

    /// Returns the manifest that [`Self::apply`] applies.
    pub fn manifest(&self) -> &Value {
        &self.manifest
    }

    /// Returns the specification of the Pods in the manifest.
    pub fn pod_spec(&mut self) -> &mut Value {
        &mut self.manifest["spec"]["template"]["spec"]
    }

    /// Applies the manifest as a user does.
    ///
    /// # Panics
    /// Panics if the API server refuses it.
    pub async fn apply(&self) {
        let params = PatchParams::apply("user").force();
        let patch = Patch::Apply(&self.manifest);
        let applied = self.api().patch("web", &params, &patch).await;
        applied.expect("the API server accepts the Deployment");
    }

    /// Returns the generation of the Deployment, which increases with each change to its specification.
    ///
    /// # Panics
    /// Panics if the Deployment does not exist.
    pub async fn generation(&self) -> i64 {
        let metadata = self.deployment().await.metadata;
        metadata.generation.expect("the API server sets it")
    }

    /// Returns the number of `ReplicaSets` of the Deployment, one for each Pod template.
    ///
    /// # Panics
    /// Panics if an administrator cannot list `ReplicaSets`.
    pub async fn count_revisions(&self) -> usize {
        let sets: Api<ReplicaSet> = self.namespace.api();
        let sets = sets.list(&ListParams::default().labels("app=web")).await;
        sets.expect("an administrator may list them").items.len()
    }

    /// Returns the digest of the content for which `seal restart` last restarted the Deployment; `None` before the
    /// first restart.
    ///
    /// # Panics
    /// Panics if the Deployment does not exist.
    pub async fn restarted_for(&self) -> Option<String> {
        let template = self.deployment().await.spec?.template;
        template.metadata?.annotations?.get(RESTARTED_FOR).cloned()
    }

    /// Waits until the only Pod has this value in its environment.
    pub async fn wait_for_value(&self, value: &str) {
        until(&format!("the application has {value}"), async || {
            let pod = self.only_ready_pod().await?;
            let is_new = value_in_environment(&pod).await.trim() == value;
            is_new.then_some(())
        })
        .await;
    }

    /// Waits until every Pod is available and has the newest Pod template.
    pub async fn wait_until_complete(&self) {
        until("the rollout is complete", async || {
            let deployment = self.api().get("web").await.ok()?;
            let generation = deployment.metadata.generation;
            let status = deployment.status?;
            let is_complete = status.observed_generation == generation
                && status.updated_replicas == Some(1)
                && status.replicas == Some(1)
                && status.available_replicas == Some(1);
            is_complete.then_some(())
        })
        .await;
    }

    /// Returns how many events with this reason are about the Deployment.
    ///
    /// # Panics
    /// Panics if an administrator cannot list events.
    pub async fn count_events(&self, reason: &str) -> usize {
        let events: Api<Event> = self.namespace.api();
        let events = events.list(&ListParams::default()).await;
        let is_of_reason = |event: &&Event| {
            event.reason.as_deref() == Some(reason)
                && event.involved_object.name.as_deref() == Some("web")
        };
        let events = events.expect("an administrator may list them");
        events.items.iter().filter(is_of_reason).count()
    }

    async fn only_ready_pod(&self) -> Option<NodePod> {
        let pods: Api<Pod> = self.namespace.api();
        let pods = pods.list(&ListParams::default().labels("app=web")).await;
        let pods = pods.ok()?.items;
        let [pod] = pods.as_slice() else {
            return None;
        };
        let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
        let is_ready = containers.first()?.ready;
        is_ready.then(|| NodePod::existing(self.namespace, &pod.name_any()))
    }

    async fn deployment(&self) -> Deployment {
        self.api().get("web").await.expect("the Deployment exists")
    }

    fn api(&self) -> Api<Deployment> {
        self.namespace.api()
    }
}

/// Returns the specification of a Pod that consumes the Secret `database` in three ways.
pub fn reader_pod_spec() -> Value {
    let reference = json!({ "name": "database", "key": "password" });
    let container = json!({
        "name": "main",
        "image": BUSYBOX,
        "command": ["sleep", "600"],
        "env": [{ "name": "PASSWORD", "valueFrom": { "secretKeyRef": reference } }],
        "volumeMounts": [
            { "name": "database", "mountPath": "/database" },
            { "name": "database", "mountPath": "/password", "subPath": "password" },
        ],
    });
    let volume = json!({ "name": "database", "secret": { "secretName": "database" } });
    json!({ "containers": [container], "volumes": [volume] })
}

/// Returns the password in the environment of a Pod with [`reader_pod_spec`], with a line feed.
pub async fn value_in_environment(pod: &NodePod) -> String {
    pod.run("main", &["sh", "-c", "echo $PASSWORD"]).await
}
