//! Tests the migration from Bitnami's controller to this project's and back: Secrets are unchanged, and objects are
//! still processed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret as ApiSecret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use shared::plain::Plain;
use shared::resource::{Condition, SealedSecret};
use shared::scope::Scope;
use shared::seal::seal;
use shared::secret::Secret;
use tests::binaries;
use tests::control_plane::{ControlPlane, Namespace};
use tests::operators;
use tests::patience::until;
use tests::pod::Pod;
use tests::roles::{self, ACCOUNT, Reach};
use tests::sealing::{KEYS, put_key};
use tests::upstream;
use tests::verdicts::{Verdict, judge};

const COUNT: usize = 500;

/// Arguments of both controllers.
const ARGS: &[&str] = &[
    "--all-namespaces=false",
    "--listen-addr=127.0.0.1:0",
    "--listen-metrics-addr=127.0.0.1:0",
    "--key-renew-period=0",
    "--kubeclient-qps=-1",
    "--max-unseal-retries=7",
    "--log-format=json",
];

#[tokio::test]
async fn the_controllers_can_be_swapped_back_and_forth_with_this_projects_crd() {
    let plane = ControlPlane::start().await;
    let case = Case::new(&plane).await;
    let log = swap_controllers(&case).await;
    assert!(!log.contains("drops `status.items`"), "{log}");
    let status = case.sealed_secret("s-000").await.status.unwrap();
    assert_eq!(status.items.len(), 1);
}

#[tokio::test]
async fn the_controllers_can_be_swapped_with_bitnamis_crd_and_the_missing_field_is_logged_once() {
    let plane = ControlPlane::start().await;
    plane.install(&upstream::definition()).await;
    let case = Case::new(&plane).await;
    let log = swap_controllers(&case).await;
    assert_eq!(log.matches("drops `status.items`").count(), 1, "{log}");
}

#[tokio::test]
async fn after_seal_uninstall_argo_cd_and_kubectl_report_the_correct_health() {
    let plane = ControlPlane::start().await;
    let case = Case::new(&plane).await;
    roles::grant_leases(&case.namespace).await;
    let own_pod = case.start_pod(binaries::controller()).await;
    case.seal_all().await;
    case.wait_until_all_ready(own_pod.log()).await;
    case.break_and_wait("s-004").await;
    let refusal = case.uninstall(&["--yes"]);
    assert_eq!(refusal.0, Some(2));
    assert!(
        refusal
            .1
            .contains("a controller of this project is running"),
        "{}",
        refusal.1
    );
    assert_eq!(own_pod.stop(), Some(0));

    // Bitnami's controller does not change conditions that it does not use.
    let upstream_pod = case.start_pod(upstream::upstream_controller()).await;
    case.change_and_wait("s-004", &upstream_pod).await;
    case.break_and_wait("s-003").await;
    assert_eq!(
        case.verdict("s-004").await.kstatus,
        "Failed",
        "the object is healthy again"
    );

    let (code, message) = case.uninstall(&[]);
    assert_eq!(
        (code, message.lines().count()),
        (Some(0), COUNT + 1),
        "{message}"
    );
    assert!(message.contains("/s-004: Ready, Stalled\n"), "{message}");
    assert!(
        message.contains("nothing was changed: 500 of 500"),
        "{message}"
    );
    assert_eq!(
        case.verdict("s-004").await.kstatus,
        "Failed",
        "nothing is changed"
    );
    let (code, message) = case.uninstall(&["--yes"]);
    assert_eq!(code, Some(0), "{message}");
    assert!(
        message.ends_with("500 of 500 statuses were changed\n"),
        "{message}"
    );
    let (code, message) = case.uninstall(&["--yes"]);
    assert_eq!(code, Some(0), "{message}");
    assert!(
        message.contains("none of 500 SealedSecrets has anything to remove"),
        "{message}"
    );

    case.wait_for_new_secret("after", &upstream_pod).await;
    for object in case.list().await {
        let argo = if object.name_any() == "s-003" {
            "Degraded"
        } else {
            "Healthy"
        };
        let verdict = judge(&json!(object));
        // kstatus uses only Ready and Stalled.
        assert_eq!(
            (verdict.argo.as_str(), verdict.kstatus.as_str()),
            (argo, "Current"),
            "{}",
            object.name_any()
        );
        let status = object.status.unwrap();
        assert!(
            status
                .conditions
                .iter()
                .all(|condition| condition.type_ == "Synced")
        );
        assert!(status.items.is_empty() && status.record.is_none());
    }
    case.assert_kubectl_wait("s-003", "Synced=False", true);
    case.assert_kubectl_wait("s-003", "Ready", false);
    case.assert_kubectl_wait("s-004", "Synced", true);
    case.assert_kubectl_wait("s-004", "Stalled", false);
    upstream_pod.stop();
}

