//! Tests the controller during failures of the cluster. Each test has its own control plane.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret as ApiSecret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, CustomResourceExt as _, ResourceExt as _};
use rustix::process::Signal;
use serde_json::{Value, json};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::cluster_controller::ClusterController;
use tests::control_plane::ControlPlane;
use tests::patience::until;
use tests::roles::{self, Reach};
use tests::sealing::{KEYS, put_key, sealed_for, values};

const OUTAGE: Duration = Duration::from_secs(20);

/// A running controller, and an administrator's client for its namespace. Both survive restarts of the control plane.
struct Case {
    controller: ClusterController,
    client: Client,
    namespace: String,
}

impl Case {
    async fn new(plane: &ControlPlane) -> Self {
        let namespace = plane.namespace("faults").await;
        roles::grant(&namespace, Reach::Namespace).await;
        put_key(&namespace, "key-0", &KEYS[0]).await;
        Self {
            controller: ClusterController::start(plane, &namespace, &[]).await,
            client: plane.admin(),
            namespace: namespace.name().to_owned(),
        }
    }

    fn sealed_secrets(&self) -> Api<SealedSecret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn secrets(&self) -> Api<ApiSecret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn sealed_secret(&self, name: &str, value: &str) -> SealedSecret {
        sealed_for(
            &KEYS[0],
            &self.namespace,
            name,
            &[("a", value)],
            Scope::Strict,
        )
    }

    async fn seal(&self, name: &str, value: &str) {
        let sealed = self.sealed_secret(name, value);
        self.sealed_secrets()
            .create(&PostParams::default(), &sealed)
            .await
            .unwrap();
    }

    async fn change(&self, name: &str, value: &str) {
        let items = self.sealed_secret(name, value).spec.encrypted_data;
        self.patch(name, json!({ "spec": { "encryptedData": items } }))
            .await;
    }

