//! Checks that every third-party crate comes from crates.io with a checksum, and that every direct dependency has a
//! stated reason.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Returns the checksums of third-party crates, by name and version.
fn locked_checksums() -> BTreeMap<(String, String), String> {
    let lock: toml::Table = fs::read_to_string(root().join("Cargo.lock"))
        .unwrap()
        .parse()
        .unwrap();
    let third_party = lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|package| {
            let text = |field: &str| {
                package
                    .get(field)
                    .and_then(|v| v.as_str())
                    .map(str::to_owned)
            };
            let source = text("source")?;
            let name = (text("name").unwrap(), text("version").unwrap());
            assert_eq!(source, CRATES_IO, "{name:?}");
            let checksum = text("checksum").unwrap_or_else(|| panic!("{name:?} has no checksum"));
            Some((name, checksum))
        });
    third_party.collect()
}

/// Attack: a contributor adds a dependency without a reason, or from another registry, to bring in their own code.
#[test]
fn every_direct_dependency_has_a_reason_and_every_crate_a_checksum() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, table) = manifest.split_once("[workspace.dependencies]").unwrap();
    let (table, _) = table.split_once("\n[").unwrap();
    let third_party: Vec<&str> = table
        .lines()
        .filter(|line| line.contains(" = ") && !line.contains("path = "))
        .collect();
    assert!(
        third_party.len() > 40,
        "only {} were found",
        third_party.len()
    );
    for line in third_party {
        let reason = line.split_once(" # ").map_or("", |(_, reason)| reason);
        assert!(reason.len() > 5, "no reason: {line}");
    }
    assert!(locked_checksums().len() > 100);
}

/// Fault: the SBOM lacks a central crate of the programs or a checksum, or lists a crate that only tests use.
#[test]
fn the_sbom_lists_central_crates_with_checksums_and_no_test_dependencies() {
    let output = Command::new(root().join("deploy/scripts/sbom.sh"))
        .arg("x86_64-unknown-linux-musl")
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    let sbom: Value = serde_json::from_slice(&output.stdout).unwrap();
    let locked_checksums = locked_checksums();
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut names = Vec::new();
    for component in sbom["components"].as_array().unwrap() {
        let text = |field: &str| component[field].as_str().unwrap().to_owned();
        let name = (text("name"), text("version"));
        if let Some(checksum) = locked_checksums.get(&name) {
            assert_eq!(
                component["hashes"][0]["content"],
                checksum.as_str(),
                "{name:?}"
            );
        } else {
            let workspace_entry = format!("\n{} = {{ path = ", name.0);
            assert!(manifest.contains(&workspace_entry), "{name:?}");
        }
        names.push(name.0);
    }
    for name in ["aws-lc-rs", "aws-lc-sys", "kube", "rustls", "tokio"] {
        assert!(names.iter().any(|listed| listed == name), "{name}");
    }
    // Includes the pure-Rust `rsa`, whose timing leaks the key (RUSTSEC-2023-0071).
    for name in ["rsa", "aes-gcm", "proptest", "libfuzzer-sys"] {
        assert!(names.iter().all(|listed| listed != name), "{name}");
    }
}
