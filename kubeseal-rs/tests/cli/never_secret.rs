//! Tests values that can never become a Secret, SealedSecrets whose annotation requests that no Secret is created, and
//! lost protections.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;

use serde_json::Value as Json;

use crate::support::{assert_code, assert_contains, combined_output, command, git, write_files};
use crate::v2::{CREATE_ARGS, create, directory, read, seal, seal_ok};
use crate::v2_attacks::{assert_refused, is_bound, set};

const NEVER_SECRET_ARGS: [&str; 3] = ["--never-secret", "-w", "db.yaml"];
const DELIVER_LINE: &str = "sealedsecrets.bitnami.com/deliver: files\n";

/// Returns whether each item of `db.yaml` has the flag that forbids a Secret, by name.
fn flags(directory: &Path) -> Vec<(String, bool)> {
    let output = seal(directory, &["view", "db.yaml", "-o", "json"]);
    let report: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    let items = report["items"].as_array().expect("a list").iter();
    let flag = |item: &Json| {
        let name = item["key"].as_str().expect("a name").to_owned();
        (name, item["v2"]["neverSecret"] == true)
    };
    items.map(flag).collect()
}

#[track_caller]
fn assert_flags(directory: &Path, want: &[(&str, bool)]) {
    let flags = flags(directory);
    let flags: Vec<_> = flags
        .iter()
        .map(|(name, is)| (name.as_str(), *is))
        .collect();
    assert_eq!(flags, want);
}

#[test]
fn values_never_become_a_secret_after_set_edit_and_rotate() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &NEVER_SECRET_ARGS);
    assert_flags(directory, &[("a", true)]);
    seal_ok(directory, &set("b"));
    assert_flags(directory, &[("a", true), ("b", true)]);

    let before = read(directory, "db.yaml");
    seal_ok(directory, &["rotate", "db.yaml", "--key", "cluster.key"]);
    assert_flags(directory, &[("a", true), ("b", true)]);
    assert_ne!(read(directory, "db.yaml"), before);

    let mut edit = command(env!("CARGO_BIN_EXE_seal"), directory, "/nowhere");
    edit.args(["edit", "db.yaml", "--key", "cluster.key"]);
    edit.env("EDITOR", "sed -i -e s/horse/edited/");
    let output = edit
        .current_dir(directory)
        .output()
        .expect("the command starts");
    assert_code(&output, 0, "edit");
    assert_flags(directory, &[("a", true), ("b", true)]);

    assert!(is_bound(directory, "a") && is_bound(directory, "b"));
    let revealed = seal_ok(
        directory,
        &["view", "db.yaml", "--reveal", "--key", "cluster.key"],
    );
    assert_eq!(revealed.matches("correct edited").count(), 2, "{revealed}");
    assert_code(&seal(directory, &["lint", "db.yaml"]), 0, "lint");
}

/// v1 has no flag, so a conversion would allow a Secret.
#[test]
fn refuses_to_convert_values_that_never_become_a_secret_to_v1() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &NEVER_SECRET_ARGS);
    let rotate = ["rotate", "db.yaml", "--to", "v1", "--cert", "cert.pem"];
    let rotate = [&rotate[..], &["--key", "cluster.key"]].concat();
    assert_refused(directory, &rotate, "db.yaml", "which v1 cannot express");
}

#[test]
fn refuses_never_secret_for_v1_before_values_are_read() {
    let directory = directory();
    let directory = directory.path();
    let v1 = ["--sealed-format", "v1", "--cert", "cert.pem"];
    let missing = ["create", "db", "-n", "shop", "--from-file", "a=missing"];
    let generate = ["generate", "db", "a=hex", "-n", "shop"];
    for args in [&missing[..], &generate] {
        let output = seal(directory, &[args, &v1, &NEVER_SECRET_ARGS].concat());
        assert_code(&output, 2, args[0]);
        assert_contains(
            &output,
            "--never-secret has no effect on values sealed as v1",
            args[0],
        );
        assert_contains(&output, "hint: pass --sealed-format v2", args[0]);
        assert!(!directory.join("db.yaml").exists());
    }
}

