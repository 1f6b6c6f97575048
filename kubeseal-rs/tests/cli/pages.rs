//! Tests the completion scripts and the manual page of `kubeseal`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

fn kubeseal_stdout(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_kubeseal"))
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn bash_completes_flags_and_values() {
    let script = kubeseal_stdout(&["--completions", "bash"]);
    for (prefix, before, want) in [
        ("--cert-f", "kubeseal", "--cert-fingerprint"),
        ("namesp", "--scope", "namespace-wide"),
        ("y", "--format", "yaml"),
    ] {
        let query = format!(
            "{script}\nCOMP_WORDS=(kubeseal {before} {prefix}); COMP_CWORD=2\n\
             _kubeseal kubeseal {prefix} {before}; echo \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash").args(["-c", &query]).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            stdout.trim(),
            want,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn completions_and_manual_contain_every_flag() {
    for args in [
        &["--completions", "zsh"][..],
        &["--completions", "fish"],
        &["--completions", "powershell"],
        &["--man"],
    ] {
        let page = kubeseal_stdout(args);
        for flag in ["re-encrypt", "cert-fingerprint", "controller-name"] {
            let plain = page.replace('\\', "");
            assert!(plain.contains(flag), "{args:?} lacks {flag}");
        }
    }
    assert!(
        !kubeseal_stdout(&["--man"]).contains("rotate"),
        "hidden flags stay hidden"
    );
}
