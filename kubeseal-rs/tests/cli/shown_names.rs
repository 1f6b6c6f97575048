//! Tests untrusted names of files, items and objects in the output of the programs.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const KUBESEAL: &str = env!("CARGO_BIN_EXE_kubeseal");

/// The word that follows the control sequence in each name.
const FORGED_WORD: &str = "all-is-well";
/// Sequences that begin a new line, control the terminal, change the text direction or are invisible.
const CONTROL_SEQUENCES: [&str; 9] = [
    "\n",
    "\r",
    "\u{9b}2K",
    "\u{202e}",
    "\u{2066}",
    "\u{200b}",
    "\u{feff}",
    "\u{e0041}",
    "\u{1b}[2K",
];

const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/fixtures/key.pem");
const CERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/fixtures/other.pem");

fn run(directory: &Path, program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .current_dir(directory)
        .env("HOME", directory)
        .env("KUBECONFIG", directory.join("kubeconfig"))
        .stdin(Stdio::null())
        .output()
        .expect("the command starts")
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("the path has a parent"))
        .expect("the test directory is writable");
    fs::write(path, text).expect("the test directory is writable");
}

/// Returns a SealedSecret as JSON, with `name` as its name, its namespace and its item key.
fn sealed_manifest(name: &str) -> String {
    format!(
        "{{\"apiVersion\": \"bitnami.com/v1alpha1\", \"kind\": \"SealedSecret\", \"metadata\": {{\"name\": {name:?}, \
         \"namespace\": {name:?}}}, \"spec\": {{\"encryptedData\": {{{name:?}: \"AgBB\"}}}}}}"
    )
    .replace("\\u{9b}", "\\u009b")
    .replace("\\u{202e}", "\\u202e")
    .replace("\\u{2066}", "\\u2066")
    .replace("\\u{200b}", "\\u200b")
    .replace("\\u{feff}", "\\ufeff")
    .replace("\\u{e0041}", "\\udb40\\udc41")
    .replace("\\u{1b}", "\\u001b")
}

fn directory_with(name: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let path_to = |file: &str| directory.path().join(file);
    let plain =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n";
    write(&path_to("tree/sealed.yaml"), &sealed_manifest(name));
    write(&path_to(&format!("tree/{name}.yaml")), plain);
    write(
        &path_to(&format!("broken/{name}.yaml")),
        "kind: SealedSecret\na: [\n",
    );
    write(
        &path_to(&format!("keys/{name}/sealed.yaml")),
        &sealed_manifest(name),
    );
    write(&path_to(&format!("{name}/db.yaml")), plain);
    write(
        &path_to(".seal.yaml"),
        &format!(
            "{{\"rules\": [{{\"path\": {:?}, \"certificate\": \"no\"}}]}}",
            "**"
        ),
    );
    directory
}

