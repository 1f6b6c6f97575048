//! 3,000 files in every layout: an edit changes what it must and nothing else. Go's own YAML library
//! determines the meaning of a file before and after; a comparison of lines determines what stayed the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod made;

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

use made::Made;

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

/// Returns each document that is not empty, as Go reads it.
fn meaning(upstream: &Upstream, text: &str) -> Vec<Value> {
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

fn comments(lines: &[&str]) -> usize {
    lines.iter().map(|line| line.matches('#').count()).sum()
}

/// Edits the SealedSecret of a file.
fn edited(made: &Made, changes: &Changes<'_>) -> Result<String, edit::EditError> {
    let documents = manifest::read(made.text.as_bytes()).unwrap();
    let found = sealed_file::find(&documents).unwrap();
    let [found] = found.as_slice() else {
        panic!("{}", made.text)
    };
    let done = edit::apply(made.text.as_bytes(), &found.edits(changes))?;
    Ok(String::from_utf8(done).unwrap())
}

fn changes(set: &[(&str, &str)], removed: &[&str]) -> Changes<'static> {
    let owned = |(key, text): &(&str, &str)| ((*key).to_owned(), (*text).to_owned());
    Changes {
        texts: set.iter().map(owned).collect(),
        removed: removed.iter().map(|key| (*key).to_owned()).collect(),
        data: None,
        hints: HintRule::Drop,
    }
}

/// Attack: edits files of every layout and compares all other bytes.
#[test]
fn set_and_unset_change_what_they_must_and_nothing_else() {
    let upstream = Upstream::start().unwrap();
    for seed in 0..FILES {
        let mut rng = StdRng::seed_from_u64(seed);
        let made = made::file(&mut rng, &mut placeholder);
        let before = meaning(&upstream, &made.text);
        let item = made.items[rng.random_range(0..made.items.len())].as_str();
        for (changes, lost, verb) in [
            (changes(&[(item, "AgX+/9==")], &[]), 0, "set"),
            (changes(&[("new.item", "AgX+/9==")], &[]), 0, "add"),
            // A comment on the line of the item is removed with it.
            (changes(&[], &[item]), 2, "unset"),
        ] {
            let after = edited(&made, &changes);
            let after = after.unwrap_or_else(|e| panic!("{seed}: {e}\n{}", made.text));
            let mut wanted = before.clone();
            let data = wanted[made.document]["spec"]["encryptedData"]
                .as_object_mut()
                .unwrap();
            for (key, text) in &changes.texts {
                data.insert(key.clone(), text.clone().into());
            }
            for key in &changes.removed {
                data.remove(key);
            }
            let shown = || {
                format!(
                    "{verb} {item}, seed {seed}:\n{}\n--- became\n{after}",
                    made.text
                )
            };
            assert_eq!(meaning(&upstream, &after), wanted, "{}", shown());
            let (gone, came) = changed_lines(&made.text, &after);
            let most = if verb == "unset" { 8 } else { 4 };
            assert!(gone.len() <= most && came.len() <= most, "{}", shown());
            assert!(comments(&gone) <= comments(&came) + lost, "{}", shown());
        }
    }
}

#[test]
fn rotate_changes_only_values_and_a_second_run_changes_nothing() {
    let (upstream, folder) = (Upstream::start().unwrap(), Scratch::new());
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
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let files: Vec<(PathBuf, Made)> = (0..FILES)
        .map(|seed| {
            let made = made::file(&mut StdRng::seed_from_u64(seed), &mut seal);
            let path = tree.join(format!("{seed}.{}", made.ending));
            fs::write(&path, &made.text).unwrap();
            (path, made)
        })
        .collect();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
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
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"))
    };
    let first = rotate();
    assert_eq!(first["failed"], 0, "{first:#}");

    let ring = KeyRing::new([RingKey::new("new".into(), jiff::Timestamp::MIN, new.pair).into()]);
    for (path, made) in &files {
        let after = fs::read_to_string(path).unwrap();
        let documents = manifest::read(after.as_bytes()).unwrap();
        let found = sealed_file::find(&documents).unwrap();
        let values = unseal::unseal_values(&found[0].sealed, &ring).unwrap();
        let wanted: BTreeMap<String, Vec<u8>> = made
            .items
            .iter()
            .map(|key| (key.clone(), key.clone().into_bytes()))
            .collect();
        let values: BTreeMap<String, Vec<u8>> = values
            .into_iter()
            .map(|(key, value)| (key, value.expose().to_vec()))
            .collect();
        assert_eq!(values, wanted);

        let (mut before, mut now) = (meaning(&upstream, &made.text), meaning(&upstream, &after));
        for documents in [&mut before, &mut now] {
            let data = documents[made.document]["spec"]["encryptedData"]
                .as_object_mut()
                .unwrap();
            data.values_mut().for_each(|value| *value = "sealed".into());
        }
        assert_eq!(now, before, "{}\n--- became\n{after}", made.text);
        let lines = |text: &str| text.split('\n').map(str::to_owned).collect::<Vec<_>>();
        let lines: (Vec<_>, Vec<_>) = (lines(&made.text), lines(&after));
        let (all, now): (Vec<&str>, Vec<&str>) = (
            lines.0.iter().map(String::as_str).collect(),
            lines.1.iter().map(String::as_str).collect(),
        );
        assert_eq!(
            comments(&all),
            comments(&now),
            "{}\n--- became\n{after}",
            made.text
        );
    }
    assert_eq!(rotate()["rotated"], 0);
}
