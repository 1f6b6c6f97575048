//! Tests edits of 3,000 files of random layout: an edit changes only the item. Go's YAML library parses YAML files
//! before and after the edit; a comparison of lines finds the changes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod generated;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use shared::key::{KeySize, KeySpec, NewKey};
use shared::key_ring::{KeyRing, RingKey};
use shared::manifest::{self, edit};
use shared::scope::Scope;
use shared::sealed_file::{self, Changes, HintRule};
use shared::{base64, envelope, unseal};
use tests::binaries;
use tests::scratch::Scratch;
use tests::upstream::Upstream;

use generated::GeneratedFile;

const FILES: u64 = 3000;

fn new_key() -> NewKey {
    let spec = KeySpec {
        size: KeySize::Rsa2048,
        ttl: jiff::SignedDuration::from_hours(24),
        common_name: String::new(),
    };
    spec.generate(jiff::Timestamp::now(), &mut shared::random::system())
        .unwrap()
}

fn placeholder(_: &str, _: &str, key: &str) -> String {
    format!("Ag{}/+{}==", "B".repeat(key.len()), "xY9".repeat(20))
}

/// Returns each document that is not empty: as Go parses it in YAML, or as `serde_json` parses a JSON file.
fn parse_documents(upstream: &Upstream, text: &str) -> Vec<Value> {
    let text = text.trim_start_matches('\u{feff}');
    if text.starts_with('{') {
        return vec![serde_json::from_str(text).unwrap()];
    }
    let mut documents = vec![String::new()];
    for line in text.split_inclusive('\n') {
        if line.starts_with("---") {
            documents.push(String::new());
        } else if !line.starts_with("...") {
            documents.last_mut().unwrap().push_str(line);
        }
    }
    let read = documents.iter().map(|d| {
        upstream
            .parse(d.as_bytes())
            .unwrap_or_else(|e| panic!("{e}: {d}"))
    });
    read.filter(|value| !value.is_null()).collect()
}

/// Returns the lines that differ, before and after, without the common lines at the beginning and end.
fn changed_lines<'a>(before: &'a str, after: &'a str) -> (Vec<&'a str>, Vec<&'a str>) {
    let lines = |text: &'a str| text.split_inclusive('\n').collect::<Vec<_>>();
    let (mut a, mut b) = (lines(before), lines(after));
    while !a.is_empty() && a.first() == b.first() {
        a.remove(0);
        b.remove(0);
    }
    while !a.is_empty() && a.last() == b.last() {
        a.pop();
        b.pop();
    }
    (a, b)
}

fn count_comments(lines: &[&str]) -> usize {
    lines.iter().map(|line| line.matches('#').count()).sum()
}

/// Edits the SealedSecret in a file.
fn edit_file(file: &GeneratedFile, changes: &Changes<'_>) -> Result<String, edit::EditError> {
    let documents = manifest::read(file.text.as_bytes()).unwrap();
    let sealed_files = sealed_file::find(&documents).unwrap();
    let [sealed_file] = sealed_files.as_slice() else {
        panic!("{}", file.text)
    };
    let edited = edit::apply(file.text.as_bytes(), &sealed_file.edits(changes))?;
    Ok(String::from_utf8(edited).unwrap())
}

fn changes(set: &[(&str, &str)], removed: &[&str]) -> Changes<'static> {
    let owned = |(key, text): &(&str, &str)| ((*key).to_owned(), (*text).to_owned());
    Changes {
        texts: set.iter().map(owned).collect(),
        removed: removed.iter().map(|key| (*key).to_owned()).collect(),
        data: None,
        hints: HintRule::Drop,
        dates: BTreeMap::new(),
    }
}

