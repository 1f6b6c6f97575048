//! Tests the programs with endless or huge input: files, stdin and responses.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use shared::v2::Suite;

use crate::api_server::{
    self, Body, certificate_path, endpoint_path, service_body, service_path, text_body,
};
use crate::v2::v2_secret;

/// The address space limit of the programs in KiB, which stops an unbounded read.
const MEMORY_LIMIT: &str = "1500000";
const SECRET: &str = "kind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n";

fn run(directory: &Path, program: &str, args: &[&str]) -> Output {
    let mut command = Command::new("/bin/sh");
    command
        .args([
            "-c",
            r#"ulimit -v "$1" && shift && exec "$@""#,
            "sh",
            MEMORY_LIMIT,
            program,
        ])
        .args(args)
        .current_dir(directory)
        .env("XDG_CACHE_HOME", directory.join("cache"))
        .env("KUBECONFIG", directory.join("kubeconfig"))
        .stdin(Stdio::from(
            fs::File::open("/dev/zero").expect("the file exists"),
        ));
    command.output().expect("the command starts")
}

/// Creates a directory with a certificate, a Secret, and a link to an endless device.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seal/exec.fixtures");
    fs::copy(
        fixtures.join("key-2025.pem"),
        directory.path().join("cert.pem"),
    )
    .expect("the fixture");
    fs::write(directory.path().join("secret.yaml"), SECRET).expect("the test owns the directory");
    symlink("/dev/zero", directory.path().join("endless")).expect("the test owns the directory");
    directory
}

/// Attack: a committer adds a link to `/dev/zero`, or a program pipes endless input into a command, to exhaust the
/// memory.
#[test]
fn refuses_endless_files_and_endless_stdin() {
    let (seal, kubeseal) = (env!("CARGO_BIN_EXE_seal"), env!("CARGO_BIN_EXE_kubeseal"));
    let directory = directory();
    for (program, args) in [
        (kubeseal, "--cert endless -f secret.yaml"),
        (kubeseal, "--cert file:///dev/zero -f secret.yaml"),
        (kubeseal, "--cert cert.pem -f endless"),
        (kubeseal, "--cert cert.pem"),
        (kubeseal, "--cert cert.pem --raw --name a -n b"),
        (
            kubeseal,
            "--cert cert.pem --raw --name a -n b --from-file endless",
        ),
        (
            kubeseal,
            "--cert cert.pem -f secret.yaml --merge-into endless",
        ),
        (
            kubeseal,
            "--recovery-unseal --recovery-private-key endless -f secret.yaml",
        ),
        (kubeseal, "--fetch-cert --kubeconfig endless"),
        (
            kubeseal,
            "--fetch-cert --server http://127.0.0.1:1 --certificate-authority endless",
        ),
        (
            kubeseal,
            "--fetch-cert --server http://127.0.0.1:1 --client-certificate endless --client-key endless",
        ),
        (seal, "create a -n b --cert endless --from-literal a=b"),
        (seal, "create a -n b --cert cert.pem --stdin a"),
        (seal, "create a -n b --cert cert.pem --from-file a=endless"),
        (
            seal,
            "create a -n b --cert cert.pem --from-env-file endless",
        ),
        (
            seal,
            "create a -n b --cert cert.pem --config endless --from-literal a=b",
        ),
        (seal, "lint endless"),
        (seal, "exec --all endless --directory . -- true"),
        (seal, "exec --all secret.yaml --backup endless -- true"),
        (seal, "view secret.yaml --backup endless"),
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        let output = run(directory.path(), program, &args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(1 | 2)),
            "{args:?}: {} {stderr}",
            output.status
        );
        assert!(
            !stderr.contains("panicked") && !stderr.contains("memory allocation"),
            "{args:?}: {stderr}"
        );
    }
}

/// Returns a body of 400 MiB.
fn endless_body() -> Body {
    Box::new(|to: &mut TcpStream| -> io::Result<()> {
        let mebibyte = vec![b'A'; 1 << 20];
        (0..400).try_for_each(|_| to.write_all(&mebibyte))
    })
}

/// Returns a body of 31 MiB: a JSON list with millions of small values.
fn body_of_many_values() -> Body {
    text_body(format!("[{}0]", "0,".repeat(31 << 19)))
}

const NAMESPACE: &str = "kube-system";
const NAME: &str = "sealed-secrets-controller";

/// Attack: the server behind a Service sends 400 MiB instead of a certificate, to exhaust the memory.
#[test]
fn refuses_a_certificate_of_four_hundred_mebibytes() {
    let directory = directory();
    api_server::serve(
        directory.path(),
        vec![
            (service_path(NAMESPACE, NAME), service_body()),
            (certificate_path(NAMESPACE, NAME), endless_body()),
            ("/api/v1/services".into(), text_body(r#"{"items":[]}"#)),
        ],
    );
    let output = run(
        directory.path(),
        env!("CARGO_BIN_EXE_kubeseal"),
        &["--fetch-cert"],
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("larger than 32 MiB"),
        "{}: {stderr}",
        output.status
    );
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(1), 0),
        "{stderr}"
    );
}

/// Attack: the server behind a Service sends 400 MiB, or millions of small values, instead of recipients or
/// re-encrypted objects, to exhaust the memory.
#[test]
fn refuses_recipients_and_objects_that_fill_the_memory() {
    let seal = env!("CARGO_BIN_EXE_seal");
    let certificate = certificate_path(NAMESPACE, NAME);
    let recipients = certificate.replace("/v1/cert.pem", "/v2/recipients");
    let rotate = endpoint_path(NAMESPACE, NAME, "rotate");
    let create = "create db -n shop --from-literal a=b --cert cert.pem -w db.yaml";
    let set = "create db -n shop --from-literal a=b --sealed-format v2";
    for (path, args) in [
        (&recipients, set),
        (&recipients, "keys export"),
        (&recipients, "keys list"),
        (&rotate, "rotate db.yaml"),
    ] {
        for (body, want) in [
            (endless_body as fn() -> Body, "larger than"),
            (body_of_many_values, ""),
        ] {
            let directory = directory();
            run(
                directory.path(),
                seal,
                &create.split(' ').collect::<Vec<_>>(),
            );
            let pem = fs::read_to_string(directory.path().join("cert.pem"))
                .expect("the test owns the file");
            api_server::serve(directory.path(), responses(path, &certificate, &pem, body));
            let output = run(directory.path(), seal, &args.split(' ').collect::<Vec<_>>());
            let stderr = String::from_utf8_lossy(&output.stderr);
            let want_code = if args == "keys list" { 0 } else { 2 };
            assert_eq!(output.status.code(), Some(want_code), "{args}: {stderr}");
            assert!(stderr.contains(want), "{args}: {stderr}");
            let is_bad = stderr.contains("panicked") || stderr.contains("memory allocation");
            assert!(!is_bad, "{args}: {stderr}");
        }
    }
}

/// Returns the responses of a cluster with a v2 key. `body` replaces the response at the path `replaced`.
fn responses(
    replaced: &str,
    certificate: &str,
    pem: &str,
    body: fn() -> Body,
) -> Vec<(String, Body)> {
    let key = v2_secret(Suite::XWing, "key", 1, 1).to_document();
    let secrets = serde_json::json!({"kind": "SecretList", "metadata": {}, "items": [key]});
    vec![
        (replaced.to_owned(), body()),
        (service_path(NAMESPACE, NAME), service_body()),
        (certificate.to_owned(), text_body(pem)),
        (
            "/api/v1/namespaces/kube-system/secrets".to_owned(),
            text_body(secrets.to_string()),
        ),
    ]
}
