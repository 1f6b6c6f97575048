//! Tests `keys.sh` and `seal-from.sh` in `deploy/scripts`: recovery of a lost cluster, and sealing of existing Secrets.

use std::fs;
use std::path::Path;
use std::process::Command;

use k8s_openapi::api::core::v1::Secret as ApiSecret;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use shared::resource::SealedSecret;
use tests::control_plane::ControlPlane;
use tests::deployed::{DeployedController, Program::Ours};
use tests::lifecycle::User;
use tests::operators::{self, objects};
use tests::patience::until;
use tests::{binaries, scratch::Scratch};

use super::helm::{Helm, chart};
use super::installs::{empty_plane, key_ids};
use super::manifests::deploy;

const NAMESPACE: &str = "kube-system";

const NAME: &str = "sealed-secrets";

#[tokio::test]
async fn a_new_cluster_unseals_every_object_of_a_lost_one_without_a_restart() {
    let scratch = Scratch::new();
    let backup = scratch.path().join("keys.json");
    let backup = backup.to_str().unwrap();

    let lost = empty_plane().await;
    let controller = install(&lost).await;
    let user = User::new(&lost, NAMESPACE, NAME).await;
    let mut sealed = Vec::new();
    for i in 0..5 {
        sealed.push(user.apply(&format!("object-{i}"), &format!("{i}")).await);
        if i == 2 {
            renew(&lost, &controller).await;
        }
    }
    assert_eq!(key_ids(&lost, NAMESPACE).await.len(), 2);
    run_script(&lost, "keys.sh", &["backup", backup, "-n", NAMESPACE]);
    run_script(&lost, "keys.sh", &["check", backup, "-n", NAMESPACE]);
    renew(&lost, &controller).await;
    let stderr = run_failing_script(&lost, "keys.sh", &["check", backup, "-n", NAMESPACE]);
    assert!(stderr.contains("not in"), "{stderr}");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(backup).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let stderr = run_failing_script(&lost, "keys.sh", &["backup", backup, "-n", "default"]);
    assert!(stderr.contains("no key found"), "{stderr}");
    let lost_namespace = user.namespace.name().to_owned();
    controller.stop();
    drop(user);
    drop(lost);

    let new = empty_plane().await;
    let controller = install(&new).await;
    let own_keys = key_ids(&new, NAMESPACE).await;
    assert_eq!(own_keys.len(), 1, "the new controller generated a key");
    let kubectl = |args: &[&str]| super::manifests::kubectl(&new, args);
    kubectl(&["create", "namespace", &lost_namespace]);
    let namespace = new.existing(&lost_namespace);
    let api: Api<SealedSecret> = namespace.api();
    for object in &sealed {
        let name = object["metadata"]["name"].as_str().unwrap();
        let apply = PatchParams::apply("user").force();
        api.patch(name, &apply, &Patch::Apply(object))
            .await
            .unwrap();
    }
    until("no object can be unsealed yet", async || {
        let objects = api.list(&ListParams::default()).await.unwrap();
        objects
            .iter()
            .all(|object| synced_status(object) == Some("False"))
            .then_some(())
    })
    .await;
    for _ in 0..2 {
        run_script(&new, "keys.sh", &["restore", backup, "-n", NAMESPACE]);
    }
    until("all objects are unsealed", async || {
        let objects = api.list(&ListParams::default()).await.unwrap();
        objects
            .iter()
            .all(|object| synced_status(object) == Some("True"))
            .then_some(())
    })
    .await;
    for (name, value) in [("object-0", "0"), ("object-4", "4")] {
        let secret = namespace.api::<ApiSecret>().get(name).await.unwrap();
        assert_eq!(
            secret.data.unwrap()["a"].0,
            value.as_bytes(),
            "{}",
            controller.log()
        );
    }
    let after = key_ids(&new, NAMESPACE).await;
    assert_eq!(after.len(), 3);
    let secrets: Api<ApiSecret> = Api::namespaced(new.admin(), NAMESPACE);
    for (name, _) in after {
        let is_own = own_keys.iter().any(|(own_name, _)| *own_name == name);
        let key = secrets.get(&name).await.unwrap();
        let is_opening_only = key
            .annotations()
            .contains_key(shared::resource::OPENING_ONLY_ANNOTATION);
        assert_eq!(
            is_opening_only, !is_own,
            "{name}: only restored keys are limited to unsealing"
        );
    }
    drop(controller);
}

#[test]
fn keys_sh_refuses_yaml_and_names_the_command_that_reads_it() {
    let scratch = Scratch::new();
    let backup = scratch.path().join("keys.yaml");
    fs::write(&backup, "apiVersion: v1\nkind: List\nitems: []\n").unwrap();
    for verb in ["restore", "check"] {
        let mut command = Command::new(deploy("scripts/keys.sh"));
        let stderr = operators::run_expecting_failure(command.arg(verb).arg(&backup));
        assert!(stderr.contains("not a List of Secrets in JSON"), "{stderr}");
        assert!(stderr.contains("seal keys restore"), "{stderr}");
    }
}

