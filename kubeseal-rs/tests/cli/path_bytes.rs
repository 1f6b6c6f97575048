//! Tests paths that are not UTF-8 in arguments that name a file or a directory.
#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const KUBESEAL: &str = env!("CARGO_BIN_EXE_kubeseal");
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/fixtures");

const PLAIN_SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n";
const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
    contexts: [{name: c, context: {cluster: c, user: u, namespace: shop}}]\n\
    clusters: [{name: c, cluster: {server: 'https://127.0.0.1:9'}}]\nusers: [{name: u, user: {}}]\n";

/// Converts an argument: `%` becomes the byte 0xff.
fn argument(text: &str) -> OsString {
    let bytes = text
        .bytes()
        .map(|byte| if byte == b'%' { 0xff } else { byte });
    OsString::from_vec(bytes.collect())
}

fn run(directory: &Path, program: &str, args: &str) -> Output {
    Command::new(program)
        .args(args.split(' ').map(argument))
        .current_dir(directory)
        .env_clear()
        .env("HOME", directory)
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()
        .expect("the command starts")
}

fn git(directory: &Path, args: &[&str]) {
    let status = Command::new("git")
        .args([
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(args)
        .current_dir(directory)
        .env("HOME", directory)
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("git starts").success(), "{args:?}");
}

/// Creates a directory with a file for each kind of argument. No path is UTF-8.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &[u8]| {
        fs::write(directory.path().join(argument(name)), text).expect("the file");
    };
    let fixture = |name: &str| fs::read(Path::new(FIXTURES).join(name)).expect("a fixture");
    write("%.crt", &fixture("cert.pem"));
    write("%.key", &fixture("key.pem"));
    write("%.txt", b"value");
    write("%.env", b"A=b\n");
    write("%.yaml", PLAIN_SECRET.as_bytes());
    write("%.kubeconfig", KUBECONFIG.as_bytes());
    write("%.rules", b"rules: []\n");
    fs::create_dir(directory.path().join(argument("%"))).expect("a directory");
    write("%/db.yaml", b"");
    for name in ["%.sealed", "%/sealed.yaml"] {
        let output = run(
            directory.path(),
            KUBESEAL,
            &format!("--cert %.crt -f %.yaml -w {name} -o yaml"),
        );
        assert!(output.status.success(), "{output:?}");
    }
    directory
}

