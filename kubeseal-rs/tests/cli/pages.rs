//! Tests the completion scripts of `seal` and `kubeseal`, and the manual page of `kubeseal`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
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

/// Types the beginning of a command line and two tabs in a shell, and waits for the text that must appear.
const TYPE_IN_ZSH: &str = r#"
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1="> "; LISTMAX=1000; autoload -U compinit; compinit -u -D; source ./_seal; compdef _seal seal; print rea""dy'
zpty -r shell output '*ready*'
for typed expected in "$@"; do
    zpty -n -w shell "$typed"$'\t\t'
    zpty -r shell output "*$expected*"
    print -r -- "$expected"
    zpty -n -w shell $'\x15'
done
"#;

/// Fault: the script that `clap_complete` generates completes a command as a file, offers values of
/// the program for an option of a command, and executes a part of a value name.
#[test]
fn zsh_completes_commands_files_and_values() {
    let seal = Command::new(env!("CARGO_BIN_EXE_seal"))
        .args(["completions", "zsh"])
        .output()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("_seal"), seal.stdout).unwrap();
    fs::write(directory.path().join("zzz.yaml"), "").unwrap();
    for (typed, expected) in [
        ("seal keys ", "Mark a key as compromised"),
        ("seal cert f", "fetch"),
        ("seal doc", "doctor"),
        ("seal view zz", "zzz.yaml"),
        ("seal zz", "zzz.yaml"),
        ("seal inventory -o ", "static page with charts"),
        ("seal zzz.yaml -o ", "Indented JSON"),
        ("seal --cert-fingerprint=zz", "zzz.yaml"),
        ("seal exec --on-change=zz", "zzz.yaml"),
        ("seal agent --owner=zz", "zzz.yaml"),
        ("seal agent --objects=zz", "zzz.yaml"),
    ] {
        let args = ["20", "zsh", "-f", "-c", TYPE_IN_ZSH, "zsh", typed, expected];
        let output = Command::new("timeout")
            .args(args)
            .current_dir(directory.path())
            .env("TERM", "dumb")
            .output()
            .unwrap();
        assert_ne!(
            output.status.code(),
            Some(127),
            "the program `zsh` is not installed: install Debian's package `zsh` (apt-get install zsh)"
        );
        assert!(output.status.success(), "{typed}: {output:?}");
    }
}

#[test]
fn completions_and_manual_contain_the_flags() {
    for args in [
        &["--completions", "zsh"][..],
        &["--completions", "fish"],
        &["--completions", "powershell"],
        &["--man"],
    ] {
        let page = kubeseal_stdout(args);
        for flag in ["re-encrypt", "cert-fingerprint", "controller-name"] {
            let unescaped = page.replace('\\', "");
            assert!(unescaped.contains(flag), "{args:?} lacks {flag}");
        }
    }
    assert!(
        !kubeseal_stdout(&["--man"]).contains("rotate"),
        "hidden flags stay hidden"
    );
}