/// Replaces Bitnami's controller with this project's and then back, and checks that no object is lost or written
/// without a change. Returns the log of this project's controller.
async fn swap_controllers(case: &Case<'_>) -> String {
    let upstream_pod = case.start_pod(upstream::upstream_controller()).await;
    case.seal_all().await;
    case.wait_until_all_synced(COUNT, upstream_pod.log()).await;
    let secrets_before = case.secrets().await;
    upstream_pod.stop();

    let own_pod = case.start_pod(binaries::controller()).await;
    case.wait_for_new_secret("during", &own_pod).await;
    case.wait_until_all_ready(own_pod.log()).await;
    case.change_and_wait("s-001", &own_pod).await;
    case.delete_and_wait("s-002", &own_pod).await;
    let statuses = case.statuses().await;
    assert_eq!(
        case.remaining_secrets(&secrets_before).await,
        without_changed_objects(&secrets_before)
    );
    case.wait_for_new_secret("at-rest", &own_pod).await;
    assert_eq!(
        case.remaining_statuses(&statuses).await,
        statuses,
        "nothing is written while the objects are unchanged"
    );
    let log = own_pod.log();
    assert_eq!(own_pod.stop(), Some(0));

    let upstream_pod = case.start_pod(upstream::upstream_controller()).await;
    case.wait_for_new_secret("after", &upstream_pod).await;
    case.change_and_wait("s-001", &upstream_pod).await;
    case.change_and_wait("during", &upstream_pod).await;
    case.delete_and_wait("at-rest", &upstream_pod).await;
    assert_eq!(
        case.remaining_secrets(&secrets_before).await,
        without_changed_objects(&secrets_before)
    );
    upstream_pod.stop();
    log
}

/// The `resourceVersion` of each object by name. It changes with every write.
type Versions = BTreeMap<String, String>;

struct Case<'a> {
    plane: &'a ControlPlane,
    namespace: Namespace<'a>,
}

impl<'a> Case<'a> {
    async fn new(plane: &'a ControlPlane) -> Self {
        let namespace = plane.namespace("migration").await;
        roles::grant(&namespace, Reach::Namespace).await;
        for (i, key) in KEYS.iter().enumerate() {
            put_key(&namespace, &format!("sealed-secrets-key{i}"), key).await;
        }
        Self { plane, namespace }
    }

    async fn start_pod(&self, program: PathBuf) -> Pod {
        Pod::start(self.plane, &self.namespace, ACCOUNT, &program, ARGS).await
    }

    async fn seal_all(&self) {
        let objects = (0..COUNT).map(|i| self.object(&format!("s-{i:03}"), i));
        let creations = objects.map(|object| self.create(object));
        stream::iter(creations)
            .buffer_unordered(16)
            .collect::<Vec<_>>()
            .await;
    }

