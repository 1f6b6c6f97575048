//! A test store in a cluster.

use k8s_openapi::api::core::v1::Secret as ApiSecret;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Error};
use serde_json::json;
use shared::key::NewKey;
use shared::resource::{SealedSecret, SealedSecretStatus};
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::roles::{self, Reach};
use tests::sealing::{KEYS, put_key};

use super::store::{TestStore, Values, malformed_object};

pub(crate) struct Cluster {
    plane: &'static ControlPlane,
    namespace: Namespace<'static>,
    controller: Option<ClusterController>,
}

impl Cluster {
    fn sealed_secrets(&self) -> Api<SealedSecret> {
        self.namespace.api()
    }

    /// Returns an API for SealedSecrets that may be malformed.
    fn untyped_sealed_secrets(&self) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<SealedSecret>(&());
        Api::namespaced_with(self.plane.admin(), self.namespace.name(), &kind)
    }

    fn secrets(&self) -> Api<ApiSecret> {
        self.namespace.api()
    }
}

impl TestStore for Cluster {
    async fn new() -> Self {
        let plane = ControlPlane::shared().await;
        let namespace = plane.namespace("life").await;
        roles::grant(&namespace, Reach::Namespace).await;
        put_key(&namespace, "one", &KEYS[0]).await;
        let controller = ClusterController::start(plane, &namespace, &[]).await;
        Self {
            plane,
            namespace,
            controller: Some(controller),
        }
    }

    fn namespace(&self) -> &str {
        self.namespace.name()
    }

    async fn put(&self, sealed: &SealedSecret) {
        let name = sealed.metadata.name.as_deref().unwrap();
        loop {
            let mut next = sealed.clone();
            let existing = self.sealed_secrets().get_opt(name).await.unwrap();
            let result = match existing {
                None => {
                    self.sealed_secrets()
                        .create(&PostParams::default(), sealed)
                        .await
                }
                Some(existing) => {
                    next.metadata.resource_version = existing.metadata.resource_version;
                    let api = self.sealed_secrets();
                    api.replace(name, &PostParams::default(), &next).await
                }
            };
            match result {
                Err(Error::Api(status)) if status.code == 409 => {}
                result => break drop(result.unwrap()),
            }
        }
    }

    async fn put_malformed(&self, name: &str) {
        let object = malformed_object(name, self.namespace.name());
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let api = self.untyped_sealed_secrets();
        api.create(&PostParams::default(), &object).await.unwrap();
    }

    async fn remove(&self, name: &str) {
        let api = self.sealed_secrets();
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }

    async fn add_key(&self, key: &NewKey) {
        put_key(&self.namespace, "two", key).await;
    }

    async fn restart(mut self, action: impl AsyncFnOnce(&Self)) -> Self {
        assert_eq!(self.controller.take().unwrap().stop(), Some(0));
        action(&self).await;
        let controller = ClusterController::start(self.plane, &self.namespace, &[]).await;
        self.controller = Some(controller);
        self
    }

    async fn tamper(&self, name: &str, item: &str, value: &str) {
        let patch = Patch::Merge(json!({ "stringData": { item: value } }));
        let api = self.secrets();
        api.patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    async fn put_unowned(&self, name: &str, item: &str, value: &str) {
        let object = json!({ "metadata": { "name": name }, "stringData": { item: value } });
        let _: ApiSecret = self.namespace.create_object(object).await;
    }

    async fn values(&self, name: &str) -> Option<Values> {
        let data = self.secrets().get_opt(name).await.unwrap()?.data;
        let values = data.unwrap_or_default().into_iter();
        Some(values.map(|(key, value)| (key, value.0)).collect())
    }

    async fn status(&self, name: &str) -> Option<SealedSecretStatus> {
        let object = self.untyped_sealed_secrets().get_opt(name).await.unwrap()?;
        let status: SealedSecretStatus =
            serde_json::from_value(object.data["status"].clone()).ok()?;
        (status.observed_generation == object.metadata.generation).then_some(status)
    }

    async fn revision(&self, name: &str) -> String {
        let secret = self.secrets().get(name).await.unwrap();
        let sealed = self.sealed_secrets().get(name).await.unwrap();
        let version = |version: Option<String>| version.unwrap();
        let secret_version = version(secret.metadata.resource_version);
        format!(
            "{secret_version} {}",
            version(sealed.metadata.resource_version)
        )
    }

    fn log(&self) -> String {
        let log = self.controller.as_ref().map(ClusterController::log);
        log.unwrap_or_default()
    }
}
