//! Tests the compatibility of backup signatures with the real `ssh-keygen`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tests::scratch::Scratch;
use tests::sealing::KEYS;
use tests::{age, binaries, operators};

use super::site::output_text;

const NAMESPACE: &str = "sealed-secrets-backup";

/// Creates a directory with a key manifest, an age identity, its recipient, an SSH key of each type, and an allowed
/// signers file with a line for each key.
fn create_directory(key_types: &[(&str, &str)]) -> Scratch {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name);
    fs::create_dir_all(path("state/keys")).unwrap();
    let empty = BTreeMap::default();
    let secret = shared::key_secret::build("key-0", "kube-system", &KEYS[0], empty.clone(), empty);
    let text = shared::manifest::to_yaml(&secret.to_document());
    fs::write(path("state/keys/key-0.yaml"), text).unwrap();
    let output = Command::new(age::age_keygen()).output().unwrap();
    fs::write(path("identity.txt"), &output.stdout).unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let recipient = output
        .lines()
        .find_map(|line| line.strip_prefix("# public key: "));
    fs::write(path("recipients.txt"), recipient.unwrap()).unwrap();
    let mut signers = String::new();
    for (name, kind) in key_types {
        let args = ["-q", "-N", "", "-C", name, "-f", name, "-t"];
        operators::run_successfully(
            operators::ssh_keygen()
                .args(args)
                .args(kind.split(' '))
                .current_dir(scratch.path()),
        );
        let public = fs::read_to_string(path(&format!("{name}.pub"))).unwrap();
        write!(
            signers,
            "{name}@example.com namespaces=\"{NAMESPACE}\" {public}"
        )
        .unwrap();
    }
    fs::write(path("signers"), signers).unwrap();
    scratch
}

fn seal(directory: &Path, args: &[&str]) -> Output {
    Command::new(binaries::seal())
        .args(args)
        .current_dir(directory)
        .output()
        .unwrap()
}

const BACKUP_ARGS: [&str; 6] = [
    "keys",
    "backup",
    "-R",
    "recipients.txt",
    "--directory",
    "state",
];

/// Runs `seal keys restore --verify` into a new directory, and asserts that only a successful run writes to it.
fn restore(directory: &Path, archive: &str) -> Output {
    let into = format!("into-{archive}");
    fs::create_dir_all(directory.join(&into)).unwrap();
    let args = [
        "keys",
        "restore",
        archive,
        "-i",
        "identity.txt",
        "--verify",
        "signers",
        "--directory",
        &into,
    ];
    let output = seal(directory, &args);
    let is_restored = fs::read_dir(directory.join(&into)).unwrap().count() > 0;
    assert_eq!(
        is_restored,
        output.status.success(),
        "{}",
        output_text(&output)
    );
    output
}

fn is_accepted_by_ssh_keygen(directory: &Path, archive: &str, signer: &str) -> bool {
    let signature = format!("{archive}.sig");
    let args = [
        "-Y", "verify", "-n", NAMESPACE, "-f", "signers", "-I", signer, "-s", &signature,
    ];
    let mut command = operators::ssh_keygen();
    command
        .args(args)
        .current_dir(directory)
        .stdin(fs::File::open(directory.join(archive)).unwrap());
    command.output().unwrap().status.success()
}

#[test]
fn seal_and_ssh_keygen_verify_each_others_signatures() {
    let key_types = [("jane", "ed25519"), ("joe", "ecdsa -b 256")];
    let scratch = create_directory(&key_types);
    let directory = scratch.path();
    for (name, _) in key_types {
        let principal = format!("{name}@example.com");
        let signed_by_seal = format!("{name}-seal.age");
        let output = seal(
            directory,
            &[&BACKUP_ARGS[..], &[&signed_by_seal, "--sign", name]].concat(),
        );
        assert!(output.status.success(), "{}", output_text(&output));
        assert!(is_accepted_by_ssh_keygen(
            directory,
            &signed_by_seal,
            &principal
        ));
        let signed_by_ssh_keygen = format!("{name}-ssh-keygen.age");
        assert!(
            seal(
                directory,
                &[&BACKUP_ARGS[..], &[&signed_by_ssh_keygen]].concat()
            )
            .status
            .success()
        );
        let args = [
            "-Y",
            "sign",
            "-q",
            "-n",
            NAMESPACE,
            "-f",
            name,
            &signed_by_ssh_keygen,
        ];
        operators::run_successfully(operators::ssh_keygen().args(args).current_dir(directory));
        for archive in [&signed_by_seal, &signed_by_ssh_keygen] {
            let message = output_text(&restore(directory, archive));
            assert!(
                message.contains(&format!("signed by {principal} (SHA256:")),
                "{message}"
            );
        }
    }
}

