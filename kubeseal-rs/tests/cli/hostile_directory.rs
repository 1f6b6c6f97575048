//! Attacks by the author of the current directory that do not use Git, for example with special files, files that name
//! programs, and programs in the directory.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::stderr;

const SEALED_SECRET: &str = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: db, namespace: shop}\n\
                      spec: {encryptedData: {a: AgBB}}\n";
const PLAIN_SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n";

/// A directory that an attacker wrote.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        let directory = Self(tempfile::tempdir().expect("a directory"));
        fs::write(directory.path("a.yaml"), SEALED_SECRET).expect("the test directory is writable");
        fs::write(directory.path("plain.yaml"), PLAIN_SECRET)
            .expect("the test directory is writable");
        directory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a program that records how it is run.
    fn write_program(&self, name: &str) {
        let record = self.path("ran");
        let text = format!(
            "#!/bin/sh\n{{ pwd; echo \"$@\"; echo \"$PATH\"; }} > '{}'\necho '{{}}'\n",
            record.display()
        );
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("the path has a parent"))
            .expect("the test directory is writable");
        fs::write(&path, text).expect("the test directory is writable");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .expect("the test owns the file");
    }

    fn recorded_run(&self) -> Option<String> {
        fs::read_to_string(self.path("ran")).ok()
    }

    fn run(&self, program: &str, args: &[&str], variables: &[(&str, &str)]) -> Output {
        let child = Command::new(program)
            .args(args)
            .current_dir(self.0.path())
            .env("HOME", self.path("home"))
            .env("KUBECONFIG", "/nowhere")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        wait(child.expect("the command starts"))
    }
}

/// Waits for a command, and fails the test if it hangs.
fn wait(mut child: Child) -> Output {
    let end = Instant::now() + Duration::from_secs(30);
    while child.try_wait().expect("the program was started").is_none() {
        if Instant::now() > end {
            child.kill().expect("the process is running");
            unreachable!("the command hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().expect("the program was started")
}

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const KUBESEAL: &str = env!("CARGO_BIN_EXE_kubeseal");

fn kubeconfig(command: &Path) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
         contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
         clusters: [{{name: a, cluster: {{server: 'https://127.0.0.1:9'}}}}]\n\
         users: [{{name: a, user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, command: '{}', \
         interactiveMode: Never}}}}}}]\n",
        command.display()
    )
}

/// Attack: a committer adds a kubeconfig that names a program, for a user whose environment names the kubeconfig by a
/// relative path.
#[test]
fn a_kubeconfig_in_the_current_directory_runs_no_program() {
    let directory = Directory::new();
    directory.write_program("plug-in");
    fs::write(
        directory.path("kubeconfig"),
        kubeconfig(&directory.path("plug-in")),
    )
    .expect("the test directory is writable");
    for (program, args, variable) in [
        (KUBESEAL, &["--fetch-cert"][..], "KUBECONFIG"),
        (SEAL, &["view", "--reveal", "a.yaml"], "KUBECONFIG"),
        (
            SEAL,
            &["view", "--reveal", "a.yaml"],
            "SEALED_SECRETS_KUBECONFIG",
        ),
        (SEAL, &["keys", "list"], "SEALED_SECRETS_KUBECONFIG"),
    ] {
        let output = directory.run(program, args, &[(variable, "kubeconfig")]);
        assert_eq!(directory.recorded_run(), None, "{args:?}");
        assert!(
            stderr(&output).contains("--kubeconfig"),
            "{args:?}: {output:?}"
        );
    }
    // A kubeconfig named on the command line is the user's choice.
    directory.run(
        KUBESEAL,
        &["--kubeconfig", "kubeconfig", "--fetch-cert"],
        &[],
    );
    assert!(directory.recorded_run().is_some());
}

/// Attack: a committer adds a kubeconfig that names the committer's server and a file with a token of the user, for a user
/// whose environment names the kubeconfig by a relative path.
#[test]
fn a_kubeconfig_in_the_current_directory_names_no_file_outside_it() {
    let directory = Directory::new();
    let outside = tempfile::tempdir().expect("a directory");
    let token = outside.path().join("token");
    fs::write(&token, "token").expect("the test directory is writable");
    for (cluster, user) in [
        ("certificate-authority", "username"),
        ("tls-server-name", "tokenFile"),
        ("tls-server-name", "client-key"),
    ] {
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
             contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
             clusters: [{{name: a, cluster: {{server: 'https://127.0.0.1:9', {cluster}: '{0}'}}}}]\n\
             users: [{{name: a, user: {{{user}: '{0}'}}}}]\n",
            token.display()
        );
        fs::write(directory.path("kubeconfig"), kubeconfig)
            .expect("the test directory is writable");
        let refused = "outside its directory";
        for (program, args, variable) in [
            (KUBESEAL, &["--fetch-cert"][..], "KUBECONFIG"),
            (SEAL, &["keys", "list"], "SEALED_SECRETS_KUBECONFIG"),
        ] {
            let output = directory.run(program, args, &[(variable, "kubeconfig")]);
            assert!(stderr(&output).contains(refused), "{args:?}: {output:?}");
        }
        // A kubeconfig named on the command line is the user's choice.
        let args = ["--kubeconfig", "kubeconfig", "--fetch-cert"];
        let output = directory.run(KUBESEAL, &args, &[]);
        assert!(!stderr(&output).contains(refused), "{output:?}");
    }
}

