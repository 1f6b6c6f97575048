//! Checks that the tests that `SECURITY.md` names exist, and that each documents the attack or fault that it causes.

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

/// Returns the names of tests and their files: links like ``[`name`](file)``.
fn linked_tests(line: &str) -> Vec<(&str, &str)> {
    let links = line.split("[`").skip(1);
    links
        .filter_map(|text| {
            let (name, rest) = text.split_once("`](")?;
            Some((name, rest.split_once(')')?.0))
        })
        .collect()
}

/// Returns the lines of a function's doc comment and attributes; `None` if there is no such function.
fn doc_comment<'a>(source: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let function = source.find(&format!("fn {name}("))?;
    let preceding_lines = source[..function].rsplit('\n').skip(1);
    let is_comment_or_attribute = |line: &&str| {
        let line = line.trim();
        line.starts_with("///") || line.starts_with("#[") || line.ends_with(")]")
    };
    Some(
        preceding_lines
            .map(str::trim)
            .take_while(is_comment_or_attribute)
            .collect(),
    )
}

#[test]
fn every_claim_names_a_test_with_its_attack_or_fault() {
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let claims = text
        .lines()
        .skip_while(|line| *line != "## Threats")
        .filter(|line| line.starts_with("| ") && !line.ends_with("| shown by |"));
    let mut count = 0;
    for claim in claims {
        let tests = linked_tests(claim);
        assert!(!tests.is_empty(), "no test for the claim: {claim}");
        for (name, file) in tests {
            let source = fs::read_to_string(root().join(file));
            let source = source.unwrap_or_else(|error| panic!("{file}: {error}"));
            let doc = doc_comment(&source, name);
            let doc = doc.unwrap_or_else(|| panic!("{file} has no test {name}"));
            let is_prefixed =
                |line: &&str| line.starts_with("/// Attack: ") || line.starts_with("/// Fault: ");
            assert!(
                doc.iter().any(is_prefixed),
                "{file}: {name} documents neither its attack (`/// Attack: …`) nor its fault (`/// Fault: …`)"
            );
        }
        count += 1;
    }
    assert!(count > 20, "only {count} claims were found");
}
