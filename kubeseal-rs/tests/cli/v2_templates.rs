//! Tests values that are not bound to the template of their object, and how they become bound.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;

use serde_json::Value as Json;

use crate::support::{assert_code, assert_contains, combined_output, git, stderr, write_files};
use crate::v2::{RULES, create, directory, read, seal, seal_ok};
use crate::v2_attacks::{assert_refused, is_bound, line_of, set};

const V1_ARGS: [&str; 4] = ["--sealed-format", "v1", "--cert", "cert.pem"];
/// Further arguments of `seal create`, for a second item and the output file.
const SECOND_ITEM_ARGS: [&str; 4] = ["--from-file", "b=value", "-w", "db.yaml"];

/// Returns a directory with `db.yaml`, which has two v1 values, under a rule for v2.
fn directory_with_v1_values() -> tempfile::TempDir {
    let directory = directory();
    create(directory.path(), &[SECOND_ITEM_ARGS, V1_ARGS].concat());
    directory
}

fn unbound_rules() -> String {
    RULES.to_owned() + "  bindTemplate: false\n"
}

/// Lint reports objects with bound and unbound values, and unbound values where the rule requires bound values.
#[test]
fn lint_reports_unbound_values() {
    let directory = directory();
    let directory = directory.path();
    write_files(directory, &[(".seal.yaml", &unbound_rules())]);
    create(directory, &SECOND_ITEM_ARGS);
    assert_eq!(findings(directory), [""; 0]);
    write_files(directory, &[(".seal.yaml", RULES)]);
    assert_eq!(findings(directory), ["unbound-value", "unbound-value"]);
    seal_ok(directory, &set("a"));
    assert!(is_bound(directory, "a") && !is_bound(directory, "b"));
    assert_eq!(findings(directory), ["partly-bound", "unbound-value"]);
    write_files(directory, &[(".seal.yaml", &unbound_rules())]);
    assert_eq!(findings(directory), ["partly-bound"]);
    let output = seal(directory, &["lint", "db.yaml"]);
    assert_contains(
        &output,
        "not bound to the template, so controllers with --require-v2 refuse the object: b;",
        "lint",
    );
    let keys = [
        "--to",
        "v2",
        "--bind-template",
        "--yes",
        "--key",
        "cluster.key",
    ];
    seal_ok(directory, &[&["rotate", "db.yaml"], &keys[..]].concat());
    write_files(directory, &[(".seal.yaml", RULES)]);
    assert_eq!(findings(directory), [""; 0]);
}

/// Returns the names of the lint rules of the findings in `db.yaml`, sorted.
fn findings(directory: &Path) -> Vec<String> {
    let output = seal(directory, &["lint", "db.yaml", "--format", "json"]);
    let report: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = report.as_array().expect("a list").iter();
    let rule = |finding: &Json| finding["rule"].as_str().expect("a name").to_owned();
    let mut rules: Vec<String> = findings.map(rule).collect();
    rules.sort();
    rules
}