/// Attack: an attacker presents an archive that no allowed signer signed for this purpose, so that the attacker's keys
/// are restored.
#[test]
fn refuses_the_backups_that_ssh_keygen_refuses() {
    let scratch = create_directory(&[("jane", "ed25519")]);
    let directory = scratch.path();
    operators::run_successfully(
        operators::ssh_keygen()
            .args(["-q", "-N", "", "-t", "ed25519", "-f", "mallory"])
            .current_dir(directory),
    );
    let sign = |archive: &str, key: &str, namespace: &str| {
        assert!(
            seal(directory, &[&BACKUP_ARGS[..], &[archive]].concat())
                .status
                .success()
        );
        let args = ["-Y", "sign", "-q", "-n", namespace, "-f", key, archive];
        operators::run_successfully(operators::ssh_keygen().args(args).current_dir(directory));
    };
    let append = |name: &str, bytes: &[u8]| {
        let mut content = fs::read(directory.join(name)).unwrap();
        content.extend_from_slice(bytes);
        fs::write(directory.join(name), content).unwrap();
    };
    sign("good.age", "jane", NAMESPACE);
    sign("unsigned.age", "jane", NAMESPACE);
    fs::remove_file(directory.join("unsigned.age.sig")).unwrap();
    sign("outsider.age", "mallory", NAMESPACE);
    sign("purpose.age", "jane", "git");
    sign("changed.age", "jane", NAMESPACE);
    append("changed.age", b"x");
    sign("another.age", "jane", NAMESPACE);
    fs::copy(
        directory.join("good.age.sig"),
        directory.join("another.age.sig"),
    )
    .unwrap();
    sign("garbage.age", "jane", NAMESPACE);
    fs::write(
        directory.join("garbage.age.sig"),
        "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n",
    )
    .unwrap();
    for (archive, want) in [
        ("good.age", None),
        ("unsigned.age", Some("no signature found")),
        ("outsider.age", Some("does not permit for backups")),
        ("purpose.age", Some("has the namespace \"git\"")),
        ("changed.age", Some("does not match the archive")),
        ("another.age", Some("does not match the archive")),
        ("garbage.age", Some("not a signature")),
    ] {
        let message = output_text(&restore(directory, archive));
        assert!(
            want.is_none_or(|want| message.contains(want)),
            "{archive}: {message}"
        );
        let is_accepted = directory.join(format!("{archive}.sig")).exists()
            && is_accepted_by_ssh_keygen(directory, archive, "jane@example.com");
        assert_eq!(is_accepted, want.is_none(), "{archive}");
    }
}

/// Attack: an attacker signs with a key whose line in the allowed signers file is restricted, expired or malformed.
///
/// For each line, `seal` agrees with `ssh-keygen` or reports an error.
#[test]
fn allows_no_signer_that_ssh_keygen_refuses() {
    let scratch = create_directory(&[("jane", "ed25519")]);
    let directory = scratch.path();
    assert!(
        seal(
            directory,
            &[&BACKUP_ARGS[..], &["one.age", "--sign", "jane"]].concat()
        )
        .status
        .success()
    );
    let key = fs::read_to_string(directory.join("jane.pub")).unwrap();
    let mut accepted_count = 0;
    for options in [
        "",
        "namespaces=\"sealed-secrets-backup\"",
        "namespaces=\"git,sealed-*\"",
        "namespaces=\"*,!sealed-secrets-*\"",
        "namespaces=\"git\"",
        "NAMESPACES=\"sealed-secrets-backu?\"",
        "cert-authority",
        "cert-authority,namespaces=\"*\"",
        "valid-after=\"20200101Z\"",
        "valid-after=\"99990101Z\"",
        "valid-before=\"20200101Z\"",
        "valid-before=\"99990101Z\"",
        "valid-after=\"20200101Z\",valid-before=\"20210101Z\"",
        "valid-after=\"20200101\"",
        "namespaces=\"git\",namespaces=\"*\"",
        "namespaces=sealed-secrets-backup",
        "no-touch-required",
        "valid-after=\"20201301Z\"",
    ] {
        fs::write(
            directory.join("signers"),
            format!("jane@example.com {options} {key}"),
        )
        .unwrap();
        let is_accepted = is_accepted_by_ssh_keygen(directory, "one.age", "jane@example.com");
        let args = [
            "keys",
            "restore",
            "one.age",
            "-i",
            "identity.txt",
            "--verify",
            "signers",
            "--dry-run",
            "--directory",
            "state",
        ];
        let output = seal(directory, &args);
        let is_accepted_by_seal = output.status.success();
        assert!(
            is_accepted || !is_accepted_by_seal,
            "{options}: {}",
            output_text(&output)
        );
        accepted_count += usize::from(is_accepted_by_seal);
    }
    assert!(accepted_count >= 6, "{accepted_count}");
}

#[test]
fn refuses_an_unsupported_signing_key_and_writes_nothing() {
    let scratch = create_directory(&[("jane", "ed25519")]);
    let directory = scratch.path();
    for (name, kind, passphrase, want) in [
        ("locked", "ed25519", "secret", "has a passphrase"),
        ("old", "rsa", "", "unsupported key type ssh-rsa"),
    ] {
        let args = ["-q", "-N", passphrase, "-t", kind, "-f", name];
        operators::run_successfully(operators::ssh_keygen().args(args).current_dir(directory));
        let output = seal(
            directory,
            &[&BACKUP_ARGS[..], &["x.age", "--sign", name]].concat(),
        );
        assert_eq!(output.status.code(), Some(2));
        assert!(
            output_text(&output).contains(want),
            "{}",
            output_text(&output)
        );
        assert!(!directory.join("x.age").exists() && !directory.join("x.age.sig").exists());
    }
}