#[test]
fn arguments_accept_paths_that_are_not_utf_8() {
    let commands = [
        (KUBESEAL, "--cert %.crt --secret-file %.yaml"),
        (KUBESEAL, "--cert=%.crt -f%.yaml --sealed-secret-file %.new"),
        (KUBESEAL, "--cert %.crt -f %.yaml --merge-into %.sealed"),
        (
            KUBESEAL,
            "--cert %.crt --raw --name db -n shop --from-file a=%.txt",
        ),
        (
            KUBESEAL,
            "--cert %.crt --raw --name db -n shop --from-file %.txt",
        ),
        (
            KUBESEAL,
            "--cert %.crt --raw --name db --kubeconfig %.kubeconfig --from-file %.txt",
        ),
        (
            KUBESEAL,
            "-f %.sealed --recovery-unseal --recovery-private-key %.key",
        ),
        (
            KUBESEAL,
            "-f %.sealed --recovery-unseal --recovery-private-key %.key,%.key",
        ),
        (SEAL, "--cert %.crt -i %.yaml"),
        (SEAL, "create db -n shop --cert %.crt --from-file a=%.txt"),
        (
            SEAL,
            "create db -n shop --cert %.crt --from-env-file %.env --write %.new",
        ),
        (
            SEAL,
            "create db -n shop --cert %.crt --config %.rules --for %.x --from-file a=%.txt",
        ),
        (SEAL, "set %.sealed a --from-file %.txt --cert %.crt"),
        (SEAL, "unset %.sealed a"),
        (
            SEAL,
            "generate db a=password --write %.new -n shop --cert %.crt",
        ),
        (SEAL, "import dotenv db %.env -n shop --cert %.crt"),
        (SEAL, "import secret %.yaml --cert %.crt"),
        (SEAL, "import list %.yaml --into %.d --cert %.crt"),
        (SEAL, "rotate %.sealed --key %.key --cert %.crt"),
        (SEAL, "view %.sealed"),
        (SEAL, "view % --reveal --key %.key"),
        (SEAL, "lint % --keys %.key --cert %.crt"),
        (SEAL, "cert show %.crt"),
        (SEAL, "cert verify %.crt --against %.crt"),
        (SEAL, "cert fetch %.crt --out %.new"),
        (SEAL, "config explain %.yaml"),
        (SEAL, "exec --all --backup %.key %.sealed -- /bin/true"),
        (SEAL, "diff HEAD %.sealed"),
        (SEAL, "diff -- %.sealed"),
        (SEAL, "diff %"),
    ];
    let mut failures = Vec::new();
    for (program, args) in commands {
        let directory = directory();
        if args.starts_with("diff") {
            git(directory.path(), &["init", "-q"]);
            git(directory.path(), &["add", "-A"]);
            git(directory.path(), &["commit", "-q", "-m", "x"]);
        }
        let output = run(directory.path(), program, args);
        if !output.status.success() {
            failures.push(format!(
                "{args}: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Attack: a committer chooses the name of a plain file so that its sealed file replaces another file.
#[test]
fn a_sealed_file_keeps_the_bytes_of_its_name() {
    let directory = directory();
    let other_file = directory.path().join("\u{fffd}.sealed.yaml");
    let output = run(directory.path(), SEAL, "--cert %.crt %.yaml");
    assert!(output.status.success(), "{output:?}");
    assert!(directory.path().join(argument("%.sealed.yaml")).exists() && !other_file.exists());
}

/// The command reads its files before it connects, so the error about a refused connection shows that it has read them.
#[test]
fn cluster_flags_accept_a_path_that_is_not_utf_8() {
    for flags in [
        "--certificate-authority %.crt",
        "--client-certificate %.crt --client-key %.key",
    ] {
        let directory = directory();
        let args = format!("--kubeconfig %.kubeconfig {flags} -f %.yaml");
        let output = run(directory.path(), KUBESEAL, &args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.contains("cannot reach the API server"),
            "{args}: {stderr}"
        );
    }
}

#[test]
fn messages_show_the_bytes_of_a_path_escaped() {
    for (program, args, want) in [
        (KUBESEAL, "--cert no%.crt -f %.yaml", r"no\xff.crt"),
        (KUBESEAL, "--cert %.crt -f no%.yaml", r"no\xff.yaml"),
        (
            KUBESEAL,
            "--cert %.crt --raw --name db -n shop --from-file no%",
            r"no\xff",
        ),
        (SEAL, "cert show no%.crt", r"no\xff.crt"),
        (SEAL, "view no%.yaml", r"no\xff.yaml"),
        (
            SEAL,
            "create db -n shop --cert %.crt --from-file a=no%",
            r"no\xff",
        ),
        (
            SEAL,
            "create db -n shop --cert %.crt --from-file %=%.txt",
            r"\xff is not valid UTF-8",
        ),
        (SEAL, "import sops db no%.yaml --cert %.crt", r"no\xff.yaml"),
    ] {
        let directory = directory();
        let output = run(directory.path(), program, args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && stderr.contains(want),
            "{args}: {stderr}"
        );
    }
}

#[test]
fn variables_of_kubeseal_accept_a_path_that_is_not_utf_8() {
    let directory = directory();
    let output = Command::new(KUBESEAL)
        .args([OsStr::new("-f"), OsStr::from_bytes(b"\xff.yaml")])
        .current_dir(directory.path())
        .env_clear()
        .env("HOME", directory.path())
        .env("SEALED_SECRETS_CERT", OsStr::from_bytes(b"\xff.crt"))
        .output()
        .expect("the command starts");
    assert!(output.status.success(), "{output:?}");
}
