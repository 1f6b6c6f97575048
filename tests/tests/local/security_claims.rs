//! Checks that the tests that `SECURITY.md` names exist and run, and that each documents the attack or fault that it
//! causes.

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

/// Tests that are ignored by default, because a sample of their cases runs in another test of the same row.
const IGNORED: [&str; 1] = ["reads_every_changed_certificate_as_the_programs_do_or_refuses_it"];

/// Returns whether the line begins the function with this name.
fn begins_function(line: &str, name: &str) -> bool {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    let rest = line
        .strip_prefix("fn ")
        .and_then(|rest| rest.strip_prefix(name));
    rest.is_some_and(|rest| rest.starts_with('('))
}

/// Returns the lines of a function's doc comment and attributes; `None` if there is no such function.
fn doc_comment<'a>(source: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let function = lines.iter().position(|line| begins_function(line, name))?;
    let is_comment_or_attribute =
        |line: &&&str| line.starts_with("///") || line.starts_with("#[") || line.ends_with(")]");
    let preceding_lines = lines[..function].iter().rev();
    Some(
        preceding_lines
            .take_while(is_comment_or_attribute)
            .copied()
            .collect(),
    )
}

/// Returns why the function with these lines above it does not run as a test that documents its attack or fault.
fn defect(doc: &[&str], name: &str) -> Option<&'static str> {
    let has = |prefix: &str| doc.iter().any(|line| line.starts_with(prefix));
    if !has("#[test]") && !has("#[tokio::test]") && !has("#[tokio::test(") {
        return Some("is not a test");
    }
    if has("#[ignore") && !IGNORED.contains(&name) {
        return Some("is ignored");
    }
    let is_documented = has("/// Attack: ") || has("/// Fault: ");
    (!is_documented)
        .then_some("documents neither its attack (`/// Attack: …`) nor its fault (`/// Fault: …`)")
}

#[test]
fn accepts_only_tests_that_run_and_document_their_attack() {
    for (source, want) in [
        ("/// Attack: x\n#[test]\nfn a() {", None),
        (
            "    /// Fault: x\n    #[tokio::test(\n)]\n    pub async fn a() {",
            None,
        ),
        ("/// Attack: x\nfn a() {", Some("is not a test")),
        ("/// Attack: x\n// #[test]\nfn a() {", Some("is not a test")),
        (
            "/// Attack: x\n#[test]\n#[ignore]\nfn a() {",
            Some("is ignored"),
        ),
        (
            "/// Attack: x\n#[test]\n#[ignore = \"slow\"]\nfn a() {",
            Some("is ignored"),
        ),
    ] {
        let doc = doc_comment(source, "a").unwrap();
        assert_eq!(defect(&doc, "a"), want, "{source}");
    }
    for source in ["// fn a() {", "let x = \"fn a(\";", "#[test]\nfn ab() {"] {
        assert_eq!(doc_comment(source, "a"), None, "{source}");
    }
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
            assert_eq!(defect(&doc, name), None, "{file}: {name}");
        }
        count += 1;
    }
    assert!(count > 20, "only {count} claims were found");
}
