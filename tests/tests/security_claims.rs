//! What `SECURITY.md` claims is held by tests: those that it names are there.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Names of tests and the files they stand in: links like ``[`name`](file)``.
fn named_tests(line: &str) -> Vec<(&str, &str)> {
    let links = line.split("[`").skip(1);
    links
        .filter_map(|text| {
            let (name, rest) = text.split_once("`](")?;
            Some((name, rest.split_once(')')?.0))
        })
        .collect()
}

#[test]
fn every_claim_names_a_test_that_is_there() {
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let claims = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.ends_with("| shown by |"));
    let mut count = 0;
    for claim in claims {
        let tests = named_tests(claim);
        assert!(!tests.is_empty(), "no test shows it: {claim}");
        for (name, file) in tests {
            let source = fs::read_to_string(root().join(file));
            let source = source.unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(
                source.contains(&format!("fn {name}(")),
                "{file} has no test {name}"
            );
        }
        count += 1;
    }
    assert!(count > 20, "only {count} claims were found");
}
