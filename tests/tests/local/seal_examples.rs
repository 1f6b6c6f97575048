//! Runs every example in the help of `seal` that needs no cluster, and the tour of the README.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use shared::key::{KeySize, KeySpec, NewKey};
use shared::key_secret;
use shared::v2;
use tests::scratch::Scratch;
use tests::sealing::KEYS;
use tests::{binaries, http, sops};

const README: &str = include_str!("../../../README.md");

/// Returns the help of a command, and of every command below it.
fn help_pages(args: &[String]) -> Vec<(Vec<String>, String)> {
    let output = Command::new(binaries::seal())
        .args(args)
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let commands = help.split("Commands:\n").nth(1).unwrap_or_default();
    let names = commands.lines().take_while(|line| !line.trim().is_empty());
    let names: Vec<String> = names
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect();
    let mut pages = vec![(args.to_vec(), help.clone())];
    for name in names {
        pages.extend(help_pages(&[args, &[name]].concat()));
    }
    pages
}

/// Returns the example commands in a help text, one per line.
fn examples(help: &str) -> Vec<&str> {
    let lines = help.split("Examples:\n").nth(1).unwrap_or_default().lines();
    lines
        .take_while(|line| line.starts_with("  "))
        .map(str::trim)
        .collect()
}

/// Creates the files that the examples use: keys of several kinds, plaintext and sealed files, and two commits.
fn create_files(directory: &Path) {
    let spec = KeySpec {
        size: KeySize::Rsa2048,
        ttl: jiff::SignedDuration::from_hours(24),
        common_name: String::new(),
    };
    let new_key = || {
        let (now, random) = (jiff::Timestamp::now(), &mut shared::random::system());
        spec.generate(now, random).unwrap()
    };
    let (key, server_key) = (new_key(), new_key());
    let write = |name: &str, text: &[u8]| fs::write(directory.join(name), text).unwrap();
    write("cert.pem", key.pair.certificate().to_pem().as_bytes());
    write("key.pem", key.private_pem.expose());
    let server_certificate = server_key.pair.certificate().to_pem();
    write("tls.crt", server_certificate.as_bytes());
    write("tls.key", server_key.private_pem.expose());
    write("password.txt", b"correct horse");
    write(".env", b"API_KEY='hunter2'\n");
    write(
        ".gitignore",
        b".env\nkey.pem\ntls.key\n*.txt\nsecret.yaml\nfrom-cluster.yaml\nplain.yaml\nstate\nv2-state\n",
    );
    write(
        ".seal.yaml",
        b"rules: [{path: '**', certificate: cert.pem}]\n",
    );
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {password: x}\n";
    write("secret.yaml", secret.as_bytes());
    write("from-cluster.yaml", secret.as_bytes());
    write("plain.yaml", b"API_KEY: hunter2\n");
    sops::encrypt(
        &directory.join("plain.yaml"),
        &directory.join("secrets.enc.yaml"),
    );
    fs::create_dir(directory.join("prod")).unwrap();
    prepare_keys(directory, &key);
    let script = "git init -q . && git add . && git commit -qm one && seal create db --from-file password=password.txt \
                 -n shop -w db.sealed.yaml && cp db.sealed.yaml prod/ && seal page -o page.html && git add . && git commit -qm two";
    expect_success(script, &run_in_shell(directory, script));
}

/// Creates the directories of two controllers, one with two RSA keys and one with a v2 key, a backup of the first, an
/// SSH key, and an identity and recipient for age.
fn prepare_keys(directory: &Path, new_key: &NewKey) {
    fs::create_dir_all(directory.join("state/keys")).unwrap();
    fs::create_dir_all(directory.join("state/sealed")).unwrap();
    let signing_key = include_str!("../../../kubeseal-rs/tests/seal/key-fixtures/id_ed25519");
    fs::write(directory.join("id_ed25519"), signing_key).unwrap();
    let texts = [("key-old", &KEYS[0]), ("key-new", new_key)].map(|(name, key)| {
        let secret = key_secret::build(name, "kube-system", key, BTreeMap::new(), BTreeMap::new());
        let text = shared::manifest::to_yaml(&secret.to_document());
        fs::write(directory.join(format!("state/keys/{name}.yaml")), &text).unwrap();
        text
    });
    let key = v2::SecretKey::from_bytes(v2::Suite::XWing, &[1; 32]).unwrap();
    let recipient = format!("{}\n", key.recipient());
    fs::write(directory.join("cluster.txt"), recipient).unwrap();
    let v2_key = v2::key_secret::StoredKey {
        key,
        not_before: jiff::Timestamp::UNIX_EPOCH,
        not_after: jiff::Timestamp::MAX,
    };
    let v2_key = v2::key_secret::build("v2-key", "ops", &v2_key, BTreeMap::new(), BTreeMap::new());
    fs::create_dir_all(directory.join("v2-state/keys")).unwrap();
    let text = shared::manifest::to_yaml(&v2_key.to_document());
    fs::write(directory.join("v2-state/keys/v2-key.yaml"), text).unwrap();
    fs::write(directory.join("keys.age"), texts.join("---\n")).unwrap();
    fs::write(directory.join("identity.txt"), sops::IDENTITY).unwrap();
    fs::write(directory.join("recipients.txt"), sops::RECIPIENT).unwrap();
}