/// Attack: the author of the current directory names their server in a kubeconfig, and in its context the user of
/// another kubeconfig, to get the token of this user.
#[test]
fn a_kubeconfig_in_the_current_directory_gets_no_user_of_another_kubeconfig() {
    let directory = Directory::new();
    let config = "apiVersion: v1\nkind: Config\n";
    let server = format!(
        "{config}current-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: admin}}}}]\n\
         clusters: [{{name: a, cluster: {{server: 'https://127.0.0.1:9'}}}}]\n"
    );
    let user = format!("{config}users: [{{name: admin, user: {{token: hunter2}}}}]\n");
    for (name, text) in [("kubeconfig", server), ("user", user)] {
        fs::write(directory.path(name), text).expect("the test directory is writable");
    }
    let variable = format!("kubeconfig:{}", directory.path("user").display());
    let output = directory.run(KUBESEAL, &["--fetch-cert"], &[("KUBECONFIG", &variable)]);
    let message = stderr(&output);
    assert!(
        message.contains("names the server and another kubeconfig the user"),
        "{message}"
    );
}

/// Attack: a committer adds a program with the name of the user's credential plug-in to a directory that `PATH` names
/// by a relative path.
#[test]
fn runs_no_credential_plug_in_of_the_current_directory() {
    let directory = Directory::new();
    directory.write_program("plug-in-of-the-cloud");
    fs::write(
        directory.path("user"),
        kubeconfig(Path::new("plug-in-of-the-cloud")),
    )
    .expect("the test directory is writable");
    let (user, path) = (
        directory.path("user"),
        std::env::var("PATH").expect("PATH is set"),
    );
    let output = directory.run(
        KUBESEAL,
        &["--fetch-cert"],
        &[
            ("KUBECONFIG", &user.display().to_string()),
            ("PATH", &format!(".:{path}")),
        ],
    );
    assert_eq!(directory.recorded_run(), None);
    assert!(
        stderr(&output).contains("plug-in-of-the-cloud"),
        "{output:?}"
    );
}

/// Attack: a committer adds a program with the name of the user's editor, for a user whose `PATH` has relative
/// directories.
#[cfg(target_os = "linux")]
#[test]
fn runs_no_editor_of_the_current_directory() {
    let directory = Directory::new();
    directory.write_program("editor-of-the-user");
    let path = format!(".:{}", std::env::var("PATH").expect("PATH is set"));
    for editor in ["editor-of-the-user", "./editor-of-the-user"] {
        let output = directory.run(
            SEAL,
            &["edit", "a.yaml", "--blind"],
            &[("PATH", &path), ("VISUAL", editor)],
        );
        assert_eq!(directory.recorded_run(), None, "{editor}");
        let message = format!("the editor \"{editor}\" (VISUAL) was not found");
        assert!(stderr(&output).contains(&message), "{output:?}");
    }
}

/// Attack: a committer adds a `.sops.yaml` next to the file, for a user whose `PATH` has relative directories. `sops`
/// must run in `/`, with only the absolute directories of `PATH`.
#[test]
fn sops_runs_outside_the_current_directory() {
    let directory = Directory::new();
    directory.write_program("programs/sops");
    fs::write(directory.path(".sops.yaml"), "stores: {}\n")
        .expect("the test directory is writable");
    let programs = directory.path("programs");
    let path = format!(".:{}:bin:/usr/bin:/bin", programs.display());
    directory.run(
        SEAL,
        &["import", "sops", "web", "plain.yaml"],
        &[("PATH", &path)],
    );
    let run = directory.recorded_run().expect("sops ran");
    let arguments = "/\n-d --input-type yaml --output-type json ";
    let file = run
        .strip_prefix(arguments)
        .and_then(|rest| rest.lines().next());
    let file = PathBuf::from(file.expect("a file"));
    assert!(
        file.is_absolute() && !file.starts_with(directory.0.path()),
        "{run}"
    );
    let want = format!("\n{}:/usr/bin:/bin\n", programs.display());
    assert!(run.ends_with(&want), "{run}");
}

