//! Tests a backup that an attacker created: anyone who knows a recipient can create an archive that the recipient's
//! identity decrypts.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::Secret as ApiSecret;
use serde_json::{Value, json};
use shared::key::{Fingerprint, NewKey};
use shared::manifest;
use shared::resource::{KEY_LABEL, OPENING_ONLY_ANNOTATION};
use tests::cluster_controller::ClusterController;
use tests::control_plane::ControlPlane;
use tests::roles::{self, Reach};
use tests::scratch::Scratch;
use tests::sealing::KEYS;
use tests::{age, binaries};

use super::site::{SERVICE, Site, output_text, seal_in};

/// An annotation that asks a replicator to copy the Secret into every namespace.
const REPLICATED: &str = "reflector.v1.k8s.emberstack.com/reflection-auto-enabled";

/// Returns the Secret of the attacker's key: newer than all other keys, marked as backed up, and with metadata for
/// other programs.
fn planted_key() -> Value {
    let key = &KEYS[2];
    let entry = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let backed_up = format!("{} 2026-01-01T00:00:00Z", key.pair.fingerprint());
    let mut annotations = entry(REPLICATED, "true");
    annotations.extend(entry("sealedsecrets.bitnami.com/backed-up", &backed_up));
    let labels = entry("argocd.argoproj.io/instance", "app");
    let secret = shared::key_secret::build("planted", "elsewhere", key, labels, annotations);
    let mut document = secret.to_document();
    document["metadata"]["finalizers"] = json!(["foreign/finalizer"]);
    document["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x" }]);
    document["immutable"] = json!(true);
    document
}

/// Writes the backup in every format. Returns the file names.
fn write_backups(scratch: &Path, recipient: &str) -> Vec<String> {
    let yaml = manifest::to_yaml(&planted_key());
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [planted_key()] });
    let write = |name: &str, text: &str| {
        fs::write(scratch.join(name), text).unwrap();
        name.to_owned()
    };
    let encrypt = |name: &str, armor: &[&str]| {
        let args = ["-r", recipient, "-o", name];
        let mut child = Command::new(age::age_program())
            .args(args)
            .args(armor)
            .current_dir(scratch)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(yaml.as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success());
        name.to_owned()
    };
    vec![
        encrypt("planted.age", &[]),
        encrypt("armored.age", &["-a"]),
        write("planted.yaml", &yaml),
        write("list.yaml", &manifest::to_yaml(&list)),
        write("list.json", &list.to_string()),
    ]
}

fn create_identity(scratch: &Scratch) -> String {
    let output = Command::new(age::age_keygen()).output().unwrap();
    fs::write(scratch.path().join("identity.txt"), &output.stdout).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let recipient = text
        .lines()
        .find_map(|line| line.strip_prefix("# public key: "));
    recipient.unwrap().to_owned()
}

fn own_manifest(key: &NewKey) -> String {
    let empty = BTreeMap::default();
    let secret = shared::key_secret::build("own", "kube-system", key, empty.clone(), empty);
    manifest::to_yaml(&secret.to_document())
}

fn run_successfully(directory: &Path, args: &[&str]) -> String {
    let mut command = Command::new(binaries::seal());
    let output = command.args(args).current_dir(directory).output().unwrap();
    assert!(
        output.status.success(),
        "{args:?}: {}",
        output_text(&output)
    );
    output_text(&output)
}

/// Returns the state of each key, by name.
fn states(list: &str) -> BTreeMap<String, String> {
    let list: Value = serde_json::from_str(list).unwrap();
    let keys = list["keys"].as_array().unwrap().iter();
    let text = |key: &Value, field: &str| key[field].as_str().unwrap().to_owned();
    keys.map(|key| (text(key, "name"), text(key, "state")))
        .collect()
}

/// Attack: an attacker plants a key with a later start of validity in a backup of any format, so that it becomes the
/// sealing key in a directory.
#[test]
fn a_key_restored_into_a_directory_is_opening_only() {
    let scratch = Scratch::new();
    let recipient = create_identity(&scratch);
    for (i, file) in write_backups(scratch.path(), &recipient).iter().enumerate() {
        for (case, has_own) in [("own", true), ("empty", false)] {
            let directory = format!("{case}-{i}");
            let keys = scratch.path().join(&directory).join("keys");
            fs::create_dir_all(&keys).unwrap();
            if has_own {
                fs::write(keys.join("own.yaml"), own_manifest(&KEYS[0])).unwrap();
            }
            let args = [
                "keys",
                "restore",
                file,
                "-i",
                "identity.txt",
                "--directory",
                &directory,
            ];
            let dry_run = run_successfully(scratch.path(), &[&args[..], &["--dry-run"]].concat());
            let report = run_successfully(scratch.path(), &args);
            let fingerprint = KEYS[2].pair.fingerprint();
            assert!(
                dry_run.contains(&format!(
                    "planted {fingerprint}: would be restored, as opening-only"
                )),
                "{file}: {dry_run}"
            );
            assert!(
                report.contains(&format!("planted {fingerprint}: restored, as opening-only")),
                "{file}: {report}"
            );
            assert!(report.contains(REPLICATED), "{file}: {report}");
            let list = run_successfully(
                scratch.path(),
                &["keys", "list", "--directory", &directory, "-o", "json"],
            );
            let states = states(&list);
            assert_eq!(states["planted"], "opening", "{file}");
            assert_eq!(
                states.get("own").map(String::as_str),
                has_own.then_some("sealing"),
                "{file}"
            );
            let manifest = fs::read_to_string(keys.join("planted.yaml")).unwrap();
            for text in [
                "reflector",
                "argocd",
                "finalizer",
                "ConfigMap",
                "immutable",
                "elsewhere",
            ] {
                assert!(!manifest.contains(text), "{file}: {text}");
            }
        }
    }
}