fn run_in_shell(directory: &Path, script: &str) -> Output {
    let seal = binaries::seal();
    let directories =
        [seal.parent().unwrap(), sops::program().parent().unwrap()].map(Path::to_owned);
    let path = std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect::<Vec<_>>();
    let path = std::env::join_paths(directories.into_iter().chain(path)).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-euc", script])
        .current_dir(directory)
        .env("PATH", path);
    command
        .env("SOPS_AGE_KEY", sops::IDENTITY)
        .env("EDITOR", "true")
        .env_remove("VISUAL")
        .env("KUBECONFIG", "nowhere")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    for role in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{role}_NAME"), "a")
            .env(format!("GIT_{role}_EMAIL"), "a@example.com");
    }
    command.output().unwrap()
}

fn expect_success(script: &str, output: &Output) -> String {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{script}\n{}: {message}",
        output.status
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Returns whether the example may exit with code 1: `diff --exit-code` reports changes in this way.
fn may_report_findings(example: &str) -> bool {
    example.contains("--exit-code")
}

/// Returns whether the example needs a cluster: `seal keys rotate` waits for a controller; `seal pods`, `seal restart`,
/// `seal uninstall` and `--cluster` read or change a cluster; `seal agent`, `seal node` and `seal exec --from` run in a
/// Pod. See the tests `seal_keys`, `restart`, `agent`, `migration` and `seal_cluster`.
fn needs_cluster(example: &str) -> bool {
    let commands = [
        "seal keys rotate",
        "seal uninstall",
        "seal pods",
        "seal restart",
        "seal agent",
        "seal node",
        "seal exec --from",
    ];
    let is_listed = commands.iter().any(|command| example.starts_with(command));
    is_listed || example.contains(" --cluster")
}

#[test]
fn every_help_example_that_needs_no_cluster_runs() {
    let original = Scratch::new();
    create_files(original.path());
    let mut count = 0;
    for (args, help) in help_pages(&[]) {
        let is_group = help.contains("\nCommands:\n") && !args.is_empty();
        let examples = examples(&help);
        assert!(
            is_group || !examples.is_empty(),
            "the help of seal {} has no example",
            args.join(" ")
        );
        for example in examples
            .into_iter()
            .filter(|example| !needs_cluster(example))
        {
            let copy = Scratch::new();
            let from = original.path().join(".");
            let status = Command::new("cp")
                .arg("-a")
                .arg(from)
                .arg(copy.path())
                .status();
            assert!(status.unwrap().success());
            let output = run_in_shell(copy.path(), example);
            if !(may_report_findings(example) && output.status.code() == Some(1)) {
                expect_success(example, &output);
            }
            count += 1;
        }
    }
    assert!(count >= 15, "only {count} examples were found");
}

/// Returns the commands of the tour in the README, without the build and the setting of `PATH`.
fn tour() -> String {
    let tour = README.split("## A tour of five minutes").nth(1).unwrap();
    let tour = tour.split("\n## ").next().unwrap();
    let excluded = ["cargo ", "export PATH"];
    let lines = tour.lines().filter_map(|line| line.strip_prefix("    "));
    let is_included = |line: &&str| !excluded.iter().any(|start| line.starts_with(start));
    lines
        .filter(is_included)
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// Returns the tour with its own ports, or with free ports if another program uses them.
fn with_free_ports(tour: &str) -> String {
    ["127.0.0.1:8080", "127.0.0.1:8081"]
        .iter()
        .fold(tour.to_owned(), |tour, address| {
            assert!(tour.contains(address), "the tour does not use {address}");
            match TcpListener::bind(address) {
                Ok(_) => tour,
                Err(_) => tour.replace(address, &format!("127.0.0.1:{}", http::free_port())),
            }
        })
}

/// Runs the whole tour in one shell in a new directory, without input.
#[test]
fn the_tour_of_the_readme_runs() {
    let directory = Scratch::new();
    let gitignore = directory.path().join(".gitignore");
    fs::write(&gitignore, "target/\n").unwrap();
    let cleanup = "trap 'kill $! && wait' EXIT\n";
    let script = cleanup.to_owned() + &with_free_ports(&tour());
    let output = expect_success(&script, &run_in_shell(directory.path(), &script));
    let (before_the_edit, after) = output.split_once("ErrUnsealFailed").unwrap();
    assert!(before_the_edit.contains("correct horse"), "{output}");
    assert!(after.contains("correct horse"), "{output}");
    assert!(
        after.contains("postgres://app:battery+staple@db/app"),
        "{output}"
    );
    assert!(after.contains("kind: Secret"), "{output}");
    assert_eq!(fs::read_to_string(&gitignore).unwrap(), "target/\n");
}

#[test]
fn a_sops_file_is_imported_and_can_be_unsealed() {
    let directory = Scratch::new();
    create_files(directory.path());
    let script = "seal import sops web secrets.enc.yaml -n shop --cert cert.pem -w web.yaml; \
                  seal view --reveal --key key.pem web.yaml";
    let stdout = expect_success(script, &run_in_shell(directory.path(), script));
    assert!(stdout.contains("hunter2"), "{stdout}");
    fs::copy(
        directory.path().join("secret.yaml"),
        directory.path().join("plain.yaml"),
    )
    .unwrap();
    sops::encrypt(
        &directory.path().join("plain.yaml"),
        &directory.path().join("secrets.enc.yaml"),
    );
    let script = "seal import sops secrets.enc.yaml --cert cert.pem | seal lint; \
                  seal import sops secrets.enc.yaml --cert cert.pem";
    let stdout = expect_success(script, &run_in_shell(directory.path(), script));
    assert!(stdout.contains("name: db"), "{stdout}");
    let script = "SOPS_AGE_KEY= seal import sops web secrets.enc.yaml";
    let output = run_in_shell(directory.path(), script);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("sops cannot decrypt secrets.enc.yaml"),
        "{message}"
    );
}
