//! Tests `seal rotate` on a tree whose values are sealed for two old keys: a second run completes one that was killed,
//! and batches of files are sent to a controller.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
use shared::key::{KeySize, KeySpec, NewKey};
use shared::key_ring::KeyRing;
use shared::key_secret::{self, OrderPriority};
use shared::manifest::{self, Reading};
use shared::scope::Scope;
use shared::secret::Secret;
use shared::{sealed_file, unseal};
use tests::control_plane::ControlPlane;
use tests::directory_controller::DirectoryController;
use tests::patience::until;
use tests::scratch::Scratch;
use tests::{binaries, sealing};

/// Number of files: enough that the process can be killed during the run. The benchmark uses a thousand.
const FILES: usize = 100;
const ITEMS: [(&str, &str); 5] = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")];

static KEYS: LazyLock<[NewKey; 3]> = LazyLock::new(|| {
    [1, 2, 3].map(|time| {
        let spec = KeySpec {
            size: KeySize::Rsa4096,
            ttl: jiff::SignedDuration::from_hours(24 * 365 * 200),
            common_name: String::new(),
        };
        spec.generate(
            jiff::Timestamp::from_second(time).unwrap(),
            &mut shared::random::system(),
        )
        .unwrap()
    })
});

fn key_manifest(key: &NewKey, name: &str) -> String {
    let none = std::collections::BTreeMap::new;
    let secret = key_secret::build(name, "kube-system", key, none(), none());
    manifest::to_yaml(&secret.to_document())
}

/// Returns a key ring with only this key.
fn key_ring(key: &NewKey) -> KeyRing {
    let text = key_manifest(key, "k");
    let documents = manifest::read(text.as_bytes()).unwrap();
    let secret = Secret::from_node(&documents[0].root, &mut Reading::default()).unwrap();
    let key = key_secret::parse(&secret, OrderPriority::SecretCreationTimestamp).unwrap();
    KeyRing::new([key.into()])
}

fn write_tree(tree: &Path, count: usize) -> Vec<PathBuf> {
    fs::create_dir_all(tree).unwrap();
    let file = |index: usize| {
        let key = &KEYS[index % 2];
        let sealed = sealing::sealed_for(key, "ns", &format!("n{index}"), &ITEMS, Scope::Strict);
        let path = tree.join(format!("{index:03}.yaml"));
        let text = manifest::to_yaml(&sealed.to_document());
        fs::write(&path, format!("# by hand\n{text}# end\n")).unwrap();
        path
    };
    (0..count).map(file).collect()
}

/// Returns whether this key ring decrypts all values in the file to [`ITEMS`].
fn is_decryptable(path: &Path, ring: &KeyRing) -> bool {
    let bytes = fs::read(path).unwrap();
    assert!(
        bytes.starts_with(b"# by hand\n") && bytes.ends_with(b"# end\n"),
        "a partial file"
    );
    let documents = manifest::read(&bytes).unwrap();
    let sealed_files = sealed_file::find(&documents).unwrap();
    let unsealed_values = unseal::unseal_values(&sealed_files[0].sealed, ring);
    unsealed_values.is_ok_and(|values| {
        let values = values
            .iter()
            .map(|(key, value)| (key.as_str(), value.expose()));
        values.eq(ITEMS.iter().map(|(key, value)| (*key, value.as_bytes())))
    })
}