#[test]
fn generated_values_never_become_a_secret_if_requested() {
    let directory = directory();
    let directory = directory.path();
    let generate = ["generate", "db", "a=hex", "-n", "shop"];
    seal_ok(directory, &[&generate[..], &NEVER_SECRET_ARGS].concat());
    assert_flags(directory, &[("a", true)]);
}

/// Attack: a committer replaces the values of a file with values that may become a Secret, or removes them, so that the
/// next value may too.
#[test]
fn refuses_new_values_of_a_file_that_lost_the_flag() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &["-w", "own.yaml"]);
    create(directory, &NEVER_SECRET_ARGS);
    git(directory, &["init", "-q"]);
    git(directory, &["add", "db.yaml"]);
    git(directory, &["commit", "-qm", "flag"]);
    write_files(directory, &[("db.yaml", &read(directory, "own.yaml"))]);
    let output = assert_refused(
        directory,
        &set("a"),
        "db.yaml",
        "can never become a Secret in the last commit",
    );
    assert_contains(&output, "seal diff", "the next step");

    git(directory, &["checkout", "-q", "db.yaml"]);
    seal_ok(directory, &["unset", "db.yaml", "a"]);
    seal_ok(directory, &set("b"));
    assert_flags(directory, &[("b", true)]);

    write_files(directory, &[("db.yaml", &read(directory, "own.yaml"))]);
    git(directory, &["commit", "-qam", "no flag"]);
    seal_ok(directory, &set("a"));
    assert_flags(directory, &[("a", false)]);
}

/// Fault: the annotation for delivery is put on the template, where the controller ignores it, and a Secret is created.
#[test]
fn deliver_annotates_the_sealed_secret_and_not_its_template() {
    let v1 = ["--sealed-format", "v1", "--cert", "cert.pem"];
    let generate = ["generate", "db", "a=hex", "-n", "shop"];
    let deliver = ["--deliver", "files", "-w", "db.yaml"];
    for (command, format) in [
        (&CREATE_ARGS[..], &v1[..]),
        (&CREATE_ARGS, &[]),
        (&generate, &v1),
        (&generate, &[]),
    ] {
        let directory = directory();
        let directory = directory.path();
        seal_ok(directory, &[command, format, &deliver].concat());
        let text = read(directory, "db.yaml");
        let (metadata, spec) = text.split_once("\nspec:\n").expect("a spec");
        assert!(metadata.contains(DELIVER_LINE), "{text}");
        assert!(!spec.contains("deliver"), "{text}");
        write_files(directory, &[(".seal.yaml", "rules: []\n")]);
        let lint = seal(directory, &["lint", "db.yaml"]);
        assert_code(&lint, 0, "lint");
        assert_contains(&lint, "[deliver]", "lint");
    }
}

#[test]
fn lint_reports_no_annotation_if_the_flag_forbids_a_secret() {
    let directory = directory();
    let directory = directory.path();
    let deliver = ["--deliver", "files"];
    create(directory, &[&deliver[..], &NEVER_SECRET_ARGS].concat());
    assert!(read(directory, "db.yaml").contains(DELIVER_LINE));
    let lint = seal(directory, &["lint", "db.yaml"]);
    assert_code(&lint, 0, "lint");
    assert_contains(&lint, "nothing found", "lint");
    assert!(!combined_output(&lint).contains("[deliver]"));
}

/// Fault: the user annotates or labels the Secret, and believes that this has an effect.
#[test]
fn refuses_annotations_that_have_an_effect_only_on_the_sealed_secret() {
    let directory = directory();
    let directory = directory.path();
    let generate = ["generate", "db", "a=hex", "-n", "shop"];
    for command in [&CREATE_ARGS[..], &generate] {
        for (name, hint) in [
            ("deliver", "pass --deliver files"),
            (
                "keep-previous",
                "to metadata.annotations of the SealedSecret",
            ),
            ("refresh", "to metadata.annotations of the SealedSecret"),
            ("key-hints", "omit it"),
        ] {
            let pair = format!("sealedsecrets.bitnami.com/{name}=x");
            for flag in ["--annotation", "--label"] {
                let more = [flag, &pair, "-w", "db.yaml"];
                let output = seal(directory, &[command, &more].concat());
                assert_code(&output, 2, name);
                assert_contains(&output, "has an effect only on the SealedSecret", name);
                assert_contains(&output, hint, name);
                assert!(!directory.join("db.yaml").exists());
            }
        }
    }
}

