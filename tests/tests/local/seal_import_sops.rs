//! Tests `seal import sops` with the real `sops`: the command imports every value byte for byte, or nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::{env, fs};

use tests::scratch::Scratch;
use tests::{binaries, sops};

const KEY: &str = include_str!("../../../kubeseal-rs/tests/seal/fixtures/key.pem");
const CERTIFICATE: &str = include_str!("../../../kubeseal-rs/tests/seal/fixtures/cert.pem");

struct Directory(Scratch);

impl Directory {
    fn new() -> Self {
        let directory = Self(Scratch::new());
        fs::write(directory.path("key.pem"), KEY).unwrap();
        fs::write(directory.path("cert.pem"), CERTIFICATE).unwrap();
        directory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Encrypts a string as `sops` does for a file named `as_name`, and writes the result to the file `name`.
    fn encrypt(&self, text: &[u8], as_name: &str, name: &str) {
        fs::write(self.path(as_name), text).unwrap();
        sops::encrypt(&self.path(as_name), &self.path(name));
    }

    fn seal(&self, args: &[&str]) -> Output {
        let sops = sops::program();
        let path = format!(
            "{}:{}",
            sops.parent().unwrap().display(),
            env::var("PATH").unwrap()
        );
        Command::new(binaries::seal())
            .args(args)
            .current_dir(self.0.path())
            .env("PATH", path)
            .env("SOPS_AGE_KEY", sops::IDENTITY)
            .env("HOME", self.0.path())
            .env("KUBECONFIG", "/nowhere")
            .output()
            .unwrap()
    }

    fn import(&self, args: &[&str]) -> Output {
        let common_args = ["--cert", "cert.pem", "-n", "shop"];
        self.seal(&[&["import", "sops"], args, &common_args].concat())
    }

    /// Returns the imported SealedSecrets with their values, as `seal view` prints them.
    fn view(&self, output: &Output) -> String {
        assert!(output.status.success(), "{output:?}");
        fs::write(self.path("sealed.yaml"), &output.stdout).unwrap();
        let args = ["view", "--reveal", "--key", "key.pem", "sealed.yaml"];
        String::from_utf8(self.seal(&args).stdout).unwrap()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn secret(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n    name: {name}\n    namespace: shop\nstringData:\n    a: {value}\n"
    )
}

#[test]
fn every_secret_in_a_file_is_imported() {
    let (first, second) = (secret("one", "first"), secret("two", "second"));
    let indented = |text: &str| text.replace('\n', "\n      ");
    let list = |kind: &str, items: &[&str]| {
        let items = items
            .iter()
            .map(|item| format!("    - {}\n", indented(item).trim_end()));
        format!(
            "apiVersion: v1\nkind: {kind}\nitems:\n{}",
            items.collect::<String>()
        )
    };
    let settings =
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n    name: settings\ndata:\n    a: b\n";
    let without_kind = second.replace("apiVersion: v1\nkind: Secret\n", "");
    for (description, text) in [
        ("two documents", format!("{first}---\n{second}")),
        (
            "three documents, of which the first has another kind",
            format!("{settings}---\n{first}---\n{second}"),
        ),
        ("a list", list("List", &[&first, &second])),
        (
            "a list with another kind",
            list("List", &[settings, &first, &second]),
        ),
        (
            "a list and a document",
            format!("{}---\n{second}", list("List", &[&first])),
        ),
        (
            "a list of Secrets, one without a kind",
            list("SecretList", &[&first, &without_kind]),
        ),
    ] {
        let directory = Directory::new();
        directory.encrypt(text.as_bytes(), "plain.yaml", "a.enc.yaml");
        let output = directory.import(&["a.enc.yaml"]);
        let view = directory.view(&output);
        for part in ["shop/one", "shop/two", "first", "second"] {
            assert!(view.contains(part), "{description}: {view}");
        }
        let is_reported = stderr(&output).contains("v1 ConfigMap");
        assert_eq!(
            is_reported,
            text.contains("ConfigMap"),
            "{description}: {output:?}"
        );
    }
}

#[test]
fn imports_binary_values_unchanged() {
    for (name, bytes) in [
        ("keystore.jks", &b"\xfe\xed\xfe\xed\x00\x00\x00\x02"[..]),
        ("latin1.txt", b"stra\xdfe\r\n"),
        ("half.bin", b"\xc3"),
        ("text.pem", b"-----BEGIN X-----\r\n\ttab\xef\xbf\xbd\n\n"),
    ] {
        let directory = Directory::new();
        directory.encrypt(bytes, name, "whole.enc");
        let output = directory.import(&["web", "whole.enc"]);
        assert!(output.status.success(), "{output:?}");
        fs::write(directory.path("sealed.yaml"), &output.stdout).unwrap();
        let args = [
            "view",
            "--reveal",
            "--key",
            "key.pem",
            "-o",
            "json",
            "sealed.yaml",
        ];
        let view = String::from_utf8(directory.seal(&args).stdout).unwrap();
        let expected = format!("\"value\": \"{}\"", shared::base64::encode(bytes));
        assert!(view.contains(&expected), "{name}: {view}");
    }
}

#[test]
fn refuses_values_that_text_output_would_change() {
    for (description, text, path) in [
        ("bytes at the root", "a: x\nb: !!binary /u3+7Q==\n", "b"),
        (
            "bytes in a nested list",
            "c:\n    - d: !!binary /u3+7Q==\n",
            "c.0.d",
        ),
        (
            "a string that sops writes as null",
            "apiVersion: v1\nkind: ConfigMap\n---\ne: \"\\tx\\ny\"\n",
            "e",
        ),
    ] {
        let directory = Directory::new();
        directory.encrypt(text.as_bytes(), "plain.yaml", "a.enc.yaml");
        let output = directory.import(&["web", "a.enc.yaml"]);
        assert_eq!(output.status.code(), Some(2), "{description}: {output:?}");
        assert!(output.stdout.is_empty(), "{description}: {output:?}");
        let expected = format!("sops does not print the value of {path} unchanged");
        assert!(
            stderr(&output).contains(&expected),
            "{description}: {output:?}"
        );
    }
}

#[test]
fn skips_empty_documents() {
    let first = secret("one", "first");
    for (name, text) in [
        (
            None,
            format!("{first}---\n---\n{}---\n", secret("two", "x")),
        ),
        (Some("one"), "a: first\n---\n".to_owned()),
    ] {
        let directory = Directory::new();
        directory.encrypt(text.as_bytes(), "plain.yaml", "a.enc.yaml");
        let args: Vec<&str> = name.into_iter().chain(["a.enc.yaml"]).collect();
        let view = directory.view(&directory.import(&args));
        assert!(
            view.contains("shop/one") && view.contains("first"),
            "{view}"
        );
    }
}

#[test]
fn an_error_names_the_document_and_imports_nothing() {
    let first = secret("one", "first");
    for (description, name, text, expected) in [
        (
            "values next to a Secret",
            None,
            format!("{first}---\na: b\n"),
            "document 2",
        ),
        (
            "two Secrets with the same name",
            None,
            format!("{first}---\n{first}"),
            "two Secrets with the name shop/one",
        ),
        (
            "two documents of values",
            Some("web"),
            "a: b\n---\nc: d\n".into(),
            "2 documents",
        ),
        (
            "a name argument, and a Secret after an object of another kind",
            Some("web"),
            format!("kind: X\n---\n{first}"),
            "already has a name",
        ),
    ] {
        let directory = Directory::new();
        directory.encrypt(text.as_bytes(), "plain.yaml", "a.enc.yaml");
        let args: Vec<&str> = name.into_iter().chain(["a.enc.yaml"]).collect();
        let output = directory.import(&args);
        assert_eq!(output.status.code(), Some(2), "{description}: {output:?}");
        assert!(output.stdout.is_empty(), "{description}: {output:?}");
        assert!(
            stderr(&output).contains(expected),
            "{description}: {output:?}"
        );
    }
}

#[test]
fn imports_files_with_an_unknown_extension() {
    for (as_name, name, text) in [
        ("secret.yaml", "secret.yaml.enc", secret("one", "first")),
        ("secret.yaml", "secret.YML", secret("one", "first")),
        ("secret.yaml", "secret", format!("{}---\n{}", secret("one", "first"), secret("two", "x"))),
        (
            "secret.json",
            "secret.json.sops",
            r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one"}, "stringData": {"a": "first"}}"#.into(),
        ),
        // `sops` encrypts this file as a whole, because the extension is unknown.
        ("secret.txt", "secret.txt", secret("one", "first")),
    ] {
        let directory = Directory::new();
        directory.encrypt(text.as_bytes(), as_name, name);
        let view = directory.view(&directory.import(&[name]));
        assert!(view.contains("shop/one") && view.contains("first"), "{name}: {view}");
    }
    let directory = Directory::new();
    directory.encrypt(b"A=first\nB=two\n", "x.env", "env.enc");
    let view = directory.view(&directory.import(&["one", "env.enc"]));
    assert!(
        view.contains("shop/one") && view.contains("first"),
        "{view}"
    );
}

#[test]
fn refuses_to_seal_ciphertext_of_sops() {
    let directory = Directory::new();
    directory.encrypt(
        secret("one", "first").as_bytes(),
        "plain.yaml",
        "a.enc.yaml",
    );
    directory.encrypt(b"A=first\n", "plain.env", "a.enc.env");
    // The result of an `encrypted_regex` that covers only the values.
    let values = "ENC[AES256_GCM,data:lcaZ61c=,iv:iw==,tag:KQ==,type:str]";
    let text = format!("{}sops:\n    version: 3.11.0\n", secret("one", values));
    fs::write(directory.path("values.enc.yaml"), text).unwrap();
    for args in [
        &["import", "secret", "a.enc.yaml", "--cert", "cert.pem"][..],
        &["import", "list", "a.enc.yaml", "--cert", "cert.pem"],
        &[
            "import",
            "dotenv",
            "one",
            "a.enc.env",
            "--cert",
            "cert.pem",
            "-n",
            "shop",
        ],
        &["values.enc.yaml", "--stdout", "--cert", "cert.pem"],
    ] {
        let output = directory.seal(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(
            stderr(&output).contains("seal import sops"),
            "{args:?}: {output:?}"
        );
    }
}
