//! A repository that Flux applies to the cluster.

use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use super::Repository;
use crate::control_plane::Namespace;
use crate::patience;

/// A `GitRepository` and a `Kustomization` with the same name.
pub struct Sync {
    repositories: Api<DynamicObject>,
    kustomizations: Api<DynamicObject>,
    name: String,
}

/// Flux's report about a commit: the condition `Ready` of the `Kustomization`.
#[derive(Debug)]
pub struct Outcome {
    /// Whether the objects are applied and current.
    pub is_ready: bool,
    /// The condition's reason, such as `HealthCheckFailed`.
    pub reason: String,
    /// The condition's message, such as `Applied revision: main@sha1:…`.
    pub message: String,
}

impl Sync {
    /// Lets Flux apply this repository, which must have a commit, and wait until its objects are current. Flux reads
    /// it every `interval`, and when [`Self::outcome`] is called.
    pub async fn create(
        namespace: &Namespace<'_>,
        name: &str,
        repository: &Repository,
        interval: &str,
    ) -> Self {
        let git = json!({
            "url": repository.url(),
            "ref": { "branch": "main" },
            "interval": interval,
        });
        let kustomization = json!({
            "sourceRef": { "kind": "GitRepository", "name": name },
            "path": "./",
            "prune": true,
            "wait": true,
            "interval": interval,
            "timeout": "1m",
        });
        let git_kind = kind("source", "GitRepository");
        let kustomization_kind = kind("kustomize", "Kustomization");
        let repositories = create(namespace, &git_kind, name, &git).await;
        let kustomizations = create(namespace, &kustomization_kind, name, &kustomization).await;
        Self {
            repositories,
            kustomizations,
            name: name.to_owned(),
        }
    }

    /// Lets Flux read the repository now, and waits until it has succeeded or failed for this commit.
    pub async fn outcome(&self, commit: &str) -> Outcome {
        let request =
            json!({ "metadata": { "annotations": { "reconcile.fluxcd.io/requestedAt": commit } } });
        let patched = self
            .repositories
            .patch(&self.name, &PatchParams::default(), &Patch::Merge(request))
            .await;
        patched.expect("an admin may patch");
        let description = format!("Flux has applied the commit {commit}");
        patience::until(&description, async || {
            let object = self.kustomizations.get(&self.name).await;
            outcome_in(
                &object.expect("the Kustomization exists").data["status"],
                commit,
            )
        })
        .await
    }
}

/// Returns the outcome for this commit; `None` while Flux has not reported one.
fn outcome_in(status: &Value, commit: &str) -> Option<Outcome> {
    let revision = status["lastAttemptedRevision"].as_str()?;
    let conditions = status["conditions"].as_array()?;
    let ready = conditions.iter().find(|item| item["type"] == "Ready")?;
    let is_known = revision.ends_with(commit) && ready["status"] != "Unknown";
    let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
    is_known.then(|| Outcome {
        is_ready: ready["status"] == "True",
        reason: text("reason"),
        message: text("message"),
    })
}

fn kind(toolkit: &str, kind: &str) -> ApiResource {
    let group = format!("{toolkit}.toolkit.fluxcd.io");
    ApiResource::from_gvk(&GroupVersionKind::gvk(&group, "v1", kind))
}

/// Creates an object; returns the API for its kind.
async fn create(
    namespace: &Namespace<'_>,
    kind: &ApiResource,
    name: &str,
    spec: &Value,
) -> Api<DynamicObject> {
    let api = Api::namespaced_with(namespace.client(), namespace.name(), kind);
    let object = DynamicObject::new(name, kind).data(json!({ "spec": spec }));
    let created = api.create(&PostParams::default(), &object).await;
    created.unwrap_or_else(|error| panic!("cannot create {name}: {error}"));
    api
}