/// Fault: the user annotates the Secret in a file, believes that the annotation has an effect, and the Secret is
/// created. `kubeseal` prints no warning, like upstream.
#[test]
fn warns_about_annotations_in_files_that_have_an_effect_only_on_the_sealed_secret() {
    let directory = directory();
    let directory = directory.path();
    let secret = "kind: Secret\nmetadata:\n  name: db\n  namespace: shop\n  annotations: \
                  {sealedsecrets.bitnami.com/deliver: files}\nstringData: {a: b}\n";
    write_files(directory, &[("secret.yaml", secret)]);
    let want = "secret.yaml: the annotation sealedsecrets.bitnami.com/deliver of the Secret \"db\" has no effect";
    let output = seal(directory, &["secret.yaml"]);
    assert_code(&output, 0, "seal");
    assert_contains(&output, want, "seal");
    assert_contains(&output, "seal create --deliver files", "the next step");
    let mut kubeseal = command(env!("CARGO_BIN_EXE_kubeseal"), directory, "/nowhere");
    kubeseal.args(["--cert", "cert.pem", "-f", "secret.yaml"]);
    let output = kubeseal
        .current_dir(directory)
        .output()
        .expect("the command starts");
    assert_code(&output, 0, "kubeseal");
    assert!(!combined_output(&output).contains("has no effect"));
}

/// Attack: a committer replaces values that can never become a Secret, or that are bound to the template, with their
/// own values without the protection, or removes the annotation for delivery, and a reviewer reads `seal diff`.
#[test]
fn diff_shows_lost_protections_in_text_and_json() {
    let directory = directory();
    let directory = directory.path();
    let deliver = ["--deliver", "files"];
    create(directory, &[&deliver[..], &NEVER_SECRET_ARGS].concat());
    git(directory, &["init", "-q"]);
    git(directory, &["add", "db.yaml"]);
    git(directory, &["commit", "-qm", "protected"]);
    let unbound_rule = crate::v2::RULES.to_owned() + "  bindTemplate: false\n";
    write_files(directory, &[(".seal.yaml", &unbound_rule)]);
    create(directory, &["-w", "own.yaml"]);
    write_files(directory, &[("db.yaml", &read(directory, "own.yaml"))]);
    assert_diff(
        directory,
        &[
            "~ a never-secret lost",
            "~ a template binding lost",
            "~ (the object) delivery changed from files to (none)",
        ],
        &[
            ("a", "never-secret lost"),
            ("a", "template binding lost"),
            ("", "delivery changed"),
        ],
    );

    // The value has another name.
    let args = ["create", "db", "-n", "shop", "--from-file", "b=value"];
    std::fs::remove_file(directory.join("db.yaml")).expect("the test owns the file");
    seal_ok(
        directory,
        &[&args[..], &deliver, &["-w", "db.yaml"]].concat(),
    );
    assert_diff(
        directory,
        &[
            "- a removed",
            "~ (the object) never-secret lost",
            "~ (the object) template binding lost",
        ],
        &[("", "never-secret lost"), ("", "template binding lost")],
    );
}

/// Commits `db.yaml`, whose value can never become a Secret and is bound to the template, and creates `own.yaml`, whose
/// value has neither protection.
fn commit_protected_and_create_own(directory: &Path) {
    create(directory, &NEVER_SECRET_ARGS);
    git(directory, &["init", "-q"]);
    git(directory, &["add", "db.yaml"]);
    git(directory, &["commit", "-qm", "protected"]);
    let unbound_rule = crate::v2::RULES.to_owned() + "  bindTemplate: false\n";
    write_files(directory, &[(".seal.yaml", &unbound_rule)]);
    create(directory, &["-w", "own.yaml"]);
}