    /// Returns an object. Its index selects scope, key, labels, type and template.
    fn object(&self, name: &str, i: usize) -> SealedSecret {
        let mut secret = Secret::default();
        secret.metadata.namespace = Some(self.namespace.name().into());
        secret.metadata.name = Some(name.into());
        Scope::ALL[i % 3].annotate(secret.metadata.annotations.get_or_insert_default());
        if i.is_multiple_of(5) {
            secret.metadata.labels = Some([("team".to_owned(), "red".to_owned())].into());
            secret.type_ = Some("example.com/own".into());
        }
        let value = Plain::from(format!("value of {name}"));
        secret.data.insert("a".into(), value);
        let public = KEYS[i / 3 % 3].pair.certificate().public_key();
        let mut sealed = seal(&secret, public, &mut shared::random::system()).unwrap();
        if i.is_multiple_of(7) {
            let text = Some("<{{ .a | upper }}>".to_owned());
            sealed.spec.template.data = Some([("t".to_owned(), text)].into());
        }
        sealed
    }

    async fn create(&self, object: SealedSecret) {
        let api: Api<SealedSecret> = self.namespace.api();
        api.create(&PostParams::default(), &object).await.unwrap();
    }

    async fn sealed_secret(&self, name: &str) -> SealedSecret {
        self.namespace.api().get(name).await.unwrap()
    }

    async fn list(&self) -> Vec<SealedSecret> {
        let params = ListParams::default();
        self.namespace
            .api::<SealedSecret>()
            .list(&params)
            .await
            .unwrap()
            .items
    }

    async fn wait_until_all_synced(&self, count: usize, log: String) {
        until(&format!("all objects are synced\n{log}"), async || {
            let is_synced = |object: &SealedSecret| has_true_condition(object, 0, "Synced");
            let list = self.list().await;
            (list.len() == count && list.iter().all(is_synced)).then_some(())
        })
        .await;
    }

    /// Waits until this project's controller reports all objects as ready.
    async fn wait_until_all_ready(&self, log: String) {
        until(&format!("all objects are ready\n{log}"), async || {
            let is_ready = |object: &SealedSecret| {
                let status = object.status.as_ref();
                let observed_generation = status.and_then(|status| status.observed_generation);
                has_true_condition(object, 0, "Synced")
                    && has_true_condition(object, 1, "Ready")
                    && observed_generation == object.metadata.generation
            };
            self.list().await.iter().all(is_ready).then_some(())
        })
        .await;
    }

    /// Creates an object, and waits until it has a Secret and is synced. By then the controller has also processed the
    /// older objects.
    async fn wait_for_new_secret(&self, name: &str, pod: &Pod) {
        self.create(self.object(name, 7)).await;
        self.wait_for_value(name, &format!("value of {name}"), pod)
            .await;
        until("the object is synced", async || {
            has_true_condition(&self.sealed_secret(name).await, 0, "Synced").then_some(())
        })
        .await;
    }

    /// Changes an object, and waits until its Secret is changed.
    async fn change_and_wait(&self, name: &str, pod: &Pod) {
        let generation = self.sealed_secret(name).await.metadata.generation.unwrap();
        let mut secret = Secret::default();
        secret.metadata.namespace = Some(self.namespace.name().into());
        secret.metadata.name = Some(name.into());
        let annotations = self.sealed_secret(name).await.metadata.annotations;
        secret.metadata.annotations.clone_from(&annotations);
        let value = format!("value of {name}, {generation}");
        secret.data.insert("a".into(), Plain::from(value.clone()));
        let public = KEYS[2].pair.certificate().public_key();
        let sealed = seal(&secret, public, &mut shared::random::system()).unwrap();
        let patch = json!({ "spec": { "encryptedData": sealed.spec.encrypted_data } });
        let api: Api<SealedSecret> = self.namespace.api();
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
        self.wait_for_value(name, &value, pod).await;
    }

    /// Replaces a value with one that cannot be unsealed, and waits until the status reports the failure.
    async fn break_and_wait(&self, name: &str) {
        let patch = json!({ "spec": { "encryptedData": { "a": "AAAA" } } });
        let api: Api<SealedSecret> = self.namespace.api();
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
        until(&format!("{name} failed"), async || {
            let object = self.sealed_secret(name).await;
            let status = object.status?;
            let is_failed =
                |condition: &Condition| condition.type_ == "Synced" && condition.status == "False";
            let is_current = status.observed_generation == object.metadata.generation;
            (is_current && status.conditions.iter().any(is_failed)).then_some(())
        })
        .await;
    }

