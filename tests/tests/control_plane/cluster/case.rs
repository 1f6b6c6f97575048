//! A namespace with its own controller.

use k8s_openapi::api::core::v1::{Event, Secret as ApiSecret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use shared::resource::{Condition, SealedSecret, SealedSecretStatus};
use shared::scope::Scope;
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::patience::until;
use tests::roles::{self, Reach};
use tests::sealing::{KEYS, put_key, sealed_for, values};

pub struct Case {
    pub plane: &'static ControlPlane,
    pub namespace: Namespace<'static>,
    pub controller: ClusterController,
}

impl Case {
    pub async fn new(purpose: &str) -> Self {
        Self::with_args(purpose, &[]).await
    }

    pub async fn with_args(purpose: &str, args: &[&str]) -> Self {
        let plane = ControlPlane::shared().await;
        let namespace = plane.namespace(purpose).await;
        roles::grant(&namespace, Reach::Namespace).await;
        Self::start(plane, namespace, args).await
    }

    pub async fn without_permission_to_update_statuses(purpose: &str) -> Self {
        let plane = ControlPlane::shared().await;
        let namespace = plane.namespace(purpose).await;
        roles::grant_all_but_statuses(&namespace).await;
        Self::start(plane, namespace, &[]).await
    }

    pub async fn without_permission_to_watch_secrets(purpose: &str) -> Self {
        let plane = ControlPlane::shared().await;
        let namespace = plane.namespace(purpose).await;
        roles::grant_all_but_the_watch_of_secrets(&namespace).await;
        Self::start(plane, namespace, &[]).await
    }

    pub async fn start(
        plane: &'static ControlPlane,
        namespace: Namespace<'static>,
        args: &[&str],
    ) -> Self {
        put_key(&namespace, "key-0", &KEYS[0]).await;
        let controller = ClusterController::start(plane, &namespace, args).await;
        Self {
            plane,
            namespace,
            controller,
        }
    }

    pub async fn restart(mut self, args: &[&str]) -> Self {
        assert_eq!(self.controller.stop(), Some(0));
        self.controller = ClusterController::start(self.plane, &self.namespace, args).await;
        self
    }

    /// Like [`Self::restart`] without arguments, but runs `action` while no controller is running.
    pub async fn restart_after(self, action: impl AsyncFnOnce(&Namespace<'static>)) -> Self {
        let Self {
            plane,
            namespace,
            controller,
        } = self;
        assert_eq!(controller.stop(), Some(0));
        action(&namespace).await;
        let controller = ClusterController::start(plane, &namespace, &[]).await;
        Self {
            plane,
            namespace,
            controller,
        }
    }

    /// Returns a SealedSecret for the first key, not yet in the cluster.
    pub fn sealed_secret(&self, name: &str, items: &[(&str, &str)]) -> SealedSecret {
        sealed_for(&KEYS[0], self.namespace.name(), name, items, Scope::Strict)
    }

    /// Seals and creates an object.
    pub async fn seal(&self, name: &str, items: &[(&str, &str)]) -> SealedSecret {
        self.create(&self.sealed_secret(name, items)).await
    }

    pub async fn create(&self, sealed: &SealedSecret) -> SealedSecret {
        self.sealed_secrets()
            .create(&PostParams::default(), sealed)
            .await
            .unwrap()
    }

    /// Seals and creates an object with templates.
    pub async fn seal_with(&self, name: &str, items: &[(&str, &str)], templates: &[(&str, &str)]) {
        let mut sealed = self.sealed_secret(name, items);
        let template = |(key, text): &(&str, &str)| ((*key).to_owned(), Some((*text).to_owned()));
        sealed.spec.template.data = Some(templates.iter().map(template).collect());
        self.create(&sealed).await;
    }

    /// Changes a SealedSecret with a merge patch.
    pub async fn patch(&self, name: &str, patch: Value) -> SealedSecret {
        let patch = Patch::Merge(patch);
        self.sealed_secrets()
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap()
    }

    pub async fn patch_secret(&self, name: &str, patch: Value) -> ApiSecret {
        let patch = Patch::Merge(patch);
        self.secrets()
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap()
    }

    pub async fn create_secret(&self, object: Value) -> ApiSecret {
        self.namespace.create_object(object).await
    }

    pub async fn delete_secret(&self, name: &str) {
        self.secrets()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    pub async fn delete(&self, name: &str) {
        self.sealed_secrets()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    pub fn sealed_secrets(&self) -> Api<SealedSecret> {
        self.namespace.api()
    }

    /// Returns the status of a SealedSecret, which must have one.
    pub async fn status(&self, name: &str) -> SealedSecretStatus {
        let object = self.sealed_secrets().get(name).await.unwrap();
        object.status.unwrap()
    }

    pub fn secrets(&self) -> Api<ApiSecret> {
        self.namespace.api()
    }

    pub async fn secret(&self, name: &str) -> Option<ApiSecret> {
        self.secrets().get_opt(name).await.unwrap()
    }

    /// Waits until the Secret has exactly these values.
    pub async fn wait_for_values(&self, name: &str, items: &[(&str, &str)]) -> ApiSecret {
        let want = values(items);
        until(
            &format!("{name} has the values {items:?}\n{}", self.controller.log()),
            async || {
                let secret = self.secret(name).await?;
                (secret.data.clone().unwrap_or_default() == want).then_some(secret)
            },
        )
        .await
    }

    pub async fn wait_for_no_secret(&self, name: &str) {
        until(&format!("{name} is deleted"), async || {
            self.secret(name).await.is_none().then_some(())
        })
        .await;
    }

    /// Waits until the first condition, for the newest generation, satisfies `fits`; returns the condition.
    pub async fn wait_for_condition(
        &self,
        name: &str,
        fits: impl Fn(&Condition) -> bool,
    ) -> Condition {
        let goal = format!(
            "the condition of {name} is as expected\n{}",
            self.controller.log()
        );
        until(&goal, async || {
            let object = self.sealed_secrets().get(name).await.unwrap();
            let status = object.status?;
            let synced = status.conditions.first()?.clone();
            let is_current = status.observed_generation == object.metadata.generation;
            (is_current && fits(&synced)).then_some(synced)
        })
        .await
    }

    pub async fn wait_until_synced(&self, name: &str) {
        self.wait_for_condition(name, |synced| synced.status == "True")
            .await;
    }

    /// Waits until the object's status reports a failure; returns the message.
    pub async fn wait_for_failure(&self, name: &str) -> String {
        let condition = self
            .wait_for_condition(name, |synced| synced.status == "False")
            .await;
        condition.message.unwrap_or_default()
    }

    pub async fn wait_for_event(&self, name: &str, reason: &str) -> Event {
        until(
            &format!("event {reason} of {name}\n{}", self.controller.log()),
            async || {
                let events = self.events().await;
                events.into_iter().find(|event| {
                    event.involved_object.name.as_deref() == Some(name)
                        && event.reason.as_deref() == Some(reason)
                })
            },
        )
        .await
    }

    pub async fn conditions(&self, name: &str) -> Vec<Condition> {
        let object = self.sealed_secrets().get(name).await.unwrap();
        object.status.unwrap_or_default().conditions
    }

    pub async fn wait_for_log(&self, text: &str) {
        until(&format!("{text:?} is logged"), async || {
            self.controller.log().contains(text).then_some(())
        })
        .await;
    }

    pub async fn events(&self) -> Vec<Event> {
        self.namespace
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
    }

    /// Waits until the controller has processed all earlier changes, by creating another object and waiting until it is
    /// synced.
    pub async fn wait_until_idle(&self, name: &str) {
        let marker = format!("marker-of-{name}");
        self.seal(&marker, &[("a", "1")]).await;
        self.wait_until_synced(&marker).await;
    }
}

pub fn template_annotations(annotations: &Value) -> Value {
    json!({ "spec": { "template": { "metadata": { "annotations": annotations } } } })
}
