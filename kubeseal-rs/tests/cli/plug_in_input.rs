//! Tests the input of a credential plug-in that the kubeconfig names.
#![cfg(unix)]

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Attack: a plug-in that the kubeconfig names reads the value to seal from stdin.
#[test]
fn a_plug_in_reads_no_value_from_stdin() {
    for mode in [
        "",
        "interactiveMode: IfAvailable",
        "interactiveMode: Always",
        "interactiveMode: Never",
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let stolen_file = directory.path().join("stolen");
        let kubeconfig = directory.path().join("config");
        let version = if mode.is_empty() { "v1beta1" } else { "v1" };
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:1'}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u, namespace: n}}}}]\n\
             users:\n- name: u\n  user:\n    exec:\n      apiVersion: client.authentication.k8s.io/{version}\n      \
             command: /bin/sh\n      args: [-c, 'cat > {}; exit 1']\n      {mode}\n",
            stolen_file.display()
        );
        fs::write(&kubeconfig, text).expect("the test directory is writable");
        for args in [
            &["--kubeconfig", "config", "-n", "n"][..],
            &[
                "--kubeconfig",
                "config",
                "--raw",
                "--from-file=/dev/stdin",
                "--name",
                "a",
                "-n",
                "n",
            ],
        ] {
            let mut run = Command::new(env!("CARGO_BIN_EXE_kubeseal"))
                .args(args)
                .current_dir(directory.path())
                .env("HOME", directory.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("the command starts");
            let secret =
                b"apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {p: hunter2}\n";
            // The program may have ended already.
            let _ = run.stdin.take().expect("piped").write_all(secret);
            let output = run.wait_with_output().expect("the child ends");
            assert!(
                !output.status.success(),
                "{mode} {args:?}: the cluster does not respond"
            );
            let stolen = fs::read_to_string(&stolen_file).unwrap_or_default();
            assert_eq!(stolen, "", "{mode} {args:?}");
        }
    }
}