/// Attack: a committer moves a file and replaces the values, so that a reviewer sees only a removed and an added
/// object.
#[test]
fn diff_shows_lost_protections_of_a_moved_object() {
    let directory = directory();
    let directory = directory.path();
    commit_protected_and_create_own(directory);
    let own = read(directory, "own.yaml");
    std::fs::remove_file(directory.join("own.yaml")).expect("the test owns the file");
    git(directory, &["mv", "db.yaml", "database.yaml"]);
    let moved = "database.yaml: shop/db\n  ~ (the object) moved from db.yaml\n";
    for args in [&["diff"][..], &["diff", "database.yaml"]] {
        let output = seal(directory, args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text, moved, "a pure move");
    }

    write_files(directory, &[("database.yaml", &own)]);
    git(directory, &["add", "-A", "--", "database.yaml"]);
    git(directory, &["commit", "-qm", "moved"]);
    for path in ["database.yaml", "db.yaml", "."] {
        let output = seal(directory, &["diff", "HEAD~1..HEAD", path]);
        for line in [
            moved,
            "~ a changed",
            "~ a never-secret lost",
            "~ a template binding lost",
        ] {
            assert_contains(&output, line, path);
        }
    }
    let output = seal(directory, &["diff", "HEAD~1..HEAD", "-o", "json"]);
    let report: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    let changed = &report["changed"];
    assert_eq!(changed[0]["file"], "database.yaml", "{report}");
    assert_eq!(changed[0]["changes"][0]["change"], "moved", "{report}");
    assert_eq!(changed[0]["changes"][0]["from"], "db.yaml", "{report}");
    assert_eq!(changed[1], Json::Null, "{report}");
}

/// Attack: a committer gives an item or an object with protected values another name.
#[test]
fn diff_shows_the_protections_of_renamed_items_and_objects() {
    let directory = directory();
    let directory = directory.path();
    commit_protected_and_create_own(directory);
    let args = ["create", "db", "-n", "shop", "--from-file", "b=value"];
    std::fs::remove_file(directory.join("db.yaml")).expect("the test owns the file");
    seal_ok(directory, &[&args[..], &["-w", "db.yaml"]].concat());
    std::fs::remove_file(directory.join("own.yaml")).expect("the test owns the file");
    let output = seal(directory, &["diff"]);
    let removed = "- a removed (never-secret, template-bound, post-quantum-only)\n";
    assert_contains(&output, removed, "item");
    assert_contains(&output, "+ b added (post-quantum-only)\n", "item");

    let args = ["create", "other", "-n", "shop", "--from-file", "b=value"];
    std::fs::remove_file(directory.join("db.yaml")).expect("the test owns the file");
    seal_ok(directory, &[&args[..], &["-w", "other.yaml"]].concat());
    let output = seal(directory, &["diff"]);
    let removed = "- (the object) removed (never-secret, template-bound, post-quantum-only)\n";
    assert_contains(&output, removed, "object");
    assert_contains(
        &output,
        "+ (the object) added (post-quantum-only)\n",
        "object",
    );
    let output = seal(directory, &["diff", "-o", "json"]);
    let report: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    let removed = &report["changed"][0]["changes"][0];
    let protections = &removed["values"][0]["protections"];
    assert_eq!(protections[0], "never-secret", "{report}");
    assert_eq!(removed["scope"], "strict", "{report}");
}

/// Attack: a committer puts a sealed value where `seal diff` does not compare values.
#[test]
fn diff_reports_sealed_values_outside_sealed_secrets() {
    let directory = directory();
    let directory = directory.path();
    let v1 = ["--sealed-format", "v1", "--cert", "cert.pem"];
    create(directory, &[&v1[..], &["-w", "db.yaml"]].concat());
    let text = read(directory, "db.yaml");
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with("a: "));
    let value = line
        .and_then(|line| line.split_once(": "))
        .expect("a value");
    let patch = format!(
        "[{{\"op\": \"replace\", \"path\": \"/spec/encryptedData/a\", \"value\": \"{}\"}}]\n",
        value.1
    );
    git(directory, &["init", "-q"]);
    git(directory, &["add", "db.yaml"]);
    git(directory, &["commit", "-qm", "one"]);
    for (file, content) in [
        ("values.yaml", format!("db: {{password: {}}}\n", value.1)),
        ("patch.json", patch),
        ("db.tpl", format!("{{{{ if .x }}}}\n{text}{{{{ end }}}}\n")),
    ] {
        write_files(directory, &[(file, &content)]);
        let output = seal(directory, &["diff", "--exit-code", file]);
        assert_code(&output, 1, file);
        let want = format!("{file}\n  ~ (the file) not compared: sealed values outside");
        assert_contains(&output, &want, file);
        let output = seal(directory, &["diff", "-o", "json", file]);
        let report: Json = serde_json::from_slice(&output.stdout).expect("JSON");
        let change = &report["changed"][0]["changes"][0];
        assert_eq!(change["change"], "not compared", "{report}");
    }
}

