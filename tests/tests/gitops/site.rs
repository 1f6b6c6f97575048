//! A namespace with a controller behind a Service.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::patience;
use tests::roles::{self, Reach};
use tests::sealing::{KEYS, put_key, sealed_for};

/// A controller behind a Service, in a namespace of its own.
pub(crate) struct Site {
    pub(crate) plane: &'static ControlPlane,
    pub(crate) namespace: Namespace<'static>,
    _controller: ClusterController,
}

impl Site {
    pub(crate) async fn new(purpose: &str) -> Self {
        let plane = ControlPlane::shared().await;
        let namespace = plane.namespace(purpose).await;
        roles::grant(&namespace, Reach::Namespace).await;
        put_key(&namespace, "key-0", &KEYS[0]).await;
        let args = ["--key-renew-period=0"];
        let controller = ClusterController::start(plane, &namespace, &args).await;
        let port = controller.port().expect("the controller is ready");
        namespace.route("sealed-secrets-controller", port).await;
        Self {
            plane,
            namespace,
            _controller: controller,
        }
    }

    /// Returns a SealedSecret for the first key.
    pub(crate) fn sealed_secret(&self, name: &str, items: &[(&str, &str)]) -> SealedSecret {
        let namespace = self.namespace.name();
        sealed_for(&KEYS[0], namespace, name, items, Scope::Strict)
    }

    pub(crate) fn sealed_secrets(&self) -> Api<SealedSecret> {
        self.namespace.api()
    }

    /// Returns the Secret, which must exist.
    pub(crate) async fn secret(&self, name: &str) -> Secret {
        self.namespace
            .api()
            .get(name)
            .await
            .expect("the Secret exists")
    }

    /// Returns the value of an item, which must exist.
    pub(crate) async fn value(&self, name: &str, item: &str) -> String {
        let data = self.secret(name).await.data.unwrap_or_default();
        String::from_utf8(data[item].0.clone()).expect("text")
    }

    /// Waits until the controller has observed the newest generation of a SealedSecret.
    pub(crate) async fn wait_until_observed(&self, name: &str) {
        patience::until(&format!("{name} is observed"), async || {
            let object = self
                .sealed_secrets()
                .get(name)
                .await
                .expect("the SealedSecret exists");
            let observed = object.status?.observed_generation;
            (observed == object.metadata.generation).then_some(())
        })
        .await;
    }
}
