//! The lifecycle test, which the controller must pass however it is installed.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::{Secret as ApiSecret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use shared::resource::SealedSecret;

use crate::binaries;
use crate::control_plane::{ControlPlane, Namespace};
use crate::deployed::DeployedController;
use crate::patience::until;

/// A user of a controller: a service account with only the default permissions.
pub struct User<'a> {
    /// The user's namespace.
    pub namespace: Namespace<'a>,
    kubeconfig: PathBuf,
    args: [String; 4],
}

impl<'a> User<'a> {
    /// Creates a user in a new namespace.
    pub async fn new(plane: &'a ControlPlane, home: &str, service: &str) -> Self {
        let namespace = plane.namespace("user").await;
        Self::in_namespace(plane, namespace, home, service).await
    }

    /// Creates a user in this namespace.
    pub async fn in_namespace(
        plane: &ControlPlane,
        namespace: Namespace<'a>,
        home: &str,
        service: &str,
    ) -> Self {
        let account = json!({ "metadata": { "name": "user" } });
        let _: ServiceAccount = namespace.create_object(account).await;
        let kubeconfig = plane.kubeconfig_of(namespace.name(), "user").await;
        let args =
            ["--controller-name", service, "--controller-namespace", home].map(str::to_owned);
        Self {
            namespace,
            kubeconfig,
            args,
        }
    }

    /// Runs `kubeseal`; returns its stdout.
    ///
    /// # Errors
    /// Returns the stderr of `kubeseal` if it fails.
    pub fn kubeseal(&self, args: &[&str], input: &Value) -> Result<String, String> {
        let mut child = Command::new(binaries::kubeseal())
            .env("KUBECONFIG", &self.kubeconfig)
            .args(&self.args)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.to_string().as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).unwrap())
            .ok_or(stderr)
    }

    /// Returns a SealedSecret with one value, sealed by this project's `kubeseal` with the certificate that it fetches
    /// through the API server's proxy.
    pub async fn seal(&self, name: &str, value: &str) -> Value {
        let metadata = json!({ "name": name, "namespace": self.namespace.name() });
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": { "a": value } });
        let sealed = until("the roles take effect", async || {
            let result = self.kubeseal(&[], &secret);
            match result {
                Err(stderr) if stderr.contains("forbid") => None,
                result => Some(result),
            }
        });
        serde_json::from_str(&sealed.await.unwrap()).unwrap()
    }

    /// Seals a value and applies it.
    pub async fn apply(&self, name: &str, value: &str) -> Value {
        let sealed = self.seal(name, value).await;
        let api: Api<SealedSecret> = self.namespace.api();
        let apply = PatchParams::apply("user").force();
        api.patch(name, &apply, &Patch::Apply(&sealed))
            .await
            .unwrap();
        sealed
    }

    /// Waits until the item `a` of the Secret has this value. The failure message contains `log`.
    pub async fn wait_for_value(&self, name: &str, value: &str, log: &str) -> ApiSecret {
        until(
            &format!("{name} has the value {value}\n{log}"),
            async || {
                let secret = self
                    .namespace
                    .api::<ApiSecret>()
                    .get_opt(name)
                    .await
                    .unwrap()?;
                let has_value = secret.data.as_ref()?.get("a")?.0 == value.as_bytes();
                has_value.then_some(secret)
            },
        )
        .await
    }

    /// Waits until the object's status reports that it is synced.
    pub async fn wait_until_synced(&self, name: &str) {
        until(&format!("{name} is synced"), async || {
            let api: Api<SealedSecret> = self.namespace.api();
            let status = api.get(name).await.unwrap().status?;
            let synced = status.conditions.first()?;
            (synced.type_ == "Synced" && synced.status == "True").then_some(())
        })
        .await;
    }

    /// Runs the lifecycle test: seals, applies, changes, validates and deletes objects. Leaves one object named `kept`.
    pub async fn run_lifecycle(&self, controller: &DeployedController) {
        for (name, value) in [("kept", "1"), ("deleted", "1"), ("deleted", "2")] {
            let sealed = self.apply(name, value).await;
            self.wait_for_value(name, value, &controller.log()).await;
            self.kubeseal(&["--validate"], &sealed).unwrap();
        }
        let api: Api<SealedSecret> = self.namespace.api();
        api.delete("deleted", &DeleteParams::default())
            .await
            .unwrap();
        until("the Secret of the deleted object is deleted", async || {
            let secret = self.namespace.api::<ApiSecret>().get_opt("deleted").await;
            secret.unwrap().is_none().then_some(())
        })
        .await;
    }
}