/// Fault: an edit of a file of any layout changes more than the item: another value, a comment or other lines.
#[test]
fn set_and_unset_change_only_the_item() {
    let upstream = Upstream::start().unwrap();
    for seed in 0..FILES {
        let mut rng = StdRng::seed_from_u64(seed);
        let file = generated::generate_file(&mut rng, &mut placeholder);
        let before = parse_documents(&upstream, &file.text);
        let item = file.items[rng.random_range(0..file.items.len())].as_str();
        for (changes, lost_comments, verb) in [
            (changes(&[(item, "AgX+/9==")], &[]), 0, "set"),
            (changes(&[("new.item", "AgX+/9==")], &[]), 0, "add"),
            // A comment on the line of the item is removed with it.
            (changes(&[], &[item]), 2, "unset"),
        ] {
            let after = edit_file(&file, &changes);
            let after = after.unwrap_or_else(|e| panic!("{seed}: {e}\n{}", file.text));
            let mut expected = before.clone();
            let data = expected[file.document]["spec"]["encryptedData"]
                .as_object_mut()
                .unwrap();
            for (key, text) in &changes.texts {
                data.insert(key.clone(), text.clone().into());
            }
            for key in &changes.removed {
                data.remove(key);
            }
            let describe = || {
                format!(
                    "{verb} {item}, seed {seed}:\n{}\n--- became\n{after}",
                    file.text
                )
            };
            assert_eq!(
                parse_documents(&upstream, &after),
                expected,
                "{}",
                describe()
            );
            let (removed_lines, added_lines) = changed_lines(&file.text, &after);
            let limit = if verb == "unset" { 8 } else { 4 };
            assert!(
                removed_lines.len() <= limit && added_lines.len() <= limit,
                "{}",
                describe()
            );
            assert!(
                count_comments(&removed_lines) <= count_comments(&added_lines) + lost_comments,
                "{}",
                describe()
            );
        }
    }
}

#[test]
fn rotate_changes_only_values_and_a_second_run_changes_nothing() {
    let (upstream, directory) = (Upstream::start().unwrap(), Scratch::new());
    let (old, new) = (new_key(), new_key());
    let mut seal = |namespace: &str, name: &str, key: &str| {
        let label = Scope::Strict.label(namespace, name);
        let public = old.pair.certificate().public_key();
        base64::encode(
            &envelope::seal(
                public,
                &label,
                key.as_bytes(),
                &mut shared::random::system(),
            )
            .unwrap(),
        )
    };
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let files: Vec<(PathBuf, GeneratedFile)> = (0..FILES)
        .map(|seed| {
            let file = generated::generate_file(&mut StdRng::seed_from_u64(seed), &mut seal);
            let path = tree.join(format!("{seed}.{}", file.extension));
            fs::write(&path, &file.text).unwrap();
            (path, file)
        })
        .collect();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    write("old.pem", old.private_pem.expose());
    write("new.pem", new.private_pem.expose());
    write("cert.pem", new.pair.certificate().to_pem().as_bytes());
    let rotate = || -> Value {
        let args = [
            "rotate", "--key", "old.pem", "--key", "new.pem", "--cert", "cert.pem", "-o", "json",
            "tree",
        ];
        let output = Command::new(binaries::seal())
            .args(args)
            .current_dir(directory.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"))
    };
    let summary = rotate();
    assert_eq!(summary["failed"], 0, "{summary:#}");

    let ring = KeyRing::new([RingKey::new("new".into(), jiff::Timestamp::MIN, new.pair).into()]);
    for (path, file) in &files {
        let after = fs::read_to_string(path).unwrap();
        let documents = manifest::read(after.as_bytes()).unwrap();
        let sealed_files = sealed_file::find(&documents).unwrap();
        let values = unseal::unseal_values(&sealed_files[0].sealed, &ring).unwrap();
        let expected: BTreeMap<String, Vec<u8>> = file
            .items
            .iter()
            .map(|key| (key.clone(), key.clone().into_bytes()))
            .collect();
        let values: BTreeMap<String, Vec<u8>> = values
            .into_iter()
            .map(|(key, value)| (key, value.expose().to_vec()))
            .collect();
        assert_eq!(values, expected);

        let (mut before, mut rotated) = (
            parse_documents(&upstream, &file.text),
            parse_documents(&upstream, &after),
        );
        for documents in [&mut before, &mut rotated] {
            let data = documents[file.document]["spec"]["encryptedData"]
                .as_object_mut()
                .unwrap();
            data.values_mut().for_each(|value| *value = "sealed".into());
        }
        assert_eq!(rotated, before, "{}\n--- became\n{after}", file.text);
        let lines = |text: &str| text.split('\n').map(str::to_owned).collect::<Vec<_>>();
        let lines: (Vec<_>, Vec<_>) = (lines(&file.text), lines(&after));
        let (before, rotated): (Vec<&str>, Vec<&str>) = (
            lines.0.iter().map(String::as_str).collect(),
            lines.1.iter().map(String::as_str).collect(),
        );
        assert_eq!(
            count_comments(&before),
            count_comments(&rotated),
            "{}\n--- became\n{after}",
            file.text
        );
    }
    assert_eq!(rotate()["rotated"], 0);
}
