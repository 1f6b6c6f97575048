//! Tests messages about a URL that contains credentials.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Stdio};

const CANARY: &str = "hunter2";

/// Attack: a reader of a pipeline's log sees the password of a URL in an error message.
#[test]
fn messages_do_not_show_the_credentials_of_a_url() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        fs::write(directory.path().join(name), text).expect("the test directory is writable");
    };
    write(
        "secret.yaml",
        "kind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n",
    );
    write("token", "a.b.c");
    let (seal, kubeseal) = (env!("CARGO_BIN_EXE_seal"), env!("CARGO_BIN_EXE_kubeseal"));
    let url = |scheme: &str, host: &str| {
        format!("{scheme}://jane:{CANARY}@{host}/cert.pem?token={CANARY}#{CANARY}")
    };
    // No server listens on port 1, and 99999 is not a valid port.
    for url in [
        url("http", "127.0.0.1:1"),
        url("https", "127.0.0.1:1"),
        url("http", "127.0.0.1:99999"),
        url("ftp", "127.0.0.1"),
        url("http", "a b"),
        format!("https:/jane:{CANARY}@127.0.0.1:1/cert.pem"),
        format!("https:jane:{CANARY}@127.0.0.1:1/cert.pem"),
        format!("https;//jane:{CANARY}@127.0.0.1:1/cert.pem"),
        format!("//jane:{CANARY}@127.0.0.1:1/cert.pem"),
        format!("jane:{CANARY}@127.0.0.1:1/cert.pem"),
        format!("http://jane:hun?{CANARY}@127.0.0.1:1/cert.pem"),
        format!("http://jane:{CANARY}?hun@127.0.0.1:1/cert.pem"),
    ] {
        write(
            ".seal.yaml",
            &format!("rules: [{{path: '**', certificate: '{url}'}}]"),
        );
        for (program, args) in [
            (kubeseal, vec!["-f", "secret.yaml", "--cert", &url]),
            (kubeseal, vec!["--fetch-cert", "--cert", &url]),
            (kubeseal, vec!["--fetch-cert", "--server", &url]),
            (
                seal,
                vec![
                    "create",
                    "a",
                    "-n",
                    "b",
                    "--from-literal",
                    "a=b",
                    "--cert",
                    &url,
                ],
            ),
            (
                seal,
                vec![
                    "create",
                    "a",
                    "-n",
                    "b",
                    "--from-literal",
                    "a=b",
                    "--config",
                    ".seal.yaml",
                ],
            ),
            (
                seal,
                vec!["config", "explain", "a.yaml", "--config", ".seal.yaml"],
            ),
            (
                seal,
                vec![
                    "config",
                    "explain",
                    "a.yaml",
                    "--config",
                    ".seal.yaml",
                    "-o",
                    "json",
                ],
            ),
            (seal, vec!["cert", "show", &url]),
            (seal, vec!["lint", "secret.yaml", "--cert", &url]),
        ] {
            let mut command = Command::new(program);
            command
                .args(&args)
                .current_dir(directory.path())
                .stdin(Stdio::null());
            let output = command
                .env("KUBECONFIG", "nowhere")
                .output()
                .expect("the command starts");
            let printed = [output.stdout, output.stderr].concat();
            let printed = String::from_utf8_lossy(&printed);
            assert!(!printed.is_empty(), "{args:?}");
            assert!(!printed.contains(CANARY), "{args:?}: {printed}");
        }
    }
}