/// Attack: an author moves a file and replaces its values with values that may become a Secret, so that the next value
/// may too.
#[test]
fn refuses_new_values_of_a_moved_file_that_lost_the_flag() {
    let directory = directory();
    let directory = directory.path();
    commit_protected_and_create_own(directory);
    git(directory, &["mv", "-f", "db.yaml", "own.yaml"]);
    let moved = read(directory, "own.yaml");
    create(directory, &["-w", "unprotected.yaml"]);
    let args = ["set", "own.yaml", "a", "--from-file", "value"];
    seal_ok(directory, &args);
    assert_ne!(read(directory, "own.yaml"), moved);

    let args = ["set", "unprotected.yaml", "a", "--from-file", "value"];
    let why = "no longer are";
    assert_refused(directory, &args, "unprotected.yaml", why);
}

#[track_caller]
fn assert_diff(directory: &Path, lines: &[&str], changes: &[(&str, &str)]) {
    let output = seal(directory, &["diff", "db.yaml"]);
    for line in lines {
        assert_contains(&output, line, "text");
    }
    let output = seal(directory, &["diff", "-o", "json", "db.yaml"]);
    let report: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    let found = report["changed"][0]["changes"].as_array().expect("a list");
    for (item, name) in changes {
        let is_it = |change: &&Json| {
            change["item"].as_str().unwrap_or_default() == *item && change["change"] == *name
        };
        assert!(found.iter().any(|change| is_it(&change)), "{report}");
    }
}

#[test]
fn diff_shows_gained_protections() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &["-w", "db.yaml"]);
    git(directory, &["init", "-q"]);
    git(directory, &["add", "db.yaml"]);
    git(directory, &["commit", "-qm", "unprotected"]);
    std::fs::remove_file(directory.join("db.yaml")).expect("the test owns the file");
    create(directory, &NEVER_SECRET_ARGS);
    assert_diff(
        directory,
        &["~ a never-secret gained"],
        &[("a", "never-secret gained")],
    );
}

/// Attack: a committer replaces values that can never become a Secret with their own values that can, so that the next
/// value can too.
#[test]
fn a_rule_requires_values_that_never_become_a_secret() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &["-w", "own.yaml"]);
    let v1 = ["--sealed-format", "v1", "--cert", "cert.pem"];
    create(directory, &[&v1[..], &["-w", "v1.yaml"]].concat());
    let rules = crate::v2::RULES.to_owned() + "  neverSecret: true\n";
    write_files(directory, &[(".seal.yaml", &rules)]);
    for file in ["own.yaml", "v1.yaml"] {
        let lint = seal(directory, &["lint", file]);
        assert_code(&lint, 1, file);
        assert_contains(&lint, "a may become a Secret, although", file);
        assert_contains(&lint, "[may-become-secret]", file);
    }

    create(directory, &["-w", "db.yaml"]);
    assert_flags(directory, &[("a", true)]);
    assert_code(&seal(directory, &["lint", "db.yaml"]), 0, "lint");
    write_files(directory, &[("db.yaml", &read(directory, "own.yaml"))]);
    seal_ok(directory, &set("b"));
    assert_flags(directory, &[("a", false), ("b", true)]);

    let output = seal(
        directory,
        &[&CREATE_ARGS[..], &v1, &["-w", "new.yaml"]].concat(),
    );
    assert_code(&output, 2, "v1");
    assert_contains(&output, "which v1 cannot express", "v1");
    assert!(!directory.join("new.yaml").exists());
    let set_beside_v1 = ["set", "v1.yaml", "b", "--from-file", "value"];
    let output = assert_refused(directory, &set_beside_v1, "v1.yaml", "v1 cannot");
    assert_contains(&output, "into a new file", "the next step");
}