/// Attack: a committer writes a rule that names the attacker's certificate outside the repository, for example in
/// `/tmp`. Reviewers of the repository do not see the certificate, and the attacker could decrypt the values.
#[test]
fn a_rule_seals_for_no_certificate_outside_its_tree() {
    let directory = Directory::new();
    let outside = tempfile::tempdir().expect("a directory");
    let cert = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/fixtures/cert.pem");
    let outside_cert = outside.path().join("cert.pem");
    fs::copy(cert, &outside_cert).expect("the test directory is writable");
    std::os::unix::fs::symlink(&outside_cert, directory.path("link.pem"))
        .expect("the test directory is writable");
    fs::copy(cert, directory.path("own.pem")).expect("the test directory is writable");
    let outside_cert = outside_cert.display().to_string();
    for (certificate, is_accepted) in [
        ("own.pem", true),
        (outside_cert.as_str(), false),
        ("link.pem", false),
        (&format!("file://{outside_cert}"), false),
        ("http://sealer.invalid/cert.pem", false),
    ] {
        let rules = format!("rules: [{{path: '**', certificate: '{certificate}'}}]\n");
        fs::write(directory.path(".seal.yaml"), rules).expect("the test directory is writable");
        let output = directory.run(SEAL, &["--stdout", "plain.yaml"], &[]);
        assert_eq!(
            output.status.success(),
            is_accepted,
            "{certificate}: {output:?}"
        );
        let has_flag_hint = stderr(&output).contains("--cert");
        assert_eq!(has_flag_hint, !is_accepted, "{certificate}: {output:?}");
        // Files named on the command line are not restricted.
        let output = directory.run(
            SEAL,
            &["--stdout", "plain.yaml", "--cert", &outside_cert],
            &[],
        );
        assert!(output.status.success(), "{output:?}");
    }
}

/// Attack: a committer writes the kind of a plain Secret so that a text search does not find it.
#[test]
fn lint_finds_a_plain_secret_of_an_escaped_or_encoded_kind() {
    for kind in [
        r#""\x53ecret""#,
        r#""S\u0065cret""#,
        "!!binary U2VjcmV0",
        r#""Secr\
  et""#,
    ] {
        let directory = Directory::new();
        fs::remove_file(directory.path("plain.yaml")).expect("the file exists");
        let plain = format!(
            "apiVersion: v1\nkind: {kind}\nmetadata: {{name: db}}\nstringData: {{a: hunter2}}\n"
        );
        fs::write(directory.path("hidden.yaml"), plain).expect("the test directory is writable");
        let output = directory.run(SEAL, &["lint", "."], &[]);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            printed.contains("hidden.yaml") && printed.contains("plain"),
            "{kind}: {output:?}"
        );
    }
}

/// Attack: an attacker makes the rules, or a certificate that they name, a pipe without a writer or an endless device,
/// so that a command hangs.
#[test]
fn refuses_rules_and_certificates_that_are_not_regular_files() {
    let directory = Directory::new();
    let status = Command::new("mkfifo").arg(directory.path("pipe")).status();
    assert!(status.expect("mkfifo").success());
    let rules = directory.path(".seal.yaml");
    let outside_tree = "name files in its own tree";
    for (certificate, why) in [
        ("pipe", "not a regular file"),
        ("/dev/zero", outside_tree),
        ("/dev/stdin", outside_tree),
        ("file:///dev/zero", outside_tree),
        ("file:pipe", outside_tree),
    ] {
        fs::write(
            &rules,
            format!("rules: [{{path: '**', certificate: '{certificate}'}}]\n"),
        )
        .expect("the test directory is writable");
        // Lint does not fetch URLs.
        let commands = [&["--stdout", "plain.yaml"][..], &["lint"]];
        let count = if certificate.contains(':') { 1 } else { 2 };
        for args in &commands[..count] {
            let output = directory.run(SEAL, args, &[]);
            let printed = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
            assert!(printed.contains(why), "{certificate} {args:?}: {output:?}");
        }
    }
    for to in ["pipe", "/dev/zero", "missing"] {
        fs::remove_file(&rules).expect("the file exists");
        std::os::unix::fs::symlink(to, &rules).expect("the test directory is writable");
        let output = directory.run(SEAL, &["--stdout", "plain.yaml"], &[]);
        assert_eq!(output.status.code(), Some(2), "{to}: {output:?}");
        assert!(stderr(&output).contains(".seal.yaml"), "{to}: {output:?}");
    }
}
