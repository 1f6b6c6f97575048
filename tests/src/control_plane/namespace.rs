//! A namespace of one test.

use std::fmt::Debug;
use std::thread;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{self as core, ServiceAccount};
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{ControlPlane, service_proxy};
use crate::patience;

/// A namespace of a control plane. A namespace that was created for a test is used by no other test; if the cluster is
/// from `TEST_KUBECONFIG`, the namespace is deleted when this value is dropped. An existing namespace, such as
/// `kube-system`, is kept.
pub struct Namespace<'a> {
    plane: &'a ControlPlane,
    name: String,
    /// Whether the namespace was created for one test, unlike `kube-system`.
    is_temporary: bool,
}

impl<'a> Namespace<'a> {
    pub(super) async fn create(plane: &'a ControlPlane, purpose: &str) -> Self {
        let namespace = json!({ "metadata": { "generateName": format!("{purpose}-") } });
        let namespace: core::Namespace = serde_json::from_value(namespace).expect("a namespace");
        let namespaces = Api::all(plane.admin());
        let created = namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .expect("a name is free");
        Self {
            plane,
            name: created.name_any(),
            is_temporary: true,
        }
    }

    pub(super) fn existing(plane: &'a ControlPlane, name: &str) -> Self {
        Self {
            plane,
            name: name.to_owned(),
            is_temporary: false,
        }
    }

    /// Returns the name, which the API server generated unless the namespace existed before.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns an admin client, as [`ControlPlane::admin`] does.
    pub fn client(&self) -> Client {
        self.plane.admin()
    }

    /// Returns the admin API for objects of one kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType: Default>,
    {
        Api::namespaced(self.plane.admin(), &self.name)
    }

    /// Creates an object from JSON; `apiVersion` and `kind` may be omitted.
    pub async fn create_object<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType: Default>,
        K: Clone + Debug + Serialize + DeserializeOwned,
    {
        let object: K = serde_json::from_value(object).expect("the JSON fits the kind");
        let created = self.api().create(&PostParams::default(), &object).await;
        created.unwrap_or_else(|error| panic!("cannot create {}: {error}", object.name_any()))
    }

    /// Routes the Service `service` to the process that listens on 127.0.0.1 at `port`, for clients of the API server's
    /// service proxy. Every port of the Service has this target; a missing Service is created with the port 8080 named
    /// `http`.
    ///
    /// # Panics
    /// Panics in a cluster from `TEST_KUBECONFIG`, which cannot reach this process.
    pub async fn route(&self, service: &str, port: u16) {
        assert!(
            self.plane.own.is_some(),
            "this test lets the API server call a process of this machine, which the cluster of \
             TEST_KUBECONFIG cannot reach: unset TEST_KUBECONFIG, or leave the test out with `-- --skip NAME`"
        );
        self.wait_for_default_service_account().await;
        service_proxy::route(self, service, port).await;
    }

    /// Waits for the service account that every namespace gets, without which no Pod is admitted.
    pub(crate) async fn wait_for_default_service_account(&self) {
        let exists = |account: Option<&ServiceAccount>| account.is_some();
        let account = await_condition(self.api(), "default", exists);
        patience::within_limit("the namespace has its ServiceAccount", account)
            .await
            .expect("an admin may watch");
    }
}

impl Drop for Namespace<'_> {
    /// Deletes the namespace on a new thread with its own runtime, because the test's runtime may be busy or unwinding.
    fn drop(&mut self) {
        if self.plane.own.is_some() || !self.is_temporary {
            return;
        }
        let (config, name) = (self.plane.config.clone(), self.name.clone());
        let deletion = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let namespaces: Api<core::Namespace> = Api::all(Client::try_from(config)?);
                namespaces.delete(&name, &DeleteParams::default()).await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            })
        });
        if !matches!(deletion.join(), Ok(Ok(()))) {
            eprintln!(
                "cannot delete the namespace {}; delete it manually",
                self.name
            );
        }
    }
}