/// Attack: an author seals a value without the flag, and puts it where `seal lint` checks no SealedSecret: into values
/// of a chart, a template, another object or a patch.
#[test]
fn lint_reports_sealed_values_that_it_cannot_check_against_the_rule() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &["-w", "own.yaml"]);
    let v1 = ["--sealed-format", "v1", "--cert", "cert.pem"];
    create(directory, &[&v1[..], &["-w", "v1.yaml"]].concat());
    let rules = crate::v2::RULES.to_owned() + "  neverSecret: true\n";
    for file in ["own.yaml", "v1.yaml"] {
        let object = read(directory, file);
        let indented = object.replace('\n', "\n    ");
        let value = sealed_value(&object);
        for (case, text) in [
            (
                "a string",
                format!("kind: ConfigMap\ndata:\n  a: |\n    {indented}\n"),
            ),
            (
                "another object",
                format!("extraObjects:\n  -\n    {indented}\n"),
            ),
            (
                "a template",
                format!("{{{{ if .Values.a }}}}\n{object}{{{{ end }}}}\n"),
            ),
            (
                "a patch",
                format!(
                    "patches:\n- patch: '[{{\"op\": \"add\", \"path\": \"/spec/encryptedData/a\", \"value\": \"{value}\"}}]'\n"
                ),
            ),
            ("values of a chart", format!("password: {value}\n")),
        ] {
            write_files(directory, &[(".seal.yaml", &rules), ("other.yaml", &text)]);
            let case = format!("{file}, {case}");
            for args in [&["lint", "other.yaml"][..], &["lint"]] {
                let lint = seal(directory, args);
                assert_contains(&lint, "[not-checked]", &case);
                assert_contains(
                    &lint,
                    "so it may become a Secret, although rule 1 of",
                    &case,
                );
            }
            let exempt = format!("{rules}  ignore: {{not-checked: rendered in CI}}\n");
            write_files(directory, &[(".seal.yaml", &exempt)]);
            let lint = combined_output(&seal(directory, &["lint", "other.yaml"]));
            assert!(!lint.contains("[not-checked]"), "{case}: {lint}");
            write_files(directory, &[(".seal.yaml", crate::v2::RULES)]);
            let lint = combined_output(&seal(directory, &["lint", "other.yaml"]));
            assert!(!lint.contains("may become a Secret"), "{case}: {lint}");
        }
    }

    write_files(directory, &[(".seal.yaml", &rules)]);
    create(directory, &["-w", "db.yaml"]);
    let lint = combined_output(&seal(directory, &["lint", "db.yaml"]));
    assert!(!lint.contains("not-checked"), "{lint}");
}

/// Attack: an author seals a value without the flag, and puts it into a patch in a file that is not named like a
/// manifest.
#[test]
fn lint_reports_sealed_values_in_a_patch_that_is_not_named_like_a_manifest() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &["-w", "own.yaml"]);
    let object = read(directory, "own.yaml");
    let value = sealed_value(&object);
    let rules = crate::v2::RULES.to_owned() + "  neverSecret: true\n";
    let patch = format!("- {{op: add, path: /spec/encryptedData/a, value: {value}}}\n");
    let kustomization = "patches:\n- {path: p.txt, target: {kind: SealedSecret}}\n";
    let files = [
        (".seal.yaml", rules.as_str()),
        ("p.txt", &patch),
        ("kustomization.yaml", kustomization),
    ];
    write_files(directory, &files);
    let lint = combined_output(&seal(directory, &["lint", "kustomization.yaml"]));
    assert!(lint.contains("p.txt:1: note: "), "{lint}");
    assert!(lint.contains("[not-checked]"), "{lint}");
}

/// Returns the longest word of a manifest, which is a sealed value.
fn sealed_value(object: &str) -> &str {
    let words = object.split_whitespace();
    words.max_by_key(|word| word.len()).expect("a word")
}
