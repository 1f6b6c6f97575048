//! Tests that `seal lint --keys` tries private keys on v2 values.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::support::{assert_code, assert_contains, combined_output, write_files};
use crate::v2::{create, directory, read, seal};

const CANNOT_UNSEAL: &str = "which cannot unseal it for this object and item";
const UNCHECKED_ITEMS: &str = "2 items could not be checked with --keys";

/// Returns a directory without rules, in which `db.yaml` contains the object `shop/db` with the items `a` and `b`.
fn directory_with_object(recipients: &str) -> tempfile::TempDir {
    let directory = directory();
    let rules = format!("rules:\n- path: '*.yaml'\n  format: v2\n  recipients: {recipients}\n");
    write_files(
        directory.path(),
        &[(".seal.yaml", &rules), ("b", "another value")],
    );
    create(directory.path(), &["--from-file", "b", "-w", "db.yaml"]);
    fs::remove_file(directory.path().join(".seal.yaml")).expect("the test owns the file");
    directory
}

fn lint(directory: &Path, keys: &[&str]) -> Output {
    let keys = keys.iter().flat_map(|key| ["--keys", *key]);
    seal(
        directory,
        &["lint", "db.yaml"]
            .into_iter()
            .chain(keys)
            .collect::<Vec<_>>(),
    )
}

/// Returns the value on the first line that begins with `name` and a colon.
fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let mut lines = text.lines().map(str::trim_start);
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.expect("the item exists")
}

/// Returns `text` with a character near the end of the entry's value changed.
fn with_changed_value(text: &str, name: &str) -> String {
    let value = value(text, name);
    let at = value.len() - 8;
    let other = if &value[at..=at] == "A" { "B" } else { "A" };
    let changed = [&value[..at], other, &value[at + 1..]].concat();
    text.replace(value, &changed)
}

/// Fault: a user passes only keys that can unseal none of the values, but lint counts the values as checked.
#[test]
fn lint_counts_v2_values_that_its_keys_cannot_check() {
    let directory = directory_with_object("[cluster.txt]");
    let directory = directory.path();
    for keys in [
        &["escrow.key"][..],
        &["key.pem"],
        &["escrow.key", "key.pem"],
    ] {
        let output = lint(directory, keys);
        assert_code(&output, 0, format!("{keys:?}"));
        assert_contains(&output, UNCHECKED_ITEMS, format!("{keys:?}"));
    }
    let output = lint(directory, &["escrow.key", "cluster.key"]);
    assert_code(&output, 0, "the right key");
    assert_contains(&output, "nothing found", "the right key");
    assert!(!combined_output(&output).contains("could not be checked with"));
}

/// Attack: a committer damages v2 values, swaps them, or copies one to another name.
#[test]
fn lint_reports_v2_values_that_their_key_cannot_unseal() {
    let directory = directory_with_object("[cluster.txt]");
    let directory = directory.path();
    let text = read(directory, "db.yaml");
    let (a, b) = (value(&text, "a"), value(&text, "b"));
    let copied = text.replace(b, a);
    let swapped = text
        .replace(a, "x")
        .replace(b, a)
        .replace(": x\n", &format!(": {b}\n"));
    for (case, changed, items) in [
        ("damaged", with_changed_value(&text, "a"), &["a"][..]),
        ("swapped", swapped, &["a", "b"]),
        ("copied", copied, &["b"]),
    ] {
        write_files(directory, &[("db.yaml", &changed)]);
        assert_code(&lint(directory, &["escrow.key"]), 0, case);
        let output = lint(directory, &["cluster.key"]);
        assert_code(&output, 1, case);
        assert_contains(&output, "closed-item", case);
        let printed = combined_output(&output);
        assert_eq!(
            printed.matches(CANNOT_UNSEAL).count(),
            items.len(),
            "{case}: {printed}"
        );
        for item in items {
            assert_contains(&output, &format!("{item} names the key"), case);
        }
    }
}

/// Attack: a committer damages the stanza of one recipient, so that only the escrow key still unseals the values.
#[test]
fn lint_tries_each_recipient_of_v2_values() {
    let directory = directory_with_object("[cluster.txt, escrow.txt]");
    let directory = directory.path();
    let text = read(directory, "db.yaml");
    let id = read(directory, "cluster.txt");
    let id = id.split(' ').nth(2).expect("an identifier");
    let lines = text.lines().map(str::trim_start);
    let stanza = lines.filter_map(|line| line.split_once(": "));
    let mut stanza = stanza.filter(|(name, _)| name.trim_matches(['"', '\'']).ends_with(id));
    let (name, _) = stanza.next().expect("a stanza for the cluster");
    write_files(directory, &[("db.yaml", &with_changed_value(&text, name))]);
    assert_code(&lint(directory, &["escrow.key"]), 0, "escrow");
    let output = lint(directory, &["escrow.key", "cluster.key"]);
    assert_code(&output, 1, "cluster");
    assert_contains(
        &output,
        &format!("a names the key {id} of --keys"),
        "cluster",
    );
}