#[tokio::test]
async fn existing_secrets_are_sealed_and_handed_over() {
    let plane = empty_plane().await;
    let controller = install(&plane).await;
    let user = User::new(&plane, NAMESPACE, NAME).await;
    let namespace = user.namespace.name().to_owned();
    for (name, immutable) in [("db", None), ("fixed", Some(true))] {
        let secret = external_secret(name, immutable);
        let _: ApiSecret = user.namespace.create_object(secret).await;
    }
    let scratch = Scratch::new();
    let directory = scratch.path().join("sealed");
    let directory = directory.to_str().unwrap();
    let controller_flags = [
        "--",
        "--controller-name",
        NAME,
        "--controller-namespace",
        NAMESPACE,
    ];
    let selection = [
        "namespace",
        &namespace,
        directory,
        "--selector",
        "reconcile.external-secrets.io/managed=true",
    ];
    run_script(
        &plane,
        "seal-from.sh",
        &[&selection[..], &controller_flags].concat(),
    );
    for (name, immutable) in [("db", None), ("fixed", Some(true))] {
        let file = format!("{directory}/{namespace}/{name}.yaml");
        let after = hand_over(&plane, &user, name, &file).await;
        assert_eq!(after.immutable, immutable, "{name}");
        user.wait_for_value(name, "1", &controller.log()).await;
    }

    // A manifest as `sops --decrypt` prints it.
    let manifest = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: web\n  namespace: {namespace}\nstringData:\n  a: '2'\n"
    );
    let input = scratch.path().join("plain.yaml");
    fs::write(&input, manifest).unwrap();
    let mut command = command(
        &plane,
        "seal-from.sh",
        &[&["stdin", directory][..], &controller_flags].concat(),
    );
    operators::run_successfully(command.stdin(fs::File::open(&input).unwrap()));
    let file = Path::new(directory).join(&namespace).join("web.yaml");
    super::manifests::kubectl(&plane, &["apply", "-f", file.to_str().unwrap()]);
    user.wait_for_value("web", "2", &controller.log()).await;
}

/// Applies a SealedSecret that was sealed from an existing Secret, and waits until it owns the Secret.
async fn hand_over(plane: &ControlPlane, user: &User<'_>, name: &str, file: &str) -> ApiSecret {
    let sealed = objects(&fs::read_to_string(file).unwrap());
    let labels = &sealed[0]["spec"]["template"]["metadata"]["labels"];
    assert_eq!(*labels, json!({ "team": "red" }));
    let secrets: Api<ApiSecret> = user.namespace.api();
    let before = secrets.get(name).await.unwrap();
    let managed =
        json!({ "metadata": { "annotations": { "sealedsecrets.bitnami.com/managed": "true" } } });
    secrets
        .patch(name, &PatchParams::default(), &Patch::Merge(managed))
        .await
        .unwrap();
    super::manifests::kubectl(plane, &["apply", "-f", file]);
    until(&format!("the controller owns {name}"), async || {
        let secret = secrets.get(name).await.unwrap();
        assert_eq!(secret.uid(), before.uid(), "the Secret is not recreated");
        (secret.owner_references()[0].kind == "SealedSecret").then_some(secret)
    })
    .await
}

/// Returns a Secret as External Secrets Operator creates it.
fn external_secret(name: &str, immutable: Option<bool>) -> serde_json::Value {
    let owner = json!([{ "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": name,
                         "uid": "00000000-0000-0000-0000-000000000000", "controller": true }]);
    let labels = json!({ "reconcile.external-secrets.io/managed": "true", "team": "red" });
    let metadata = json!({ "name": name, "labels": labels, "ownerReferences": owner });
    json!({ "metadata": metadata, "immutable": immutable, "stringData": { "a": "1" } })
}

async fn install(plane: &ControlPlane) -> DeployedController {
    let helm = Helm::for_cluster(plane.kubeconfig());
    helm.run(&["install", NAME, &chart(), "--namespace", NAMESPACE]);
    DeployedController::start(plane, NAMESPACE, NAME, Ours).await
}

/// Requests a new key, and waits for it.
async fn renew(plane: &ControlPlane, controller: &DeployedController) {
    let secrets: Api<ApiSecret> = Api::namespaced(plane.admin(), NAMESPACE);
    let before = key_ids(plane, NAMESPACE).await;
    let request =
        json!({ "metadata": { "annotations": { "sealedsecrets.bitnami.com/renew": "true" } } });
    for (name, _) in &before {
        secrets
            .patch(name, &PatchParams::default(), &Patch::Merge(&request))
            .await
            .unwrap();
    }
    until(
        &format!("a new key exists\n{}", controller.log()),
        async || (key_ids(plane, NAMESPACE).await.len() > before.len()).then_some(()),
    )
    .await;
}

fn synced_status(object: &SealedSecret) -> Option<&str> {
    let status = object.status.as_ref()?;
    Some(status.conditions.first()?.status.as_str())
}

fn run_script(plane: &ControlPlane, name: &str, args: &[&str]) -> String {
    operators::run_successfully(&mut command(plane, name, args))
}

fn run_failing_script(plane: &ControlPlane, name: &str, args: &[&str]) -> String {
    operators::run_expecting_failure(&mut command(plane, name, args))
}

/// Returns a command for a script, with the real kubectl and this project's kubeseal on the `PATH`.
fn command(plane: &ControlPlane, name: &str, args: &[&str]) -> Command {
    let directories = [operators::kubectl(), binaries::kubeseal()];
    let directories = directories
        .iter()
        .map(|program| program.parent().unwrap().to_str().unwrap());
    let path = std::env::var("PATH").unwrap();
    let path: Vec<_> = directories.chain([path.as_str()]).collect();
    let mut command = Command::new(deploy("scripts").join(name));
    command
        .env("KUBECONFIG", plane.kubeconfig())
        .env("PATH", path.join(":"))
        .args(args);
    command
}
