//! Tests that `seal keys retire` finds sealed values outside of SealedSecrets in unusual forms.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Output;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::support::{OLD_CERT, assert_code, assert_contains, command, git, stderr, write_files};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const KUBESEAL: &str = env!("CARGO_BIN_EXE_kubeseal");
const STATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/key-fixtures/state");

fn run(program: &str, directory: &Path, args: &[&str]) -> Output {
    let mut command = command(program, directory, "/nowhere");
    let output = command.args(args).current_dir(directory).output();
    output.expect("the command starts")
}

/// Returns a v1 value for the old key.
fn seal_v1(directory: &Path) -> String {
    write_files(directory, &[("old.pem", OLD_CERT), ("value", "hunter2")]);
    let args = [
        "--raw",
        "--name",
        "db",
        "-n",
        "shop",
        "--from-file",
        "value",
        "--cert",
        "old.pem",
    ];
    let output = run(KUBESEAL, directory, &args);
    assert!(output.status.success(), "{}", stderr(&output));
    let value = String::from_utf8(output.stdout).expect("the output is UTF-8");
    value.trim().to_owned()
}

/// Returns a text in the form of a v1 value for a key of 3200 bits.
fn value_for_3200_bits() -> String {
    let mut body = [0; 400 + 16 + 7];
    StdRng::seed_from_u64(1).fill_bytes(&mut body);
    shared::base64::encode(&[&[1, 0x90][..], &body].concat())
}

/// Returns a text in the form of a v2 value for one item.
fn v2_value() -> String {
    format!("seal2.i.{}", "-_Vv".repeat(100))
}

fn utf16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let text = format!("\u{feff}{text}");
    text.encode_utf16().flat_map(unit).collect()
}

/// Returns a description and the content of each file.
fn forms(v1: &str) -> Vec<(&'static str, Vec<u8>)> {
    let v2 = v2_value();
    let wrapped = |value: &str| {
        let (first, rest) = value.split_at(60);
        let (second, third) = rest.split_at(200);
        format!("a: |\n  {first}\n\n  {second}\n\n\n  {third}\n").into_bytes()
    };
    let chart = format!("run: helm upgrade shop chart --set db.password={v1}\n");
    let values = |value: &str| format!("db:\n  password: {value}\n");
    vec![
        ("after an equals sign", chart.into_bytes()),
        ("in a list", format!("- password={v1}\n").into_bytes()),
        ("in a path", format!("a: path/{v1}\n").into_bytes()),
        (
            "UTF-16, little-endian",
            utf16(&values(v1), u16::to_le_bytes),
        ),
        ("UTF-16, big-endian", utf16(&values(v1), u16::to_be_bytes)),
        (
            "v2 in UTF-16, little-endian",
            utf16(&values(&v2), u16::to_le_bytes),
        ),
        (
            "v2 in UTF-16, big-endian",
            utf16(&values(&v2), u16::to_be_bytes),
        ),
        ("with blank lines", wrapped(v1)),
        ("v2 with blank lines", wrapped(&v2)),
        ("3200 bits", values(&value_for_3200_bits()).into_bytes()),
    ]
}

/// Attack: an author writes a sealed value outside of SealedSecrets in a form that a search for values overlooks, so
/// that the key which it needs is retired.
#[test]
fn retires_no_key_that_values_in_any_form_may_need() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let v1 = seal_v1(directory);
    write_files(directory, &[("tree/README", "")]);
    let tree = directory.join("tree");
    git(&tree, &["init", "-q", "-b", "main", "."]);
    git(&tree, &["add", "README"]);
    git(&tree, &["commit", "-qm", "x"]);
    let args = [
        "keys",
        "retire",
        "key-2024",
        "tree",
        "--directory",
        STATE,
        "--dry-run",
    ];
    assert_code(&run(SEAL, directory, &args), 0, "no value");
    for (why, bytes) in forms(&v1) {
        let path = directory.join("tree/values.yaml");
        fs::write(path, bytes).expect("the test directory is writable");
        let output = run(SEAL, directory, &args);
        assert_code(&output, 1, why);
        assert_contains(&output, "tree/values.yaml: may need the key", why);
        assert_contains(&output, "sealed value outside a SealedSecret", why);
    }
}
