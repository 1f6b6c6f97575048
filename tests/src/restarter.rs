//! Runs `seal restart`, and writes Secrets and their versions in place of the controller.

use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use rustix::process::Signal;
use serde_json::{Value, json};
use shared::resource::SealedSecret;

use crate::control_plane::Namespace;
use crate::logged::LoggedProcess;
use crate::patience::until;
use crate::{binaries, guarded, http};

/// A process of `seal restart`.
pub struct Restarter(LoggedProcess);

impl Restarter {
    /// Starts the program with a kubeconfig, and waits until it serves its probes.
    ///
    /// # Panics
    /// Panics with its output if it exits.
    pub async fn start(kubeconfig: &Path, namespace: &str, args: &[&str]) -> Self {
        let watched = ["--namespace", namespace];
        Self::spawn(kubeconfig, namespace, &[&watched, args].concat()).await
    }

    /// Like [`Self::start`], but watches all namespaces; its Lease is in `namespace`.
    ///
    /// # Panics
    /// Panics like [`Self::start`].
    pub async fn start_for_all_namespaces(kubeconfig: &Path, namespace: &str) -> Self {
        Self::spawn(kubeconfig, namespace, &[]).await
    }

    async fn spawn(kubeconfig: &Path, lease_namespace: &str, args: &[&str]) -> Self {
        let mut command = guarded::command(binaries::seal());
        command
            .args(["restart", "--lease-namespace", lease_namespace])
            .args(["--listen", "127.0.0.1:0", "--verbose", "--kubeconfig"])
            .arg(kubeconfig)
            .args(args);
        let mut process = LoggedProcess::spawn(&mut command).expect("the program was built");
        let is_serving = |log: &str| log.contains("Serving metrics and probes").then_some(());
        process
            .wait_for_log("the program serves its probes", is_serving)
            .await;
        Self(process)
    }

    /// Waits until this process is the leader.
    pub async fn wait_until_leader(&mut self) {
        let is_leader = |log: &str| log.contains("This replica is the leader").then_some(());
        self.0
            .wait_for_log("the replica is the leader", is_leader)
            .await;
    }

    /// Waits until this process is the leader, and `/readyz` returns 200.
    pub async fn wait_until_synced(&mut self) {
        self.wait_until_leader().await;
        until("the lists are complete", async || {
            let response = http::get(self.port(), "/readyz").await.ok()?;
            response.starts_with("HTTP/1.1 200").then_some(())
        })
        .await;
    }

    /// Returns the output so far.
    pub fn log(&self) -> String {
        self.0.log()
    }

    /// Returns the port of metrics and probes.
    ///
    /// # Panics
    /// Panics if the log does not contain it.
    pub fn port(&self) -> u16 {
        let log = self.log();
        let address = log
            .split("address=127.0.0.1:")
            .nth(1)
            .expect("the log contains the port");
        let digits: String = address.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a port")
    }

    /// Returns the resident memory of the process in bytes.
    pub fn memory(&self) -> usize {
        self.0.memory()
    }

    /// Ends the process as a crash does, without releasing the Lease.
    pub fn kill(mut self) {
        self.0.signal(Signal::KILL);
        let _ = self.0.stop();
    }

    /// Stops the process with SIGTERM; returns its exit code.
    pub fn stop(self) -> Option<i32> {
        self.0.stop()
    }
}

/// A SealedSecret and its Secret, and the content versions in its status.
pub struct VersionedSecret<'a> {
    namespace: &'a Namespace<'a>,
    name: String,
    key: u32,
    generation: i64,
    versions: Vec<Value>,
}

impl<'a> VersionedSecret<'a> {
    /// Creates the SealedSecret and the Secret, with one item `password`.
    pub async fn create(
        namespace: &'a Namespace<'a>,
        name: &str,
        annotations: Value,
        password: &str,
    ) -> Self {
        let metadata = json!({ "name": name, "annotations": annotations });
        let sealed =
            json!({ "metadata": metadata, "spec": { "encryptedData": { "password": "AAAA" } } });
        let _: SealedSecret = namespace.create_object(sealed).await;
        let secret =
            json!({ "metadata": { "name": name }, "stringData": { "password": password } });
        let _: Secret = namespace.create_object(secret).await;
        let mut versioned = Self {
            namespace,
            name: name.to_owned(),
            key: 1,
            generation: 1,
            versions: Vec::new(),
        };
        versioned.record().await;
        versioned
    }

    /// Changes the value, and records a new version in the status, in place of the controller.
    pub async fn set(&mut self, password: &str) {
        let secrets: Api<Secret> = self.namespace.api();
        let patch = Patch::Merge(json!({ "stringData": { "password": password } }));
        let result = secrets
            .patch(&self.name, &PatchParams::default(), &patch)
            .await;
        result.expect("the Secret exists");
        self.generation += 1;
        self.record().await;
    }

    /// Records a version of the same content that was computed with a different content-version key.
    pub async fn replace_key(&mut self) {
        self.key += 1;
        self.record().await;
    }

    /// Returns the newest version.
    pub fn version(&self) -> String {
        self.versions[0]["version"]
            .as_str()
            .expect("text")
            .to_owned()
    }

    async fn record(&mut self) {
        let (key, generation) = (self.key, self.generation);
        let end_of_second = Timestamp::now().as_second() + 1;
        let time = Timestamp::from_second(end_of_second).expect("a time");
        let version = json!({
            "version": format!("{key:011}{generation:011}"),
            "keyId": format!("{key:08x}"),
            "generation": generation,
            "time": time.to_string(),
        });
        self.versions.insert(0, version);
        self.versions.truncate(5);
        let patch = Patch::Merge(json!({ "status": { "versions": self.versions } }));
        let resource = ApiResource::erase::<SealedSecret>(&());
        let client = self.namespace.client();
        let sealed: Api<DynamicObject> =
            Api::namespaced_with(client, self.namespace.name(), &resource);
        let params = PatchParams::default();
        // The API server may use the former CRD for a moment.
        until("the API server keeps the versions", async || {
            let written = sealed
                .patch_status(&self.name, &params, &patch)
                .await
                .ok()?;
            written.data["status"]["versions"].is_array().then_some(())
        })
        .await;
    }
}