/// Attack: an attacker plants a key with a later start of validity in a backup of any format, so that it becomes the
/// sealing key in a cluster with a running controller.
#[tokio::test]
async fn a_key_restored_into_a_cluster_unseals_and_does_not_seal() {
    let site = Site::new(
        "planted",
        &KEYS[..1],
        &["--key-renew-period=0", "--require-backup"],
    )
    .await;
    let own_key = KEYS[0].pair.fingerprint().clone();
    let recipient = site.create_identity();
    site.run_successfully(&["keys", "backup", "own.age", "-r", &recipient]);
    site.wait_until_served(&own_key).await;
    site.create(&site.sealed_secret(&KEYS[2], "db")).await;
    for file in write_backups(site.scratch.path(), &recipient) {
        let args = [
            "keys",
            "restore",
            file.as_str(),
            "-i",
            "identity.txt",
            "-o",
            "json",
        ];
        let report: Value = serde_json::from_str(&site.run_successfully(&args)).unwrap();
        assert_eq!(
            report["sealing"]["fingerprint"],
            own_key.to_string(),
            "{file}"
        );
        assert_eq!(report["keys"][0]["state"], "opening", "{file}");
        site.wait_for_value("db").await;
        assert_eq!(site.served_key().await, Ok(own_key.clone()), "{file}");
        assert_eq!(
            states(&site.run_successfully(&["keys", "list", "-o", "json"]))["planted"],
            "opening"
        );
        let secret: ApiSecret = site.secrets().get("planted").await.unwrap();
        assert_only_own_metadata(&secret);
        let delete = kube::api::DeleteParams::default();
        site.secrets().delete("planted", &delete).await.unwrap();
        site.secrets().delete("db", &delete).await.unwrap();
        tests::patience::until("the controller removed the key", async || {
            let removed_count = site.controller.log().matches("private key removed").count();
            let registered_count = site
                .controller
                .log()
                .matches("registered private key")
                .count();
            (registered_count - removed_count == 1).then_some(())
        })
        .await;
    }
    // Neither the annotation `backed-up` nor a restart makes the planted key the sealing key.
    site.run_successfully(&["keys", "restore", "planted.age", "-i", "identity.txt"]);
    let site = site.restart(&["--key-renew-period=0"]).await;
    assert_eq!(site.served_key().await, Ok(own_key));
}

fn assert_only_own_metadata(secret: &ApiSecret) {
    let metadata = &secret.metadata;
    let annotations = metadata.annotations.clone().unwrap_or_default();
    let mut names: Vec<&String> = annotations.keys().collect();
    names.retain(|name| !name.starts_with("sealedsecrets.bitnami.com/"));
    assert!(names.is_empty(), "{names:?}");
    assert!(annotations.contains_key(OPENING_ONLY_ANNOTATION));
    let labels = metadata.labels.clone().unwrap_or_default();
    assert_eq!(
        labels,
        BTreeMap::from([(KEY_LABEL.to_owned(), "active".to_owned())])
    );
    assert_eq!(
        (&metadata.finalizers, &metadata.owner_references),
        (&None, &None)
    );
    assert_eq!(
        (secret.immutable, secret.type_.as_deref()),
        (None, Some("kubernetes.io/tls"))
    );
}

/// Attack: an attacker plants a key that is restored before the first controller starts, so that the controller does
/// not generate its own.
#[tokio::test]
async fn a_controller_with_only_restored_keys_generates_a_sealing_key_unless_one_was_chosen() {
    let plane = ControlPlane::shared().await;
    for (is_chosen, purpose) in [(false, "restored-alone"), (true, "restored-chosen")] {
        let namespace = plane.namespace(purpose).await;
        roles::grant(&namespace, Reach::Namespace).await;
        roles::grant_leases(&namespace).await;
        let scratch = Scratch::new();
        fs::write(
            scratch.path().join("planted.yaml"),
            manifest::to_yaml(&planted_key()),
        )
        .unwrap();
        let planted = KEYS[2].pair.fingerprint().to_string();
        let mut args = vec!["keys", "restore", "planted.yaml"];
        if is_chosen {
            args.extend(["--seal-with", &planted]);
        }
        let output = seal_in(plane, &namespace, &scratch, &args);
        assert!(output.status.success(), "{}", output_text(&output));
        let controller =
            ClusterController::start(plane, &namespace, &["--key-renew-period=0"]).await;
        namespace.route(SERVICE, controller.port().unwrap()).await;
        let site = Site {
            plane,
            namespace,
            controller,
            scratch,
        };
        let fingerprint: Fingerprint =
            tests::patience::until("the controller serves a certificate", async || {
                site.served_key().await.ok()
            })
            .await;
        assert_eq!(
            fingerprint.to_string() == planted,
            is_chosen,
            "{fingerprint}"
        );
        assert_eq!(site.key_names().await.len(), if is_chosen { 1 } else { 2 });
        site.create(&site.sealed_secret(&KEYS[2], "db")).await;
        site.wait_for_value("db").await;
    }
}