    async fn patch(&self, name: &str, patch: Value) {
        self.sealed_secrets()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    async fn delete(&self, name: &str) {
        self.sealed_secrets()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    async fn wait_for_value(&self, name: &str, value: &str) {
        until(
            &format!("{name} has the value {value}\n{}", self.log()),
            async || {
                let secret = self.secrets().get_opt(name).await.ok()??;
                (secret.data? == values(&[("a", value)])).then_some(())
            },
        )
        .await;
    }

    async fn wait_until_synced(&self, name: &str) {
        until(&format!("{name} is synced\n{}", self.log()), async || {
            let object = self.sealed_secrets().get(name).await.ok()?;
            let status = object.status?;
            let is_current = status.observed_generation == object.metadata.generation;
            (is_current && status.conditions.first()?.status == "True").then_some(())
        })
        .await;
    }

    async fn wait_until_deleted(&self, name: &str) {
        until(&format!("{name} is deleted"), async || {
            self.secrets()
                .get_opt(name)
                .await
                .ok()?
                .is_none()
                .then_some(())
        })
        .await;
    }

    /// Returns the controller's log without trace and debug lines.
    fn log(&self) -> String {
        let log = self.controller.log();
        let is_relevant =
            |line: &&str| !line.contains("level=TRACE") && !line.contains("level=DEBUG");
        log.lines()
            .filter(is_relevant)
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn stop_gracefully(self) {
        assert!(!self.controller.log().contains("panicked"));
        assert_eq!(self.controller.stop(), Some(0));
    }
}

#[tokio::test]
async fn c8_processes_changes_made_while_the_api_server_restarted() {
    let mut plane = ControlPlane::start().await;
    let mut case = Case::new(&plane).await;
    for name in ["edited", "deleted", "secretless"] {
        case.seal(name, "1").await;
        case.wait_for_value(name, "1").await;
    }
    // The controller is paused meanwhile, so its resource versions are too old for the restarted API server, which
    // responds with 410.
    case.controller.signal(Signal::STOP);
    case.change("edited", "2").await;
    case.delete("deleted").await;
    case.secrets()
        .delete("secretless", &DeleteParams::default())
        .await
        .unwrap();
    case.seal("new", "1").await;
    plane.restart_api_server().await;
    case.controller.signal(Signal::CONT);
    case.wait_for_value("new", "1").await;
    case.wait_for_value("edited", "2").await;
    case.wait_for_value("secretless", "1").await;
    case.wait_until_deleted("deleted").await;
    case.seal("later", "1").await;
    case.wait_until_synced("later").await;
    case.stop_gracefully();
}

#[tokio::test]
async fn waits_without_etcd_and_then_catches_up() {
    let mut plane = ControlPlane::start().await;
    let case = Case::new(&plane).await;
    case.seal("db", "1").await;
    case.wait_for_value("db", "1").await;
    case.wait_until_synced("db").await;
    case.secrets()
        .delete("db", &DeleteParams::default())
        .await
        .unwrap();
    plane.stop_etcd();
    tokio::time::sleep(OUTAGE).await;
    plane.start_etcd().await;
    case.wait_for_value("db", "1").await;
    case.seal("later", "1").await;
    case.wait_until_synced("later").await;
    case.stop_gracefully();
}

#[tokio::test]
async fn exits_at_once_while_the_api_server_hangs() {
    let mut plane = ControlPlane::start().await;
    let case = Case::new(&plane).await;
    case.seal("db", "1").await;
    plane.pause();
    let before = std::time::Instant::now();
    case.stop_gracefully();
    assert!(
        before.elapsed() < Duration::from_secs(8),
        "{:?}",
        before.elapsed()
    );
    plane.resume();
}

#[tokio::test]
async fn c22_is_live_but_not_ready_while_the_api_server_is_down() {
    let mut plane = ControlPlane::start().await;
    let case = Case::new(&plane).await;
    let kubeconfig = plane.kubeconfig_of(&case.namespace, roles::ACCOUNT).await;
    let Case {
        controller,
        client,
        namespace,
    } = case;
    assert_eq!(controller.stop(), Some(0));
    plane.stop_api_server();
    let mut controller = ClusterController::spawn(&kubeconfig, &namespace, &[]);
    controller.wait_for_log("Cannot start yet").await;
    let status = async |path| {
        let response = controller.get(path).await;
        response.lines().next().unwrap().to_owned()
    };
    assert_eq!(status("/healthz").await, "HTTP/1.1 200 OK");
    assert_eq!(status("/readyz").await, "HTTP/1.1 503 Service Unavailable");
    plane.start_api_server().await;
    controller.become_ready().await;
    let case = Case {
        controller,
        client,
        namespace,
    };
    case.seal("db", "1").await;
    case.wait_until_synced("db").await;
    case.stop_gracefully();
}

#[tokio::test]
async fn c2_loses_no_change_during_many_concurrent_writes() {
    let plane = ControlPlane::start().await;
    let case = Case::new(&plane).await;
    case.seal("db", "0").await;
    case.wait_for_value("db", "0").await;
    let label_writes = {
        let (sealed, secrets) = (case.sealed_secrets(), case.secrets());
        tokio::spawn(async move {
            for i in 0_u64.. {
                let label = json!({ "metadata": { "labels": { "storm": i.to_string() } } });
                let patch = Patch::Merge(label);
                let _ = sealed.patch("db", &PatchParams::default(), &patch).await;
                let _ = secrets.patch("db", &PatchParams::default(), &patch).await;
            }
        })
    };
    for i in 1..=20 {
        case.change("db", &i.to_string()).await;
        case.wait_for_value("db", &i.to_string()).await;
    }
    label_writes.abort();
    let _ = label_writes.await;
    case.wait_until_synced("db").await;
    let events =
        Api::<k8s_openapi::api::core::v1::Event>::namespaced(case.client.clone(), &case.namespace);
    let events = events.list(&ListParams::default()).await.unwrap();
    let reasons: Vec<_> = events.items.iter().map(|e| e.reason.clone()).collect();
    assert!(
        !reasons.contains(&Some("DriftCorrected".into())),
        "{reasons:?}"
    );
    assert!(
        events
            .items
            .iter()
            .all(|event| !event.name_any().is_empty())
    );
    case.stop_gracefully();
}

/// A hand-written CRD without the `status` subresource, with which the controller still creates Secrets.
const WITHOUT_STATUS: &str = r#"{
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": { "name": "sealedsecrets.bitnami.com" },
    "spec": {
        "group": "bitnami.com", "scope": "Namespaced",
        "names": { "kind": "SealedSecret", "listKind": "SealedSecretList",
                   "plural": "sealedsecrets", "singular": "sealedsecret" },
        "versions": [{
            "name": "v1alpha1", "served": true, "storage": true,
            "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                "spec": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                "status": { "x-kubernetes-preserve-unknown-fields": true }
            } } }
        }]
    }
}"#;

#[tokio::test]
async fn warns_once_about_a_crd_without_the_status_subresource() {
    let warning = "has no `status` subresource";
    let plane = ControlPlane::start().await;
    let mut own_definition = SealedSecret::crd();
    own_definition.spec.versions[0].subresources = None;
    for definition in [
        serde_json::from_str(WITHOUT_STATUS).unwrap(),
        own_definition,
    ] {
        plane.install(&definition).await;
        let mut case = Case::new(&plane).await;
        for i in 0..5 {
            let name = format!("db-{i}");
            case.seal(&name, "1").await;
            case.wait_for_value(&name, "1").await;
        }
        case.controller.wait_for_log(warning).await;
        for i in 0..5 {
            let name = format!("db-{i}");
            case.change(&name, "2").await;
            case.wait_for_value(&name, "2").await;
            case.delete(&name).await;
        }
        case.seal("last", "1").await;
        case.wait_for_value("last", "1").await;
        let log = case.log();
        assert_eq!(log.matches(warning).count(), 1, "{log}");
        assert!(
            log.contains("CustomResourceDefinition sealedsecrets.bitnami.com"),
            "{log}"
        );
        assert!(
            log.contains("apply the CustomResourceDefinition of this controller"),
            "{log}"
        );
        case.stop_gracefully();
    }
    plane.install(&SealedSecret::crd()).await;
    let case = Case::new(&plane).await;
    case.seal("db", "1").await;
    case.wait_until_synced("db").await;
    case.delete("db").await;
    assert!(!case.log().contains(warning), "{}", case.log());
    case.stop_gracefully();
}