/// Attack: a committer changes the template of a file, and a user with the keys binds the values to the template
/// without seeing it.
#[test]
fn a_template_is_shown_and_confirmed_before_values_are_bound_to_it() {
    let directory = directory_with_v1_values();
    let directory = directory.path();
    let text = read(directory, "db.yaml").trim_end().to_owned()
        + "\n    type: Opaque\n    data:\n      url: |\n        https://attacker/\n        {{ .a }}\n";
    let annotated = text.replace(
        "    metadata:\n",
        "    metadata:\n      annotations:\n        reflector/auto: \"true\"\n",
    );
    assert_ne!(annotated, text);
    write_files(directory, &[("db.yaml", &annotated)]);
    let keys = ["--key", "key.pem", "--key", "cluster.key"];
    let rotate = ["rotate", "db.yaml", "--to", "v2", "--bind-template"];
    let rotate = [&rotate[..], &keys].concat();
    let shown = "shop/db: values are bound to this template:\n  type Opaque\n  annotation reflector/auto=true\n  item url \
                 from a template of 2 lines\n";
    let output = assert_refused(
        directory,
        &rotate,
        "db.yaml",
        "a user must confirm the templates",
    );
    assert!(stderr(&output).contains(shown), "{}", stderr(&output));

    let dry_run = seal_ok(directory, &[&rotate[..], &["--dry-run"]].concat());
    assert!(
        dry_run.contains(shown) && !dry_run.contains("must confirm"),
        "{dry_run}"
    );
    assert_eq!(read(directory, "db.yaml"), annotated);

    let output = seal(directory, &[&rotate[..], &["--yes", "-o", "json"]].concat());
    assert_code(&output, 0, "--yes");
    assert!(stderr(&output).contains(shown), "{}", stderr(&output));
    let report: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    let template = &report["files"][0]["objects"][0]["template"];
    assert_eq!(template["annotations"][0], "reflector/auto=true");
    assert_eq!(template["data"][0]["lines"], 2);
    assert!(is_bound(directory, "a"));

    // Values that are already bound stay bound, without a question.
    let again = seal_ok(directory, &rotate);
    assert!(!again.contains("this template"), "{again}");
    // A conversion without --bind-template asks no question.
    let conversion = [&["rotate", "db.yaml", "--to", "v2"][..], &keys].concat();
    assert!(!seal_ok(directory, &conversion).contains("this template"));
}

/// A new value in a file with v1 values is sealed as v1 even if the rule requires v2, since controllers refuse bound
/// values together with v1 values.
#[test]
fn a_file_with_v1_values_keeps_its_format() {
    let directory = directory_with_v1_values();
    let directory = directory.path();
    let before = read(directory, "db.yaml");
    let printed = seal_ok(
        directory,
        &[&set("a")[..], &["--cert", "cert.pem"]].concat(),
    );
    for want in [
        "warning: shop/db: the new value is sealed as v1 like the item \"b\", although rule 1 of",
        "`seal rotate --to v2 --bind-template --key FILE` converts all values",
    ] {
        assert!(printed.contains(want), "{printed}");
    }
    assert!(!read(directory, "db.yaml").contains("seal2"));
    assert_ne!(read(directory, "db.yaml"), before);
    // A flag requires v2 although the value cannot be bound.
    let flag = [&set("a")[..], &["--sealed-format", "v2"]].concat();
    assert_refused(directory, &flag, "db.yaml", "is bound to the template");
    // Unbound v2 values are allowed together with v1 values.
    write_files(directory, &[(".seal.yaml", &unbound_rules())]);
    seal_ok(directory, &set("a"));
    assert!(line_of(&read(directory, "db.yaml"), "a").contains("seal2.i."));
    // If the replaced value is the only v1 value, the rule applies.
    write_files(directory, &[(".seal.yaml", RULES), ("db.yaml", &before)]);
    seal_ok(directory, &["unset", "db.yaml", "b"]);
    seal_ok(directory, &set("a"));
    assert!(is_bound(directory, "a"));
}

/// Attack: a committer replaces v2 values with their own v1 values, so that the next value is sealed as v1.
#[test]
fn does_not_seal_as_v1_after_v2_values_were_replaced() {
    let directory = directory_with_v1_values();
    let directory = directory.path();
    let v1 = read(directory, "db.yaml");
    std::fs::remove_file(directory.join("db.yaml")).expect("the test owns the file");
    create(directory, &SECOND_ITEM_ARGS);
    git(directory, &["init", "-q"]);
    git(directory, &["add", "db.yaml"]);
    git(directory, &["commit", "-qm", "v2"]);
    write_files(directory, &[("db.yaml", &v1)]);
    let set = [&set("a")[..], &["--cert", "cert.pem"]].concat();
    let output = assert_refused(
        directory,
        &set,
        "db.yaml",
        "are v2 in the last commit, and v1 in the file",
    );
    assert_contains(&output, "seal diff", "the next step");
    git(directory, &["commit", "-qam", "v1"]);
    let output = seal(directory, &set);
    assert_code(&output, 0, combined_output(&output));
}
