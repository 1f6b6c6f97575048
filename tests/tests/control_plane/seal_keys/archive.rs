//! Tests the compatibility of backup archives with `age`, the reference implementation.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use tests::scratch::Scratch;
use tests::sealing::KEYS;
use tests::{age, binaries};

/// The arguments of `age-keygen` for each kind of identity: for X25519, and post-quantum.
const KINDS: [&[&str]; 2] = [&[], &["-pq"]];

fn create_directory(kind: &[&str]) -> Scratch {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path().join("state/keys")).unwrap();
    for (i, key) in KEYS.iter().enumerate() {
        let name = format!("key-{i}");
        let secret = shared::key_secret::build(
            &name,
            "kube-system",
            key,
            BTreeMap::default(),
            BTreeMap::default(),
        );
        let text = shared::manifest::to_yaml(&secret.to_document());
        fs::write(scratch.path().join(format!("state/keys/{name}.yaml")), text).unwrap();
    }
    let output = Command::new(age::age_keygen()).args(kind).output();
    let output = output.unwrap();
    fs::write(scratch.path().join("identity.txt"), &output.stdout).unwrap();
    fs::write(scratch.path().join("passphrase.txt"), "correct horse\n").unwrap();
    scratch
}

fn read_recipient(scratch: &Scratch) -> String {
    let text = fs::read_to_string(scratch.path().join("identity.txt")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("# public key: "));
    line.unwrap().to_owned()
}

fn run(scratch: &Scratch, program: std::path::PathBuf, args: &[&str], input: &str) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .current_dir(scratch.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    output.stdout
}

/// Asserts that the decrypted data contains every private key.
fn assert_contains_all_keys(plain: &[u8]) {
    let text = String::from_utf8_lossy(plain);
    for key in KEYS.iter() {
        let pem = shared::base64::encode(key.private_pem.expose());
        assert!(text.contains(&pem), "a key is missing");
    }
}

#[test]
fn the_reference_age_decrypts_archives_of_seal() {
    for kind in KINDS {
        age_decrypts_archives_of_seal(kind);
    }
}

fn age_decrypts_archives_of_seal(kind: &[&str]) {
    let scratch = create_directory(kind);
    let recipient = read_recipient(&scratch);
    let args = [
        "keys",
        "backup",
        "keys.age",
        "-r",
        &recipient,
        "--directory",
        "state",
    ];
    run(&scratch, binaries::seal(), &args, "");
    assert_contains_all_keys(&run(
        &scratch,
        age::age_program(),
        &["-d", "-i", "identity.txt", "keys.age"],
        "",
    ));
    let args = [
        "keys",
        "backup",
        "pass.age",
        "--passphrase-file",
        "passphrase.txt",
        "--directory",
        "state",
    ];
    run(&scratch, binaries::seal(), &args, "");
    let decrypted = run(
        &scratch,
        age::open_with_passphrase(),
        &["pass.age"],
        "correct horse\n",
    );
    assert_contains_all_keys(&decrypted);
}

#[test]
fn seal_decrypts_archives_of_the_reference_age() {
    for kind in KINDS {
        seal_decrypts_archives_of_age(kind);
    }
}

fn seal_decrypts_archives_of_age(kind: &[&str]) {
    let scratch = create_directory(kind);
    let recipient = read_recipient(&scratch);
    let mut manifests = String::new();
    for i in 0..3 {
        manifests += "---\n";
        manifests +=
            &fs::read_to_string(scratch.path().join(format!("state/keys/key-{i}.yaml"))).unwrap();
    }
    for (name, armor) in [("plain.age", None), ("armored.age", Some("-a"))] {
        let mut args = vec!["-r", recipient.as_str(), "-o", name];
        args.extend(armor);
        run(&scratch, age::age_program(), &args, &manifests);
        let directory = format!("from-{name}");
        fs::create_dir(scratch.path().join(&directory)).unwrap();
        let args = [
            "keys",
            "restore",
            name,
            "-i",
            "identity.txt",
            "--directory",
            &directory,
        ];
        run(&scratch, binaries::seal(), &args, "");
        let keys = scratch.path().join(&directory).join("keys");
        assert_eq!(fs::read_dir(keys).unwrap().count(), 3);
    }
}