#[tokio::test]
async fn a_run_after_a_kill_completes_and_a_third_run_changes_nothing() {
    let directory = Scratch::new();
    let files = write_tree(&directory.path().join("tree"), FILES);
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let backup: Vec<String> = KEYS
        .iter()
        .enumerate()
        .map(|(i, key)| key_manifest(key, &format!("k{i}")))
        .collect();
    write("keys.yaml", &backup.join("---\n"));
    write("cert.pem", &KEYS[2].pair.certificate().to_pem());
    let rotate = || {
        let mut command = Command::new(binaries::seal());
        command.args([
            "rotate",
            "--key",
            "keys.yaml",
            "--cert",
            "cert.pem",
            "-o",
            "json",
            "tree",
        ]);
        command
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    let before: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    let changed_count = || {
        files
            .iter()
            .zip(&before)
            .filter(|(path, old)| fs::read(path).unwrap() != **old)
            .count()
    };

    let mut child = rotate().spawn().unwrap();
    until("some files are re-encrypted", async || {
        (changed_count() >= 3).then_some(())
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
    let rotated_count = changed_count();
    assert!(
        (3..FILES).contains(&rotated_count),
        "{rotated_count} of {FILES} before the kill"
    );
    let rings = [key_ring(&KEYS[0]), key_ring(&KEYS[1]), key_ring(&KEYS[2])];
    for (index, path) in files.iter().enumerate() {
        assert!(
            is_decryptable(path, &rings[index % 2]) || is_decryptable(path, &rings[2]),
            "{}",
            path.display()
        );
    }

    let second = rotate().output().unwrap();
    let message = String::from_utf8_lossy(&second.stderr);
    assert!(second.status.success(), "{message}");
    let summary: Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!(
        summary["rotated"],
        (FILES - rotated_count) * ITEMS.len(),
        "only the remaining items: {summary:#}"
    );
    assert_eq!(summary["current"], rotated_count * ITEMS.len());
    assert!(files.iter().all(|path| is_decryptable(path, &rings[2])));
    let file_count = fs::read_dir(directory.path().join("tree")).unwrap().count();
    assert_eq!(file_count, FILES, "no temporary file is left");

    let before: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    let third = rotate().output().unwrap();
    let summary: Value = serde_json::from_slice(&third.stdout).unwrap();
    assert_eq!(summary["rotated"], 0);
    assert!(
        files
            .iter()
            .zip(&before)
            .all(|(path, old)| fs::read(path).unwrap() == *old)
    );
}

#[tokio::test]
async fn sends_batches_to_the_controller_and_continues_after_a_bad_object() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("seal-rotate").await;
    let controller = DirectoryController::start();
    namespace.route("sealed-secrets", controller.port()).await;
    for (i, key) in KEYS[..2].iter().enumerate() {
        let path = controller.directory().join(format!("keys/old{i}.yaml"));
        fs::write(path, key_manifest(key, &format!("old{i}"))).unwrap();
    }
    let directory = Scratch::new();
    let tree = directory.path().join("tree");
    let files = write_tree(&tree, 6);
    let bad = fs::read_to_string(&files[3])
        .unwrap()
        .replace("name: n3", "name: moved");
    fs::write(&files[3], &bad).unwrap();
    let rotate = || {
        let mut command = Command::new(binaries::seal());
        command
            .env("KUBECONFIG", plane.kubeconfig())
            .args([
                "rotate",
                "--controller-name",
                "sealed-secrets",
                "-o",
                "json",
            ])
            .args(["--controller-namespace", namespace.name()])
            .arg(&tree)
            .output()
            .unwrap()
    };
    // The controller reads its directory periodically.
    let first = until("the controller has the old keys", async || {
        let output = rotate();
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (summary["failed"] == 1).then_some(output)
    })
    .await;
    let message = String::from_utf8_lossy(&first.stderr);
    assert!(
        message.contains("003.yaml:2: ns/moved: failed: the controller cannot unseal the object"),
        "{message}"
    );
    assert_eq!(fs::read_to_string(&files[3]).unwrap(), bad);
    for (index, path) in files.iter().enumerate().filter(|(index, _)| *index != 3) {
        assert!(
            !is_decryptable(path, &key_ring(&KEYS[index % 2])),
            "{}",
            path.display()
        );
    }
    let summary: Value = serde_json::from_slice(&rotate().stdout).unwrap();
    assert_eq!(
        (&summary["rotated"], &summary["current"]),
        (&0.into(), &25.into())
    );
}