    async fn verdict(&self, name: &str) -> Verdict {
        judge(&json!(self.sealed_secret(name).await))
    }

    /// Runs `seal uninstall`. Returns the exit code and all output.
    fn uninstall(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(binaries::seal())
            .env("KUBECONFIG", self.plane.kubeconfig())
            .args(["uninstall", "--controller-namespace", self.namespace.name()])
            .args(args)
            .output()
            .unwrap();
        let message = [&output.stdout[..], &output.stderr].concat();
        (output.status.code(), String::from_utf8(message).unwrap())
    }

    /// Asserts whether `kubectl wait` finds the condition within a second.
    fn assert_kubectl_wait(&self, name: &str, condition: &str, want: bool) {
        let status = Command::new(operators::kubectl())
            .env("KUBECONFIG", self.plane.kubeconfig())
            .args(["wait", "-n", self.namespace.name(), "--timeout=1s"])
            .arg(format!("--for=condition={condition}"))
            .arg(format!("sealedsecret/{name}"))
            .status()
            .unwrap();
        assert_eq!(status.success(), want, "{name}: {condition}");
    }

    async fn delete_and_wait(&self, name: &str, pod: &Pod) {
        let api: Api<SealedSecret> = self.namespace.api();
        api.delete(name, &DeleteParams::default()).await.unwrap();
        until(&format!("{name} is deleted\n{}", pod.log()), async || {
            let secret = self.namespace.api::<ApiSecret>().get_opt(name).await;
            secret.unwrap().is_none().then_some(())
        })
        .await;
    }

    async fn wait_for_value(&self, name: &str, value: &str, pod: &Pod) {
        until(
            &format!("{name} has the value {value}\n{}", pod.log()),
            async || {
                let secret = self.namespace.api::<ApiSecret>().get_opt(name).await;
                let data = secret.unwrap()?.data?;
                (data.get("a")?.0 == value.as_bytes()).then_some(())
            },
        )
        .await;
    }

    /// Returns the versions of Secrets that were created from SealedSecrets.
    async fn secrets(&self) -> Versions {
        let params = ListParams::default();
        let secrets = self.namespace.api::<ApiSecret>().list(&params).await;
        let secrets_before = secrets
            .unwrap()
            .into_iter()
            .filter(|secret| !secret.name_any().starts_with("sealed-secrets-key"));
        versions(secrets_before)
    }

    /// Returns the versions of the Secrets that existed before the swap, except those that this test changes.
    async fn remaining_secrets(&self, secrets_before: &Versions) -> Versions {
        let mut current = self.secrets().await;
        current.retain(|name, _| secrets_before.contains_key(name));
        without_changed_objects(&current)
    }

    async fn statuses(&self) -> Versions {
        versions(self.list().await.into_iter())
    }

    async fn remaining_statuses(&self, before: &Versions) -> Versions {
        let mut current = self.statuses().await;
        current.retain(|name, _| before.contains_key(name));
        current
    }
}

/// Returns the versions without the objects that this test changes.
fn without_changed_objects(secrets_before: &Versions) -> Versions {
    let mut remaining = secrets_before.clone();
    remaining.retain(|name, _| !["s-001", "s-002"].contains(&name.as_str()));
    remaining
}

fn versions<K: kube::Resource>(objects: impl Iterator<Item = K>) -> Versions {
    objects
        .map(|object| (object.name_any(), object.resource_version().unwrap()))
        .collect()
}

/// Returns whether the condition at this position has this type and is true.
fn has_true_condition(object: &SealedSecret, position: usize, type_: &str) -> bool {
    let status = object.status.as_ref();
    let condition = status.and_then(|status| status.conditions.get(position));
    condition.is_some_and(|condition| condition.type_ == type_ && condition.status == "True")
}