/// Runs a command. Returns its output if a name in the output has the control sequence unescaped.
fn forged_output(directory: &Path, program: &str, args: &[&str], sequence: &str) -> Option<String> {
    let output = run(directory, program, args);
    // `kubeseal` prints manifests byte for byte as upstream does.
    let is_manifest = program == KUBESEAL && output.status.success();
    let result = if is_manifest {
        &b""[..]
    } else {
        &output.stdout
    };
    assert!(
        !output.stdout.is_empty() || !output.stderr.is_empty(),
        "{args:?}"
    );
    let printed = [result, &output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    // A usage error shows no name, so the test would pass without checking a name.
    let is_usage_error = ["unexpected argument", "invalid value", "Usage:"]
        .iter()
        .any(|text| printed.contains(text));
    assert!(!is_usage_error, "{args:?}: {printed}");
    let is_unescaped = printed.contains(&format!("{sequence}{FORGED_WORD}"));
    is_unescaped.then(|| format!("{args:?}: {printed}"))
}

/// Attack: a committer uses names of files, items and objects that begin new lines or control the terminal, so that a
/// reader sees forged output, in any format.
#[test]
fn escapes_names_that_start_a_line_or_control_the_terminal() {
    let mut failures = Vec::new();
    for sequence in CONTROL_SEQUENCES {
        let name = format!("a{sequence}{FORGED_WORD}");
        let directory = directory_with(&name);
        let file = format!("tree/{name}.yaml");
        let missing_file = format!("no{sequence}{FORGED_WORD}.yaml");
        let broken_file = format!("broken/{name}.yaml");
        let not_a_key = format!("{name}/db.yaml");
        let commands: [(&str, &[&str]); 26] = [
            (SEAL, &["lint", "tree"]),
            (SEAL, &["lint", "tree", "broken", "--format", "json"]),
            (SEAL, &["lint", "tree", "broken", "--format", "sarif"]),
            (SEAL, &["lint", "tree", "broken", "--format", "github"]),
            (SEAL, &["view", "tree"]),
            (SEAL, &["view", "tree", "-o", "json"]),
            (SEAL, &["view", &missing_file]),
            (SEAL, &["view", &broken_file]),
            (SEAL, &["lint", &broken_file]),
            (SEAL, &["diff", "tree"]),
            (SEAL, &["config", "explain", &file]),
            (SEAL, &["config", "explain", &file, "-o", "json"]),
            (SEAL, &["set", &file, "a", "--from-file", &missing_file]),
            (
                SEAL,
                &["set", "tree/sealed.yaml", "a", "--from-file", &not_a_key],
            ),
            (SEAL, &["unset", "tree/sealed.yaml", &name]),
            (SEAL, &["unset", "tree/sealed.yaml", "other"]),
            (SEAL, &["edit", "tree/sealed.yaml", "--key", &not_a_key]),
            (SEAL, &["rotate", "tree", "--key", &not_a_key]),
            (
                SEAL,
                &[
                    "doctor",
                    "tree/sealed.yaml",
                    "--offline",
                    "--backup",
                    &missing_file,
                ],
            ),
            (
                SEAL,
                &[
                    "exec",
                    "tree/sealed.yaml",
                    "--all",
                    "--backup",
                    &not_a_key,
                    "--",
                    "true",
                ],
            ),
            (SEAL, &["keys", "list", "--directory", "keys"]),
            (SEAL, &[&file]),
            (SEAL, &["cert", "show", &missing_file]),
            (KUBESEAL, &["-f", &missing_file]),
            (
                KUBESEAL,
                &[
                    "--recovery-unseal",
                    "-f",
                    "tree/sealed.yaml",
                    "--recovery-private-key",
                    &not_a_key,
                ],
            ),
            (KUBESEAL, &["-f", &file, "--cert", &missing_file]),
        ];
        for (program, args) in commands {
            failures.extend(forged_output(directory.path(), program, args, sequence));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Attack: a committer uses names with control sequences in YAML and JSON output, which users also read in a terminal.
#[test]
fn escapes_names_that_control_the_terminal_in_yaml_and_json() {
    let mut failures = Vec::new();
    for sequence in CONTROL_SEQUENCES {
        let name = format!("a{sequence}{FORGED_WORD}");
        let directory = directory_with(&name);
        let file = format!("tree/{name}.yaml");
        let rotate = ["rotate", "tree", "--key", KEY, "--cert", CERT, "--dry-run"];
        for args in [
            &["view", "tree"][..],
            &["diff", "tree"],
            &["config", "explain", &file],
            &rotate,
        ] {
            for format in ["yaml", "json"] {
                let args = [args, &["-o", format]].concat();
                failures.extend(forged_output(directory.path(), SEAL, &args, sequence));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Attack: a committer uses names of directories, files, objects and items that are commands to the GitHub Actions
/// runner, which executes every line that begins with two colons, and `##[` anywhere.
#[test]
fn escapes_names_that_are_workflow_commands() {
    let mut failures = Vec::new();
    for command in [
        "::stop-commands::x",
        " ::add-mask::x",
        "##[stop-commands]x",
        "x##[error]y",
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let path_to = |file: &str| directory.path().join(file);
        let plain = "apiVersion: v1\nkind: Secret\nstringData: {a: b}\n";
        write(&path_to(&format!("{command}/plain.yaml")), plain);
        write(
            &path_to(&format!("{command}/{command}.yaml")),
            &sealed_manifest(command),
        );
        write(
            &path_to(&format!("{command}/broken.yaml")),
            "kind: SealedSecret\na: [\n",
        );
        write(
            &path_to("list.yaml"),
            &sealed_manifest(command)
                .replace("bitnami.com/v1alpha1", "v1")
                .replace("SealedSecret", "Secret"),
        );
        let file = format!("{command}/{command}.yaml");
        let args: [&[&str]; 11] = [
            &["lint"],
            &["lint", command],
            &["lint", &file],
            &["view"],
            &["view", &file],
            &["view", command],
            &["rotate", ".", "--key", KEY, "--cert", CERT],
            &["set", &file, "a", "--from-file", &file, "--cert", CERT],
            &["unset", &file, command],
            &["import", "list", "list.yaml", "--cert", CERT, "-n", "x"],
            &["diff", &file, command],
        ];
        for args in args {
            let output = run(directory.path(), SEAL, args);
            let printed = [&output.stdout[..], &output.stderr].concat();
            let printed = String::from_utf8_lossy(&printed);
            assert!(!printed.is_empty(), "{args:?}");
            let is_workflow_command =
                |line: &str| line.trim_start().starts_with("::") || line.contains("##[");
            if printed.lines().any(is_workflow_command) {
                failures.push(format!("{args:?}: {printed}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
